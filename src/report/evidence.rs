//! Which sentences speak of which motion segment.

use super::clause;
use super::group::{self, Group, Pick};
use super::level::{Level, Levels, Region};
use super::mention::{self, Mention};
use super::section::{self, Kind, Line};
use super::sentence;
use regex::Regex;
use std::ops::Range;
use std::rc::Rc;
use std::sync::LazyLock;

/// A name of levels in the report's text. `levels` is `None` for a vertebra or root by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) range: Range<usize>,
    pub(super) levels: Option<Levels>,
}

/// A sentence, or a clause of one, that is evidence for a segment.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) range: Range<usize>,
    /// The headings that it stands under, when they say of what it speaks.
    pub(super) leads: Rc<[Range<usize>]>,
    /// The level's name in a table's margin, when it is a cell of one.
    pub(super) level: Option<Range<usize>>,
    /// Whether it names no level and belongs here by what stood before.
    pub(super) carried: bool,
    /// The names in it.
    pub(super) names: Rc<[Name]>,
}

/// A sentence with what it names, before groups are known.
struct Sentence {
    range: Range<usize>,
    leads: Rc<[Range<usize>]>,
    opens: Option<Kind>,
    paragraph: bool,
    /// Whether it is the first of its line.
    first: bool,
    level: Option<Range<usize>>,
    mentions: Vec<Mention>,
    groups: Vec<Group>,
    /// "Others patent" in a list of another structure than discs: it speaks of none that is known.
    others: bool,
}

/// The pieces of evidence of every segment that the report names, top to bottom.
pub(super) fn collect(text: &str) -> Vec<(Level, Vec<Piece>)> {
    let sentences = read(text);
    let named = sentences
        .iter()
        .flat_map(|sentence| &sentence.mentions)
        .fold(Levels::NONE, |set, mention| set.union(mention.levels.unwrap_or_default()));
    let mut walk = Walk { named, titles: group::titles(text), ..Walk::default() };
    for sentence in &sentences {
        walk.sentence(text, sentence);
    }
    let mut out: Vec<(Level, Vec<Piece>)> = walk.seen.iter().map(|level| (level, Vec::new())).collect();
    for (levels, piece) in walk.pieces {
        for (level, pieces) in &mut out {
            if levels.contains(*level) {
                pieces.push(piece.clone());
            }
        }
    }
    out
}

fn read(text: &str) -> Vec<Sentence> {
    let mut out = Vec::new();
    for line in section::lines(text) {
        let Line { range, leads, mut opens, mut paragraph, level } = line;
        let mut leads: Rc<[Range<usize>]> = leads.into();
        if let Some(level) = level {
            let mentions = mention::mentions(text.get(level.clone()).unwrap_or_default());
            let level = Some(level);
            let groups = Vec::new();
            out.push(Sentence { range, leads, opens, paragraph, first: true, level, mentions, groups, others: false });
            continue;
        }
        let sentences = sentence::sentences(text, range);
        let count = sentences.len();
        for (index, mut range) in sentences.into_iter().enumerate() {
            // "SPINAL CANAL. L4-5: severe. L3-4: moderate."
            if index + 1 < count && text.get(range.clone()).is_some_and(section::is_structure) {
                leads = std::iter::once(range).collect();
                opens = Some(Kind::Structure);
                continue;
            }
            // a structure's heading within the line: "Canal: patent. Foramina: mild narrowing at L4-5."
            if index > 0
                && let Some(end) = text.get(range.clone()).and_then(section::structure)
            {
                leads = std::iter::once(range.start..range.start + end).collect();
                let rest = text.get(range.start + end..range.end).unwrap_or_default();
                range.start += end + rest.len() - rest.trim_start().len();
            }
            for range in split_at_headings(text, range) {
                let body = text.get(range.clone()).unwrap_or_default();
                let mentions = mention::mentions(body);
                let mut groups = group::groups(body);
                groups.retain(|group| !is_spelled_out(body, group, &mentions));
                let mut others = false;
                if let Some(range) = group::rest(body).filter(|_| mentions.is_empty() && groups.is_empty()) {
                    others = !leads.iter().any(|lead| is_discs(text.get(lead.clone()).unwrap_or_default()));
                    if !others {
                        groups.push(Group { range, remaining: true, count: None, regions: Vec::new() });
                    }
                }
                out.push(Sentence {
                    range,
                    leads: Rc::clone(&leads),
                    opens: opens.take(),
                    paragraph: std::mem::take(&mut paragraph),
                    first: index == 0,
                    level: None,
                    mentions,
                    groups,
                    others,
                });
            }
        }
    }
    out
}

