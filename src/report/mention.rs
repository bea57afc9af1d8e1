//! The grammar of levels: where a sentence names vertebrae, and which motion segments that names.
//!
//! A *chain* is a row of numbered vertebrae with nothing but separators between them ("C5-6, 6-7 and C7/T1", "L1 to L4"). It
//! is read left to right: two neighbours joined tightly are a segment, words such as "to" join what stands beside them to a range.

use super::level::{Levels, Vertebra};
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// A place where a text names vertebrae.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention {
    /// Bytes of the text.
    pub(super) range: Range<usize>,
    /// `None` for a vertebra or root by itself; empty for a pair that is no motion segment of interest (C1-C2).
    pub(super) levels: Option<Levels>,
}

/// Every mention in `text`, in order, without overlaps.
pub(super) fn mentions(text: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = next_start(text, at) {
        if let Some((range, levels)) = run_together(text, start) {
            at = range.end;
            found.push(Mention { range, levels: Some(levels) });
            continue;
        }
        match chain(text, start) {
            Some(items) => {
                at = items.last().map_or(start, |item| item.end).max(start + 1);
                let end = read(text, &items, &mut found);
                at = at.min(end).max(start + 1);
            }
            None => at = start + 1,
        }
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joint {
    /// The first of its chain.
    Start,
    Nothing,
    Space,
    Dash,
    Slash,
    /// A comma with no space after it.
    TightComma,
    Comma,
    And,
    To,
    On,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    joint: Joint,
    letter: Option<char>,
    number: u8,
    start: usize,
    end: usize,
}

/// The next place from `at` on where a vertebra's letter may stand.
fn next_start(text: &str, at: usize) -> Option<usize> {
    let rest = text.as_bytes().get(at..)?;
    let starts = rest.iter().enumerate().filter(|(_, byte)| letter(char::from(**byte)).is_some());
    starts.map(|(offset, byte)| (at + offset, byte)).find_map(|(start, byte)| {
        let before = text.get(..start)?.chars().next_back();
        // "notedL4-5": a capital right after a word's small letter begins a level as well
        let glued = byte.is_ascii_uppercase() && before.is_some_and(char::is_lowercase);
        (glued || !before.is_some_and(char::is_alphanumeric)).then_some(start)
    })
}

fn letter(c: char) -> Option<char> {
    matches!(c, 'C' | 'T' | 'D' | 'L' | 'S' | 'c' | 't' | 'd' | 'l' | 's').then(|| c.to_ascii_uppercase())
}

/// "L45", "L51", "C56": a pair with its separator left out.
fn run_together(text: &str, start: usize) -> Option<(Range<usize>, Levels)> {
    let rest = text.get(start..)?;
    let letter = letter(rest.chars().next()?).filter(|letter| matches!(letter, 'C' | 'L'))?;
    let digits = rest.get(1..3)?.as_bytes();
    let [first, second] = [digits.first()?, digits.get(1)?].map(|digit| digit.wrapping_sub(b'0'));
    let top = Vertebra::new(letter, first)?;
    let below = top.inherit(second)?;
    let whole = !rest.chars().nth(3).is_some_and(|c| c.is_alphanumeric() || c == '-' || c == '/');
    (whole && top.is_above(below)).then(|| (start..start + 3, Levels::between(top, below)))
}

fn chain(text: &str, start: usize) -> Option<Vec<Item>> {
    // Nobody names more at once. Without a bound, "L4,9,L4,9,…" would be read again from each of its items.
    const LONGEST: usize = 128;
    let mut items = vec![lettered(text, start, Joint::Start)?];
    while items.len() < LONGEST
        && let Some(item) = items.last().and_then(|last| next_item(text, last.end))
    {
        items.push(item);
    }
    Some(items)
}

/// A lettered vertebra at `start`: "L4", "L 4", "L-4", "LV4", "Th4", "L four", "lumbar 4".
fn lettered(text: &str, start: usize, joint: Joint) -> Option<Item> {
    let rest = text.get(start..)?;
    let first = rest.chars().next()?;
    let letter = letter(first)?;
    let word = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
    let name = rest.get(..word)?;
    let is_one_of = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    let after = match word {
        1 => word,
        2 if is_one_of(&["cv", "tv", "dv", "lv", "th"]) => word,
        6 | 8 if is_one_of(&["lumbar", "cervical", "thoracic", "dorsal"]) => {
            let (number, end) = number(text, start + word + 1)?;
            // "lumbar 4-5", but not "lumbar 4 mm" or "thoracic 12"
            let joined = matches!(rest.as_bytes().get(end - start), Some(b'-' | b'/'));
            return (joined && rest.as_bytes().get(word) == Some(&b' ')).then_some(Item {
                joint,
                letter: Some(letter),
                number,
                start,
                end,
            });
        }
        _ => return None,
    };
    let gap = rest.get(after..)?;
    let skipped = gap.len() - gap.trim_start_matches(|c: char| c == '-' || c == '.' || is_space(c)).len();
    if gap.get(..skipped)?.chars().count() > 2 {
        return None;
    }
    let at = start + after + skipped;
    let (number, end) = number(text, at).or_else(|| if skipped > 0 { number_word(text, at) } else { None })?;
    Some(Item { joint, letter: Some(letter), number, start, end })
}

fn is_space(c: char) -> bool {
    c == ' ' || c == '\u{a0}' || c == '\u{202f}' || c == '\t'
}

/// One or two digits that are a whole number and no measurement.
fn number(text: &str, at: usize) -> Option<(u8, usize)> {
    let rest = text.get(at..)?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u8 = rest.get(..digits)?.parse().ok()?;
    let after = rest.get(digits..)?;
    let mut next = after.chars();
    let (first, second) = (next.next(), next.next());
    if first == Some('.') && second.is_some_and(|c| c.is_ascii_digit()) || first == Some('%') {
        return None;
    }
    let glued = first.is_some_and(char::is_alphabetic);
    if glued && !first.and_then(letter).is_some_and(|_| second.is_some_and(|c| c.is_ascii_digit())) {
        let lower: String = after.chars().take(4).flat_map(char::to_lowercase).collect();
        if !["leve", "disc", "disk", "and", "is", "show"].iter().any(|word| lower.starts_with(word)) {
            return None;
        }
    }
    let unit: String = after.trim_start_matches(is_space).chars().take(3).flat_map(char::to_lowercase).collect();
    let measured = ["mm", "cm", "x "].iter().any(|word| unit.starts_with(word));
    ((1..=12).contains(&number) && !measured).then_some((number, at + digits))
}

fn number_word(text: &str, at: usize) -> Option<(u8, usize)> {
    const WORDS: [&str; 12] =
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    let rest = text.get(at..)?;
    let end = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
    let word = rest.get(..end)?.to_ascii_lowercase();
    WORDS.iter().zip(1..).find(|(name, _)| **name == word).map(|(_, number)| (number, at + end))
}

/// What follows an item at `from`: a separator and another vertebra, whose letter may be left out.
fn next_item(text: &str, from: usize) -> Option<Item> {
    let (joint, at) = joint(text, from)?;
    if let Some(item) = lettered(text, at, joint) {
        return Some(item);
    }
    if joint == Joint::Nothing {
        return None;
    }
    if matches!(joint, Joint::Dash | Joint::Slash)
        && let Some((letter, after)) = ["S", "T", "L"]
            .iter()
            .find_map(|letter| Some((letter, text.get(at..)?.strip_prefix(letter)?.strip_prefix('I')?)))
        && !after.starts_with(char::is_alphanumeric)
    {
        // "L5-SI", "C7-TI": a one typed or scanned as a capital letter
        return Some(Item { joint, letter: letter.chars().next(), number: 1, start: at, end: at + 2 });
    }
    let (number, end) = number(text, at).or_else(|| number_word(text, at))?;
    Some(Item { joint, letter: None, number, start: at, end })
}

/// The separator at `from` and where it ends.
fn joint(text: &str, from: usize) -> Option<(Joint, usize)> {
    const DASHES: &[char] =
        &['-', '\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2014}', '\u{2212}', '_', '~', '\u{ad}'];
    let mut joint = Joint::Nothing;
    let mut rest = text.get(from..)?;
    loop {
        let before = rest.len();
        let trimmed = rest.trim_start_matches(char::is_whitespace);
        if trimmed.len() < rest.len() && joint == Joint::Nothing {
            joint = Joint::Space;
        }
        let spaced = trimmed.len() < rest.len();
        rest = trimmed;
        let first = rest.chars().next()?;
        if let Some(after) = rest.strip_prefix("->").or_else(|| rest.strip_prefix('\u{2192}')) {
            (joint, rest) = (Joint::To, after);
        } else if DASHES.contains(&first) {
            rest = rest.trim_start_matches(DASHES);
            if matches!(joint, Joint::Nothing | Joint::Space) {
                joint = Joint::Dash;
            }
        } else if first == '/' || first == '\\' {
            rest = rest.trim_start_matches(['/', '\\']);
            if matches!(joint, Joint::Nothing | Joint::Space) {
                joint = Joint::Slash;
            }
        } else if first == ',' {
            rest = rest.trim_start_matches(',');
            let tight = !spaced && !rest.starts_with(char::is_whitespace);
            joint = if tight { Joint::TightComma } else { Joint::Comma };
        } else if first == ';' && rest.trim_start_matches(';').trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            // "L3-4; 4-5; 5-1"
            (joint, rest) = (Joint::Comma, rest.trim_start_matches(';'));
        } else if first == '&' || first == '+' {
            rest = rest.trim_start_matches(['&', '+']);
            joint = Joint::And;
        } else if first.is_ascii_alphabetic() {
            let end = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (word, after) = rest.split_at(end);
            match word.to_ascii_lowercase().as_str() {
                "and" | "or" | "plus" => joint = Joint::And,
                "to" | "through" | "thru" | "till" | "until" | "throu" | "throught" => joint = Joint::To,
                "on" | "over" | "upon" | "against" | "onto" => joint = Joint::On,
                "relative" if after.trim_start().starts_with("to ") => {
                    (joint, rest) = (Joint::On, after.trim_start().get(3..)?);
                    continue;
                }
                "level" | "levels" | "disc" | "discs" | "disk" | "disks" => {
                    // passed over between elements of a list: "L3-4 level and L4-5 level"
                    let follows = after.trim_start_matches(is_space);
                    if joint != Joint::Space && joint != Joint::Nothing || !continues(follows) {
                        return Some((joint, from + (text.len() - from - rest.len())));
                    }
                }
                "down" | "up" if after.trim_start_matches(is_space).to_ascii_lowercase().starts_with("to ") => {}
                "the" if matches!(joint, Joint::To | Joint::On | Joint::And) => {}
                "including" if joint == Joint::And => joint = Joint::To,
                _ => return Some((joint, text.len() - rest.len())),
            }
            rest = after;
        } else {
            return Some((joint, text.len() - rest.len()));
        }
        if rest.len() == before {
            return None;
        }
    }
}

fn continues(text: &str) -> bool {
    let lower: String = text.chars().take(8).flat_map(char::to_lowercase).collect();
    text.starts_with([',', '&'])
        || ["and ", "to ", "through ", "thru ", "down to "].iter().any(|word| lower.starts_with(word))
}

/// An element of a chain: a pair or range of vertebrae, or one alone.
struct Element {
    top: Vertebra,
    bottom: Vertebra,
    /// Whether it is tightly joined; a vertebra alone is not.
    pair: bool,
    next: usize,
}

/// Reads a chain's items into mentions; returns where reading may go on.
fn read(text: &str, items: &[Item], found: &mut Vec<Mention>) -> usize {
    let mut index = 0;
    let mut last: Option<Vertebra> = None;
    let mut end = items.first().map_or(0, |item| item.end);
    while let Some(item) = items.get(index) {
        let Some(mut element) = element(text, items, index, last) else {
            if item.letter.is_none() {
                return item.start.max(end);
            }
            index += 1;
            continue;
        };
        // a range: "C3-4 through C5-6", "L1 to L4", "L1/2-L4/5"
        while let Some(next) = items.get(element.next) {
            let dashed = next.joint == Joint::Dash && element.pair;
            if next.joint != Joint::To && !dashed {
                break;
            }
            let Some(further) = self::element(text, items, element.next, Some(element.bottom)) else { break };
            if dashed && !further.pair {
                break;
            }
            element.top = element.top.min(further.top);
            element.bottom = element.bottom.max(further.bottom);
            element.pair = true;
            element.next = further.next;
        }
        let (Some(first), Some(final_)) = (items.get(index), items.get(element.next.saturating_sub(1))) else { break };
        let between = is_between(text, first.start);
        if let (true, Some(next)) = (between, items.get(element.next))
            && next.joint == Joint::And
            && let Some(further) = self::element(text, items, element.next, Some(element.bottom))
        {
            found.push(Mention {
                range: first.start..items.get(further.next - 1).map_or(next.end, |item| item.end),
                levels: Some(Levels::between(element.top, further.bottom)),
            });
            last = Some(further.bottom);
            end = items.get(further.next - 1).map_or(next.end, |item| item.end);
            index = further.next;
            continue;
        }
        let mut range = first.start..final_.end;
        let mut levels = element.pair.then(|| Levels::between(element.top, element.bottom));
        if let Some(named) = levels
            && let Some((extended, end)) = extension(text, range.end, named)
        {
            levels = Some(extended);
            range.end = end;
        }
        if first.letter.is_some() || element.pair {
            end = range.end;
            found.push(Mention { range, levels });
        } else {
            return first.start;
        }
        last = Some(element.bottom);
        index = element.next;
    }
    end
}

/// "L3-4 and above", "L2-L3 down": the rest of the region in that direction.
fn extension(text: &str, at: usize, named: Levels) -> Option<(Levels, usize)> {
    static DIRECTION: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)^\s+(?:levels?\s+)?(?:(?:and|&)\s+(?:all\s+)?(?:levels\s+)?(above|below)|(upwards?)|(down(?:wards?)?))(\s+\w+|\W|$)")
            .expect("a fixed pattern")
    });
    let rest = text.get(at..)?;
    let near = rest.char_indices().nth(60).map_or(rest, |(end, _)| rest.get(..end).unwrap_or(rest));
    let found = DIRECTION.captures(near)?;
    let next = found.get(4).map_or("", |word| word.as_str()).trim().to_ascii_lowercase();
    if matches!(next.as_str(), "the" | "a" | "an" | "this" | "to" | "it" | "l" | "behind" | "into") {
        return None;
    }
    let word = found.get(1).or(found.get(2)).or(found.get(3))?;
    let up = word.as_str().to_ascii_lowercase().starts_with(['a', 'u']);
    Some((named.extended(up), at + word.end()))
}

