//! What the alignment functions of SQL ask: embeddings of every layer, and gradients of every task, stored as Parquet.
//!
//! Both are of a fixed probe: motion segments of held-out reports, the same for every model that is to be compared. `embeddings/` has
//! the pooled state after each layer of the finished network; `gradients/` has, every some steps, the gradient of each
//! task's loss with respect to each shared layer, from one forward pass over the same examples.

use super::data::Report;
use super::encoder::Batch;
use super::examples::{self, Example};
use super::fit::Error;
use super::math::mix;
use super::network::{Network, cross_entropy};
use crate::labels::LabelSchema;
use crate::report;
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use tokenizers::Tokenizer;

/// Name of the shared model in the column `task`.
pub const MULTI: &str = "multi";
/// Folder of embeddings in a run's folder.
pub const EMBEDDINGS: &str = "embeddings";
/// Folder of gradients in a run's folder.
pub const GRADIENTS: &str = "gradients";

/// What is stored, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Analysis {
    /// Steps from one storing of gradients to the next.
    pub every: u64,
    /// Motion segments that gradients are taken over.
    pub examples: usize,
    /// Values that a layer's gradient is projected to: by signed hashing with a fixed seed, which keeps scalar products up to
    /// an error of about 1/√width of the lengths (Weinberger et al. 2009).
    pub width: usize,
}

impl Default for Analysis {
    fn default() -> Self {
        Self { every: 100, examples: 64, width: 1024 }
    }
}

/// The seed of the projection, so that gradients of different runs can be compared.
const PROJECTION: u64 = 0x0066_6f72_616d_656e;

/// Whose embeddings a file has: its columns `run`, `model` and `task`.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    /// What was trained together.
    pub run: &'a str,
    /// The network within the run.
    pub model: &'a str,
    /// The one task that it learnt, or [`MULTI`].
    pub task: &'a str,
}

/// Inputs of the motion segments of reports: report id, level and token ids.
pub fn inputs(tokenizer: &Tokenizer, max_tokens: usize, reports: &[Report]) -> Vec<(String, String, Vec<u32>)> {
    let of_report = |report: &Report| {
        let encoded = |segment: report::Segment| {
            let ids = examples::encode(tokenizer, &segment.input, max_tokens);
            (report.id.clone(), segment.level.to_string(), ids)
        };
        report::segments(&report.text).into_iter().map(encoded).collect::<Vec<_>>()
    };
    reports.iter().flat_map(of_report).collect()
}

/// Writes the pooled state of every input (report id, level, token ids) after the embeddings and each layer: the columns `run`, `model`,
/// `task`, `layer`, `report_id`, `level`, `embedding`.
///
/// # Errors
/// [`Error::File`] where the file can't be written.
pub fn write_embeddings(
    path: &Path,
    of: Of<'_>,
    network: &Network,
    inputs: Vec<(String, String, Vec<u32>)>,
) -> Result<(), Error> {
    let width = network.encoder.config.width;
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let schema = Schema::new(vec![
        text("run"),
        text("model"),
        text("task"),
        Field::new("layer", DataType::Int32, false),
        text("report_id"),
        text("level"),
        Field::new("embedding", vectors(width), false),
    ]);
    let mut writer = Writer::create(path, schema)?;
    for chunk in inputs.chunks(32) {
        let pass = network.forward(Batch::new(chunk.iter().map(|(_, _, ids)| ids.as_slice())), 0.0, 0);
        for (layer, states) in pass.pooled().into_iter().enumerate() {
            let rows = chunk.len();
            let same = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value; rows])) };
            writer.write(vec![
                same(of.run),
                same(of.model),
                same(of.task),
                Arc::new(Int32Array::from(vec![layer as i32; rows])),
                Arc::new(StringArray::from_iter_values(chunk.iter().map(|(id, _, _)| id))),
                Arc::new(StringArray::from_iter_values(chunk.iter().map(|(_, level, _)| level))),
                list(width, states.data)?,
            ])?;
        }
    }
    writer.finish()
}

