//! A behavioural test suite (Ribeiro et al., 2020): for each capability, short texts and the findings that they must give.

use super::data::{Grades, Report};
use super::scores::Rows;
use crate::labels::LabelSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a suite could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or a file of it could not be read.
    #[error("cannot read the behavioural tests in {path}: {source}")]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is no test.
    #[error("{path}, line {line}: no behavioural test: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// Texts that must all give the same findings: one is a test of a minimal function, several of an invariance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// The texts.
    pub texts: Vec<String>,
    /// Grades by level, as in annotated reports.
    pub findings: BTreeMap<String, Grades>,
}

/// The cases of one capability.
#[derive(Debug, Clone)]
pub struct Capability {
    /// The file's name without its extension.
    pub name: String,
    /// Its cases, with the grades that each level must have.
    pub cases: Vec<(Case, BTreeMap<String, Vec<u8>>)>,
}

/// How many cases of a capability passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The capability.
    pub capability: String,
    /// Cases of which every text gave the findings, and none other.
    pub passed: usize,
    /// All cases.
    pub cases: usize,
    /// Names of the cases that failed.
    pub failed: Vec<String>,
}

/// Reads a folder of `<capability>.jsonl`.
///
/// # Errors
/// [`Error`] names the file and the line.
pub fn read(folder: &Path, schema: &LabelSchema) -> Result<Vec<Capability>, Error> {
    let unread = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Read { path, source }
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unread(folder))? {
        let path = entry.map_err(unread(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut suite = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(unread(&path))?;
        let mut cases = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |reason: String| Error::Syntax { path: path.clone(), line: index + 1, reason };
            let case: Case = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            let grades = case.findings.iter().map(|(level, grades)| Ok((level.clone(), schema.grades(grades)?)));
            let grades =
                grades.collect::<Result<_, crate::labels::Error>>().map_err(|error| wrong(error.to_string()))?;
            cases.push((case, grades));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        suite.push(Capability { name, cases });
    }
    Ok(suite)
}

/// Holds answers against the suite; `answer` gives the rows of reports.
pub fn judge<E>(suite: &[Capability], answer: impl Fn(&[Report]) -> Result<Rows, E>) -> Result<Vec<Passed>, E> {
    let mut all = Vec::new();
    for Capability { name, cases } in suite {
        let mut passed = Passed { capability: name.clone(), passed: 0, cases: cases.len(), failed: Vec::new() };
        for (case, expected) in cases {
            let report = |(number, text): (usize, &String)| Report {
                id: number.to_string(),
                text: text.clone(),
                findings: BTreeMap::new(),
            };
            let reports: Vec<Report> = case.texts.iter().enumerate().map(report).collect();
            let found = answer(&reports)?;
            let wanted: Rows = (reports.iter())
                .flat_map(|report| {
                    expected.iter().map(|(level, grades)| ((report.id.clone(), level.clone()), grades.clone()))
                })
                .collect();
            match found == wanted {
                true => passed.passed += 1,
                false => passed.failed.push(case.id.clone()),
            }
        }
        all.push(passed);
    }
    Ok(all)
}