fn is_discs(heading: &str) -> bool {
    let letters: String = heading.chars().filter(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect();
    ["disc", "disk", "level"].iter().any(|word| letters.contains(word))
}

/// Whether the levels that a group means follow it ("all upper discs, L1-2 to L3-4"), so that it is no group statement.
fn is_spelled_out(body: &str, group: &Group, mentions: &[Mention]) -> bool {
    let next = mentions.partition_point(|mention| mention.range.start < group.range.end);
    let Some(next) = mentions.get(next).filter(|mention| mention.levels.is_some() && !group.remaining) else {
        return false;
    };
    const LONGEST_GAP: usize = 40;
    body.get(group.range.end..next.range.start).filter(|gap| gap.len() <= LONGEST_GAP).is_some_and(|gap| {
        matches!(gap.trim().to_lowercase().as_str(), "," | ":" | "(" | "from" | "between" | ", from" | "-" | "of")
    })
}

/// Cuts a sentence where a level followed by a colon begins another ("… canals L4-5: bulge").
fn split_at_headings(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let body = text.get(range.clone()).unwrap_or_default();
    let mut out = Vec::new();
    let mut start = 0;
    if body.contains(':') {
        let mentions = mention::mentions(body);
        let mut list_start = None;
        for (index, mention) in mentions.iter().enumerate() {
            if mention.levels.is_none() {
                list_start = None;
                continue;
            }
            let first = list_start.unwrap_or(mention.range.start);
            let rest = body.get(mention.range.end..).unwrap_or_default();
            let listed = mentions.get(index + 1).is_some_and(|next| {
                next.levels.is_some() && is_list_gap(body.get(mention.range.end..next.range.start).unwrap_or_default())
            });
            list_start = listed.then_some(first);
            let heads = !listed
                && level_words(rest).is_some_and(|end| rest.get(end..).is_some_and(|rest| rest.starts_with(':')));
            let before = body.get(start..first).unwrap_or_default().trim_end();
            if heads
                && !before.ends_with(',')
                && !ends_in_preposition(before)
                && before.chars().filter(|c| c.is_alphanumeric()).nth(5).is_some()
            {
                out.push(range.start + start..range.start + start + before.len());
                start = first;
            }
        }
    }
    out.push(range.start + start..range.end);
    out
}

/// Whether a level after these words belongs to their clause ("extrusion at", "disc of").
fn ends_in_preposition(before: &str) -> bool {
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    ["at", "of", "in", "from", "to", "for", "on", "the", "with", "than", "and"]
        .iter()
        .any(|prep| word.eq_ignore_ascii_case(prep))
}

/// Whether nothing but list words stands between two mentions.
pub(super) fn is_list_gap(gap: &str) -> bool {
    gap.split(|c: char| c.is_whitespace() || matches!(c, ',' | '&' | '/' | '+' | ';' | '|')).all(|word| {
        matches!(
            word.to_ascii_lowercase().as_str(),
            "" | "and"
                | "or"
                | "level"
                | "levels"
                | "disc"
                | "discs"
                | "as"
                | "well"
                | "also"
                | "the"
                | "at"
                | "disk"
                | "disks"
        )
    })
}

/// Where the words that belong to a level's name end ("level", "disc space", "(transitional)"), white space included.
fn level_words(rest: &str) -> Option<usize> {
    const LONGEST_ASIDE: usize = 40;
    let mut at = 0;
    loop {
        let here = rest.get(at..)?;
        let trimmed = here.trim_start();
        let space = here.len() - trimmed.len();
        let word = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let lower = trimmed.get(..word)?.to_ascii_lowercase();
        if matches!(
            lower.as_str(),
            "level"
                | "levels"
                | "disc"
                | "discs"
                | "disk"
                | "disks"
                | "space"
                | "spaces"
                | "interspace"
                | "segment"
                | "segments"
        ) {
            at += space + word;
        } else if let Some(close) =
            trimmed.strip_prefix('(').and_then(|aside| aside.bytes().take(LONGEST_ASIDE).position(|b| b == b')'))
        {
            at += space + close + 2;
        } else {
            return Some(at + space);
        }
    }
}

/// The segments that names stand for, all together.
pub(super) fn named(names: &[Name]) -> Levels {
    names.iter().fold(Levels::NONE, |set, name| set.union(name.levels.unwrap_or_default()))
}

#[derive(Default)]
struct Walk {
    named: Levels,
    titles: Vec<(usize, Vec<Region>)>,
    /// Levels of the level heading that stands above.
    heading: Levels,
    /// Whether a sentence stood under that heading already.
    under: bool,
    /// Levels of the sentence before.
    carry: Levels,
    /// Levels named in this part of the report, the last one last.
    recent: Vec<Level>,
    /// Levels of the last sentence that named several, in its order.
    list: Vec<Level>,
    seen: Levels,
    last_region: Option<Region>,
    pieces: Vec<(Levels, Piece)>,
}

impl Walk {
    fn sentence(&mut self, text: &str, sentence: &Sentence) {
        self.open(sentence);
        let names: Rc<[Name]> = self.names(text, sentence).into();
        let all = named(&names);
        let any = names.iter().any(|name| name.levels.is_some());
        self.seen = self.seen.union(all);
        self.last_region = all.iter().last().map(Level::region).or(self.last_region);
        let piece = Piece {
            range: sentence.range.clone(),
            leads: Rc::clone(&sentence.leads),
            level: sentence.level.clone(),
            carried: !any,
            names: Rc::clone(&names),
        };
        if piece.level.is_some() {
            self.pieces.push((all, Piece { names: Rc::from([]), ..piece }));
        } else if sentence.others {
            self.carry = Levels::NONE;
        } else if any {
            self.naming(text, sentence, piece, all);
        } else {
            let owner = if self.heading.is_empty() { self.carry } else { self.heading };
            self.under = true;
            if !owner.is_empty() {
                self.pieces.push((owner, piece));
            }
        }
    }

    /// What a heading or a new paragraph before the sentence does to the levels being spoken of.
    fn open(&mut self, sentence: &Sentence) {
        let names_some =
            !sentence.groups.is_empty() || sentence.mentions.iter().any(|mention| mention.levels.is_some());
        match sentence.opens {
            Some(Kind::Structure | Kind::Other) if !self.heading.is_empty() && !names_some && !sentence.paragraph => {}
            Some(kind) => {
                (self.heading, self.carry, self.under) = (Levels::NONE, Levels::NONE, false);
                if kind == Kind::Part {
                    self.recent.clear();
                    self.list.clear();
                }
            }
            None if sentence.paragraph && self.under => (self.heading, self.under) = (Levels::NONE, false),
            None => {}
        }
    }

    /// A sentence that names levels.
    fn naming(&mut self, text: &str, sentence: &Sentence, piece: Piece, all: Levels) {
        let body = text.get(piece.range.clone()).unwrap_or_default();
        let before = self.carry;
        let mut owner = all;
        let mut leans = false;
        if let Some(head) = heading_levels(text, &piece) {
            self.heading = head.levels;
            self.under = head.rest < piece.range.end;
            if let Some(like) = likeness(text, &piece, &head, before) {
                owner = head.levels;
                self.liken(like, owner);
            }
        } else {
            self.under = true;
            if sentence.first && begins_with_level(text, &piece) {
                // A list that goes level by level, now with a colon and now without.
                self.heading = Levels::NONE;
            }
            let bare = Head { levels: self.heading, rest: piece.range.start, names: 0 };
            if let Some(head) = first_level(&piece)
                && let Some(like) = likeness(text, &piece, &head, before)
            {
                owner = head.levels;
                self.liken(like, owner);
            } else if !self.heading.is_empty()
                && let Some(like) = likeness(text, &piece, &bare, before)
            {
                owner = self.heading;
                self.liken(like, owner);
            } else if !self.heading.is_empty() && leans_on_heading(text, &piece, self.heading) {
                owner = owner.union(self.heading);
                leans = true;
            }
            if body.ends_with(':') {
                (self.heading, self.under) = (owner, false);
            }
        }
        self.carry = if leans { self.heading } else { owner };
        let mut list: Vec<Level> = Vec::new();
        for level in sentence.mentions.iter().filter_map(|mention| mention.levels).flat_map(Levels::iter) {
            if !list.contains(&level) {
                list.push(level);
            }
        }
        if list.len() > 1 {
            self.list = list;
        }
        for level in
            sentence.mentions.iter().fold(Levels::NONE, |set, m| set.union(m.levels.unwrap_or_default())).iter()
        {
            self.recent.retain(|recent| *recent != level);
            self.recent.push(level);
        }
        if owner == all {
            clause::split(text, &piece, &mut self.pieces);
        } else {
            self.pieces.push((owner, piece));
        }
    }

    /// Gives `owner` what was said of the levels that it is likened to.
    fn liken(&mut self, like: Levels, owner: Levels) {
        const MOST: usize = 6;
        let mut copies: Vec<(Levels, Piece)> = Vec::new();
        for (levels, piece) in self.pieces.iter().rev().take(4 * MOST) {
            if levels.meets(like) && !levels.meets(owner) && copies.len() < MOST {
                let names = piece.names.iter().map(|name| Name {
                    range: name.range.clone(),
                    levels: name.levels.map(|levels| if levels.meets(like) { levels.union(owner) } else { levels }),
                });
                copies.push((owner, Piece { names: names.collect(), ..piece.clone() }));
            }
        }
        self.pieces.extend(copies.into_iter().rev());
    }

    /// The sentence's names in order, its groups and plurals ("both levels") resolved.
    fn names(&self, text: &str, sentence: &Sentence) -> Vec<Name> {
        let body = text.get(sentence.range.clone()).unwrap_or_default();
        let shift = |range: &Range<usize>| sentence.range.start + range.start..sentence.range.start + range.end;
        let mut names: Vec<Name> =
            sentence.mentions.iter().map(|m| Name { range: shift(&m.range), levels: m.levels }).collect();
        let own = if sentence.groups.is_empty() { Vec::new() } else { group::regions(body) };
        for group in &sentence.groups {
            let regions = [&group.regions, &own].into_iter().find(|regions| !regions.is_empty());
            let regions = regions.map_or_else(|| self.examined(sentence.range.start), Vec::clone);
            if let Some(levels) = group::members(group, &regions, self.named) {
                let levels = levels.without(excepted(body, group.range.end, &sentence.mentions));
                names.push(Name { range: shift(&group.range), levels: Some(levels) });
            }
        }
        let mut mentions = sentence.mentions.iter().peekable();
        let mut own = Levels::NONE;
        for (range, count) in group::anaphors(body) {
            while let Some(mention) = mentions.next_if(|mention| mention.range.end <= range.start) {
                own = own.union(mention.levels.unwrap_or_default());
            }
            let levels = self.resolve(own, count).without(excepted(body, range.end, &sentence.mentions));
            if !levels.is_empty() && sentence.level.is_none() {
                names.push(Name { range: shift(&range), levels: Some(levels) });
            }
        }
        let picks = if sentence.level.is_none() { group::picks(body) } else { Vec::new() };
        for (range, pick) in picks {
            if let Some(level) = self.pick(&sentence.mentions, range.start, pick).or_else(|| self.of_list(pick)) {
                names.push(Name { range: shift(&range), levels: Some([level].into_iter().collect()) });
            }
        }
        names.sort_by_key(|name| name.range.start);
        names.dedup_by(|next, before| next.range.start < before.range.end);
        names
    }

    /// The levels that "both levels" or "these levels" takes up; `own` are those that its sentence names before it.
    fn resolve(&self, own: Levels, count: Option<usize>) -> Levels {
        let fits = |set: &Levels| count.map_or(set.len() > 1, |count| set.len() == count);
        let recent = || {
            let skipped = count.map_or(0, |count| self.recent.len().saturating_sub(count));
            self.recent.iter().skip(skipped).copied().collect()
        };
        [own, self.heading, self.carry].into_iter().find(fits).unwrap_or_else(recent)
    }

    /// Which of the last two levels named before `end` in the sentence, or before it, a word picks.
    fn pick(&self, mentions: &[Mention], end: usize, pick: Pick) -> Option<Level> {
        const LOOK_BACK: usize = 8;
        let before = mentions.partition_point(|mention| mention.range.start < end);
        let own = mentions.get(..before)?.iter().rev().take(LOOK_BACK).rev();
        // "T12 and L1, the latter …": of two vertebrae
        if own.clone().filter(|mention| mention.levels.is_none()).count() > 1 {
            return None;
        }
        let mut pool: Vec<Level> = Vec::new();
        for level in own.filter_map(|mention| mention.levels).flat_map(Levels::iter) {
            if !pool.contains(&level) {
                pool.push(level);
            }
        }
        if pool.len() < 2 {
            let last = self.recent.len().saturating_sub(2);
            pool = self.recent.get(last..)?.to_vec();
            if !self.carry.without(pool.iter().copied().collect()).is_empty() {
                return None;
            }
        }
        let [first, last] = *pool.as_slice() else { return None };
        Some(match pick {
            Pick::First => first,
            Pick::Second | Pick::Last => last,
            Pick::Upper | Pick::Uppermost => first.min(last),
            Pick::Lower | Pick::Lowermost => first.max(last),
            Pick::Third | Pick::Middle => return None,
        })
    }

    /// Which of the levels last listed a word picks ("the first of these", "the middle one").
    fn of_list(&self, pick: Pick) -> Option<Level> {
        let list = &self.list;
        match pick {
            Pick::First => list.first(),
            Pick::Second => list.get(1),
            Pick::Third => list.get(2),
            Pick::Last => list.last(),
            Pick::Uppermost => list.iter().min(),
            Pick::Lowermost => list.iter().max(),
            Pick::Middle if list.len() == 3 => list.get(1),
            Pick::Middle | Pick::Upper | Pick::Lower => None,
        }
        .copied()
    }

    /// The regions that the report examines where `at` stands: by the title above, else by what is named.
    fn examined(&self, at: usize) -> Vec<Region> {
        let before = self.titles.partition_point(|(title, _)| *title <= at);
        match self.titles.get(..before).and_then(|titles| titles.last()) {
            Some((_, regions)) => regions.clone(),
            None => self.last_region.or_else(|| self.named.iter().next().map(Level::region)).into_iter().collect(),
        }
    }
}

/// The levels that "except" right after a group takes out of it.
fn excepted(body: &str, end: usize, mentions: &[Mention]) -> Levels {
    static EXCEPT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)^\W*(?:\w+\W+){0,2}?(?:except(?:ing)?|apart|aside|other than|save|excluding|but for|bar)\b[\w\s,]{0,20}$")
            .expect("a fixed pattern")
    });
    const NEAR: usize = 60;
    let mut set = Levels::NONE;
    let mut at = end;
    let first = mentions.partition_point(|mention| mention.range.start < end);
    for mention in mentions.iter().skip(first) {
        let gap = body.get(at..mention.range.start).unwrap_or_default();
        let follows = if set.is_empty() { gap.len() <= NEAR && EXCEPT.is_match(gap) } else { is_list_gap(gap) };
        let Some(levels) = mention.levels.filter(|_| follows) else { break };
        set = set.union(levels);
        at = mention.range.end;
    }
    set
}

