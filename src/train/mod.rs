//! Training: a shared encoder with a head per task, fine-tuned on annotated reports, evaluated, and written as a model package.
//!
//! The way of a report here: [`corpus`] and [`data`] (annotated reports) → [`examples`] (one a motion segment) → [`network`]
//! ([`encoder`] and [`heads`], forward and backward) → [`optim`] → [`fit`] → [`export`] (ONNX). [`scores`] says how good the answers are,
//! [`analysis`] stores what the alignment functions of SQL ask.

pub mod analysis;
pub mod behaviour;
pub mod calibration;
pub mod checkpoint;
pub mod corpus;
pub mod data;
pub mod encoder;
pub mod examples;
pub mod export;
pub mod fit;
mod graph;
pub mod heads;
mod math;
pub mod network;
mod onnx;
pub mod optim;
pub mod pretrained;
pub mod scores;
pub mod study;

pub use graph::Precision;
pub use math::Matrix;
