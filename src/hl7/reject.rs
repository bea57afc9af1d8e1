//! Why a message, or a part of an input, could not be read. A reject never holds content of the message.

use std::fmt;

/// What was wrong. The names ([`Code::name`]) are stable: dead letters and reject files are searched by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// No message header where one was expected.
    NoMsh,
    /// MSH-1 and MSH-2 do not give usable separators.
    BadSeparators,
    /// The message is larger than the limit.
    TooLarge,
    /// The message stops before its end.
    Truncated,
    /// The bytes are laid out as UTF-16 and are not valid UTF-16.
    BadEncoding,
    /// An embedded document is not valid base64.
    BadBase64,
    /// An embedded XML document is not well-formed.
    BadDocument,
    /// A report message without any narrative.
    NoText,
    /// A report without any identifier.
    NoId,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 9] = [
        Code::NoMsh,
        Code::BadSeparators,
        Code::TooLarge,
        Code::Truncated,
        Code::BadEncoding,
        Code::BadBase64,
        Code::BadDocument,
        Code::NoText,
        Code::NoId,
    ];

    /// The stable kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            Code::NoMsh => "no-msh",
            Code::BadSeparators => "bad-separators",
            Code::TooLarge => "too-large",
            Code::Truncated => "truncated",
            Code::BadEncoding => "bad-encoding",
            Code::BadBase64 => "bad-base64",
            Code::BadDocument => "bad-document",
            Code::NoText => "no-text",
            Code::NoId => "no-id",
        }
    }

    /// What is wrong.
    pub fn meaning(self) -> &'static str {
        self.advice().0
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        self.advice().1
    }

    fn advice(self) -> (&'static str, &'static str) {
        match self {
            Code::NoMsh => (
                "no message header: an HL7 v2 message begins with MSH at the start of a line",
                "check the input's format",
            ),
            Code::BadSeparators => (
                "MSH-1 and MSH-2 must give a field, a component and a repetition separator, all different",
                "ask the sender to correct them",
            ),
            Code::TooLarge => {
                ("the message is larger than `max_message_bytes`", "raise that limit if such messages are expected")
            }
            Code::Truncated => ("the message stops before its end", "have it sent again"),
            Code::BadEncoding => {
                ("the bytes are laid out as UTF-16 but are not valid UTF-16", "ask the sender for UTF-8")
            }
            Code::BadBase64 => {
                ("the embedded document is not valid base64, so a part of it is missing", "have the message sent again")
            }
            Code::BadDocument => (
                "the embedded XML document is not well-formed, so a part of it may be missing",
                "have the message sent again",
            ),
            Code::NoText => (
                "the report has no narrative text that can be read (TX, FT, ST, CWE, CE, text in ED, or NTE under the OBR)",
                "have the text sent too, or leave such messages out",
            ),
            Code::NoId => ("the report has no identifier", "name a field that holds one in `report_id`"),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The stage of the pipeline that refused the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Bytes to messages.
    Frame,
    /// A message to segments and fields.
    Parse,
    /// Characters, escapes and embedded documents.
    Decode,
    /// Fields to the text of a report.
    Text,
    /// The model.
    Model,
    /// Writing the rows.
    Sink,
}

impl Stage {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Frame => "frame",
            Stage::Parse => "parse",
            Stage::Decode => "decode",
            Stage::Text => "text",
            Stage::Model => "model",
            Stage::Sink => "sink",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where in the input, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// Segment name (three letters or digits) and which of that name, from 1.
    pub segment: Option<(String, usize)>,
    /// Field number, from 1.
    pub field: Option<usize>,
    /// Offset in bytes: in the input for the stage `frame`, in the message otherwise.
    pub byte: Option<usize>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, index)) = &self.segment {
            write!(f, "{name}[{index}]")?;
            if let Some(field) = self.field {
                write!(f, "-{field}")?;
            }
        }
        match (self.byte, self.segment.is_some()) {
            (Some(byte), true) => write!(f, " (byte {byte})"),
            (Some(byte), false) => write!(f, "byte {byte}"),
            (None, true) => Ok(()),
            (None, false) => f.write_str("the message"),
        }
    }
}

/// Why something could not be read: what, where, and what to do; never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} at {position}: {}; {}", code.meaning(), code.remedy())]
pub struct Reject {
    /// What was wrong.
    pub code: Code,
    /// The stage that found it.
    pub stage: Stage,
    /// Where it was found.
    pub position: Position,
    /// MSH-10, where it could be read.
    pub control_id: Option<String>,
}

impl Reject {
    /// A reject at a byte offset.
    pub(super) fn at_byte(code: Code, stage: Stage, byte: usize) -> Self {
        let position = Position { byte: Some(byte), ..Position::default() };
        Self { code, stage, position, control_id: None }
    }

    /// A reject at a field of a segment.
    pub(super) fn at_field(code: Code, stage: Stage, segment: (&str, usize), field: Option<usize>) -> Self {
        let position = Position { segment: Some((segment.0.to_owned(), segment.1)), field, byte: None };
        Self { code, stage, position, control_id: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_distinct_kebab_case_names() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(
            names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
        );
    }

    #[test]
    fn display_says_what_where_and_what_to_do() {
        let mut reject = Reject::at_field(Code::BadBase64, Stage::Decode, ("OBX", 3), Some(5));
        reject.position.byte = Some(812);
        let text = reject.to_string();
        assert!(text.starts_with("bad-base64 at OBX[3]-5 (byte 812): "), "{text}");
        assert!(text.contains("sent again"));
        assert!(Reject::at_byte(Code::NoMsh, Stage::Frame, 0).to_string().starts_with("no-msh at byte 0: "));
    }
}
