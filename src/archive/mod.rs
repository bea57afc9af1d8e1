//! Labelling what is there: files of messages and reports in, finding rows and rejects out. The engine of `foramen label`.
//!
//! Inputs are read as a stream, a few hundred reports at a time, whatever their size. What can't be read becomes a line of the
//! file of rejects, and the rest goes on.

mod bounded;
mod code;
mod columns;
mod error;
mod format;
mod item;
mod lines;
mod messages;
mod rejects;
mod rows;
mod sink;
mod source;
mod summary;
mod text;

pub use code::Code;
pub use error::Error;
pub use format::InputFormat;
pub use item::{Content, Rejection, Report};
pub use rows::{FindingRows, MODEL_KEY, SCHEMA_KEY, finding_schema, with_origin};
pub use sink::{Output, OutputFormat, Pending};
pub(crate) use source::{Source, sources};
pub use summary::Summary;

use crate::hl7;
use crate::model::Model;
use encoding_rs::Encoding;
use item::{Item, Items};
use rejects::Rejects;
use sink::Sink;
use std::cell::Cell;
use std::io::{self, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Reports that are labelled together.
const CHUNK: usize = 256;
/// Bytes of text from which on fewer are.
const CHUNK_BYTES: usize = 8 << 20;
/// Bytes of the longest report, line or message that is read.
const MAX_REPORT: usize = 64 << 20;

/// How inputs are read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The format of every input; by name and content where it is not given.
    pub format: Option<InputFormat>,
    /// The column with the report's id in JSON lines, CSV and Parquet: by default `id` or `report_id`, else rows are numbered.
    pub id_column: Option<String>,
    /// The column with the report's text: by default `text` or `report`.
    pub text_column: Option<String>,
    /// The character set of text and messages, whatever they say of themselves.
    pub charset: Option<&'static Encoding>,
    /// A site's ways with HL7 messages.
    pub hl7: hl7::Options,
}

/// What `foramen label` is asked to do.
#[derive(Debug, Clone)]
pub struct Job {
    /// Files, folders, patterns, `-` for standard input.
    pub inputs: Vec<String>,
    /// Where the rows go.
    pub output: Output,
    /// Where rejects go, as JSON lines.
    pub rejects: PathBuf,
    /// How inputs are read.
    pub reading: Reading,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of inputs that were read.
    pub bytes: u64,
    /// Bytes of all inputs; nothing where one is standard input.
    pub total: Option<u64>,
    /// Reports that were read.
    pub reports: u64,
}

