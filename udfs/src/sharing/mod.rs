//! Which tasks may share a network: table functions over the stored embeddings and gradients of training runs.
//!
//! `task_alignment(folder)` has a row for each run, layer and ordered pair of tasks, by the aggregates of [`crate::ALIGNMENT`];
//! `sharing_verdict(folder [, min_cosine [, min_similarity]])` judges each task against the others; `task_groups(folder, models)` parts
//! the tasks into as many groups as there may be models. A folder holds `embeddings/` and `gradients/`, Parquet as
//! `foramen-train fit --analysis` and `foramen-train study` write it; one of the two may be absent.

mod groups;
mod pairs;
mod tables;

use arrow::datatypes::DataType;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DocSection, Documentation, Expr};
use std::sync::Arc;
use tables::{Answer, Question};

/// Least median gradient cosine of a task with the others at a layer that is shared: the threshold that the full study of docs/study chose
/// by the look-ahead effect.
pub const MIN_COSINE: f64 = -0.02;
/// Least median similarity: in that study the top layer of the control that has nothing to do with findings was below it, every task of
/// findings above.
pub const MIN_SIMILARITY: f64 = 0.2;

/// The section of the documentation that the table functions stand in.
pub const SHARING: DocSection = DocSection {
    include: true,
    label: "Shared networks",
    description: Some("Which tasks may share a network, out of the stored embeddings and gradients of training runs"),
};

/// What the table functions say of themselves, which DataFusion does not ask of a table function.
pub fn sharing_documentation() -> Vec<Documentation> {
    FUNCTIONS.map(Function::documentation).into()
}

/// `task_alignment`, `sharing_verdict` and `task_groups`, with their names.
pub fn all_table() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    let named = |function: Function| (function.name(), Arc::new(function) as Arc<dyn TableFunctionImpl>);
    FUNCTIONS.map(named).into()
}

/// Registers `task_alignment`, `sharing_verdict` and `task_groups`.
pub fn register_sharing_tables(state: &mut SessionState) {
    for (name, function) in all_table() {
        state.register_udtf(name, function);
    }
}

/// A number as it is written in a query, with its sign.
fn written_number(expression: &Expr) -> Option<f64> {
    let value = match expression {
        Expr::Negative(inner) => -written_number(inner)?,
        Expr::Literal(value, _) if value.data_type().is_numeric() => match value.cast_to(&DataType::Float64).ok()? {
            ScalarValue::Float64(value) => value?,
            _ => return None,
        },
        _ => return None,
    };
    value.is_finite().then_some(value)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Alignment,
    Verdict,
    Groups,
}

const FUNCTIONS: [Function; 3] = [Function::Alignment, Function::Verdict, Function::Groups];

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Alignment => "task_alignment",
            Self::Verdict => "sharing_verdict",
            Self::Groups => "task_groups",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Alignment => "task_alignment('folder')",
            Self::Verdict => "sharing_verdict('folder' [, min_cosine [, min_similarity]])",
            Self::Groups => "task_groups('folder', models)",
        }
    }

    fn documentation(self) -> Documentation {
        let about = |description: &str| Documentation::builder(SHARING, description, self.usage());
        let folder = "A folder with `embeddings/` and `gradients/`, or one of the two: Parquet as `foramen-train fit --analysis` and \
                      `foramen-train study` write it. Two networks of one `task` in a run would be mixed: keep one.";
        match self {
            Self::Alignment => about(
                "How alike tasks are at each layer: a row for each run, layer and ordered pair of tasks. `similarity` is the \
                 `linear_cka_debiased` of the two tasks' networks, where `other` is `multi` for the shared one; `cosine` and \
                 `conflict_rate` are of the tasks' gradients, over the stored steps. A layer of a run is computed at a time, when it is \
                 asked for. NULL where the folder holds nothing to compute it of.",
            )
            .with_sql_example(
                "```sql
> SELECT layer, avg(cosine) AS cosine FROM task_alignment('runs/study')
  WHERE run = 'lumbar-1' AND task = 'disc' GROUP BY layer ORDER BY layer;
```",
            )
            .with_argument("folder", folder)
            .with_related_udf("sharing_verdict")
            .with_related_udf("linear_cka_debiased")
            .with_related_udf("gradient_cosine")
            .build(),
            Self::Verdict => about(
                "Whether a task may share its network: each task at each layer against the median of the others. A layer parts where the \
                 cosine is below `min_cosine` or the similarity below `min_similarity`. The verdict is `share` where no layer parts, else \
                 `share lower layers up to k` below the lowest that does, or `keep apart`; `reason` says by which layer. `to_shared` is \
                 the similarity to the shared network.",
            )
            .with_sql_example(
                "```sql
> SELECT DISTINCT task, verdict, reason FROM sharing_verdict('runs/study') WHERE run = 'lumbar-1' ORDER BY task;
```",
            )
            .with_argument("folder", folder)
            .with_argument(
                "min_cosine",
                format!("A number written out; {MIN_COSINE} where it is not given, as the study of docs/study chose it."),
            )
            .with_argument("min_similarity", format!("The same; {MIN_SIMILARITY} where it is not given."))
            .with_related_udf("task_alignment")
            .with_related_udf("task_groups")
            .build(),
            Self::Groups => about(
                "Tasks parted into as many groups as there may be models, by average linkage of the cosines of their gradients: a row \
                 for each run and task. `model` is the group's number, `cohesion` the task's mean cosine with the others of its group, \
                 NULL where it is alone.",
            )
            .with_sql_example(
                "```sql
> SELECT model, string_agg(task, ', ') AS tasks FROM task_groups('runs/study', 3) WHERE run = 'lumbar-1' GROUP BY model;
```",
            )
            .with_argument("folder", folder)
            .with_argument("models", "The number of groups, 1 or more, written out.")
            .with_related_udf("task_alignment")
            .with_related_udf("sharing_verdict")
            .build(),
        }
    }
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let usage = self.usage();
        let (folder, numbers) = match args.exprs() {
            [Expr::Literal(folder, _), numbers @ ..] => (folder.try_as_str().flatten(), numbers),
            _ => (None, args.exprs()),
        };
        let Some(folder) = folder else {
            return plan_err!("the folder of a training run is asked for as a string: {usage}");
        };
        let number = |at: usize, default: f64| match numbers.get(at) {
            None => Ok(default),
            Some(expression) => match written_number(expression) {
                Some(value) => Ok(value),
                None => plan_err!("a number is asked for, written out: {usage}"),
            },
        };
        let (answer, most) = match self {
            Self::Alignment => (Answer::Pairs, 0),
            Self::Verdict => {
                let (min_cosine, min_similarity) = (number(0, MIN_COSINE)?, number(1, MIN_SIMILARITY)?);
                (Answer::Verdict { min_cosine, min_similarity }, 2)
            }
            Self::Groups => {
                let models = number(0, 0.0)?;
                if models < 1.0 || models.fract() != 0.0 {
                    return plan_err!("the number of models is 1 or more: {usage}");
                }
                (Answer::Groups { models: models as usize }, 1)
            }
        };
        if numbers.len() > most {
            return plan_err!("too many arguments: {usage}");
        }
        let question = Question::new(folder, answer);
        let schema = question.schema();
        Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(question)])?))
    }
}
