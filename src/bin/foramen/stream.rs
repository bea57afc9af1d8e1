//! `foramen stream`: messages from Kafka, labelled rows out.

use anyhow::Context;
use clap::{Parser, Subcommand};
use foramen::stream::{self, Config, Replay, Stop};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Read HL7 messages from Kafka, and write labelled rows to a topic or a folder, each exactly once.
///
/// Runs until SIGTERM or Ctrl-C, which finishes what is in flight. Messages that can't be read go to the dead-letter topic. Logs go to
/// standard error and hold no patient's data. The configuration is described in docs/reference/configuration.md.
#[derive(Debug, Parser)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  foramen stream --config examples/stream/kafka.toml
  foramen doctor --config stream.toml
      see whether brokers answer and topics are there
  foramen stream replay --config stream.toml --code no-text
      feed dead letters back, after their cause was mended"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration
    #[arg(long, value_name = "FILE.toml", required = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(ReplayArgs),
}

/// Feed dead letters back into the topics that they came from.
///
/// Takes those that are there when it begins, each once: how far it came is kept by a consumer group, one for each choice of
/// codes. Key, headers and partition are as they came; the header foramen.replays counts.
#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// The configuration of the stream
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Only dead letters of this code; may be given several times
    #[arg(long = "code", value_name = "CODE")]
    codes: Vec<String>,
    /// The topic to write to, in place of where each came from
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Count them, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let stop = Arc::new(Stop::default());
    // What panics may tell of the value that it met; where it was is enough.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a panic; its text is not shown, since it may quote a message");
    }));
    let asked = Arc::clone(&stop);
    let mut terminate = {
        let _inside = runtime.enter();
        signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?
    };
    runtime.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping: what is in flight is finished");
        asked.stop();
    });
    match args.command {
        Some(Command::Replay(args)) => {
            let config = Config::open(&args.config)?;
            let wanted = Replay { codes: args.codes.into_iter().collect(), to: args.to, dry_run: args.dry_run };
            let done = stream::replay(&config, &wanted, &stop)?;
            let mut screen = std::io::stderr();
            let verb = if wanted.dry_run { "would be fed back" } else { "fed back" };
            let total: u64 = done.replayed.values().sum();
            let codes: Vec<String> = done.replayed.iter().map(|(code, count)| format!("{code} {count}")).collect();
            writeln!(
                screen,
                "{total} dead letters {verb}{}{}",
                if codes.is_empty() { "" } else { ": " },
                codes.join(", ")
            )?;
            for (count, what) in
                [(done.other_codes, "of other codes"), (done.without_origin, "that don't say where they came from")]
            {
                if count > 0 {
                    writeln!(screen, "{count} {what}, left where they are")?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let path = args.config.context("--config FILE.toml is needed")?;
            let config = Config::open(&path)?;
            stream::run(config, stop, runtime.handle().clone())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
