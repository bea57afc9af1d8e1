//! What goes through a stream: records, and what could not be read of them.

use crate::hl7::Reject;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Partition {
    pub(crate) topic: Arc<str>,
    pub(crate) number: i32,
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// Headers of a record.
pub(crate) type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record of a topic. It has no Debug form: it holds a message.
pub(crate) struct Record {
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
    /// Milliseconds since 1970.
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) headers: Headers,
    pub(crate) payload: Vec<u8>,
}

impl Record {
    /// `topic/partition/offset`, by which rows, logs and dead letters name it.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.partition, self.offset)
    }
}

/// Why a message is a dead letter though it could be read. The names are stable, as those of [`crate::hl7::Code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The query fails on it.
    TransformFailed,
    /// What it says can't be written.
    Unwritable,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 2] = [Code::TransformFailed, Code::Unwritable];

    /// The stable kebab-case name.
    pub fn name(self) -> &'static str {
        self.about().0
    }

    /// What is wrong.
    pub fn meaning(self) -> &'static str {
        self.about().1
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        self.about().2
    }

    fn about(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Code::TransformFailed => (
                "transform-failed",
                "the query, or the model in it, fails on this message alone",
                "run the query on the message with `foramen sql`, mend it, and replay",
            ),
            Code::Unwritable => (
                "unwritable",
                "what is to be said of the report is larger than the sink's topic takes",
                "raise `max.message.bytes` of that topic, and replay",
            ),
        }
    }
}

/// Why a message is a dead letter: stable names, a position, and no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) code: &'static str,
    pub(crate) stage: &'static str,
    pub(crate) position: Option<String>,
    pub(crate) control_id: Option<String>,
    /// What is wrong, where, and what to do.
    pub(crate) message: String,
}

impl From<Reject> for Reason {
    fn from(reject: Reject) -> Self {
        Reason {
            code: reject.code.name(),
            stage: reject.stage.name(),
            position: Some(reject.position.to_string()),
            message: reject.to_string(),
            control_id: reject.control_id,
        }
    }
}

/// A message that could not be read, on its way to the dead letters.
pub(crate) struct DeadLetter {
    /// Which of the batch's records it was in.
    pub(crate) record: usize,
    /// The message, unchanged: the whole record unless that holds several.
    pub(crate) bytes: Vec<u8>,
    pub(crate) reason: Reason,
}
