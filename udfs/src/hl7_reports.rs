//! `hl7_reports(message)`: all reports of an HL7 v2 message.

use crate::engine::{MessageReader, Report};
use crate::exec::{Argument, Call, Function, SECTION};
use crate::rows::{list_of, lists, report_columns, report_fields};
use arrow::array::ArrayRef;
use datafusion::common::Result;
use datafusion::logical_expr::{Documentation, ScalarUDF};
use std::sync::Arc;

/// `hl7_reports(message) → List<Struct<…>>`, the struct being that of `hl7_report`.
pub fn hl7_reports_udf(reader: Arc<dyn MessageReader>) -> ScalarUDF {
    Function {
        name: "hl7_reports",
        arguments: &[Argument::Message],
        required: 1,
        returns: Box::new(|_| Ok(list_of(report_fields()))),
        kernel: Box::new(move |call| answer(call, reader.as_ref())),
        documentation: documentation(),
    }
    .into_udf()
}

fn answer(call: &Call, reader: &dyn MessageReader) -> Result<ArrayRef> {
    let read: Vec<Option<Vec<Report>>> =
        call.messages(0)?.into_iter().map(|message| reader.reports(message?).ok()).collect();
    let readable: Vec<Option<()>> = read.iter().map(|reports| reports.as_ref().map(|_| ())).collect();
    let answers: Vec<Vec<Report>> = read.into_iter().flatten().collect();
    let reports: Vec<Option<&Report>> = answers.iter().flatten().map(Some).collect();
    lists(&readable, &answers, report_fields(), report_columns(&reports))
}

fn documentation() -> Documentation {
    Documentation::builder(
        SECTION,
        "All reports of an HL7 v2 message, one a study, as a list of the structs of `hl7_report`. NULL when the message cannot be \
         read or holds no report: `hl7_error` says why.",
        "hl7_reports(message)",
    )
    .with_sql_example(
        "```sql
> SELECT r['report_id'] AS report_id, r['text'] AS text
  FROM (SELECT unnest(hl7_reports(E'MSH|^~\\\\&|||||||ORU^R01|1|P|2.5\\rOBR|1||A1|72148^MRI\\rOBX|1|TX|&GDT||Normal L4-5.||||||F\\rOBR|2||A2|72141^MRI\\rOBX|1|TX|&GDT||Normal C5-6.||||||F')) AS r);
+-----------+--------------+
| report_id | text         |
+-----------+--------------+
| A1        | Normal L4-5. |
| A2        | Normal C5-6. |
+-----------+--------------+
```",
    )
    .with_argument("message", "One message, as text or as bytes.")
    .with_related_udf("hl7_report")
    .with_related_udf("hl7_error")
    .build()
}
