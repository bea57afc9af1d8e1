//! AdamW (Loshchilov and Hutter, 2019) with gradient clipping, and its learning-rate schedule.

use super::math::{Matrix, vectorised};
use super::network::Network;
use rayon::prelude::*;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
const CHUNK: usize = 1 << 14;

/// The optimiser's state: both moments, and the number of steps taken.
pub struct AdamW {
    /// Running mean of the gradient.
    pub mean: Network,
    /// Running mean of its square.
    pub square: Network,
    /// Steps taken.
    pub steps: u64,
    /// Decoupled weight decay; biases and gains are not decayed.
    pub weight_decay: f32,
}

impl AdamW {
    /// A fresh optimiser for networks of this form.
    pub fn new(network: &Network, weight_decay: f32) -> Self {
        Self { mean: network.zeros_like(), square: network.zeros_like(), steps: 0, weight_decay }
    }

    /// Moves the network one step against the gradient, which is clipped to a global norm of `clip` and then emptied. `encoder` and
    /// `heads` are the learning rates. Answers the gradient's norm before clipping.
    pub fn step(&mut self, network: &mut Network, gradient: &mut Network, encoder: f32, heads: f32, clip: f32) -> f32 {
        self.steps += 1;
        let squares = |m: &Matrix| -> f64 {
            // Collected before they are added, so that the sum does not depend on how rayon shared out the work.
            let parts = m.data.par_chunks(CHUNK).map(square_sum);
            parts.collect::<Vec<f64>>().into_iter().sum()
        };
        let norm = gradient.parameters().iter().map(|(_, m)| squares(m)).sum::<f64>().sqrt() as f32;
        let scale = if norm > clip { clip / norm } else { 1.0 };
        let steps = self.steps.min(1 << 20) as i32;
        let (correct1, correct2) = (1.0 - BETA1.powi(steps), 1.0 - BETA2.powi(steps));
        let shared = network.encoder.parameters_mut().len();
        let parameters = network.parameters_mut().into_iter().zip(gradient.parameters_mut());
        let moments = self.mean.parameters_mut().into_iter().zip(self.square.parameters_mut());
        for (index, ((weight, gradient), (mean, square))) in parameters.zip(moments).enumerate() {
            let rate = if index < shared { encoder } else { heads };
            let decay = if weight.rows > 1 { 1.0 - rate * self.weight_decay } else { 1.0 };
            let chunks = weight.data.par_chunks_mut(CHUNK).zip(gradient.data.par_chunks_mut(CHUNK));
            let moments = mean.data.par_chunks_mut(CHUNK).zip(square.data.par_chunks_mut(CHUNK));
            chunks.zip(moments).for_each(|((weights, gradients), (means, squares))| {
                let values = weights.iter_mut().zip(gradients).zip(means.iter_mut().zip(squares));
                vectorised(|| {
                    for ((w, g), (m, s)) in values {
                        let d = *g * scale;
                        *g = 0.0;
                        *m = BETA1 * *m + (1.0 - BETA1) * d;
                        *s = BETA2 * *s + (1.0 - BETA2) * d * d;
                        *w = *w * decay - rate * (*m / correct1) / ((*s / correct2).sqrt() + EPSILON);
                    }
                });
            });
        }
        norm
    }
}

/// The sum of squares, eight sums at a time.
fn square_sum(values: &[f32]) -> f64 {
    vectorised(|| {
        let mut sums = [0.0f64; 8];
        let eights = values.chunks_exact(8);
        let rest: f64 = eights.remainder().iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        for eight in eights {
            sums.iter_mut().zip(eight).for_each(|(sum, v)| *sum += f64::from(*v) * f64::from(*v));
        }
        sums.iter().sum::<f64>() + rest
    })
}

/// Linear warm-up over the first `warmup` steps, then linear decay to zero at `total`: a factor of the peak rate.
pub fn schedule(step: u64, warmup: u64, total: u64) -> f32 {
    if step < warmup {
        (step + 1) as f32 / warmup as f32
    } else {
        (total.saturating_sub(step)) as f32 / (total.saturating_sub(warmup)).max(1) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::encoder::Config;

    #[test]
    fn the_first_step_is_the_rate_in_the_gradients_direction_and_empties_it() {
        let config = Config { vocabulary: 3, positions: 2, width: 2, layers: 0, heads: 1, inner: 2 };
        let mut network = Network::zeros(&config, &[2]);
        let mut gradient = network.zeros_like();
        gradient.encoder.words.data[1] = 0.5;
        gradient.heads.classifiers[0].bias.data[0] = -0.5;
        let norm = AdamW::new(&network, 0.0).step(&mut network, &mut gradient, 0.01, 0.1, 10.0);
        assert!((norm - 0.5f32.sqrt()).abs() < 1e-6);
        assert!((network.encoder.words.data[1] + 0.01).abs() < 1e-6);
        assert!((network.heads.classifiers[0].bias.data[0] - 0.1).abs() < 1e-6);
        assert_eq!(gradient, network.zeros_like());
    }

    #[test]
    fn the_schedule_rises_and_falls() {
        assert_eq!(schedule(0, 10, 100), 0.1);
        assert_eq!(schedule(9, 10, 100), 1.0);
        assert_eq!(schedule(55, 10, 100), 0.5);
        assert_eq!(schedule(100, 10, 100), 0.0);
    }
}
