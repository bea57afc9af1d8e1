//! `linear_cka_interval(x, y)`: debiased linear CKA with a confidence interval.

use super::aggregate::{ALIGNMENT, Aggregate, Measure};
use datafusion::logical_expr::{AggregateUDF, Documentation};

const NAME: &str = "linear_cka_interval";

/// `linear_cka_interval(x, y) → Struct<estimate, lower, upper>`, an aggregate.
pub fn linear_cka_interval_udaf() -> AggregateUDF {
    Aggregate { name: NAME, measure: Measure::Interval, documentation: documentation() }.into_udaf()
}

fn documentation() -> Documentation {
    Documentation::builder(
        ALIGNMENT,
        "`linear_cka_debiased` with a 95 % confidence interval, a struct of `estimate`, `lower` and `upper`: rows are parted into \
         20 blocks by their values, and the interval comes from the estimates without each block (the jackknife, with Student's \
         distribution). It takes rows to be drawn independently: ask it of one row a report where segments of a report are alike. \
         Memory is 20 times that of `linear_cka_debiased`. NULL where rows fall into fewer than three blocks, or an estimate is not \
         determined.",
        "linear_cka_interval(x, y)",
    )
    .with_sql_example(
        "```sql
> SELECT round(i['estimate'], 3) AS cka, round(i['lower'], 3) AS lower, round(i['upper'], 3) AS upper
  FROM (SELECT linear_cka_interval([sin(v * 1.3), cos(v * 0.7)], [sin(v * 1.3), sin(v * 2.9)]) AS i
        FROM (SELECT value AS v FROM generate_series(1, 500)));
+-------+-------+-------+
| cka   | lower | upper |
+-------+-------+-------+
| 0.498 | 0.46  | 0.537 |
+-------+-------+-------+
```",
    )
    .with_argument("x", "A list of Float32 or Float64, as long in every row. Rows where it is NULL or holds a NULL are passed over.")
    .with_argument("y", "The same; x and y may be of different widths.")
    .with_related_udf("linear_cka_debiased")
    .build()
}
