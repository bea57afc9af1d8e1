//! The network as an ONNX graph, with float32 weights or weights in 8 bits that are widened once, when the session is made.

use super::encoder::{Config, Layer, Linear, Norm};
use super::heads::QUERIES;
use super::math::{EPSILON, Matrix};
use super::network::Network;
use super::onnx::{Attribute, Axis, Builder, Constants};
use crate::labels::LabelSchema;
use crate::model::{GRAPH, Manifest};
use serde::{Deserialize, Serialize};

/// How weights are stored in the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// As they were trained.
    Float32,
    /// Matrices in 8 bits with one scale for each row of the vocabulary or column of a weight; arithmetic stays in float32.
    Int8Weights,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Float32 => "float32",
            Self::Int8Weights => "int8-weights",
        })
    }
}

/// A matrix in 8 bits with a scale for each row: `value = scale * byte`.
struct Rows {
    bytes: Vec<i8>,
    scales: Vec<f32>,
}

fn quantise(matrix: &Matrix) -> Rows {
    let scale = |row: &[f32]| row.iter().fold(0.0f32, |max, v| max.max(v.abs())).max(f32::MIN_POSITIVE) / 127.0;
    let rows = matrix.data.chunks_exact(matrix.cols);
    let scales: Vec<f32> = rows.clone().map(scale).collect();
    let bytes = rows.zip(&scales).flat_map(|(row, scale)| row.iter().map(move |v| (v / scale).round() as i8)).collect();
    Rows { bytes, scales }
}

fn widen(rows: &Rows, cols: usize) -> Matrix {
    let values =
        rows.bytes.chunks_exact(cols).zip(&rows.scales).flat_map(|(row, s)| row.iter().map(move |b| f32::from(*b) * s));
    Matrix::new(rows.scales.len(), cols, values.collect())
}

/// A weight in 8 bits, `[inputs, outputs]`, with a scale for each output.
fn quantise_columns(matrix: &Matrix) -> (Vec<i8>, Vec<f32>) {
    let Rows { bytes, scales } = quantise(&matrix.transposed());
    let inputs = matrix.rows;
    let columns = (0..inputs).flat_map(|i| bytes.iter().skip(i).step_by(inputs)).copied().collect();
    (columns, scales)
}

fn widen_columns(bytes: &[i8], scales: &[f32]) -> Matrix {
    let values =
        bytes.chunks_exact(scales.len()).flat_map(|row| row.iter().zip(scales).map(|(b, s)| f32::from(*b) * s));
    Matrix::new(bytes.len() / scales.len(), scales.len(), values.collect())
}

/// The network whose answers the graph of this precision gives: itself, or one whose large matrices have been through 8 bits.
pub(super) fn rounded(network: &Network, precision: Precision) -> Network {
    let mut out = network.clone();
    if precision == Precision::Int8Weights {
        out.encoder.words = widen(&quantise(&network.encoder.words), network.encoder.config.width);
        for layer in &mut out.encoder.layers {
            for linear in [&mut layer.qkv, &mut layer.out, &mut layer.up, &mut layer.down] {
                let (bytes, scales) = quantise_columns(&linear.weight);
                linear.weight = widen_columns(&bytes, &scales);
            }
        }
    }
    out
}

/// A graph in the making.
struct Graph {
    builder: Builder,
    precision: Precision,
    /// Whether the large products are of integers, which wants weights in 8 bits.
    integers: bool,
    heads: i64,
    size: i64,
    width: i64,
}

/// The network as ONNX bytes, by the contract of the model package: inputs `input_ids` and `attention_mask`, outputs `logits_<task>` and
/// `hidden_states`.
pub(super) fn to_onnx(network: &Network, schema: &LabelSchema, precision: Precision) -> Vec<u8> {
    graph(network, schema, precision, false).finish(&schema.id())
}

