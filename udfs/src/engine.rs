//! What the functions ask of the world: a model that grades reports, and a reader of HL7 v2 messages.
//!
//! Two traits and the plain data that goes through them, so that this crate knows Arrow and DataFusion and nothing else.

use std::fmt::Debug;
use std::io::{self, Read};
use std::ops::Range;

/// Why a model could not answer. Its text goes to the user of the query: a cause and a remedy, never a report's content.
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// One question asked of every motion segment, with its grades in order of severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Column name of the grade; the score's column is `<name>_score`.
    pub name: String,
    /// Names of the grades, lowest first: 2 to 127 of them, so that a grade's number fits an Int8 key.
    pub grades: Vec<String>,
}

/// What a query's planner needs to know of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// `name@version` and the first 12 hex digits of the package's sha256.
    pub id: String,
    /// The tasks, in column order.
    pub tasks: Vec<Task>,
    /// Layers of the encoder: embeddings are numbered 0 (before the first layer) to `layers` (after the last).
    pub layers: usize,
    /// Values in an embedding.
    pub width: usize,
}

/// A motion segment that a report speaks of.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment {
    /// `cervical`, `thoracic` or `lumbar`.
    pub region: String,
    /// Written out, `L4-L5`.
    pub level: String,
    /// The sentences that were read.
    pub evidence: String,
}

/// The grades of one motion segment.
#[derive(Clone, PartialEq)]
pub struct Finding {
    /// Where, and by which sentences.
    pub segment: Segment,
    /// Number of the grade and its calibrated probability, one pair a task, in the order of [`ModelInfo::tasks`].
    ///
    /// The number is `None` where the probability is below the least that was asked for.
    pub grades: Vec<(Option<u8>, f32)>,
}

/// A grade above the lowest of one task at one motion segment, and the sentences that it hangs on.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// `cervical`, `thoracic` or `lumbar`.
    pub region: String,
    /// Written out, `L4-L5`.
    pub level: String,
    /// Number of the task in [`ModelInfo::tasks`].
    pub task: usize,
    /// Number of the grade.
    pub grade: u8,
    /// Its calibrated probability.
    pub score: f32,
    /// Byte ranges of the sentences in the text, the one that mattered most first.
    pub sentences: Vec<Range<usize>>,
    /// The grade that the model gives without them.
    pub without: u8,
}

/// A hidden state of the encoder for one motion segment.
#[derive(Clone, PartialEq)]
pub struct Embedding {
    /// Where, and by which sentences.
    pub segment: Segment,
    /// [`ModelInfo::width`] values.
    pub values: Vec<f32>,
}

/// A model that reads reports. Answers for a text depend on that text alone.
pub trait ReportModel: Debug + Send + Sync {
    /// What the model is. A model that is opened on first use is opened here.
    ///
    /// # Errors
    /// When the model cannot be opened.
    fn info(&self) -> Result<&ModelInfo, ModelError>;

    /// The motion segments of a report, in anatomical order. This needs no model.
    fn segments(&self, text: &str) -> Vec<Segment>;

    /// The graded segments of each report: one list a text, in the order of the texts.
    ///
    /// # Errors
    /// When the model cannot be opened or run.
    fn findings(&self, texts: &[&str]) -> Result<Vec<Vec<Finding>>, ModelError>;

    /// For each grade above the lowest that a report's segments have, the sentences that it hangs on.
    ///
    /// # Errors
    /// When the model cannot be opened or run.
    fn explain(&self, text: &str) -> Result<Vec<Explanation>, ModelError>;

    /// The segments' hidden states after a layer, 0 to [`ModelInfo::layers`]: one list a text, in the order of the texts.
    ///
    /// # Errors
    /// When the model cannot be opened or run.
    fn embeddings(&self, texts: &[&str], layer: usize) -> Result<Vec<Vec<Embedding>>, ModelError>;
}

/// One study's report out of a message. It has no `Debug`: it holds what is protected.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// Accession or filler order number.
    pub report_id: String,
    /// Ids of exams that share this report.
    pub linked_ids: Vec<String>,
    /// MSH-10.
    pub message_control_id: Option<String>,
    /// PID-3.
    pub patient_id: Option<String>,
    /// `preliminary`, `final`, `corrected` or `retracted`.
    pub report_status: Option<String>,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub reported_at: Option<i64>,
    /// OBR-4.
    pub exam: Option<String>,
    /// The narrative; empty where a status came without one.
    pub text: String,
}

/// Why a message yields no report: a stable code, where in the message, and no content of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MessageError(pub String);

/// A piece of a file or a stream: a message, or bytes that belong to none.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// Position of its first byte in the input.
    pub offset: u64,
    /// The bytes, unchanged but for the framing around them.
    pub bytes: Vec<u8>,
}

/// The pieces of an input, in order.
pub type Pieces = Box<dyn Iterator<Item = io::Result<Piece>> + Send>;

/// A reader of HL7 v2.
pub trait MessageReader: Debug + Send + Sync {
    /// Cuts an input into messages, reading no further than the piece that is asked for. What is no message comes as a piece
    /// too, which [`MessageReader::reports`] refuses with its reason: nothing is lost.
    fn split(&self, input: Box<dyn Read + Send>) -> Pieces;

    /// The reports of a message, one a study.
    ///
    /// # Errors
    /// [`MessageError`] when the message cannot be read or is no report.
    fn reports(&self, message: &[u8]) -> Result<Vec<Report>, MessageError>;

    /// The text at a path, escapes decoded; `None` where the message has nothing there or cannot be read.
    ///
    /// # Errors
    /// [`MessageError`] when the path is not in HL7 path notation; the text says what is.
    fn field(&self, message: &[u8], path: &str) -> Result<Option<String>, MessageError>;
}
