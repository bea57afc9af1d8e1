//! What a report will speak of: segments in groups that share their findings.

use super::grammar::{Grammar, Profile, chance, weighted};
use super::level::{Level, REGIONS};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

/// An aspect's grades at a segment: of the left and the right side, or the same twice where it has no sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) aspect: usize,
    pub(super) grades: [u8; 2],
}

/// Segments that share their findings, and what is still to be said of them.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) levels: Vec<Level>,
    /// The finding that others follow from, the disc's.
    pub(super) lead: Option<Item>,
    pub(super) found: Vec<Item>,
    /// Aspects to be denied.
    pub(super) denied: Vec<usize>,
}

impl Group {
    pub(super) fn is_normal(&self) -> bool {
        self.lead.is_none() && self.found.is_empty()
    }

    /// Grades of an aspect, lowest where nothing was found.
    pub(super) fn grades(&self, aspect: usize) -> [u8; 2] {
        let items = self.lead.iter().chain(&self.found);
        items.filter(|item| item.aspect == aspect).map(|item| item.grades).next().unwrap_or([0, 0])
    }
}

/// Draws the segments that a report names, and their findings.
pub(super) fn groups(grammar: &Grammar, region: usize, few: bool, rng: &mut ChaCha8Rng) -> Vec<Group> {
    let mut levels: Vec<Level> = Level::all(region).collect();
    if few || REGIONS[region].0 == "thoracic" {
        let count = if few { rng.random_range(1..=3) } else { rng.random_range(1..=6) };
        // Low segments are the ones that wear out.
        let keep: Vec<Level> = levels.iter().rev().copied().filter(|_| chance(rng, 0.65)).take(count).collect();
        levels.retain(|level| keep.contains(level));
    } else if chance(rng, 0.6) {
        let first = rng.random_range(0..levels.len() - 1);
        levels.drain(..first);
        levels.retain(|_| !chance(rng, 0.08));
    }
    if levels.is_empty() {
        levels = Level::all(region).rev().take(1).collect();
    }
    let mut groups: Vec<Group> = Vec::new();
    for level in levels {
        let shared = groups.last().map_or(0.0, |last| match (last.is_normal(), last.levels.len()) {
            (true, _) => 0.35,
            (false, 1) => 0.22,
            (false, _) => 0.1,
        });
        match groups.last_mut() {
            Some(last) if chance(rng, shared) => last.levels.push(level),
            _ => groups.push(group(grammar, level, rng)),
        }
    }
    if few && groups.iter().all(Group::is_normal) && chance(rng, 0.7) {
        return self::groups(grammar, region, few, rng);
    }
    groups
}

fn group(grammar: &Grammar, level: Level, rng: &mut ChaCha8Rng) -> Group {
    let mut group = Group { levels: vec![level], lead: None, found: Vec::new(), denied: Vec::new() };
    let Ok(profile) = grammar.profiles.choose_weighted(rng, |p| p.weight) else { return group };
    for (index, aspect) in grammar.aspects.iter().enumerate() {
        let here = aspect.regions.get(REGIONS[level.region].0).copied().unwrap_or(1.0);
        let grades = if chance(rng, here) { draw(profile, &aspect.name, aspect.tasks.len() == 2, rng) } else { [0, 0] };
        match grades {
            [0, 0] if !aspect.lead && here > 0.1 && chance(rng, 0.3) => group.denied.push(index),
            [0, 0] => {}
            grades if aspect.lead => group.lead = Some(Item { aspect: index, grades }),
            grades => group.found.push(Item { aspect: index, grades }),
        }
    }
    group.found.shuffle(rng);
    group.denied.shuffle(rng);
    group
}

fn draw(profile: &Profile, aspect: &str, sided: bool, rng: &mut ChaCha8Rng) -> [u8; 2] {
    let Some(weights) = profile.aspects.get(aspect) else { return [0, 0] };
    let one = |rng: &mut ChaCha8Rng| weighted(rng, weights).unwrap_or(0) as u8;
    let first = one(rng);
    match (sided, rng.random_range(0..10)) {
        (true, 0..4) => [first, first],
        (true, 4..6) => [first, 0],
        (true, 6..8) => [0, first],
        (true, _) => [first, one(rng)],
        (false, _) => [first, first],
    }
}
