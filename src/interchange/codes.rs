//! Codes of other systems for tasks, grades and motion segments, read from a TOML file.

use super::{Error, map, parse};
use crate::labels::LabelSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// RadElement, as shipped.
const RADELEMENT: &str = include_str!("../../schemas/maps/radelement.toml");

/// A code and its words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coded {
    /// The code.
    pub code: String,
    /// What it means, in the words of its system.
    pub display: String,
}

/// Codes of one system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeMap {
    /// Its name, for messages.
    pub name: String,
    /// URI of the system.
    pub system: String,
    /// The motion segments that its codes may be used for; all where none is named.
    #[serde(default)]
    pub levels: Vec<String>,
    /// The code of the whole set of findings at a segment.
    pub set: Option<Coded>,
    /// Codes of motion segments, `[segments."L4-L5"]`.
    #[serde(default)]
    pub segments: BTreeMap<String, Coded>,
    /// Codes of tasks and their grades.
    #[serde(default, rename = "task")]
    pub tasks: Vec<TaskCodes>,
}

/// The code of a task, and codes of its grades.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskCodes {
    /// The task of the label schema.
    pub name: String,
    /// The task's code.
    pub code: String,
    /// What it means, in the words of its system.
    pub display: String,
    /// Codes of grades, by the grade's name. The lowest grade also stands for "not mentioned": give it a code only where the system's means that.
    #[serde(default)]
    pub grades: BTreeMap<String, Coded>,
}

impl CodeMap {
    /// ACR/RSNA RadElement, `schemas/maps/radelement.toml`.
    ///
    /// # Errors
    /// None that the shipped file gives.
    pub fn radelement() -> Result<CodeMap, Error> {
        parse("radelement", RADELEMENT)
    }

    /// Reads a map and holds it against the label schema.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Map`] with the task or grade that the schema lacks.
    pub fn open(path: &Path, schema: &LabelSchema) -> Result<CodeMap, Error> {
        let codes: CodeMap = map(path)?;
        let wrong = |reason: String| Error::Map { name: path.display().to_string(), reason };
        for task in &codes.tasks {
            let Some(known) = schema.task(&task.name).map(|index| &schema.tasks()[index]) else {
                return Err(wrong(format!("{:?} is no task of {}", task.name, schema.id())));
            };
            if let Some(grade) = task.grades.keys().find(|grade| !known.grades.contains(grade)) {
                return Err(wrong(format!("{:?} is no grade of {}: {}", grade, task.name, known.grades.join(", "))));
            }
        }
        Ok(codes)
    }

    /// Whether its codes may be used for a segment.
    pub fn speaks_of(&self, level: &str) -> bool {
        self.levels.is_empty() || self.levels.iter().any(|known| known == level)
    }

    /// The codes of a task.
    pub fn task(&self, name: &str) -> Option<&TaskCodes> {
        self.tasks.iter().find(|task| task.name == name)
    }
}
