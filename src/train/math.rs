//! Dense arithmetic of the encoder: matrices in row-major order, products by `faer`, element-wise kernels over the rows.
//!
//! Every kernel has its gradient beside it. The kernels are branch-free loops over slices, which `pulp` compiles for the widest vectors
//! that a processor may have, and run on rayon's threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use pulp::Arch;
use rayon::prelude::*;

/// Runs a loop compiled for the processor at hand.
#[inline(always)]
pub(crate) fn vectorised<R>(kernel: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(kernel)
}

/// The sum of `value` over the elements of slices of one length, sixteen sums at a time: one would wait for itself, and the compiler may not
/// part it.
#[inline(always)]
fn sum_of<const N: usize>(slices: [&[f32]; N], value: impl Fn([f32; N]) -> f32) -> f32 {
    const LANES: usize = 16;
    let length = slices[0].len();
    let slices = slices.map(|slice| &slice[..length]);
    let mut sums = [0.0; LANES];
    let whole = length / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let parts = slices.map(|slice| &slice[start..start + LANES]);
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += value(parts.map(|part| part[lane]));
        }
    }
    let rest: f32 = (whole..length).map(|at| value(slices.map(|slice| slice[at]))).sum();
    sums.iter().sum::<f32>() + rest
}

/// Rows that one rayon task takes: enough work to pay for the hand-over.
const ROWS: usize = 32;
/// As BERT's `layer_norm_eps`.
pub(crate) const EPSILON: f32 = 1e-12;

/// A dense float32 matrix, row by row. A vector is a matrix of one row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows * cols` values, row by row.
    pub data: Vec<f32>,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, data: vec![0.0; rows * cols] }
    }

    /// A matrix of the given values; `data.len()` must be `rows * cols`.
    pub fn new(rows: usize, cols: usize, data: Vec<f32>) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows} x {cols} matrix");
        Self { rows, cols, data }
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.cols..(index + 1) * self.cols]
    }

    /// Row `index`, to be written.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.data[index * self.cols..(index + 1) * self.cols]
    }

    /// The matrix with rows and columns exchanged.
    pub fn transposed(&self) -> Self {
        let mut out = Self::zeros(self.cols, self.rows);
        for i in 0..self.rows {
            for j in 0..self.cols {
                out.data[j * self.rows + i] = self.data[i * self.cols + j];
            }
        }
        out
    }

    /// All of it, as `faer` sees it.
    pub(crate) fn view(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.data, self.rows, self.cols)
    }

    /// All of it, to be written.
    pub(crate) fn view_mut(&mut self) -> MatMut<'_, f32> {
        MatMut::from_row_major_slice_mut(&mut self.data, self.rows, self.cols)
    }

    /// Adds `other`, element by element.
    pub fn add(&mut self, other: &Self) {
        debug_assert_eq!((self.rows, self.cols), (other.rows, other.cols));
        self.data.par_chunks_mut(1 << 14).zip(other.data.par_chunks(1 << 14)).for_each(|(a, b)| {
            for (a, b) in a.iter_mut().zip(b) {
                *a += b;
            }
        });
    }
}

/// `x · w`, the product of a batch of rows with a weight matrix stored `[in, out]`.
pub(crate) fn product(x: &Matrix, w: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(x.rows, w.cols);
    matmul(out.view_mut(), Accum::Replace, x.view(), w.view(), 1.0, Par::rayon(0));
    out
}

/// `dy · wᵀ`: the gradient of [`product`] with respect to `x`.
pub(crate) fn product_dx(dy: &Matrix, w: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(dy.rows, w.rows);
    matmul(out.view_mut(), Accum::Replace, dy.view(), w.view().transpose(), 1.0, Par::rayon(0));
    out
}

/// Adds `xᵀ · dy`, the gradient of [`product`] with respect to `w`, to `dw`.
pub(crate) fn product_dw(dw: &mut Matrix, x: &Matrix, dy: &Matrix) {
    matmul(dw.view_mut(), Accum::Add, x.view().transpose(), dy.view(), 1.0, Par::rayon(0));
}

/// Adds one row to every row of `x`.
pub(crate) fn add_row(x: &mut Matrix, row: &Matrix) {
    let cols = x.cols;
    x.data.par_chunks_mut(ROWS * cols).for_each(|rows| {
        for line in rows.chunks_exact_mut(cols) {
            for (a, b) in line.iter_mut().zip(&row.data) {
                *a += b;
            }
        }
    });
}

/// Adds the column sums of `dy`, the gradient of [`add_row`] with respect to the row, to `d`.
pub(crate) fn sum_rows(d: &mut Matrix, dy: &Matrix) {
    vectorised(|| {
        for line in dy.data.chunks_exact(dy.cols) {
            for (a, b) in d.data.iter_mut().zip(line) {
                *a += b;
            }
        }
    });
}

/// What the gradient of a layer normalisation needs: the normalised rows, and 1/σ of each row.
#[derive(Debug)]
pub(crate) struct Normalised {
    hat: Matrix,
    inverse: Vec<f32>,
}

