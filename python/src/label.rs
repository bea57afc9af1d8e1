//! Finding rows of texts, in and out through Arrow's C stream interface.

use crate::ModelError;
use arrow::array::{Array, AsArray, LargeStringArray, RecordBatch, RecordBatchIterator};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ffi_stream::{ArrowArrayStreamReader, FFI_ArrowArrayStream};
use foramen::archive::{FindingRows, Report, finding_schema, with_origin};
use foramen::model::Model;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::ffi::CStr;
use std::sync::Arc;

/// Reports that are labelled together, with the interpreter's lock released.
const CHUNK: usize = 256;
/// Bytes of text from which on fewer are.
const CHUNK_BYTES: usize = 8 << 20;
/// Bytes of the longest report.
const MAX_REPORT: usize = 64 << 20;
/// The columns that only a message fills.
const OF_MESSAGES: [&str; 6] = ["message_control_id", "patient_id", "exam", "report_status", "reported_at", "source"];
/// The name that Arrow's PyCapsule interface gives a stream.
const STREAM: &CStr = c"arrow_array_stream";

/// Finding rows, for whatever reads Arrow's C stream interface.
#[pyclass(frozen, module = "foramen._native")]
pub(crate) struct Findings {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

#[pymethods]
impl Findings {
    /// A stream of the rows. Another schema than theirs can't be requested.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The interface lets a producer answer in its own schema.
        drop(requested_schema);
        let batches = self.batches.clone().into_iter().map(Ok);
        let reader = RecordBatchIterator::new(batches, Arc::clone(&self.schema));
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), STREAM)
    }
}

/// Labels the rows of a table. The interpreter's lock is released while the model reads, and signals are seen between chunks.
pub(crate) fn label(py: Python<'_>, model: &Model, reports: &Bound<'_, PyAny>) -> PyResult<Findings> {
    let labels = model.package().labels();
    let full = with_origin(&finding_schema(labels), model.id(), labels);
    let kept: Vec<usize> =
        (0..full.fields().len()).filter(|at| !OF_MESSAGES.contains(&full.field(*at).name().as_str())).collect();
    let schema = Arc::new(full.project(&kept).map_err(unfit)?);
    let mut rows = FindingRows::new(labels, model.id());
    let (mut batches, mut before) = (Vec::new(), 0);
    for batch in stream(reports)? {
        let texts = Texts::new(&batch.map_err(unfit)?)?;
        let mut start = 0;
        while start < texts.len() {
            let end = texts.end(start, before)?;
            let read = py.detach(|| {
                texts.label(model, start..end, before, &mut rows)?;
                let columns = rows.finish().and_then(|rows| rows.project(&kept)).map_err(unfit)?;
                columns.with_schema(Arc::clone(&schema)).map_err(unfit)
            });
            batches.push(read?);
            py.check_signals()?;
            start = end;
        }
        before += texts.len();
    }
    Ok(Findings { schema, batches })
}

/// A batch of texts with their ids.
struct Texts {
    ids: Option<LargeStringArray>,
    texts: LargeStringArray,
}

impl Texts {
    fn new(batch: &RecordBatch) -> PyResult<Self> {
        let strings = |name: &str| {
            let column = batch.column_by_name(name)?;
            Some(cast(column, &DataType::LargeUtf8).map(|column| column.as_string::<i64>().clone()))
        };
        let kind = batch.column_by_name("text").map(|column| column.data_type());
        match kind {
            Some(kind) if is_text(kind) => {}
            Some(kind) => return Err(PyTypeError::new_err(format!("the texts are {kind}, and text is expected"))),
            None => return Err(PyTypeError::new_err("there is no column of texts")),
        }
        let texts = strings("text").transpose().map_err(unfit)?;
        let texts = texts.ok_or_else(|| PyTypeError::new_err("there is no column of texts"))?;
        Ok(Texts { ids: strings("id").transpose().map_err(unfit)?, texts })
    }

    fn len(&self) -> usize {
        self.texts.len()
    }

    fn text(&self, row: usize) -> &str {
        // A NULL is a report that says nothing.
        if self.texts.is_valid(row) { self.texts.value(row) } else { "" }
    }

    /// The row after the last one that is labelled together with `start`.
    fn end(&self, start: usize, before: usize) -> PyResult<usize> {
        let (mut end, mut bytes) = (start, 0);
        while end < self.len() && end - start < CHUNK && bytes < CHUNK_BYTES {
            let length = self.text(end).len();
            if length > MAX_REPORT {
                let reason = format!("the text at position {} has more than 64 MB; split it", before + end);
                return Err(PyValueError::new_err(reason));
            }
            bytes += length;
            end += 1;
        }
        Ok(end)
    }

    fn label(
        &self,
        model: &Model,
        range: std::ops::Range<usize>,
        before: usize,
        rows: &mut FindingRows,
    ) -> PyResult<()> {
        let texts: Vec<&str> = range.clone().map(|row| self.text(row)).collect();
        for (row, findings) in range.zip(model.findings_each(&texts)) {
            let findings = findings
                .map_err(|error| ModelError::new_err(format!("the text at position {}: {error}", before + row)))?;
            let id = self.ids.as_ref().filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row).to_owned());
            let report_id = id.unwrap_or_else(|| (before + row + 1).to_string());
            rows.push(&Report { report_id, ..Report::default() }, &findings);
        }
        Ok(())
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// The batches of an object with Arrow's C stream interface.
#[expect(unsafe_code, reason = "Arrow's C stream interface is a pointer")]
fn stream(object: &Bound<'_, PyAny>) -> PyResult<ArrowArrayStreamReader> {
    let capsule = object.call_method0("__arrow_c_stream__")?;
    let pointer = capsule.cast::<PyCapsule>()?.pointer_checked(Some(STREAM))?;
    // SAFETY: a capsule of this name points to a stream, which is taken out here: what stays in the capsule is marked as released.
    unsafe { ArrowArrayStreamReader::from_raw(pointer.cast().as_ptr()) }.map_err(unfit)
}

/// What Arrow says of a table is not handed on: it could quote a value.
fn unfit<E: Into<arrow::error::ArrowError>>(error: E) -> PyErr {
    let reason = match error.into() {
        arrow::error::ArrowError::CastError(_) => "the ids can't be written as text",
        _ => "the table can't be read",
    };
    PyTypeError::new_err(reason)
}
