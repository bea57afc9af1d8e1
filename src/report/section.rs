//! Sections and lines: which parts of a report are read, and under which heading a line stands.

use super::{group, mention, table};
use regex::Regex;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

/// What a heading says about the text below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// History, indication, technique, comparison: not read.
    Unread,
    /// A structure ("Foramina:"): what follows speaks of it.
    Structure,
    /// An addendum or correction.
    Addendum,
    /// A part of the report ("FINDINGS:", "Impression", "Lumbar spine:").
    Part,
    /// Anything else that ends in a colon ("Alignment:", "Resolved:").
    Other,
}

/// A stretch of text that is read: one line as its writer meant it, or a part of one between two headings.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Bytes of the report.
    pub(super) range: Range<usize>,
    /// The headings that it stands under, when they say of what it speaks: a structure, a grade within it, an addendum.
    /// Those of the report's parts do not.
    pub(super) leads: Vec<Range<usize>>,
    /// The kind of the new heading right before it, if there is one.
    pub(super) opens: Option<Kind>,
    /// Whether a blank line stands before it.
    pub(super) paragraph: bool,
    /// The level that a table's cell belongs to.
    pub(super) level: Option<Range<usize>>,
}

const UNREAD_NAMES: &str = "clinical(?: (?:history|information|info|indications?|notes?|details?|data|question|context|background\
|features|presentation|history and indication|impression))?|history(?: of present illness)?\
|indications?(?: for (?:exam|study|examination))?|ind|reason(?: for (?:exam(?:ination)?|study|referral|scan|request|test|visit))?\
|techniques?|tech|techn(?:ical|ique) (?:details|factors)|comparisons?|comp|protocol|procedure\
|(?:previous|prior)(?: (?:imaging|exams?|studies|study|examinations?|reports?))?|priors|exam(?:ination)?|study|date of exam\
|sequences?|contrast|referr(?:al|er)|question|request|symptoms|(?:presenting |chief )?complaints?|diagnosis code\
|primary diagnostic code|methods?|scan protocol|(?:past )?(?:medical|surgical) history|hx|indic|compared with|limitations|details\
|area|dx|pt|patient";
const PART_NAMES: &str = "(?:imaging )?findings?(?: and impression| by level| by structure)?|impressions?(?: only)?|impr?\
|conclusions?|summary|opinion|report|results?|interpretation|assessment|comments?|discussion|bottom line|final read|narrative\
|level by level(?: evaluation)?|diagnosis|nb|note|recommendations?";
const ADDENDUM_NAMES: &str = "addend(?:um|a)|corrections?(?: to [a-z ]{1,20})?|corrigendum|errat(?:um|a)|amend(?:ment|ed)(?: report)?\
|corrected (?:report|version)|report corrected";