/// The same graph with the large products in 8-bit integers, for [`crate::model::INT8_GRAPH`]. Its weights stand in [`GRAPH`], whose bytes are `whole`.
pub(super) fn to_int8_onnx(network: &Network, schema: &LabelSchema, whole: &[u8]) -> Vec<u8> {
    graph(network, schema, Precision::Int8Weights, true).finish_beside(&schema.id(), GRAPH, whole)
}

fn graph(network: &Network, schema: &LabelSchema, precision: Precision, integers: bool) -> Builder {
    let config = &network.encoder.config;
    let (width, heads) = (config.width as i64, config.heads as i64);
    let mut g = Graph { builder: Builder::default(), precision, integers, heads, size: width / heads, width };
    let tokens = [Axis::Free("batch"), Axis::Free("tokens")];
    let ids = g.builder.input("input_ids", &tokens);
    let mask = g.builder.input("attention_mask", &tokens);
    let mask = g.builder.cast(&mask);
    g.builder.floats("one", &[], &[1.0]);
    g.builder.floats("half", &[], &[0.5]);
    g.builder.floats("root2", &[], &[std::f32::consts::SQRT_2]);
    g.builder.floats("scale", &[], &[1.0 / (g.size as f32).sqrt()]);
    g.builder.floats("far", &[], &[-1e9]);
    for (name, axis) in [("axis0", 0), ("axis1", 1)] {
        g.builder.ints(name, &[1], &[axis]);
    }
    g.builder.ints("axes12", &[2], &[1, 2]);
    if integers {
        g.builder.ints("last", &[1], &[-1]);
        g.builder.floats("least", &[], &[f32::MIN_POSITIVE]);
        g.builder.floats("step", &[], &[1.0 / 127.0]);
        g.builder.byte("middle", 128);
    }
    let absent = g.builder.op("Sub", &["one", &mask], &[]);
    let bias = g.builder.op("Mul", &[&absent, "far"], &[]);
    let row_bias = g.builder.op("Unsqueeze", &[&bias, "axis1"], &[]);
    let bias = g.builder.op("Unsqueeze", &[&bias, "axes12"], &[]);
    // The mean over tokens as a product with rows of 1/n: padding adds exact zeros.
    let count = g.builder.op("ReduceSum", &[&mask, "axis1"], &[Attribute::Int("keepdims", 1)]);
    let mean = g.builder.op("Div", &[&mask, &count], &[]);
    let mean = g.builder.op("Unsqueeze", &[&mean, "axis1"], &[]);

    let mut x = g.embeddings(network, &ids);
    let mut pooled = vec![g.builder.op("MatMul", &[&mean, &x], &[])];
    for (index, layer) in network.encoder.layers.iter().enumerate() {
        x = g.layer(layer, index, &x, &bias);
        pooled.push(g.builder.op("MatMul", &[&mean, &x], &[]));
    }
    let pooled: Vec<&str> = pooled.iter().map(String::as_str).collect();
    g.builder.named("Concat", &pooled, &[Attribute::Int("axis", 1)], "hidden_states");

    let queries = g.builder.matrix("queries", &network.heads.queries);
    let scores = g.builder.op("MatMul", &[&x, &queries], &[]);
    let scores = g.builder.op("Transpose", &[&scores], &[Attribute::Ints("perm", &[0, 2, 1])]);
    let scores = g.builder.op("Add", &[&scores, &row_bias], &[]);
    let shares = g.builder.op("Softmax", &[&scores], &[Attribute::Int("axis", -1)]);
    let pooled = g.builder.op("MatMul", &[&shares, &x], &[]);
    // Every row twice: a row alone would go through another kernel of the heads' products, and differ in its last bits.
    let pooled = g.builder.op("Concat", &[&pooled, &pooled], &[Attribute::Int("axis", 0)]);
    let rows = g.builder.op("Shape", &[&ids], &[Attribute::Int("end", 1)]);
    g.builder.ints("zero", &[1], &[0]);
    let flat = g.builder.ints("flat", &[2], &[-1, QUERIES as i64 * width]);
    for (index, (task, head)) in schema.tasks().iter().zip(&network.heads.classifiers).enumerate() {
        let start = g.builder.ints(&format!("start_{}", task.name), &[1], &[(index * QUERIES) as i64]);
        let end = g.builder.ints(&format!("end_{}", task.name), &[1], &[((index + 1) * QUERIES) as i64]);
        let own = g.builder.op("Slice", &[&pooled, &start, &end, "axis1"], &[]);
        let own = g.builder.op("Reshape", &[&own, &flat], &[]);
        let weight = g.builder.matrix(&format!("head_{}_weight", task.name), &head.weight);
        let bias = g.builder.matrix(&format!("head_{}_bias", task.name), &head.bias);
        let product = g.builder.op("MatMul", &[&own, &weight], &[]);
        let sum = g.builder.op("Add", &[&product, &bias], &[]);
        let name = format!("logits_{}", task.name);
        g.builder.named("Slice", &[&sum, "zero", &rows, "axis0"], &[], &name);
        g.builder.output(&name, &[Axis::Free("batch"), Axis::Fixed(task.grades.len())]);
    }
    let states = Axis::Fixed(config.layers + 1);
    g.builder.output("hidden_states", &[Axis::Free("batch"), states, Axis::Fixed(config.width)]);
    g.builder
}

