//! `linear_cka_debiased(x, y)`: linear centred kernel alignment without its bias at few rows.

use super::aggregate::{ALIGNMENT, Aggregate, Measure};
use super::similarity::linear_cka_debiased;
use datafusion::logical_expr::{AggregateUDF, Documentation};

const NAME: &str = "linear_cka_debiased";

/// `linear_cka_debiased(x, y) → Float64`, an aggregate.
pub fn linear_cka_debiased_udaf() -> AggregateUDF {
    Aggregate {
        name: NAME,
        measure: Measure::Moments { answer: |moments, _| Ok(linear_cka_debiased(moments)), share: None },
        documentation: documentation(),
    }
    .into_udaf()
}

fn documentation() -> Documentation {
    Documentation::builder(
        ALIGNMENT,
        "How alike two representations of the same rows are, however few: linear centred kernel alignment, `HSIC(X, Y) / √(HSIC(X, X) \
         HSIC(Y, Y))`, with the unbiased estimator of HSIC (Song et al. 2012), near 0 for unrelated data whatever the number of rows, and so sometimes a little \
         below it. NULL for fewer than four rows, or where a side does not vary.",
        "linear_cka_debiased(x, y)",
    )
    .with_sql_example(
        "```sql
> SELECT round(linear_cka_debiased(x, y), 4) AS cka
  FROM (VALUES ([1.0, 0.0], [0.1, 2.1]), ([0.0, 1.0], [1.9, 0.0]),
               ([-1.0, 1.0], [2.1, -2.0]), ([2.0, 2.0], [3.8, 4.1])) AS t(x, y);
+--------+
| cka    |
+--------+
| 0.9959 |
+--------+
```",
    )
    .with_argument("x", "A list of Float32 or Float64, as long in every row. Rows where it is NULL or holds a NULL are passed over.")
    .with_argument("y", "The same; x and y may be of different widths.")
    .with_related_udf("linear_cka")
    .build()
}