static UNREAD: LazyLock<Regex> = LazyLock::new(|| whole(UNREAD_NAMES));
static PART: LazyLock<Regex> = LazyLock::new(|| whole(PART_NAMES));
static ADDENDUM: LazyLock<Regex> = LazyLock::new(|| whole(ADDENDUM_NAMES));
/// The sections that follow upon the unread ones; where one of them comes next, the lines before it are no findings.
static FINDINGS: LazyLock<Regex> = LazyLock::new(|| whole("(?:imaging )?findings?(?: .*)?|report|results?"));
static STRUCTURE: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"(?i)\b(?:dis[ck]s?|canals?|foram\w*|neuroforam\w*|recess\w*|subarticular|cord|thecal|sac|roots?|nerves?|nr|nfn?|lr|scs|stenos[ie]s|narrowing|bulg\w+|protru\w+|herniation|extru\w+|neural|severe|moderate|mild|subarachnoid|none|lateral|left|right|contact\w*|compress\w*|impinge\w*|normal)\b",
    )
});
/// What makes a structure's heading complete; "Severe:" and "Left:" lean on the one above.
static PLACE: LazyLock<Regex> = LazyLock::new(|| {
    fixed(r"(?i)dis[ck]|canal|foram|recess|subartic|cord|sac\b|theca|root|nerve|\bn[fr]n?\b|\blr\b|\bscs\b")
});
/// What makes words before a colon a sentence.
static SAYS: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"(?i)\b(?:there|there's|is|are|was|were|has|have|following|however)\b"));
/// A heading that only says that a level follows.
static LEVEL_NAME: LazyLock<Regex> = LazyLock::new(|| whole(r"(?:disc |disk )?(?:levels?|segments?|level\(s\))"));
/// A line of structures and nothing else ("Lateral recesses", "CANAL").
static STRUCTURE_LINE: LazyLock<Regex> = LazyLock::new(|| {
    whole(
        r"(?:(?:neural|exit|exiting|spinal|central|lateral|nerve|intervertebral|thecal|left|right|and|the|inter|by|level|&|/|disc|disk|canal|foraminal|cord|sac)[\s/-]*)*(?:dis[ck]s?|canals?|foramen|foramina|neuroforamina|recess|recesses|subarticular zones?|cord|sac|roots?|nerves?|disc (?:disease|spaces?|contour|height|levels?)|stenosis|narrowing|central|left|right)(?: (?:left|right|l|r))?",
    )
});
/// A short name with a colon, a question mark or dotted leaders at the start of a line, or set apart by three spaces.
static COLON: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"^(\(?[A-Za-z][A-Za-z/&(),+'’ \-]{0,60}?)(\s*:|\?(?:\s|$)|\s*[.…]{3,}\s|\s{3,}|\t|\s+[-\x{2013}]\s*$|\s+[-\x{2013}]\s+)",
    )
});
static INLINE: LazyLock<Regex> =
    LazyLock::new(|| fixed(&format!(r"(?:[.;,]\s+|\s)((?i:{UNREAD_NAMES}|{PART_NAMES}|{ADDENDUM_NAMES}))\s?:")));
/// Where a line's end became a comma, as in reports that went through a table ("FINDINGS:,1. Bulge.,IMPRESSION:").
static COMMA_LINE: LazyLock<Regex> = LazyLock::new(|| fixed(r"[.:],(?:[A-Z]|\d)"));
/// Names of parts that also stand within the text of a level ("Comment: canal narrow").
static ASIDE: LazyLock<Regex> = LazyLock::new(|| whole("comments?|note|nb"));
/// What is examined, in a heading that may be all the title there is.
static EXAM: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"(?i)^(?:exam(?:ination)?|study|procedure|protocol)\s*:[^.:]*\b(?:spine|lumbar|cervical|thoracic|dorsal)\b[^.:]*\.\s+",
    )
});
static BULLET: LazyLock<Regex> = LazyLock::new(|| fixed(r"^(?:[\s\-*•·▪>#|.,]+|\(?\d{1,2}[.)]\s+|\(?\d{1,2}[)])+"));
static LETTER_SPACED: LazyLock<Regex> = LazyLock::new(|| fixed(r"^[A-Z](?: [A-Z]){2,}\b"));

fn fixed(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a fixed pattern")
}

fn whole(names: &str) -> Regex {
    fixed(&format!("(?i)^(?:{names})$"))
}

/// A heading set in spaced letters ("D I S C S") as a word.
pub(super) fn unspaced(name: &str) -> Cow<'_, str> {
    match LETTER_SPACED.find(name) {
        Some(found) => (found.as_str().replace(' ', "") + name.get(found.end()..).unwrap_or("")).into(),
        None => name.into(),
    }
}

/// The bytes of list markers at the start of a line.
pub(super) fn bullet(line: &str) -> usize {
    BULLET.find(line).map_or(0, |found| found.end())
}

const LONGEST_NAME: usize = 80;