/// Whether a sentence begins with levels ("L4-5 bulge", "At the L4-5 level there is").
fn begins_with_level(text: &str, piece: &Piece) -> bool {
    let Some(first) = piece.names.first().filter(|name| name.levels.is_some()) else { return false };
    let before = text.get(piece.range.start..first.range.start).unwrap_or_default().trim().to_ascii_lowercase();
    matches!(before.as_str(), "" | "at" | "at the" | "the")
}

struct Head {
    levels: Levels,
    /// Where the text after the heading begins.
    rest: usize,
    /// How many of the sentence's names are in it.
    names: usize,
}

/// The levels that head a sentence ("L4-5:", "At L4-5 level -", a line of levels alone).
fn heading_levels(text: &str, piece: &Piece) -> Option<Head> {
    let mut head = Head { levels: Levels::NONE, rest: piece.range.start, names: 0 };
    for name in piece.names.iter() {
        let gap = text.get(head.rest..name.range.start)?;
        let fits = if head.names == 0 {
            let opening = gap.trim().to_ascii_lowercase();
            matches!(
                opening.as_str(),
                "" | "at"
                    | "at the"
                    | "level"
                    | "the"
                    | "level of"
                    | "at level"
                    | "at the level of"
                    | "disc"
                    | "disc level"
            )
        } else {
            is_list_gap(gap)
        };
        if !fits {
            break;
        }
        head.levels = head.levels.union(name.levels?);
        head.rest = name.range.end;
        head.names += 1;
    }
    if head.names == 0 {
        return None;
    }
    let rest = text.get(head.rest..piece.range.end)?;
    let after = level_words(rest)?;
    let tail = rest.get(after..)?;
    let spaced = rest.get(..after)?.ends_with(char::is_whitespace);
    let body = tail.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '.' | '-' | ':' | ',' | '\u{2013}'));
    let dashed = spaced && tail.starts_with(['-', '\u{2013}', '\u{2014}', '=', '>']);
    // under a structure ("Bulge: L3-4, L4-5") levels alone are what is said, no heading
    let alone = body.is_empty() && piece.leads.is_empty();
    head.rest = piece.range.end - body.len();
    (alone || tail.starts_with(':') || dashed).then_some(head)
}

