//! The model: from the text of reports to graded findings of their motion segments.
//!
//! A [`Package`] is a folder of checked files; a [`Model`] is a package with its tokenizer and its graph in ONNX Runtime, shared by
//! everybody in a process. Answers don't depend on what else is asked in the same call.

mod batch;
mod cache;
mod error;
mod explain;
mod package;
mod runtime;
mod session;
mod tokens;
mod usage;

pub use error::Error;
pub use explain::{Explanation, Why};
pub use package::{GRAPH, INT8_GRAPH, MANIFEST, Manifest, Package, default_folder, sha256};
pub use runtime::{Arithmetic, Device, Runtime};
pub use usage::Usage;

use crate::report::{self, Segment};
use batch::batches;
use cache::Cache;
use session::{Graph, Want};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokens::Tokens;
use usage::Meter;

/// How a model is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where it runs.
    pub device: Device,
    /// What the large products are computed in.
    pub arithmetic: Arithmetic,
    /// Threads of the CPU: batches that are computed at once.
    pub threads: usize,
    /// Tokens of a batch.
    pub token_budget: usize,
    /// Bytes of answers that are kept for inputs that come again.
    pub cache_bytes: usize,
    /// Score below which no grade is given, 0 to 1: 0 gives every grade.
    pub min_score: f32,
}

/// A score that can be asked for: a probability.
///
/// # Errors
/// What a score is, for the user, where it is none.
pub fn checked_score(score: f32) -> Result<f32, &'static str> {
    (0.0..=1.0).contains(&score).then_some(score).ok_or("a score is a probability: it lies between 0 and 1")
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        Options {
            device: Device::Cpu,
            arithmetic: Arithmetic::Auto,
            threads,
            token_budget: 1024,
            cache_bytes: 64 << 20,
            min_score: 0.0,
        }
    }
}

/// A grade of one task, and how probable it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Graded {
    /// Position in the task's grades; `None` where the score is below [`Options::min_score`].
    pub grade: Option<u8>,
    /// Its calibrated probability, 0 to 1.
    pub score: f32,
}

/// What the model says of a motion segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The segment and its evidence.
    pub segment: Segment,
    /// One grade a task, in the schema's order.
    pub grades: Vec<Graded>,
}

/// The model's pooled state for a motion segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The segment and its evidence.
    pub segment: Segment,
    /// `width` values.
    pub values: Vec<f32>,
}

/// A package ready to answer.
#[derive(Clone)]
pub struct Model {
    package: Package,
    temperatures: Vec<f32>,
    tokens: Arc<Tokens>,
    graph: Arc<Graph>,
    cache: Arc<Mutex<Cache<Want>>>,
    meter: Arc<Meter>,
    options: Options,
}

impl Model {
    /// Opens the package in a folder, checks it, loads ONNX Runtime and starts a session.
    ///
    /// # Errors
    /// What is missing or does not fit, and what to do: see [`Error`].
    pub fn open(folder: &Path, options: &Options) -> Result<Model, Error> {
        let package = Package::open(folder)?;
        let tokens = Arc::new(Tokens::open(&package)?);
        let graph = Arc::new(Graph::open(&package, options)?);
        let cache = Arc::new(Mutex::new(Cache::new(options.cache_bytes)));
        let (temperatures, meter) = (package.temperatures(), Arc::default());
        Ok(Model { temperatures, tokens, graph, cache, meter, options: options.clone(), package })
    }

    /// The same model, its sessions and cache shared, with another [`Options::min_score`].
    #[must_use]
    pub fn with_min_score(&self, min_score: f32) -> Model {
        Model { options: Options { min_score, ..self.options.clone() }, ..self.clone() }
    }

    /// The package: manifest and labels.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// [`Package::id`], the column `model`.
    pub fn id(&self) -> &str {
        self.package.id()
    }

    /// Where and in what it is computed, for people: `cpu, int8`.
    pub fn provider(&self) -> String {
        format!("{}, {}", self.options.device, self.graph.arithmetic())
    }

    /// What the model has done so far, for whoever measures it.
    pub fn usage(&self) -> Usage {
        self.meter.read()
    }

    /// The findings of each text: one list a text, in anatomical order; empty where it speaks of no motion segment.
    ///
    /// # Errors
    /// [`Error::Run`] when ONNX Runtime fails on one of the texts; [`Model::findings_each`] gives the others' answers.
    pub fn findings(&self, texts: &[&str]) -> Result<Vec<Vec<Finding>>, Error> {
        self.findings_each(texts).into_iter().collect()
    }

    /// As [`Model::findings`], with an error only for the texts that the model fails on.
    pub fn findings_each(&self, texts: &[&str]) -> Vec<Result<Vec<Finding>, Error>> {
        let finding = |segment, rows: &[f32]| Finding { segment, grades: self.grade(rows) };
        self.read(texts, Want::Logits, finding)
    }