/// A heading at the start of a line.
struct Heading {
    kind: Kind,
    /// Where the text after it begins.
    end: usize,
    /// Whether the findings begin with it.
    findings: bool,
}

impl Heading {
    fn named(name: &str, end: usize) -> Self {
        let name = unspaced(name);
        let name = name.trim();
        let kind = if UNREAD.is_match(name) {
            Kind::Unread
        } else if ADDENDUM.is_match(name) {
            Kind::Addendum
        } else if PART.is_match(name) || !group::regions(name).is_empty() {
            Kind::Part
        } else if STRUCTURE.is_match(name) {
            Kind::Structure
        } else {
            Kind::Other
        };
        Self { kind, end, findings: FINDINGS.is_match(name) }
    }
}

/// The heading at the start of `line`, list markers already off.
fn heading(line: &str) -> Option<Heading> {
    if let Some(found) = COLON.captures(line)
        && let (Some(name), Some(all)) = (found.get(1), found.get(0))
        && name.as_str().split_whitespace().count() <= 6
        && group::groups(name.as_str()).is_empty()
        && group::rest(line).is_none()
        && mention::mentions(line.get(..all.end()).unwrap_or_default()).is_empty()
        && !is_count(line, all.end())
        && !SAYS.is_match(name.as_str())
    {
        let rest = line.get(all.end()..).unwrap_or_default().trim();
        let dash = all.as_str().trim_end().ends_with(['-', '\u{2013}']);
        let single = dash && !rest.is_empty() && !all.as_str().ends_with("  ");
        if STRUCTURE_LINE.is_match(rest) && rest.len() < LONGEST_NAME {
            // "STRUCTURE: neural foramina"
            return Some(Heading::named(rest, line.len()));
        }
        if !single || is_known(name.as_str()) {
            return Some(Heading::named(name.as_str(), all.end()));
        }
    }
    let bare = line.trim().trim_end_matches([':', '-', '.']).trim();
    let words = bare.split_whitespace().count();
    let spaced = LETTER_SPACED.find(bare).filter(|found| found.end() == bare.len());
    if bare.len() > LONGEST_NAME || !bare.starts_with(char::is_uppercase) {
        return unread_without_colon(line);
    }
    let longest = if STRUCTURE.is_match(bare) { 4 } else { 2 };
    let capitals = words <= longest
        && is_capitals(bare)
        && !bare.contains(|c: char| c.is_ascii_digit())
        && !bare.starts_with("NO ");
    if is_known(bare) || spaced.is_some() || (capitals && bare.len() <= 30 && group::groups(bare).is_empty()) {
        return Some(Heading::named(bare, line.len()));
    }
    if let Some(found) = LETTER_SPACED.find(line) {
        let rest = line.get(found.end()..).unwrap_or_default();
        let skipped = rest.len() - rest.trim_start_matches([' ', '-', ':']).len();
        return Some(Heading::named(found.as_str(), found.end() + skipped));
    }
    unread_without_colon(line)
}

/// Whether a colon stands between two digits ("10:30"), where it heads nothing.
fn is_count(line: &str, end: usize) -> bool {
    line.get(..end).is_some_and(|head| head.trim_end_matches(':').ends_with(|c: char| c.is_ascii_digit()))
}

/// "Clinical history right hip pain."
fn unread_without_colon(line: &str) -> Option<Heading> {
    let mut words = line.split_whitespace();
    let (first, second) = (words.next()?, words.next().unwrap_or_default());
    let clinical = first.eq_ignore_ascii_case("clinical")
        && ["history", "indication", "information", "notes", "details"].contains(&second.to_lowercase().as_str());
    let plain =
        ["INDICATION", "HISTORY", "TECHNIQUE", "COMPARISON", "Indication", "History", "Technique"].contains(&first);
    // "History of breast cancer. No metastasis." is one sentence of history within the findings
    if first == "History" && second == "of" && line.contains(". ") {
        return None;
    }
    (clinical || plain).then_some(Heading { kind: Kind::Unread, end: first.len(), findings: false })
}

