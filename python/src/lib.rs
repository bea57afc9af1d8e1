//! The native half of the Python package `foramen`: texts in and finding rows out through Arrow's C interface, and SQL functions
//! through DataFusion's FFI. What people call is in `foramen/__init__.py`.

mod functions;
mod label;
mod model;
mod tables;

use pyo3::prelude::*;

pyo3::create_exception!(foramen, ModelError, pyo3::exceptions::PyRuntimeError, "The model can't be opened or run.");

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::ModelError;
    #[pymodule_export]
    use super::functions::{AggregateFunction, ScalarFunction, aggregate_functions, functions};
    #[pymodule_export]
    use super::label::Findings;
    #[pymodule_export]
    use super::model::{Model, load_runtime};
    #[pymodule_export]
    use super::tables::{Hl7Tables, TableFunction, table_functions};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        // The structures that go over are those of this major version: another side reads other memory.
        module.add("DATAFUSION", datafusion_ffi::version())
    }
}