/// The gradient of each task's loss over `probe`, one after the other from one forward pass. Without dropout, smoothing or weights, so
/// that it is of the network and the examples alone.
pub(super) fn each_gradient(
    network: &Network,
    probe: &[Example],
    tasks: usize,
    mut visit: impl FnMut(usize, &Network),
) {
    let pass = network.forward(Batch::new(probe.iter().map(|example| example.ids.as_slice())), 0.0, 0);
    for task in 0..tasks {
        let d = pass.logits().iter().enumerate().map(|(other, logits)| {
            let targets: Vec<u8> = probe.iter().map(|example| example.grades[task]).collect();
            (other == task).then(|| cross_entropy(logits, &targets, &vec![1.0; logits.cols], 0.0).1)
        });
        let d: Vec<_> = d.collect();
        let mut gradient = network.zeros_like();
        network.backward(&pass, &d, &mut gradient);
        visit(task, &gradient);
    }
}

/// A gradient with respect to each shared layer (0: the embeddings), projected to `width` values: `[layer][width]`.
pub(super) fn projected(gradient: &Network, width: usize) -> Vec<Vec<f32>> {
    let mut projected = vec![vec![0.0f32; width]; gradient.encoder.config.layers + 1];
    for (name, matrix) in gradient.encoder.parameters() {
        let salt = name.bytes().fold(PROJECTION, |hash, byte| mix(hash ^ u64::from(byte)));
        if let Some(sums) = projected.get_mut(layer_of(&name)) {
            project(&matrix.data, salt, sums);
        }
    }
    projected
}

/// The gradient of each task's loss over `probe` with respect to each shared layer, projected: `[task][layer][width]`.
pub fn gradients(network: &Network, probe: &[Example], schema: &LabelSchema, width: usize) -> Vec<Vec<Vec<f32>>> {
    let mut all = Vec::new();
    each_gradient(network, probe, schema.tasks().len(), |_, gradient| all.push(projected(gradient, width)));
    all
}

/// Writes gradients of a step: the columns `run`, `step`, `task`, `layer`, `gradient`. The projection is in the schema's metadata.
///
/// # Errors
/// [`Error::File`] where the file can't be written.
pub fn write_gradients(
    path: &Path,
    run: &str,
    step: u64,
    schema: &LabelSchema,
    gradients: &[Vec<Vec<f32>>],
) -> Result<(), Error> {
    let width = gradients.first().and_then(|layers| layers.first()).map_or(0, Vec::len);
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let metadata = [
        ("foramen.projection".to_owned(), "signed hashing (Weinberger et al. 2009)".to_owned()),
        ("foramen.projection.width".to_owned(), width.to_string()),
        ("foramen.projection.seed".to_owned(), PROJECTION.to_string()),
    ];
    let fields = vec![
        text("run"),
        Field::new("step", DataType::Int64, false),
        text("task"),
        Field::new("layer", DataType::Int32, false),
        Field::new("gradient", vectors(width), false),
    ];
    let table = Schema::new_with_metadata(fields, HashMap::from(metadata));
    let mut writer = Writer::create(path, table)?;
    for (task, layers) in schema.tasks().iter().zip(gradients) {
        let rows = layers.len();
        let same = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value; rows])) };
        writer.write(vec![
            same(run),
            Arc::new(Int64Array::from(vec![step as i64; rows])),
            same(&task.name),
            Arc::new(Int32Array::from_iter_values(0..rows as i32)),
            list(width, layers.concat())?,
        ])?;
    }
    writer.finish()
}

/// The layer that a parameter of the encoder belongs to: 0 for the embeddings, then from 1.
fn layer_of(name: &str) -> usize {
    let number =
        name.strip_prefix("layer").and_then(|rest| rest.split('.').next()).and_then(|number| number.parse().ok());
    number.map_or(0, |number: usize| number + 1)
}

/// Adds values to the sums that their hashes choose, with the signs that these choose.
fn project(values: &[f32], salt: u64, sums: &mut [f32]) {
    let width = sums.len() as u64;
    for (at, value) in values.iter().enumerate().filter(|(_, value)| **value != 0.0) {
        let hash = mix(salt ^ at as u64);
        let sign = if hash >> 63 == 1 { -1.0 } else { 1.0 };
        if let Some(sum) = sums.get_mut((hash % width) as usize) {
            *sum += sign * value;
        }
    }
}