/// Layer normalisation of each row, `gain * (x - μ) / sqrt(σ² + ε) + bias` (Ba et al., 2016).
pub(crate) fn layer_norm(x: Matrix, gain: &Matrix, bias: &Matrix) -> (Matrix, Normalised) {
    let (mut hat, cols) = (x, gain.cols);
    let mut out = Matrix::zeros(hat.rows, cols);
    let mut inverse = vec![0.0; hat.rows];
    let groups = hat.data.par_chunks_mut(ROWS * cols).zip(out.data.par_chunks_mut(ROWS * cols));
    groups.zip(inverse.par_chunks_mut(ROWS)).for_each(|((hats, outs), inverses)| {
        let lines = hats.chunks_exact_mut(cols).zip(outs.chunks_exact_mut(cols)).zip(inverses);
        vectorised(|| {
            for ((hat, out), inverse) in lines {
                let mean = sum_of([&*hat], |[v]| v) / cols as f32;
                let variance = sum_of([&*hat], |[v]| (v - mean) * (v - mean)) / cols as f32;
                *inverse = 1.0 / (variance + EPSILON).sqrt();
                for (((h, o), g), b) in hat.iter_mut().zip(out).zip(&gain.data).zip(&bias.data) {
                    *h = (*h - mean) * *inverse;
                    *o = g * *h + b;
                }
            }
        });
    });
    (out, Normalised { hat, inverse })
}

/// The gradient of [`layer_norm`] with respect to its input; those of gain and bias are added to `d_gain` and `d_bias`.
pub(crate) fn layer_norm_backward(
    dy: &Matrix,
    kept: &Normalised,
    gain: &Matrix,
    d_gain: &mut Matrix,
    d_bias: &mut Matrix,
) -> Matrix {
    let cols = dy.cols;
    vectorised(|| {
        for (dy, hat) in dy.data.chunks_exact(cols).zip(kept.hat.data.chunks_exact(cols)) {
            for (((dg, db), dy), hat) in d_gain.data.iter_mut().zip(d_bias.data.iter_mut()).zip(dy).zip(hat) {
                *dg += dy * hat;
                *db += dy;
            }
        }
    });
    let mut dx = Matrix::zeros(dy.rows, cols);
    let groups = dx.data.par_chunks_mut(ROWS * cols).zip(dy.data.par_chunks(ROWS * cols));
    groups.zip(kept.hat.data.par_chunks(ROWS * cols)).zip(kept.inverse.par_chunks(ROWS)).for_each(
        |(((dxs, dys), hats), inverses)| {
            let lines = dxs.chunks_exact_mut(cols).zip(dys.chunks_exact(cols)).zip(hats.chunks_exact(cols));
            vectorised(|| {
                for (((dx, dy), hat), inverse) in lines.zip(inverses) {
                    let mean = sum_of([dy, &gain.data], |[dy, g]| dy * g) / cols as f32;
                    let along = sum_of([dy, &gain.data, hat], |[dy, g, hat]| dy * g * hat) / cols as f32;
                    for (((dx, dy), g), hat) in dx.iter_mut().zip(dy).zip(&gain.data).zip(hat) {
                        *dx = inverse * (dy * g - mean - hat * along);
                    }
                }
            });
        },
    );
    dx
}

/// `e^x` to float32 precision, without a branch: 2^n · 2^f, with 2^f by its series.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    let z = x * std::f32::consts::LOG2_E;
    // Adding 1.5 · 2^23 rounds to the nearest integer, without a call that cannot be vectorised.
    let n = (z + 12_582_912.0) - 12_582_912.0;
    // ln 2 in two parts, the first exact in n · HIGH, so that no digit is lost in the difference.
    const HIGH: f32 = 0.693_359_4;
    let f = (x - n * HIGH) - n * (std::f32::consts::LN_2 - HIGH);
    let series = 1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f / 720.0)))));
    series * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// The standard normal distribution function Φ(x) and its density: erf by Abramowitz and Stegun 7.1.26 (|error| < 1.5e-7).
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let gaussian = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let series = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let upper = 0.5 * series * gaussian;
    let phi = if x < 0.0 { upper } else { 1.0 - upper };
    (phi, gaussian * 0.398_942_3)
}

/// GELU, `x Φ(x)` (Hendrycks and Gimpel, 2016), of each element.
pub(crate) fn gelu(x: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(x.rows, x.cols);
    out.data.par_chunks_mut(1 << 13).zip(x.data.par_chunks(1 << 13)).for_each(|(out, x)| {
        vectorised(|| {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = x * normal(x).0;
            }
        });
    });
    out
}

/// Multiplies `dy` by the derivative of [`gelu`] at `x`.
pub(crate) fn gelu_backward(dy: &mut Matrix, x: &Matrix) {
    dy.data.par_chunks_mut(1 << 13).zip(x.data.par_chunks(1 << 13)).for_each(|(dy, x)| {
        vectorised(|| {
            for (d, &x) in dy.iter_mut().zip(x) {
                let (phi, density) = normal(x);
                *d *= phi + x * density;
            }
        });
    });
}

