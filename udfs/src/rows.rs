//! Arrow shapes that several functions answer in.

use crate::engine::{ModelError, Report, Segment};
use arrow::array::{
    ArrayRef, ListArray, ListBuilder, StringArray, StringBuilder, StructArray, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::error::DataFusionError;
use std::sync::Arc;

/// An error of the model, named after the function that asked.
pub(crate) fn failed(function: &str, error: &ModelError) -> DataFusionError {
    exec_datafusion_err!("{function}: {error}")
}

/// `List<Struct<fields>>`.
pub(crate) fn list_of(fields: Fields) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(fields), true)))
}

/// A list a row: NULL where the row's input is, else the next of `answers`, whose items stand one after another in `columns`.
pub(crate) fn lists<I, T>(
    inputs: &[Option<I>],
    answers: &[Vec<T>],
    fields: Fields,
    columns: Vec<ArrayRef>,
) -> Result<ArrayRef> {
    let present = inputs.iter().filter(|input| input.is_some()).count();
    if present != answers.len() {
        return exec_err!("{} answers to {present} texts", answers.len());
    }
    let mut answers = answers.iter().map(Vec::len);
    let lengths = inputs.iter().map(|input| input.as_ref().and_then(|_| answers.next()).unwrap_or(0));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls: NullBuffer = inputs.iter().map(Option::is_some).collect();
    let item = Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true));
    let items = StructArray::try_new(fields, columns, None)?;
    Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(items), Some(nulls))?))
}

/// A text field of an answer.
pub(crate) fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

/// The regions, levels and evidence of segments, as columns.
pub(crate) fn segment_columns<'a>(segments: impl Iterator<Item = &'a Segment> + Clone) -> [ArrayRef; 3] {
    let column = |read: fn(&Segment) -> &str| -> ArrayRef {
        Arc::new(segments.clone().map(read).map(Some).collect::<StringArray>())
    };
    [column(|s| &s.region), column(|s| &s.level), column(|s| &s.evidence)]
}

/// The fields of a report.
pub(crate) fn report_fields() -> Fields {
    let ids = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Fields::from(vec![
        text("report_id"),
        Field::new("linked_ids", ids, true),
        text("message_control_id"),
        text("patient_id"),
        text("report_status"),
        Field::new("reported_at", time, true),
        text("exam"),
        text("text"),
    ])
}

/// The columns of [`report_fields`]: a row of NULLs where there is no report.
pub(crate) fn report_columns(reports: &[Option<&Report>]) -> Vec<ArrayRef> {
    let column = |read: fn(&Report) -> Option<&str>| -> ArrayRef {
        Arc::new(reports.iter().map(|report| report.and_then(read)).collect::<StringArray>())
    };
    let mut linked = ListBuilder::new(StringBuilder::new());
    for report in reports {
        linked.append_option(report.map(|report| report.linked_ids.iter().map(Some)));
    }
    let times: TimestampMillisecondArray = reports.iter().map(|report| report.and_then(|r| r.reported_at)).collect();
    vec![
        column(|r| Some(&r.report_id)),
        Arc::new(linked.finish()),
        column(|r| r.message_control_id.as_deref()),
        column(|r| r.patient_id.as_deref()),
        column(|r| r.report_status.as_deref()),
        Arc::new(times.with_timezone("UTC")),
        column(|r| r.exam.as_deref()),
        column(|r| Some(&r.text)),
    ]
}
