//! `hl7_report(message)`: the first report of an HL7 v2 message.

use crate::engine::{MessageReader, Report};
use crate::exec::{Argument, Call, Function, SECTION};
use crate::rows::{report_columns, report_fields};
use arrow::array::{ArrayRef, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{Documentation, ScalarUDF};
use std::sync::Arc;

/// `hl7_report(message) → Struct<report_id, linked_ids, message_control_id, patient_id, report_status, reported_at, exam, text>`.
pub fn hl7_report_udf(reader: Arc<dyn MessageReader>) -> ScalarUDF {
    Function {
        name: "hl7_report",
        arguments: &[Argument::Message],
        required: 1,
        returns: Box::new(|_| Ok(DataType::Struct(report_fields()))),
        kernel: Box::new(move |call| answer(call, reader.as_ref())),
        documentation: documentation(),
    }
    .into_udf()
}

fn answer(call: &Call, reader: &dyn MessageReader) -> Result<ArrayRef> {
    let first = |message: Option<&[u8]>| reader.reports(message?).ok()?.into_iter().next();
    let reports: Vec<Option<Report>> = call.messages(0)?.into_iter().map(first).collect();
    let nulls: NullBuffer = reports.iter().map(Option::is_some).collect();
    let reports: Vec<Option<&Report>> = reports.iter().map(Option::as_ref).collect();
    Ok(Arc::new(StructArray::try_new(report_fields(), report_columns(&reports), Some(nulls))?))
}

fn documentation() -> Documentation {
    Documentation::builder(
        SECTION,
        "The first report of an HL7 v2 message: a struct of `report_id`, `linked_ids`, `message_control_id`, `patient_id`, \
         `report_status`, `reported_at`, `exam` and `text`. NULL when the message cannot be read or holds no report: `hl7_error` \
         says why. A message may hold several studies: `hl7_reports` gives them all.",
        "hl7_report(message)",
    )
    .with_sql_example(
        "```sql
> SELECT r['report_id'] AS report_id, r['report_status'] AS status, r['text'] AS text
  FROM (SELECT hl7_report(E'MSH|^~\\\\&|||||||ORU^R01|1|P|2.5\\rOBR|1||A1|72148^MRI\\rOBX|1|TX|&GDT||Normal L4-5.||||||F') AS r);
+-----------+--------+--------------+
| report_id | status | text         |
+-----------+--------+--------------+
| A1        | final  | Normal L4-5. |
+-----------+--------+--------------+
```",
    )
    .with_argument("message", "One message, as text or as bytes.")
    .with_related_udf("hl7_reports")
    .with_related_udf("hl7_error")
    .build()
}
