//! What can go wrong between a model package and its answers. No variant holds text of a report.

use std::path::PathBuf;

/// Why a model could not be opened, or could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The package folder, or a file of it, is not there or can't be read.
    #[error("the model package {folder} has no readable {file}: {source}; copy the whole package again")]
    Missing {
        /// The package's folder.
        folder: PathBuf,
        /// The file that was looked for.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the one that the manifest names.
    #[error(
        "{file} of the model package {folder} is not the file that package.toml names (sha256 {found}, expected {expected}); \
         copy the whole package again, or export it again if it was changed on purpose"
    )]
    Altered {
        /// The package's folder.
        folder: PathBuf,
        /// The file.
        file: String,
        /// The sha256 that package.toml names.
        expected: String,
        /// The sha256 of what is there.
        found: String,
    },
    /// `package.toml` is not a manifest of this form.
    #[error("package.toml of the model package {folder} can't be used: {reason}")]
    Manifest {
        /// The package's folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The package's `labels.toml` is not a label schema.
    #[error("labels.toml of the model package {folder} can't be used: {source}")]
    Labels {
        /// The package's folder.
        folder: PathBuf,
        /// What is wrong with it.
        source: crate::labels::Error,
    },
    /// The package's `tokenizer.json` is not a tokenizer that this program can use.
    #[error("tokenizer.json of the model package {folder} can't be used: {reason}")]
    Tokenizer {
        /// The package's folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The graph's inputs or outputs are not what the manifest and the labels promise.
    #[error("model.onnx of the model package {folder} does not fit its package.toml and labels.toml: {reason}")]
    Graph {
        /// The package's folder.
        folder: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// No ONNX Runtime library was found, or none of those found could be loaded.
    #[error(
        "ONNX Runtime can't be loaded: {reason}\nFetch it with `python3 scripts/fetch.py onnxruntime` (or `make native`), or set \
         ORT_DYLIB_PATH to libonnxruntime.so of version 1.{} or newer",
        ort::MINOR_VERSION
    )]
    Runtime {
        /// Where it was looked for, and what happened there.
        reason: String,
    },
    /// A device was named in a way that is not known.
    #[error("{0:?} is not a device; write cpu, cuda or cuda:N (N is the number of the card)")]
    UnknownDevice(String),
    /// The device that was asked for can't be used. Nothing falls back to another one.
    #[error("the device {device} can't be used: {reason}")]
    Device {
        /// What was asked for.
        device: super::Device,
        /// Why not, and what to do.
        reason: String,
    },
    /// An arithmetic that is not known, or that can't be had here.
    #[error("the arithmetic {0}; write auto (what the processor is best at), float32 or int8")]
    Arithmetic(String),
    /// A layer that the model does not have.
    #[error("the model has no layer {layer}: 0 is the state after the embeddings, {last} that after the last layer")]
    Layer {
        /// What was asked for.
        layer: usize,
        /// The highest layer there is.
        last: usize,
    },
    /// The model could not read a text, or could not be started.
    #[error("the model could not be run: {0}")]
    Run(String),
}
