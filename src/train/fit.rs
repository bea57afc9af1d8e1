//! Fine-tuning: the loop, its configuration, checkpoints that a stopped run resumes from, and early stopping.

use super::checkpoint;
use super::corpus::{self, Grammar};
use super::data::{self, Report};
use super::encoder::Batch;
use super::examples::{self, Example};
use super::heads::Heads;
use super::math::Matrix;
use super::math::mix;
use super::network::{Network, cross_entropy};
use super::optim::{AdamW, schedule};
use super::pretrained;
use super::scores::{Rows, Scores};
use crate::labels::{self, LabelSchema};
use crate::report;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokenizers::Tokenizer;

/// Why a training run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The training text could not be read.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// The grammar of the synthetic corpus is not valid.
    #[error(transparent)]
    Grammar(#[from] corpus::Error),
    /// The annotation does not fit the label schema.
    #[error(transparent)]
    Labels(#[from] labels::Error),
    /// The pretrained encoder could not be used.
    #[error(transparent)]
    Pretrained(#[from] pretrained::Error),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A file of the run could not be written or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The run's folder holds a run of another configuration.
    #[error("{0} holds a run of another configuration; give another --output, or delete it")]
    OtherRun(PathBuf),
    /// Something of the run makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// Everything that decides what a run gives; saved as `config.toml` before the first step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Annotated reports, JSON lines.
    pub data: Vec<PathBuf>,
    /// Synthetic reports of each epoch; every epoch has its own.
    pub synthetic: usize,
    /// Share of the annotated reports held out for early stopping.
    pub held_out: f32,
    /// Folder of the pretrained encoder.
    pub encoder: PathBuf,
    /// Layers kept of it, all where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Word pieces kept of its vocabulary.
    pub vocabulary: usize,
    /// Longest input in tokens.
    pub max_tokens: usize,
    /// Passes over the training text.
    pub epochs: usize,
    /// Motion segments in a step.
    pub batch: usize,
    /// Peak learning rate of the encoder.
    pub rate: f32,
    /// Peak learning rate of the heads.
    pub head_rate: f32,
    /// Share of the steps in which the rate rises.
    pub warmup: f32,
    /// Dropout rate.
    pub dropout: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Label smoothing.
    pub smoothing: f32,
    /// Exponent of a grade's inverse frequency in its weight: 0 for none, 1 for full balance.
    pub balance: f32,
    /// Epochs without a better held-out macro-F1 after which the run stops.
    pub patience: usize,
    /// Steps between checkpoints.
    pub checkpoint_steps: u64,
    /// Seed of all that is drawn.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: vec!["corpus/written.jsonl".into()],
            synthetic: 1300,
            held_out: 0.1,
            encoder: "native/encoder".into(),
            layers: None,
            vocabulary: 15_000,
            max_tokens: 256,
            epochs: 6,
            batch: 24,
            rate: 1.5e-4,
            head_rate: 1e-3,
            warmup: 0.06,
            dropout: 0.1,
            weight_decay: 0.01,
            smoothing: 0.02,
            balance: 0.5,
            patience: 3,
            checkpoint_steps: 150,
            seed: 1,
        }
    }
}

