//! Scores of answers against annotation: F1 a grade, macro-F1 and kappa a task, level F1 and row accuracy.

use crate::labels::LabelSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Grades that the annotation has fewer times than this are left out of a macro-F1.
pub const MIN_SUPPORT: usize = 5;

/// Grades of each (report, level).
pub type Rows = BTreeMap<(String, String), Vec<u8>>;

/// Scores of one task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskScores {
    /// The task.
    pub task: String,
    /// Its grades.
    pub grades: Vec<String>,
    /// Rows annotated (first index) as each grade and answered (second) as each.
    pub confusion: Vec<Vec<usize>>,
    /// F1 of each grade; `None` where the annotation has it fewer than [`MIN_SUPPORT`] times.
    pub f1: Vec<Option<f64>>,
    /// Mean of the F1 that are there; `None` when there are fewer than two.
    pub macro_f1: Option<f64>,
    /// Cohen's kappa with linear weights (Cohen, 1968), grades being ordered; `None` when only one grade occurs.
    pub kappa: Option<f64>,
}

/// Scores over all tasks.
#[derive(Debug, Clone, Serialize)]
pub struct Scores {
    /// Annotated rows.
    pub rows: usize,
    /// F1 over (report, level): were the right motion segments found.
    pub level_f1: f64,
    /// Mean over the tasks that have a macro-F1.
    pub macro_f1: f64,
    /// Share of (report, level) of either side whose presence and grades are all right.
    pub row_accuracy: f64,
    /// Each task.
    pub tasks: Vec<TaskScores>,
}

impl Scores {
    /// Scores `said` against `gold`. A row that one side lacks counts as the lowest grade of every task on that side.
    pub fn new(schema: &LabelSchema, gold: &Rows, said: &Rows) -> Self {
        let lowest = vec![0; schema.tasks().len()];
        let keys: std::collections::BTreeSet<_> = gold.keys().chain(said.keys()).collect();
        let both = gold.keys().filter(|key| said.contains_key(key)).count();
        let right = keys.iter().filter(|key| gold.contains_key(**key) && gold.get(**key) == said.get(**key)).count();
        let tasks: Vec<TaskScores> = schema
            .tasks()
            .iter()
            .enumerate()
            .map(|(index, task)| {
                let count = task.grades.len();
                let mut confusion = vec![vec![0; count]; count];
                let mut support = vec![0; count];
                for key in &keys {
                    let grade = |rows: &Rows| rows.get(*key).unwrap_or(&lowest)[index] as usize;
                    confusion[grade(gold)][grade(said)] += 1;
                }
                gold.values().for_each(|grades| support[grades[index] as usize] += 1);
                task_scores(&task.name, &task.grades, confusion, &support)
            })
            .collect();
        let macros: Vec<f64> = tasks.iter().filter_map(|t| t.macro_f1).collect();
        Self {
            rows: gold.len(),
            level_f1: ratio(2 * both, gold.len() + said.len()),
            macro_f1: mean(&macros).unwrap_or(0.0),
            row_accuracy: ratio(right, keys.len()),
            tasks,
        }
    }

    /// Macro-F1 over the tasks that are named, over all where none is: a head that learns nothing says nothing of the network.
    pub fn macro_f1_of(&self, tasks: &[String]) -> f64 {
        if tasks.is_empty() {
            return self.macro_f1;
        }
        let named = self.tasks.iter().filter(|task| tasks.contains(&task.task));
        mean(&named.filter_map(|task| task.macro_f1).collect::<Vec<_>>()).unwrap_or(0.0)
    }

