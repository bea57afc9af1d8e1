//! Synthetic reports with their findings: what `foramen-train corpus` writes.
//!
//! Findings are drawn first, then put into words; what a report is said to hold is collected from the statements that were made, so text and
//! labels cannot disagree. Phrases and what they say are data, `corpus/grammar/*.toml`.

mod compose;
mod grammar;
mod level;
mod noise;
mod plan;

pub use grammar::{Error, Grammar};

use super::data::Report;
use crate::labels::LabelSchema;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// How many reports, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Number of reports.
    pub count: usize,
    /// The same seed gives the same reports; report `n` is the same whatever the count.
    pub seed: u64,
}

/// Writes reports, `synthetic-<seed>-<n>` with n from 0.
pub fn generate<'a>(
    grammar: &'a Grammar,
    schema: &'a LabelSchema,
    options: &Options,
) -> impl Iterator<Item = Report> + use<'a> {
    let Options { count, seed } = *options;
    (0..count as u64).map(move |number| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        compose::report(grammar, schema, format!("synthetic-{seed}-{number}"), rng)
    })
}

#[cfg(test)]
mod tests;
