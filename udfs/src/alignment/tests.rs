//! The formulas against their definitions.

use super::canonical::{procrustes, pwcca, svcca};
use super::interval;
use super::moments::Moments;
use super::similarity::{linear_cka, linear_cka_debiased};

/// Numbers from a normal distribution, the same for a seed everywhere.
struct Normal(u64);

impl Normal {
    fn uniform(&mut self) -> f64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn table(&mut self, rows: usize, width: usize) -> Vec<f64> {
        (0..rows * width).map(|_| self.next()).collect()
    }
}

/// Rows of x and y, y partly made of x.
fn related(seed: u64, rows: usize, p: usize, q: usize) -> (Vec<f64>, Vec<f64>) {
    let mut normal = Normal(seed);
    let x = normal.table(rows, p);
    let mut y = normal.table(rows, q);
    for row in 0..rows {
        for j in 0..q {
            y[row * q + j] += 1.5 * x[row * p + j % p];
        }
    }
    (x, y)
}

/// The rows in blocks that end where `cuts` says, each block a table of its own, then merged.
fn parted(x: &[f64], y: &[f64], (p, q): (usize, usize), cuts: &[usize]) -> Moments {
    let rows = x.len() / p;
    let mut whole = Moments::new(p, q);
    let mut start = 0;
    for end in cuts.iter().copied().chain([rows]) {
        let mut part = Moments::new(p, q);
        // In two blocks, so that both ways to grow are taken.
        let middle = (start + end) / 2;
        for (from, to) in [(start, middle), (middle, end)] {
            let (mut x, mut y) = (x[from * p..to * p].to_vec(), y[from * q..to * q].to_vec());
            part.add(&mut x, &mut y, to - from);
        }
        whole.merge(Moments::read(&part.write()).unwrap());
        start = end;
    }
    whole
}

fn all(x: &[f64], y: &[f64], p: usize, q: usize) -> Moments {
    parted(x, y, (p, q), &[])
}

/// Song et al. 2012, equation 5, with both kernel matrices written out.
fn hsic(k: &[Vec<f64>], l: &[Vec<f64>]) -> f64 {
    let n = k.len();
    let off = |i: usize, j: usize, m: &[Vec<f64>]| if i == j { 0.0 } else { m[i][j] };
    let (mut trace, mut of_k, mut of_l, mut product) = (0.0, 0.0, 0.0, 0.0);
    for i in 0..n {
        let (mut row_k, mut row_l) = (0.0, 0.0);
        for j in 0..n {
            trace += off(i, j, k) * off(j, i, l);
            row_k += off(i, j, k);
            row_l += off(i, j, l);
        }
        of_k += row_k;
        of_l += row_l;
        product += row_k * row_l;
    }
    let n = n as f64;
    (trace + of_k * of_l / ((n - 1.0) * (n - 2.0)) - 2.0 * product / (n - 2.0)) / (n * (n - 3.0))
}

fn kernel(x: &[f64], width: usize) -> Vec<Vec<f64>> {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    x.chunks(width).map(|a| x.chunks(width).map(|b| product(a, b)).collect()).collect()
}

fn close(a: f64, b: f64, within: f64) {
    assert!((a - b).abs() <= within, "{a} and {b}");
}

#[test]
fn the_debiased_estimator_is_its_definition() {
    for (seed, rows, p, q) in [(1, 4, 2, 3), (2, 7, 5, 1), (3, 60, 6, 4), (4, 30, 40, 12)] {
        let (x, y) = related(seed, rows, p, q);
        let (k, l) = (kernel(&x, p), kernel(&y, q));
        let expected = hsic(&k, &l) / (hsic(&k, &k) * hsic(&l, &l)).sqrt();
        close(linear_cka_debiased(&all(&x, &y, p, q)).unwrap(), expected, 1e-9);
        close(linear_cka_debiased(&parted(&x, &y, (p, q), &[1, rows / 2])).unwrap(), expected, 1e-9);
    }
}

