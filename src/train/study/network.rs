//! One network of a study: trained on a group of tasks, asked about every test set, and measured for alignment.

use super::data::{RegionData, TestSet};
use super::{Config, Name};
use crate::labels::LabelSchema;
use crate::train::analysis;
use crate::train::encoder::{Batch, Encoder};
use crate::train::examples::Example;
use crate::train::fit::{Error, argmax, grade_weights, normal};
use crate::train::heads::Heads;
use crate::train::math::{Matrix, mix};
use crate::train::network::{Network, cross_entropy};
use crate::train::optim::{AdamW, schedule};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokenizers::Tokenizer;

/// What one network gave; a line of JSON in the folder of the study.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Region of the spine.
    pub region: String,
    /// Seed of heads, order and dropout.
    pub seed: u64,
    /// Name of the network: `multi`, `all`, a task, or two joined by `+`.
    pub model: String,
    /// The tasks that it learnt.
    pub tasks: Vec<String>,
    /// Seconds of training.
    pub seconds: f64,
    /// Mean cross-entropy of each learnt task on the probe, along the way.
    pub curve: Vec<Point>,
    /// Answers for each test set.
    pub answers: Vec<Answers>,
    /// What a step on one task does to another's loss; of the network `all` alone.
    pub look_ahead: Vec<Affinity>,
}

/// A point of a learning curve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Point {
    /// Steps taken.
    pub step: u64,
    /// The task.
    pub task: String,
    /// Mean cross-entropy on the probe, in nats.
    pub loss: f64,
}

/// Answers of one network to one task, over a test set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answers {
    /// The test set.
    pub set: String,
    /// The task.
    pub task: String,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// The grade of each row of the set.
    pub grades: Vec<u8>,
}

/// The look-ahead effect of TAG (Fifty et al. 2021, equation 1): `1 − L_on(θ after a step on from's loss) / L_on(θ)`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Affinity {
    /// Steps taken.
    pub step: u64,
    /// The task whose gradient the shared layers follow.
    pub from: String,
    /// The task whose loss is taken.
    pub on: String,
    /// Above zero where the step lowers that loss.
    pub effect: f64,
}

/// What every network of a region shares.
pub(super) struct Setting<'a> {
    pub(super) config: &'a Config,
    pub(super) data: &'a RegionData,
    pub(super) encoder: &'a Encoder,
    pub(super) tokenizer: &'a Tokenizer,
    /// Distinct examples to learn from.
    pub(super) learnt: &'a [Example],
    /// Held-out examples that losses and gradients are taken of.
    pub(super) probe: &'a [Example],
}

