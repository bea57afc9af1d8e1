//! A model that is open, for labelling and for SQL.

use crate::functions::ScalarFunction;
use crate::label::{Findings, label};
use crate::{ModelError, functions};
use foramen::model::{self, Options, Runtime, checked_score};
use foramen::sql::SqlModel;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;

/// A model package that is open.
#[pyclass(frozen, module = "foramen._native")]
pub(crate) struct Model(Arc<model::Model>);

#[pymethods]
impl Model {
    /// Opens the package in a folder.
    #[new]
    fn open(py: Python<'_>, folder: PathBuf, arithmetic: &str) -> PyResult<Self> {
        let arithmetic = arithmetic.parse().map_err(refused)?;
        let options = Options { arithmetic, ..Options::default() };
        let opened = py.detach(|| model::Model::open(&folder, &options)).map_err(refused)?;
        Ok(Model(Arc::new(opened)))
    }

    /// The same model, its sessions and answers shared, that gives no grade with a lower score.
    fn with_min_score(&self, min_score: f32) -> PyResult<Self> {
        let min_score = checked_score(min_score).map_err(PyValueError::new_err)?;
        Ok(Model(Arc::new(self.0.with_min_score(min_score))))
    }

    /// `name@version` and the first 12 hex digits of the package's sha256.
    #[getter]
    fn id(&self) -> &str {
        self.0.id()
    }

    /// The finding rows of a table with the columns `text` and, where there is one, `id`.
    fn label(&self, py: Python<'_>, reports: &Bound<'_, PyAny>) -> PyResult<Findings> {
        label(py, &self.0, reports)
    }

    /// The scalar functions of SQL, answered by this model.
    fn functions(&self) -> Vec<ScalarFunction> {
        functions::scalar(SqlModel::open(Arc::clone(&self.0)))
    }
}

/// Loads ONNX Runtime from a file. It is loaded once in a process: what was loaded before stays.
#[pyfunction]
pub(crate) fn load_runtime(py: Python<'_>, library: PathBuf) -> PyResult<()> {
    py.detach(|| Runtime::load_from(&library)).map(drop).map_err(refused)
}

/// What the user chose wrongly is a ValueError, everything else a ModelError.
fn refused(error: model::Error) -> PyErr {
    match error {
        model::Error::Arithmetic(_) => PyValueError::new_err(error.to_string()),
        _ => ModelError::new_err(error.to_string()),
    }
}
