//! A table with a row a report and a column for each of its labels, as challenges and registries ask for.

use super::rows::Report;
use super::{Error, map, parse};
use crate::labels::LabelSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The RSNA 2024 lumbar label set, as shipped.
const RSNA_2024: &str = include_str!("../../schemas/maps/rsna2024.toml");

/// Which labels a report's row has, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlatMap {
    /// Its name, for messages.
    pub name: String,
    /// The column of the report's id.
    pub id_column: String,
    /// Motion segments, and how their names are written in a column's.
    levels: BTreeMap<String, String>,
    #[serde(rename = "column")]
    columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    /// Its name, `{level}` standing for the segment.
    name: String,
    task: String,
    /// The label of each of the task's grades.
    grades: BTreeMap<String, String>,
}

impl FlatMap {
    /// The RSNA 2024 label set.
    ///
    /// # Errors
    /// None that the shipped file gives.
    pub fn rsna2024(schema: &LabelSchema) -> Result<FlatMap, Error> {
        let map: FlatMap = parse("rsna2024", RSNA_2024)?;
        map.checked("rsna2024", schema)
    }

    /// Reads a map and holds it against the label schema.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Map`] with the task, or the grade without a label.
    pub fn open(path: &Path, schema: &LabelSchema) -> Result<FlatMap, Error> {
        let map: FlatMap = map(path)?;
        map.checked(&path.display().to_string(), schema)
    }

    fn checked(self, name: &str, schema: &LabelSchema) -> Result<FlatMap, Error> {
        let wrong = |reason: String| Error::Map { name: name.into(), reason };
        for column in &self.columns {
            let Some(task) = schema.task(&column.task).map(|index| &schema.tasks()[index]) else {
                return Err(wrong(format!("{:?} is no task of {}", column.task, schema.id())));
            };
            if let Some(grade) = task.grades.iter().find(|grade| !column.grades.contains_key(*grade)) {
                return Err(wrong(format!(
                    "the column {} has no label for the grade {grade:?} of {}",
                    column.name, column.task
                )));
            }
            if let Some(unknown) = column.grades.keys().find(|grade| !task.grades.contains(grade)) {
                return Err(wrong(format!("{unknown:?} is no grade of {}", column.task)));
            }
        }
        Ok(self)
    }

    /// The names of the columns, the id's first.
    pub fn header(&self) -> Vec<String> {
        let labels = self
            .columns
            .iter()
            .flat_map(|column| self.levels.values().map(|level| column.name.replace("{level}", level)));
        std::iter::once(self.id_column.clone()).chain(labels).collect()
    }

    /// A report's row: empty where the report names no such segment, or where the grade was withheld.
    pub fn row(&self, report: &Report) -> Vec<String> {
        let label = |column: &Column, level: &String| {
            let segment = report.segments.iter().find(|segment| segment.level == *level)?;
            let grade = segment.grades.iter().find(|grade| grade.task == column.task)?.grade.as_ref()?;
            column.grades.get(grade).cloned()
        };
        let labels = self
            .columns
            .iter()
            .flat_map(|column| self.levels.keys().map(move |level| label(column, level).unwrap_or_default()));
        std::iter::once(report.report_id.clone()).chain(labels).collect()
    }
}