impl Setting<'_> {
    /// Trains a network on a group of tasks and measures it. Embeddings, and gradients of the network of all tasks, go into `folder`.
    pub(super) fn train(&self, name: &Name, folder: &Path, mut step_done: impl FnMut()) -> Result<Outcome, Error> {
        let (config, tasks) = (self.config, &self.data.tasks);
        let started = std::time::Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(mix(name.seed));
        let heads = Heads::initial(self.encoder.config.width, tasks, || normal(&mut rng));
        let mut network = Network { encoder: self.encoder.clone(), heads };
        let mut optimiser = AdamW::new(&network, config.weight_decay);
        let mut gradient = network.zeros_like();
        let examples: Vec<&Example> = self.learnt.iter().collect();
        let weights = grade_weights(&examples, tasks, config.balance);
        let warmup = ((config.steps as f32 * config.warmup) as u64).max(1);
        let (mut order, mut curve, mut look_ahead) = (Vec::new(), Vec::new(), Vec::new());
        for step in 0..config.steps {
            if step.is_multiple_of(config.every) {
                self.measure(&network, name, step, folder, &mut curve, &mut look_ahead)?;
            }
            // The batches, and the dropout of the shared layers, depend on the seed alone: all networks of a seed see the same.
            let seed = mix(name.seed ^ mix(step));
            if order.len() < config.batch {
                let mut again = examples.clone();
                again.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                order.extend(again);
            }
            let chunk: Vec<&Example> = order.drain(..config.batch.min(order.len())).collect();
            let pass = network.forward(Batch::new(chunk.iter().map(|e| e.ids.as_slice())), config.dropout, seed);
            let d: Vec<Option<Matrix>> = (0..tasks.tasks().len())
                .map(|task| {
                    let targets: Vec<u8> = chunk.iter().map(|e| e.grades[task]).collect();
                    let learns = name.tasks.contains(&task);
                    learns.then(|| cross_entropy(&pass.logits()[task], &targets, &weights[task], config.smoothing).1)
                })
                .collect();
            network.backward(&pass, &d, &mut gradient);
            let factor = schedule(step, warmup, config.steps);
            optimiser.step(&mut network, &mut gradient, factor * config.rate, factor * config.head_rate, 1.0);
            step_done();
        }
        self.measure(&network, name, config.steps, folder, &mut curve, &mut look_ahead)?;
        let answers = self.data.tests.iter().flat_map(|set| self.answers(&network, name, set)).collect();
        self.write_embeddings(&network, name, folder)?;
        let seconds = started.elapsed().as_secs_f64();
        let learnt = name.tasks.iter().map(|task| tasks.tasks()[*task].name.clone()).collect();
        let (region, model) = (self.data.region.clone(), name.model.clone());
        Ok(Outcome { region, seed: name.seed, model, tasks: learnt, seconds, curve, answers, look_ahead })
    }

    /// A point of the curve; of the network of all tasks also gradients and look-ahead.
    fn measure(
        &self,
        network: &Network,
        name: &Name,
        step: u64,
        folder: &Path,
        curve: &mut Vec<Point>,
        look_ahead: &mut Vec<Affinity>,
    ) -> Result<(), Error> {
        let tasks = self.data.tasks.tasks();
        let losses = losses(network, &self.probe[..self.probe.len().min(self.config.probe)], &self.data.tasks);
        let point = |task: &usize| Point { step, task: tasks[*task].name.clone(), loss: losses[*task] };
        curve.extend(name.tasks.iter().map(point));
        if !name.is_all() {
            return Ok(());
        }
        let width = self.config.width;
        let mut projected = Vec::new();
        let probe = &self.probe[..self.probe.len().min(self.config.examples)];
        let before = self::losses(network, probe, &self.data.tasks);
        analysis::each_gradient(network, probe, tasks.len(), |from, gradient| {
            projected.push(analysis::projected(gradient, width));
            let ahead = moved(network, gradient, self.config.look_ahead);
            for (on, after) in self::losses(&ahead, probe, &self.data.tasks).into_iter().enumerate() {
                let effect = 1.0 - after / before[on].max(f64::MIN_POSITIVE);
                let (from, on) = (tasks[from].name.clone(), tasks[on].name.clone());
                look_ahead.push(Affinity { step, from, on, effect });
            }
        });
        let file = folder.join(analysis::GRADIENTS).join(format!("{}.{step:06}.parquet", name.run));
        analysis::write_gradients(&file, &name.run, step, &self.data.tasks, &projected)
    }

    fn answers(&self, network: &Network, name: &Name, set: &TestSet) -> Vec<Answers> {
        let tasks = &self.data.tasks;
        let rows: Vec<Example> = set.rows.iter().map(|row| row.example(self.tokenizer, network.window())).collect();
        let (mut grades, mut loss) = (vec![Vec::new(); tasks.tasks().len()], vec![0.0; tasks.tasks().len()]);
        for chunk in rows.chunks(32) {
            let pass = network.forward(Batch::new(chunk.iter().map(|e| e.ids.as_slice())), 0.0, 0);
            for (task, logits) in pass.logits().iter().enumerate() {
                grades[task].extend((0..chunk.len()).map(|row| argmax(logits.row(row))));
                loss[task] += f64::from(one_loss(logits, chunk, task)) * chunk.len() as f64;
            }
        }
        let answers = |task: &usize| Answers {
            set: set.name.clone(),
            task: tasks.tasks()[*task].name.clone(),
            loss: loss[*task] / rows.len().max(1) as f64,
            grades: grades[*task].clone(),
        };
        name.tasks.iter().map(answers).collect()
    }

    /// Embeddings of held-out rows by the networks that are compared: those of one task, and the shared one.
    fn write_embeddings(&self, network: &Network, name: &Name, folder: &Path) -> Result<(), Error> {
        let task = match name.tasks.as_slice() {
            [one] => self.data.tasks.tasks()[*one].name.as_str(),
            _ => analysis::MULTI,
        };
        if name.is_pair() || name.is_all() {
            return Ok(());
        }
        let rows = self.data.tests[0]
            .rows
            .iter()
            .take(self.config.embedded)
            .map(|row| (row.report.clone(), row.level.clone(), row.example(self.tokenizer, network.window()).ids));
        let file = folder.join(analysis::EMBEDDINGS).join(format!("{}.{}.parquet", name.run, name.model));
        let of = analysis::Of { run: &name.run, model: &name.model, task };
        analysis::write_embeddings(&file, of, network, rows.collect())
    }
}

fn one_loss(logits: &Matrix, examples: &[Example], task: usize) -> f32 {
    let targets: Vec<u8> = examples.iter().map(|e| e.grades[task]).collect();
    cross_entropy(logits, &targets, &vec![1.0; logits.cols], 0.0).0
}

/// Mean cross-entropy of every task over examples, without dropout, weights or smoothing.
fn losses(network: &Network, examples: &[Example], tasks: &LabelSchema) -> Vec<f64> {
    let mut sums = vec![0.0; tasks.tasks().len()];
    for chunk in examples.chunks(32) {
        let pass = network.forward(Batch::new(chunk.iter().map(|e| e.ids.as_slice())), 0.0, 0);
        for (task, (sum, logits)) in sums.iter_mut().zip(pass.logits()).enumerate() {
            *sum += f64::from(one_loss(logits, chunk, task)) * chunk.len() as f64;
        }
    }
    sums.into_iter().map(|sum| sum / examples.len().max(1) as f64).collect()
}

/// The network with its shared layers moved `length` against a gradient: as far for every task, however steep its loss.
fn moved(network: &Network, gradient: &Network, length: f32) -> Network {
    let mut ahead = network.clone();
    let squares: f64 =
        gradient.encoder.parameters().iter().flat_map(|(_, m)| &m.data).map(|v| f64::from(*v) * f64::from(*v)).sum();
    let scale = if squares > 0.0 { length / squares.sqrt() as f32 } else { 0.0 };
    for (weight, (_, gradient)) in ahead.encoder.parameters_mut().into_iter().zip(gradient.encoder.parameters()) {
        weight.data.iter_mut().zip(&gradient.data).for_each(|(w, g)| *w -= scale * g);
    }
    ahead
}
