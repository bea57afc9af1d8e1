//! How a finished report is typed: case, abbreviations, spelling, slips of the finger. None of it changes what is said: level names, negations,
//! sides and the words that sections and groups are read by keep their letters.

use super::grammar::{Typing, chance};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// One writer's habits.
#[derive(Debug)]
pub(super) struct Habits<'a> {
    replacements: Vec<(&'a str, &'a str)>,
    case: Case,
    slips: f64,
    careless: f64,
    /// "level , compressing"
    spaced: bool,
    /// What stands before each line.
    bullet: &'static str,
    /// Column at which lines are broken.
    width: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    AsWritten,
    Lower,
    Upper,
}

impl<'a> Habits<'a> {
    /// Draws a writer; a hurried one shortens, drops full stops and slips more. Only running text is broken into lines.
    pub(super) fn draw(typing: &'a Typing, hurried: bool, running: bool, rng: &mut ChaCha8Rng) -> Self {
        let mut replacements = Vec::new();
        for [from, to] in &typing.spelling {
            if chance(rng, 0.12) {
                replacements.push((from.as_str(), to.as_str()));
            }
        }
        let shortens = chance(rng, if hurried { 0.75 } else { 0.12 });
        let often = rng.random_range(0.15..0.6);
        for [from, to] in &typing.short {
            if shortens && chance(rng, often) {
                replacements.push((from.as_str(), to.as_str()));
            }
        }
        // The longer wording first, so that a part of it is not replaced before the whole.
        replacements.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        let case = match rng.random_range(0..100) {
            0..5 => Case::Upper,
            5..12 => Case::Lower,
            _ if hurried && chance(rng, 0.15) => Case::Lower,
            _ => Case::AsWritten,
        };
        let slips = *[0.0, 0.0, 0.004, 0.01, 0.03, 0.05].choose(rng).unwrap_or(&0.0) * if hurried { 1.6 } else { 1.0 };
        let careless = if hurried && chance(rng, 0.4) { rng.random_range(0.1..0.7) } else { 0.0 };
        let spaced = hurried && chance(rng, 0.15);
        let bullet = if hurried && chance(rng, 0.2) { ["-", "- ", "* ", "."].choose(rng).unwrap_or(&"") } else { "" };
        let width = if running && chance(rng, 0.12) { Some(rng.random_range(64..80)) } else { None };
        Self { replacements, case, slips, careless, spaced, bullet, width }
    }

    /// Types a report.
    pub(super) fn apply(&self, text: &str, typing: &Typing, rng: &mut ChaCha8Rng) -> String {
        let mut text = text.to_string();
        for (from, to) in &self.replacements {
            text = replace_words(&text, from, to);
        }
        text = self.slip(&text, typing, rng);
        if self.careless > 0.0 {
            text = drop_stops(&text, self.careless, rng);
        }
        if self.spaced {
            text = text.replace(", ", " , ").replace(".\n", " .\n");
        }
        if !self.bullet.is_empty() {
            let lines =
                text.lines().map(|line| match line.is_empty() || line.ends_with(':') || line.starts_with('-') {
                    true => line.to_string(),
                    false => format!("{}{line}", self.bullet),
                });
            text = lines.collect::<Vec<_>>().join("\n");
        }
        if let Some(width) = self.width {
            text = text.lines().map(|line| wrap(line, width)).collect::<Vec<_>>().join("\n");
        }
        match self.case {
            Case::AsWritten => text,
            Case::Lower => text.to_lowercase(),
            Case::Upper => text.to_uppercase(),
        }
    }

    fn slip(&self, text: &str, typing: &Typing, rng: &mut ChaCha8Rng) -> String {
        let mut out = String::new();
        for word in text.split_inclusive(char::is_whitespace) {
            let letters = word.trim_end_matches(|c: char| !c.is_alphanumeric());
            let plain = letters.len() >= 5 && letters.bytes().all(|b| b.is_ascii_lowercase());
            if plain && !typing.protect.iter().any(|p| p == letters) && chance(rng, self.slips) {
                out.push_str(&misspell(letters, rng));
                out.push_str(&word[letters.len()..]);
            } else {
                out.push_str(word);
            }
        }
        out
    }
}

/// Swaps, drops or doubles one letter that is not the first.
fn misspell(word: &str, rng: &mut ChaCha8Rng) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    let at = rng.random_range(1..letters.len().max(3) - 1);
    match rng.random_range(0..3) {
        0 => letters.swap(at, at + 1),
        1 => drop(letters.remove(at)),
        _ => letters.insert(at, letters[at]),
    }
    letters.into_iter().collect()
}

/// Replaces whole words, where no digit follows: "L 5 mm" would read as a level.
fn replace_words(text: &str, from: &str, to: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, after) = (&rest[..at], &rest[at + from.len()..]);
        let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
        let whole = from.ends_with(' ') || !word(after.chars().next());
        let start = before.chars().next_back().or(out.chars().next_back());
        let digit = after.trim_start().starts_with(|c: char| c.is_ascii_digit());
        out.push_str(before);
        out.push_str(if whole && !word(start) && !digit { to } else { from });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A line broken between words.
fn wrap(line: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in line.split(' ') {
        if column > 0 && column + word.len() >= width {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out
}

/// Full stops at a line's end left out.
fn drop_stops(text: &str, share: f64, rng: &mut ChaCha8Rng) -> String {
    let lines = text.lines().map(|line| match line.strip_suffix('.') {
        Some(bare) if chance(rng, share) => bare,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn words_are_replaced_whole_and_never_before_a_number() {
        assert_eq!(replace_words("left leftmost left 5 mm, left.", "left", "L"), "L leftmost left 5 mm, L.");
    }

    #[test]
    fn protected_words_and_levels_keep_their_letters() {
        let typing = Typing { protect: vec!["bilateral".into()], spelling: vec![], short: vec![] };
        let habits = Habits {
            replacements: vec![],
            case: Case::AsWritten,
            slips: 1.0,
            careless: 0.0,
            spaced: false,
            bullet: "",
            width: None,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let typed = habits.apply("L4-L5: no compression bilateral stenosis.", &typing, &mut rng);
        assert!(
            typed.starts_with("L4-L5: no ") && typed.contains(" bilateral ") && !typed.contains("compression"),
            "{typed}"
        );
    }
}