/// The network that [`to_onnx`] wrote, as its answers are: weights in 8 bits are widened. The other way round of that function.
pub(super) fn from_onnx(
    bytes: &[u8],
    vocabulary: usize,
    manifest: &Manifest,
    schema: &LabelSchema,
) -> Result<Network, String> {
    let constants = Constants::read(bytes)?;
    let heads = constants.ints("layer0_heads")?.get(2).and_then(|heads| usize::try_from(*heads).ok());
    let heads = heads.filter(|heads| *heads > 0 && manifest.width.is_multiple_of(*heads));
    let heads = heads.ok_or("its attention heads do not divide the width that package.toml gives")?;
    let inner = constants.floats("layer0_up_bias")?.len();
    let Manifest { width, layers, max_tokens: positions, .. } = *manifest;
    let config = Config { vocabulary, positions, width, layers, heads, inner };
    let grades: Vec<usize> = schema.tasks().iter().map(|task| task.grades.len()).collect();
    let mut network = Network::zeros(&config, &grades);
    let read = |name: &str, matrix: &mut Matrix| {
        let values = constants.floats(name)?;
        if values.len() != matrix.data.len() {
            return Err(format!("its constant {name} has {} numbers, not {}", values.len(), matrix.data.len()));
        }
        matrix.data = values;
        Ok(())
    };
    let eight = |name: &str, scale: &str, rows: usize, cols: usize, scales: usize| {
        let (bytes, found) = (constants.bytes(name, rows, cols)?, constants.floats(scale)?);
        if found.len() != scales {
            return Err(format!("its constant {scale} has {} numbers, not {scales}", found.len()));
        }
        Ok((bytes, found))
    };
    let linear = |name: String, linear: &mut Linear| {
        let weight = format!("{name}_weight");
        if constants.is_bytes(&weight) {
            let (rows, cols) = (linear.weight.rows, linear.weight.cols);
            let (bytes, scales) = eight(&weight, &format!("{name}_scale"), rows, cols, cols)?;
            linear.weight = widen_columns(&bytes, &scales);
        } else {
            read(&weight, &mut linear.weight)?;
        }
        read(&format!("{name}_bias"), &mut linear.bias)
    };
    let norm = |name: String, norm: &mut Norm| {
        read(&format!("{name}_gain"), &mut norm.gain)?;
        read(&format!("{name}_bias"), &mut norm.bias)
    };
    let encoder = &mut network.encoder;
    match constants.is_bytes("words") {
        true => {
            let (bytes, scales) = eight("words", "words_scale", vocabulary, config.width, vocabulary)?;
            encoder.words = widen(&Rows { bytes, scales }, config.width);
        }
        false => read("words", &mut encoder.words)?,
    }
    read("positions", &mut encoder.positions)?;
    norm("norm".into(), &mut encoder.norm)?;
    for (index, layer) in encoder.layers.iter_mut().enumerate() {
        let name = |part: &str| format!("layer{index}_{part}");
        linear(name("qkv"), &mut layer.qkv)?;
        linear(name("out"), &mut layer.out)?;
        norm(name("norm1"), &mut layer.norm1)?;
        linear(name("up"), &mut layer.up)?;
        linear(name("down"), &mut layer.down)?;
        norm(name("norm2"), &mut layer.norm2)?;
    }
    read("queries", &mut network.heads.queries)?;
    for (task, head) in schema.tasks().iter().zip(&mut network.heads.classifiers) {
        linear(format!("head_{}", task.name), head)?;
    }
    Ok(network)
}

