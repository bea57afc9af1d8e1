//! How far a score can be trusted: temperatures, the calibration error that is left, and what withholding grades gains.

use super::fit::argmax;
use super::math::softmax;

/// Bins of equal width that the calibration error is taken over.
const BINS: usize = 15;
/// Scores below which a user may let grades be withheld.
pub const THRESHOLDS: [f64; 6] = [0.0, 0.6, 0.8, 0.9, 0.95, 0.99];

/// One task's logits for some rows, each with the grade that is right.
pub type Answers = Vec<(Vec<f32>, u8)>;

/// An answer's probability, and whether it was right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Probability of the grade that was given, 0 to 1.
    pub score: f64,
    /// Whether the grade is the annotated one.
    pub right: bool,
}

/// What is kept, and how good it is, when grades below a threshold are withheld.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kept {
    /// The threshold.
    pub threshold: f64,
    /// Share of answers that are kept.
    pub coverage: f64,
    /// Share of the kept ones that are right; `None` where none is kept.
    pub accuracy: Option<f64>,
}

/// The answers of a task, softmax(logits / temperature).
pub fn scored(answers: &Answers, temperature: f32) -> Vec<Scored> {
    let one = |(logits, grade): &(Vec<f32>, u8)| {
        let p = probabilities(logits, temperature);
        let best = argmax(&p);
        Scored { score: f64::from(p[usize::from(best)]), right: best == *grade }
    };
    answers.iter().map(one).collect()
}

/// The temperature by which a task's answers are best calibrated: the least negative log-likelihood (Guo et al., 2017), with one
/// wrong answer of even odds taken as seen, so that a task that was never wrong is not made certain of everything. 1 where there are none.
pub fn temperature(answers: &Answers) -> f32 {
    let loss = |temperature: f32| -> f64 {
        let one = |(logits, grade): &(Vec<f32>, u8)| {
            -f64::from(probabilities(logits, temperature)[usize::from(*grade)].max(1e-9)).ln()
        };
        // The answer that is taken as seen: two grades, the logit of the wrong one higher by 4.
        let seen = -f64::from(probabilities(&[4.0, 0.0], temperature)[1]).ln();
        answers.iter().map(one).sum::<f64>() + seen
    };
    let grid = (0..=90).map(|step| 0.5 * 1.035f32.powi(step)).map(|t| (t, loss(t)));
    if answers.is_empty() { 1.0 } else { grid.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(1.0, |(t, _)| t) }
}

fn probabilities(logits: &[f32], temperature: f32) -> Vec<f32> {
    let mut p: Vec<f32> = logits.iter().map(|l| l / temperature).collect();
    softmax(&mut p);
    p
}

/// Expected calibration error (Naeini, Cooper and Hauskrecht, 2015): over 15 bins of the score, the mean distance between score and
/// accuracy, weighted by the answers in the bin. 0 where there are no answers.
pub fn expected_calibration_error(answers: &[Scored]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for Scored { score, right } in answers {
        let (scores, rights) = &mut bins[((score * BINS as f64) as usize).min(BINS - 1)];
        *scores += score;
        *rights += f64::from(u8::from(*right));
    }
    bins.iter().map(|(scores, rights): &(f64, f64)| (scores - rights).abs()).sum::<f64>() / answers.len().max(1) as f64
}

/// Coverage and accuracy at each of [`THRESHOLDS`].
pub fn withheld(answers: &[Scored]) -> Vec<Kept> {
    let at = |threshold: f64| {
        let kept: Vec<&Scored> = answers.iter().filter(|answer| answer.score >= threshold).collect();
        let right = kept.iter().filter(|answer| answer.right).count() as f64;
        let accuracy = (!kept.is_empty()).then(|| right / kept.len() as f64);
        Kept { threshold, coverage: kept.len() as f64 / answers.len().max(1) as f64, accuracy }
    };
    THRESHOLDS.into_iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_distance_between_score_and_accuracy() {
        let answers = |score: f64, right: usize, wrong: usize| {
            let right = std::iter::repeat_n(Scored { score, right: true }, right);
            right.chain(std::iter::repeat_n(Scored { score, right: false }, wrong)).collect::<Vec<_>>()
        };
        assert!(expected_calibration_error(&answers(0.75, 3, 1)) < 1e-12);
        assert!((expected_calibration_error(&answers(0.95, 1, 1)) - 0.45).abs() < 1e-12);
        // Bins are weighted by their answers: 0.45 over two of six, 0.25 over four.
        let both = [answers(0.95, 1, 1), answers(0.75, 4, 0)].concat();
        assert!((expected_calibration_error(&both) - (0.45 * 2.0 + 0.25 * 4.0) / 6.0).abs() < 1e-12);
        assert_eq!(expected_calibration_error(&[]), 0.0);
    }

    #[test]
    fn temperature_brings_the_score_to_the_accuracy() {
        // Always the same logits, right three times in four.
        let answers: Answers = (0..400).map(|i| (vec![6.0, 0.0], u8::from(i % 4 == 0))).collect();
        let before = expected_calibration_error(&scored(&answers, 1.0));
        let fitted = temperature(&answers);
        let after = expected_calibration_error(&scored(&answers, fitted));
        assert!(before > 0.24 && after < 0.01, "{before} {after}");
        // sigmoid(6 / t) = 3/4.
        assert!((fitted - 6.0 / 3f32.ln()).abs() < 0.2, "{fitted}");
        assert_eq!(temperature(&Vec::new()), 1.0);
    }

    #[test]
    fn withholding_keeps_the_sure_ones() {
        let answers: Vec<Scored> = [(0.5, false), (0.7, true), (0.85, false), (0.97, true), (1.0, true)]
            .map(|(score, right)| Scored { score, right })
            .into();
        let kept = withheld(&answers);
        assert_eq!((kept[0].coverage, kept[0].accuracy), (1.0, Some(0.6)));
        assert_eq!((kept[2].threshold, kept[2].coverage, kept[2].accuracy), (0.8, 0.6, Some(2.0 / 3.0)));
        assert_eq!((kept[5].coverage, kept[5].accuracy), (0.2, Some(1.0)));
        assert_eq!(withheld(&[])[0].accuracy, None);
    }
}
