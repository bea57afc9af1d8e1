//! `foramen label`: finding rows from files.

#[cfg(feature = "distributed")]
use anyhow::Context;
use clap::ValueEnum;
use encoding_rs::Encoding;
use foramen::archive::{self, InputFormat, Job, Output, Progress, Reading, Summary};
#[cfg(feature = "distributed")]
use foramen::cluster::{self, Labelling};
use foramen::model::Model;
#[cfg(feature = "distributed")]
use foramen::model::Package;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Read reports and HL7 messages, and write one row of graded findings a motion segment.
///
/// Inputs are files, folders (with all that is in them), patterns, or - for standard input. Each file's format is known by its
/// name (.hl7, .jsonl, .csv, .parquet) or else by how it begins. What can't be read goes to the file of rejects with the reason,
/// and the rest goes on; the exit status is then 3.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  foramen label messages/ --output findings.parquet
      every file in the folder: HL7 messages, text, JSON lines, CSV, Parquet
  foramen label reports.csv --text-column narrative --id-column accession --output findings.csv
  foramen label 'archive/2026-*/*.hl7' --output findings.parquet --charset windows-1252
  echo 'L4-L5: broad-based disc bulge.' | foramen label - --output -
      JSON lines on the screen

Codes of rejects beside those of HL7 (no-msh, truncated, no-text …):
  unreadable      the file can't be opened or read        empty           there is nothing in it
  not-text        binary data                             too-large       a report of more than 64 MB
  no-text-column  no such column; its message names       no-id-column    the column of --id-column is missing
                  the columns there are                   text-not-text   the text column holds something else
  bad-json        a line that is no JSON object           bad-csv         a row with other columns than the header
  bad-parquet     a Parquet file that is damaged          model-failed    the model could not read the text")]
pub(crate) struct Args {
    /// Files, folders, patterns, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// Where the rows go: *.parquet, *.jsonl, *.csv, *.arrow, or - for JSON lines on the screen
    #[cfg_attr(feature = "distributed", doc = "(with --workers: FOLDER/, which they write Parquet files into)")]
    #[arg(short, long, value_name = "FILE", value_parser = output)]
    output: Destination,
    /// Where rejects go, as JSON lines [default: OUTPUT.rejects.jsonl, or label.rejects.jsonl for -]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// The format of every input [default: by name and content]
    #[arg(long, value_enum, value_name = "FORMAT")]
    input_format: Option<Shape>,
    /// Column with the report's id in JSON lines, CSV and Parquet [default: id or report_id, else the row's number]
    #[arg(long, value_name = "COLUMN")]
    id_column: Option<String>,
    /// Column with the report's text [default: text or report]
    #[arg(long, value_name = "COLUMN")]
    text_column: Option<String>,
    /// Character set of text and messages, whatever they say of themselves: utf-8, windows-1252, 8859/2 …
    #[arg(long, value_name = "NAME", value_parser = charset)]
    charset: Option<&'static Encoding>,
    #[command(flatten)]
    reading: crate::Reading,
    #[cfg(feature = "distributed")]
    #[command(flatten)]
    workers: crate::worker::Workers,
}

#[derive(Debug, Clone)]
enum Destination {
    File(Output),
    /// What workers write into.
    #[cfg(feature = "distributed")]
    Folder(PathBuf),
}

impl Destination {
    /// Where rejects go if that is not said.
    fn rejects(&self) -> PathBuf {
        let path = match self {
            Destination::File(Output::Stdout) => return "label.rejects.jsonl".into(),
            Destination::File(Output::File(path, _)) => path,
            #[cfg(feature = "distributed")]
            Destination::Folder(path) => path,
        };
        // The components leave a slash at the end out.
        let mut name = path.components().as_path().as_os_str().to_owned();
        name.push(".rejects.jsonl");
        name.into()
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shape {
    /// HL7 v2 messages: one, many, MLLP frames, batches
    Hl7,
    /// One report a file
    Text,
    /// One JSON object a line
    Jsonl,
    /// Comma-separated, with a header
    Csv,
    /// Parquet
    Parquet,
}

impl From<Shape> for InputFormat {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Hl7 => InputFormat::Hl7,
            Shape::Text => InputFormat::Text,
            Shape::Jsonl => InputFormat::Jsonl,
            Shape::Csv => InputFormat::Csv,
            Shape::Parquet => InputFormat::Parquet,
        }
    }
}

fn output(name: &str) -> Result<Destination, String> {
    #[cfg(feature = "distributed")]
    if name.ends_with('/') {
        return Ok(Destination::Folder(name.into()));
    }
    Output::named(Path::new(name)).map(Destination::File).map_err(|error| error.to_string())
}

fn charset(name: &str) -> Result<&'static Encoding, String> {
    foramen::hl7::encoding(name)
        .ok_or_else(|| "that is no character set; try utf-8, windows-1252, 8859/2 or gb18030".into())
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let rejects = args.rejects.clone().unwrap_or_else(|| args.output.rejects());
    let stopped = crate::stopped()?;
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::no_length();
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut progress = |progress: Progress| {
        if let Some(total) = progress.total.filter(|_| bar.length().is_none()) {
            bar.set_length(total);
            bar.set_style(style("{bar:30} {bytes}/{total_bytes}, {msg}, {eta} left"));
        }
        bar.set_position(progress.bytes);
        bar.set_message(format!("{} reports", progress.reports));
        if stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let labelled = labelled(&args, &rejects, &mut progress);
    bar.finish_and_clear();
    let summary = labelled?;
    let mut screen = std::io::stderr();
    write!(screen, "{summary}")?;
    if summary.rejected() == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(screen, "rejects are in {}", rejects.display())?;
    Ok(ExitCode::from(3))
}

/// Labels where it was asked for: here, or on workers.
fn labelled(
    args: &Args,
    rejects: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> anyhow::Result<Summary> {
    let reading = Reading {
        format: args.input_format.map(InputFormat::from),
        id_column: args.id_column.clone(),
        text_column: args.text_column.clone(),
        charset: args.charset,
        hl7: args.reading.hl7()?,
    };
    let (inputs, rejects) = (args.inputs.clone(), rejects.to_path_buf());
    match args.output.clone() {
        #[cfg(feature = "distributed")]
        Destination::File(_) if args.workers.any() => {
            anyhow::bail!("workers write into a folder: name it with a slash at its end, --output findings/")
        }
        Destination::File(output) => {
            let model = Model::open(&args.reading.folder(), &args.reading.options())?;
            Ok(archive::label(&Job { inputs, output, rejects, reading }, &model, progress)?)
        }
        #[cfg(feature = "distributed")]
        Destination::Folder(_) if !args.workers.any() => {
            anyhow::bail!("a folder is what --workers write into; without them name a file, as findings.parquet")
        }
        #[cfg(feature = "distributed")]
        Destination::Folder(output) => {
            let package = Package::open(&args.reading.folder())?;
            let job = Labelling { inputs, output, rejects, reading };
            let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
            runtime.block_on(async {
                let cluster = args.workers.join(&args.reading, Some(&package)).await?;
                Ok(cluster::label(&cluster, &job, progress).await?)
            })
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