/// A trained network with what is needed to use it.
pub struct Trained {
    /// The network of the best epoch.
    pub network: Network,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its configuration.
    pub config: Config,
    /// Scores on the held-out reports.
    pub scores: Scores,
    /// Annotated reports held out.
    pub held_out: Vec<Report>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Progress {
    epoch: usize,
    step: u64,
    /// Steps of the whole run, by which the rate falls: those of the first epoch, times the epochs.
    total: u64,
    best: f64,
    best_epoch: usize,
}

const CONFIG: &str = "config.toml";
const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
const SHAPE: &str = "encoder.toml";
const TOKENIZER: &str = "tokenizer.json";
const METRICS: &str = "metrics.jsonl";

/// Whether a report is held out: by its id, so that the choice does not move when reports are added.
fn is_held_out(id: &str, share: f32) -> bool {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (mix(hash) >> 40) as f32 / (1u64 << 24) as f32 <= share && share > 0.0
}

/// Annotated reports of all files, those to learn from and those held out.
fn read_data(config: &Config) -> Result<(Vec<Report>, Vec<Report>), Error> {
    let mut reports = Vec::new();
    for path in &config.data {
        reports.extend(data::read_jsonl(path)?);
    }
    let (held_out, learnt) = reports.into_iter().partition(|r| is_held_out(&r.id, config.held_out));
    Ok((learnt, held_out))
}

/// Weight of each grade of each task: its inverse frequency to the power of `balance`, with a mean of 1 over the examples.
fn grade_weights(examples: &[&Example], schema: &LabelSchema, balance: f32) -> Vec<Vec<f32>> {
    let weights = schema.tasks().iter().enumerate().map(|(index, task)| {
        let mut counts = vec![0usize; task.grades.len()];
        examples.iter().for_each(|e| counts[e.grades[index] as usize] += 1);
        let weight = |count: &usize| (examples.len() as f32 / (*count).max(1) as f32).powf(balance);
        let raw: Vec<f32> = counts.iter().map(weight).collect();
        let mean = raw.iter().zip(&counts).map(|(w, c)| w * *c as f32).sum::<f32>() / examples.len().max(1) as f32;
        raw.into_iter().map(|w| (w / mean).min(10.0)).collect()
    });
    weights.collect()
}

/// The network's answers for the motion segments of reports.
pub fn answer(network: &Network, tokenizer: &Tokenizer, reports: &[Report], max_tokens: usize) -> Rows {
    let mut inputs = Vec::new();
    for report in reports {
        for segment in report::segments(&report.text) {
            let ids = examples::encode(tokenizer, &segment.input, max_tokens);
            inputs.push(((report.id.clone(), segment.level.to_string()), ids));
        }
    }
    let mut rows = Rows::new();
    for chunk in inputs.chunks(32) {
        let pass = network.forward(Batch::new(chunk.iter().map(|(_, ids)| ids.as_slice())), 0.0, 0);
        for (index, (key, _)) in chunk.iter().enumerate() {
            rows.insert(key.clone(), pass.logits().iter().map(|logits| argmax(logits.row(index))).collect());
        }
    }
    rows
}

fn argmax(row: &[f32]) -> u8 {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u8
}

/// Annotated rows of reports.
///
/// # Errors
/// A grade or a task that is not of the schema.
pub fn gold(schema: &LabelSchema, reports: &[Report]) -> Result<Rows, labels::Error> {
    let mut rows = Rows::new();
    for report in reports {
        for (level, finding) in &report.findings {
            rows.insert((report.id.clone(), level.clone()), schema.grades(finding)?);
        }
    }
    Ok(rows)
}

/// Trains by a configuration in the folder `output`, or goes on with the run that was stopped there. `report` hears a line an epoch.
///
/// # Errors
/// [`Error`] says which file or setting, and what is wrong with it.
pub fn fit(
    config: &Config,
    schema: &LabelSchema,
    output: &Path,
    mut report: impl FnMut(&str),
) -> Result<Trained, Error> {
    let file = |name: &str| output.join(name);
    let failed = |name: &str| {
        let path = output.join(name);
        move |source| Error::File { path, source }
    };
    std::fs::create_dir_all(output).map_err(failed(""))?;
    let resumed = file(CONFIG).exists();
    if resumed {
        if read_config(output)? != *config {
            return Err(Error::OtherRun(output.into()));
        }
    } else {
        let text = toml::to_string_pretty(config).map_err(|e| Error::Invalid(e.to_string()))?;
        std::fs::write(file(CONFIG), text).map_err(failed(CONFIG))?;
    }

    // The built-in phrases speak of the tasks of the schema that foramen ships; another schema learns from annotated reports alone.
    let grammar = if config.synthetic > 0 { Some(Grammar::built_in(schema)?) } else { None };
    let synthetic = |epoch: usize| -> Vec<Report> {
        let Some(grammar) = &grammar else { return Vec::new() };
        let options = corpus::Options { count: config.synthetic, seed: mix(config.seed) ^ epoch as u64 };
        corpus::generate(grammar, schema, &options).collect()
    };
    let (learnt, held_out) = read_data(config)?;
    let first = synthetic(0);
    let texts: Vec<String> = learnt
        .iter()
        .chain(&first)
        .flat_map(|r| report::segments(&r.text))
        .flat_map(|s| [examples::mirror(&s.input), s.input])
        .collect();
    let (encoder, tokenizer) = pretrained::load(
        &config.encoder,
        config.layers,
        config.max_tokens,
        config.vocabulary,
        texts.iter().map(String::as_str),
    )?;
    drop(texts);
    tokenizer
        .save(file(TOKENIZER), false)
        .map_err(|e| Error::Invalid(format!("{}: {e}", file(TOKENIZER).display())))?;
    let shape = toml::to_string(&encoder.config).map_err(|e| Error::Invalid(e.to_string()))?;
    std::fs::write(file(SHAPE), shape).map_err(failed(SHAPE))?;

    let written = examples::build(&learnt, schema, &tokenizer, config.max_tokens)?;
    report(&format!(
        "{} annotated reports to learn from ({} held out): {} distinct examples, {} rows that the grammar misses, {} that it invents",
        learnt.len(),
        held_out.len(),
        written.all.len(),
        written.missed.len(),
        written.invented.len(),
    ));
    let gold = gold(schema, &held_out)?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut network = Network { heads: Heads::initial(encoder.config.width, schema, || normal(&mut rng)), encoder };
    let mut optimiser = AdamW::new(&network, config.weight_decay);
    let mut progress = Progress::default();
    if resumed && file(LAST).exists() {
        progress = read_state(&file(LAST), &mut network, &mut optimiser)?;
        report(&format!("resumed in epoch {} at step {}", progress.epoch + 1, progress.step));
    }

    let mirrors = schema.mirrors();
    for epoch in progress.epoch..config.epochs {
        let made = examples::build(&synthetic(epoch), schema, &tokenizer, config.max_tokens)?;
        let mut all: Vec<&Example> = written.all.iter().chain(&made.all).collect();
        if all.is_empty() {
            return Err(Error::Invalid("there is nothing to learn from: give --data or --synthetic".into()));
        }
        let weights = grade_weights(&all, schema, config.balance);
        all.shuffle(&mut ChaCha8Rng::seed_from_u64(mix(config.seed ^ mix(epoch as u64))));
        let steps = all.len().div_ceil(config.batch) as u64;
        if progress.total == 0 {
            progress.total = steps * config.epochs as u64;
        }
        let bar = ProgressBar::new(steps).with_style(bar_style());
        bar.set_prefix(format!("epoch {}/{}", epoch + 1, config.epochs));
        let (started, mut tokens, mut loss_sum, mut taken) = (Instant::now(), 0, 0.0, 0);
        let mut gradient = network.zeros_like();
        for (index, chunk) in all.chunks(config.batch).enumerate() {
            // A resumed epoch passes over the steps that its checkpoint has taken.
            if (index as u64) < progress.step {
                continue;
            }
            let seed = mix(config.seed ^ mix(optimiser.steps));
            let (batch, mirrored) = batch_of(chunk, seed);
            tokens += batch.ids.len();
            let pass = network.forward(batch, config.dropout, seed);
            let mut loss = 0.0;
            let d = pass.logits().iter().enumerate().map(|(task, logits)| {
                let grade = |(e, mirrored): (&&Example, &bool)| e.grades[if *mirrored { mirrors[task] } else { task }];
                let targets: Vec<u8> = chunk.iter().zip(&mirrored).map(grade).collect();
                let (one, d) = cross_entropy(logits, &targets, &weights[task], config.smoothing);
                loss += one;
                Some(d)
            });
            let d: Vec<Option<Matrix>> = d.collect();
            network.backward(&pass, &d, &mut gradient);
            let warmup = (progress.total as f32 * config.warmup) as u64;
            let factor = schedule(optimiser.steps, warmup.max(1), progress.total);
            optimiser.step(&mut network, &mut gradient, factor * config.rate, factor * config.head_rate, 1.0);
            loss_sum += f64::from(loss);
            taken += 1;
            progress.step = index as u64 + 1;
            bar.set_position(progress.step);
            bar.set_message(format!(
                "loss {:.3}, {:.0} tokens/s",
                loss_sum / taken as f64,
                tokens as f64 / started.elapsed().as_secs_f64()
            ));
            if bar.is_hidden() && progress.step % 100 == 0 {
                // Without a terminal the log shows the way instead.
                let speed = tokens as f64 / started.elapsed().as_secs_f64();
                report(&format!(
                    "epoch {} step {}/{steps}: loss {:.4}, {speed:.0} tokens/s",
                    epoch + 1,
                    progress.step,
                    loss_sum / taken as f64
                ));
            }
            if progress.step % config.checkpoint_steps == 0 {
                write_state(&file(LAST), &network, &optimiser, &progress)?;
            }
        }
        bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let scores = if held_out.is_empty() {
            None
        } else {
            Some(Scores::new(schema, &gold, &answer(&network, &tokenizer, &held_out, config.max_tokens)))
        };
        let macro_f1 = scores.as_ref().map_or(f64::from(epoch as u32 + 1), |s| s.macro_f1);
        let line = format!(
            "epoch {}: loss {:.4}, {} steps, {:.0} tokens/s, held-out macro-F1 {}",
            epoch + 1,
            loss_sum / taken.max(1) as f64,
            taken,
            tokens as f64 / seconds,
            scores.as_ref().map_or("–".into(), |s| format!("{:.4}, row accuracy {:.4}", s.macro_f1, s.row_accuracy)),
        );
        report(&line);
        let metrics = serde_json::json!({ "epoch": epoch + 1, "steps": optimiser.steps, "loss": loss_sum / taken.max(1) as f64,
            "tokens": tokens, "seconds": seconds, "held_out": scores });
        let mut log =
            std::fs::OpenOptions::new().create(true).append(true).open(file(METRICS)).map_err(failed(METRICS))?;
        writeln!(log, "{metrics}").map_err(failed(METRICS))?;
        if macro_f1 > progress.best {
            (progress.best, progress.best_epoch) = (macro_f1, epoch);
            checkpoint::write(&file(BEST), &network.parameters(), HashMap::new())?;
        }
        (progress.epoch, progress.step) = (epoch + 1, 0);
        write_state(&file(LAST), &network, &optimiser, &progress)?;
        if epoch - progress.best_epoch >= config.patience {
            report(&format!("no better epoch in {}: stopped", config.patience));
            break;
        }
    }
    read_run(output, schema)
}

/// Reads the best network of a run's folder.
///
/// # Errors
/// [`Error`] where the folder holds no whole run.
pub fn read_run(output: &Path, schema: &LabelSchema) -> Result<Trained, Error> {
    let config = read_config(output)?;
    let path = output.join(SHAPE);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
    let shape = toml::from_str(&text).map_err(|e| Error::Invalid(format!("{SHAPE}: {e}")))?;
    let grades: Vec<usize> = schema.tasks().iter().map(|t| t.grades.len()).collect();
    let mut network = Network::zeros(&shape, &grades);
    checkpoint::read(&output.join(BEST), named_mut(&mut network, ""))?;
    let tokenizer = Tokenizer::from_file(output.join(TOKENIZER))
        .map_err(|e| Error::Invalid(format!("{}: {e}", output.join(TOKENIZER).display())))?;
    let (_, held_out) = read_data(&config)?;
    let said = answer(&network, &tokenizer, &held_out, config.max_tokens);
    let scores = Scores::new(schema, &gold(schema, &held_out)?, &said);
    Ok(Trained { network, tokenizer, config, scores, held_out })
}

fn read_config(output: &Path) -> Result<Config, Error> {
    let path = output.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    toml::from_str(&text).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
}

/// The sequences of a step, and which of them are mirrored left to right: every second one that speaks of a side, by chance.
fn batch_of(examples: &[&Example], seed: u64) -> (Batch, Vec<bool>) {
    let mirrored = |(i, e): (usize, &&Example)| !e.mirrored.is_empty() && mix(seed ^ i as u64) & 1 == 1;
    let mirrored: Vec<bool> = examples.iter().enumerate().map(mirrored).collect();
    let ids = examples.iter().zip(&mirrored).map(|(e, m)| if *m { e.mirrored.as_slice() } else { e.ids.as_slice() });
    (Batch::new(ids), mirrored)
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    use rand::RngExt;
    // Box and Muller (1958).
    let (u, v): (f32, f32) = (rng.random::<f32>().max(1e-7), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

fn named_mut<'a>(network: &'a mut Network, prefix: &str) -> Vec<(String, &'a mut Matrix)> {
    let names: Vec<String> = network.parameters().into_iter().map(|(name, _)| format!("{prefix}{name}")).collect();
    names.into_iter().zip(network.parameters_mut()).collect()
}

fn write_state(path: &Path, network: &Network, optimiser: &AdamW, progress: &Progress) -> Result<(), Error> {
    let mut all = network.parameters();
    for (prefix, moments) in [("mean.", &optimiser.mean), ("square.", &optimiser.square)] {
        all.extend(moments.parameters().into_iter().map(|(name, m)| (format!("{prefix}{name}"), m)));
    }
    let json = serde_json::to_string(progress).map_err(|e| Error::Invalid(e.to_string()))?;
    let metadata = [("progress".into(), json), ("steps".into(), optimiser.steps.to_string())];
    Ok(checkpoint::write(path, &all, metadata.into())?)
}

fn read_state(path: &Path, network: &mut Network, optimiser: &mut AdamW) -> Result<Progress, Error> {
    let mut all = named_mut(network, "");
    all.extend(named_mut(&mut optimiser.mean, "mean."));
    all.extend(named_mut(&mut optimiser.square, "square."));
    let metadata = checkpoint::read(path, all)?;
    let wrong = || Error::Invalid(format!("{} has no state of a run; delete it to start again", path.display()));
    optimiser.steps = metadata.get("steps").and_then(|s| s.parse().ok()).ok_or_else(wrong)?;
    metadata.get("progress").and_then(|p| serde_json::from_str(p).ok()).ok_or_else(wrong)
}

fn bar_style() -> ProgressStyle {
    let style = "{prefix} [{bar:32}] {pos}/{len} steps, {msg}, {eta} left";
    ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar())
}