/// Softmax of one row in place.
pub(crate) fn softmax(row: &mut [f32]) {
    vectorised(|| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|v| *v = exp(*v - max));
        let inverse = 1.0 / sum_of([&*row], |[v]| v);
        row.iter_mut().for_each(|v| *v *= inverse);
    });
}

/// Turns the gradient of one softmax's answer `p` into that of its input, in place.
pub(crate) fn softmax_backward(d: &mut [f32], p: &[f32]) {
    vectorised(|| {
        let along = sum_of([&*d, p], |[d, p]| d * p);
        for (d, p) in d.iter_mut().zip(p) {
            *d = p * (*d - along);
        }
    });
}

/// A dropout mask that is computed, not stored: the same seed gives the same mask forward and backward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    /// Share of elements that are dropped, 0 to switch it off.
    pub(crate) rate: f32,
    /// Chooses the mask.
    pub(crate) seed: u64,
}

impl Dropout {
    /// Another mask of the same rate.
    pub(crate) fn branch(self, salt: u64) -> Self {
        Self { seed: mix(self.seed ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15)), ..self }
    }

    /// Drops elements and scales the rest by `1 / (1 - rate)`; its own gradient.
    pub(crate) fn apply(self, x: &mut Matrix) {
        if self.rate == 0.0 {
            return;
        }
        let (limit, scale) = ((self.rate * 65_536.0) as u64, 1.0 / (1.0 - self.rate));
        x.data.par_chunks_mut(1 << 13).enumerate().for_each(|(chunk, values)| {
            vectorised(|| {
                for (quad, values) in values.chunks_mut(4).enumerate() {
                    // Four 16-bit draws of one 64-bit hash.
                    let bits = mix(self.seed.wrapping_add(((chunk << 11) + quad) as u64));
                    for (lane, v) in values.iter_mut().enumerate() {
                        *v *= if (bits >> (16 * lane)) & 0xFFFF < limit { 0.0 } else { scale };
                    }
                }
            });
        });
    }
}

/// SplitMix64's finaliser (Steele et al., 2014).
#[inline(always)]
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_the_normal_distribution_agree_with_float64() {
        for i in -800..=800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 5e-7 * exact, "exp({x})");
        }
        // Φ at tabulated points (Abramowitz and Stegun, table 26.1).
        for (x, phi) in
            [(0.0, 0.5), (1.0, 0.841_344_746), (-1.0, 0.158_655_254), (2.0, 0.977_249_868), (-3.0, 0.001_349_898)]
        {
            assert!((f64::from(normal(x).0) - phi).abs() < 3e-7, "Φ({x})");
        }
    }

    #[test]
    fn a_layer_norm_has_mean_zero_variance_one_and_the_gradient_of_its_differences() {
        let x = Matrix::new(2, 4, vec![1.0, 2.0, 4.0, -3.0, 0.5, 0.25, -0.5, 2.0]);
        let (gain, bias) = (Matrix::new(1, 4, vec![1.0, 0.5, 2.0, -1.0]), Matrix::new(1, 4, vec![0.1, 0.2, 0.3, 0.4]));
        let weights = [0.3, -0.7, 0.2, 0.9, 1.1, -0.4, 0.6, 0.8];
        let loss = |x: &Matrix| -> f32 {
            layer_norm(x.clone(), &gain, &bias).0.data.iter().zip(&weights).map(|(a, b)| a * b).sum()
        };
        let (_, kept) = layer_norm(x.clone(), &gain, &bias);
        let (mut dg, mut db) = (Matrix::zeros(1, 4), Matrix::zeros(1, 4));
        let dx = layer_norm_backward(&Matrix::new(2, 4, weights.to_vec()), &kept, &gain, &mut dg, &mut db);
        for i in 0..8 {
            let (mut up, mut down) = (x.clone(), x.clone());
            up.data[i] += 1e-2;
            down.data[i] -= 1e-2;
            let slope = (loss(&up) - loss(&down)) / 2e-2;
            assert!((slope - dx.data[i]).abs() < 2e-3, "{i}: {slope} {}", dx.data[i]);
        }
        assert!((db.data[0] - (0.3 + 1.1)).abs() < 1e-6);
    }

    #[test]
    fn dropout_keeps_its_rate_and_repeats_itself() {
        let ones = || Matrix::new(100, 100, vec![1.0; 10_000]);
        let (mut a, mut b) = (ones(), ones());
        let dropout = Dropout { rate: 0.1, seed: 7 };
        dropout.apply(&mut a);
        dropout.apply(&mut b);
        assert_eq!(a, b);
        let dropped = a.data.iter().filter(|v| **v == 0.0).count();
        assert!((900..1100).contains(&dropped), "{dropped}");
        assert_ne!(a, {
            let mut c = ones();
            dropout.branch(1).apply(&mut c);
            c
        });
    }
}
