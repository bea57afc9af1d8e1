//! `linear_cka(x, y)`: linear centred kernel alignment of two representations.

use super::aggregate::{ALIGNMENT, Aggregate, Measure};
use super::similarity::linear_cka;
use datafusion::logical_expr::{AggregateUDF, Documentation};

const NAME: &str = "linear_cka";

/// `linear_cka(x, y) → Float64`, an aggregate.
pub fn linear_cka_udaf() -> AggregateUDF {
    Aggregate {
        name: NAME,
        measure: Measure::Moments { answer: |moments, _| Ok(linear_cka(moments)), share: None },
        documentation: documentation(),
    }
    .into_udaf()
}

fn documentation() -> Documentation {
    Documentation::builder(
        ALIGNMENT,
        "How alike two representations of the same rows are: linear centred kernel alignment, `|XᵀY|² / (|XᵀX| |YᵀY|)` in \
         Frobenius norms of the centred tables (Kornblith et al. 2019): 1 where one is the other turned and scaled, towards 0 \
         where they have nothing in common. Unrelated data of few rows score high: about width / (rows + width); \
         `linear_cka_debiased` does not. NULL for fewer than two rows, or where a side does not vary.",
        "linear_cka(x, y)",
    )
    .with_sql_example(
        "```sql
> SELECT round(linear_cka(x, y), 4) AS cka
  FROM (VALUES ([1.0, 0.0], [0.1, 2.1]), ([0.0, 1.0], [1.9, 0.0]),
               ([-1.0, 1.0], [2.1, -2.0]), ([2.0, 2.0], [3.8, 4.1])) AS t(x, y);
+--------+
| cka    |
+--------+
| 0.9977 |
+--------+
```",
    )
    .with_argument("x", "A list of Float32 or Float64, as long in every row. Rows where it is NULL or holds a NULL are passed over.")
    .with_argument("y", "The same; x and y may be of different widths.")
    .with_related_udf("linear_cka_debiased")
    .build()
}
