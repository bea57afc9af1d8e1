//! What the similarities of representations need of a table of pairs of vectors, in one pass and in memory that does not grow with
//! its rows.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};
use std::iter;

/// Sums over the rows of a table of pairs (x, y), all of them about the means, so that a mean far from zero costs no precision.
///
/// Written a = |x − x̄|² and b = |y − ȳ|², for x of width p and y of width q. Two of these merge into that of the rows of both
/// (Chan, Golub and LeVeque 1979, and the same for the third and fourth moments).
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    /// How many rows. A whole number, exact up to 2⁵³.
    pub(crate) rows: f64,
    mean_x: Vec<f64>,
    mean_y: Vec<f64>,
    /// Σ (x − x̄)(x − x̄)ᵀ, \[p, p\]: the lower triangle alone is filled.
    xx: Mat<f64>,
    /// Σ (x − x̄)(y − ȳ)ᵀ, \[p, q\].
    xy: Mat<f64>,
    /// Σ (y − ȳ)(y − ȳ)ᵀ, \[q, q\]: the lower triangle alone is filled.
    yy: Mat<f64>,
    /// Σ a (x − x̄).
    ax: Vec<f64>,
    /// Σ a (y − ȳ).
    ay: Vec<f64>,
    /// Σ b (x − x̄).
    bx: Vec<f64>,
    /// Σ b (y − ȳ).
    by: Vec<f64>,
    /// Σ a².
    aa: f64,
    /// Σ a b.
    ab: f64,
    /// Σ b².
    bb: f64,
}

impl Moments {
    pub(crate) fn new(width_x: usize, width_y: usize) -> Self {
        Self {
            rows: 0.0,
            mean_x: vec![0.0; width_x],
            mean_y: vec![0.0; width_y],
            xx: Mat::zeros(width_x, width_x),
            xy: Mat::zeros(width_x, width_y),
            yy: Mat::zeros(width_y, width_y),
            ax: vec![0.0; width_x],
            ay: vec![0.0; width_y],
            bx: vec![0.0; width_x],
            by: vec![0.0; width_y],
            aa: 0.0,
            ab: 0.0,
            bb: 0.0,
        }
    }

    /// The widths of x and y.
    pub(crate) fn widths(&self) -> (usize, usize) {
        (self.mean_x.len(), self.mean_y.len())
    }

