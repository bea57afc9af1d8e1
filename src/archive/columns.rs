//! Reports as rows of a table: CSV and Parquet.

use super::bounded::Bounded;
use super::item::{Item, Items, Rejection, Report};
use super::source::Source;
use super::text::unreadable;
use super::{CHUNK, Code, Reading};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::io::{BufRead, Cursor, Read};
use std::sync::Arc;

/// Names under which the id is looked for.
pub(super) const IDS: [&str; 2] = ["id", "report_id"];
/// Names under which the text is looked for.
pub(super) const TEXTS: [&str; 2] = ["text", "report"];

/// The rows of a CSV input with a header. Every column is read as text.
pub(super) fn csv(source: String, mut input: impl BufRead + 'static, reading: &Reading) -> Items {
    let bad = |source: &str, error: &ArrowError, rows: u64| {
        let reason = match error {
            ArrowError::IoError(_, error) => return unreadable(source, error),
            // The errors of the CSV reader tell lines and numbers of fields.
            ArrowError::CsvError(reason) => reason.lines().next().unwrap_or_default().to_owned(),
            _ => "a value can't be read".into(),
        };
        let message = format!(
            "not valid CSV after row {rows}: {reason}; what follows was not read; correct it and read it again"
        );
        Rejection::new(source, Code::BadCsv, "parse", message)
    };
    // The header is taken out of the stream, since standard input can't be read twice.
    let header = match header(&mut input) {
        Ok(header) => header,
        Err(error) => return reject(unreadable(&source, &error)),
    };
    let format = Format::default().with_header(true);
    let names = match format.infer_schema(Cursor::new(&header), Some(0)) {
        Ok((schema, _)) => schema,
        Err(error) => return reject(bad(&source, &error, 0)),
    };
    let schema = Schema::new(
        names.fields().iter().map(|name| Field::new(name.name(), DataType::Utf8, true)).collect::<Vec<_>>(),
    );
    let columns = match Columns::find(&schema, reading) {
        Ok(columns) => columns,
        Err((code, message)) => return reject(Rejection::new(&source, code, "parse", message)),
    };
    let builder = arrow::csv::ReaderBuilder::new(Arc::new(schema)).with_format(format).with_batch_size(CHUNK);
    match builder.build(Cursor::new(header).chain(Bounded::new(input))) {
        Ok(batches) => rows(source, columns, batches, bad),
        Err(error) => reject(bad(&source, &error, 0)),
    }
}

/// The first record, which may hold line ends in quotes.
fn header(input: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut header = Vec::new();
    let mut limited = input.take(1 << 20);
    while limited.read_until(b'\n', &mut header)? > 0 && header.iter().filter(|byte| **byte == b'"').count() % 2 == 1 {}
    if header.starts_with(b"\xef\xbb\xbf") {
        header.drain(..3);
    }
    Ok(header)
}

/// The rows of a Parquet file, of which only the two columns are read.
pub(super) fn parquet(source: &Source, reading: &Reading) -> Items {
    let name = source.name();
    let Source::File { path, .. } = source else {
        let message =
            "Parquet can't be read from standard input, since its directory stands at its end; give the file's name";
        return reject(Rejection::new(&name, Code::BadParquet, "frame", message));
    };
    let bad = |source: &str, _: &ArrowError, rows: u64| {
        let message = format!(
            "the Parquet file is damaged after row {rows}, and what follows was not read; copy or write it again"
        );
        Rejection::new(source, Code::BadParquet, "parse", message)
    };
    let builder = match File::open(path) {
        Ok(file) => ParquetRecordBatchReaderBuilder::try_new(file),
        Err(error) => return reject(unreadable(&name, &error)),
    };
    let Ok(builder) = builder else {
        let message = "it is not a Parquet file, or was cut short; copy or write it again";
        return reject(Rejection::new(&name, Code::BadParquet, "frame", message));
    };
    let columns = match Columns::find(builder.schema(), reading) {
        Ok(columns) => columns,
        Err((code, message)) => return reject(Rejection::new(&name, code, "parse", message)),
    };
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns.id.into_iter().chain([columns.text]));
    match builder.with_projection(mask).with_batch_size(CHUNK).build() {
        // Of the columns that are read, the text is the second unless it stands first in the file.
        Ok(batches) => rows(name, columns.projected(), batches, bad),
        Err(error) => reject(bad(&name, &error.into(), 0)),
    }
}

fn reject(reject: Rejection) -> Items {
    Box::new(std::iter::once(Item::Reject(reject)))
}

