//! `foramen_model()`: which model answers.

use crate::engine::ReportModel;
use crate::exec::{Call, Function, SECTION};
use crate::rows::failed;
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{Documentation, ScalarUDF};
use std::sync::Arc;

const NAME: &str = "foramen_model";

/// `foramen_model() → Utf8`.
pub fn foramen_model_udf(model: Arc<dyn ReportModel>) -> ScalarUDF {
    Function {
        name: NAME,
        arguments: &[],
        required: 0,
        returns: Box::new(|_| Ok(DataType::Utf8)),
        kernel: Box::new(move |call| answer(call, model.as_ref())),
        documentation: documentation(),
    }
    .into_udf()
}

fn answer(call: &Call, model: &dyn ReportModel) -> Result<ArrayRef> {
    let info = model.info().map_err(|error| failed(NAME, &error))?;
    Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&info.id, call.rows))))
}

fn documentation() -> Documentation {
    Documentation::builder(
        SECTION,
        "The model that answers in this session: `name@version` and the first 12 hex digits of its package's sha256. It is the \
         column `model` of finding rows.",
        "foramen_model()",
    )
    .with_sql_example(
        "```sql
> SELECT split_part(foramen_model(), '@', 1) AS name;
+-------+
| name  |
+-------+
| spine |
+-------+
```",
    )
    .with_related_udf("extract_findings")
    .build()
}
