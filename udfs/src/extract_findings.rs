//! `extract_findings(text)`: the graded motion segments of a report.

use crate::engine::{ModelInfo, ReportModel};
use crate::exec::{Argument, Call, Function, SECTION};
use crate::rows::{failed, list_of, lists, segment_columns, text};
use arrow::array::{ArrayRef, Float32Array, StringArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{Documentation, ScalarUDF};
use std::sync::Arc;

const NAME: &str = "extract_findings";

/// `extract_findings(text) → List<Struct<region, level, <task>, <task>_score, …, evidence>>`.
pub fn extract_findings_udf(model: Arc<dyn ReportModel>) -> ScalarUDF {
    let planned = Arc::clone(&model);
    Function {
        name: NAME,
        arguments: &[Argument::Text],
        required: 1,
        returns: Box::new(move |_| Ok(list_of(fields(info(planned.as_ref())?)))),
        kernel: Box::new(move |call| answer(call, model.as_ref())),
        documentation: documentation(),
    }
    .into_udf()
}

fn info(model: &dyn ReportModel) -> Result<&ModelInfo> {
    model.info().map_err(|error| failed(NAME, &error))
}

/// Grades are plain Utf8, though files hold them as Dictionary(Int8, Utf8): DataFusion 55 puts the values of an aggregate's or a
/// window's groups into a dictionary of one key a value, so that `first_value(f['disc'] ORDER BY …)` or
/// `array_agg(f['disc'] ORDER BY …)` over more than 128 of them fails ("Can not create index of type Int8 from value 128").
fn fields(info: &ModelInfo) -> Fields {
    let mut fields = vec![text("region"), text("level")];
    for task in &info.tasks {
        fields.push(text(&task.name));
        fields.push(Field::new(format!("{}_score", task.name), DataType::Float32, true));
    }
    fields.push(text("evidence"));
    fields.into()
}

/// All texts of the batch go to the model at once, so that it can batch them by length.
fn answer(call: &Call, model: &dyn ReportModel) -> Result<ArrayRef> {
    let info = info(model)?;
    let texts = call.texts(0)?;
    let present: Vec<&str> = texts.iter().copied().flatten().collect();
    let found = match present.is_empty() {
        true => Vec::new(),
        false => model.findings(&present).map_err(|error| failed(NAME, &error))?,
    };
    let rows = || found.iter().flatten();
    let [region, level, evidence] = segment_columns(rows().map(|finding| &finding.segment));
    let mut columns = vec![region, level];
    for (index, task) in info.tasks.iter().enumerate() {
        let graded = || rows().map(|finding| finding.grades.get(index).copied());
        // A grade with too low a score is NULL.
        let known = |pair: Option<(Option<u8>, f32)>| {
            pair.is_some_and(|(grade, _)| grade.is_none_or(|grade| usize::from(grade) < task.grades.len()))
        };
        if !graded().all(known) {
            return exec_err!("{NAME}: the model's answer is not of its own schema");
        }
        let name = |pair: Option<(Option<u8>, f32)>| task.grades.get(usize::from(pair?.0?)).map(String::as_str);
        let grades: StringArray = graded().map(name).collect();
        columns.push(Arc::new(grades));
        columns.push(Arc::new(graded().map(|pair| pair.map(|(_, score)| score)).collect::<Float32Array>()));
    }
    columns.push(evidence);
    lists(&texts, &found, fields(info), columns)
}

fn documentation() -> Documentation {
    Documentation::builder(
        SECTION,
        "Reads a radiology report and grades each motion segment that it speaks of: a list of structs `region`, `level`, for each \
         task of the model its grade and `<task>_score`, the calibrated probability of that grade (where a least score was asked for, a grade \
         below it is NULL), and `evidence`, the sentences that were read. `unnest` makes a row of each. A report that speaks of no segment has an empty list, and \
         NULL has NULL.",
        "extract_findings(text)",
    )
    .with_sql_example(
        "```sql
> SELECT f['level'] AS level, f['disc'] AS disc
  FROM (SELECT unnest(extract_findings('L4-5: disc bulge. L5-S1: normal.')) AS f);
+-------+--------+
| level | disc   |
+-------+--------+
| L4-L5 | bulge  |
| L5-S1 | normal |
+-------+--------+
```",
    )
    .with_argument("text", "The report's text, of any string type.")
    .with_related_udf("explain_findings")
    .with_related_udf("report_segments")
    .with_related_udf("hl7_reports")
    .build()
}