fn is_known(name: &str) -> bool {
    UNREAD.is_match(name) || PART.is_match(name) || ADDENDUM.is_match(name) || STRUCTURE_LINE.is_match(name)
}

/// Whether a sentence is nothing but a structure's heading in capitals ("SPINAL CANAL.").
pub(super) fn is_structure(sentence: &str) -> bool {
    let name = sentence.trim().trim_end_matches('.');
    is_capitals(name) && name.len() < LONGEST_NAME && STRUCTURE_LINE.is_match(name) && PLACE.is_match(name)
}

/// The structure's heading at the start of a sentence ("Foramina: …") and where the text after it begins.
pub(super) fn structure(sentence: &str) -> Option<usize> {
    heading(sentence)
        .filter(|heading| heading.kind == Kind::Structure && heading.end < sentence.len())
        .map(|heading| heading.end)
}

fn is_capitals(text: &str) -> bool {
    text.chars().any(char::is_alphabetic) && !text.chars().any(char::is_lowercase)
}

/// Cuts a report into the lines that are read.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let pieces = pieces(text);
    let mut state = State::default();
    let mut out = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        state.piece(text, &pieces, index, piece, &mut out);
    }
    out
}

/// A logical line or a part of one; empty for a blank line.
struct Piece {
    range: Range<usize>,
    heading: Option<Heading>,
    cell: Option<table::Cell>,
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut out = Vec::new();
    let push = |out: &mut Vec<Piece>, range: Range<usize>| {
        let body = text.get(range.clone()).unwrap_or_default();
        let start = range.start + bullet(body);
        let heading = text.get(start..range.end).and_then(heading);
        out.push(Piece { range: start..range.end, heading, cell: None });
    };
    let lines = physical(text);
    let tables = table::cells(text, &lines);
    for physical in joined(text, &lines, &tables) {
        if let Some(cells) = tables.get(&physical.index) {
            out.extend(cells.iter().map(|cell| Piece {
                range: cell.range.clone(),
                heading: None,
                cell: Some(cell.clone()),
            }));
            continue;
        }
        let physical = physical.range;
        let line = text.get(physical.clone()).unwrap_or_default();
        let mut start = physical.start;
        let headings = line.contains(':').then(|| INLINE.captures_iter(line));
        for found in headings.into_iter().flatten() {
            let (Some(all), Some(name)) = (found.get(0), found.get(1)) else { continue };
            let sets_off = all.as_str().starts_with(['.', ';', ',']) && !ASIDE.is_match(name.as_str());
            if sets_off || is_capitals(name.as_str()) {
                push(&mut out, start..physical.start + name.start());
                start = physical.start + name.start();
            }
        }
        push(&mut out, start..physical.end);
    }
    out
}

#[derive(Default)]
struct State {
    unread: bool,
    /// Whether anything followed the unread heading yet.
    content: bool,
    leads: Vec<Range<usize>>,
    /// The structure that stood on a line of its own, for the headings below that lean on it.
    block: Option<Range<usize>>,
    /// Whether the line of the heading names levels: the lines below it then go on with its list.
    list: bool,
    opens: Option<Kind>,
    paragraph: bool,
    addendum: bool,
}