impl Graph {
    fn embeddings(&mut self, network: &Network, ids: &str) -> String {
        let encoder = &network.encoder;
        let words = match self.precision {
            Precision::Float32 => {
                let words = self.builder.matrix("words", &encoder.words);
                self.builder.op("Gather", &[&words, ids], &[])
            }
            Precision::Int8Weights => {
                let rows = quantise(&encoder.words);
                let words = self.builder.bytes("words", &[encoder.words.rows, encoder.words.cols], &rows.bytes);
                let scales = self.builder.floats("words_scale", &[encoder.words.rows, 1], &rows.scales);
                let bytes = self.builder.op("Gather", &[&words, ids], &[]);
                let values = self.builder.cast(&bytes);
                let scales = self.builder.op("Gather", &[&scales, ids], &[]);
                self.builder.op("Mul", &[&values, &scales], &[])
            }
        };
        let positions = self.builder.matrix("positions", &encoder.positions);
        let shape = self.builder.op("Shape", &[ids], &[Attribute::Int("start", 1), Attribute::Int("end", 2)]);
        let first = self.builder.ints("first", &[1], &[0]);
        let positions = self.builder.op("Slice", &[&positions, &first, &shape, "axis0"], &[]);
        let sum = self.builder.op("Add", &[&words, &positions], &[]);
        self.norm(&encoder.norm, "norm", &sum)
    }

    fn norm(&mut self, norm: &Norm, name: &str, x: &str) -> String {
        let gain = self.builder.matrix(&format!("{name}_gain"), &norm.gain);
        let bias = self.builder.matrix(&format!("{name}_bias"), &norm.bias);
        let attributes = [Attribute::Int("axis", -1), Attribute::Float("epsilon", EPSILON)];
        self.builder.op("LayerNormalization", &[x, &gain, &bias], &attributes)
    }

    fn linear(&mut self, linear: &Linear, name: &str, x: &str) -> String {
        let product = match self.precision {
            Precision::Float32 => {
                let weight = self.builder.matrix(&format!("{name}_weight"), &linear.weight);
                self.builder.op("MatMul", &[x, &weight], &[])
            }
            Precision::Int8Weights => {
                let (bytes, scales) = quantise_columns(&linear.weight);
                let (inputs, outputs) = (linear.weight.rows, linear.weight.cols);
                let bytes = self.builder.bytes(&format!("{name}_weight"), &[inputs, outputs], &bytes);
                let scales = self.builder.floats(&format!("{name}_scale"), &[outputs], &scales);
                if self.integers {
                    self.product_in_8_bits(x, &bytes, &scales)
                } else {
                    // ONNX Runtime folds the widening of constants when it loads the graph.
                    let values = self.builder.cast(&bytes);
                    let weight = self.builder.op("Mul", &[&values, &scales], &[]);
                    self.builder.op("MatMul", &[x, &weight], &[])
                }
            }
        };
        let bias = self.builder.matrix(&format!("{name}_bias"), &linear.bias);
        self.builder.op("Add", &[&product, &bias], &[])
    }

