//! What SQL answers over the stored embeddings and gradients of a study.

use crate::train::fit::Error;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokio::task::JoinHandle;

/// A row of `task_alignment`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Aligned {
    /// Region and seed.
    pub run: String,
    /// 0 for the embeddings.
    pub layer: i64,
    /// A task.
    pub task: String,
    /// Another task, or `multi` for the shared network.
    pub other: String,
    /// Debiased linear CKA of their networks.
    pub similarity: Option<f64>,
    /// Mean cosine of their gradients.
    pub cosine: Option<f64>,
    /// Share of steps with a negative one.
    pub conflict_rate: Option<f64>,
}

/// Mean gradient cosine over the layers at a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// Region and seed.
    pub run: String,
    /// Steps taken.
    pub step: i64,
    /// A task.
    pub task: String,
    /// Another one.
    pub other: String,
    /// The cosine.
    pub cosine: f64,
}

/// What `sharing_verdict` says of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Region and seed.
    pub run: String,
    /// The task.
    pub task: String,
    /// `share`, `share lower layers up to k`, or `keep apart`.
    pub verdict: String,
    /// Why.
    pub reason: String,
}

/// A task's place in `task_groups`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grouped {
    /// Region and seed.
    pub run: String,
    /// Number of the model, from 1.
    pub model: i64,
    /// The task.
    pub task: String,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Alignment {
    /// Pairs of tasks at each layer.
    pub pairs: Vec<Aligned>,
    /// Pairs of tasks at each step.
    pub steps: Vec<Step>,
    /// A verdict for each task.
    pub verdicts: Vec<Verdict>,
    /// Tasks in two models.
    pub groups: Vec<Grouped>,
}

impl Alignment {
    /// Asks the tables of a folder, in a runtime of its own: not to be called from asynchronous code.
    pub(super) fn of(folder: &Path) -> Result<Self, Error> {
        let failed = |error: String| Error::Invalid(format!("{}: {error}", folder.display()));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        let name = folder.display().to_string().replace('\'', "''");
        let context = SessionContext::new_with_config(SessionConfig::new()).enable_url_table();
        foramen_udfs::all_aggregate().into_iter().for_each(|function| context.register_udaf(function));
        foramen_udfs::register_sharing_tables(&mut context.state_ref().write());
        // Each on a thread of its own.
        let ask = |sql: String| {
            let context = context.clone();
            runtime.spawn(async move { context.sql(&sql).await?.collect().await })
        };
        let rows = |answer: JoinHandle<Result<Vec<RecordBatch>, DataFusionError>>| -> Result<Rows, Error> {
            let answer = runtime.block_on(answer).map_err(|error| failed(error.to_string()))?;
            let batches = answer.map_err(|error| failed(error.strip_backtrace()))?;
            Rows::new(&batches).map_err(|error| failed(error.to_string()))
        };
        let pairs = format!(
            "SELECT run, task, other, layer, similarity, cosine, conflict_rate FROM task_alignment('{name}') ORDER BY run, layer, task, other"
        );
        let steps = format!(
            "SELECT a.run, a.task, b.task, a.step, gradient_cosine(a.gradient, b.gradient) AS cosine
             FROM '{name}/gradients/' AS a JOIN '{name}/gradients/' AS b ON a.run = b.run AND a.step = b.step AND a.layer = b.layer AND a.task < b.task
             GROUP BY a.run, a.task, b.task, a.step ORDER BY a.run, a.step, a.task, b.task"
        );
        let verdicts =
            format!("SELECT DISTINCT run, task, verdict, reason FROM sharing_verdict('{name}') ORDER BY run, task");
        let groups = format!("SELECT run, task, model FROM task_groups('{name}', 2) ORDER BY run, model, task");
        let (pairs, steps, verdicts, groups) = (ask(pairs), ask(steps), ask(verdicts), ask(groups));
        let (pairs, steps, verdicts, groups) = (rows(pairs)?, rows(steps)?, rows(verdicts)?, rows(groups)?);
        Ok(Self {
            pairs: pairs.map(|row| Aligned {
                run: row.text(0),
                task: row.text(1),
                other: row.text(2),
                layer: row.whole(3),
                similarity: row.number(4),
                cosine: row.number(5),
                conflict_rate: row.number(6),
            }),
            steps: steps
                .map(|row| {
                    let cosine = row.number(4)?;
                    Some(Step { run: row.text(0), task: row.text(1), other: row.text(2), step: row.whole(3), cosine })
                })
                .into_iter()
                .flatten()
                .collect(),
            verdicts: verdicts.map(|row| Verdict {
                run: row.text(0),
                task: row.text(1),
                verdict: row.text(2),
                reason: row.text(3),
            }),
            groups: groups.map(|row| Grouped { run: row.text(0), task: row.text(1), model: row.whole(2) }),
        })
    }
}

/// Rows of an answer, read column by column.
struct Rows(Vec<RecordBatch>);

struct Row<'a>(&'a RecordBatch, usize);

impl Rows {
    /// Strings as Utf8, whole numbers as Int64, others as Float64.
    fn new(batches: &[RecordBatch]) -> Result<Self, arrow::error::ArrowError> {
        let conform = |batch: &RecordBatch| {
            let columns = batch.columns().iter().map(|column| {
                let wanted = match column.data_type() {
                    DataType::Float64 | DataType::Float32 => DataType::Float64,
                    integer if integer.is_integer() => DataType::Int64,
                    _ => DataType::Utf8,
                };
                cast(column, &wanted)
            });
            let names = batch.schema().fields().iter().enumerate().map(|(at, _)| at.to_string()).collect::<Vec<_>>();
            RecordBatch::try_from_iter_with_nullable(
                names
                    .into_iter()
                    .zip(columns.collect::<Result<Vec<_>, _>>()?)
                    .map(|(name, column)| (name, column, true)),
            )
        };
        Ok(Self(batches.iter().map(conform).collect::<Result<_, _>>()?))
    }

    fn map<T>(&self, row: impl Fn(Row<'_>) -> T) -> Vec<T> {
        self.0
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(move |at| (batch, at)))
            .map(|(b, at)| row(Row(b, at)))
            .collect()
    }
}

impl Row<'_> {
    fn text(&self, column: usize) -> String {
        let values = self.0.column(column).as_string_opt::<i32>();
        values.filter(|v| v.is_valid(self.1)).map_or_else(String::new, |v| v.value(self.1).to_owned())
    }

    fn whole(&self, column: usize) -> i64 {
        let values = self.0.column(column).as_primitive_opt::<Int64Type>();
        values.filter(|v| v.is_valid(self.1)).map_or(0, |v| v.value(self.1))
    }

    fn number(&self, column: usize) -> Option<f64> {
        let values = self.0.column(column).as_primitive_opt::<Float64Type>()?;
        values.is_valid(self.1).then(|| values.value(self.1))
    }
}
