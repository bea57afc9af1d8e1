//! What an input is made of: reports, and what could not be read.

use super::Code;
use crate::hl7::{Phi, Reject};
use serde::Serialize;

/// A report and what is known of it: the columns that a finding row takes over. It has no Debug form, since it is about a patient.
#[derive(Clone, Default)]
pub struct Report {
    /// Accession or filler order number, or the input's id.
    pub report_id: String,
    /// MSH-10.
    pub message_control_id: Option<String>,
    /// PID-3.
    pub patient_id: Option<Phi<String>>,
    /// OBR-4.
    pub exam: Option<String>,
    /// `preliminary`, `final`, `corrected` or `retracted`.
    pub report_status: Option<&'static str>,
    /// Milliseconds since 1970, UTC.
    pub reported_at: Option<i64>,
    /// The file it came from.
    pub source: String,
    /// The text that is read.
    pub text: String,
}

/// A part of an input that could not be read: a line of the file of rejects. Only `content` holds content.
#[derive(Clone, Serialize)]
pub struct Rejection {
    /// The file it came from.
    pub source: String,
    /// Where it begins in that file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What is wrong, as a stable name.
    pub code: &'static str,
    /// Which stage found it: `frame`, `parse`, `decode`, `text`, `model`.
    pub stage: &'static str,
    /// Where it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// MSH-10, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_id: Option<String>,
    /// What is wrong, where, and what to do; no content.
    pub message: String,
    /// What was rejected, unchanged; nothing where it is a whole file that stays where it is.
    #[serde(flatten)]
    pub content: Option<Content>,
}

/// Rejected bytes, unchanged: as they stand where they are UTF-8, in base64 where they are not.
#[derive(Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Valid UTF-8.
    Text(String),
    /// Anything else, in base64.
    Base64(String),
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        use base64::Engine;
        String::from_utf8(bytes).map_or_else(
            |error| Content::Base64(base64::engine::general_purpose::STANDARD.encode(error.as_bytes())),
            Content::Text,
        )
    }
}

impl Rejection {
    /// A reject of a file, or of a part of it that has no message of its own.
    pub(super) fn new(source: &str, code: Code, stage: &'static str, message: impl Into<String>) -> Self {
        let (source, code, message) = (source.to_owned(), code.name(), message.into());
        Rejection { source, offset: None, code, stage, position: None, control_id: None, message, content: None }
    }

    /// The reject of a message.
    pub(super) fn of_message(source: &str, offset: u64, reject: Reject, bytes: Vec<u8>) -> Self {
        Rejection {
            source: source.to_owned(),
            offset: Some(offset),
            code: reject.code.name(),
            stage: reject.stage.name(),
            position: Some(reject.position.to_string()),
            message: reject.to_string(),
            control_id: reject.control_id,
            content: Some(bytes.into()),
        }
    }

    /// The same with the rejected bytes and where they begin.
    pub(super) fn with(mut self, offset: u64, bytes: Vec<u8>) -> Self {
        self.offset = Some(offset);
        self.content = Some(bytes.into());
        self
    }
}

/// One step of an input.
pub(super) enum Item {
    /// Something to read.
    Report(Report),
    /// Something that can't be read.
    Reject(Rejection),
    /// A message that is no report, by its type, as `ADT^A01`.
    NotReport(String),
    /// A report that has been withdrawn, and yields no rows.
    Retracted,
    /// Something odd that lost nothing, and how often.
    Odd(&'static str, u64),
}

/// The steps of an input, read as they are asked for.
pub(super) type Items = Box<dyn Iterator<Item = Item>>;