#[test]
fn any_split_gives_one_answer() {
    let (p, q, rows) = (5, 3, 700);
    let (x, y) = related(9, rows, p, q);
    let (one, debiased) = (linear_cka(&all(&x, &y, p, q)).unwrap(), linear_cka_debiased(&all(&x, &y, p, q)).unwrap());
    let mut normal = Normal(5);
    for parts in 1..20 {
        let mut cuts: Vec<usize> = (0..parts).map(|_| (normal.uniform() * rows as f64) as usize).collect();
        cuts.sort_unstable();
        let split = parted(&x, &y, (p, q), &cuts);
        assert_eq!(split.rows, rows as f64);
        close(linear_cka(&split).unwrap(), one, 1e-9);
        close(linear_cka_debiased(&split).unwrap(), debiased, 1e-9);
    }
}

#[test]
fn turning_scaling_and_moving_change_nothing() {
    let (p, q, rows) = (4, 4, 90);
    for seed in 0..10 {
        let (x, y) = related(seed, rows, p, q);
        let turned = rotated(&x, p, seed as f64);
        let moved: Vec<f64> = turned.iter().map(|value| 3.5 * value - 40.0).collect();
        for similarity in [
            linear_cka,
            linear_cka_debiased,
            |m: &Moments| procrustes(m).unwrap(),
            |m: &Moments| svcca(m, 1.0).unwrap(),
        ] {
            let expected = similarity(&all(&x, &y, p, q)).unwrap();
            close(similarity(&all(&moved, &y, p, q)).unwrap(), expected, 1e-9);
            close(similarity(&all(&y, &moved, q, p)).unwrap(), expected, 1e-9);
            close(similarity(&all(&x, &moved, p, p)).unwrap(), 1.0, 1e-9);
        }
    }
}

/// Canonical correlations change with no linear map at all, turning or not.
#[test]
fn canonical_correlations_are_blind_to_linear_maps() {
    let (p, q, rows) = (3, 4, 80);
    let (x, y) = related(2, rows, p, q);
    let sheared: Vec<f64> = x.chunks(p).flat_map(|r| [r[0] + 2.0 * r[1], r[1] - r[2], 5.0 * r[2] + r[0]]).collect();
    let moments = all(&x, &y, p, q);
    close(svcca(&all(&sheared, &y, p, q), 1.0).unwrap().unwrap(), svcca(&moments, 1.0).unwrap().unwrap(), 1e-9);
    close(pwcca(&all(&x, &sheared, p, p)).unwrap().unwrap(), 1.0, 1e-9);
    // Few directions are those of most variance, which correlate better or worse than all of them.
    let leading = svcca(&moments, 0.3).unwrap().unwrap();
    assert!((leading - svcca(&moments, 1.0).unwrap().unwrap()).abs() > 1e-3);
    // As many directions as rows.
    let few = all(&x[..7 * p], &y[..7 * q], p, q);
    assert!(pwcca(&few).unwrap().is_none() && pwcca(&all(&x[..8 * p], &y[..8 * q], p, q)).unwrap().is_some());
    let not = all(&[f64::NAN, 1.0, 2.0, 4.0], &[1.0, 2.0, 5.0, 1.0], 1, 1);
    assert!(pwcca(&not).unwrap().unwrap().is_nan() && procrustes(&not).unwrap().unwrap().is_nan());
}

/// Each pair of neighbouring columns turned by an angle, one after the other: an orthogonal map that mixes all of them.
fn rotated(x: &[f64], width: usize, angle: f64) -> Vec<f64> {
    let (sine, cosine) = (angle + 0.7).sin_cos();
    let mut turned = x.to_vec();
    for row in turned.chunks_mut(width) {
        for j in 1..width {
            let (a, b) = (row[j - 1], row[j]);
            (row[j - 1], row[j]) = (cosine * a - sine * b, sine * a + cosine * b);
        }
    }
    turned
}

/// Means of 20 seeds as published in Project-MONAI/MONAI#9129: independent data of width 8.
#[test]
fn the_bias_is_the_published_one() {
    let (p, q) = (8, 8);
    for (rows, published) in [(32, 0.198), (64, 0.114), (128, 0.056), (256, 0.029)] {
        let (mut biased, mut debiased) = (0.0, 0.0);
        for seed in 0..20 {
            let mut normal = Normal(1000 * rows as u64 + seed);
            let (x, y) = (normal.table(rows, p), normal.table(rows, q));
            let moments = all(&x, &y, p, q);
            biased += linear_cka(&moments).unwrap() / 20.0;
            debiased += linear_cka_debiased(&moments).unwrap() / 20.0;
        }
        // Three standard errors of a mean of 20.
        let within = 1.0 / rows as f64;
        close(biased, published, within);
        close(debiased, 0.0, within);
    }
}