fn is_between(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default().trim_end();
    let before = before.strip_suffix(" the").unwrap_or(before);
    let start = before.char_indices().rev().nth(6).map_or(0, |(i, _)| i);
    before.get(start..).is_some_and(|word| word.eq_ignore_ascii_case("between"))
}

/// The vertebra that item `index` stands for, after `last`.
fn vertebra(items: &[Item], index: usize, last: Option<Vertebra>) -> Option<Vertebra> {
    let item = items.get(index)?;
    match item.letter {
        Some(letter) => Vertebra::new(letter, item.number),
        None => last?.inherit(item.number),
    }
}

fn element(text: &str, items: &[Item], index: usize, last: Option<Vertebra>) -> Option<Element> {
    let item = *items.get(index)?;
    let mut top = match (item.letter, last) {
        // "C7-T1, 6-7", "L5-S1, 4-5": a bare number goes on with the letter that makes a pair of it
        (None, Some(last)) if last.letter() == 'S' => Vertebra::new('L', item.number)?,
        _ => vertebra(items, index, last)?,
    };
    let lettered = item.letter.is_some();
    let mut bottom = top;
    let mut next = index + 1;
    let mut pair = false;
    while let Some(item) = items.get(next) {
        let follows = match item.joint {
            Joint::Dash | Joint::Slash | Joint::Space | Joint::Nothing | Joint::TightComma => true,
            Joint::On => !pair,
            _ => false,
        };
        let Some(below) = vertebra(items, next, Some(bottom)).filter(|_| follows) else { break };
        let adjacent = bottom.is_above(below);
        let joined = match item.joint {
            Joint::Dash | Joint::Slash if pair => adjacent && !starts_pair(items, next, below),
            // a range with both letters or within one region; reversed pairs as well ("S1-L5")
            Joint::Dash => below != bottom && (item.letter.is_some() || adjacent || (lettered && bottom < below)),
            Joint::Slash => adjacent || (item.letter.is_some() && below != bottom),
            Joint::Space if item.letter.is_some() => adjacent && !pair,
            Joint::Space => adjacent && !pair && matches!(top.letter(), 'C' | 'L'),
            Joint::Nothing => adjacent && !pair,
            Joint::TightComma => adjacent && !pair && item.letter.is_none(),
            Joint::On => adjacent,
            _ => false,
        };
        if !joined || (!pair && is_sequence(text, top, below, item)) {
            break;
        }
        (top, bottom) = (top.min(below), bottom.max(below));
        pair = true;
        next += 1;
    }
    Some(Element { top, bottom, pair, next })
}

