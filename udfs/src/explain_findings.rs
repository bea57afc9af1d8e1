//! `explain_findings(text)`: the sentences that each grade hangs on.

use crate::engine::{Explanation, ReportModel};
use crate::exec::{Argument, Call, Function, SECTION};
use crate::rows::{failed, list_of, lists, text};
use arrow::array::{ArrayRef, BooleanArray, Float32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{Documentation, ScalarUDF};
use std::ops::Range;
use std::sync::Arc;

const NAME: &str = "explain_findings";

/// `explain_findings(text) → List<Struct<region, level, task, grade, score, sentences, grade_without, decisive>>`, `sentences` being
/// `List<Struct<start, end, text>>`.
pub fn explain_findings_udf(model: Arc<dyn ReportModel>) -> ScalarUDF {
    Function {
        name: NAME,
        arguments: &[Argument::Text],
        required: 1,
        returns: Box::new(|_| Ok(list_of(fields()))),
        kernel: Box::new(move |call| answer(call, model.as_ref())),
        documentation: documentation(),
    }
    .into_udf()
}

fn sentence_fields() -> Fields {
    let place = |name: &str| Field::new(name, DataType::Int64, true);
    vec![place("start"), place("end"), text("text")].into()
}

fn fields() -> Fields {
    vec![
        text("region"),
        text("level"),
        text("task"),
        text("grade"),
        Field::new("score", DataType::Float32, true),
        Field::new("sentences", list_of(sentence_fields()), true),
        text("grade_without"),
        Field::new("decisive", DataType::Boolean, true),
    ]
    .into()
}

fn answer(call: &Call, model: &dyn ReportModel) -> Result<ArrayRef> {
    let info = model.info().map_err(|error| failed(NAME, &error))?;
    let texts = call.texts(0)?;
    let present = || texts.iter().copied().flatten();
    let found: Vec<Vec<Explanation>> =
        present().map(|text| model.explain(text).map_err(|error| failed(NAME, &error))).collect::<Result<_>>()?;
    let rows = || found.iter().flatten();
    let foreign = || exec_datafusion_err!("{NAME}: the model's answer is not of its own schema");
    let column = |read: &dyn Fn(&Explanation) -> Option<String>| -> Result<ArrayRef> {
        let values: StringArray = rows().map(|row| read(row).map(Some).ok_or_else(foreign)).collect::<Result<_>>()?;
        Ok(Arc::new(values))
    };
    let grade = |task: usize, grade: u8| info.tasks.get(task)?.grades.get(usize::from(grade)).cloned();
    let quoted: Vec<Vec<Quoted<'_>>> = present()
        .zip(&found)
        .flat_map(|(text, rows)| rows.iter().map(move |row| quotes(text, row)))
        .collect::<Option<_>>()
        .ok_or_else(foreign)?;
    let each = || quoted.iter().flatten();
    let places =
        |read: fn(&Quoted<'_>) -> i64| -> ArrayRef { Arc::new(each().map(read).map(Some).collect::<Int64Array>()) };
    let words: StringArray = each().map(|quoted| Some(quoted.text)).collect();
    let parts = vec![places(|q| q.start), places(|q| q.end), Arc::new(words) as ArrayRef];
    let sentences = lists(&vec![Some(()); quoted.len()], &quoted, sentence_fields(), parts)?;
    let columns: Vec<ArrayRef> = vec![
        column(&|row| Some(row.region.clone()))?,
        column(&|row| Some(row.level.clone()))?,
        column(&|row| Some(info.tasks.get(row.task)?.name.clone()))?,
        column(&|row| grade(row.task, row.grade))?,
        Arc::new(rows().map(|row| Some(row.score)).collect::<Float32Array>()),
        sentences,
        column(&|row| grade(row.task, row.without))?,
        Arc::new(rows().map(|row| Some(row.without != row.grade)).collect::<BooleanArray>()),
    ];
    lists(&texts, &found, fields(), columns)
}

/// A sentence and its place in the text, in characters.
struct Quoted<'t> {
    start: i64,
    end: i64,
    text: &'t str,
}

/// The sentences of an explanation; `None` where one is not of the text.
fn quotes<'t>(text: &'t str, row: &Explanation) -> Option<Vec<Quoted<'t>>> {
    let quote = |range: &Range<usize>| {
        let quoted = text.get(range.clone())?;
        let start = text.get(..range.start)?.chars().count() as i64;
        Some(Quoted { start, end: start + quoted.chars().count() as i64, text: quoted })
    };
    row.sentences.iter().map(quote).collect()
}

fn documentation() -> Documentation {
    Documentation::builder(
        SECTION,
        "For each grade above the lowest that `extract_findings` gives, the sentences that it hangs on: a list of structs `region`, \
         `level`, `task`, `grade`, `score`, `sentences` (a list of structs `start`, `end`, `text`, the one that mattered most \
         first; `start` and `end` count characters from 0, so that `substr(report, start + 1, end - start)` is `text`), \
         `grade_without` and `decisive`. The model has read the segment again without these sentences and said `grade_without`; \
         `decisive` is true where that is another grade, and false where the grade stands without any four of them. A report is \
         read once more for each of its sentences: for looking into rows, not for whole archives.",
        "explain_findings(text)",
    )
    .with_sql_example(
        "```sql
> SELECT e['level'] AS level, e['task'] AS task, e['sentences'][1]['text'] AS sentence, e['grade_without'] AS without
  FROM (SELECT unnest(explain_findings('L4-5: Disc bulge. The canal is severely narrowed.')) AS e);
+-------+----------------+---------------------------------+---------+
| level | task           | sentence                        | without |
+-------+----------------+---------------------------------+---------+
| L4-L5 | disc           | L4-5: Disc bulge.               | normal  |
| L4-L5 | canal_stenosis | The canal is severely narrowed. | none    |
+-------+----------------+---------------------------------+---------+
```",
    )
    .with_argument("text", "The report's text, of any string type.")
    .with_related_udf("extract_findings")
    .build()
}
