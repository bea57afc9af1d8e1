//! CKA with Gaussian kernels, on a bounded sample of rows.

use super::interval::hash;
use super::moments::dot;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use std::collections::BTreeMap;

/// Distinct rows that are kept: two kernel matrices of so many rows are 64 MiB.
pub(crate) const KEPT: usize = 2048;

/// The distinct rows of least hash, with how often each came (bottom-k sampling, Cohen and Kaplan 2007). The same whatever the order
/// and the partition of rows; of no more than [`KEPT`] distinct rows it is all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    rows: BTreeMap<u64, Row>,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    times: f64,
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Sample {
    /// The widths of x and y, once there is a row.
    pub(crate) fn widths(&self) -> Option<(usize, usize)> {
        self.rows.values().next().map(|row| (row.x.len(), row.y.len()))
    }

    pub(crate) fn add(&mut self, x: &[f64], y: &[f64]) {
        self.put(hash(x, y), 1.0, x, y);
    }

    pub(crate) fn merge(&mut self, other: &Sample) {
        for (hash, row) in &other.rows {
            self.put(*hash, row.times, &row.x, &row.y);
        }
    }

    fn put(&mut self, hash: u64, times: f64, x: &[f64], y: &[f64]) {
        if let Some(known) = self.rows.get_mut(&hash) {
            known.times += times;
            return;
        }
        let full = self.rows.len() >= KEPT;
        if full && self.rows.last_key_value().is_some_and(|(last, _)| *last < hash) {
            return;
        }
        self.rows.insert(hash, Row { times, x: x.to_vec(), y: y.to_vec() });
        if full {
            self.rows.pop_last();
        }
    }

    /// Everything as numbers, for [`Sample::read`].
    pub(crate) fn write(&self) -> Vec<f64> {
        let (p, q) = self.widths().unwrap_or((0, 0));
        let mut numbers = vec![p as f64, q as f64];
        for (hash, row) in &self.rows {
            numbers.extend([(hash >> 32) as f64, (hash & 0xFFFF_FFFF) as f64, row.times]);
            numbers.extend(row.x.iter().chain(&row.y));
        }
        numbers
    }

    /// What [`Sample::write`] wrote, `None` where it is something else.
    pub(crate) fn read(numbers: &[f64]) -> Option<Sample> {
        let (&[p, q], rows) = numbers.split_first_chunk::<2>()?;
        let whole = |number: f64| {
            (number >= 0.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0).then_some(number as usize)
        };
        let (p, q) = (whole(p)?, whole(q)?);
        let length = p.checked_add(q)?.checked_add(3)?;
        if rows.len() % length != 0 {
            return None;
        }
        let mut sample = Sample::default();
        for row in rows.chunks_exact(length) {
            let (&[high, low, times], values) = row.split_first_chunk::<3>()?;
            let (x, y) = values.split_at_checked(p)?;
            let hash = ((whole(high)? as u64) << 32) | whole(low)? as u64;
            sample.rows.insert(hash, Row { times, x: x.to_vec(), y: y.to_vec() });
        }
        Some(sample)
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        let (p, q) = self.widths().unwrap_or((0, 0));
        self.rows.len() * (size_of::<u64>() + size_of::<Row>() + (p + q) * size_of::<f64>())
    }

    /// HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) of Gaussian kernels exp(−d²/2σ²), σ the median distance between distinct rows times
    /// `fraction` (Kornblith et al. 2019, section 4; the biased estimator, as there). `None` for fewer than two distinct rows, or
    /// where a side does not vary.
    pub(crate) fn rbf_cka(&self, fraction: f64) -> Option<f64> {
        let weights: Vec<f64> = self.rows.values().map(|row| row.times).collect();
        let k = kernel(self.rows.values().map(|row| row.x.as_slice()), fraction)?;
        let l = kernel(self.rows.values().map(|row| row.y.as_slice()), fraction)?;
        let (k, l) = (centred(k, &weights), centred(l, &weights));
        let hsic = |k: &Mat<f64>, l: &Mat<f64>| -> f64 {
            let column = |j: usize| {
                let of_i = |i: usize| weights[i] * k[(i, j)] * l[(i, j)];
                weights[j] * (0..weights.len()).map(of_i).sum::<f64>()
            };
            (0..weights.len()).map(column).sum()
        };
        let (of_k, of_l) = (hsic(&k, &k), hsic(&l, &l));
        (of_k > 0.0 && of_l > 0.0).then(|| hsic(&k, &l) / (of_k.sqrt() * of_l.sqrt()))
    }
}

/// A Gaussian kernel over rows; `None` where they are all the same.
fn kernel<'a>(rows: impl Iterator<Item = &'a [f64]>, fraction: f64) -> Option<Mat<f64>> {
    let mut rows: Vec<Vec<f64>> = rows.map(<[f64]>::to_vec).collect();
    let n = rows.len();
    let width = rows.first()?.len();
    // About the mean, so that a mean far from zero costs no precision.
    for column in 0..width {
        let mean = rows.iter().map(|row| row[column]).sum::<f64>() / n as f64;
        rows.iter_mut().for_each(|row| row[column] -= mean);
    }
    let table = Mat::from_fn(n, width, |i, j| rows[i][j]);
    let mut squares = Mat::zeros(n, n);
    matmul(&mut squares, Accum::Replace, &table, table.transpose(), -2.0, Par::Seq);
    let lengths: Vec<f64> = rows.iter().map(|row| dot(row, row)).collect();
    let mut distances = Vec::with_capacity(n * n.saturating_sub(1) / 2);
    for j in 0..n {
        for i in 0..n {
            let square: f64 = if i == j { 0.0 } else { (squares[(i, j)] + lengths[i] + lengths[j]).max(0.0) };
            squares[(i, j)] = square;
            if i < j {
                distances.push(square);
            }
        }
    }
    let middle = distances.len().checked_sub(1)? / 2;
    let (_, median, _) = distances.select_nth_unstable_by(middle, f64::total_cmp);
    // Where more than half of the pairs are alike on this side, the largest distance says what is far.
    let scale = if *median > 0.0 { *median } else { distances.iter().copied().fold(0.0, f64::max) };
    if scale.is_nan() || scale <= 0.0 {
        return None;
    }
    let by = -1.0 / (2.0 * fraction * fraction * scale);
    Some(Mat::from_fn(n, n, |i, j| (by * squares[(i, j)]).exp()))
}

/// H K H for rows that came so many times.
fn centred(mut kernel: Mat<f64>, weights: &[f64]) -> Mat<f64> {
    let total: f64 = weights.iter().sum();
    let n = weights.len();
    let means: Vec<f64> = (0..n).map(|j| (0..n).map(|i| weights[i] * kernel[(i, j)]).sum::<f64>() / total).collect();
    let mean = means.iter().zip(weights).map(|(mean, weight)| mean * weight).sum::<f64>() / total;
    for j in 0..n {
        for i in 0..n {
            kernel[(i, j)] += mean - means[i] - means[j];
        }
    }
    kernel
}
