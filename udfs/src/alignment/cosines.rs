//! How the directions of two vectors agree, row by row.

use super::moments::dot;

/// Sums over the cosines of a table of pairs of vectors. A pair of which one is zero has no cosine and is passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cosines {
    rows: f64,
    sum: f64,
    negative: f64,
}

impl Cosines {
    /// Adds a pair of vectors of one width.
    pub(crate) fn add(&mut self, g: &[f64], h: &[f64]) {
        self.add_product(dot(g, h), dot(g, g).sqrt(), dot(h, h).sqrt());
    }

    /// Adds a pair of vectors of which the product and the lengths are known.
    pub(crate) fn add_product(&mut self, product: f64, length_g: f64, length_h: f64) {
        if length_g == 0.0 || length_h == 0.0 {
            return;
        }
        let cosine = product / length_g / length_h;
        self.rows += 1.0;
        self.sum += cosine;
        self.negative += f64::from(u8::from(cosine < 0.0));
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum += other.sum;
        self.negative += other.negative;
    }

    pub(crate) fn write(self) -> Vec<f64> {
        vec![self.rows, self.sum, self.negative]
    }

    pub(crate) fn read(numbers: &[f64]) -> Option<Self> {
        let &[rows, sum, negative] = numbers else { return None };
        Some(Self { rows, sum, negative })
    }

    /// The mean cosine, −1 to 1.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.rows > 0.0).then(|| self.sum / self.rows)
    }

    /// The share of negative cosines, 0 to 1.
    pub(crate) fn conflicts(&self) -> Option<f64> {
        (self.rows > 0.0).then(|| self.negative / self.rows)
    }
}
