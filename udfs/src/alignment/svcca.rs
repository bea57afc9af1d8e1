//! `svcca(x, y [, variance])`: the mean canonical correlation of two representations' leading directions.

use super::aggregate::{ALIGNMENT, Aggregate, Measure};
use super::canonical::svcca;
use datafusion::logical_expr::{AggregateUDF, Documentation};

const NAME: &str = "svcca";

/// The share of variance that the leading directions hold where none is given, as in the paper.
const VARIANCE: f64 = 0.99;

/// `svcca(x, y [, variance]) → Float64`, an aggregate.
pub fn svcca_udaf() -> AggregateUDF {
    let measure = Measure::Moments { answer: svcca, share: Some(VARIANCE) };
    Aggregate { name: NAME, measure, documentation: documentation() }.into_udaf()
}

fn documentation() -> Documentation {
    Documentation::builder(
        ALIGNMENT,
        "The mean canonical correlation of two representations' leading directions, 0 to 1: of those principal directions of each \
         that hold a share of its variance (Raghu et al. 2017). NULL where a side does not vary, and where there are no more rows \
         than directions of both sides: some correlations are then 1 whatever the data.",
        "svcca(x, y [, variance])",
    )
    .with_sql_example(
        "```sql
> SELECT round(svcca(x, y, 0.9), 4) AS similarity
  FROM (VALUES ([1.0, 0.0], [0.1, 2.1]), ([0.0, 1.0], [1.9, 0.0]),
               ([-1.0, 1.0], [2.1, -2.0]), ([2.0, 2.0], [3.8, 4.1]), ([0.5, 1.0], [2.0, 1.5])) AS t(x, y);
+------------+
| similarity |
+------------+
| 0.9975     |
+------------+
```",
    )
    .with_argument("x", "A list of Float32 or Float64, as long in every row. Rows where it is NULL or holds a NULL are passed over.")
    .with_argument("y", "The same; x and y may be of different widths.")
    .with_argument("variance", "The share of variance to hold, a constant above 0 and up to 1; 0.99 where it is not given.")
    .with_related_udf("pwcca")
    .build()
}
