//! A segment's evidence written down for the model.

use super::evidence::{Piece, is_list_gap};
use super::level::Level;
use super::section::unspaced;
use super::{CARRIED, OTHER, TARGET};
use regex::Regex;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

/// Sides as abbreviated, and what they are written out as.
const SIDES: [(&str, &str); 14] = [
    // the abbreviation's full stop, where the sentence goes on
    (r"\b([Ll]t|LT|[Rr]t|RT|[Bb]ilat|[Bb]il)\.(\s+[a-z])", "$1$2"),
    // as speech recognition writes it
    (r"(?i)\b(?:write|rite|rigth|rihgt)\b", "right"),
    (r"(?i)\b(?:lefft|letf|leftt)\b", "left"),
    (r"(?i)\bb\s?/\s?l\b|\bbilat\b|\bbil\b|\bBL\b", "bilateral"),
    (r"(?i)\b(?:l|lt)\b\.?\s?>\s?(?:r|rt)\b", "left > right"),
    (r"(?i)\b(?:r|rt)\b\.?\s?>\s?(?:l|lt)\b", "right > left"),
    (r"(?i)\brt\b(?:[ -]sided)?", "right"),
    (r"(?i)\blt\b(?:[ -]sided)?", "left"),
    (r"(?i)\bright[ -]sided\b", "right"),
    (r"(?i)\bleft[ -]sided\b", "left"),
    (r"\bR\b(?:[ -]sided)?", "right"),
    (r"\bL\b(?:[ -]sided)?", "left"),
    (r"\[ \]\s*[A-Za-z]+", ""),
    (r"\[[xX]\]", ""),
];
static EACH_SIDE: LazyLock<Vec<Regex>> =
    LazyLock::new(|| SIDES.iter().map(|(pattern, _)| Regex::new(pattern).expect("a fixed pattern")).collect());
/// Any of them: most texts have none, and one search says so.
static ANY_SIDE: LazyLock<Regex> = LazyLock::new(|| {
    let all: Vec<String> = SIDES.iter().map(|(pattern, _)| format!("(?:{pattern})")).collect();
    Regex::new(&all.join("|")).expect("fixed patterns")
});
/// Words whose order in a list of levels carries meaning.
static ORDERED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)respective|former|latter|\bupper\b|\blower\b|\bfirst\b|\bsecond\b|\bone\b")
        .expect("a fixed pattern")
});

/// The text that the model reads about `level`.
pub(super) fn render<'a>(text: &str, level: Level, pieces: impl IntoIterator<Item = &'a Piece>) -> String {
    let mut out = String::with_capacity(512);
    let mut leads: &[Range<usize>] = &[];
    for piece in pieces {
        if leads != &*piece.leads {
            for lead in piece.leads.iter() {
                let heading = unspaced(text.get(lead.clone()).unwrap_or_default());
                push(
                    &mut out,
                    sides(&heading).trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '.' | '-')),
                );
                out.push(':');
            }
        }
        leads = &piece.leads;
        if piece.level.is_some() {
            push(&mut out, TARGET);
        }
        if piece.carried {
            push(&mut out, CARRIED);
        }
        push(&mut out, &sentence(text, level, piece));
    }
    out
}

/// Appends a text with its white space tidied.
fn push(out: &mut String, text: &str) {
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
}

fn sentence(text: &str, level: Level, piece: &Piece) -> String {
    let body = text.get(piece.range.clone()).unwrap_or_default();
    let collapse = !ORDERED.is_match(body);
    let mut out = String::with_capacity(2 * body.len());
    let mut at = piece.range.start;
    let mut last = "";
    for name in piece.names.iter() {
        let gap = text.get(at..name.range.start).unwrap_or_default();
        let word = match name.levels {
            Some(levels) if levels.contains(level) => TARGET,
            Some(_) => OTHER,
            None if is_signal(text, name.range.clone()) => text.get(name.range.clone()).unwrap_or_default(),
            None => "level",
        };
        at = name.range.end;
        if collapse && word == last && is_list_gap(gap) && word != "level" {
            continue;
        }
        out.push_str(&sides(gap));
        out.push_str(word);
        last = word;
    }
    out.push_str(&sides(text.get(at..piece.range.end).unwrap_or_default()));
    out
}

fn sides(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    if !ANY_SIDE.is_match(&text) {
        return text;
    }
    for (pattern, (_, side)) in EACH_SIDE.iter().zip(SIDES) {
        if let Cow::Owned(written) = pattern.replace_all(&text, side) {
            text = Cow::Owned(written);
        }
    }
    text
}

/// Whether "T1" or "T2" is an MRI weighting rather than a vertebra.
fn is_signal(text: &str, range: Range<usize>) -> bool {
    let name = text.get(range.clone()).unwrap_or_default();
    if !name.eq_ignore_ascii_case("T1") && !name.eq_ignore_ascii_case("T2") {
        return false;
    }
    let after = text.get(range.end..).unwrap_or_default().trim_start();
    let word = after.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default().to_lowercase();
    !matches!(word.as_str(), "root" | "roots" | "nerve" | "nerves" | "body" | "vertebra" | "vertebral" | "level" | "on")
}