fn vectors(width: usize) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, false)), width as i32)
}

fn list(width: usize, values: Vec<f32>) -> Result<ArrayRef, Error> {
    let item = Arc::new(Field::new_list_field(DataType::Float32, false));
    let lists = FixedSizeListArray::try_new(item, width as i32, Arc::new(Float32Array::from(values)), None);
    lists.map(|lists| Arc::new(lists) as ArrayRef).map_err(|error| Error::Invalid(error.to_string()))
}

/// A Parquet file that takes its name when it is whole.
struct Writer<'a> {
    path: &'a Path,
    partial: std::path::PathBuf,
    writer: ArrowWriter<File>,
    schema: Arc<Schema>,
}

impl<'a> Writer<'a> {
    fn create(path: &'a Path, schema: Schema) -> Result<Self, Error> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.into(), source })?;
        }
        let partial = path.with_extension("partial");
        let file = File::create(&partial).map_err(|source| Error::File { path: partial.clone(), source })?;
        let schema = Arc::new(schema);
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties));
        let writer = writer.map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
        Ok(Self { path, partial, writer, schema })
    }

    fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), Error> {
        let path = self.path;
        let failed = |error: String| Error::Invalid(format!("{}: {error}", path.display()));
        let rows =
            RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| failed(error.to_string()))?;
        self.writer.write(&rows).map_err(|error| failed(error.to_string()))
    }

    fn finish(self) -> Result<(), Error> {
        let Self { path, partial, writer, .. } = self;
        writer.close().map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
        std::fs::rename(&partial, path).map_err(|source| Error::File { path: path.into(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::encoder::Config;
    use crate::train::math::Matrix;

    fn tiny() -> (Network, Vec<Example>) {
        let config = Config { vocabulary: 40, positions: 16, width: 16, layers: 2, heads: 2, inner: 32 };
        let mut state = 5;
        let network = Network::random(&config, &LabelSchema::spine(), || {
            state = mix(state);
            ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 3.4
        });
        let example = |n: u32| Example {
            ids: (0..6).map(|at| (n * 7 + at * 5) % 40).collect(),
            mirrored: Vec::new(),
            grades: (0..9).map(|task| ((task + n) % 3) as u8).collect(),
        };
        (network, (0..12).map(example).collect())
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn projected_gradients_keep_the_angles_of_the_whole_ones() {
        let (network, probe) = tiny();
        let schema = LabelSchema::spine();
        let whole = |task: usize, layer: usize| -> Vec<f32> {
            let pass = network.forward(Batch::new(probe.iter().map(|e| e.ids.as_slice())), 0.0, 0);
            let d = pass.logits().iter().enumerate().map(|(other, logits)| {
                let targets: Vec<u8> = probe.iter().map(|e| e.grades[task]).collect();
                (other == task).then(|| cross_entropy(logits, &targets, &vec![1.0; logits.cols], 0.0).1)
            });
            let d: Vec<Option<Matrix>> = d.collect();
            let mut gradient = network.zeros_like();
            network.backward(&pass, &d, &mut gradient);
            let of_layer = |(name, matrix): (String, &Matrix)| (layer_of(&name) == layer).then(|| matrix.data.clone());
            gradient.encoder.parameters().into_iter().filter_map(of_layer).flatten().collect()
        };
        let projected = gradients(&network, &probe, &schema, 4096);
        assert_eq!((projected.len(), projected[0].len(), projected[0][0].len()), (9, 3, 4096));
        for (a, b) in [(0, 1), (0, 5), (3, 8)] {
            for (layer, (of_a, of_b)) in projected[a].iter().zip(&projected[b]).enumerate() {
                let (exact, found) = (cosine(&whole(a, layer), &whole(b, layer)), cosine(of_a, of_b));
                assert!((exact - found).abs() < 0.06, "layer {layer}, tasks {a} and {b}: {exact} and {found}");
            }
        }
    }

    #[test]
    fn layers_are_known_by_their_names() {
        for (name, layer) in [("words", 0), ("norm.gain", 0), ("layer0.qkv.weight", 1), ("layer11.up.bias", 12)] {
            assert_eq!(layer_of(name), layer);
        }
    }
}
