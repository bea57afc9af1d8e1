//! A segment's evidence written down for the model.

use super::evidence::{Piece, is_list_gap};
use super::level::Level;
use super::section::unspaced;
use super::{CARRIED, OTHER, TARGET};
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// Sides as abbreviated, and what they are written out as.
static SIDES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
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
    ]
    .map(|(pattern, side)| (Regex::new(pattern).expect("a fixed pattern"), side))
    .into()
});
/// Words whose order in a list of levels carries meaning.
static ORDERED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)respective|former|latter|\bupper\b|\blower\b|\bfirst\b|\bsecond\b|\bone\b")
        .expect("a fixed pattern")
});

/// The text that the model reads about `level`.
pub(super) fn render<'a>(text: &str, level: Level, pieces: impl IntoIterator<Item = &'a Piece>) -> String {
    let mut out = String::new();
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
    let mut out = String::new();
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

fn sides(text: &str) -> String {
    let mut text = std::borrow::Cow::Borrowed(text);
    for (pattern, side) in SIDES.iter() {
        if let std::borrow::Cow::Owned(written) = pattern.replace_all(&text, *side) {
            text = std::borrow::Cow::Owned(written);
        }
    }
    text.into_owned()
}

/// Whether "T1" or "T2" is an MRI weighting rather than a vertebra.
fn is_signal(text: &str, range: Range<usize>) -> bool {
    let name = text.get(range.clone()).unwrap_or_default();
    let after = text.get(range.end..).unwrap_or_default().trim_start();
    let word = after.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default().to_lowercase();
    (name.eq_ignore_ascii_case("T1") || name.eq_ignore_ascii_case("T2"))
        && !matches!(
            word.as_str(),
            "root" | "roots" | "nerve" | "nerves" | "body" | "vertebra" | "vertebral" | "level" | "on"
        )
}
