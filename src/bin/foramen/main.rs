//! The command `foramen`.

mod doctor;
mod export;
mod label;
mod model;
mod sql;
#[cfg(feature = "kafka")]
mod stream;

use anyhow::Context;
use clap::{Parser, Subcommand};
use foramen::hl7;
use foramen::model::{Device, Options, default_folder};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
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

/// How reports are read: what every command takes that reads them.
#[derive(Debug, clap::Args)]
struct Reading {
    /// A site's ways with HL7 messages, as TOML: report_id, zone, status, charset, max_message_bytes (docs/hl7.md)
    #[arg(long, value_name = "FILE.toml")]
    hl7_options: Option<PathBuf>,
    /// The model package [default: models/spine here or above, or beside the program]
    #[arg(long, value_name = "DIR", env = "FORAMEN_MODEL")]
    model: Option<PathBuf>,
    /// Where the model runs: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// Score below which a grade is NULL: 0 gives every grade; what a threshold costs and gains is in the model card
    #[arg(long, value_name = "0-1", default_value_t = 0.0, value_parser = probability)]
    min_score: f32,
}

fn probability(text: &str) -> Result<f32, String> {
    let value = text.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "a probability lies between 0 and 1".into())
}

impl Reading {
    /// How HL7 messages are read: by a site's file, or by the defaults.
    fn hl7(&self) -> anyhow::Result<hl7::Options> {
        let Some(path) = &self.hl7_options else { return Ok(hl7::Options::default()) };
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} holds no options of HL7 messages", path.display()))
    }

    /// The package's folder.
    fn folder(&self) -> PathBuf {
        self.model.clone().unwrap_or_else(default_folder)
    }

    /// How the model is run.
    fn options(&self) -> Options {
        Options { device: self.device, min_score: self.min_score, ..Options::default() }
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
