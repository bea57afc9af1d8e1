//! `gradient_cosine(g, h)`: the mean cosine of two gradients.

use super::aggregate::{ALIGNMENT, Aggregate, Measure};
use super::cosines::Cosines;
use datafusion::logical_expr::{AggregateUDF, Documentation};

const NAME: &str = "gradient_cosine";

/// `gradient_cosine(g, h) → Float64`, an aggregate.
pub fn gradient_cosine_udaf() -> AggregateUDF {
    Aggregate { name: NAME, measure: Measure::Cosines(Cosines::mean), documentation: documentation() }.into_udaf()
}

fn documentation() -> Documentation {
    Documentation::builder(
        ALIGNMENT,
        "The mean over rows of the cosine of two gradients, -1 to 1: above 0 where a step that helps one task helps the other. \
         A row of which one vector is zero has no cosine and is passed over. NULL where no row has one.",
        "gradient_cosine(g, h)",
    )
    .with_sql_example(
        "```sql
> SELECT round(gradient_cosine(g, h), 4) AS cosine
  FROM (VALUES ([1.0, 0.0], [2.0, 0.0]), ([3.0, 4.0], [4.0, 3.0]), ([1.0, 1.0], [-1.0, 1.0])) AS t(g, h);
+--------+
| cosine |
+--------+
| 0.6533 |
+--------+
```",
    )
    .with_argument("g", "A list of Float32 or Float64. Rows where it is NULL or holds a NULL are passed over.")
    .with_argument("h", "The same, as long as g in each row.")
    .with_related_udf("gradient_conflict_rate")
    .build()
}
