//! Table functions and HL7 tables in the capsules in which the Python package `datafusion` takes those of other libraries.

use datafusion::catalog::{TableFunctionImpl, TableProviderFactory};
use datafusion_ffi::proto::logical_extension_codec::FFI_LogicalExtensionCodec;
use datafusion_ffi::table_provider_factory::FFI_TableProviderFactory;
use datafusion_ffi::udtf::FFI_TableFunction;
use foramen::sql::Hl7Reader;
use foramen_udfs::engine::MessageReader;
use foramen_udfs::{all_table, hl7_table_factory};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::{Handle, Runtime};

/// A table function.
#[pyclass(frozen, module = "foramen._native")]
pub(crate) struct TableFunction {
    /// Its name in SQL.
    #[pyo3(get)]
    name: &'static str,
    function: Arc<dyn TableFunctionImpl>,
}

#[pymethods]
impl TableFunction {
    /// What `datafusion.user_defined.TableFunction` asks for.
    fn __datafusion_table_function__<'py>(
        &self,
        py: Python<'py>,
        session: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let (function, runtime, codec) = (Arc::clone(&self.function), Some(runtime()?), codec(session)?);
        let function = FFI_TableFunction::new_with_ffi_codec(function, runtime, codec);
        PyCapsule::new_with_value(py, function, c"datafusion_table_function")
    }
}

/// The table functions.
#[pyfunction]
pub(crate) fn table_functions() -> Vec<TableFunction> {
    all_table().into_iter().map(|(name, function)| TableFunction { name, function }).collect()
}

/// What makes tables of `STORED AS HL7`.
#[pyclass(frozen, module = "foramen._native")]
pub(crate) struct Hl7Tables(Arc<dyn TableProviderFactory + Send>);

#[pymethods]
impl Hl7Tables {
    #[new]
    fn new() -> Self {
        let reader: Arc<dyn MessageReader> = Arc::new(Hl7Reader::default());
        Hl7Tables(hl7_table_factory(&reader))
    }

    /// What `SessionContext.register_table_factory` asks for.
    fn __datafusion_table_provider_factory__<'py>(
        &self,
        py: Python<'py>,
        session: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let (factory, runtime, codec) = (Arc::clone(&self.0), Some(runtime()?), codec(session)?);
        let factory = FFI_TableProviderFactory::new_with_ffi_codec(factory, runtime, codec);
        PyCapsule::new_with_value(py, factory, c"datafusion_table_provider_factory")
    }
}

/// Where the tables of this library are read: the other's runtime is none to this library's tokio.
fn runtime() -> PyResult<Handle> {
    static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = match runtime.take() {
        Some(opened) => opened,
        None => Runtime::new()?,
    };
    Ok(runtime.insert(opened).handle().clone())
}

/// How the session writes plans down: it comes as the session, or as the capsule itself.
#[expect(unsafe_code, reason = "DataFusion's FFI hands pointers over")]
fn codec(session: &Bound<'_, PyAny>) -> PyResult<FFI_LogicalExtensionCodec> {
    let name = "__datafusion_logical_extension_codec__";
    let capsule = if session.hasattr(name)? { session.call_method0(name)? } else { session.clone() };
    let pointer = capsule.cast::<PyCapsule>()?.pointer_checked(Some(c"datafusion_logical_extension_codec"))?;
    // SAFETY: a capsule of this name points to this structure, of the same major version as `foramen/__init__.py` has checked, and
    // lives until this function ends.
    Ok(unsafe { pointer.cast::<FFI_LogicalExtensionCodec>().as_ref() }.clone())
}
