//! The multi-task network: the shared encoder and a head per task, with its loss.

use super::encoder::{Batch, Config, Encoder, Trace};
use super::heads::{HeadTrace, Heads};
use super::math::{Dropout, Matrix, softmax};
use crate::labels::LabelSchema;

/// Encoder and heads. A gradient and each moment of the optimiser have the same form.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Shared by all tasks.
    pub encoder: Encoder,
    /// One for each task.
    pub heads: Heads,
}

/// One forward pass over a batch, from which losses and gradients are taken.
pub struct Pass {
    trace: Trace,
    head: HeadTrace,
    batch: Batch,
}

impl Pass {
    /// Logits of each task, `[sequences, grades]`.
    pub fn logits(&self) -> &[Matrix] {
        &self.head.logits
    }

    /// The mean token state of each sequence after the embeddings and each layer: `layers + 1` matrices `[sequences, width]`.
    pub fn pooled(&self) -> Vec<Matrix> {
        let mean = |hidden: &Matrix| {
            let mut out = Matrix::zeros(self.batch.lengths.len(), hidden.cols);
            for (sequence, span) in self.batch.spans().into_iter().enumerate() {
                let scale = 1.0 / span.len() as f32;
                for token in span {
                    for (o, h) in out.row_mut(sequence).iter_mut().zip(hidden.row(token)) {
                        *o += scale * h;
                    }
                }
            }
            out
        };
        self.trace.hidden.iter().map(mean).collect()
    }
}

impl Network {
    /// A network of zeros.
    pub fn zeros(config: &Config, grades: &[usize]) -> Self {
        Self { encoder: Encoder::zeros(config), heads: Heads::zeros(config.width, grades) }
    }

    /// A network of zeros of the same form as this one.
    pub fn zeros_like(&self) -> Self {
        let grades: Vec<usize> = self.heads.classifiers.iter().map(|c| c.bias.cols).collect();
        Self::zeros(&self.encoder.config, &grades)
    }

    /// Tokens of the longest input.
    pub fn window(&self) -> usize {
        self.encoder.config.positions
    }

    /// A network drawn at random, for tests and for training from nothing.
    pub fn random(config: &Config, schema: &LabelSchema, mut normal: impl FnMut() -> f32) -> Self {
        let mut encoder = Encoder::zeros(config);
        let is_gain: Vec<bool> = encoder.parameters().iter().map(|(name, _)| name.ends_with("gain")).collect();
        for (matrix, is_gain) in encoder.parameters_mut().into_iter().zip(is_gain) {
            let scale = if matrix.rows > 1 { 1.0 / (matrix.rows.min(1024) as f32).sqrt() } else { 0.02 };
            matrix.data.iter_mut().for_each(|v| *v = scale * normal() + f32::from(is_gain));
        }
        let heads = Heads::initial(config.width, schema, normal);
        Self { encoder, heads }
    }

    /// All parameters with their names, in a fixed order.
    pub fn parameters(&self) -> Vec<(String, &Matrix)> {
        let mut all = self.encoder.parameters();
        all.extend(self.heads.parameters());
        all
    }

    /// All parameters, to be written, in the order of [`Network::parameters`].
    pub fn parameters_mut(&mut self) -> Vec<&mut Matrix> {
        let mut all = self.encoder.parameters_mut();
        all.extend(self.heads.parameters_mut());
        all
    }

    /// Runs a batch, with dropout drawn from `seed` at `rate` (0 for evaluation).
    pub fn forward(&self, batch: Batch, rate: f32, seed: u64) -> Pass {
        let dropout = Dropout { rate, seed };
        let trace = self.encoder.forward(batch.clone(), dropout);
        let head = self.heads.forward(trace.last(), &batch, dropout.branch(u64::MAX));
        Pass { trace, head, batch }
    }

    /// As [`Network::backward`], for the heads alone.
    pub fn backward_heads(&self, pass: &Pass, d_logits: &[Option<Matrix>], gradient: &mut Self) {
        self.heads.backward(&pass.head, d_logits, pass.trace.last(), &pass.batch, &mut gradient.heads);
    }

    /// Adds the gradient of the tasks whose logit gradients are given to `gradient`.
    pub fn backward(&self, pass: &Pass, d_logits: &[Option<Matrix>], gradient: &mut Self) {
        let last = self.heads.backward(&pass.head, d_logits, pass.trace.last(), &pass.batch, &mut gradient.heads);
        self.encoder.backward(&pass.trace, last, &mut gradient.encoder);
    }
}

/// Weighted cross-entropy of one task, the mean over the batch, and its gradient with respect to the logits `[sequences, grades]`.
/// `weights` has one weight for each grade; `smoothing` is the share of the target spread over all grades.
pub fn cross_entropy(logits: &Matrix, targets: &[u8], weights: &[f32], smoothing: f32) -> (f32, Matrix) {
    let (mut d, mut loss) = (logits.clone(), 0.0);
    let (count, grades) = (targets.len() as f32, logits.cols as f32);
    for (row, &target) in d.data.chunks_exact_mut(logits.cols).zip(targets) {
        softmax(row);
        let weight = weights[target as usize] / count;
        for (grade, p) in row.iter_mut().enumerate() {
            let wanted = smoothing / grades + if grade == target as usize { 1.0 - smoothing } else { 0.0 };
            loss -= weight * wanted * p.max(1e-12).ln();
            *p = weight * (*p - wanted);
        }
    }
    (loss, d)
}