    /// Σ (x − x̄)(x − x̄)ᵀ; only its lower triangle may be read.
    pub(crate) fn xx(&self) -> MatRef<'_, f64> {
        self.xx.as_ref()
    }

    /// Σ (x − x̄)(y − ȳ)ᵀ.
    pub(crate) fn xy(&self) -> MatRef<'_, f64> {
        self.xy.as_ref()
    }

    /// Σ (y − ȳ)(y − ȳ)ᵀ; only its lower triangle may be read.
    pub(crate) fn yy(&self) -> MatRef<'_, f64> {
        self.yy.as_ref()
    }

    /// Σ a², Σ a b and Σ b².
    pub(crate) fn fourth(&self) -> (f64, f64, f64) {
        (self.aa, self.ab, self.bb)
    }

    /// Σ a and Σ b: the squared Frobenius norms of the centred tables.
    pub(crate) fn traces(&self) -> (f64, f64) {
        let trace = |matrix: &Mat<f64>| (0..matrix.ncols()).map(|i| matrix[(i, i)]).sum();
        (trace(&self.xx), trace(&self.yy))
    }

    /// The squared Frobenius norms of the three matrices: `xx`, `xy`, `yy`.
    pub(crate) fn squares(&self) -> (f64, f64, f64) {
        (symmetric_dot(&self.xx, &self.xx), self.xy.as_ref().squared_norm_l2(), symmetric_dot(&self.yy, &self.yy))
    }

    /// Adds a block of rows, row by row in `x` and `y`, which are left centred.
    pub(crate) fn add(&mut self, x: &mut [f64], y: &mut [f64], rows: usize) {
        if rows == 0 {
            return;
        }
        let (p, q) = self.widths();
        if self.rows == 0.0 {
            // Sums start from the first row, and a column that does not vary has then no variance at all.
            self.mean_x.copy_from_slice(&x[..p]);
            self.mean_y.copy_from_slice(&y[..q]);
        }
        let total = self.rows + rows as f64;
        let shift_x = centre(x, &mut self.mean_x, total);
        let shift_y = centre(y, &mut self.mean_y, total);
        self.shift(&shift_x, &shift_y);
        self.rows = total;

        let (xs, ys) = (MatRef::from_row_major_slice(x, rows, p), MatRef::from_row_major_slice(y, rows, q));
        add_symmetric(&mut self.xx, xs);
        add_symmetric(&mut self.yy, ys);
        matmul(&mut self.xy, Accum::Add, xs.transpose(), ys, 1.0, Par::Seq);
        for row in 0..rows {
            let (x, y) = (&x[row * p..(row + 1) * p], &y[row * q..(row + 1) * q]);
            let (a, b) = (dot(x, x), dot(y, y));
            add_scaled(&mut self.ax, a, x);
            add_scaled(&mut self.ay, a, y);
            add_scaled(&mut self.bx, b, x);
            add_scaled(&mut self.by, b, y);
            self.aa += a * a;
            self.ab += a * b;
            self.bb += b * b;
        }
    }

    /// Adds the rows of another, which is of the same widths.
    pub(crate) fn merge(&mut self, mut other: Self) {
        if other.rows == 0.0 {
            return;
        }
        if self.rows == 0.0 {
            *self = other;
            return;
        }
        let total = self.rows + other.rows;
        let share = other.rows / total;
        let towards = |mean: &[f64], other: &[f64]| -> Vec<f64> {
            mean.iter().zip(other).map(|(mean, other)| mean + (other - mean) * share).collect()
        };
        let (mean_x, mean_y) = (towards(&self.mean_x, &other.mean_x), towards(&self.mean_y, &other.mean_y));
        for side in [&mut *self, &mut other] {
            let (shift_x, shift_y) = (difference(&side.mean_x, &mean_x), difference(&side.mean_y, &mean_y));
            side.shift(&shift_x, &shift_y);
        }
        (self.rows, self.mean_x, self.mean_y) = (total, mean_x, mean_y);
        self.xx += &other.xx;
        self.xy += &other.xy;
        self.yy += &other.yy;
        add_scaled(&mut self.ax, 1.0, &other.ax);
        add_scaled(&mut self.ay, 1.0, &other.ay);
        add_scaled(&mut self.bx, 1.0, &other.bx);
        add_scaled(&mut self.by, 1.0, &other.by);
        self.aa += other.aa;
        self.ab += other.ab;
        self.bb += other.bb;
    }

    /// Takes the sums about another centre: every x − x̄ becomes x − x̄ + δ, every y − ȳ becomes y − ȳ + ε.
    ///
    /// Each sum is multiplied out; Σ (x − x̄) and Σ (y − ȳ) are zero and fall away.
    fn shift(&mut self, delta: &[f64], epsilon: &[f64]) {
        if self.rows == 0.0 || delta.iter().chain(epsilon).all(|step| *step == 0.0) {
            return;
        }
        let n = self.rows;
        let (a, b) = self.traces();
        let (d, e) = (dot(delta, delta), dot(epsilon, epsilon));
        let xx_delta = symmetric_times(&self.xx, delta);
        let yy_epsilon = symmetric_times(&self.yy, epsilon);
        let (p, q) = self.widths();
        let xy_epsilon: Vec<f64> = {
            let mut product = vec![0.0; p];
            (0..q).for_each(|j| add_scaled(&mut product, epsilon[j], column(&self.xy, j)));
            product
        };
        let delta_xy: Vec<f64> = (0..q).map(|j| dot(column(&self.xy, j), delta)).collect();

        self.aa += 4.0 * dot(delta, &self.ax) + 2.0 * d * a + 4.0 * dot(delta, &xx_delta) + n * d * d;
        self.ab += 2.0 * dot(epsilon, &self.ay) + e * a + 2.0 * dot(delta, &self.bx) + d * b;
        self.ab += 4.0 * dot(delta, &xy_epsilon) + n * d * e;
        self.bb += 4.0 * dot(epsilon, &self.by) + 2.0 * e * b + 4.0 * dot(epsilon, &yy_epsilon) + n * e * e;

        for (sum, of_step, step, of_matrix, matrix) in [
            (&mut self.ax, a + n * d, delta, 2.0, &xx_delta),
            (&mut self.ay, a + n * d, epsilon, 2.0, &delta_xy),
            (&mut self.bx, b + n * e, delta, 2.0, &xy_epsilon),
            (&mut self.by, b + n * e, epsilon, 2.0, &yy_epsilon),
        ] {
            add_scaled(sum, of_step, step);
            add_scaled(sum, of_matrix, matrix);
        }

        for j in 0..p {
            add_scaled(&mut self.xx.col_as_slice_mut(j)[j..], n * delta[j], &delta[j..]);
        }
        for j in 0..q {
            add_scaled(self.xy.col_as_slice_mut(j), n * epsilon[j], delta);
            add_scaled(&mut self.yy.col_as_slice_mut(j)[j..], n * epsilon[j], &epsilon[j..]);
        }
    }

    /// Everything as numbers, for [`Moments::read`].
    pub(crate) fn write(&self) -> Vec<f64> {
        let (p, q) = self.widths();
        let mut numbers = vec![p as f64, q as f64, self.rows, self.aa, self.ab, self.bb];
        for vector in [&self.mean_x, &self.ax, &self.bx, &self.mean_y, &self.ay, &self.by] {
            numbers.extend(vector);
        }
        (0..p).for_each(|j| numbers.extend(&column(&self.xx, j)[j..]));
        (0..q).for_each(|j| numbers.extend(&column(&self.yy, j)[j..]));
        (0..q).for_each(|j| numbers.extend(column(&self.xy, j)));
        numbers
    }

    /// What [`Moments::write`] wrote, `None` where it is something else.
    pub(crate) fn read(numbers: &[f64]) -> Option<Self> {
        let (&[p, q, rows, aa, ab, bb], mut rest) = numbers.split_first_chunk::<6>()?;
        let (p, q) = (whole(p)?, whole(q)?);
        let triangle = |width: usize| width.checked_mul(width.checked_add(1)?).map(|twice| twice / 2);
        let expected = [p.checked_mul(3)?, q.checked_mul(3)?, triangle(p)?, triangle(q)?, p.checked_mul(q)?];
        let expected = expected.into_iter().try_fold(0_usize, |sum, count| sum.checked_add(count))?;
        if rest.len() != expected {
            return None;
        }
        let mut moments = Self { rows, aa, ab, bb, ..Self::new(p, q) };
        let mut fill = |into: &mut [f64]| {
            let (from, remainder) = rest.split_at(into.len());
            into.copy_from_slice(from);
            rest = remainder;
        };
        fill(&mut moments.mean_x);
        fill(&mut moments.ax);
        fill(&mut moments.bx);
        fill(&mut moments.mean_y);
        fill(&mut moments.ay);
        fill(&mut moments.by);
        (0..p).for_each(|j| fill(&mut moments.xx.col_as_slice_mut(j)[j..]));
        (0..q).for_each(|j| fill(&mut moments.yy.col_as_slice_mut(j)[j..]));
        (0..q).for_each(|j| fill(moments.xy.col_as_slice_mut(j)));
        Some(moments)
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        let (p, q) = self.widths();
        (p * p + p * q + q * q + 3 * p + 3 * q) * size_of::<f64>()
    }
}

