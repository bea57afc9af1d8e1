//! The shared encoder, a BERT (Devlin et al., 2019), forward and backward.
//!
//! Sequences lie end to end in one matrix of token rows, so that no arithmetic is spent on padding. [`Encoder::forward`] keeps what
//! [`Encoder::backward`] needs in a [`Trace`], and one trace serves any number of backward passes: a task's gradient is one
//! pass from the gradient that its head gives.

use super::math::{
    Dropout, Matrix, Normalised, add_row, gelu, gelu_backward, layer_norm, layer_norm_backward, product, product_dw,
    product_dx, softmax, softmax_backward, sum_rows,
};
use faer::linalg::matmul::matmul;
use faer::prelude::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Sizes of an encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Word pieces in the vocabulary.
    pub vocabulary: usize,
    /// Longest sequence, in tokens.
    pub positions: usize,
    /// Width of a token's state.
    pub width: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Width inside the feed-forward block.
    pub inner: usize,
}

/// An affine map, `x · weight + bias`, the weight stored `[in, out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// `[in, out]`.
    pub weight: Matrix,
    /// `[1, out]`.
    pub bias: Matrix,
}

impl Linear {
    /// All zeros.
    pub fn zeros(input: usize, output: usize) -> Self {
        Self { weight: Matrix::zeros(input, output), bias: Matrix::zeros(1, output) }
    }

    pub(crate) fn forward(&self, x: &Matrix) -> Matrix {
        let mut y = product(x, &self.weight);
        add_row(&mut y, &self.bias);
        y
    }

    /// The gradient with respect to `x`; that of weight and bias is added to `d`.
    pub(crate) fn backward(&self, dy: &Matrix, x: &Matrix, d: &mut Self) -> Matrix {
        product_dw(&mut d.weight, x, dy);
        sum_rows(&mut d.bias, dy);
        product_dx(dy, &self.weight)
    }
}

/// Gain and bias of a layer normalisation, each `[1, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// Scale.
    pub gain: Matrix,
    /// Shift.
    pub bias: Matrix,
}

impl Norm {
    fn zeros(width: usize) -> Self {
        Self { gain: Matrix::zeros(1, width), bias: Matrix::zeros(1, width) }
    }

    fn forward(&self, x: Matrix) -> (Matrix, Normalised) {
        layer_norm(x, &self.gain, &self.bias)
    }

    fn backward(&self, dy: &Matrix, kept: &Normalised, d: &mut Self) -> Matrix {
        layer_norm_backward(dy, kept, &self.gain, &mut d.gain, &mut d.bias)
    }
}

/// One transformer layer: attention and feed-forward, each with its residual and a normalisation after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Query, key and value side by side, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Attention's output.
    pub out: Linear,
    /// After attention.
    pub norm1: Norm,
    /// Feed-forward, widening.
    pub up: Linear,
    /// Feed-forward, narrowing.
    pub down: Linear,
    /// After feed-forward.
    pub norm2: Norm,
}

/// The encoder's weights; gradients and optimiser moments have the same form.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    /// Sizes.
    pub config: Config,
    /// Word-piece embeddings, `[vocabulary, width]`.
    pub words: Matrix,
    /// Position embeddings, `[positions, width]`; BERT's embedding of the first segment is part of them.
    pub positions: Matrix,
    /// After the embeddings.
    pub norm: Norm,
    /// The transformer layers.
    pub layers: Vec<Layer>,
}

/// Sequences of token ids, end to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// All ids.
    pub ids: Vec<u32>,
    /// Number of ids of each sequence.
    pub lengths: Vec<usize>,
}

impl Batch {
    /// Puts sequences end to end.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut batch = Self::default();
        for ids in sequences {
            batch.ids.extend_from_slice(ids);
            batch.lengths.push(ids.len());
        }
        batch
    }

    /// Row ranges of the sequences.
    pub fn spans(&self) -> Vec<std::ops::Range<usize>> {
        let mut end = 0;
        let span = |length: &usize| {
            end += length;
            end - length..end
        };
        self.lengths.iter().map(span).collect()
    }
}

