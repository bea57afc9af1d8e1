//! HL7 v2: bytes to messages, messages to reports.
//!
//! [`split`] finds the messages of an input, whatever they are framed in; [`read`] reads one of them to its [`Study`]s; [`field`]
//! reads any one field. What cannot be read is a [`Reject`]: it says what, where and what to do, and holds no content. Rules and
//! reject codes are described in `docs/hl7.md`.
//!
//! Fields with parts are parsed by `hl7-parser`; framing, character sets, segments, escapes and what a report is are here.

mod cda;
mod charset;
mod document;
mod escape;
mod frame;
mod markup;
mod path;
mod phi;
mod pieces;
mod reject;
mod segments;
mod status;
mod study;
mod text;
mod time;

use std::borrow::Cow;
use std::fmt;

use chrono::{FixedOffset, Offset};
use encoding_rs::Encoding;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

pub use charset::{Fallback, encoding};
pub use frame::{Frame, Split, Warning, split};
pub use path::{Path, PathError};
pub use phi::Phi;
pub use pieces::{Piece, PieceReader};
pub use reject::{Code, Position, Reject, Stage};
pub use status::{Meaning, Status, StatusTable};
pub use study::Study;

use escape::Escapes;
use segments::Parsed;

/// How messages are read. Every key has a default; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The character set of every message, whatever MSH-18 says; a byte order mark and the layout of UTF-16 still win.
    #[serde(deserialize_with = "charset_by_name")]
    pub charset: Option<&'static Encoding>,
    /// Larger messages are rejected as `too-large`.
    pub max_message_bytes: usize,
    /// Where a report's identifier is looked for, in this order.
    pub report_id: Vec<Path>,
    /// The offset of times that state none and have none in MSH-7: `UTC`, `+01:00`.
    #[serde(deserialize_with = "offset_by_name")]
    pub zone: FixedOffset,
    /// A site's own readings of status codes.
    pub status: StatusTable,
}

impl Default for Options {
    fn default() -> Self {
        let field = |segment: &str, field| Path {
            segment: segment.to_owned(),
            index: 1,
            field,
            repetition: None,
            component: Some(1),
            subcomponent: None,
        };
        Self {
            charset: None,
            max_message_bytes: 64 * 1024 * 1024,
            report_id: vec![
                field("OBR", 3),
                field("OBR", 2),
                field("ORC", 3),
                field("ORC", 2),
                field("TXA", 12),
                Path { component: None, ..field("MSH", 10) },
            ],
            zone: chrono::Utc.fix(),
            status: StatusTable::default(),
        }
    }
}

fn charset_by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'static Encoding>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = encoding(&name)
        .ok_or_else(|| D::Error::custom(format!("`{name}` is no character set; try UTF-8, 8859/1 or windows-1252")));
    known.map(Some)
}

fn offset_by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FixedOffset, D::Error> {
    let name = String::deserialize(deserializer)?;
    time::parse_offset(&name)
        .ok_or_else(|| D::Error::custom(format!("`{name}` is no offset; write UTC, +01:00 or -0500")))
}

/// Message type and trigger event (MSH-9).
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// `ORU`; empty where MSH-9 is.
    pub message: String,
    /// `R01`; empty where MSH-9 has none.
    pub trigger: String,
}

impl Kind {
    /// Whether such a message carries a report, or takes one back.
    pub fn is_report(&self) -> bool {
        match self.message.as_str() {
            "ORU" => matches!(self.trigger.as_str(), "" | "R01" | "R30" | "R31" | "R32" | "R40"),
            "MDM" => matches!(self.trigger.as_str(), "" | "T02" | "T04" | "T06" | "T08" | "T10" | "T11"),
            _ => false,
        }
    }
}

/// `ORU^R01`; `unknown type` where MSH-9 does not look like one, since a field that got there by mistake is not to be shown.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = |text: &str| text.len() <= 3 && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let event = self.trigger.is_empty() || self.trigger.bytes().any(|b| b.is_ascii_digit());
        match !self.message.is_empty() && code(&self.message) && code(&self.trigger) && event {
            true => write!(f, "{}^{}", self.message, self.trigger),
            false => f.write_str("unknown type"),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What was read from one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// MSH-10.
    pub control_id: Option<String>,
    /// MSH-9.
    pub kind: Kind,
    /// Whether the message is of a type that carries reports. Where it is not, there are no studies, and nothing is wrong.
    pub is_report: bool,
    /// The reports, in order. None in a message of another type, nor where every order says that there is nothing to read yet.
    pub studies: Vec<Study>,
    /// What was odd but lost nothing.
    pub notices: Notices,
}

