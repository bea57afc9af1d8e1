//! Decoded text to segments and fields, on `hl7-parser`.
//!
//! `hl7-parser` reads a field with any separators of one character each, but a whole message only with five ASCII ones and strict
//! line ends; so messages are cut into segments and fields here, and a field is parsed there when its parts are asked for. A whole
//! message parsed to its sub-components would be many times its size, and takes eight times as long.

use std::borrow::Cow;

use hl7_parser::message::{Field, Separators};
use hl7_parser::parser::parse_field_with_separators;

use super::escape::{Escapes, NONE};
use super::path::Path;
use super::reject::{Code, Reject, Stage};

/// The segments of a message as text, not parsed yet.
pub(super) struct Lines<'a> {
    pub(super) separators: Separators,
    /// MSH-2 as written.
    pub(super) encoding_characters: &'a str,
    pub(super) lines: Vec<Line<'a>>,
    /// Lines that continue the segment before them.
    pub(super) continued: usize,
}

/// One segment as text.
pub(super) struct Line<'a> {
    pub(super) text: Cow<'a, str>,
    /// Of those of its name, from 1.
    pub(super) number: usize,
    /// Offset in the decoded message.
    pub(super) offset: usize,
}

impl Line<'_> {
    /// The segment's name as written.
    pub(super) fn name(&self) -> &str {
        self.text.get(..3).unwrap_or_default()
    }

    /// Whether it is a segment of that name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }
}

/// Cuts a decoded message into its segments.
pub(super) fn lines(text: &str) -> Result<Lines<'_>, Reject> {
    let bad = || Reject::at_field(Code::BadSeparators, Stage::Parse, ("MSH", 1), Some(2));
    let start = text.find("MSH").unwrap_or(0);
    let body = text.get(start..).unwrap_or_default();
    let after = body.strip_prefix("MSH").ok_or_else(|| Reject::at_byte(Code::NoMsh, Stage::Parse, start))?;
    let header = after.split(['\r', '\n']).next().unwrap_or_default();
    let (separators, encoding_characters) = separators(header).ok_or_else(bad)?;

    let mut lines: Vec<Line<'_>> = Vec::new();
    // A message has few names.
    let mut numbers: Vec<([u8; 3], usize)> = Vec::new();
    let (mut continued, mut blank) = (0, 0);
    let mut offset = start;
    for raw in body.split_inclusive(['\r', '\n']) {
        let line = raw.strip_suffix(['\r', '\n']).unwrap_or(raw);
        if line.is_empty() {
            // Also between the two characters of `\r\n`; an empty line counts only within a text that goes on after it.
            blank += usize::from(!raw.ends_with('\n') || text.as_bytes().get(offset.wrapping_sub(1)) != Some(&b'\r'));
        } else if is_segment(line, separators.field) {
            blank = 0;
            let text =
                if line.len() == 3 { Cow::Owned(format!("{line}{}", separators.field)) } else { Cow::Borrowed(line) };
            let number = next_number(&mut numbers, &text);
            lines.push(Line { text, number, offset });
        } else if let Some(last) = lines.last_mut().filter(|_| !line.trim_matches(is_dropped).is_empty()) {
            // A line end within a field, which should have been `\.br\`.
            continued += 1;
            let text = last.text.to_mut();
            text.extend(std::iter::repeat_n('\n', blank + 1));
            text.push_str(line);
            blank = 0;
        }
        offset += raw.len();
    }
    Ok(Lines { separators, encoding_characters, lines, continued })
}

/// Which one of its name a segment is, from 1.
fn next_number(numbers: &mut Vec<([u8; 3], usize)>, segment: &str) -> usize {
    let name = segment.as_bytes().first_chunk::<3>().copied().unwrap_or_default().map(|byte| byte.to_ascii_uppercase());
    match numbers.iter_mut().find(|(known, _)| *known == name) {
        Some((_, number)) => {
            *number += 1;
            *number
        }
        None => {
            numbers.push((name, 1));
            1
        }
    }
}

