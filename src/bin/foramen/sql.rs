//! `foramen sql`: statements from the command line, from files, from standard input, or typed.

use anyhow::Context;
use clap::ValueEnum;
use datafusion::prelude::SessionContext;
#[cfg(feature = "distributed")]
use foramen::model::Package;
use foramen::sql::{self, Console, Error, Format, Input, SqlModel};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Ask reports, findings and HL7 messages in SQL.
///
/// Statements end with a semicolon. Files are run before commands, each in the order given; the first error ends it with exit
/// status 1. With neither, statements are read from standard input, in an interactive shell where that is a terminal (\? says
/// what it knows). What is typed is kept in memory only: statements may hold patients' data.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Statements to run
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// A file of statements to run
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How rows are written
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
    // The model is opened by the first query that needs it.
    #[command(flatten)]
    reading: crate::Reading,
    #[cfg(feature = "distributed")]
    #[command(flatten)]
    workers: crate::worker::Workers,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Shape {
    /// Drawn for people
    #[default]
    Table,
    /// Comma-separated, with a header; lists and structs as JSON
    Csv,
    /// One JSON object a line
    Json,
}

impl From<Shape> for Format {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Table => Format::Table,
            Shape::Csv => Format::Csv,
            Shape::Json => Format::Json,
        }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let context = runtime.block_on(context(&args))?;
    let format = args.format.into();
    let mut scripts = Vec::new();
    for path in args.files {
        scripts.push(std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    scripts.extend(args.commands);
    if scripts.is_empty() && io::stdin().is_terminal() {
        return shell(&runtime, &mut Console::new(&context, format));
    }
    if scripts.is_empty() {
        let mut script = String::new();
        io::stdin().read_to_string(&mut script).context("cannot read standard input")?;
        scripts.push(script);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for script in scripts {
        match runtime.block_on(sql::run(&context, &script, format, &mut out)) {
            // Who reads has enough, as `head` does.
            Err(Error::Write(gone)) if gone.kind() == io::ErrorKind::BrokenPipe => break,
            done => done?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn context(args: &Args) -> anyhow::Result<SessionContext> {
    let model = Arc::new(SqlModel::lazy(args.reading.folder(), args.reading.options()));
    let hl7 = args.reading.hl7()?;
    #[cfg(feature = "distributed")]
    if args.workers.any() {
        // Who has no model may ask what needs none.
        let package = Package::open(&args.reading.folder()).ok();
        let cluster = args.workers.join(&args.reading, package.as_ref()).await?;
        return Ok(foramen::cluster::context(&cluster, model, hl7)?);
    }
    Ok(sql::context(model, hl7, Default::default())?)
}

fn shell(runtime: &tokio::runtime::Runtime, console: &mut Console<'_>) -> anyhow::Result<ExitCode> {
    let mut editor: rustyline::Editor<(), MemHistory> =
        rustyline::Editor::with_history(rustyline::Config::default(), MemHistory::new())?;
    let (mut out, mut errors) = (io::stdout(), io::stderr());
    writeln!(
        out,
        "foramen {}: SQL over reports and HL7 messages. \\? for help, \\q to leave.",
        env!("CARGO_PKG_VERSION")
    )?;
    let mut prompt = "foramen> ";
    loop {
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                console.clear();
                prompt = "foramen> ";
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        editor.add_history_entry(&line)?;
        let work = async {
            tokio::select! {
                input = console.line(&line, &mut out, &mut errors) => input.map(Some),
                _ = tokio::signal::ctrl_c() => Ok(None),
            }
        };
        prompt = match runtime.block_on(work)? {
            Some(Input::Quit) => break,
            Some(Input::More) => "    ...> ",
            Some(Input::Done) => "foramen> ",
            None => {
                writeln!(io::stderr(), "cancelled")?;
                "foramen> "
            }
        };
    }
    Ok(ExitCode::SUCCESS)
}
