//! How well alignment foretells whether sharing a network helps two tasks.

use serde::{Deserialize, Serialize};

/// Two tasks of a region: how aligned they are, and what sharing did to them. Means over seeds, layers and steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Region of the spine.
    pub region: String,
    /// The first task.
    pub task: String,
    /// The second.
    pub other: String,
    /// Whether one of them is a control.
    pub control: bool,
    /// Debiased linear CKA of the task-specific networks, over the layers after the embeddings.
    pub similarity: Option<f64>,
    /// Cosine of the gradients with respect to the shared layers, in the network of all tasks.
    pub cosine: Option<f64>,
    /// Share of layers and steps with a negative cosine.
    pub conflict_rate: Option<f64>,
    /// Mean of both look-ahead effects, over the steps after the first.
    pub look_ahead: Option<f64>,
    /// Where the pair was trained: by what share the held-out loss of a task is lower than in its own network, the mean of both tasks.
    pub gain: Option<f64>,
    /// The same of macro-F1, in points of 0 to 1.
    pub gain_f1: Option<f64>,
}

/// How well one measure foretells one kind of help.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// `cosine`, `similarity` or `conflict_rate`.
    pub measure: String,
    /// `trained`, `trained (macro-F1)` or `look-ahead`.
    pub truth: String,
    /// Pairs that have both.
    pub pairs: usize,
    /// Spearman's rank correlation.
    pub correlation: Option<f64>,
    /// Its 95 % interval (Fieller, Hartley and Pearson 1957).
    pub interval: Option<(f64, f64)>,
    /// The threshold that is right most often over all pairs: sharing is foretold to help from there on.
    pub threshold: f64,
    /// Share of pairs that are foretold rightly by a threshold chosen without them.
    pub accuracy: f64,
    /// The same of always foretelling what most of the other pairs do.
    pub baseline: f64,
    /// Share of pairs that sharing helped.
    pub helped: f64,
}

/// Relates a measure to the help, for pairs in folds: a fold's pairs are foretold by a threshold that was chosen on the other folds. With one fold
/// each pair is its own. `None` for fewer than six pairs.
pub(super) fn rule(measure: &str, truth: &str, points: &[(usize, f64, f64)]) -> Option<Rule> {
    if points.len() < 6 {
        return None;
    }
    let several = points.iter().any(|(fold, ..)| *fold != points[0].0);
    let fold = |at: usize| if several { points[at].0 } else { at };
    let all: Vec<(f64, bool)> = points.iter().map(|(_, x, y)| (*x, *y > 0.0)).collect();
    let (mut right, mut by_majority) = (0, 0);
    for (at, (x, helped)) in all.iter().enumerate() {
        let others = all.iter().enumerate().filter(|(other, _)| fold(*other) != fold(at)).map(|(_, point)| *point);
        let others: Vec<(f64, bool)> = others.collect();
        right += usize::from((*x >= threshold(&others)) == *helped);
        let positive = others.iter().filter(|(_, helped)| *helped).count();
        by_majority += usize::from((2 * positive >= others.len()) == *helped);
    }
    let n = all.len() as f64;
    let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().map(|(_, x, y)| (*x, *y)).unzip();
    let correlation = spearman(&xs, &ys);
    let half = 1.959_963_984_540_054 * (1.06 / (n - 3.0)).sqrt();
    Some(Rule {
        measure: measure.into(),
        truth: truth.into(),
        pairs: points.len(),
        correlation,
        interval: correlation
            .map(|r| r.clamp(-0.999_999, 0.999_999).atanh())
            .map(|z| ((z - half).tanh(), (z + half).tanh())),
        threshold: threshold(&all),
        accuracy: right as f64 / n,
        baseline: by_majority as f64 / n,
        helped: all.iter().filter(|(_, helped)| *helped).count() as f64 / n,
    })
}

/// The threshold from which on help is foretold that is right most often: halfway between two neighbours, the lowest of equals.
fn threshold(points: &[(f64, bool)]) -> f64 {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let right = |t: f64| sorted.iter().filter(|(x, helped)| (*x >= t) == *helped).count();
    let ends = [sorted.first().map_or(0.0, |p| p.0 - 1e-9), sorted.last().map_or(0.0, |p| p.0 + 1e-9)];
    let between = sorted.windows(2).map(|w| (w[0].0 + w[1].0) / 2.0);
    let candidates = std::iter::once(ends[0]).chain(between).chain([ends[1]]);
    candidates.fold((f64::NAN, 0), |best, t| if right(t) > best.1 || best.0.is_nan() { (t, right(t)) } else { best }).0
}

/// Spearman's rank correlation (1904), ties having their mean rank. `None` where a side does not vary.
fn spearman(xs: &[f64], ys: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(xs), ranks(ys));
    let mean = (xs.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let (aa, bb) = (product(&a, &a), product(&b, &b));
    (aa > 0.0 && bb > 0.0).then(|| product(&a, &b) / (aa * bb).sqrt())
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |v: &f64| {
        let below = values.iter().filter(|other| *other < v).count();
        let equal = values.iter().filter(|other| *other == v).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spearman_agrees_with_scipy() {
        // scipy.stats.spearmanr([1, 2, 2, 4, 5], [2, 1, 3, 3, 9]) = 0.7631578947368421
        let found = spearman(&[1.0, 2.0, 2.0, 4.0, 5.0], &[2.0, 1.0, 3.0, 3.0, 9.0]).unwrap();
        assert!((found - 0.763_157_894_736_842_1).abs() < 1e-12, "{found}");
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn a_measure_that_tells_is_right_on_pairs_it_was_not_chosen_on() {
        let points: Vec<(usize, f64, f64)> =
            (0..20).map(|i| (i % 2, f64::from(i as u8), f64::from(i as u8) - 9.5)).collect();
        let told = rule("cosine", "trained", &points).unwrap();
        // Each half puts its threshold a little to one side of the truth.
        assert!(told.accuracy >= 0.95 && told.baseline == 0.5, "{told:?}");
        assert_eq!((told.correlation, told.helped), (Some(1.0), 0.5));
        assert!((told.threshold - 9.5).abs() < 1e-9);
        // The same with the help dealt out without regard to the measure.
        let blind: Vec<(usize, f64, f64)> = points
            .iter()
            .map(|(fold, x, _)| (*fold, *x, if (*x as usize / 2).is_multiple_of(2) { 1.0 } else { -1.0 }))
            .collect();
        assert!(rule("cosine", "trained", &blind).unwrap().accuracy < 0.7);
        assert!(rule("cosine", "trained", &points[..5]).is_none());
    }
}
