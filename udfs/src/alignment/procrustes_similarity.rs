//! `procrustes_similarity(x, y)`: how well one representation can be turned onto another.

use super::aggregate::{ALIGNMENT, Aggregate, Measure};
use super::canonical::procrustes;
use datafusion::logical_expr::{AggregateUDF, Documentation};

const NAME: &str = "procrustes_similarity";

/// `procrustes_similarity(x, y) → Float64`, an aggregate.
pub fn procrustes_similarity_udaf() -> AggregateUDF {
    let measure = Measure::Moments { answer: |moments, _| procrustes(moments), share: None };
    Aggregate { name: NAME, measure, documentation: documentation() }.into_udaf()
}

fn documentation() -> Documentation {
    Documentation::builder(
        ALIGNMENT,
        "How well one representation can be turned onto another of the same rows: `|XᵀY|∗ / (|X| |Y|)`, the nuclear norm over \
         Frobenius norms of the centred tables, which is 1 - d²/2 for their Procrustes distance d at norm 1 (Ding et al. 2021). 1 \
         where one is the other turned and scaled. NULL for fewer than two rows, or where a side does not vary.",
        "procrustes_similarity(x, y)",
    )
    .with_sql_example(
        "```sql
> SELECT round(procrustes_similarity(x, y), 4) AS similarity
  FROM (VALUES ([1.0, 0.0], [0.1, 2.1]), ([0.0, 1.0], [1.9, 0.0]),
               ([-1.0, 1.0], [2.1, -2.0]), ([2.0, 2.0], [3.8, 4.1])) AS t(x, y);
+------------+
| similarity |
+------------+
| 0.9989     |
+------------+
```",
    )
    .with_argument("x", "A list of Float32 or Float64, as long in every row. Rows where it is NULL or holds a NULL are passed over.")
    .with_argument("y", "The same; x and y may be of different widths.")
    .with_related_udf("linear_cka")
    .build()
}