struct LayerTrace {
    qkv: Matrix,
    /// Attention probabilities, for each sequence `[heads, tokens, tokens]`.
    shares: Vec<Vec<f32>>,
    mixed: Matrix,
    norm1: Normalised,
    between: Matrix,
    up: Matrix,
    active: Matrix,
    norm2: Normalised,
}

/// What a forward pass leaves for the backward passes.
pub struct Trace {
    /// Token states after the embeddings and after each layer: `layers + 1` matrices `[tokens, width]`.
    pub hidden: Vec<Matrix>,
    batch: Batch,
    dropout: Dropout,
    norm: Normalised,
    layers: Vec<LayerTrace>,
}

impl Trace {
    /// The last layer's token states.
    pub fn last(&self) -> &Matrix {
        self.hidden.last().unwrap_or_else(|| unreachable!("the embeddings are always there"))
    }
}

impl Encoder {
    /// An encoder of zeros: an empty gradient.
    pub fn zeros(config: &Config) -> Self {
        let (width, inner) = (config.width, config.inner);
        let layer = || Layer {
            qkv: Linear::zeros(width, 3 * width),
            out: Linear::zeros(width, width),
            norm1: Norm::zeros(width),
            up: Linear::zeros(width, inner),
            down: Linear::zeros(inner, width),
            norm2: Norm::zeros(width),
        };
        Self {
            config: config.clone(),
            words: Matrix::zeros(config.vocabulary, width),
            positions: Matrix::zeros(config.positions, width),
            norm: Norm::zeros(width),
            layers: (0..config.layers).map(|_| layer()).collect(),
        }
    }

    /// All parameters with their names, in a fixed order.
    pub fn parameters(&self) -> Vec<(String, &Matrix)> {
        let mut all = vec![
            ("words".to_string(), &self.words),
            ("positions".to_string(), &self.positions),
            ("norm.gain".to_string(), &self.norm.gain),
            ("norm.bias".to_string(), &self.norm.bias),
        ];
        for (i, l) in self.layers.iter().enumerate() {
            for (name, matrix) in [
                ("qkv.weight", &l.qkv.weight),
                ("qkv.bias", &l.qkv.bias),
                ("out.weight", &l.out.weight),
                ("out.bias", &l.out.bias),
                ("norm1.gain", &l.norm1.gain),
                ("norm1.bias", &l.norm1.bias),
                ("up.weight", &l.up.weight),
                ("up.bias", &l.up.bias),
                ("down.weight", &l.down.weight),
                ("down.bias", &l.down.bias),
                ("norm2.gain", &l.norm2.gain),
                ("norm2.bias", &l.norm2.bias),
            ] {
                all.push((format!("layer{i}.{name}"), matrix));
            }
        }
        all
    }

    /// All parameters, to be written, in the order of [`Encoder::parameters`].
    pub fn parameters_mut(&mut self) -> Vec<&mut Matrix> {
        let mut all = vec![&mut self.words, &mut self.positions, &mut self.norm.gain, &mut self.norm.bias];
        for l in &mut self.layers {
            all.extend([&mut l.qkv.weight, &mut l.qkv.bias, &mut l.out.weight, &mut l.out.bias]);
            all.extend([&mut l.norm1.gain, &mut l.norm1.bias, &mut l.up.weight, &mut l.up.bias]);
            all.extend([&mut l.down.weight, &mut l.down.bias, &mut l.norm2.gain, &mut l.norm2.bias]);
        }
        all
    }

    /// Keeps `layers` of the layers, evenly spaced from the first to the last; all where there are no more.
    pub fn thin(&mut self, layers: usize) {
        let last = self.layers.len().saturating_sub(1);
        if layers <= last {
            let gaps = layers.saturating_sub(1).max(1);
            let kept = (0..layers).map(|place| self.layers[(place * last + gaps / 2) / gaps].clone()).collect();
            self.layers = kept;
            self.config.layers = layers;
        }
    }

