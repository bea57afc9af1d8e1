//! SQL functions in the capsules in which the Python package `datafusion` takes functions of other libraries.

use datafusion::logical_expr::{AggregateUDF, Documentation, ScalarUDF};
use datafusion_ffi::udaf::FFI_AggregateUDF;
use datafusion_ffi::udf::FFI_ScalarUDF;
use foramen::model::Options;
use foramen::sql::{Hl7Reader, SqlModel};
use foramen_udfs::engine::{MessageReader, ReportModel};
use foramen_udfs::{all_aggregate, all_scalar};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::sync::Arc;

/// A scalar function.
#[pyclass(frozen, module = "foramen._native")]
pub(crate) struct ScalarFunction(Arc<ScalarUDF>);

#[pymethods]
impl ScalarFunction {
    /// What `datafusion.udf` asks for.
    fn __datafusion_scalar_udf__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        PyCapsule::new_with_value(py, FFI_ScalarUDF::from(Arc::clone(&self.0)), c"datafusion_scalar_udf")
    }
}

/// An aggregate.
#[pyclass(frozen, module = "foramen._native")]
pub(crate) struct AggregateFunction(Arc<AggregateUDF>);

#[pymethods]
impl AggregateFunction {
    /// What `datafusion.udaf` asks for.
    fn __datafusion_aggregate_udf__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        PyCapsule::new_with_value(py, FFI_AggregateUDF::from(Arc::clone(&self.0)), c"datafusion_aggregate_udf")
    }
}

/// The scalar functions, with the model that answers them.
pub(crate) fn scalar(model: SqlModel) -> Vec<ScalarFunction> {
    let (model, reader): (Arc<dyn ReportModel>, Arc<dyn MessageReader>) =
        (Arc::new(model), Arc::new(Hl7Reader::default()));
    all_scalar(&model, &reader).into_iter().map(|function| ScalarFunction(Arc::new(function))).collect()
}

/// The aggregates, which no model answers.
#[pyfunction]
pub(crate) fn aggregate_functions() -> Vec<AggregateFunction> {
    all_aggregate().into_iter().map(|function| AggregateFunction(Arc::new(function))).collect()
}

/// Name, kind, syntax and description of every function.
#[pyfunction]
pub(crate) fn functions() -> Vec<(String, &'static str, String, String)> {
    let told = |name: &str, kind, about: Option<&Documentation>| {
        let text = |text: fn(&Documentation) -> &String| about.map(text).cloned().unwrap_or_default();
        (name.to_owned(), kind, text(|about| &about.syntax_example), text(|about| &about.description))
    };
    // Of what they are is told without a model.
    let scalar = scalar(SqlModel::lazy("", Options::default())).into_iter();
    let scalar = scalar.map(|ScalarFunction(f)| told(f.name(), "scalar", f.documentation()));
    let aggregate = all_aggregate().into_iter().map(|f| told(f.name(), "aggregate", f.documentation()));
    scalar.chain(aggregate).collect()
}
