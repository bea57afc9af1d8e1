//! Rows on their way out: as tables for people, CSV and JSON lines for programs. Memory holds a few batches.

use super::Error;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use std::io::Write;
use std::sync::Arc;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A drawn table with its number of rows.
    #[default]
    Table,
    /// RFC 4180 with a header; lists and structs as JSON.
    Csv,
    /// One JSON object a line, NULLs written out.
    Json,
}

/// A longer answer is drawn as several tables, each with its own widths and header.
const TABLE_ROWS: usize = 10_000;

/// Writes the rows of a query. A statement without columns (`CREATE …`) writes nothing.
pub(super) async fn write(frame: DataFrame, format: Format, out: &mut dyn Write) -> Result<(), Error> {
    let stream = frame.execute_stream().await?;
    let columns = stream.schema().fields().len();
    match format {
        _ if columns == 0 => drain(stream).await,
        Format::Table => table(stream, out).await,
        Format::Csv => comma_separated(stream, out).await,
        Format::Json => json(stream, out).await,
    }?;
    Ok(out.flush()?)
}

async fn drain(mut stream: SendableRecordBatchStream) -> Result<(), Error> {
    while let Some(batch) = stream.next().await {
        batch?;
    }
    Ok(())
}

async fn table(mut stream: SendableRecordBatchStream, out: &mut dyn Write) -> Result<(), Error> {
    let schema = stream.schema();
    let (mut held, mut rows, mut total) = (Vec::new(), 0, 0);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows();
        total += batch.num_rows();
        held.push(batch);
        if rows >= TABLE_ROWS {
            draw(&schema, &held, out)?;
            held.clear();
            rows = 0;
        }
    }
    if rows > 0 || total == 0 {
        draw(&schema, &held, out)?;
    }
    Ok(writeln!(out, "({total} {})\n", if total == 1 { "row" } else { "rows" })?)
}

fn draw(schema: &SchemaRef, batches: &[RecordBatch], out: &mut dyn Write) -> Result<(), Error> {
    Ok(writeln!(out, "{}", pretty_format_batches_with_schema(Arc::clone(schema), batches)?)?)
}

// Rows are formed in memory and then written, so that an output that is gone is told from rows that have no such form.

async fn comma_separated(mut stream: SendableRecordBatchStream, out: &mut dyn Write) -> Result<(), Error> {
    // The header is written though there be no rows.
    let mut batch = RecordBatch::new_empty(stream.schema());
    let mut header = true;
    loop {
        let mut writer = csv::WriterBuilder::new().with_header(header).build(Vec::new());
        writer.write(&flat(&batch)?)?;
        out.write_all(&writer.into_inner())?;
        header = false;
        match stream.next().await {
            Some(next) => batch = next?,
            None => return Ok(()),
        }
    }
}

async fn json(mut stream: SendableRecordBatchStream, out: &mut dyn Write) -> Result<(), Error> {
    while let Some(batch) = stream.next().await {
        out.write_all(&json_lines(&batch?)?)?;
    }
    Ok(())
}

fn json_lines(batch: &RecordBatch) -> Result<Vec<u8>, Error> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

/// The batch with its lists and structs as JSON text.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let columns = batch.columns().iter().map(|column| match column.data_type().is_nested() {
        true => json_text(column),
        false => Ok(Arc::clone(column)),
    });
    let columns = columns.collect::<Result<Vec<_>, Error>>()?;
    let fields = batch
        .schema()
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true))
        .collect::<Vec<_>>();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn json_text(column: &ArrayRef) -> Result<ArrayRef, Error> {
    const BEFORE: &str = "{\"v\":";
    let schema = Schema::new(vec![Field::new("v", column.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(column)])?;
    let lines = String::from_utf8_lossy(&json_lines(&batch)?).into_owned();
    let value = |(row, line): (usize, &str)| {
        let value = line.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix('}'));
        value.filter(|_| column.is_valid(row)).map(str::to_owned)
    };
    Ok(Arc::new(lines.lines().enumerate().map(value).collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    async fn written(sql: &str, format: Format) -> String {
        let frame = SessionContext::new().sql(sql).await.unwrap();
        let mut out = Vec::new();
        write(frame, format, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    const NESTED: &str =
        "SELECT * FROM (VALUES (1, [1, NULL], named_struct('x', 'a \"b\"')), (2, NULL, NULL)) AS t(a, l, s)";

    #[tokio::test]
    async fn lists_and_structs_are_json_in_csv() {
        let text = written(NESTED, Format::Csv).await;
        assert_eq!(text, "a,l,s\n1,\"[1,null]\",\"{\"\"x\"\":\"\"a \\\"\"b\\\"\"\"\"}\"\n2,,\n");
    }

    #[tokio::test]
    async fn json_lines_write_nulls_out() {
        let text = written(NESTED, Format::Json).await;
        assert_eq!(text, "{\"a\":1,\"l\":[1,null],\"s\":{\"x\":\"a \\\"b\\\"\"}}\n{\"a\":2,\"l\":null,\"s\":null}\n");
    }

    #[tokio::test]
    async fn no_rows_still_have_their_header() {
        let none = "SELECT 1 AS a WHERE false";
        assert_eq!(written(none, Format::Csv).await, "a\n");
        assert_eq!(written(none, Format::Json).await, "");
        assert!(written(none, Format::Table).await.contains("| a |"));
        assert_eq!(written("CREATE TABLE t AS SELECT 1", Format::Table).await, "");
    }

    #[tokio::test]
    async fn long_answers_are_drawn_in_parts() {
        let text = written("SELECT * FROM generate_series(1, 25000)", Format::Table).await;
        assert_eq!(text.matches("| value |").count(), 2, "a header for each part");
        assert!(text.ends_with("(25000 rows)\n\n"));
        assert!(written("SELECT 1 AS a", Format::Table).await.ends_with("(1 row)\n\n"));
    }
}