/// Whether item `index` begins a pair of its own, so that the dash or slash before it separates two pairs.
fn starts_pair(items: &[Item], index: usize, vertebra_here: Vertebra) -> bool {
    items.get(index + 1).is_some_and(|next| {
        matches!(next.joint, Joint::Dash | Joint::Slash | Joint::Nothing)
            && items.get(index).is_some_and(|here| here.joint != next.joint)
            && vertebra(items, index + 1, Some(vertebra_here)).is_some_and(|below| vertebra_here.is_above(below))
    })
}

/// Whether "T1/T2" is a pair of MRI sequences rather than of vertebrae.
fn is_sequence(text: &str, top: Vertebra, below: Vertebra, item: &Item) -> bool {
    if (top, below) != (Vertebra::T1, Vertebra::T2) {
        return false;
    }
    const IMAGING: [&str; 16] = [
        "w", "hyper", "hypo", "iso", "signal", "image", "seq", "se ", "tse", "fse", "fat", "stir", "flair", "bright",
        "sag", "ax",
    ];
    let after = text.get(item.end..).unwrap_or_default().trim_start_matches([' ', '-', ',', '/']);
    let lower: String = after.chars().take(8).flat_map(char::to_lowercase).collect();
    if IMAGING.iter().any(|word| lower.starts_with(word)) {
        return true;
    }
    let named = lower.starts_with("level")
        || lower.starts_with("dis")
        || text.get(item.end..).is_some_and(|rest| rest.starts_with(':'));
    item.joint != Joint::Dash && item.letter.is_some() && !named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let named: Vec<String> = mentions(text)
            .iter()
            .filter_map(|mention| mention.levels)
            .map(|levels| levels.iter().map(|level| level.to_string()).collect::<Vec<_>>().join(" "))
            .collect();
        named.join(" | ")
    }

    #[test]
    fn spellings_of_one_segment() {
        for text in [
            "L4-5",
            "L4/5",
            "L4/L5",
            "L4-L5",
            "L4 L5 disc",
            "L4 on L5",
            "L4 over L5",
            "L4\u{2013}5",
            "L4\u{2011}L5",
            "L4 \u{2014} L5",
            "L 4-5",
            "L4 - L5",
            "l4-l5",
            "l4/5",
            "L4--5",
            "L4-l5",
            "L4\u{a0}-\u{a0}5",
            "L-4/5",
            "L4_L5",
            "L4L5",
            "L45",
            "LV4-5",
            "lumbar 4-5",
            "L four five",
            "L4 5 level",
            "atL4/L5 level",
            "L4-5level",
            "between L4 and L5",
            "L4-\nL5",
            "L4,5",
            "L4 upon L5",
            "L5-L4",
            "L4\\5",
            "L4 relative to L5",
            "(L4-5)",
            "?L4-5",
            "L4-5.",
            "L.4-5",
            "L4 / 5",
            "L4 -5",
            "L4- L5",
        ] {
            assert_eq!(read(text), "L4-L5", "{text}");
        }
        for (text, expected) in [
            ("D12-L1", "T12-L1"),
            ("D12/1", "T12-L1"),
            ("T12-1", "T12-L1"),
            ("C7/T1", "C7-T1"),
            ("C7-D1", "C7-T1"),
            ("L5S1", "L5-S1"),
            ("L5-1", "L5-S1"),
            ("L5 S1", "L5-S1"),
            ("L51", "L5-S1"),
            ("D8/9", "T8-T9"),
            ("T1/2:", "T1-T2"),
            ("T1-T2 disc", "T1-T2"),
            ("L5-L6", "L5-L6"),
            ("L6-S1", "L6-S1"),
            ("L6/S1 and L5/6", "L6-S1 | L5-L6"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn lists_and_ranges() {
        for (text, expected) in [
            ("L3-4, 4-5 and 5-1", "L3-L4 | L4-L5 | L5-S1"),
            ("L4-5/5-1", "L4-L5 | L5-S1"),
            ("L4/L5&L5/S1", "L4-L5 | L5-S1"),
            ("L2/3/4", "L2-L3 L3-L4"),
            ("C5-6-7", "C5-C6 C6-C7"),
            ("L3,4 and L4,5", "L3-L4 | L4-L5"),
            ("L4 through S1", "L4-L5 L5-S1"),
            ("L4-S1", "L4-L5 L5-S1"),
            ("C3-4 through C5-6", "C3-C4 C4-C5 C5-C6"),
            ("from L2 to L5", "L2-L3 L3-L4 L4-L5"),
            ("L1 to L4", "L1-L2 L2-L3 L3-L4"),
            ("L1/2-L3/4", "L1-L2 L2-L3 L3-L4"),
            ("C3-4 down to C6-7", "C3-C4 C4-C5 C5-C6 C6-C7"),
            ("L2-L3 down to and including L4-L5", "L2-L3 L3-L4 L4-L5"),
            ("C3-6", "C3-C4 C4-C5 C5-C6"),
            ("L3-4 and above", "L1-L2 L2-L3 L3-L4"),
            ("L4-5 and below", "L4-L5 L5-S1"),
            ("C5-6 level and 6-7 level", "C5-C6 | C6-C7"),
            ("T11-12, 12-1, L1-2", "T11-T12 | T12-L1 | L1-L2"),
            ("T11-L2", "T11-T12 T12-L1 L1-L2"),
            ("L4-5 (right) and L5-S1", "L4-L5 | L5-S1"),
            ("L3-4 -> L5-S1", "L3-L4 L4-L5 L5-S1"),
            ("L3-4 & 4-5", "L3-L4 | L4-L5"),
            ("L3-4 thru 5-1", "L3-L4 L4-L5 L5-S1"),
            ("L3/4 to 5/1", "L3-L4 L4-L5 L5-S1"),
            ("L3-L4 + L4-L5", "L3-L4 | L4-L5"),
            ("C4-5,C5-6,C6-7", "C4-C5 | C5-C6 | C6-C7"),
            ("L4 to the sacrum", ""),
            ("L3-4; 4-5; 5-1", "L3-L4 | L4-L5 | L5-S1"),
            ("L5-SI", "L5-S1"),
            ("C7-TI and T12/LI", "C7-T1 | T12-L1"),
            ("L3-L4-L5", "L3-L4 L4-L5"),
            ("L3/L4/L5/S1", "L3-L4 L4-L5 L5-S1"),
            ("L4-L5-S1", "L4-L5 L5-S1"),
            ("C4/5, 5/6, 6/7", "C4-C5 | C5-C6 | C6-C7"),
            ("L3-4, L4-5, and L5-S1 levels", "L3-L4 | L4-L5 | L5-S1"),
            ("between C3 and C6", "C3-C4 C4-C5 C5-C6"),
            ("the discs between T1-2 and T4-5", "T1-T2 T2-T3 T3-T4 T4-T5"),
            ("C7/Th1, Th12/L1", "C7-T1 | T12-L1"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_names_no_segment() {
        for text in [
            "haemangioma of L4",
            "the left L5 root",
            "L4 and L5 vertebral bodies",
            "C1-C2",
            "C1/2",
            "S1-S2",
            "S1/2",
            "T1/T2 weighted",
            "T1, T2 and STIR",
            "T1/T2",
            "T2 hyperintense",
            "4.5 mm",
            "4-5 mm",
            "grade 1-2",
            "12/10/2020",
            "L4, L5 and S1 roots",
            "2-3 mm",
            "T2 3 mm thick",
            "L2 5 mm lesion",
            "L4 6.5 mm",
            "MRI 1.5 T",
            "T1/T2-weighted images",
            "size 4 x 5 cm",
            "C 12",
            "S5-S6",
            "Modic 1/2",
            "L5 (2-3 mm)",
            "L4, 5 mm",
            "at S1 and 2 cysts",
            "C5 6 mm syrinx",
            "T4 N2",
            "C1 to C2",
        ] {
            assert_eq!(read(text), "", "{text}");
        }
    }
}
