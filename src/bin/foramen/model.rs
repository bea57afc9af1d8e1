//! `foramen model`: what a model package is, and whether its files are whole.

use foramen::model::{Package, default_folder};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Say what a model package is, how good it is, and whether its files are whole.
///
/// Each file's sha256 is compared with the one in package.toml. The exit status is 1 where one is missing or altered.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The package [default: models/spine here or above, or beside the program]
    #[arg(value_name = "DIR", env = "FORAMEN_MODEL")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let package = Package::open(&args.folder.unwrap_or_else(default_folder))?;
    let (manifest, labels) = (package.manifest(), package.labels());
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} in {}", package.id(), package.folder().display())?;
    let (layers, width, window, precision) =
        (manifest.layers, manifest.width, manifest.max_tokens, &manifest.precision);
    writeln!(out, "encoder: {}, {layers} layers x {width}, {window} tokens, {precision}", manifest.encoder)?;
    let files: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
    writeln!(out, "files: {} and package.toml, all whole", files.join(", "))?;
    writeln!(out, "tasks of {}:", manifest.schema)?;
    for task in labels.tasks() {
        writeln!(out, "  {}: {}", task.name, task.grades.join(", "))?;
    }
    for (title, table) in [("scores", &manifest.scores), ("training", &manifest.training)] {
        if !table.is_empty() {
            writeln!(out, "{title}:")?;
            for line in toml::to_string(table)?.lines() {
                writeln!(out, "  {line}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