/// The level that begins a sentence with no colon after it.
fn first_level(piece: &Piece) -> Option<Head> {
    let name = piece.names.first().filter(|name| name.range.start == piece.range.start)?;
    Some(Head { levels: name.levels?, rest: name.range.end, names: 1 })
}

/// The levels that a headed sentence likens its own to: "L3-4: as L4-5 but milder", "T8-9: ditto".
fn likeness(text: &str, piece: &Piece, head: &Head, before: Levels) -> Option<Levels> {
    static LIKE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)^\s*(?:the\s+)?(?:(as(?:\s+for|\s+at|\s+in)?|(?:same|similar)(?:\s+\w+)?\s+(?:as|to)(?:\s+at)?|like)(?:\s+the)?\s*$|(?:ditto|idem|same|similar(?:\s+findings|\s+changes|\s+appearances?)?)\s*(?:[.,;]|$|as\s+above))")
            .expect("a fixed pattern")
    });
    const NEAR: usize = 60;
    let next = piece.names.iter().skip(head.names).find_map(|name| Some((name.range.start, name.levels?)));
    let until = next.map_or(piece.range.end, |(start, _)| start).min(head.rest + NEAR);
    let found = LIKE.captures(text.get(head.rest..until)?.trim_end())?;
    match (found.get(1), next) {
        (Some(_), Some((_, levels))) => Some(levels),
        (Some(_), None) => None,
        (None, _) => Some(before),
    }
}

