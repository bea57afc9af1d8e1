//! Finding rows out of a file, a report at a time.

use super::Error;
use crate::labels::LabelSchema;
use crate::report::Level;
use crate::sql;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, TimestampMillisecondType};
use datafusion::execution::options::ArrowReadOptions;
use datafusion::prelude::{CsvReadOptions, DataFrame, JsonReadOptions, ParquetReadOptions, SessionContext};
use futures::StreamExt;
use std::path::Path;

/// What a report's finding rows say of it as a whole.
#[derive(Clone, PartialEq)]
pub struct Report {
    /// Accession or filler order number.
    pub report_id: String,
    /// MSH-10.
    pub message_control_id: Option<String>,
    /// PID-3.
    pub patient_id: Option<String>,
    /// OBR-4.
    pub exam: Option<String>,
    /// `preliminary`, `final`, `corrected` or `retracted`.
    pub status: Option<String>,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub reported_at: Option<i64>,
    /// `name@version` and the first 12 hex digits of the model package's sha256.
    pub model: Option<String>,
    /// Its motion segments, top to bottom.
    pub segments: Vec<Segment>,
}

/// One finding row.
#[derive(Clone, PartialEq)]
pub struct Segment {
    /// `lumbar`.
    pub region: Option<String>,
    /// `L4-L5`.
    pub level: String,
    /// One a task that the rows have a column for, in the schema's order.
    pub grades: Vec<Grade>,
    /// The sentences that were read.
    pub evidence: Option<String>,
}

/// A task's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Grade {
    /// The task.
    pub task: String,
    /// Its grade; `None` where it was withheld.
    pub grade: Option<String>,
    /// Its probability.
    pub score: Option<f32>,
}

/// The columns of a report, and the Arrow type that each is read as.
const COLUMNS: [(&str, &str); 10] = [
    ("report_id", "Utf8"),
    ("message_control_id", "Utf8"),
    ("patient_id", "Utf8"),
    ("exam", "Utf8"),
    ("report_status", "Utf8"),
    ("reported_at", "Timestamp(Millisecond, None)"),
    ("model", "Utf8"),
    ("region", "Utf8"),
    ("level", "Utf8"),
    ("evidence", "Utf8"),
];

/// Reads finding rows from a file (Parquet, JSON lines, CSV, Arrow: whatever SQL reads) and hands over each report: its rows stand together whatever
/// their order in the file, and versions of a report (other message control ids) come apart, the earlier first.
///
/// # Errors
/// [`Error::Rows`] where the columns are not those of finding rows, [`Error::Query`] where the file can't be read; and what `each` gives.
pub async fn read<E: From<Error>>(
    context: &SessionContext,
    file: &str,
    schema: &LabelSchema,
    mut each: impl FnMut(Report) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error: datafusion::error::DataFusionError| Error::Query(sql::Error::Query(error));
    let frame = open_file(context, file).await?;
    let known = frame.schema().clone();
    let has = |name: &str| known.has_column_with_unqualified_name(name);
    let lacks = |reason: &str| Error::Rows { file: file.into(), reason: reason.into() };
    if let Some(missing) = ["report_id", "level"].into_iter().find(|name| !has(name)) {
        return Err(lacks(&format!("there is no column {missing}")).into());
    }
    let tasks: Vec<&str> = schema.tasks().iter().map(|task| task.name.as_str()).filter(|task| has(task)).collect();
    if tasks.is_empty() {
        return Err(lacks(&format!("there is no column of a task of {}", schema.id())).into());
    }
    let column = |name: &str, kind: &str| {
        let value = if has(name) { format!("\"{name}\"") } else { "NULL".into() };
        format!("arrow_cast({value}, '{kind}') AS \"{name}\"")
    };
    let mut columns: Vec<String> = COLUMNS.iter().map(|(name, kind)| column(name, kind)).collect();
    for task in &tasks {
        columns.push(column(task, "Utf8"));
        columns.push(column(&format!("{task}_score"), "Float32"));
    }
    context.register_table(TABLE, frame.into_view()).map_err(failed)?;
    let query = format!(
        "SELECT {} FROM {TABLE} ORDER BY report_id, reported_at NULLS FIRST, message_control_id",
        columns.join(", ")
    );
    let mut batches = context.sql(&query).await.map_err(failed)?.execute_stream().await.map_err(failed)?;
    // What is being read is not asked for by its name again.
    context.deregister_table(TABLE).map_err(failed)?;
    let mut open: Option<Report> = None;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(failed)?;
        for row in 0..batch.num_rows() {
            let (report, segment) =
                read_row(&batch, row, &tasks).ok_or_else(|| lacks("a row has no report_id or level"))?;
            match &mut open {
                Some(open) if same(open, &report) => open.segments.push(segment),
                _ => {
                    if let Some(done) = open.replace(Report { segments: vec![segment], ..report }) {
                        each(sorted(done))?;
                    }
                }
            }
        }
    }
    open.map(sorted).map_or(Ok(()), each)
}

/// The name that a file's rows have while its query is planned.
const TABLE: &str = "foramen_findings";

/// The rows of a file, in the format that its name says.
async fn open_file(context: &SessionContext, file: &str) -> Result<DataFrame, Error> {
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let lower = extension.to_lowercase();
    if !Path::new(file).is_file() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(Error::Query(sql::Error::Read { path: file.into(), source }));
    }
    let frame = match lower.as_str() {
        "parquet" => context.read_parquet(file, ParquetReadOptions::default().file_extension(extension)).await,
        "jsonl" | "ndjson" | "json" => {
            context.read_json(file, JsonReadOptions::default().file_extension(extension)).await
        }
        "csv" => context.read_csv(file, CsvReadOptions::default().file_extension(extension)).await,
        "arrow" | "feather" => {
            context
                .read_arrow(file, ArrowReadOptions { file_extension: extension, ..ArrowReadOptions::default() })
                .await
        }
        _ => {
            let reason = "its name ends in none of .parquet, .jsonl, .csv and .arrow".into();
            return Err(Error::Rows { file: file.into(), reason });
        }
    };
    frame.map_err(|error| Error::Query(sql::Error::Query(error)))
}

fn same(a: &Report, b: &Report) -> bool {
    a.report_id == b.report_id && a.message_control_id == b.message_control_id && a.reported_at == b.reported_at
}

fn sorted(mut report: Report) -> Report {
    report.segments.sort_by_key(|segment| segment.level.parse::<Level>().ok());
    report
}

/// A row's report, without segments, and its segment.
fn read_row(batch: &RecordBatch, row: usize, tasks: &[&str]) -> Option<(Report, Segment)> {
    let text = |name: &str| {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let score = |name: &str| {
        let column = batch.column_by_name(name)?.as_primitive_opt::<Float32Type>()?;
        column.is_valid(row).then(|| column.value(row))
    };
    let time =
        batch.column_by_name("reported_at").and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>());
    let grade =
        |task: &&str| Grade { task: (*task).to_owned(), grade: text(task), score: score(&format!("{task}_score")) };
    let segment = Segment {
        region: text("region"),
        level: text("level")?,
        grades: tasks.iter().map(grade).collect(),
        evidence: text("evidence"),
    };
    let report = Report {
        report_id: text("report_id")?,
        message_control_id: text("message_control_id"),
        patient_id: text("patient_id"),
        exam: text("exam"),
        status: text("report_status"),
        reported_at: time.filter(|time| time.is_valid(row)).map(|time| time.value(row)),
        model: text("model"),
        segments: Vec::new(),
    };
    Some((report, segment))
}