/// Where the id and the text stand.
#[derive(Clone, Copy)]
struct Columns {
    id: Option<usize>,
    text: usize,
}

impl Columns {
    fn find(schema: &Schema, reading: &Reading) -> Result<Columns, (Code, String)> {
        let names = || schema.fields().iter().map(|field| field.name().as_str());
        let named = |asked: Option<&str>, known: &[&str]| match asked {
            Some(asked) => names().position(|name| name == asked),
            None => known.iter().find_map(|known| names().position(|name| name.eq_ignore_ascii_case(known))),
        };
        let (id, text) = (reading.id_column.as_deref(), reading.text_column.as_deref());
        let Some(at) = named(text, &TEXTS) else {
            return Err((Code::NoTextColumn, no_such("--text-column", text, &TEXTS, names())));
        };
        let field = schema.field(at);
        if !is_text(field.data_type()) {
            let texts: Vec<&str> =
                schema.fields().iter().filter(|f| is_text(f.data_type())).map(|f| f.name().as_str()).collect();
            let message = format!(
                "the column {} is {} and not text; name a text column with --text-column (there is: {})",
                field.name(),
                field.data_type(),
                if texts.is_empty() { "none".into() } else { texts.join(", ") }
            );
            return Err((Code::TextNotText, message));
        }
        let found = named(id, &IDS);
        if found.is_none() && id.is_some() {
            return Err((Code::NoIdColumn, no_such("--id-column", id, &IDS, names())));
        }
        Ok(Columns { id: found, text: at })
    }

    /// Where they stand when nothing else is read.
    fn projected(self) -> Columns {
        match self.id {
            Some(id) if id == self.text => Columns { id: Some(0), text: 0 },
            Some(id) => Columns { id: Some(usize::from(id > self.text)), text: usize::from(self.text > id) },
            None => Columns { id: None, text: 0 },
        }
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// What to say of a column that is not there. Names are told only where all look like names: in a file without a header they
/// are the first patient's data.
pub(super) fn no_such<'a>(
    option: &str,
    asked: Option<&str>,
    known: &[&str],
    there: impl Iterator<Item = &'a str>,
) -> String {
    let asked = asked.map_or_else(|| known.join(" or "), str::to_owned);
    let there: Vec<&str> = there.collect();
    let there = if there.is_empty() {
        "there is: none".to_owned()
    } else if there.iter().all(|name| is_name(name)) {
        format!("there is: {}", there.join(", "))
    } else {
        "what stands in the first row does not look like names and is not shown; is the header missing?".to_owned()
    };
    format!("there is no column {asked}; name one with {option} ({there})")
}

/// Whether a text can be a column's name rather than a value. An unnamed column is an index.
fn is_name(text: &str) -> bool {
    let wordy = text.len() <= 64 && text.split_whitespace().count() <= 4 && text.contains(char::is_alphabetic);
    text.is_empty() || (wordy && !text.contains([':', ';', '^', '"', '\n', '\r']))
}

fn rows(
    source: String,
    columns: Columns,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + 'static,
    bad: impl Fn(&str, &ArrowError, u64) -> Rejection + 'static,
) -> Items {
    let mut rows = 0;
    let mut failed = false;
    let batches = batches.map_while(move |batch| {
        // After an error the reader has lost its place.
        if failed {
            return None;
        }
        let items =
            batch.and_then(|batch| reports(&source, columns, &batch, rows).map(|items| (batch.num_rows(), items)));
        Some(match items {
            Ok((count, items)) => {
                rows += count as u64;
                items
            }
            Err(error) => {
                failed = true;
                vec![Item::Reject(bad(&source, &error, rows))]
            }
        })
    });
    Box::new(batches.flatten())
}

fn reports(source: &str, columns: Columns, batch: &RecordBatch, before: u64) -> Result<Vec<Item>, ArrowError> {
    let strings =
        |at: usize| -> Result<ArrayRef, ArrowError> { arrow::compute::cast(batch.column(at), &DataType::LargeUtf8) };
    let texts = strings(columns.text)?;
    let ids = columns.id.map(strings).transpose()?;
    let texts = texts.as_string::<i64>();
    let ids = ids.as_ref().map(|ids| ids.as_string::<i64>());
    let report = |row: usize| {
        let id = ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row).to_owned());
        let text = if texts.is_valid(row) { texts.value(row).to_owned() } else { String::new() };
        let report_id = id.unwrap_or_else(|| (before + row as u64 + 1).to_string());
        Item::Report(Report { report_id, source: source.to_owned(), text, ..Report::default() })
    };
    Ok((0..batch.num_rows()).map(report).collect())
}
