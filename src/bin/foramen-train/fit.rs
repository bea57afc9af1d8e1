use anyhow::Context;
use foramen::labels::LabelSchema;
use foramen::model::default_folder;
use foramen::train::fit::{Config, fit};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Fine-tune the pretrained encoder with a head for each task.
///
/// All settings have defaults: those that the default model was trained with. They are saved in the run's folder before the first step; a
/// run that was stopped goes on where it was when the same command is given again.
///
/// With --data and no --encoder it goes on from the shipped model (or from --from) with your annotated reports: a few dozen and some minutes are
/// enough to bring it to a site's ways. `foramen-train export` then makes a package of it.
///
/// Examples:
///   foramen-train fit --output runs/mine --data my-reports.jsonl
///   foramen-train fit --output runs/anew --data my-thousands.jsonl --encoder native/encoder
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Folder of the run: configuration, checkpoints, metrics.
    #[arg(long, short, value_name = "DIR", default_value = "runs/spine")]
    output: PathBuf,
    /// Settings as a TOML file (the form of config.toml in a run's folder); options given beside it win.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Annotated reports, JSON lines of {"id", "text", "findings"}; repeatable [default: corpus/written.jsonl]
    #[arg(long, value_name = "FILE.jsonl")]
    data: Vec<PathBuf>,
    /// A model package to go on from [default with --data: the shipped one]
    #[arg(long, value_name = "DIR", conflicts_with = "encoder")]
    from: Option<PathBuf>,
    /// A model package to make a smaller model of: training starts from its layers, --layers of them, and learns its answers beside the grades
    #[arg(long, value_name = "DIR", conflicts_with_all = ["encoder", "from"])]
    teacher: Option<PathBuf>,
    /// Annotated reports, apart from those learnt from, by which scores are calibrated; repeatable [default: corpus/heldout.jsonl, with --data
    /// those held out]
    #[arg(long, value_name = "FILE.jsonl")]
    calibration: Vec<PathBuf>,
    /// Tasks that are learnt; repeatable, all where none is named
    #[arg(long, value_name = "TASK")]
    task: Vec<String>,
    /// The pretrained encoder: a folder with model.safetensors, config.json and tokenizer.json, or hf:OWNER/NAME to fetch a BERT from
    /// the Hugging Face hub [default: native/encoder]
    #[arg(long, value_name = "DIR|hf:NAME")]
    encoder: Option<String>,
    /// A label schema instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Synthetic reports of each epoch.
    #[arg(long)]
    synthetic: Option<usize>,
    /// Passes over the training text.
    #[arg(long)]
    epochs: Option<usize>,
    /// Motion segments in a step.
    #[arg(long)]
    batch: Option<usize>,
    /// Peak learning rate of the encoder; 0 trains the heads alone.
    #[arg(long)]
    rate: Option<f32>,
    /// Layers kept of the encoder, or of the package that training starts from.
    #[arg(long)]
    layers: Option<usize>,
    /// Seed of all that is drawn.
    #[arg(long)]
    seed: Option<u64>,
    /// Store embeddings of every layer and gradients of every task as Parquet in the run's folder, for the alignment functions of SQL
    /// (how often and how wide: [analysis] in --config; docs/training.md).
    #[arg(long)]
    analysis: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let schema = args.schema.as_deref().map_or_else(|| Ok(LabelSchema::spine()), LabelSchema::read)?;
    let adapts = args.encoder.is_none() && args.teacher.is_none() && (args.from.is_some() || !args.data.is_empty());
    let mut config = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            toml::from_str(&text).with_context(|| path.display().to_string())?
        }
        None if adapts => Config::adapting(args.from.clone().unwrap_or_else(default_folder)),
        // With other reports than the project's, those held out set the temperatures.
        None if !args.data.is_empty() => Config { calibration: Vec::new(), ..Config::default() },
        None => Config::default(),
    };
    config.from = args.from.or(config.from);
    config.teacher = args.teacher.or(config.teacher);
    if !args.data.is_empty() {
        config.data = args.data;
    }
    if !args.calibration.is_empty() {
        config.calibration = args.calibration;
    }
    if !args.task.is_empty() {
        config.tasks = args.task;
    }
    if let Some(encoder) = &args.encoder {
        config.encoder = match encoder.strip_prefix("hf:") {
            Some(name) => from_hub(name)?,
            None => encoder.into(),
        };
    }
    config.layers = args.layers.or(config.layers);
    config.synthetic = args.synthetic.unwrap_or(config.synthetic);
    config.epochs = args.epochs.unwrap_or(config.epochs);
    config.batch = args.batch.unwrap_or(config.batch).max(1);
    config.rate = args.rate.unwrap_or(config.rate);
    config.seed = args.seed.unwrap_or(config.seed);
    if args.analysis {
        config.analysis.get_or_insert_default();
    }
    let trained = fit(&config, &schema, &args.output, |line| {
        let _ = writeln!(io::stderr(), "{line}");
    })?;
    write!(io::stdout(), "{}", trained.scores.table())?;
    Ok(())
}

/// Lets the fetching script bring an encoder from the hub into native/.
fn from_hub(name: &str) -> anyhow::Result<PathBuf> {
    let folder = Path::new("native").join(name.replace('/', "--"));
    if !folder.join("model.safetensors").is_file() {
        let status = Command::new("python3").args(["scripts/fetch.py", &format!("hf:{name}")]).status();
        let fetched = status.context("cannot run python3, which fetches the encoder")?.success();
        anyhow::ensure!(
            fetched,
            "the encoder {name} could not be fetched from the hub; give --encoder a folder instead"
        );
    }
    Ok(folder)
}
