//! `hl7_error(message)`: why an HL7 v2 message yields no report.

use crate::engine::MessageReader;
use crate::exec::{Argument, Call, Function, SECTION};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{Documentation, ScalarUDF};
use std::sync::Arc;

/// `hl7_error(message) → Utf8`.
pub fn hl7_error_udf(reader: Arc<dyn MessageReader>) -> ScalarUDF {
    Function {
        name: "hl7_error",
        arguments: &[Argument::Message],
        required: 1,
        returns: Box::new(|_| Ok(DataType::Utf8)),
        kernel: Box::new(move |call| answer(call, reader.as_ref())),
        documentation: documentation(),
    }
    .into_udf()
}

fn answer(call: &Call, reader: &dyn MessageReader) -> Result<ArrayRef> {
    let reason = |message: Option<&[u8]>| reader.reports(message?).err().map(|error| error.to_string());
    Ok(Arc::new(call.messages(0)?.into_iter().map(reason).collect::<StringArray>()))
}

fn documentation() -> Documentation {
    Documentation::builder(
        SECTION,
        "Why `hl7_report` and `hl7_reports` are NULL for a message: a stable code and a position, never the message's content. NULL \
         when the message is read, and for NULL.",
        "hl7_error(message)",
    )
    .with_sql_example(
        "```sql
> SELECT hl7_error('PID|1||4711') LIKE 'no-msh%' AS no_header;
+-----------+
| no_header |
+-----------+
| true      |
+-----------+
```",
    )
    .with_argument("message", "One message, as text or as bytes.")
    .with_related_udf("hl7_report")
    .build()
}