#[test]
fn a_mean_far_from_zero_costs_no_precision() {
    let (p, q, rows) = (6, 5, 2000);
    let (x, y) = related(3, rows, p, q);
    // Rounded to what is left beside 2^14, so that both tables hold the same numbers.
    let coarse = |values: &[f64]| -> Vec<f64> { values.iter().map(|value| value + 16384.0 - 16384.0).collect() };
    let (x, y) = (coarse(&x), coarse(&y));
    let far = |values: &[f64]| -> Vec<f64> { values.iter().map(|value| value + 16384.0).collect() };
    for similarity in [linear_cka, linear_cka_debiased] {
        let near = similarity(&all(&x, &y, p, q)).unwrap();
        close(similarity(&all(&far(&x), &far(&y), p, q)).unwrap(), near, 1e-10);
        close(similarity(&parted(&far(&x), &far(&y), (p, q), &[300, 301, 900])).unwrap(), near, 1e-10);
    }
}

#[test]
fn what_the_rows_do_not_determine_is_none() {
    let (x, y) = related(1, 300, 3, 2);
    let first = |rows: usize| all(&x[..rows * 3], &y[..rows * 2], 3, 2);
    assert!(linear_cka(&Moments::new(3, 2)).is_none() && linear_cka(&first(1)).is_none());
    assert!(linear_cka(&first(2)).is_some());
    assert!(linear_cka_debiased(&first(3)).is_none() && linear_cka_debiased(&first(4)).is_some());
    // 0.1 is no binary fraction: the mean of many must still be it.
    let constant = vec![0.1; 900];
    for cuts in [&[][..], &[7, 150]] {
        assert!(linear_cka(&parted(&constant, &y, (3, 2), cuts)).is_none());
        assert!(linear_cka_debiased(&parted(&constant, &y, (3, 2), cuts)).is_none());
    }
    assert!(linear_cka(&all(&[f64::NAN, 1.0, 2.0], &[1.0, 2.0, 5.0], 1, 1)).unwrap().is_nan());
}

#[test]
fn only_what_was_written_is_read() {
    let (x, y) = related(1, 10, 3, 2);
    let written = all(&x, &y, 3, 2).write();
    assert_eq!(Moments::read(&written).unwrap().write(), written);
    for numbers in [&written[1..], &written[..written.len() - 1], &[], &[-1.0; 6], &[4e9; 6], &[f64::NAN; 30]] {
        assert!(Moments::read(numbers).is_none());
    }
}

/// How often the interval holds the truth: 0 for unrelated data, and for related data the estimate from many more rows.
#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let blocks = |x: &[f64], y: &[f64], p: usize, q: usize| {
        let mut blocks: Vec<Moments> = (0..interval::BLOCKS).map(|_| Moments::new(p, q)).collect();
        for (x, y) in x.chunks_exact(p).zip(y.chunks_exact(q)) {
            let (mut own_x, mut own_y) = (x.to_vec(), y.to_vec());
            blocks[interval::block(x, y)].add(&mut own_x, &mut own_y, 1);
        }
        blocks
    };
    let (p, q) = (4, 3);
    let (x, y) = related(1, 200_000, p, q);
    let truth = linear_cka_debiased(&all(&x, &y, p, q)).unwrap();
    let (mut of_related, mut of_unrelated) = (0, 0);
    for seed in 0..300 {
        let (x, y) = related(1000 + seed, 400, p, q);
        let parts = blocks(&x, &y, p, q);
        let found = interval::interval(&parts.iter().collect::<Vec<_>>()).unwrap();
        of_related += usize::from(found.lower <= truth && truth <= found.upper);
        let mut normal = Normal(9000 + seed);
        let parts = blocks(&normal.table(400, p), &normal.table(400, q), p, q);
        let found = interval::interval(&parts.iter().collect::<Vec<_>>()).unwrap();
        of_unrelated += usize::from(found.lower <= 0.0 && 0.0 <= found.upper);
    }
    // 95 in 100, give or take three deviations of 300 draws, and a little for the jackknife's approximation.
    assert!((270..=300).contains(&of_related), "{of_related} of 300");
    assert!((270..=300).contains(&of_unrelated), "{of_unrelated} of 300");
}
