use anyhow::Context;
use foramen::labels::LabelSchema;
use foramen::train::corpus::{Grammar, Options, generate};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Write synthetic reports with their findings, as JSON lines.
///
/// The same seed gives the same reports. Phrases and what they say are data, in corpus/grammar.
///
/// Example: foramen-train corpus --count 1000 --seed 7 --output synthetic.jsonl
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of reports.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// Chooses the reports.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A folder of phrase files instead of the built-in ones.
    #[arg(long, value_name = "DIR")]
    grammar: Option<PathBuf>,
    /// A label schema instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Where to write; standard output if absent.
    #[arg(long, short, value_name = "FILE.jsonl")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let schema = args.schema.as_deref().map_or_else(|| Ok(LabelSchema::spine()), LabelSchema::read)?;
    let grammar = match &args.grammar {
        Some(folder) => Grammar::read(folder, &schema)?,
        None => Grammar::built_in(&schema)?,
    };
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => Box::new(io::stdout().lock()),
    };
    let mut lines = BufWriter::new(&mut out);
    for report in generate(&grammar, &schema, &Options { count: args.count, seed: args.seed }) {
        serde_json::to_writer(&mut lines, &report)?;
        lines.write_all(b"\n")?;
    }
    Ok(lines.flush()?)
}