/// Oddities of a message, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notices {
    /// The character set is not simply the declared one.
    pub charset: Option<Fallback>,
    /// Times that are none, read as absent.
    pub bad_times: usize,
    /// Status codes that are not known, read as preliminary.
    pub unknown_statuses: usize,
    /// Documents that are not text (PDF, images, pointers): not read.
    pub attachments: usize,
    /// Lines within a field, which should have been escaped.
    pub continued_lines: usize,
    /// Orders that have no result yet, or were not asked for.
    pub without_result: usize,
}

/// Reads the first message of `message`.
///
/// # Errors
/// A [`Reject`] where it cannot be read, or is a report without text.
pub fn read(message: &[u8], options: &Options) -> Result<Message, Reject> {
    with_message(message, options, |opened| study::read(opened, options))
}

/// The value at an HL7 path (`OBX-5`, `PID-3.1`, `OBX[2]-5.1`, `PID-3[2].1`), decoded; `None` where it is absent or empty.
///
/// ```
/// use foramen::hl7::{Options, field};
///
/// let message = b"MSH|^~\\&|RIS\rOBX|1|TX|||disc \\T\\ cord";
/// assert_eq!(field(message, "OBX-5", &Options::default())?, Some("disc & cord".to_owned()));
/// # Ok::<(), foramen::hl7::FieldError>(())
/// ```
///
/// # Errors
/// Where `path` is no path, or the message cannot be read.
pub fn field(message: &[u8], path: &str, options: &Options) -> Result<Option<String>, FieldError> {
    let path: Path = path.parse()?;
    Ok(with_message(message, options, |opened| {
        if path.segment == "MSH" && path.index == 1 && path.field <= 2 {
            let lines = opened.lines;
            let value =
                if path.field == 1 { lines.separators.field.to_string() } else { lines.encoding_characters.to_owned() };
            return Ok(Some(value));
        }
        let found = opened.lines.lines.iter().find(|line| line.number == path.index && line.is(&path.segment));
        let Some(line) = found else { return Ok(None) };
        Ok(Parsed::new(line, opened.lines.separators).resolve(&path, &opened.escapes))
    })?)
}

/// Why [`field`] has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The path is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The message cannot be read.
    #[error(transparent)]
    Message(#[from] Reject),
}

/// A message that was decoded and cut into segments.
struct Opened<'a> {
    lines: &'a segments::Lines<'a>,
    escapes: Escapes,
    header: Parsed<'a>,
    control_id: Option<String>,
    /// Whether offsets in the decoded text are those in the bytes.
    same_offsets: bool,
    notices: Notices,
}

fn with_message<T>(
    bytes: &[u8],
    options: &Options,
    then: impl FnOnce(Opened<'_>) -> Result<T, Reject>,
) -> Result<T, Reject> {
    let frame = split(bytes, options).next();
    let frame = frame.ok_or_else(|| Reject::at_byte(Code::NoMsh, Stage::Frame, 0))?;
    if let Some(reject) = frame.reject {
        return Err(reject);
    }
    let decoded = charset::decode(frame.bytes, options.charset);
    let lines = segments::lines(&decoded.text)?;
    let escapes = Escapes { separators: lines.separators, encoding: decoded.encoding };
    let first = lines.lines.first().ok_or_else(|| Reject::at_byte(Code::NoMsh, Stage::Parse, 0))?;
    let header = Parsed::new(first, lines.separators);
    let control_id = control_id(&header, &escapes);
    let notices = Notices { charset: decoded.fallback, continued_lines: lines.continued, ..Notices::default() };
    let same_offsets = matches!(decoded.text, Cow::Borrowed(text) if text.len() == frame.bytes.len());
    let opened = Opened { lines: &lines, escapes, header, control_id: control_id.clone(), same_offsets, notices };
    let result = if decoded.broken { Err(Reject::at_byte(Code::BadEncoding, Stage::Decode, 0)) } else { then(opened) };
    result.map_err(|reject| Reject { control_id, ..reject })
}

fn control_id(header: &Parsed<'_>, escapes: &Escapes) -> Option<String> {
    let id = escapes.decoded(header.raw(10));
    let id = id.trim();
    (!id.is_empty() && id != "\"\"").then(|| id.to_owned())
}

/// MSH-10 of a message that is refused before it is read.
fn peek_control_id(message: &[u8]) -> Option<String> {
    // A header is never longer, and the message may be huge.
    let decoded = charset::decode(message.get(..4096).unwrap_or(message), None);
    let lines = segments::lines(&decoded.text).ok()?;
    let header = Parsed::new(lines.lines.first()?, lines.separators);
    control_id(&header, &Escapes { separators: lines.separators, encoding: decoded.encoding })
}

#[cfg(test)]
mod tests;
