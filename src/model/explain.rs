//! Which sentences a grade hangs on, found by reading a segment again without them (leave-one-out occlusion; Li, Monroe and
//! Jurafsky, 2016).

use super::session::Want;
use super::{Error, Model, weights};
use crate::report::{self, Reading, Segment};
use std::ops::Range;
use std::sync::Arc;

/// Sentences that are left out together at most, before a grade is said to hang on no few of them.
const MOST: usize = 4;

/// A grade above the lowest, and the sentences that carried it.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// Position of the task in the schema.
    pub task: usize,
    /// Position in the task's grades.
    pub grade: u8,
    /// Its calibrated probability, 0 to 1.
    pub score: f32,
    /// Byte ranges of the sentences or clauses in the report, the one that mattered most first.
    pub sentences: Vec<Range<usize>>,
    /// The grade without them; the task's lowest where nothing is left to read. Equal to `grade` where it hangs on no
    /// few sentences.
    pub without: u8,
}

/// A motion segment with the reasons for its grades.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The segment.
    pub segment: Segment,
    /// One for each task that has a grade above the lowest.
    pub why: Vec<Why>,
}

/// A grade whose sentences are being looked for.
struct Search {
    reading: usize,
    why: Why,
    left_out: Vec<usize>,
    done: bool,
}

impl Model {
    /// The sentences that each grade of a report hangs on.
    ///
    /// Sentences are left out one by one, the one first whose loss makes the grade (or a worse one) least probable, until the grade
    /// is another: at most four. So every answer is checked: without these sentences the model says [`Why::without`].
    /// A report of `n` sentences about a segment is read about `n` times again, equal inputs once.
    ///
    /// # Errors
    /// [`Error::Run`] when ONNX Runtime fails.
    pub fn explain(&self, text: &str) -> Result<Vec<Explanation>, Error> {
        let readings = report::readings(text);
        let inputs: Vec<&str> = readings.iter().map(|reading| reading.segment.input.as_str()).collect();
        let mut searches = Vec::new();
        for (reading, output) in self.outputs(&inputs, Want::Logits).into_iter().enumerate() {
            let grades = self.worst(&output.map_err(Error::Run)?);
            searches.extend(grades.into_iter().enumerate().filter(|(_, (grade, _))| *grade > 0).map(
                |(task, (grade, score))| {
                    let why = Why { task, grade, score, sentences: Vec::new(), without: grade };
                    Search { reading, why, left_out: Vec::new(), done: false }
                },
            ));
        }
        for _ in 0..MOST {
            self.leave_one_more_out(&readings, &mut searches)?;
        }
        let mut explanations: Vec<Explanation> =
            readings.iter().map(|r| Explanation { segment: r.segment.clone(), why: Vec::new() }).collect();
        for Search { reading, why, .. } in searches {
            explanations[reading].why.push(why);
        }
        Ok(explanations)
    }

    /// One round of every search that goes on.
    fn leave_one_more_out(&self, readings: &[Reading<'_>], searches: &mut [Search]) -> Result<(), Error> {
        let mut inputs = Vec::new();
        let mut tries = Vec::new();
        for (index, search) in searches.iter().enumerate().filter(|(_, search)| !search.done) {
            let reading = &readings[search.reading];
            for piece in (0..reading.pieces().len()).filter(|piece| !search.left_out.contains(piece)) {
                let left_out: Vec<usize> = search.left_out.iter().copied().chain([piece]).collect();
                inputs.push(reading.input_without(&left_out));
                tries.push((index, piece));
            }
        }
        // A model need not read what is empty: nothing said is nothing found.
        let spoken: Vec<&str> = inputs.iter().map(String::as_str).filter(|input| !input.is_empty()).collect();
        let mut outputs = self.outputs(&spoken, Want::Logits).into_iter();
        let mut best: Vec<Option<(f64, usize, u8)>> = vec![None; searches.len()];
        for (input, (index, piece)) in inputs.iter().zip(tries) {
            let why = &searches[index].why;
            let (likely, grade) = if input.is_empty() {
                (0.0, 0)
            } else {
                let output = outputs.next().unwrap_or_else(|| Err("it was not run".into())).map_err(Error::Run)?;
                (self.at_least(&output, why.task, why.grade), self.worst(&output)[why.task].0)
            };
            if best[index].is_none_or(|(least, ..)| likely < least) {
                best[index] = Some((likely, piece, grade));
            }
        }
        for (search, best) in searches.iter_mut().zip(best) {
            let Some((_, piece, grade)) = best else { continue };
            let range = readings[search.reading].pieces().nth(piece).cloned();
            search.why.sentences.extend(range);
            search.left_out.push(piece);
            search.why.without = grade;
            let left = readings[search.reading].pieces().len() > search.left_out.len();
            search.done = grade != search.why.grade || !left;
        }
        Ok(())
    }

    /// Probability of a task's grade or a worse one: the highest over the windows.
    fn at_least(&self, windows: &Arc<[f32]>, task: usize, grade: u8) -> f64 {
        let tasks = self.package.labels().tasks();
        let width: usize = tasks.iter().map(|task| task.grades.len()).sum();
        let start: usize = tasks[..task].iter().map(|task| task.grades.len()).sum();
        let own = start..start + tasks[task].grades.len();
        let likely = |logits: &[f32]| {
            let weights: Vec<f64> = weights(&logits[own.clone()], self.temperatures[task]).collect();
            weights[usize::from(grade)..].iter().sum::<f64>() / weights.iter().sum::<f64>()
        };
        windows.chunks_exact(width).map(likely).fold(0.0, f64::max)
    }
}