fn whole(number: f64) -> Option<usize> {
    (number >= 0.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0).then_some(number as usize)
}

/// Moves a mean to that of `total` rows, of which `rows` holds the new ones, centres those on it, and answers the old mean less
/// the new one.
fn centre(rows: &mut [f64], mean: &mut [f64], total: f64) -> Vec<f64> {
    let mut sums = vec![0.0; mean.len()];
    if mean.is_empty() {
        return sums;
    }
    for row in rows.chunks_exact(mean.len()) {
        for ((sum, value), mean) in sums.iter_mut().zip(row).zip(mean.iter()) {
            *sum += value - mean;
        }
    }
    for (sum, mean) in iter::zip(&mut sums, mean.iter_mut()) {
        let moved = *mean + *sum / total;
        *sum = *mean - moved;
        *mean = moved;
    }
    for row in rows.chunks_exact_mut(mean.len()) {
        iter::zip(row, mean.iter()).for_each(|(value, mean)| *value -= mean);
    }
    sums
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    iter::zip(a, b).map(|(a, b)| a - b).collect()
}

/// The sum of products of two vectors of one length.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums at a time: one would wait for itself, and the compiler may not part it.
    let mut sums = [0.0; 8];
    let (eights_a, eights_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = iter::zip(eights_a.remainder(), eights_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in iter::zip(eights_a, eights_b) {
        iter::zip(&mut sums, iter::zip(a, b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum::<f64>() + rest
}

fn add_scaled(sum: &mut [f64], factor: f64, values: &[f64]) {
    iter::zip(sum, values).for_each(|(sum, value)| *sum += factor * value);
}

fn column(matrix: &Mat<f64>, j: usize) -> &[f64] {
    matrix.col_as_slice(j)
}

/// Adds rowsᵀ · rows to a lower triangle.
fn add_symmetric(sum: &mut Mat<f64>, rows: MatRef<'_, f64>) {
    let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    triangular::matmul(sum, lower, Accum::Add, rows.transpose(), full, rows, full, 1.0, Par::Seq);
}

/// A symmetric matrix, of which the lower triangle is given, times a vector.
fn symmetric_times(matrix: &Mat<f64>, vector: &[f64]) -> Vec<f64> {
    let mut product = vec![0.0; vector.len()];
    for (j, value) in vector.iter().enumerate() {
        let below = &column(matrix, j)[j..];
        add_scaled(&mut product[j..], *value, below);
        product[j] += dot(&below[1..], &vector[j + 1..]);
    }
    product
}

/// The sum of the products of two symmetric matrices, of which the lower triangles are given.
pub(crate) fn symmetric_dot(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    let product = |j: usize| {
        let (a, b) = (&column(a, j)[j..], &column(b, j)[j..]);
        2.0 * dot(a, b) - a[0] * b[0]
    };
    (0..a.ncols()).map(product).sum()
}