/// Labels every report of a job's inputs. `progress` is called after each chunk; where it breaks, nothing of the output stays.
///
/// # Errors
/// Where the job can't be run or is stopped, or its output can't be written; an unreadable input is a reject and no error.
pub fn label(
    job: &Job,
    model: &Model,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, Error> {
    if job.output.path() == job.rejects.as_path() {
        return Err(Error::OutputIsRejects(job.rejects.clone()));
    }
    let sources = sources(&job.inputs, &[job.output.path(), &job.rejects])?;
    label_sources(&sources, &job.output, &job.rejects, &job.reading, model, progress)
}

/// [`label`] for files that are known.
pub(crate) fn label_sources(
    sources: &[Source],
    output: &Output,
    rejects: &Path,
    reading: &Reading,
    model: &Model,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, Error> {
    let labels = model.package().labels();
    let mut run = Run {
        sink: Sink::create(output, &finding_schema(labels), model.id(), labels)?,
        rows: FindingRows::new(labels, model.id()),
        rejects: Rejects::new(rejects),
        summary: Summary::new(model.provider()),
        model,
        waiting: Vec::new(),
        waiting_bytes: 0,
    };
    let read = Rc::new(Cell::new(0));
    let total = sources.iter().map(Source::size).sum();
    for source in sources {
        run.summary.files += 1;
        for item in items(source, reading, &read) {
            if run.take(item)?
                && progress(Progress { bytes: read.get(), total, reports: run.summary.reports }).is_break()
            {
                return Err(Error::Stopped);
            }
        }
    }
    run.flush()?;
    if progress(Progress { bytes: read.get(), total, reports: run.summary.reports }).is_break() {
        return Err(Error::Stopped);
    }
    run.sink.finish()?;
    run.rejects.finish()?;
    run.summary.finish();
    Ok(run.summary)
}

struct Run<'a> {
    model: &'a Model,
    sink: Sink,
    rows: FindingRows,
    rejects: Rejects,
    summary: Summary,
    waiting: Vec<Report>,
    waiting_bytes: usize,
}

impl Run<'_> {
    /// Takes an item in; says whether a chunk was labelled.
    fn take(&mut self, item: Item) -> Result<bool, Error> {
        match item {
            Item::Report(report) => {
                self.waiting_bytes += report.text.len();
                self.waiting.push(report);
                if self.waiting.len() >= CHUNK || self.waiting_bytes >= CHUNK_BYTES {
                    self.flush()?;
                    return Ok(true);
                }
            }
            Item::Reject(reject) => self.reject(&reject)?,
            Item::NotReport(kind) => *self.summary.not_reports.entry(kind).or_default() += 1,
            Item::Retracted => self.summary.retracted += 1,
            Item::Odd(what, times) => *self.summary.odd.entry(what.into()).or_default() += times,
        }
        Ok(false)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let reports = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let texts: Vec<&str> = reports.iter().map(|report| report.text.as_str()).collect();
        let answers = self.model.findings_each(&texts);
        for (report, findings) in reports.iter().zip(answers) {
            match findings {
                Ok(findings) => {
                    self.summary.reports += 1;
                    self.summary.rows += findings.len() as u64;
                    self.summary.without_segment += u64::from(findings.is_empty());
                    self.rows.push(report, &findings);
                }
                Err(error) => {
                    let mut reject = Rejection::new(&report.source, Code::ModelFailed, "model", error.to_string());
                    reject.content = Some(Content::Text(report.text.clone()));
                    reject.control_id.clone_from(&report.message_control_id);
                    self.reject(&reject)?;
                }
            }
        }
        let rows =
            self.rows.finish().map_err(|error| Error::Rows { path: "the rows".into(), reason: error.to_string() })?;
        self.sink.write(rows)
    }

    fn reject(&mut self, reject: &Rejection) -> Result<(), Error> {
        self.summary.reject(reject);
        self.rejects.write(reject)
    }
}

/// The steps of an input; what keeps it from being opened is the only step there is.
fn items(source: &Source, reading: &Reading, read: &Rc<Cell<u64>>) -> Items {
    let name = source.name();
    let opened = source.open().map(|input| Counted { input, read: Rc::clone(read) }).and_then(|mut input| {
        let mut head = Vec::new();
        input.by_ref().take(format::HEAD as u64).read_to_end(&mut head)?;
        Ok((head, input))
    });
    let (head, input) = match opened {
        Ok(opened) => opened,
        Err(error) => return Box::new(std::iter::once(Item::Reject(text::unreadable(&name, &error)))),
    };
    if head.len() < format::HEAD && head.trim_ascii().is_empty() {
        let reject = Rejection::new(&name, Code::Empty, "frame", "the input is empty; check how it was made");
        return Box::new(std::iter::once(Item::Reject(reject)));
    }
    let format = reading.format.unwrap_or_else(|| format::format(source, &head));
    let input = Cursor::new(head).chain(input);
    match format {
        InputFormat::Text => text::items(source, input, reading),
        InputFormat::Jsonl => lines::items(name, BufReader::new(input), reading),
        InputFormat::Csv => columns::csv(name, BufReader::new(input), reading),
        InputFormat::Parquet => {
            read.set(read.get() + source.size().unwrap_or_default());
            columns::parquet(source, reading)
        }
        InputFormat::Hl7 => {
            let options = hl7::Options { charset: reading.charset.or(reading.hl7.charset), ..reading.hl7.clone() };
            messages::items(name, input, options)
        }
    }
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.read.set(self.read.get() + length as u64);
        Ok(length)
    }
}
