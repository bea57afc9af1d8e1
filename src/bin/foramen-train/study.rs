use anyhow::Context;
use clap::Subcommand;
use foramen::labels::LabelSchema;
use foramen::train::study::{Config, Summary, page, study, summarise};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// When can one multi-task network stand in for the task-specific ones?
///
/// Trains, from the same encoder, examples and number of steps, a network for all tasks, one for each task, one with two controls that should
/// not align with them, and pairs of tasks; for each region of the spine and each seed. Compares their scores, the similarity of their
/// representations (CKA) and their gradients, and says how well alignment foretells whether sharing helps.
///
/// It can be stopped: networks that are finished are not trained again when the same command is given again.
///
/// Examples:
///   foramen-train study --quick --output runs/quick
///   foramen-train study report runs/quick --output study.html
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Folder of the study: networks' answers, embeddings, gradients, and report.html.
    #[arg(long, short, value_name = "DIR", default_value = "runs/study")]
    output: PathBuf,
    /// One seed, two layers, few steps, no trained pairs: within ten minutes on two cores.
    #[arg(long)]
    quick: bool,
    /// Settings as a TOML file (the form of config.toml in a study's folder).
    #[arg(long, value_name = "FILE", conflicts_with = "quick")]
    config: Option<PathBuf>,
    /// Annotated reports to score beside the held-out synthetic ones, JSON lines of {"id", "text", "findings"}; repeatable.
    #[arg(long, value_name = "FILE.jsonl")]
    test: Vec<PathBuf>,
    /// The pretrained encoder [default: native/encoder]
    #[arg(long, value_name = "DIR")]
    encoder: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the results of a study as one HTML page that needs nothing else.
    Report {
        /// Folder of the study.
        #[arg(value_name = "DIR", default_value = "runs/study")]
        study: PathBuf,
        /// The page [default: report.html in the study's folder]
        #[arg(long, short, value_name = "FILE.html")]
        output: Option<PathBuf>,
    },
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if let Some(Command::Report { study, output }) = args.command {
        let summary = summarise(&study)?;
        return write_page(&summary, &output.unwrap_or_else(|| study.join("report.html")));
    }
    let mut config = if args.quick { Config::quick() } else { Config::default() };
    if let Some(path) = &args.config {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        config = toml::from_str(&text).with_context(|| path.display().to_string())?;
    }
    if !args.test.is_empty() {
        config.test = args.test;
    }
    config.encoder = args.encoder.unwrap_or(config.encoder);
    let summary = study(&config, &LabelSchema::spine(), &args.output, |line| {
        let _ = writeln!(io::stderr(), "{line}");
    })?;
    write!(io::stdout(), "{}", summary.table())?;
    write_page(&summary, &args.output.join("report.html"))
}

fn write_page(summary: &Summary, path: &Path) -> anyhow::Result<()> {
    let text = page(summary)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(io::stderr(), "the page is {}", path.display())?;
    Ok(())
}