    /// `x` times a weight in 8 bits, with `x` in 8 bits too: a token's values are divided by the largest of them and rounded to 127 steps on
    /// either side of zero. The scale is the token's own, so that no answer depends on a neighbour.
    fn product_in_8_bits(&mut self, x: &str, weight: &str, scales: &str) -> String {
        let keep = [Attribute::Int("keepdims", 1)];
        let highest = self.builder.op("ReduceMax", &[x, "last"], &keep);
        let lowest = self.builder.op("ReduceMin", &[x, "last"], &keep);
        let lowest = self.builder.op("Neg", &[&lowest], &[]);
        let largest = self.builder.op("Max", &[&highest, &lowest, "least"], &[]);
        let ratio = self.builder.op("Div", &[x, &largest], &[]);
        let bytes = self.builder.op("QuantizeLinear", &[&ratio, "step", "middle"], &[]);
        let product = self.builder.own("MatMulIntegerToFloat", &[&bytes, weight, "step", scales, "middle"]);
        self.builder.op("Mul", &[&product, &largest], &[])
    }

    fn layer(&mut self, layer: &Layer, index: usize, x: &str, bias: &str) -> String {
        let name = |part: &str| format!("layer{index}_{part}");
        let qkv = self.linear(&layer.qkv, &name("qkv"), x);
        let parts =
            self.builder.split("Split", &[&qkv], &[Attribute::Int("axis", 2), Attribute::Int("num_outputs", 3)], 3);
        let shape = self.builder.ints(&name("heads"), &[4], &[0, 0, self.heads, self.size]);
        let mut head = |part: &str, perm: &[i64]| {
            let part = self.builder.op("Reshape", &[part, &shape], &[]);
            self.builder.op("Transpose", &[&part], &[Attribute::Ints("perm", perm)])
        };
        let q = head(&parts[0], &[0, 2, 1, 3]);
        let k = head(&parts[1], &[0, 2, 3, 1]);
        let v = head(&parts[2], &[0, 2, 1, 3]);
        let scores = self.builder.op("MatMul", &[&q, &k], &[]);
        let scores = self.builder.op("Mul", &[&scores, "scale"], &[]);
        let scores = self.builder.op("Add", &[&scores, bias], &[]);
        let shares = self.builder.op("Softmax", &[&scores], &[Attribute::Int("axis", -1)]);
        let mixed = self.builder.op("MatMul", &[&shares, &v], &[]);
        let mixed = self.builder.op("Transpose", &[&mixed], &[Attribute::Ints("perm", &[0, 2, 1, 3])]);
        let shape = self.builder.ints(&name("joined"), &[3], &[0, 0, self.width]);
        let mixed = self.builder.op("Reshape", &[&mixed, &shape], &[]);
        let mixed = self.linear(&layer.out, &name("out"), &mixed);
        let sum = self.builder.op("Add", &[&mixed, x], &[]);
        let between = self.norm(&layer.norm1, &name("norm1"), &sum);
        let up = self.linear(&layer.up, &name("up"), &between);
        // GELU in the form that ONNX Runtime recognises and fuses.
        let erf = self.builder.op("Div", &[&up, "root2"], &[]);
        let erf = self.builder.op("Erf", &[&erf], &[]);
        let erf = self.builder.op("Add", &[&erf, "one"], &[]);
        let active = self.builder.op("Mul", &[&up, &erf], &[]);
        let active = self.builder.op("Mul", &[&active, "half"], &[]);
        let down = self.linear(&layer.down, &name("down"), &active);
        let sum = self.builder.op("Add", &[&down, &between], &[]);
        self.norm(&layer.norm2, &name("norm2"), &sum)
    }
}
