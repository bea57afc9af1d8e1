//! A head per task: attention pooling with the task's own queries, then a linear map to logits.
//!
//! Pooling by learnt queries lets a task read the tokens that concern it, such as the side beside a grade, which a mean over
//! all tokens blurs.

use super::encoder::{Batch, Linear};
use super::math::{Dropout, Matrix, product, product_dw, product_dx, softmax, softmax_backward};
use crate::labels::LabelSchema;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Queries of each task: one can find the grade while another finds its side.
pub(crate) const QUERIES: usize = 2;

/// The heads of all tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// Pooling queries, a column each, [`QUERIES`] for every task in order: `[width, tasks * QUERIES]`.
    pub queries: Matrix,
    /// For each task, `[QUERIES * width, grades]`.
    pub classifiers: Vec<Linear>,
}

/// What the heads' backward pass needs.
pub(crate) struct HeadTrace {
    /// Softmax over each sequence's tokens, a column a query: `[tokens, tasks * QUERIES]`.
    shares: Matrix,
    /// For each task, `[sequences, QUERIES * width]`, after dropout.
    pooled: Vec<Matrix>,
    /// For each task, `[sequences, grades]`.
    pub(crate) logits: Vec<Matrix>,
    dropout: Dropout,
}

impl Heads {
    /// Heads of zeros: an empty gradient.
    pub fn zeros(width: usize, grades: &[usize]) -> Self {
        Self {
            queries: Matrix::zeros(width, grades.len() * QUERIES),
            classifiers: grades.iter().map(|&g| Linear::zeros(QUERIES * width, g)).collect(),
        }
    }

    /// Untrained heads: queries of zero pool the mean; the classifiers are drawn from `normal`.
    pub fn initial(width: usize, schema: &LabelSchema, mut normal: impl FnMut() -> f32) -> Self {
        let grades: Vec<usize> = schema.tasks().iter().map(|task| task.grades.len()).collect();
        let mut heads = Self::zeros(width, &grades);
        // Unequal from the start, or a task's queries would stay equal for ever.
        heads.queries.data.iter_mut().for_each(|v| *v = 0.02 * normal());
        for classifier in &mut heads.classifiers {
            classifier.weight.data.iter_mut().for_each(|v| *v = 0.02 * normal());
        }
        heads
    }

    /// All parameters with their names, in a fixed order.
    pub fn parameters(&self) -> Vec<(String, &Matrix)> {
        let mut all = vec![("heads.queries".to_string(), &self.queries)];
        for (i, linear) in self.classifiers.iter().enumerate() {
            all.push((format!("head{i}.weight"), &linear.weight));
            all.push((format!("head{i}.bias"), &linear.bias));
        }
        all
    }

    /// All parameters, to be written, in the order of [`Heads::parameters`].
    pub fn parameters_mut(&mut self) -> Vec<&mut Matrix> {
        let mut all = vec![&mut self.queries];
        for linear in &mut self.classifiers {
            all.extend([&mut linear.weight, &mut linear.bias]);
        }
        all
    }

    /// Logits of every task from the token states `[tokens, width]`.
    pub(crate) fn forward(&self, hidden: &Matrix, batch: &Batch, dropout: Dropout) -> HeadTrace {
        let (width, columns) = (hidden.cols, self.queries.cols);
        let mut shares = product(hidden, &self.queries);
        let mut pooled: Vec<Matrix> =
            self.classifiers.iter().map(|_| Matrix::zeros(batch.lengths.len(), QUERIES * width)).collect();
        for (sequence, span) in batch.spans().into_iter().enumerate() {
            let tokens = span.len();
            let share = &mut shares.data[span.start * columns..span.end * columns];
            each_column(share, columns, softmax);
            let share = MatRef::from_row_major_slice(share, tokens, columns);
            let states =
                MatRef::from_row_major_slice(&hidden.data[span.start * width..span.end * width], tokens, width);
            for (task, pooled) in pooled.iter_mut().enumerate() {
                let target = MatMut::from_row_major_slice_mut(pooled.row_mut(sequence), QUERIES, width);
                let share = share.subcols(task * QUERIES, QUERIES).transpose();
                matmul(target, Accum::Replace, share, states, 1.0, Par::Seq);
            }
        }
        let logits = self.classifiers.iter().zip(&mut pooled).enumerate().map(|(task, (linear, pooled))| {
            dropout.branch(task as u64).apply(pooled);
            linear.forward(pooled)
        });
        let logits = logits.collect();
        HeadTrace { shares, pooled, logits, dropout }
    }