    /// Token states after the embeddings and each layer. Ids must be of the vocabulary, sequences within `positions`.
    pub(crate) fn forward(&self, batch: Batch, dropout: Dropout) -> Trace {
        let width = self.config.width;
        let mut x = Matrix::zeros(batch.ids.len(), width);
        for span in batch.spans() {
            for (position, token) in span.enumerate() {
                let word = self.words.row(batch.ids[token] as usize);
                let place = self.positions.row(position);
                for ((x, word), place) in x.row_mut(token).iter_mut().zip(word).zip(place) {
                    *x = word + place;
                }
            }
        }
        let (mut x, norm) = self.norm.forward(x);
        dropout.branch(0).apply(&mut x);
        let mut hidden = vec![x];
        let mut layers = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let (next, trace) = self.layer_forward(layer, &hidden[index], &batch, dropout.branch(1 + index as u64));
            hidden.push(next);
            layers.push(trace);
        }
        Trace { hidden, batch, dropout, norm, layers }
    }

    fn layer_forward(&self, layer: &Layer, x: &Matrix, batch: &Batch, dropout: Dropout) -> (Matrix, LayerTrace) {
        let (width, heads) = (self.config.width, self.config.heads);
        let qkv = layer.qkv.forward(x);
        let mut mixed = Matrix::zeros(x.rows, width);
        let outs = split(&mut mixed.data, &batch.lengths, width);
        let spans = batch.spans();
        let shares: Vec<Vec<f32>> = outs
            .into_par_iter()
            .zip(spans.into_par_iter())
            .map(|(out, span)| attend(&qkv.data[span.start * 3 * width..span.end * 3 * width], heads, width, out))
            .collect();
        let mut sum = layer.out.forward(&mixed);
        dropout.branch(1).apply(&mut sum);
        sum.add(x);
        let (between, norm1) = layer.norm1.forward(sum);
        let up = layer.up.forward(&between);
        let active = gelu(&up);
        let mut sum = layer.down.forward(&active);
        dropout.branch(2).apply(&mut sum);
        sum.add(&between);
        let (next, norm2) = layer.norm2.forward(sum);
        (next, LayerTrace { qkv, shares, mixed, norm1, between, up, active, norm2 })
    }

    /// Adds to `gradient` the gradient with respect to every weight, given that with respect to the last layer's token states.
    pub fn backward(&self, trace: &Trace, last: Matrix, gradient: &mut Self) {
        let mut d = last;
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let dropout = trace.dropout.branch(1 + index as u64);
            let (kept, x) = (&trace.layers[index], &trace.hidden[index]);
            d = self.layer_backward(layer, kept, x, &trace.batch, dropout, d, &mut gradient.layers[index]);
        }
        trace.dropout.branch(0).apply(&mut d);
        let d = self.norm.backward(&d, &trace.norm, &mut gradient.norm);
        for span in trace.batch.spans() {
            for (position, token) in span.enumerate() {
                let id = trace.batch.ids[token] as usize;
                for (g, d) in gradient.words.row_mut(id).iter_mut().zip(d.row(token)) {
                    *g += d;
                }
                for (g, d) in gradient.positions.row_mut(position).iter_mut().zip(d.row(token)) {
                    *g += d;
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the layer, what its forward pass kept, and where its gradient goes")]
    fn layer_backward(
        &self,
        layer: &Layer,
        kept: &LayerTrace,
        x: &Matrix,
        batch: &Batch,
        dropout: Dropout,
        d: Matrix,
        gradient: &mut Layer,
    ) -> Matrix {
        let (width, heads) = (self.config.width, self.config.heads);
        let sum = layer.norm2.backward(&d, &kept.norm2, &mut gradient.norm2);
        let mut branch = sum.clone();
        dropout.branch(2).apply(&mut branch);
        let mut inner = layer.down.backward(&branch, &kept.active, &mut gradient.down);
        gelu_backward(&mut inner, &kept.up);
        let mut between = layer.up.backward(&inner, &kept.between, &mut gradient.up);
        between.add(&sum);
        let mut sum = layer.norm1.backward(&between, &kept.norm1, &mut gradient.norm1);
        let mut branch = sum.clone();
        dropout.branch(1).apply(&mut branch);
        let mixed = layer.out.backward(&branch, &kept.mixed, &mut gradient.out);
        let mut qkv = Matrix::zeros(x.rows, 3 * width);
        let outs = split(&mut qkv.data, &batch.lengths, 3 * width);
        outs.into_par_iter().zip(batch.spans().into_par_iter()).zip(&kept.shares).for_each(|((out, span), shares)| {
            let qkv = &kept.qkv.data[span.start * 3 * width..span.end * 3 * width];
            let d = &mixed.data[span.start * width..span.end * width];
            attend_backward(qkv, shares, d, heads, width, out);
        });
        sum.add(&layer.qkv.backward(&qkv, x, &mut gradient.qkv));
        sum
    }
}

/// Cuts a slice into the sequences' parts.
fn split<'a>(mut data: &'a mut [f32], lengths: &[usize], width: usize) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (part, rest) = std::mem::take(&mut data).split_at_mut(length * width);
        parts.push(part);
        data = rest;
    }
    parts
}

