//! What keeps `foramen label` from running, or from going on. What one input does wrong is a reject, not an error.

use std::path::PathBuf;

/// Why labelling could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input names nothing.
    #[error("{input} is neither a file nor a folder, nor a pattern that any file fits; check the path")]
    NoSuchInput {
        /// The input as it was given.
        input: String,
    },
    /// A folder can't be listed.
    #[error("the folder {path} can't be listed: {source}")]
    Folder {
        /// The folder, or what is in it.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// All inputs together hold no file.
    #[error("the inputs hold no file; hidden files and the output itself are not read")]
    NoFiles,
    /// The output's name says no format.
    #[error(
        "{0:?} does not say how to write: name the output *.parquet, *.jsonl, *.csv or *.arrow, or - for JSON lines on the screen"
    )]
    UnknownOutput(PathBuf),
    /// Writing over what is read.
    #[error("the output {0} is an input too; write to another file")]
    OutputIsInput(PathBuf),
    /// Rows and rejects into one file.
    #[error("rows and rejects can't both be written to {0}; name another file with --rejects")]
    OutputIsRejects(PathBuf),
    /// The output, or the file of rejects, can't be written.
    #[error("{path} can't be written: {source}; does the folder exist, may you write there, and is there room?")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The rows can't be brought into the output's format.
    #[error("the rows can't be written to {path}: {reason}")]
    Rows {
        /// The output.
        path: PathBuf,
        /// What the writer said.
        reason: String,
    },
    /// Whoever asked for it asked for an end.
    #[error("stopped before the end; no output was written, and rejects so far stay")]
    Stopped,
}
