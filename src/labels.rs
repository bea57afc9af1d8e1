//! The label schema: tasks and their grades, as data (`schemas/spine.toml`, and `labels.toml` in each model package).
//!
//! A *task* is one question asked of a motion segment ("how narrow is the canal?"), a *grade* one of its answers. Grades are
//! in order of severity and the first is the default. No other part of the code names a task.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The schema that foramen ships.
pub const SPINE: &str = include_str!("../schemas/spine.toml");

/// Why a label schema could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the label schema {path}: {source}")]
    Read {
        /// The file that was asked for.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not TOML of this form.
    #[error("the label schema is not valid: {0}")]
    Syntax(#[from] toml::de::Error),
    /// The schema contradicts itself.
    #[error("the label schema is not valid: {0}")]
    Invalid(String),
}

/// One question asked of every motion segment, with its grades in order of severity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Column name of the grade; the score's column is `<name>_score`.
    pub name: String,
    /// One line for documentation.
    #[serde(default)]
    pub description: String,
    /// The task that takes this one's place when a report is mirrored left to right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Grades, lowest first; the first is the default.
    pub grades: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    version: u32,
}

/// Tasks and grades of one kind of report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSchema {
    schema: Header,
    #[serde(rename = "task")]
    tasks: Vec<Task>,
}

impl LabelSchema {
    /// The schema that foramen ships, `schemas/spine.toml`.
    pub fn spine() -> Self {
        Self::parse(SPINE).expect("the built-in schema is valid; a test says so")
    }

    /// Reads a schema from its TOML text.
    ///
    /// # Errors
    /// [`Error::Syntax`] when the text is not TOML of this form, [`Error::Invalid`] when names repeat, a task has fewer than
    /// two grades or more than 127, or a mirror is not mutual.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let schema: Self = toml::from_str(text)?;
        schema.check()?;
        Ok(schema)
    }

    /// Reads a schema from a file.
    ///
    /// # Errors
    /// As [`LabelSchema::parse`], and [`Error::Read`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.display().to_string(), source })?;
        Self::parse(&text)
    }

    /// The schema as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a schema always has a TOML form")
    }

    /// Name and version, `spine/1`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.schema.name, self.schema.version)
    }

    /// The tasks, in column order.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Position of a task by its name.
    pub fn task(&self, name: &str) -> Option<usize> {
        self.tasks.iter().position(|task| task.name == name)
    }

    /// The task that each task becomes when left and right are swapped (itself where it has no mirror).
    pub fn mirrors(&self) -> Vec<usize> {
        let index = |(own, task): (usize, &Task)| task.mirror.as_deref().and_then(|m| self.task(m)).unwrap_or(own);
        self.tasks.iter().enumerate().map(index).collect()
    }

    /// Grade numbers of one annotated segment, a task left out having its lowest grade.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a task or a grade is not of this schema.
    pub fn grades(&self, finding: &BTreeMap<String, String>) -> Result<Vec<u8>, Error> {
        let mut grades = vec![0; self.tasks.len()];
        for (task, grade) in finding {
            let unknown = || Error::Invalid(format!("{} has no grade {grade:?} of a task {task:?}", self.id()));
            let index = self.task(task).ok_or_else(unknown)?;
            let position = self.tasks[index].grades.iter().position(|name| name == grade).ok_or_else(unknown)?;
            grades[index] = position as u8;
        }
        Ok(grades)
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |message: String| Err(Error::Invalid(message));
        if self.tasks.is_empty() {
            return invalid("it has no task".into());
        }
        for (index, task) in self.tasks.iter().enumerate() {
            let name = &task.name;
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
                return invalid(format!("task name {name:?} is not made of a-z, 0-9 and _"));
            }
            if self.task(name) != Some(index) {
                return invalid(format!("task {name} stands twice"));
            }
            if !(2..=127).contains(&task.grades.len()) {
                return invalid(format!("task {name} has {} grades; 2 to 127 are possible", task.grades.len()));
            }
            if (1..task.grades.len()).any(|i| task.grades[..i].contains(&task.grades[i])) {
                return invalid(format!("task {name} has one grade twice"));
            }
            if let Some(mirror) = &task.mirror {
                let mutual = self.task(mirror).is_some_and(|m| self.tasks[m].mirror.as_ref() == Some(name));
                if !mutual {
                    return invalid(format!("task {name} is mirrored by {mirror}, which is not mirrored by it"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_schema_is_valid_and_survives_its_own_toml() {
        let spine = LabelSchema::spine();
        assert_eq!(spine.tasks().len(), 9);
        assert_eq!(LabelSchema::parse(&spine.to_toml()).unwrap(), spine);
        assert_eq!(spine.mirrors(), [0, 1, 3, 2, 5, 4, 6, 7, 8]);
    }

    #[test]
    fn a_task_left_out_has_its_lowest_grade() {
        let spine = LabelSchema::spine();
        let finding = [("disc".to_string(), "bulge".to_string())].into();
        assert_eq!(spine.grades(&finding).unwrap(), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let finding = [("disc".to_string(), "burst".to_string())].into();
        assert!(spine.grades(&finding).unwrap_err().to_string().contains("burst"));
    }

    #[test]
    fn contradictions_are_refused_with_their_reason() {
        let head = "[schema]\nname = \"x\"\nversion = 1\n";
        for (tasks, word) in [
            ("task = []\n", "no task"),
            ("[[task]]\nname = \"a\"\ngrades = [\"x\"]\n", "grades"),
            ("[[task]]\nname = \"A b\"\ngrades = [\"x\", \"y\"]\n", "a-z"),
            ("[[task]]\nname = \"a\"\ngrades = [\"x\", \"x\"]\n", "twice"),
            ("[[task]]\nname = \"a\"\nmirror = \"b\"\ngrades = [\"x\", \"y\"]\n", "mirrored"),
            ("[[task]]\nname = \"a\"\ncolour = 1\ngrades = [\"x\", \"y\"]\n", "colour"),
        ] {
            // An empty array of tables must stand before the first table.
            let text = if tasks.starts_with("task") { format!("{tasks}{head}") } else { format!("{head}{tasks}") };
            let error = LabelSchema::parse(&text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