/// How far a student's answers are from its teacher's, and its gradient with respect to the student's logits `[sequences, grades]`: the
/// Kullback-Leibler divergence of probabilities at a temperature T, the mean over the batch, times T² (Hinton, Vinyals, Dean 2015).
pub fn distillation(logits: &Matrix, taught: &Matrix) -> (f32, Matrix) {
    const TEMPERATURE: f32 = 2.0;
    let softened = |matrix: &Matrix| {
        let mut out = matrix.clone();
        out.data.iter_mut().for_each(|v| *v /= TEMPERATURE);
        out.data.chunks_exact_mut(out.cols).for_each(softmax);
        out
    };
    let (mut d, wanted) = (softened(logits), softened(taught));
    let (mut loss, count) = (0.0, logits.rows as f32);
    for (p, wanted) in d.data.iter_mut().zip(&wanted.data) {
        loss += TEMPERATURE * TEMPERATURE / count * wanted * (wanted.max(1e-12) / p.max(1e-12)).ln();
        *p = TEMPERATURE / count * (*p - wanted);
    }
    (loss, d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::math::mix;

    fn normal(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            // The sum of four uniform draws is near enough to a normal one.
            (0..4)
                .map(|_| {
                    state = mix(state);
                    (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
                })
                .sum::<f32>()
                * 1.7
        }
    }

    fn tiny() -> (Network, Batch, Vec<Vec<u8>>) {
        let config = Config { vocabulary: 20, positions: 8, width: 8, layers: 2, heads: 2, inner: 16 };
        let network = Network::random(&config, &LabelSchema::spine(), normal(3));
        let batch = Batch::new([[1u32, 5, 7, 2].as_slice(), &[1, 9, 2], &[1, 4, 4, 3, 19, 2]]);
        let targets = (0..9).map(|task| (0..3).map(|row| ((task + row) % 3) as u8).collect()).collect();
        (network, batch, targets)
    }

    fn loss(network: &Network, batch: &Batch, targets: &[Vec<u8>], rate: f32) -> (f32, Network) {
        let pass = network.forward(batch.clone(), rate, 11);
        let mut total = 0.0;
        let d: Vec<_> = pass
            .logits()
            .iter()
            .zip(targets)
            .map(|(logits, targets)| {
                let (loss, d) = cross_entropy(logits, targets, &[1.0, 2.0, 0.5, 1.0], 0.1);
                total += loss;
                Some(d)
            })
            .collect();
        let mut gradient = network.zeros_like();
        network.backward(&pass, &d, &mut gradient);
        (total, gradient)
    }

    #[test]
    fn every_parameter_receives_the_gradient_of_its_differences() {
        let (network, batch, targets) = tiny();
        for rate in [0.0, 0.3] {
            let (_, gradient) = loss(&network, &batch, &targets, rate);
            let names: Vec<String> = network.parameters().into_iter().map(|(name, _)| name).collect();
            for (index, name) in names.iter().enumerate() {
                let size = network.parameters()[index].1.data.len();
                let values = &gradient.parameters()[index].1.data;
                assert!(values.iter().any(|v| *v != 0.0), "{name} has no gradient");
                for element in (0..size).step_by((size / 7).max(1)) {
                    let at = |delta: f32| {
                        let mut moved = network.clone();
                        moved.parameters_mut()[index].data[element] += delta;
                        loss(&moved, &batch, &targets, rate).0
                    };
                    let slope = (at(5e-3) - at(-5e-3)) / 1e-2;
                    let found = gradient.parameters()[index].1.data[element];
                    let scale = slope.abs().max(found.abs()).max(0.05);
                    assert!((slope - found).abs() < 0.05 * scale, "{name}[{element}]: {found}, by differences {slope}");
                }
            }
        }
    }

    #[test]
    fn distillation_ends_where_the_teacher_is_and_its_gradient_is_that_of_its_differences() {
        let (network, batch, _) = tiny();
        let logits = network.forward(batch, 0.0, 0).logits()[0].clone();
        let mut taught = logits.clone();
        taught.data.iter_mut().enumerate().for_each(|(at, v)| *v += 1.5 * ((at % 3) as f32 - 1.0));
        assert!(distillation(&taught, &taught).0.abs() < 1e-6);
        let (loss, d) = distillation(&logits, &taught);
        assert!(loss > 0.1);
        for at in 0..logits.data.len() {
            let moved = |by: f32| {
                let mut moved = logits.clone();
                moved.data[at] += by;
                distillation(&moved, &taught).0
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - d.data[at]).abs() < 2e-3, "{at}: {}, by differences {slope}", d.data[at]);
        }
    }

    #[test]
    fn a_sequence_does_not_see_its_neighbours() {
        let (network, batch, _) = tiny();
        let together = network.forward(batch, 0.0, 0);
        let alone = network.forward(Batch::new([[1u32, 9, 2].as_slice()]), 0.0, 0);
        for (a, b) in together.logits().iter().zip(alone.logits()) {
            for (a, b) in a.row(1).iter().zip(b.row(0)) {
                assert!((a - b).abs() < 1e-6);
            }
        }
    }
}
