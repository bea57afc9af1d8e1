//! Which tasks may share a network: table functions over the stored embeddings and gradients of training runs.
//!
//! `task_alignment(folder)` has a row for each run, layer and ordered pair of tasks, by the aggregates of [`crate::ALIGNMENT`];
//! `sharing_verdict(folder [, min_cosine [, min_similarity]])` judges each task against the others; `task_groups(folder, models)` parts
//! the tasks into as many groups as there may be models. A folder holds `embeddings/` and `gradients/`, Parquet as
//! `foramen-train fit --analysis` and `foramen-train study` write it; one of the two may be absent.

mod groups;
mod tables;

use arrow::datatypes::DataType;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use std::sync::Arc;
use tables::{Answer, Question};

/// Least median gradient cosine of a task with the others at a layer that is shared: the threshold that the full study of docs/study chose
/// by the look-ahead effect.
pub const MIN_COSINE: f64 = -0.02;
/// Least median similarity: in that study the top layer of the control that has nothing to do with findings was below it, every task of
/// findings above.
pub const MIN_SIMILARITY: f64 = 0.2;

/// `task_alignment`, `sharing_verdict` and `task_groups`, with their names.
pub fn all_table() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    let named = |function: Function| (function.name(), Arc::new(function) as Arc<dyn TableFunctionImpl>);
    [Function::Alignment, Function::Verdict, Function::Groups].map(named).into()
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
