//! Tables of levels and structures set with spaces, tabs or bars.

use super::mention;
use regex::Regex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

/// One field of a table: what it says, of which structure and of which level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    /// Bytes of the text, as are all three.
    pub(super) range: Range<usize>,
    pub(super) structure: Range<usize>,
    pub(super) level: Range<usize>,
}

/// What a table's header does not say.
static GRADE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:mild|mod|moderate|sev|severe|normal|none|patent|bulges?|protrusion|wnl|free|no)\b")
        .expect("a fixed pattern")
});

/// The cells of every table row among `lines`, by line; a table's header has none.
pub(super) fn cells(text: &str, lines: &[Range<usize>]) -> BTreeMap<usize, Vec<Cell>> {
    let mut out = BTreeMap::new();
    let mut header: Option<Header> = None;
    let mut gap = 0;
    for (index, line) in lines.iter().enumerate() {
        let fields = fields(text, line.clone());
        if fields.iter().all(|field| !is_filled(text, field)) {
            // a rule or a blank line may stand between the header and the first row
            gap += 1;
            if header.as_ref().is_some_and(|header| header.used || gap > 2)
                && text.get(line.clone()).is_some_and(|line| line.trim().is_empty())
            {
                header = None;
            }
            continue;
        }
        gap = 0;
        if let Some(row) = header.as_ref().and_then(|header| header.row(text, &fields)) {
            if let Some(header) = &mut header
                && !std::mem::replace(&mut header.used, true)
            {
                out.insert(header.line, Vec::new());
            }
            out.insert(index, row);
        } else {
            header = Header::read(text, index, fields);
        }
    }
    out
}

struct Header {
    line: usize,
    fields: Vec<Range<usize>>,
    /// Whether its fields are levels and the rows are structures; the other way round otherwise.
    levels: bool,
    used: bool,
}

impl Header {
    fn read(text: &str, line: usize, fields: Vec<Range<usize>>) -> Option<Self> {
        const LONGEST: usize = 32;
        if fields.len() < 2 || fields.iter().any(|field| field.len() > LONGEST) {
            return None;
        }
        let graded = fields.iter().any(|field| text.get(field.clone()).is_some_and(|field| GRADE.is_match(field)));
        if graded {
            return None;
        }
        let named = fields.iter().filter(|field| is_level(text, field)).count();
        let levels = named >= 2 && fields.iter().skip(1).all(|field| is_level(text, field));
        (levels || named == 0).then_some(Self { line, fields, levels, used: false })
    }

    /// The cells of a row that fits this header.
    fn row(&self, text: &str, fields: &[Range<usize>]) -> Option<Vec<Cell>> {
        let (name, rest) = fields.split_first()?;
        let corner = !(self.levels && self.fields.first().is_some_and(|field| is_level(text, field)));
        let titles = match self.fields.len().checked_sub(rest.len())? {
            0 => &self.fields,
            1 if corner => self.fields.get(1..)?,
            _ => return None,
        };
        if is_level(text, name) == self.levels || rest.is_empty() {
            return None;
        }
        let cells = rest.iter().zip(titles).map(|(cell, title)| {
            let (structure, level) = if self.levels { (name, title) } else { (title, name) };
            Cell { range: cell.clone(), structure: structure.clone(), level: level.clone() }
        });
        Some(cells.collect())
    }
}

/// A line's fields: between bars or semicolons, else between tabs and runs of two spaces or more.
fn fields(text: &str, line: Range<usize>) -> Vec<Range<usize>> {
    let body = text.get(line.clone()).unwrap_or_default();
    let bar = if body.contains('|') { Some('|') } else { (body.matches(';').count() >= 2).then_some(';') };
    if bar.is_none() && !body.contains('\t') && !body.contains("  ") {
        // Most lines are one field.
        let start = line.start + body.len() - body.trim_start().len();
        return (!body.trim().is_empty()).then(|| start..start + body.trim().len()).into_iter().collect();
    }
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut start: Option<usize> = None;
    let mut end = 0;
    let mut spaces = 0;
    for (at, c) in body.char_indices() {
        let breaks = match bar {
            Some(bar) => c == bar,
            None => c == '\t' || (c == ' ' && spaces > 0),
        };
        if breaks && let Some(open) = start.take() {
            out.push(line.start + open..line.start + end);
        }
        spaces = if c.is_whitespace() { spaces + 1 } else { 0 };
        if !c.is_whitespace() && !breaks {
            start.get_or_insert(at);
            end = at + c.len_utf8();
        }
    }
    if let Some(open) = start {
        out.push(line.start + open..line.start + end);
    }
    out
}

fn is_filled(text: &str, field: &Range<usize>) -> bool {
    text.get(field.clone()).is_some_and(|field| field.chars().any(char::is_alphanumeric))
}

fn is_level(text: &str, field: &Range<usize>) -> bool {
    let field = text.get(field.clone()).unwrap_or_default().trim_end_matches(':');
    field.len() <= 20
        && matches!(mention::mentions(field).as_slice(), [one] if one.levels.is_some() && one.range == (0..field.len()))
}
