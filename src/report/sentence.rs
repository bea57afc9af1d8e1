//! Sentences of a line, as radiologists type and dictate them.

use super::section::bullet;
use std::ops::Range;

/// Words whose full stop ends no sentence.
const ABBREVIATIONS: [&str; 33] = [
    "approx", "vs", "dr", "e.g", "i.e", "eg", "ie", "ca", "cf", "etc", "lt", "rt", "bilat", "mod", "sev", "min",
    "mild.", "sig", "ant", "post", "lat", "sup", "inf", "no", "fig", "wt", "max", "resp", "incl", "circumf", "diff",
    "neg", "para",
];

/// The sentences of `text[line]` as byte ranges of `text`, list markers and the white space around them off.
pub(super) fn sentences(text: &str, line: Range<usize>) -> Vec<Range<usize>> {
    let Some(body) = text.get(line.clone()) else { return Vec::new() };
    let mut out = Vec::new();
    let mut start = 0;
    let mut chars = body.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        let next = chars.peek().map(|(_, c)| *c);
        let stops = match c {
            '.' => {
                let gap = next.is_none_or(|next| next.is_whitespace() || matches!(next, '.' | '-' | ',' | ')'));
                let glued = before.is_lowercase() && next.is_some_and(char::is_uppercase);
                let numbered = before.is_ascii_digit() && next.is_some_and(|c| c.is_ascii_alphabetic());
                (gap || glued || numbered)
                    && !is_abbreviation(
                        body.get(start..at).unwrap_or_default(),
                        next.is_some_and(char::is_whitespace),
                        body.get(end..).unwrap_or_default(),
                    )
            }
            '!' | '?' => next.is_none_or(char::is_whitespace),
            '/' => next == Some('/'),
            _ => false,
        };
        if stops {
            push(text, line.start + start..line.start + end, &mut out);
            start = end;
        }
        before = c;
    }
    push(text, line.start + start..line.end, &mut out);
    out
}

fn is_abbreviation(before: &str, spaced: bool, after: &str) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(' || c == ',').next().unwrap_or_default();
    let lower = word.to_lowercase();
    let goes_on = after.trim_start().chars().next().is_some_and(|c| c.is_lowercase() || c.is_ascii_digit());
    spaced && goes_on && ABBREVIATIONS.contains(&lower.as_str())
}

fn push(text: &str, range: Range<usize>, out: &mut Vec<Range<usize>>) {
    let Some(body) = text.get(range.clone()) else { return };
    let start = range.start + bullet(body);
    let end = range.start + body.trim_end_matches(|c: char| c.is_whitespace() || c == '/').len();
    if start < end && text.get(start..end).is_some_and(|body| body.chars().any(char::is_alphanumeric)) {
        out.push(start..end);
    }
}
