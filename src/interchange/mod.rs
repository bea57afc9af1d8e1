//! Finding rows in the forms of others: flat label tables such as that of RSNA 2024, and FHIR R4 resources with codes of other systems.
//!
//! [`read`] groups finding rows by report, [`FlatMap`] makes a row of labels of each, [`fhir::bundle`] a transaction. The maps are data: those
//! in `schemas/maps` are built in, and a user's own file of the same form takes their place.

mod codes;
pub mod fhir;
mod flat;
mod rows;

pub use codes::{CodeMap, Coded};
pub use flat::FlatMap;
pub use rows::{Grade, Report, Segment, read};

use std::path::{Path, PathBuf};

/// Why findings could not be brought into another form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A map could not be read.
    #[error("cannot read the map {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A map is not of its form.
    #[error("the map {name} cannot be used: {reason}")]
    Map {
        /// Its file, or its name where it is built in.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The rows are no finding rows.
    #[error(
        "{file} has no finding rows: {reason}; write them with `foramen label`, or by the columns in schemas/README.md"
    )]
    Rows {
        /// The file.
        file: String,
        /// What is missing.
        reason: String,
    },
    /// The rows could not be read.
    #[error(transparent)]
    Query(#[from] crate::sql::Error),
}

/// Reads a map of one form or the other.
fn map<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    parse(&path.display().to_string(), &text)
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| Error::Map { name: name.into(), reason: error.to_string() })
}
