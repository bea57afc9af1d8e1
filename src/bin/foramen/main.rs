//! The command `foramen`.

mod doctor;
mod label;
mod model;
mod sql;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Graded findings for each motion segment, read from radiology reports.
///
/// Exit status: 0 all was read; 1 it could not run; 2 wrong usage; 3 it ran to the end, and rejected something.
/// RUST_LOG=debug tells more on the way.
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
    Model(model::Args),
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match Arguments::parse().command {
        Command::Label(args) => label::run(args),
        Command::Sql(args) => sql::run(args),
        Command::Model(args) => model::run(args),
        Command::Doctor(args) => doctor::run(args),
    };
    result.unwrap_or_else(|error| {
        // Where standard error is gone too, the status is all there is.
        let _ = writeln!(std::io::stderr(), "foramen: {}", told(&error));
        ExitCode::FAILURE
    })
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
