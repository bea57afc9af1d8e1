//! Clauses: a sentence that goes through several levels gives each of them its own part.

use super::evidence::{Name, Piece, is_list_gap, named};
use super::level::Levels;
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// What a clause must speak of to be understood without the rest of its sentence.
static FINDING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)dis[ck]|bulg|protru|prolaps|herni|extru|sequest|hnp|stenos|narrow|patent|foram|\bnf|canal|recess|\blr\b|\bsac\b|theca|cord|root|osteophyt|\bdoc\b|normal|unremark|negative|\bneg\b|\bok\b|intact|preserved|fus(?:ed|ion)|listhesis",
    )
    .expect("a fixed pattern")
});
/// Words that speak of several of the sentence's levels at once.
static SHARED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:both|each|all|these|those|former|latter|respective\w*|same|two|three|first|second|upper|lower|either|neither|others?)\b")
        .expect("a fixed pattern")
});
static BEFORE_LEVEL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)[,;]\s*(?:and\s+|but\s+)?(?:at|in)\s+(?:the\s+)?$").expect("a fixed pattern"));
static AFTER_LEVEL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^\s*(?:levels?\b)?\s*,?\s*(?:there(?:'s| is| are)?|theres)\b").expect("a fixed pattern")
});
static CONTRAST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)(?:,\s*)?\b(?:while|whereas|whilst)\b|;").expect("a fixed pattern"));

/// Adds a sentence's clauses, each with the levels that it is for; the sentence whole where its clauses lean on each other.
pub(super) fn split(text: &str, piece: &Piece, out: &mut Vec<(Levels, Piece)>) {
    let all = named(&piece.names);
    let clauses = if all.len() > 1 { clauses(text, piece) } else { Vec::new() };
    if clauses.len() < 2 {
        out.push((all, piece.clone()));
        return;
    }
    // under a heading that names the structure ("Foramina: L4-5 mild, L5-S1 severe") a clause need not name it again
    let sentence = text.get(piece.range.clone()).unwrap_or_default();
    let headed = !piece.leads.is_empty() && !FINDING.is_match(sentence);
    let alone = |clause: &Clause| headed || FINDING.is_match(text.get(clause.range.clone()).unwrap_or_default());
    let leaning =
        clauses.iter().filter(|clause| !alone(clause)).fold(Levels::NONE, |set, clause| set.union(clause.levels));
    let whole = if SHARED.is_match(sentence) { all } else { leaning };
    if !whole.is_empty() {
        out.push((whole, piece.clone()));
    }
    for clause in clauses {
        let levels = clause.levels.without(whole);
        if !levels.is_empty() {
            out.push((levels, Piece { range: clause.range, names: clause.names.into(), ..piece.clone() }));
        }
    }
}

struct Clause {
    range: Range<usize>,
    levels: Levels,
    names: Vec<Name>,
}

/// The sentence cut where its levels change; one that names no level goes with the one before it.
fn clauses(text: &str, piece: &Piece) -> Vec<Clause> {
    let mut cuts: Vec<usize> = Vec::new();
    let body = text.get(piece.range.clone()).unwrap_or_default();
    if !(body.contains('(') && body.contains(';')) {
        cuts.extend(CONTRAST.find_iter(body).map(|found| piece.range.start + found.end()));
    }
    cuts.extend(listed(text, piece).unwrap_or_default());
    cuts.extend(opened(text, piece));
    cuts.sort_unstable();
    cuts.dedup();
    cuts.push(piece.range.end);
    let mut out: Vec<Clause> = Vec::new();
    let mut start = piece.range.start;
    let mut names = piece.names.iter().peekable();
    for end in cuts {
        let mut inside: Vec<Name> = Vec::new();
        while let Some(name) = names.next_if(|name| name.range.start < end) {
            inside.push(name.clone());
        }
        let levels = named(&inside);
        match out.last_mut() {
            Some(last) if levels.is_empty() || levels == last.levels => {
                last.range.end = end;
                last.names.append(&mut inside);
            }
            None if levels.is_empty() => continue,
            _ => out.push(Clause { range: start..end, levels, names: inside }),
        }
        start = end;
    }
    for clause in &mut out {
        let body = text.get(clause.range.clone()).unwrap_or_default();
        let kept = body.trim_end().trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|' | '/'));
        let kept = ["while", "whereas", "whilst", "and"]
            .iter()
            .fold(kept, |kept, word| kept.strip_suffix(word).unwrap_or(kept));
        clause.range.end = clause.range.start + kept.trim_end_matches(|c: char| c.is_whitespace() || c == ',').len();
        clause.range.start += body.len() - body.trim_start().len();
    }
    out.retain(|clause| clause.range.start < clause.range.end);
    out
}

/// Cuts before a level that a clause of its own begins with (", at L4-5 there is").
fn opened<'a>(text: &'a str, piece: &'a Piece) -> impl Iterator<Item = usize> + 'a {
    piece.names.iter().filter(|name| name.levels.is_some()).filter_map(|name| {
        let before = text.get(piece.range.start..name.range.start)?;
        let comma = BEFORE_LEVEL.find(before)?.start() + 1;
        let after = text.get(name.range.end..piece.range.end)?;
        AFTER_LEVEL.is_match(after).then_some(piece.range.start + comma)
    })
}

/// The cuts of a list that goes level by level ("L3-4 bulge, L4-5 protrusion"): every level but the first follows a comma, a
/// slash or "and".
fn listed(text: &str, piece: &Piece) -> Option<Vec<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for name in piece.names.iter().filter(|name| name.levels.is_some()) {
        match groups.last_mut() {
            Some(last) if is_list_gap(text.get(last.end..name.range.start)?) => last.end = name.range.end,
            _ => groups.push(name.range.clone()),
        }
    }
    let (first, rest) = groups.split_first()?;
    let opening = text.get(piece.range.start..first.start)?.trim().to_ascii_lowercase();
    if !matches!(opening.as_str(), "" | "at" | "the" | "at the" | "both") {
        return None;
    }
    let mut cuts = Vec::new();
    let mut end = first.end;
    for group in rest {
        let gap = text.get(end..group.start)?;
        let before = gap.trim_end().trim_end_matches("the").trim_end().trim_end_matches("at").trim_end();
        let joined = before.trim_end_matches("and").trim_end();
        let and = joined.len() < before.len() && joined.ends_with(',');
        if !and && !before.ends_with([',', ';', '/', '|', '.', ']', '+']) {
            return None;
        }
        if !gap.trim_end_matches("and").contains(char::is_alphabetic) {
            return None;
        }
        cuts.push(end + before.len());
        end = group.end;
    }
    Some(cuts)
}
