//! `gradient_conflict_rate(g, h)`: how often two gradients point against each other.

use super::aggregate::{ALIGNMENT, Aggregate, Measure};
use super::cosines::Cosines;
use datafusion::logical_expr::{AggregateUDF, Documentation};

const NAME: &str = "gradient_conflict_rate";

/// `gradient_conflict_rate(g, h) → Float64`, an aggregate.
pub fn gradient_conflict_rate_udaf() -> AggregateUDF {
    Aggregate { name: NAME, measure: Measure::Cosines(Cosines::conflicts), documentation: documentation() }.into_udaf()
}

fn documentation() -> Documentation {
    Documentation::builder(
        ALIGNMENT,
        "The share of rows where the cosine of two gradients is negative, 0 to 1: there a step that helps one task harms the \
         other (Yu et al. 2020). A row of which one vector is zero has no cosine and is passed over. NULL where no row has one.",
        "gradient_conflict_rate(g, h)",
    )
    .with_sql_example(
        "```sql
> SELECT gradient_conflict_rate(g, h) AS conflicts
  FROM (VALUES ([1.0, 0.0], [2.0, 0.0]), ([3.0, 4.0], [4.0, 3.0]),
               ([1.0, 1.0], [-1.0, 1.0]), ([1.0, 2.0], [-1.0, -1.0])) AS t(g, h);
+-----------+
| conflicts |
+-----------+
| 0.25      |
+-----------+
```",
    )
    .with_argument("g", "A list of Float32 or Float64. Rows where it is NULL or holds a NULL are passed over.")
    .with_argument("h", "The same, as long as g in each row.")
    .with_related_udf("gradient_cosine")
    .build()
}