impl State {
    fn piece(&mut self, text: &str, pieces: &[Piece], index: usize, piece: &Piece, out: &mut Vec<Line>) {
        let body = text.get(piece.range.clone()).unwrap_or_default();
        let mut start = piece.range.start;
        if body.trim().is_empty() {
            self.paragraph = true;
            if self.content && !self.addendum {
                self.leads.clear();
                self.block = None;
            }
            if self.unread && self.content {
                self.read_again();
            }
            return;
        }
        if let Some(cell) = &piece.cell {
            out.push(Line {
                range: piece.range.clone(),
                leads: vec![cell.structure.clone()],
                opens: self.opens.take(),
                paragraph: std::mem::take(&mut self.paragraph),
                level: Some(cell.level.clone()),
            });
            return;
        }
        if let Some(heading) = &piece.heading {
            start += heading.end;
            self.unread = heading.kind == Kind::Unread;
            if let Some(title) = EXAM.find(body).filter(|title| title.end() < body.len())
                && self.unread
                && !parts_follow(pieces, index)
            {
                // "EXAM: MRI of the cervical spine. There is …": the findings have no heading of their own.
                start = piece.range.start + title.end();
                self.unread = false;
            }
            self.content = false;
            self.opens = Some(heading.kind);
            let name = piece.range.start..start;
            self.open(text, heading.kind, name, start >= piece.range.end);
        } else if self.unread && self.content && (heads_level(body) || !leads_to_findings(text, pieces, index)) {
            self.read_again();
        }
        if piece.heading.is_none() && self.block.is_none() && !self.list && !self.addendum {
            self.leads.clear();
        }
        let rest = text.get(start..piece.range.end).unwrap_or_default();
        if rest.trim().is_empty() {
            return;
        }
        self.content = true;
        if piece.heading.is_some() {
            self.list = mention::mentions(rest).iter().any(|mention| mention.levels.is_some());
        }
        if !self.unread {
            out.push(Line {
                range: start..piece.range.end,
                leads: self.leads.clone(),
                opens: self.opens.take(),
                paragraph: std::mem::take(&mut self.paragraph),
                level: None,
            });
        }
    }

    fn read_again(&mut self) {
        (self.unread, self.opens) = (false, Some(Kind::Part));
        self.leads.clear();
    }

    /// Takes up the heading `name`; `alone` when nothing else stands on its line.
    fn open(&mut self, text: &str, kind: Kind, name: Range<usize>, alone: bool) {
        let words = text.get(name.clone()).unwrap_or_default();
        self.addendum = kind == Kind::Addendum || (self.addendum && kind == Kind::Structure);
        let leans = match kind {
            Kind::Structure => !PLACE.is_match(words),
            Kind::Part => words.split_whitespace().count() <= 2 && !group::regions(words).is_empty(),
            _ => false,
        };
        match (&self.block, kind) {
            (Some(block), Kind::Structure) if leans => self.leads = vec![block.clone(), name],
            (Some(block), Kind::Part) if leans => self.leads = vec![block.clone()],
            (_, Kind::Structure) => {
                self.block = alone.then(|| name.clone());
                self.leads = vec![name];
            }
            (_, Kind::Addendum) => (self.leads, self.block) = (vec![name], None),
            (_, Kind::Other) if !LEVEL_NAME.is_match(words.trim_end_matches([' ', ':'])) => {
                (self.leads, self.block) = (vec![name], None);
            }
            _ => (self.leads, self.block) = (Vec::new(), None),
        }
    }
}

/// Whether the heading of the findings, or of another unread section, comes after the piece of this number.
fn parts_follow(pieces: &[Piece], index: usize) -> bool {
    let mut headings = pieces.iter().skip(index + 1).filter_map(|piece| piece.heading.as_ref());
    headings.any(|heading| heading.findings || heading.kind == Kind::Unread)
}

/// Whether the lines from `index` on, up to the next blank one, run into the findings or another unread section, so that they
/// still belong to the unread one.
fn leads_to_findings(text: &str, pieces: &[Piece], index: usize) -> bool {
    const LOOK_AHEAD: usize = 12;
    for piece in pieces.iter().skip(index).take(LOOK_AHEAD) {
        if let Some(heading) = &piece.heading {
            return heading.findings || heading.kind == Kind::Unread;
        }
        let body = text.get(piece.range.clone()).unwrap_or_default();
        if heads_level(body) {
            return false;
        }
    }
    false
}

