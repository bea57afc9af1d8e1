//! Where rows go: a file of one of four formats that is there only once it is whole, or JSON lines on standard output.

use super::Error;
use super::rows::{MODEL_KEY, SCHEMA_KEY, with_origin};
use crate::labels::LabelSchema;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What is written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// JSON lines on standard output.
    Stdout,
    /// A file, in the format that its name says.
    File(PathBuf, OutputFormat),
}

/// The formats of output files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// `*.parquet`
    Parquet,
    /// `*.jsonl`, `*.ndjson`
    Jsonl,
    /// `*.csv`
    Csv,
    /// `*.arrow`, `*.feather`: Arrow IPC, the file format
    Arrow,
}

impl Output {
    /// The output that a path names, `-` being standard output.
    ///
    /// # Errors
    /// [`Error::UnknownOutput`] where the name's extension says no format.
    pub fn named(path: &Path) -> Result<Output, Error> {
        if path == Path::new("-") {
            return Ok(Output::Stdout);
        }
        let format = match path.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase).as_deref() {
            Some("parquet") => OutputFormat::Parquet,
            Some("jsonl" | "ndjson") => OutputFormat::Jsonl,
            Some("csv") => OutputFormat::Csv,
            Some("arrow" | "feather") => OutputFormat::Arrow,
            _ => return Err(Error::UnknownOutput(path.into())),
        };
        Ok(Output::File(path.into(), format))
    }

    /// The file, or a name for messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Output::Stdout => Path::new("standard output"),
            Output::File(path, _) => path,
        }
    }
}

/// A file that takes its name once it is whole. What is left unfinished is taken away.
pub struct Pending {
    path: PathBuf,
    partial: PathBuf,
    finished: bool,
}

impl Pending {
    /// The file to write into, which has no name of its own yet.
    ///
    /// # Errors
    /// [`Error::Write`] where no file of that name can be made.
    pub fn create(path: &Path) -> Result<(Pending, File), Error> {
        let failed = |source| Error::Write { path: path.into(), source };
        let Some(name) = path.file_name() else { return Err(failed(io::ErrorKind::IsADirectory.into())) };
        if path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let partial = path.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let file = File::create(&partial).map_err(failed)?;
        Ok((Pending { path: path.into(), partial, finished: false }, file))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`Error::Write`] where it cannot be renamed.
    pub fn finish(mut self) -> Result<(), Error> {
        std::fs::rename(&self.partial, &self.path)
            .map_err(|source| Error::Write { path: self.path.clone(), source })?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.finished {
            // There is nobody to tell, and the next run writes over it.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

type Out = BufWriter<Box<dyn Write + Send>>;

enum Writer {
    Parquet(ArrowWriter<Out>),
    Jsonl(arrow::json::Writer<Out, LineDelimited>),
    Csv(arrow::csv::Writer<Out>),
    Arrow(FileWriter<Out>),
}

/// An output that is being written.
pub(super) struct Sink {
    writer: Writer,
    schema: SchemaRef,
    path: PathBuf,
    pending: Option<Pending>,
}

impl Sink {
    pub(super) fn create(output: &Output, rows: &Schema, model: &str, labels: &LabelSchema) -> Result<Sink, Error> {
        let path = output.path().to_path_buf();
        let schema = with_origin(rows, model, labels);
        let (format, pending, out): (_, _, Box<dyn Write + Send>) = match output {
            Output::Stdout => (OutputFormat::Jsonl, None, Box::new(io::stdout())),
            Output::File(path, format) => {
                let (pending, file) = Pending::create(path)?;
                (*format, Some(pending), Box::new(file))
            }
        };
        let out = BufWriter::with_capacity(1 << 16, out);
        let failed = |reason: String| Error::Rows { path: path.clone(), reason };
        let writer = match format {
            OutputFormat::Parquet => {
                let origin = [(MODEL_KEY, model.to_owned()), (SCHEMA_KEY, labels.id())];
                let origin = origin.map(|(key, value)| KeyValue::new(key.into(), value)).to_vec();
                // A group is held in memory until it is written.
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(1 << 17))
                    .set_key_value_metadata(Some(origin))
                    .build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
                Writer::Parquet(writer.map_err(|error| failed(error.to_string()))?)
            }
            OutputFormat::Jsonl => Writer::Jsonl(WriterBuilder::new().with_explicit_nulls(true).build(out)),
            OutputFormat::Csv => Writer::Csv(arrow::csv::WriterBuilder::new().with_header(true).build(out)),
            OutputFormat::Arrow => {
                let writer = FileWriter::try_new(out, &schema).map_err(|error| failed(error.to_string()))?;
                Writer::Arrow(writer)
            }
        };
        let mut sink = Sink { writer, schema: schema.clone(), path, pending };
        if format == OutputFormat::Csv {
            // The header is there though no row may follow.
            sink.write(RecordBatch::new_empty(schema))?;
        }
        Ok(sink)
    }

    pub(super) fn write(&mut self, rows: RecordBatch) -> Result<(), Error> {
        let written = match rows.with_schema(self.schema.clone()) {
            Err(error) => Err(error),
            Ok(rows) => match &mut self.writer {
                Writer::Parquet(writer) => writer.write(&rows).map_err(Into::into),
                Writer::Jsonl(writer) => writer.write(&rows),
                Writer::Csv(writer) => writer.write(&rows),
                Writer::Arrow(writer) => writer.write(&rows),
            },
        };
        written.map_err(|error| self.failed(error.to_string()))
    }

    /// Completes the output and gives it its name.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Sink { writer, path, pending, .. } = self;
        let failed = |reason: String| Error::Rows { path: path.clone(), reason };
        let flushed = |mut out: Out| out.flush().map_err(|source| Error::Write { path: path.clone(), source });
        match writer {
            Writer::Parquet(writer) => flushed(writer.into_inner().map_err(|error| failed(error.to_string()))?)?,
            Writer::Jsonl(mut writer) => {
                writer.finish().map_err(|error| failed(error.to_string()))?;
                flushed(writer.into_inner())?;
            }
            Writer::Csv(writer) => flushed(writer.into_inner())?,
            Writer::Arrow(mut writer) => {
                writer.finish().map_err(|error| failed(error.to_string()))?;
                flushed(writer.into_inner().map_err(|error| failed(error.to_string()))?)?;
            }
        }
        pending.map_or(Ok(()), Pending::finish)
    }

    fn failed(&self, reason: String) -> Error {
        Error::Rows { path: self.path.clone(), reason }
    }
}
