//! Labelled reports as JSON lines, the form of `corpus/written.jsonl`: `{"id", "text", "findings": {level: {task: grade}}}`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Why labelled reports could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the reports in {path}: {source}")]
    Read {
        /// The file that was asked for.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not a labelled report; the report's own text is never part of the message.
    #[error("{path}, line {line}: not a labelled report (column {column})")]
    Syntax {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column of the first character that does not fit, from 1.
        column: usize,
    },
}

/// Grades of one motion segment by task; a task left out has its lowest grade.
pub type Grades = BTreeMap<String, String>;

/// One report with what is to be read off it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the report within its file.
    pub id: String,
    /// The report as written.
    pub text: String,
    /// Grades by level (`L4-L5`); a level with no grades was named, and is normal.
    pub findings: BTreeMap<String, Grades>,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A real report may be labelled too: its text stays out of logs.
        f.debug_struct("Report").field("id", &self.id).field("levels", &self.findings.len()).finish_non_exhaustive()
    }
}

/// Reads labelled reports, one a line; empty lines are passed over.
///
/// # Errors
/// [`Error::Read`] when the file cannot be read, [`Error::Syntax`] with the place of the first line of another form.
pub fn read_jsonl(path: &Path) -> Result<Vec<Report>, Error> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: name(), source })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|e| Error::Syntax { path: name(), line: index + 1, column: e.column() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_reports_are_read_and_a_bad_line_is_named() {
        let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/written.jsonl");
        let reports = read_jsonl(&written).unwrap();
        assert!(reports.len() > 700 && reports.iter().all(|r| !r.text.is_empty()));

        let bad = std::env::temp_dir().join(format!("foramen-data-{}.jsonl", std::process::id()));
        std::fs::write(&bad, "{\"id\":\"a\",\"text\":\"t\",\"findings\":{}}\n\n{\"id\":\"Mrs Doe\"}\n").unwrap();
        let error = read_jsonl(&bad).unwrap_err().to_string();
        std::fs::remove_file(&bad).unwrap();
        assert!(error.contains("line 3") && !error.contains("Doe"), "{error}");
    }
}
