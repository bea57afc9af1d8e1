//! The command `foramen`.

mod doctor;
mod export;
mod label;
mod model;
mod sql;
#[cfg(feature = "kafka")]
mod stream;
#[cfg(feature = "distributed")]
mod worker;

use anyhow::Context;
use clap::{Parser, Subcommand};
use foramen::hl7;
use foramen::model::{Arithmetic, Device, Options, checked_score, default_folder};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Graded findings for each motion segment, read from radiology reports.
///
/// Exit status: 0 all was read; 1 it could not run; 2 wrong usage; 3 it ran to the end, and rejected something.
/// RUST_LOG=debug tells more on the way; FORAMEN_LOG=json makes logs lines of JSON.
#[derive(Debug, Parser)]
#[command(version, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Label(label::Args),
    Sql(sql::Args),
    Export(export::Args),
    #[cfg(feature = "kafka")]
    Stream(stream::Args),
    #[cfg(feature = "distributed")]
    Worker(worker::Args),
    Model(model::Args),
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    logs(&command);
    let result = match command {
        Command::Label(args) => label::run(args),
        Command::Sql(args) => sql::run(args),
        Command::Export(args) => export::run(args),
        #[cfg(feature = "kafka")]
        Command::Stream(args) => stream::run(args),
        #[cfg(feature = "distributed")]
        Command::Worker(args) => worker::run(args),
        Command::Model(args) => model::run(args),
        Command::Doctor(args) => doctor::run(args),
    };
    result.unwrap_or_else(|error| {
        // Where standard error is gone too, the status is all there is.
        let _ = writeln!(std::io::stderr(), "foramen: {}", told(&error));
        ExitCode::FAILURE
    })
}

/// Logs go to standard error: for people, or as JSON lines with FORAMEN_LOG=json.
fn logs(command: &Command) {
    let usual = match command {
        #[cfg(feature = "kafka")]
        // What counts of the client's own log is told by the stream.
        Command::Stream(_) => "info,librdkafka=off,rdkafka=off",
        _ => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match std::env::var("FORAMEN_LOG").as_deref() {
        Ok("json") => lines.json().flatten_event(true).init(),
        _ => lines.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}

/// Set by Ctrl-C or SIGTERM, so that an unfinished output, which holds patients' data, does not stay behind.
fn stopped() -> anyhow::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot listen for signals")?;
    let mut terminate = {
        let _inside = runtime.enter();
        signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?
    };
    let flag = Arc::clone(&stopped);
    std::thread::spawn(move || {
        let mut asked = || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
            });
        };
        asked();
        flag.store(true, Ordering::Relaxed);
        let _ = writeln!(std::io::stderr(), "stopping after the reports at hand; once more to stop at once");
        asked();
        #[allow(
            clippy::disallowed_methods,
            reason = "it was asked for twice: an input that gives nothing can't be waited for"
        )]
        std::process::exit(130);
    });
    Ok(stopped)
}

/// Which model answers, and what it runs on.
#[derive(Debug, clap::Args)]
struct Placed {
    /// The model package [default: models/spine here or above, or beside the program]
    #[arg(long, value_name = "DIR", env = "FORAMEN_MODEL")]
    model: Option<PathBuf>,
    /// Where the model runs: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// What the model computes in on the processor: float32, int8, or auto, which is int8 where the processor has instructions for it
    #[arg(long, value_name = "auto|float32|int8", default_value = "auto")]
    arithmetic: Arithmetic,
}

impl Placed {
    /// The package's folder.
    fn folder(&self) -> PathBuf {
        self.model.clone().unwrap_or_else(default_folder)
    }

    /// How the model is run.
    fn options(&self) -> Options {
        Options { device: self.device, arithmetic: self.arithmetic, ..Options::default() }
    }
}

/// How reports are read: what every command takes that reads them.
#[derive(Debug, clap::Args)]
struct Reading {
    /// A site's ways with HL7 messages, as TOML: report_id, zone, status, charset, max_message_bytes (docs/hl7.md)
    #[arg(long, value_name = "FILE.toml")]
    hl7_options: Option<PathBuf>,
    #[command(flatten)]
    placed: Placed,
    /// Score below which a grade is NULL: 0 gives every grade; what a threshold costs and gains is in the model card
    #[arg(long, value_name = "0-1", default_value_t = 0.0, value_parser = score)]
    min_score: f32,
}

fn score(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().map_err(|error| error.to_string())?;
    Ok(checked_score(number)?)
}

impl Reading {
    /// How HL7 messages are read: by a site's file, or by the defaults.
    fn hl7(&self) -> anyhow::Result<hl7::Options> {
        let text = self.hl7_text()?;
        let named = || self.hl7_options.as_deref().unwrap_or(Path::new("")).display().to_string();
        toml::from_str(&text).with_context(|| format!("{} holds no options of HL7 messages", named()))
    }

    /// The text of that file; none is a file without options.
    fn hl7_text(&self) -> anyhow::Result<String> {
        let Some(path) = &self.hl7_options else { return Ok(String::new()) };
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The package's folder.
    fn folder(&self) -> PathBuf {
        self.placed.folder()
    }

    /// How the model is run.
    fn options(&self) -> Options {
        Options { min_score: self.min_score, ..self.placed.options() }
    }
}

/// An error with its causes, each told once: some errors tell their cause themselves.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        if told.contains(&cause) {
            told
        } else if told.is_empty() {
            cause
        } else {
            format!("{told}: {cause}")
        }
    })
}
