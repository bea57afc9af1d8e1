//! A confidence interval of debiased linear CKA: the delete-one-block jackknife.

use super::moments::Moments;
use super::similarity::linear_cka_debiased;

/// Blocks that rows are parted into.
pub(crate) const BLOCKS: usize = 20;

/// The 0.975 quantile of the normal distribution.
const NORMAL: f64 = 1.959_963_984_540_054;

/// An estimate and the ends of its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) estimate: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
}

/// The block of a row, by its values alone, so that it is the same whatever the order and the partition of rows.
pub(crate) fn block(x: &[f64], y: &[f64]) -> usize {
    (hash(x, y) % BLOCKS as u64) as usize
}

/// A number that stands for a pair of vectors.
pub(crate) fn hash(x: &[f64], y: &[f64]) -> u64 {
    let mut hash = x.len() as u64;
    for value in x.iter().chain(y) {
        // SplitMix64's finalizer over what went before.
        hash = hash.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ value.to_bits();
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^= hash >> 31;
    }
    hash
}

/// The interval out of the moments of each block (Tukey 1958; Efron and Stein 1981): with θ of all rows, and θⱼ of those without
/// block j of m, the variance is (m − 1)/m Σ (θⱼ − θ̄)², and the interval θ ± t √variance with m − 1 degrees of freedom. `None` for
/// fewer than three blocks with rows, or where a θ is not determined.
pub(crate) fn interval(blocks: &[&Moments]) -> Option<Interval> {
    let blocks: Vec<&Moments> = blocks.iter().copied().filter(|block| block.rows > 0.0).collect();
    let merged = |without: Option<usize>| {
        let mut kept =
            blocks.iter().enumerate().filter(|(at, _)| Some(*at) != without).map(|(_, block)| (*block).clone());
        let first = kept.next()?;
        linear_cka_debiased(&kept.fold(first, |mut sum, block| {
            sum.merge(block);
            sum
        }))
    };
    let estimate = merged(None)?;
    let m = blocks.len();
    if m < 3 {
        return None;
    }
    let without: Vec<f64> = (0..m).map(|block| merged(Some(block))).collect::<Option<_>>()?;
    let count = m as f64;
    let mean = without.iter().sum::<f64>() / count;
    let variance = (count - 1.0) / count * without.iter().map(|theta| (theta - mean).powi(2)).sum::<f64>();
    let reach = student(count - 1.0) * variance.sqrt();
    Some(Interval { estimate, lower: estimate - reach, upper: estimate + reach })
}

/// The 0.975 quantile of Student's distribution (Abramowitz and Stegun 26.7.5; within 0.02 from 3 degrees of freedom on).
fn student(freedom: f64) -> f64 {
    let z = NORMAL;
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z) / 92160.0,
    ];
    terms.iter().enumerate().fold(z, |sum, (at, term)| sum + term / freedom.powi(at as i32 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_student() {
        for (freedom, expected) in [(3.0, 3.182_446), (5.0, 2.570_582), (10.0, 2.228_139), (19.0, 2.093_024)] {
            assert!((student(freedom) - expected).abs() < 0.02 / (freedom - 2.0), "{freedom}: {}", student(freedom));
        }
    }

    #[test]
    fn blocks_share_rows_evenly_and_by_value() {
        let mut counts = [0usize; BLOCKS];
        for row in 0..20_000 {
            let (x, y) = ([f64::from(row), 1.0], [0.5]);
            assert_eq!(block(&x, &y), block(&x, &y));
            counts[block(&x, &y)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_ne!(hash(&[1.0], &[2.0, 3.0]), hash(&[1.0, 2.0], &[3.0]));
    }
}
