//! `hl7_field(message, path)`: a field of an HL7 v2 message.

use crate::engine::MessageReader;
use crate::exec::{Argument, Call, Function, SECTION, literal_text};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::{Documentation, ScalarUDF};
use std::sync::Arc;

const NAME: &str = "hl7_field";

/// `hl7_field(message, path) → Utf8`.
pub fn hl7_field_udf(reader: Arc<dyn MessageReader>) -> ScalarUDF {
    let planned = Arc::clone(&reader);
    Function {
        name: NAME,
        arguments: &[Argument::Message, Argument::Text],
        required: 2,
        returns: Box::new(move |literals| returns(planned.as_ref(), literals)),
        kernel: Box::new(move |call| answer(call, reader.as_ref())),
        documentation: documentation(),
    }
    .into_udf()
}

/// A literal path is checked when the query is planned, so that a slip shows even over an empty table.
fn returns(reader: &dyn MessageReader, literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    if let Some(path) = literals.get(1).copied().flatten().and_then(literal_text) {
        field(reader, b"", path)?;
    }
    Ok(DataType::Utf8)
}

fn field(reader: &dyn MessageReader, message: &[u8], path: &str) -> Result<Option<String>> {
    reader.field(message, path).map_err(|error| exec_datafusion_err!("{NAME}: argument 2: {error}"))
}

fn answer(call: &Call, reader: &dyn MessageReader) -> Result<ArrayRef> {
    let rows = call.messages(0)?.into_iter().zip(call.texts(1)?);
    let value = |(message, path): (Option<&[u8]>, Option<&str>)| match message.zip(path) {
        Some((message, path)) => field(reader, message, path),
        None => Ok(None),
    };
    Ok(Arc::new(rows.map(value).collect::<Result<StringArray>>()?))
}

fn documentation() -> Documentation {
    Documentation::builder(
        SECTION,
        "The text at a path of an HL7 v2 message, escapes decoded: `PID-5.1` is the first component of field 5 of the first PID \
         segment, `OBX[2]-5` field 5 of the second OBX, `PID-3[2].1` the first component of its second repetition. NULL where the \
         message has nothing there or cannot be read; a path that is none is an error.",
        "hl7_field(message, path)",
    )
    .with_sql_example(
        "```sql
> SELECT hl7_field(E'MSH|^~\\\\&|||||||ADT^A01|42|P|2.5', 'MSH-9.2') AS event;
+-------+
| event |
+-------+
| A01   |
+-------+
```",
    )
    .with_argument("message", "One message, as text or as bytes.")
    .with_argument("path", "HL7 path notation: `SEG[n]-field[repetition].component.subcomponent`.")
    .with_related_udf("hl7_report")
    .build()
}
