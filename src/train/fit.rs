//! Fine-tuning: the loop, its configuration, checkpoints that a stopped run resumes from, and early stopping.

use super::analysis::{self, Analysis};
use super::checkpoint;
use super::corpus::{self, Grammar};
use super::data::{self, Report};
use super::encoder::Batch;
use super::examples::{self, Example};
use super::graph::from_onnx;
use super::heads::Heads;
use super::math::Matrix;
use super::math::mix;
use super::network::{Network, cross_entropy, distillation};
use super::optim::{AdamW, schedule};
use super::pretrained;
use super::scores::{Rows, Scores};
use crate::labels::{self, LabelSchema};
use crate::model::{self, GRAPH, Package};
use crate::report;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
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
    /// The package to go on from could not be opened.
    #[error(transparent)]
    Package(#[from] model::Error),
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
    /// Annotated reports by others than those learnt from, JSON lines: never learnt from, they set the temperatures of the scores. Without
    /// them the held-out ones do.
    pub calibration: Vec<PathBuf>,
    /// A model package that training goes on from, instead of a pretrained encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// A model package that teaches: training starts from its layers, `layers` of them, and learns its answers beside the grades. Instead
    /// of `from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Share of the loss that the teacher's answers have, 0 to 1.
    pub taught: f32,
    /// Tasks that are learnt, all where none is named: one makes a task-specific model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
    /// Folder of the pretrained encoder.
    pub encoder: PathBuf,
    /// Layers kept of it (the first ones) or of the package that training starts from (evenly spaced); all where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Word pieces kept of its vocabulary.
    pub vocabulary: usize,
    /// Longest input in tokens, where the encoder has positions for as many; a package that is gone on from keeps its own.
    pub max_tokens: usize,
    /// Passes over the training text.
    pub epochs: usize,
    /// Motion segments in a step.
    pub batch: usize,
    /// Peak learning rate of the encoder; 0 leaves it as it is and trains the heads alone.
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
    /// What is stored for the alignment functions of SQL; nothing where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: vec!["corpus/written.jsonl".into()],
            synthetic: 1300,
            held_out: 0.1,
            calibration: vec!["corpus/heldout.jsonl".into()],
            from: None,
            teacher: None,
            taught: 0.8,
            tasks: Vec::new(),
            encoder: "native/encoder".into(),
            layers: None,
            vocabulary: 15_000,
            max_tokens: 256,
            epochs: 7,
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
            analysis: None,
        }
    }
}

impl Config {
    /// Settings to go on from a package with a site's own annotated reports: gentler rates, more passes over little text, and some
    /// synthetic reports so that what is rare at the site is not forgotten. Nothing is held out of so little.
    pub fn adapting(from: PathBuf) -> Self {
        Self {
            calibration: Vec::new(),
            from: Some(from),
            synthetic: 150,
            held_out: 0.0,
            epochs: 6,
            rate: 4e-5,
            head_rate: 2e-4,
            ..Self::default()
        }
    }

