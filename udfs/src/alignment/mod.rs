//! Aggregates over pairs of vectors: how alike two representations of the same rows are, and whether gradients agree.
//!
//! One pass, in memory that does not grow with the rows, mergeable in any order of partitions: [`moments`] are the sums,
//! [`similarity`], [`canonical`] and [`interval`] the formulas over them, [`kernel`] a bounded sample where all pairs of rows are needed, [`aggregate`] the one accumulator of all functions.

mod aggregate;
mod canonical;
mod cosines;
mod gradient_conflict_rate;
mod gradient_cosine;
mod interval;
mod kernel;
mod linear_cka;
mod linear_cka_debiased;
mod linear_cka_interval;
mod moments;
mod procrustes_similarity;
mod pwcca;
mod rbf_cka;
mod similarity;
mod svcca;
mod vectors;

#[cfg(test)]
mod tests;

pub use aggregate::ALIGNMENT;
pub(crate) use cosines::Cosines;
pub use gradient_conflict_rate::gradient_conflict_rate_udaf;
pub use gradient_cosine::gradient_cosine_udaf;
pub use linear_cka::linear_cka_udaf;
pub use linear_cka_debiased::linear_cka_debiased_udaf;
pub use linear_cka_interval::linear_cka_interval_udaf;
pub(crate) use moments::{dot, symmetric_dot};
pub use procrustes_similarity::procrustes_similarity_udaf;
pub use pwcca::pwcca_udaf;
pub use rbf_cka::rbf_cka_udaf;
pub(crate) use similarity::debiased;
pub use svcca::svcca_udaf;
pub(crate) use vectors::{Vectors, accept};