fn is_dropped(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

fn is_segment(line: &str, field: char) -> bool {
    let Some((name, rest)) = line.split_at_checked(3) else { return false };
    // A name alone is a segment without fields, if it looks like one: `two` is the end of a wrapped text.
    name.bytes().all(|b| b.is_ascii_alphanumeric())
        && (rest.starts_with(field) || (rest.is_empty() && name.bytes().all(|b| !b.is_ascii_lowercase())))
}

/// MSH-1 and MSH-2 from what follows `MSH`: the separators, and MSH-2 as written.
fn separators(header: &str) -> Option<(Separators, &str)> {
    let mut chars = header.chars();
    let field = chars.next()?;
    let written = chars.as_str().split(field).next()?;
    let marks: Vec<char> = written.chars().collect();
    let (component, repetition) = (*marks.first()?, *marks.get(1)?);
    // `^~&`: the escape character got lost on its way through a program's string literal.
    let (escape, subcomponent) = match marks.get(2..) {
        Some(['&']) => (None, Some('&')),
        Some([escape]) => (Some(*escape), None),
        Some([escape, subcomponent, ..]) => (Some(*escape), Some(*subcomponent)),
        _ => (None, None),
    };
    let taken = [Some(field), Some(component), Some(repetition), escape, subcomponent];
    let default = |c: char| if taken.contains(&Some(c)) { NONE } else { c };
    let separators = Separators {
        field,
        component,
        repetition,
        escape: escape.unwrap_or_else(|| default('\\')),
        subcomponent: subcomponent.unwrap_or_else(|| default('&')),
        lenient_newlines: false,
    };
    let given: Vec<char> = taken.into_iter().flatten().collect();
    let printable = |c: &char| !c.is_control() && !c.is_whitespace() && *c != char::REPLACEMENT_CHARACTER;
    let distinct = given.iter().enumerate().all(|(i, c)| !given.iter().take(i).any(|other| other == c));
    (!field.is_alphanumeric() && given.iter().all(printable) && distinct).then_some((separators, written))
}

/// A segment cut into its fields.
pub(super) struct Parsed<'a> {
    text: &'a str,
    /// Where each field ends in `text`, the segment's name first.
    ends: Vec<usize>,
    separators: Separators,
    /// Field numbers of MSH are one ahead of what was cut: MSH-1 is the separator itself.
    shift: usize,
}

impl<'a> Parsed<'a> {
    /// Cuts one segment.
    pub(super) fn new(line: &'a Line<'_>, separators: Separators) -> Self {
        let text: &str = &line.text;
        let mut ends = Vec::with_capacity(32);
        ends.extend(text.match_indices(separators.field).map(|(at, _)| at));
        ends.push(text.len());
        Self { text, ends, separators, shift: usize::from(line.is("MSH")) }
    }

    /// How many fields there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len() - 1 + self.shift
    }

    /// A field as written, by its number in the standard.
    pub(super) fn raw(&self, number: usize) -> &'a str {
        let end = number.checked_sub(self.shift).and_then(|at| self.ends.get(at));
        let range = self.start(number).zip(end).map(|(start, end)| start..*end);
        range.and_then(|range| self.text.get(range)).unwrap_or_default()
    }

    /// Where a field begins in the segment.
    pub(super) fn start(&self, number: usize) -> Option<usize> {
        let before = self.ends.get(number.checked_sub(1 + self.shift)?)?;
        // Not the end of the last one.
        (*before < self.text.len()).then(|| before + self.separators.field.len_utf8())
    }

    /// A field parsed to its repetitions, components and sub-components.
    pub(super) fn field(&self, number: usize) -> Option<Field<'a>> {
        self.start(number)?;
        parse_field_with_separators(self.raw(number), self.separators).ok()
    }

    /// A component of the field's first repetition, as written.
    pub(super) fn component(&self, field: usize, component: usize) -> &'a str {
        let Separators { repetition, component: separator, .. } = self.separators;
        let first = self.raw(field).split(repetition).next().unwrap_or_default();
        component.checked_sub(1).and_then(|at| first.split(separator).nth(at)).unwrap_or_default()
    }

    /// Everything from a field to the end of the segment, as written.
    pub(super) fn tail(&self, number: usize) -> &'a str {
        self.start(number).and_then(|start| self.text.get(start..)).unwrap_or_default()
    }

    /// What a path names in this segment, decoded; `None` where it is absent or empty.
    pub(super) fn resolve(&self, path: &Path, escapes: &Escapes) -> Option<String> {
        let field = self.field(path.field)?;
        let raw = match (path.repetition, path.component) {
            (None, None) => self.raw(path.field),
            (repetition, None) => field.repeats.get(repetition.unwrap_or(1).checked_sub(1)?)?.raw_value(),
            (repetition, Some(component)) => {
                let repeat = field.repeats.get(repetition.unwrap_or(1).checked_sub(1)?)?;
                let component = repeat.components.get(component.checked_sub(1)?)?;
                match path.subcomponent {
                    None => component.raw_value(),
                    Some(part) => component.subcomponents.get(part.checked_sub(1)?)?.value,
                }
            }
        };
        Some(escapes.decoded(raw).into_owned()).filter(|text| !text.is_empty())
    }
}

