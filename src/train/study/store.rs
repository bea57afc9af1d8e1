//! The JSON files of a study: what is right for each test set, and what each network gave.

use super::data::RegionData;
use super::network::Outcome;
use super::{OUTCOMES, REGIONS};
use crate::labels::Task;
use crate::train::fit::Error;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A region's tasks and annotated test sets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Gold {
    pub(super) region: String,
    /// The controls are the last two.
    pub(super) tasks: Vec<Task>,
    /// Rows and reports that were learnt from.
    pub(super) learnt: (usize, usize),
    pub(super) sets: Vec<GoldSet>,
}

/// The annotation of a test set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct GoldSet {
    pub(super) name: String,
    /// For each row the number of its report within the set: rows of one report are drawn together.
    pub(super) reports: Vec<usize>,
    /// For each task the grade of every row.
    pub(super) grades: Vec<Vec<u8>>,
}

impl Gold {
    pub(super) fn of(data: &RegionData) -> Self {
        let tasks = data.tasks.tasks().to_vec();
        let numbered = |rows: &[super::data::Row]| -> Vec<usize> {
            let mut names: Vec<&str> = rows.iter().map(|row| row.report.as_str()).collect();
            names.dedup();
            rows.iter().map(|row| names.iter().position(|name| *name == row.report).unwrap_or_default()).collect()
        };
        let set = |set: &super::data::TestSet| GoldSet {
            name: set.name.clone(),
            reports: numbered(&set.rows),
            grades: (0..tasks.len()).map(|task| set.rows.iter().map(|row| row.grades[task]).collect()).collect(),
        };
        let reports = numbered(&data.learnt).last().map_or(0, |last| last + 1);
        let learnt = (data.learnt.len(), reports);
        let sets = data.tests.iter().map(set).collect();
        Self { region: data.region.clone(), tasks, learnt, sets }
    }
}

/// Writes a value as JSON; the file takes its name when it is whole.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.into(), source };
    let text = serde_json::to_string(value).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
    let part = path.with_extension("part");
    std::fs::write(&part, text).map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)
}

fn read<T: DeserializeOwned>(path: PathBuf) -> Result<T, Error> {
    let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
}

fn read_all<T: DeserializeOwned>(folder: &Path) -> Result<Vec<T>, Error> {
    let failed = |source| Error::File { path: folder.into(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")).map(read).collect()
}

/// The regions of a study's folder.
pub(super) fn regions(folder: &Path) -> Result<Vec<Gold>, Error> {
    read_all(&folder.join(REGIONS))
}

/// What the networks of a study's folder gave.
pub(super) fn outcomes(folder: &Path) -> Result<Vec<Outcome>, Error> {
    read_all(&folder.join(OUTCOMES))
}
