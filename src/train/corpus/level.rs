//! Motion segments by region, and how a report's writer spells them.

use super::grammar::chance;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Vertebrae of the regions, the first of the next region closing each.
pub(super) const REGIONS: [(&str, &[&str]); 3] = [
    ("cervical", &["C2", "C3", "C4", "C5", "C6", "C7", "T1"]),
    ("thoracic", &["T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1"]),
    ("lumbar", &["L1", "L2", "L3", "L4", "L5", "S1"]),
];

/// A segment: its region in [`REGIONS`] and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level {
    pub(super) region: usize,
    pub(super) place: usize,
}

impl Level {
    /// All segments of a region, top to bottom.
    pub(super) fn all(region: usize) -> impl DoubleEndedIterator<Item = Self> {
        (0..REGIONS[region].1.len() - 1).map(move |place| Self { region, place })
    }

    pub(super) fn upper(self) -> &'static str {
        REGIONS[self.region].1[self.place]
    }

    pub(super) fn lower(self) -> &'static str {
        REGIONS[self.region].1[self.place + 1]
    }

    /// Written out: `L4-L5`.
    pub(super) fn name(self) -> String {
        format!("{}-{}", self.upper(), self.lower())
    }
}

/// How one writer spells segments.
#[derive(Debug)]
pub(super) struct Spelling {
    between: &'static str,
    short: bool,
    dorsal: bool,
    and: &'static str,
    /// Now and then another way, by slip or habit.
    mixed: f64,
}

impl Spelling {
    pub(super) fn draw(dorsal: bool, rng: &mut ChaCha8Rng) -> Self {
        let pick = |rng: &mut ChaCha8Rng, from: &[&'static str]| from.choose(rng).copied().unwrap_or_default();
        Self {
            between: pick(rng, &["-", "-", "-", "/", "/"]),
            short: chance(rng, 0.5),
            dorsal,
            and: pick(rng, &[" and ", " and ", " and ", " & ", "& ", " as well as "]),
            mixed: if chance(rng, 0.15) { 0.2 } else { 0.0 },
        }
    }

    pub(super) fn vertebra(&self, name: &str) -> String {
        if self.dorsal { name.replace('T', "D") } else { name.to_string() }
    }

    pub(super) fn one(&self, level: Level, rng: &mut ChaCha8Rng) -> String {
        let other = chance(rng, self.mixed);
        let (upper, lower) = (self.vertebra(level.upper()), self.vertebra(level.lower()));
        let lower = if (self.short != other) && upper[..1] == lower[..1] { &lower[1..] } else { &lower };
        format!("{upper}{}{lower}", self.between)
    }

    /// Several segments as a list, or as a range where they follow each other.
    pub(super) fn list(&self, levels: &[Level], rng: &mut ChaCha8Rng) -> String {
        let consecutive = levels.windows(2).all(|w| w[0].region == w[1].region && w[0].place + 1 == w[1].place);
        if let ([first, _, .., last], true) = (levels, consecutive && chance(rng, 0.5)) {
            let to = [" through ", " to ", " through ", "-"].choose(rng).copied().unwrap_or_default();
            return match (rng.random_range(0..4), to) {
                // "L2-S1", by vertebrae; with a slash it would be one segment.
                (0, _) | (_, "-") => {
                    let to = if to == "-" && self.between == "/" { " to " } else { to };
                    format!("{}{to}{}", self.vertebra(first.upper()), self.vertebra(last.lower()))
                }
                _ => format!("{}{to}{}", self.one(*first, rng), self.one(*last, rng)),
            };
        }
        let names: Vec<String> = levels.iter().map(|level| self.one(*level, rng)).collect();
        match names.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, before)) => format!("{}{}{last}", before.join(", "), self.and),
            None => String::new(),
        }
    }
}
