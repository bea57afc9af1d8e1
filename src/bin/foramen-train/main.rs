//! The command `foramen-train`.

mod corpus;
mod evaluate;
mod export;
mod fit;
mod study;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains, scores and packages the model that foramen reads reports with.
///
/// The default model is made by `foramen-train fit` and `foramen-train export` with no options: `make model` does both.
///
/// Exit status: 0 done; 1 it could not run; 2 wrong usage.
#[derive(Debug, Parser)]
#[command(version, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Corpus(corpus::Args),
    Fit(fit::Args),
    Evaluate(evaluate::Args),
    Export(export::Args),
    Study(study::Args),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Corpus(args) => corpus::run(args),
        Command::Fit(args) => fit::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Export(args) => export::run(args),
        Command::Study(args) => study::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is gone too, the status is all there is.
            let _ = writeln!(std::io::stderr(), "foramen-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