    fn check(&self) -> Result<(), Error> {
        let least = [
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 1),
            ("patience", self.patience, 1),
            ("checkpoint_steps", self.checkpoint_steps as usize, 1),
            ("max_tokens", self.max_tokens, 8),
            ("layers", self.layers.unwrap_or(1), 1),
        ];
        let analysis = self.analysis.clone().unwrap_or_default();
        let of_analysis = [
            ("analysis.every", analysis.every as usize, 1),
            ("analysis.examples", analysis.examples, 1),
            ("analysis.width", analysis.width, 1),
        ];
        let least: Vec<_> = least.into_iter().chain(of_analysis).collect();
        if self.from.is_some() && self.teacher.is_some() {
            return Err(Error::Invalid(
                "from and teacher are both given: a teacher is what training starts from".into(),
            ));
        }
        if !(0.0..=1.0).contains(&self.taught) {
            return Err(Error::Invalid(format!("taught is {}; it is a share, from 0 to 1", self.taught)));
        }
        match least.into_iter().find(|(_, value, least)| value < least) {
            Some((name, value, least)) => {
                Err(Error::Invalid(format!("{name} is {value}; it must be at least {least}")))
            }
            None => Ok(()),
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
    /// Annotated reports that set the temperatures.
    pub calibration: Vec<Report>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Progress {
    epoch: usize,
    step: u64,
    /// Steps of the whole run, by which the rate falls: those of the first epoch, times the epochs.
    total: u64,
    best: f64,
    /// Number of the best epoch, from 1.
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

fn read_all(paths: &[PathBuf]) -> Result<Vec<Report>, Error> {
    let mut reports = Vec::new();
    for path in paths {
        reports.extend(data::read_jsonl(path)?);
    }
    Ok(reports)
}

/// Annotated reports of all files, those to learn from and those held out.
fn read_data(config: &Config) -> Result<(Vec<Report>, Vec<Report>), Error> {
    let reports = read_all(&config.data)?;
    let (held_out, learnt) = reports.into_iter().partition(|r| is_held_out(&r.id, config.held_out));
    Ok((learnt, held_out))
}

/// Weight of each grade of each task: its inverse frequency to the power of `balance`, with a mean of 1 over the examples.
pub(super) fn grade_weights(examples: &[&Example], schema: &LabelSchema, balance: f32) -> Vec<Vec<f32>> {
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

/// Logits of every task for the motion segments of reports, by report id and level.
pub type Logits = BTreeMap<(String, String), Vec<Vec<f32>>>;

/// The network's answers for the motion segments of reports.
pub fn answer(network: &Network, tokenizer: &Tokenizer, reports: &[Report]) -> Rows {
    grades(&logits(network, tokenizer, reports))
}

/// The most probable grades.
pub(super) fn grades(logits: &Logits) -> Rows {
    logits.iter().map(|(key, tasks)| (key.clone(), tasks.iter().map(|logits| argmax(logits)).collect())).collect()
}

/// The network's logits for the motion segments of reports.
pub fn logits(network: &Network, tokenizer: &Tokenizer, reports: &[Report]) -> Logits {
    let mut inputs = Vec::new();
    for report in reports {
        for segment in report::segments(&report.text) {
            let ids = examples::encode(tokenizer, &segment.input, network.window());
            inputs.push(((report.id.clone(), segment.level.to_string()), ids));
        }
    }
    let mut rows = Logits::new();
    for chunk in inputs.chunks(32) {
        let pass = network.forward(Batch::new(chunk.iter().map(|(_, ids)| ids.as_slice())), 0.0, 0);
        for (index, (key, _)) in chunk.iter().enumerate() {
            rows.insert(key.clone(), pass.logits().iter().map(|logits| logits.row(index).to_vec()).collect());
        }
    }
    rows
}

pub(super) fn argmax(row: &[f32]) -> u8 {
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
    config.check()?;
    if let Some(unknown) = config.tasks.iter().find(|task| schema.task(task).is_none()) {
        return Err(Error::Invalid(format!("tasks names {unknown}, which is no task of {}", schema.id())));
    }
    settle(config, output)?;
    // The built-in phrases speak of the tasks of the schema that foramen ships; another schema learns from annotated reports alone.
    let grammar = if config.synthetic > 0 { Some(Grammar::built_in(schema)?) } else { None };
    let synthetic = |epoch: usize| -> Vec<Report> {
        let Some(grammar) = &grammar else { return Vec::new() };
        let options = corpus::Options { count: config.synthetic, seed: mix(config.seed) ^ epoch as u64 };
        corpus::generate(grammar, schema, &options).collect()
    };
    let (learnt, held_out) = read_data(config)?;
    let mut run = Run::new(config, schema, output, learnt.iter().chain(&synthetic(0)))?;
    let window = run.network.window();
    let written = examples::build(&learnt, schema, &run.tokenizer, window)?;
    report(&format!(
        "{} annotated reports to learn from ({} held out): {} distinct examples, {} rows that the grammar misses, {} that it invents",
        learnt.len(),
        held_out.len(),
        written.all.len(),
        written.missed.len(),
        written.invented.len(),
    ));
    if let Some(analysis) = &config.analysis {
        let held_out = examples::build(&held_out, schema, &run.tokenizer, window)?;
        // Those that are not learnt from, where there are any.
        let probe = if held_out.all.is_empty() { written.all.clone() } else { held_out.all };
        run.probe = probe.into_iter().take(analysis.examples).collect();
    }
    let gold = gold(schema, &held_out)?;
    if output.join(LAST).exists() {
        run.progress = read_state(&output.join(LAST), &mut run.network, &mut run.optimiser)?;
        report(&format!("resumed in epoch {} at step {}", run.progress.epoch + 1, run.progress.step));
    }
    while run.progress.epoch < config.epochs {
        if run.progress.epoch - run.progress.best_epoch >= config.patience {
            report(&format!("no better epoch in {}: stopped", config.patience));
            break;
        }
        let made = examples::build(&synthetic(run.progress.epoch), schema, &run.tokenizer, window)?;
        let pace = run.epoch(written.all.iter().chain(&made.all).collect(), &mut report)?;
        let scores = (!held_out.is_empty())
            .then(|| Scores::new(schema, &gold, &answer(&run.network, &run.tokenizer, &held_out)));
        report(&format!(
            "epoch {}: loss {:.4}, {} steps, {:.0} tokens/s, held-out macro-F1 {}",
            run.progress.epoch + 1,
            pace.loss(),
            pace.steps,
            pace.speed(),
            scores.as_ref().map_or("–".into(), |s| {
                format!("{:.4}, row accuracy {:.4}", s.macro_f1_of(&config.tasks), s.row_accuracy)
            }),
        ));
        run.end_epoch(&pace, scores)?;
    }
    let trained = read_run(output, schema)?;
    if config.analysis.is_some() {
        let run = name_of(output);
        let path = output.join(analysis::EMBEDDINGS).join(format!("{run}.parquet"));
        let probe = if held_out.is_empty() { &learnt } else { &held_out };
        let inputs = analysis::inputs(&trained.tokenizer, window, probe);
        let of = analysis::Of { run: &run, model: analysis::MULTI, task: analysis::MULTI };
        analysis::write_embeddings(&path, of, &trained.network, inputs)?;
        report(&format!("embeddings and gradients are in {}", output.display()));
    }
    Ok(trained)
}

/// A run's name: that of its folder.
fn name_of(output: &Path) -> String {
    output.file_name().unwrap_or(output.as_os_str()).to_string_lossy().into_owned()
}

/// Makes the run's folder and saves the configuration, or sees that the run there is of the same.
fn settle(config: &Config, output: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(output).map_err(failed(output, ""))?;
    if !output.join(CONFIG).exists() {
        let text = toml::to_string_pretty(config).map_err(|e| Error::Invalid(e.to_string()))?;
        return std::fs::write(output.join(CONFIG), text).map_err(failed(output, CONFIG));
    }
    if read_config(output)? == *config { Ok(()) } else { Err(Error::OtherRun(output.into())) }
}

fn failed(output: &Path, name: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = output.join(name);
    move |source| Error::File { path, source }
}

/// A run under way.
struct Run<'a> {
    config: &'a Config,
    schema: &'a LabelSchema,
    output: &'a Path,
    mirrors: Vec<usize>,
    network: Network,
    teacher: Option<Network>,
    tokenizer: Tokenizer,
    optimiser: AdamW,
    progress: Progress,
    /// Examples that gradients are stored of.
    probe: Vec<Example>,
}

/// How an epoch went.
struct Pace {
    started: Instant,
    steps: u64,
    tokens: usize,
    loss_sum: f64,
}

impl Pace {
    fn loss(&self) -> f64 {
        self.loss_sum / self.steps.max(1) as f64
    }

    /// Tokens a second.
    fn speed(&self) -> f64 {
        self.tokens as f64 / self.started.elapsed().as_secs_f64()
    }
}

impl<'a> Run<'a> {
    /// A run before its first step, from the pretrained encoder, with a vocabulary for the texts of `reports`.
    fn new<'r>(
        config: &'a Config,
        schema: &'a LabelSchema,
        output: &'a Path,
        reports: impl Iterator<Item = &'r Report>,
    ) -> Result<Self, Error> {
        let mut teacher = None;
        let (network, tokenizer) = match config.teacher.as_ref().or(config.from.as_ref()) {
            Some(folder) => {
                let (mut network, tokenizer) = from_package(folder, schema)?;
                teacher = config.teacher.is_some().then(|| network.clone());
                if let Some(layers) = config.layers {
                    network.encoder.thin(layers);
                }
                (network, tokenizer)
            }
            None => {
                let texts: Vec<String> = reports
                    .flat_map(|r| report::segments(&r.text))
                    .flat_map(|s| [examples::mirror(&s.input), s.input])
                    .collect();
                let texts = texts.iter().map(String::as_str);
                let (encoder, tokenizer) =
                    pretrained::load(&config.encoder, config.layers, config.max_tokens, config.vocabulary, texts)?;
                let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
                let heads = Heads::initial(encoder.config.width, schema, || normal(&mut rng));
                (Network { heads, encoder }, tokenizer)
            }
        };
        let path = output.join(TOKENIZER);
        tokenizer.save(&path, false).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
        let shape = toml::to_string(&network.encoder.config).map_err(|e| Error::Invalid(e.to_string()))?;
        std::fs::write(output.join(SHAPE), shape).map_err(failed(output, SHAPE))?;
        let optimiser = AdamW::new(&network, config.weight_decay);
        let (mirrors, progress, probe) = (schema.mirrors(), Progress::default(), Vec::new());
        Ok(Self { config, schema, output, mirrors, network, teacher, tokenizer, optimiser, progress, probe })
    }

    /// Takes the steps of the present epoch that are not yet taken.
    fn epoch(&mut self, mut all: Vec<&Example>, report: &mut impl FnMut(&str)) -> Result<Pace, Error> {
        if all.is_empty() {
            return Err(Error::Invalid("there is nothing to learn from: give --data or --synthetic".into()));
        }
        let config = self.config;
        let weights = grade_weights(&all, self.schema, config.balance);
        all.shuffle(&mut ChaCha8Rng::seed_from_u64(mix(config.seed ^ mix(self.progress.epoch as u64))));
        let steps = all.len().div_ceil(config.batch) as u64;
        if self.progress.total == 0 {
            self.progress.total = steps * config.epochs as u64;
        }
        let name = self.progress.epoch + 1;
        let bar = ProgressBar::new(steps).with_style(bar_style());
        bar.set_prefix(format!("epoch {name}/{}", config.epochs));
        let mut gradient = self.network.zeros_like();
        let mut pace = Pace { started: Instant::now(), steps: 0, tokens: 0, loss_sum: 0.0 };
        // A resumed epoch passes over the steps that its checkpoint has taken.
        for chunk in all.chunks(config.batch).skip(self.progress.step as usize) {
            self.store_gradients()?;
            let (loss, tokens) = self.step(chunk, &weights, &mut gradient);
            pace.loss_sum += f64::from(loss);
            pace.tokens += tokens;
            pace.steps += 1;
            self.progress.step += 1;
            let step = self.progress.step;
            bar.set_position(step);
            bar.set_message(format!("loss {:.3}, {:.0} tokens/s", pace.loss(), pace.speed()));
            if bar.is_hidden() && step.is_multiple_of(100) {
                // Without a terminal the log shows the way instead.
                let (loss, speed) = (pace.loss(), pace.speed());
                report(&format!("epoch {name} step {step}/{steps}: loss {loss:.4}, {speed:.0} tokens/s"));
            }
            if step.is_multiple_of(config.checkpoint_steps) {
                self.write_state()?;
            }
        }
        bar.finish_and_clear();
        Ok(pace)
    }

    /// One step on a batch of examples; answers the loss summed over the tasks, and the tokens that were read.
    fn step(&mut self, chunk: &[&Example], weights: &[Vec<f32>], gradient: &mut Network) -> (f32, usize) {
        let config = self.config;
        let seed = mix(config.seed ^ mix(self.optimiser.steps));
        let (batch, mirrored) = batch_of(chunk, seed);
        let tokens = batch.ids.len();
        let taught = self.teacher.as_ref().map(|teacher| teacher.forward(batch.clone(), 0.0, 0));
        let pass = self.network.forward(batch, config.dropout, seed);
        let mut loss = 0.0;
        let d = pass.logits().iter().enumerate().map(|(task, logits)| {
            if !config.tasks.is_empty() && !config.tasks.contains(&self.schema.tasks()[task].name) {
                return None;
            }
            let grade = |(e, mirrored): (&&Example, &bool)| e.grades[if *mirrored { self.mirrors[task] } else { task }];
            let targets: Vec<u8> = chunk.iter().zip(&mirrored).map(grade).collect();
            let (mut one, mut d) = cross_entropy(logits, &targets, &weights[task], config.smoothing);
            if let Some(taught) = &taught {
                let (other, of_teacher) = distillation(logits, &taught.logits()[task]);
                let share = config.taught;
                one = (1.0 - share) * one + share * other;
                d.data.iter_mut().zip(&of_teacher.data).for_each(|(d, other)| *d = (1.0 - share) * *d + share * other);
            }
            loss += one;
            Some(d)
        });
        let d: Vec<Option<Matrix>> = d.collect();
        if config.rate > 0.0 {
            self.network.backward(&pass, &d, gradient);
        } else {
            self.network.backward_heads(&pass, &d, gradient);
        }
        let warmup = (self.progress.total as f32 * config.warmup) as u64;
        let factor = schedule(self.optimiser.steps, warmup.max(1), self.progress.total);
        let (rate, head_rate) = (factor * config.rate, factor * config.head_rate);
        self.optimiser.step(&mut self.network, gradient, rate, head_rate, 1.0);
        (loss, tokens)
    }

    /// Stores the gradients of the network as it is before the step at hand, where it is their turn.
    fn store_gradients(&self) -> Result<(), Error> {
        let step = self.optimiser.steps;
        let Some(analysis) = self.config.analysis.as_ref().filter(|analysis| step.is_multiple_of(analysis.every))
        else {
            return Ok(());
        };
        let gradients = analysis::gradients(&self.network, &self.probe, self.schema, analysis.width);
        let path = self.output.join(analysis::GRADIENTS).join(format!("{step:08}.parquet"));
        analysis::write_gradients(&path, &name_of(self.output), step, self.schema, &gradients)
    }

    /// Writes the epoch's metrics, its network where it is the best so far, and the state that the next one starts from.
    fn end_epoch(&mut self, pace: &Pace, scores: Option<Scores>) -> Result<(), Error> {
        self.progress.epoch += 1;
        self.progress.step = 0;
        // Without held-out reports the last epoch counts as the best.
        let macro_f1 = scores.as_ref().map_or(self.progress.epoch as f64, |s| s.macro_f1_of(&self.config.tasks));
        let metrics = serde_json::json!({ "epoch": self.progress.epoch, "steps": self.optimiser.steps, "loss": pace.loss(),
            "tokens": pace.tokens, "seconds": pace.started.elapsed().as_secs_f64(), "held_out": scores });
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.output.join(METRICS));
        writeln!(log.map_err(failed(self.output, METRICS))?, "{metrics}").map_err(failed(self.output, METRICS))?;
        if macro_f1 > self.progress.best {
            (self.progress.best, self.progress.best_epoch) = (macro_f1, self.progress.epoch);
            checkpoint::write(&self.output.join(BEST), &self.network.parameters(), HashMap::new())?;
        }
        self.write_state()
    }

    fn write_state(&self) -> Result<(), Error> {
        let mut all = self.network.parameters();
        for (prefix, moments) in [("mean.", &self.optimiser.mean), ("square.", &self.optimiser.square)] {
            all.extend(moments.parameters().into_iter().map(|(name, m)| (format!("{prefix}{name}"), m)));
        }
        let json = serde_json::to_string(&self.progress).map_err(|e| Error::Invalid(e.to_string()))?;
        let metadata = [("progress".into(), json), ("steps".into(), self.optimiser.steps.to_string())];
        Ok(checkpoint::write(&self.output.join(LAST), &all, metadata.into())?)
    }
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
    let said = answer(&network, &tokenizer, &held_out);
    let scores = Scores::new(schema, &gold(schema, &held_out)?, &said);
    let calibration = read_all(&config.calibration)?;
    Ok(Trained { network, tokenizer, config, scores, held_out, calibration })
}

/// The network and the tokenizer of a model package.
pub(super) fn from_package(folder: &Path, schema: &LabelSchema) -> Result<(Network, Tokenizer), Error> {
    let package = Package::open(folder)?;
    let invalid = |reason: String| Error::Invalid(format!("cannot go on from {}: {reason}", folder.display()));
    if package.labels() != schema {
        return Err(invalid(format!("its labels are not those of {}", schema.id())));
    }
    let tokenizer = Tokenizer::from_file(folder.join(TOKENIZER)).map_err(|e| invalid(format!("{TOKENIZER}: {e}")))?;
    let path = folder.join(GRAPH);
    let bytes = std::fs::read(&path).map_err(|source| Error::File { path, source })?;
    let vocabulary = tokenizer.get_vocab_size(true);
    let network = from_onnx(&bytes, vocabulary, package.manifest(), schema)
        .map_err(|reason| invalid(format!("{GRAPH}: {reason}")))?;
    Ok((network, tokenizer))
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

pub(super) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    use rand::RngExt;
    // Box and Muller (1958).
    let (u, v): (f32, f32) = (rng.random::<f32>().max(1e-7), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

fn named_mut<'a>(network: &'a mut Network, prefix: &str) -> Vec<(String, &'a mut Matrix)> {
    let names: Vec<String> = network.parameters().into_iter().map(|(name, _)| format!("{prefix}{name}")).collect();
    names.into_iter().zip(network.parameters_mut()).collect()
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