/// Whether a line begins with a level and a colon, or is nothing but levels.
fn heads_level(line: &str) -> bool {
    const LONGEST: usize = 60;
    let line = line.trim();
    if line.len() < LONGEST
        && matches!(mention::mentions(line).as_slice(), [one] if one.levels.is_some() && one.range == (0..line.len()))
    {
        return true;
    }
    line.find(':').and_then(|colon| line.get(..colon)).is_some_and(|head| {
        head.len() < LONGEST
            && mention::mentions(head).first().is_some_and(|m| m.levels.is_some() && m.range.start == 0)
    })
}

/// Whether a line begins a statement of its own about a level ("At L3-4, there is").
fn opens_level(line: &str) -> bool {
    let rest = ["At the ", "At "].iter().find_map(|at| line.strip_prefix(at));
    rest.is_some_and(|rest| mention::mentions(rest).first().is_some_and(|m| m.levels.is_some() && m.range.start == 0))
}

/// The lines of a text without their ends; a blank line is an empty one.
fn physical(text: &str) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for part in text.split_inclusive(['\n', '\r']) {
        // the second half of "\r\n" is no line of its own
        if !(part == "\n" && text.get(..start).is_some_and(|before| before.ends_with('\r'))) {
            let mut from = 0;
            for found in COMMA_LINE.find_iter(part) {
                // The character before the comma belongs to the line that ends, the one after it to the next.
                let comma = found.start() + 1;
                lines.push(start + from..start + comma);
                from = comma + 1;
            }
            lines.push(start + from..start + from.max(part.trim_end().len()));
        }
        start += part.len();
    }
    lines
}

/// A line with hard wraps undone, and the number of its first physical line.
struct Joined {
    range: Range<usize>,
    index: usize,
}

fn joined(text: &str, lines: &[Range<usize>], tables: &BTreeMap<usize, Vec<table::Cell>>) -> Vec<Joined> {
    let width = lines.iter().map(|line| line.len()).filter(|len| *len <= 130).max().unwrap_or(0);
    let full = lines.iter().filter(|line| line.len() + 15 > width).count();
    let wrapped = width >= 50 && full >= 3 && lines.iter().filter(|line| line.len() > 130).count() < 3;
    let mut out: Vec<Joined> = Vec::new();
    let mut last = 0..0;
    for (index, line) in lines.iter().enumerate() {
        let this = text.get(line.clone()).unwrap_or_default();
        let before = text.get(last.clone()).unwrap_or_default();
        let alone = tables.contains_key(&index) || index.checked_sub(1).is_some_and(|last| tables.contains_key(&last));
        match out.last_mut() {
            Some(open) if !alone && continues(before, this, wrapped.then_some(width)) => open.range.end = line.end,
            _ => out.push(Joined { range: line.clone(), index }),
        }
        last = line.clone();
    }
    out
}

/// Whether the line `this` goes on with the sentence of the line `before`.
fn continues(before: &str, this: &str, width: Option<usize>) -> bool {
    let body = this.trim_start();
    let Some(first) = body.chars().next() else { return false };
    let Some(end) = before.trim_end().chars().next_back() else { return false };
    if bullet(body) > 0 || heading(body).is_some() {
        return false;
    }
    let indent = |line: &str| line.len() - line.trim_start().len();
    let hanging = indent(this) >= indent(before) + 6;
    let word = body.split_whitespace().next().map_or(0, str::len);
    let filled = width.is_some_and(|width| before.len() + 1 + word > width);
    let open = matches!(end, ':' | ';') && filled && first.is_lowercase();
    if matches!(end, '.' | ';' | '?' | '!' | ':') && !hanging && !open {
        return false;
    }
    if matches!(end, ',' | '&' | '/') || before.trim_end().ends_with(" and") || hanging {
        return !(end == ',' && opens_level(body));
    }
    (filled && !heads_level(body)) || (first.is_lowercase() && before.len() >= 60)
}