    /// The gradient with respect to the token states, given that with respect to the logits of the tasks that are not `None`; the
    /// heads' own is added to `gradient`.
    pub(crate) fn backward(
        &self,
        trace: &HeadTrace,
        d_logits: &[Option<Matrix>],
        hidden: &Matrix,
        batch: &Batch,
        gradient: &mut Self,
    ) -> Matrix {
        let (width, columns) = (hidden.cols, self.queries.cols);
        let d_pooled: Vec<Option<Matrix>> = d_logits
            .iter()
            .enumerate()
            .map(|(task, d)| {
                let d = d.as_ref()?;
                let linear = &self.classifiers[task];
                let mut d = linear.backward(d, &trace.pooled[task], &mut gradient.classifiers[task]);
                trace.dropout.branch(task as u64).apply(&mut d);
                Some(d)
            })
            .collect();
        let mut d_hidden = Matrix::zeros(hidden.rows, width);
        let mut d_scores = Matrix::zeros(hidden.rows, columns);
        let spans = batch.spans();
        let mut parts = Vec::with_capacity(spans.len());
        let (mut rest, mut rest_scores) = (d_hidden.data.as_mut_slice(), d_scores.data.as_mut_slice());
        for span in &spans {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(span.len() * width);
            let (scores, tail_scores) = std::mem::take(&mut rest_scores).split_at_mut(span.len() * columns);
            (rest, rest_scores) = (tail, tail_scores);
            parts.push((part, scores));
        }
        parts.into_par_iter().zip(spans.par_iter()).enumerate().for_each(|(sequence, ((part, scores), span))| {
            let tokens = span.len();
            let states =
                MatRef::from_row_major_slice(&hidden.data[span.start * width..span.end * width], tokens, width);
            let shares = &trace.shares.data[span.start * columns..span.end * columns];
            for (task, d) in d_pooled.iter().enumerate() {
                let Some(d) = d else { continue };
                let d = MatRef::from_row_major_slice(d.row(sequence), QUERIES, width);
                let share = MatRef::from_row_major_slice(shares, tokens, columns).subcols(task * QUERIES, QUERIES);
                let target = MatMut::from_row_major_slice_mut(part, tokens, width);
                matmul(target, Accum::Add, share, d, 1.0, Par::Seq);
                let target = MatMut::from_row_major_slice_mut(scores, tokens, columns);
                let target = target.subcols_mut(task * QUERIES, QUERIES);
                matmul(target, Accum::Replace, states, d.transpose(), 1.0, Par::Seq);
            }
            let mut own = vec![0.0; tokens];
            let mut column = 0;
            each_column(scores, columns, |d| {
                own.iter_mut().zip(shares[column..].iter().step_by(columns)).for_each(|(own, s)| *own = *s);
                softmax_backward(d, &own);
                column += 1;
            });
        });
        product_dw(&mut gradient.queries, hidden, &d_scores);
        d_hidden.add(&product_dx(&d_scores, &self.queries));
        d_hidden
    }
}

/// Lets `f` rewrite each column of `[rows, columns]`.
fn each_column(data: &mut [f32], columns: usize, mut f: impl FnMut(&mut [f32])) {
    let mut column = vec![0.0; data.len() / columns];
    for index in 0..columns {
        column.iter_mut().zip(data[index..].iter().step_by(columns)).for_each(|(c, v)| *c = *v);
        f(&mut column);
        data[index..].iter_mut().step_by(columns).zip(&column).for_each(|(v, c)| *v = *c);
    }
}
