//! The codes of rejects beside those of HL7 messages ([`crate::hl7::Code`]).

/// Why an input, or a part of one, could not be read. The names are stable: files of rejects are searched by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The file can't be opened or read.
    Unreadable,
    /// There is nothing in it.
    Empty,
    /// Binary data.
    NotText,
    /// A report or a line beyond the limit.
    TooLarge,
    /// No column with the text.
    NoTextColumn,
    /// No column with the id.
    NoIdColumn,
    /// The text's column holds something else.
    TextNotText,
    /// A line that is no JSON object.
    BadJson,
    /// A row that does not fit the header.
    BadCsv,
    /// No Parquet file, or a damaged one.
    BadParquet,
    /// The model could not read the text.
    ModelFailed,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 11] = [
        Code::Unreadable,
        Code::Empty,
        Code::NotText,
        Code::TooLarge,
        Code::NoTextColumn,
        Code::NoIdColumn,
        Code::TextNotText,
        Code::BadJson,
        Code::BadCsv,
        Code::BadParquet,
        Code::ModelFailed,
    ];

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
            Code::Unreadable => (
                "unreadable",
                "the file can't be opened or read, or is a link to nothing",
                "check that it is there and may be read",
            ),
            Code::Empty => ("empty", "there is nothing in it", "check how it was made"),
            Code::NotText => ("not-text", "binary data", "take it away, or name its format with `--input-format`"),
            Code::TooLarge => ("too-large", "a report or a line of more than 64 MB", "split it"),
            Code::NoTextColumn => {
                ("no-text-column", "no column with the text", "name one of those that the message lists")
            }
            Code::NoIdColumn => {
                ("no-id-column", "the column of `--id-column` is missing", "name one of those that the message lists")
            }
            Code::TextNotText => ("text-not-text", "the text's column holds something else", "name another"),
            Code::BadJson => {
                ("bad-json", "a line that is no JSON object; the next line is read", "write one object a line")
            }
            Code::BadCsv => (
                "bad-csv",
                "a row that does not fit the header; the file is not read on",
                "correct it and read it again",
            ),
            Code::BadParquet => {
                ("bad-parquet", "not a Parquet file, or cut short, or damaged", "copy or write it again")
            }
            Code::ModelFailed => (
                "model-failed",
                "the model could not read this text; others are not touched",
                "keep the line, and report it",
            ),
        }
    }
}
