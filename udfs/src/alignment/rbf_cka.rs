//! `rbf_cka(x, y [, fraction])`: centred kernel alignment with Gaussian kernels.

use super::aggregate::{ALIGNMENT, Aggregate, Measure};
use super::kernel::Sample;
use datafusion::logical_expr::{AggregateUDF, Documentation};

const NAME: &str = "rbf_cka";

/// `rbf_cka(x, y [, fraction]) → Float64`, an aggregate.
pub fn rbf_cka_udaf() -> AggregateUDF {
    Aggregate {
        name: NAME,
        measure: Measure::Sample { answer: Sample::rbf_cka, share: 0.5 },
        documentation: documentation(),
    }
    .into_udaf()
}

fn documentation() -> Documentation {
    Documentation::builder(
        ALIGNMENT,
        "How alike two representations of the same rows are, near neighbours counting more: centred kernel alignment with \
         Gaussian kernels `exp(-d² / 2σ²)` of distances d, whose width σ is `fraction` times the median distance between rows (Kornblith et al. 2019; the biased \
         estimator, as there). Kernels need all pairs of rows, so of more than 2,048 distinct rows a sample of that many is \
         taken, by a hash of their values: the same in any order and partitioning. NULL for fewer than two distinct rows, or where \
         a side does not vary.",
        "rbf_cka(x, y [, fraction])",
    )
    .with_sql_example(
        "```sql
> SELECT round(rbf_cka(x, y), 4) AS cka, round(rbf_cka(x, y, 0.2), 4) AS near
  FROM (VALUES ([1.0, 0.0], [0.1, 2.1]), ([0.0, 1.0], [1.9, 0.0]),
               ([-1.0, 1.0], [2.1, -2.0]), ([2.0, 2.0], [3.8, 4.1])) AS t(x, y);
+--------+--------+
| cka    | near   |
+--------+--------+
| 0.9994 | 0.9999 |
+--------+--------+
```",
    )
    .with_argument("x", "A list of Float32 or Float64, as long in every row. Rows where it is NULL or holds a NULL are passed over.")
    .with_argument("y", "The same; x and y may be of different widths.")
    .with_argument("fraction", "A constant above 0 and up to 1; 0.5 where it is not given.")
    .with_related_udf("linear_cka")
    .build()
}