    /// The pooled state of each segment of each text after a layer: 0 is after the embeddings, `layers` after the last layer.
    /// Evidence that is read in several windows has their mean.
    ///
    /// # Errors
    /// [`Error::Layer`], or [`Error::Run`].
    pub fn embeddings(&self, texts: &[&str], layer: usize) -> Result<Vec<Vec<Embedding>>, Error> {
        let (width, last) = (self.package.manifest().width, self.package.manifest().layers);
        if layer > last {
            return Err(Error::Layer { layer, last });
        }
        let embedding = |segment, rows: &[f32]| {
            let states: Vec<&[f32]> = rows.chunks_exact(width).skip(layer).step_by(last + 1).collect();
            let mean = |at: usize| states.iter().map(|state| state[at]).sum::<f32>() / states.len() as f32;
            Embedding { segment, values: (0..width).map(mean).collect() }
        };
        self.read(texts, Want::Hidden, embedding).into_iter().collect()
    }

    /// Answers for every segment of every text, each distinct input being run once.
    fn read<T>(&self, texts: &[&str], want: Want, answer: impl Fn(Segment, &[f32]) -> T) -> Vec<Result<Vec<T>, Error>> {
        let segments = self.segments(texts);
        let mut inputs: Vec<&str> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut places: Vec<usize> = Vec::new();
        for segment in segments.iter().flatten() {
            places.push(*known.entry(&segment.input).or_insert_with(|| {
                inputs.push(&segment.input);
                inputs.len() - 1
            }));
        }
        let outputs = self.outputs(&inputs, want);
        let mut places = places.into_iter();
        let answer = |(segment, place): (Segment, usize)| match &outputs[place] {
            Ok(rows) => Ok(answer(segment, rows)),
            Err(reason) => Err(Error::Run(reason.clone())),
        };
        // Each text takes the places of all its segments, whether or not one of them failed.
        let pairs = |list: Vec<Segment>| list.into_iter().zip(places.by_ref()).collect::<Vec<_>>();
        let texts: Vec<Vec<(Segment, usize)>> = segments.into_iter().map(pairs).collect();
        texts.into_iter().map(|list| list.into_iter().map(answer).collect()).collect()
    }