/// A component of one of a field's repetitions, as written.
pub(super) fn part<'a>(field: &Field<'a>, repetition: usize, component: usize) -> &'a str {
    let repeat = repetition.checked_sub(1).and_then(|at| field.repeats.get(at));
    let component = component.checked_sub(1).and_then(|at| repeat?.components.get(at));
    component.map_or("", |component| component.raw_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Vec<String>)> {
        let lines = lines(text).unwrap();
        lines
            .lines
            .iter()
            .map(|line| {
                let s = Parsed::new(line, lines.separators);
                let fields = (1..=s.len()).map(|n| s.raw(n).to_owned()).collect();
                (line.name().to_owned(), fields)
            })
            .collect()
    }

    fn owned(name: &str, fields: &[&str]) -> (String, Vec<String>) {
        (name.to_owned(), fields.iter().map(|f| (*f).to_owned()).collect())
    }

    #[test]
    fn line_ends_of_every_kind() {
        for end in ["\r", "\n", "\r\n", "\r\r\n", "\n\n"] {
            let text = ["MSH|^~\\&|A", "PID|1", "ZDS", "OBX||TX"].join(end) + end;
            let expected = [
                owned("MSH", &["", "^~\\&", "A"]),
                owned("PID", &["1"]),
                owned("ZDS", &[""]),
                owned("OBX", &["", "TX"]),
            ];
            assert_eq!(read(&text), expected, "{end:?}");
        }
    }

    #[test]
    fn a_line_that_is_no_segment_continues_the_one_before() {
        let text = "MSH|^~\\&|A\rOBX|1|TX|||one\ntwo\r\n\r\nthree||||||F\rPID|1\n";
        let lines = lines(text).unwrap();
        assert_eq!(lines.continued, 2);
        let parsed = Parsed::new(&lines.lines[1], lines.separators);
        assert_eq!(parsed.raw(5), "one\ntwo\n\nthree");
        assert_eq!(parsed.raw(11), "F");
    }

    #[test]
    fn separators_of_every_kind() {
        for (header, expected) in [
            ("|^~\\&|x", Some("|^~\\&")),
            ("|^~\\&#|x", Some("|^~\\&")),
            ("|^~|x", Some("|^~\\&")),
            ("|^~&|x", Some("|^~\\&")),
            ("|^~!|x", Some("|^~!&")),
            ("@~&#\\@x", Some("@~&#\\")),
            ("#!@%*#x", Some("#!@%*")),
            ("|^\u{2DC}\\&|x", Some("|^\u{2DC}\\&")),
            ("§^~\\&§x", Some("§^~\\&")),
            ("|&~|x", Some("|&~\\\u{FFFF}")),
            ("|^|x", None),
            ("|", None),
            ("", None),
            ("|^~\\\\&|x", None),
            ("|^^\\&|x", None),
            ("|^ \\&|x", None),
            ("A^~\\&Ax", None),
        ] {
            let found = separators(header).map(|(s, _)| s.to_string());
            assert_eq!(found.as_deref(), expected, "{header}");
        }
    }

    #[test]
    fn paths_are_resolved_and_decoded() {
        let text = "MSH|^~\\&|A^B\rPID|1||12^^^H&1.2&ISO^MR~34^^^^PI\rOBX|1|TX|c||a\\T\\b~c^d";
        let lines = lines(text).unwrap();
        let escapes = Escapes { separators: lines.separators, encoding: encoding_rs::UTF_8 };
        let get = |path: &str| {
            let path: Path = path.parse().unwrap();
            let line = lines.lines.iter().find(|line| line.is(&path.segment))?;
            Parsed::new(line, lines.separators).resolve(&path, &escapes)
        };
        assert_eq!(get("MSH-3.2").as_deref(), Some("B"));
        assert_eq!(get("PID-3.1").as_deref(), Some("12"));
        assert_eq!(get("PID-3[2].1").as_deref(), Some("34"));
        assert_eq!(get("PID-3[2]").as_deref(), Some("34^^^^PI"));
        assert_eq!(get("PID-3.4.2").as_deref(), Some("1.2"));
        assert_eq!(get("OBX-5").as_deref(), Some("a&b~c^d"));
        assert_eq!(get("OBX-4"), None);
        assert_eq!(get("OBX-50.1"), None);
    }
}