    /// A table for people: a line a task, then its confusion matrix.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let figure = |value: Option<f64>| value.map_or("    –".to_string(), |v| format!("{v:5.3}"));
        for task in &self.tasks {
            let f1: Vec<String> =
                task.grades.iter().zip(&task.f1).map(|(grade, f1)| format!("{grade} {}", figure(*f1).trim())).collect();
            let (name, macro_f1, kappa) = (&task.task, figure(task.macro_f1), figure(task.kappa));
            let _ = writeln!(out, "{name:<30} macro-F1 {macro_f1}  kappa {kappa}  {}", f1.join(", "));
            for (grade, row) in task.grades.iter().zip(&task.confusion) {
                let cells: Vec<String> = row.iter().map(|n| format!("{n:>6}")).collect();
                let _ = writeln!(out, "    {grade:<14}{}", cells.concat());
            }
        }
        let _ = writeln!(
            out,
            "rows {}  level F1 {:.4}  macro-F1 {:.4}  row accuracy {:.4}",
            self.rows, self.level_f1, self.macro_f1, self.row_accuracy
        );
        out
    }
}

fn task_scores(task: &str, grades: &[String], confusion: Vec<Vec<usize>>, support: &[usize]) -> TaskScores {
    let count = grades.len();
    let gold = |i: usize| confusion[i].iter().sum::<usize>();
    let said = |j: usize| confusion.iter().map(|row| row[j]).sum::<usize>();
    let f1 = (0..count).map(|i| (support[i] >= MIN_SUPPORT).then(|| ratio(2 * confusion[i][i], gold(i) + said(i))));
    let f1: Vec<Option<f64>> = f1.collect();
    let there: Vec<f64> = f1.iter().flatten().copied().collect();
    let total = (0..count).map(gold).sum::<usize>() as f64;
    let (mut observed, mut expected) = (0.0, 0.0);
    for (i, row) in confusion.iter().enumerate() {
        for (j, rows) in row.iter().enumerate() {
            let distance = i.abs_diff(j) as f64;
            observed += distance * *rows as f64;
            expected += distance * gold(i) as f64 * said(j) as f64 / total.max(1.0);
        }
    }
    TaskScores {
        task: task.to_string(),
        grades: grades.to_vec(),
        macro_f1: if there.len() > 1 { mean(&there) } else { None },
        kappa: (expected > 0.0).then(|| 1.0 - observed / expected),
        confusion,
        f1,
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(grades: &[(&str, u8)]) -> Rows {
        grades.iter().map(|(id, g)| ((id.to_string(), "L4-L5".into()), vec![*g, 0])).collect()
    }

    fn schema() -> LabelSchema {
        let task = |name| format!("[[task]]\nname = \"{name}\"\ngrades = [\"no\", \"some\", \"much\"]\n");
        LabelSchema::parse(&format!("[schema]\nname = \"x\"\nversion = 1\n{}{}", task("a"), task("b"))).unwrap()
    }

    #[test]
    fn figures_agree_with_a_count_by_hand() {
        let names: Vec<String> = (0..12).map(|i| i.to_string()).collect();
        let gold: Vec<(&str, u8)> = names.iter().enumerate().map(|(i, n)| (n.as_str(), u8::from(i >= 6))).collect();
        let mut said = gold.clone();
        said[0].1 = 1;
        said[11].1 = 2;
        said.pop();
        let scores = Scores::new(&schema(), &rows(&gold), &rows(&said));
        // 6 lowest and 6 `some`; one lowest answered `some`, one `some` missed.
        let (no, some) = (10.0 / (6.0 + 6.0), 10.0 / (6.0 + 6.0));
        assert_eq!(scores.tasks[0].f1, [Some(no), Some(some), None]);
        assert_eq!(scores.macro_f1, (no + some) / 2.0);
        assert_eq!(scores.level_f1, 22.0 / 23.0);
        assert_eq!(scores.row_accuracy, 10.0 / 12.0);
        // Observed disagreement 2, by chance 2 · 6 · 6 / 12 = 6.
        assert!((scores.tasks[0].kappa.unwrap() - (1.0 - 2.0 / 6.0)).abs() < 1e-12);
        assert_eq!((scores.tasks[1].macro_f1, scores.tasks[1].kappa), (None, None));
        assert!(scores.table().contains("level F1 0.9565"));
    }
}
