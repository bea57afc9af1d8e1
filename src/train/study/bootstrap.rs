//! Intervals of macro-F1: the percentile bootstrap over reports and seeds (Efron and Tibshirani 1993, chapter 13).

use super::store::GoldSet;
use crate::train::scores::MIN_SUPPORT;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// An estimate and the ends of its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Of all that there is.
    pub estimate: f64,
    /// 2.5 % of the replicates are below it.
    pub lower: f64,
    /// 2.5 % are above it.
    pub upper: f64,
}

const REPLICATES: usize = 1000;

/// Answers of one network to one task, counted by report.
pub(super) struct Counts {
    grades: usize,
    /// Grades that are annotated often enough to be scored.
    scored: Vec<bool>,
    /// For each seed and report `[annotated][answered]`, laid out flat.
    seeds: Vec<Vec<Vec<u32>>>,
}

impl Counts {
    /// `answers` has the grades of every row for each seed. `None` where the task can't be scored: fewer than two grades with support.
    pub(super) fn new(set: &GoldSet, task: usize, grades: usize, answers: &[&[u8]]) -> Option<Self> {
        let gold = set.grades.get(task)?;
        let support = |grade: usize| gold.iter().filter(|g| usize::from(**g) == grade).count();
        let scored: Vec<bool> = (0..grades).map(|grade| support(grade) >= MIN_SUPPORT).collect();
        if scored.iter().filter(|scored| **scored).count() < 2 || answers.is_empty() {
            return None;
        }
        let reports = set.reports.iter().max().map_or(0, |last| last + 1);
        let counted = |answers: &&[u8]| {
            let mut counts = vec![vec![0; grades * grades]; reports];
            for ((report, gold), said) in set.reports.iter().zip(gold).zip(*answers) {
                if let Some(count) = counts[*report].get_mut(usize::from(*gold) * grades + usize::from(*said)) {
                    *count += 1;
                }
            }
            counts
        };
        Some(Self { grades, scored, seeds: answers.iter().map(counted).collect() })
    }

    /// Mean over the drawn seeds of the macro-F1 over the drawn reports, each as often as its weight says.
    fn macro_f1(&self, seeds: &[usize], weights: &[u32]) -> f64 {
        let g = self.grades;
        let of_seed = |seed: &usize| {
            let mut confusion = vec![0u32; g * g];
            for (counts, weight) in self.seeds[*seed].iter().zip(weights).filter(|(_, weight)| **weight > 0) {
                confusion.iter_mut().zip(counts).for_each(|(sum, count)| *sum += weight * count);
            }
            let f1 = |grade: usize| {
                let gold: u32 = (0..g).map(|said| confusion[grade * g + said]).sum();
                let said: u32 = (0..g).map(|gold| confusion[gold * g + grade]).sum();
                // A grade that a draw lacks on both sides was answered without fault.
                if gold + said == 0 {
                    1.0
                } else {
                    f64::from(2 * confusion[grade * g + grade]) / f64::from(gold + said)
                }
            };
            let scored = (0..g).filter(|grade| self.scored[*grade]);
            scored.clone().map(f1).sum::<f64>() / scored.count() as f64
        };
        seeds.iter().map(of_seed).sum::<f64>() / seeds.len() as f64
    }

    /// Mean over all seeds of the macro-F1 over all reports.
    pub(super) fn whole(&self) -> f64 {
        self.macro_f1(&(0..self.seeds.len()).collect::<Vec<_>>(), &vec![1; self.reports()])
    }

    fn reports(&self) -> usize {
        self.seeds.first().map_or(0, Vec::len)
    }
}

/// Macro-F1 of a network.
pub(super) fn score(counts: &Counts) -> Interval {
    interval(&[counts], |values| values[0])
}

/// Macro-F1 of one network less that of another: both are drawn with the same reports and seeds, which takes away what both share.
pub(super) fn difference(counts: &Counts, than: &Counts) -> Interval {
    interval(&[counts, than], |values| values[0] - values[1])
}

fn interval(networks: &[&Counts], value: impl Fn(&[f64]) -> f64) -> Interval {
    let (reports, seeds) = (networks[0].reports(), networks.iter().map(|n| n.seeds.len()).min().unwrap_or(0));
    let of = |seeds: &[usize], weights: &[u32]| {
        value(&networks.iter().map(|network| network.macro_f1(seeds, weights)).collect::<Vec<_>>())
    };
    let estimate = of(&(0..seeds).collect::<Vec<_>>(), &vec![1; reports]);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut values: Vec<f64> = (0..REPLICATES)
        .map(|_| {
            let mut weights = vec![0; reports];
            (0..reports).for_each(|_| weights[rng.random_range(0..reports)] += 1);
            let drawn: Vec<usize> = (0..seeds).map(|_| rng.random_range(0..seeds)).collect();
            of(&drawn, &weights)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let quantile = |share: f64| values[((share * (REPLICATES - 1) as f64).round() as usize).min(REPLICATES - 1)];
    Interval { estimate, lower: quantile(0.025), upper: quantile(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rows: usize) -> GoldSet {
        let grades = (0..rows).map(|row| (row % 2) as u8).collect();
        GoldSet { name: "x".into(), reports: (0..rows).map(|row| row / 2).collect(), grades: vec![grades] }
    }

    #[test]
    fn what_is_always_right_has_no_width_and_beats_what_is_not() {
        let set = set(60);
        let right = set.grades[0].clone();
        let mut half = right.clone();
        half.iter_mut().step_by(3).for_each(|grade| *grade = 1 - *grade);
        let counts = |answers: &[&[u8]]| Counts::new(&set, 0, 2, answers).unwrap();
        let (best, worse) = (counts(&[&right, &right]), counts(&[&half, &half]));
        assert_eq!(score(&best), Interval { estimate: 1.0, lower: 1.0, upper: 1.0 });
        let found = score(&worse);
        assert!((found.estimate - 2.0 / 3.0).abs() < 1e-9, "{found:?}");
        assert!(found.lower < found.estimate && found.estimate < found.upper, "{found:?}");
        assert!(difference(&worse, &best).upper < 0.0);
    }

    #[test]
    fn a_task_of_one_grade_has_no_score() {
        let mut set = set(20);
        set.grades[0].fill(0);
        assert!(Counts::new(&set, 0, 2, &[&[0; 20]]).is_none());
    }

    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        // 200 draws of 80 answers, each right with a chance of 0.8: the macro-F1 of the whole is 0.8.
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut set = set(80);
        set.reports = (0..80).collect();
        let covered = (0..200).filter(|_| {
            let answers: Vec<u8> =
                set.grades[0].iter().map(|g| if rng.random::<f64>() < 0.8 { *g } else { 1 - *g }).collect();
            let found = score(&Counts::new(&set, 0, 2, &[&answers]).unwrap());
            found.lower <= 0.8 && 0.8 <= found.upper
        });
        let covered = covered.count();
        assert!((174..=200).contains(&covered), "{covered} of 200");
    }
}
