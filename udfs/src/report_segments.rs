//! `report_segments(text)`: the motion segments of a report, without grades.

use crate::engine::{ReportModel, Segment};
use crate::exec::{Argument, Call, Function, SECTION};
use crate::rows::{list_of, lists, segment_columns, text};
use arrow::array::ArrayRef;
use arrow::datatypes::Fields;
use datafusion::common::Result;
use datafusion::logical_expr::{Documentation, ScalarUDF};
use std::sync::Arc;

/// `report_segments(text) → List<Struct<region, level, evidence>>`.
pub fn report_segments_udf(model: Arc<dyn ReportModel>) -> ScalarUDF {
    Function {
        name: "report_segments",
        arguments: &[Argument::Text],
        required: 1,
        returns: Box::new(|_| Ok(list_of(fields()))),
        kernel: Box::new(move |call| answer(call, model.as_ref())),
        documentation: documentation(),
    }
    .into_udf()
}

fn fields() -> Fields {
    Fields::from(vec![text("region"), text("level"), text("evidence")])
}

fn answer(call: &Call, model: &dyn ReportModel) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let found: Vec<Vec<Segment>> = texts.iter().copied().flatten().map(|text| model.segments(text)).collect();
    let columns = segment_columns(found.iter().flatten());
    lists(&texts, &found, fields(), columns.into())
}

fn documentation() -> Documentation {
    Documentation::builder(
        SECTION,
        "The motion segments that a report speaks of, in anatomical order, as a list of structs `region`, `level`, `evidence`: \
         what `extract_findings` would grade. It needs no model.",
        "report_segments(text)",
    )
    .with_sql_example(
        "```sql
> SELECT s['region'] AS region, s['level'] AS level, s['evidence'] AS evidence
  FROM (SELECT unnest(report_segments('Disc bulge at L4-5. Normal C5-6.')) AS s);
+----------+-------+---------------------+
| region   | level | evidence            |
+----------+-------+---------------------+
| cervical | C5-C6 | Normal C5-6.        |
| lumbar   | L4-L5 | Disc bulge at L4-5. |
+----------+-------+---------------------+
```",
    )
    .with_argument("text", "The report's text, of any string type.")
    .with_related_udf("extract_findings")
    .build()
}