/// The columns of query, key or value (`which`) of one head in a sequence's `[tokens, 3 * width]`.
fn part(qkv: &[f32], which: usize, head: usize, heads: usize, width: usize) -> MatRef<'_, f32> {
    let size = width / heads;
    let all = MatRef::from_row_major_slice(qkv, qkv.len() / (3 * width), 3 * width);
    all.subcols(which * width + head * size, size)
}

/// Scaled dot-product attention (Vaswani et al., 2017) within one sequence. Writes the mixed values `[tokens, width]` to `out` and
/// answers the probabilities `[heads, tokens, tokens]`.
fn attend(qkv: &[f32], heads: usize, width: usize, out: &mut [f32]) -> Vec<f32> {
    let (tokens, size) = (out.len() / width, width / heads);
    let mut shares = vec![0.0; heads * tokens * tokens];
    let mut out = MatMut::from_row_major_slice_mut(out, tokens, width);
    for (head, share) in shares.chunks_exact_mut((tokens * tokens).max(1)).enumerate() {
        let (q, k, v) =
            (part(qkv, 0, head, heads, width), part(qkv, 1, head, heads, width), part(qkv, 2, head, heads, width));
        let scores = MatMut::from_row_major_slice_mut(share, tokens, tokens);
        matmul(scores, Accum::Replace, q, k.transpose(), 1.0 / (size as f32).sqrt(), Par::Seq);
        share.chunks_exact_mut(tokens).for_each(softmax);
        let share = MatRef::from_row_major_slice(share, tokens, tokens);
        matmul(out.rb_mut().subcols_mut(head * size, size), Accum::Replace, share, v, 1.0, Par::Seq);
    }
    shares
}

/// The gradient of [`attend`] with respect to query, key and value, written to `out` `[tokens, 3 * width]`.
fn attend_backward(qkv: &[f32], shares: &[f32], d: &[f32], heads: usize, width: usize, out: &mut [f32]) {
    let (tokens, size) = (d.len() / width, width / heads);
    let d = MatRef::from_row_major_slice(d, tokens, width);
    let mut out = MatMut::from_row_major_slice_mut(out, tokens, 3 * width);
    let mut scores = vec![0.0; tokens * tokens];
    for (head, share) in shares.chunks_exact((tokens * tokens).max(1)).enumerate() {
        let (q, k, v) =
            (part(qkv, 0, head, heads, width), part(qkv, 1, head, heads, width), part(qkv, 2, head, heads, width));
        let d = d.subcols(head * size, size);
        let p = MatRef::from_row_major_slice(share, tokens, tokens);
        let mut columns = |which: usize, left: MatRef<'_, f32>, right: MatRef<'_, f32>, scale: f32| {
            let target = out.rb_mut().subcols_mut(which * width + head * size, size);
            matmul(target, Accum::Replace, left, right, scale, Par::Seq);
        };
        columns(2, p.transpose(), d, 1.0);
        matmul(
            MatMut::from_row_major_slice_mut(&mut scores, tokens, tokens),
            Accum::Replace,
            d,
            v.transpose(),
            1.0,
            Par::Seq,
        );
        for (d, p) in scores.chunks_exact_mut(tokens).zip(share.chunks_exact(tokens)) {
            softmax_backward(d, p);
        }
        let (scores, scale) = (MatRef::from_row_major_slice(&scores, tokens, tokens), 1.0 / (size as f32).sqrt());
        columns(0, scores, k, scale);
        columns(1, scores.transpose(), q, scale);
    }
}