/// Whether a sentence under a heading names levels only to compare with them or to single out some of the heading's own.
fn leans_on_heading(text: &str, piece: &Piece, heading: Levels) -> bool {
    const COMPARED: [&str; 8] =
        [" than", " compared with", " compared to", " similar to", " as", " like", " versus", " vs"];
    static STRESSED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:\b(?:notic\w+|note\w*bly|notably|especially|particularly|predominant(?:ly)?|mainly|mostly|chiefly|more|most|worse|worst|maximal(?:ly)?|maximum|greatest|largest|marked|pronounced|prominent|severe|evident|obvious|so)\b\W*)+(?:(?:at|in|seen|noted|is)\s*)*$")
            .expect("a fixed pattern")
    });
    const NEAR: usize = 60;
    piece.names.iter().filter(|name| name.levels.is_some()).all(|name| {
        let before = text.get(piece.range.start..name.range.start).unwrap_or_default().trim_end();
        let near = before.char_indices().rev().nth(NEAR).and_then(|(at, _)| before.get(at..)).unwrap_or(before);
        let near = format!(" {}", near.to_ascii_lowercase());
        let near = near.strip_suffix(" the").unwrap_or(&near);
        let compared = near.strip_suffix(" at").unwrap_or(near);
        COMPARED.iter().any(|end| compared.ends_with(end))
            || (name.levels.is_some_and(|levels| levels.without(heading).is_empty()) && STRESSED.is_match(near))
    })
}

/// The byte ranges of what was read, in order.
pub(super) fn spans(pieces: &[Piece]) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for piece in pieces {
        out.extend(piece.leads.iter().chain(&piece.level).chain([&piece.range]).cloned());
    }
    out.sort_by_key(|range| (range.start, range.end));
    out.dedup();
    out
}

/// What was read, as written, white space tidied.
pub(super) fn written(text: &str, spans: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(spans.iter().map(|span| span.len() + 1).sum());
    for span in spans {
        for word in text.get(span.clone()).unwrap_or_default().split_whitespace() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
    }
    out
}
