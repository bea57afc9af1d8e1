use anyhow::Context;
use foramen::labels::LabelSchema;
use foramen::train::Precision;
use foramen::train::behaviour;
use foramen::train::data::read_jsonl;
use foramen::train::export::{About, export};
use foramen::train::fit::read_run;
use std::io::{self, Write};
use std::path::PathBuf;

/// Write the model package of a training run.
///
/// The package is scored on the run's held-out reports, and on the files given by --score, as its graph will answer; the scores stand in its
/// model card and manifest.
///
/// Example: foramen-train export runs/mine --output models/mine --name mine --score my-test.jsonl
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the training run.
    #[arg(default_value = "runs/spine", value_name = "RUN")]
    run: PathBuf,
    /// Folder of the package.
    #[arg(long, short, value_name = "DIR", default_value = "models/spine")]
    output: PathBuf,
    /// Name of the package.
    #[arg(long, default_value = "spine")]
    name: String,
    /// Version of the package.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    package_version: String,
    /// What the card calls the pretrained encoder.
    #[arg(long, default_value = "all-MiniLM-L6-v2")]
    encoder_name: String,
    /// A remark for the model card.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Keep float32 weights (four times as large) instead of 8-bit ones.
    #[arg(long)]
    float32: bool,
    /// A label schema instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Labelled reports to score the package on; repeatable.
    #[arg(long, value_name = "FILE.jsonl")]
    score: Vec<PathBuf>,
    /// A folder of behavioural tests whose pass rates go into the card.
    #[arg(long, value_name = "DIR")]
    behaviour: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let schema = args.schema.as_deref().map_or_else(|| Ok(LabelSchema::spine()), LabelSchema::read)?;
    let trained = read_run(&args.run, &schema)?;
    let mut files = Vec::new();
    for path in &args.score {
        let name = path.file_stem().context("--score names no file")?.to_string_lossy().into_owned();
        files.push((name, read_jsonl(path)?));
    }
    let precision = if args.float32 { Precision::Float32 } else { Precision::Int8Weights };
    let about = About {
        name: args.name,
        version: args.package_version,
        encoder: args.encoder_name,
        precision,
        note: args.note,
    };
    let suite = args.behaviour.as_deref().map_or(Ok(Vec::new()), |folder| behaviour::read(folder, &schema))?;
    let manifest = export(&trained, &schema, &about, &files, &suite, &args.output)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {}@{}, {}", args.output.display(), manifest.name, manifest.version, manifest.precision)?;
    write!(out, "{}", toml::to_string(&manifest.scores)?)?;
    Ok(())
}