    /// The segments of each text, on as many threads as the model runs on.
    fn segments(&self, texts: &[&str]) -> Vec<Vec<Segment>> {
        // A thread costs as much as a text or two.
        const FEW: usize = 16;
        let workers = self.graph.limit().min(texts.len().div_ceil(FEW)).max(1);
        let read = |texts: &[&str]| texts.iter().map(|text| report::segments(text)).collect::<Vec<_>>();
        let mut parts = texts.chunks(texts.len().div_ceil(workers).max(1));
        let first = parts.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let others: Vec<_> = parts.map(|part| scope.spawn(move || read(part))).collect();
            let mut all = read(first);
            for other in others {
                all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        })
    }

    /// The graph's outputs for each input, those of its windows one after the other, or why there are none.
    fn outputs(&self, inputs: &[&str], want: Want) -> Vec<Result<Arc<[f32]>, String>> {
        let keys: Vec<_> = inputs.iter().map(|input| cache::key(want, input)).collect();
        let mut outputs: Vec<Option<Result<Arc<[f32]>, String>>> = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            keys.iter().map(|key| cache.get(key).map(Ok)).collect()
        };
        let known = outputs.iter().filter(|output| output.is_some()).count();
        self.meter.looked_up(known, inputs.len() - known);
        let started = Instant::now();
        let mut owners = Vec::new();
        let mut windows = Vec::new();
        for (owner, input) in inputs.iter().enumerate() {
            if outputs[owner].is_some() {
                continue;
            }
            match self.tokens.windows(input) {
                Ok(rows) => {
                    owners.push((owner, windows.len()..windows.len() + rows.len()));
                    windows.extend(rows);
                }
                Err(reason) => outputs[owner] = Some(Err(reason)),
            }
        }
        self.meter.tokenised(started.elapsed());
        let rows = self.run(&windows, want);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for (owner, range) in owners {
            let output: Result<Vec<&[f32]>, String> =
                rows[range].iter().map(|row| row.as_deref().map_err(String::clone)).collect();
            let output = output.map(|windows| Arc::from(windows.concat()));
            if let Ok(values) = &output {
                cache.insert(keys[owner], Arc::clone(values));
            }
            outputs[owner] = Some(output);
        }
        outputs.into_iter().map(|output| output.unwrap_or_else(|| Err("it was not run".into()))).collect()
    }

    /// Runs windows of tokens in batches, as many at once as there are threads.
    fn run(&self, windows: &[Vec<u32>], want: Want) -> Vec<Result<Vec<f32>, String>> {
        let lengths: Vec<usize> = windows.iter().map(Vec::len).collect();
        let (step, budget) = match self.options.device {
            Device::Cpu => (1, self.options.token_budget),
            // A card has lanes to spare for padding, and wants large batches.
            Device::Cuda(_) => (16, 16 * self.options.token_budget),
        };
        let batches = batches(&lengths, step, self.package.manifest().max_tokens, budget);
        let mut answers: Vec<Result<Vec<f32>, String>> = vec![Err("it was not run".into()); windows.len()];
        // The longest first, so that the threads end together.
        let (waiting, workers) = (Mutex::new(batches.iter().rev()), self.graph.limit().min(batches.len()));
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            let mut done = Vec::new();
            while let Some(batch) = next() {
                let rows: Vec<&[u32]> = batch.rows.iter().map(|&place| windows[place].as_slice()).collect();
                done.extend(batch.rows.iter().copied().zip(self.run_batch(&rows, batch.length, want)));
            }
            done
        };
        let done = std::thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            done.extend(others.into_iter().flat_map(|other| other.join().unwrap_or_default()));
            done
        });
        done.into_iter().for_each(|(place, answer)| answers[place] = answer);
        answers
    }

    /// Runs a batch. One that fails is run again row by row, so that one row does not take others with it.
    fn run_batch(&self, rows: &[&[u32]], length: usize, want: Want) -> Vec<Result<Vec<f32>, String>> {
        let mut session = match self.graph.lease() {
            Ok(session) => session,
            Err(reason) => return vec![Err(reason); rows.len()],
        };
        let started = Instant::now();
        let values = session.run(rows, length, want);
        self.meter.ran(rows, length, started.elapsed());
        match values {
            Ok(values) => values.into_iter().map(Ok).collect(),
            Err(_) => rows.iter().map(|row| session.run(&[row], length, want).map(|values| values.concat())).collect(),
        }
    }

    /// The grades of an input's windows, those with too low a score withheld.
    fn grade(&self, windows: &[f32]) -> Vec<Graded> {
        let least = self.options.min_score;
        let graded = |(grade, score)| Graded { grade: (score >= least).then_some(grade), score };
        self.worst(windows).into_iter().map(graded).collect()
    }

    /// Grades and scores from the logits of an input's windows: of several windows the worst grade wins, with its highest score.
    fn worst(&self, windows: &[f32]) -> Vec<(u8, f32)> {
        let tasks = self.package.labels().tasks();
        let width = tasks.iter().map(|task| task.grades.len()).sum();
        let mut worst: Vec<(u8, f32)> = Vec::new();
        for mut logits in windows.chunks_exact(width) {
            for (task, (about, temperature)) in tasks.iter().zip(&self.temperatures).enumerate() {
                let (own, rest) = logits.split_at(about.grades.len());
                logits = rest;
                let graded = graded(own, *temperature);
                match worst.get_mut(task) {
                    None => worst.push(graded),
                    Some(before) if graded > *before => *before = graded,
                    Some(_) => {}
                }
            }
        }
        worst
    }
}

/// The most probable grade, the lower of two that are equally so, and its probability: softmax(logits / temperature).
fn graded(logits: &[f32], temperature: f32) -> (u8, f32) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let grade = logits.iter().position(|&logit| logit == highest).unwrap_or(0) as u8;
    let total: f64 = weights(logits, temperature).sum();
    (grade, (1.0 / total) as f32)
}

/// Probabilities of the grades, relative to that of the most probable one.
fn weights(logits: &[f32], temperature: f32) -> impl Iterator<Item = f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().map(move |&logit| (f64::from(logit - highest) / f64::from(temperature)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_calibrated_probabilities_and_ties_go_to_the_lower_grade() {
        let one = graded(&[1.0, 3.0, 2.0], 1.0);
        assert_eq!(one.0, 1);
        let expected = 1.0 / (1.0 + (-1f64).exp() + (-2f64).exp());
        assert!((f64::from(one.1) - expected).abs() < 1e-7);
        assert!(graded(&[1.0, 3.0, 2.0], 2.0).1 < one.1);
        assert_eq!(graded(&[2.0, 2.0, 1.0], 1.0).0, 0);
        assert_eq!(graded(&[1000.0, -1000.0], 1.0), (0, 1.0));
    }

    #[test]
    fn devices_are_written_as_they_are_read() {
        for text in ["cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for text in ["gpu", "cuda:", "cuda:x", "cpu:1", ""] {
            assert!(text.parse::<Device>().unwrap_err().to_string().contains("cuda:N"));
        }
    }
}
