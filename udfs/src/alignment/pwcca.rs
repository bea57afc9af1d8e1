//! `pwcca(x, y)`: the canonical correlations of two representations, weighed by their part in the first.

use super::aggregate::{ALIGNMENT, Aggregate, Measure};
use super::canonical::pwcca;
use datafusion::logical_expr::{AggregateUDF, Documentation};

const NAME: &str = "pwcca";

/// `pwcca(x, y) → Float64`, an aggregate.
pub fn pwcca_udaf() -> AggregateUDF {
    let measure = Measure::Moments { answer: |moments, _| pwcca(moments), share: None };
    Aggregate { name: NAME, measure, documentation: documentation() }.into_udaf()
}

fn documentation() -> Documentation {
    Documentation::builder(
        ALIGNMENT,
        "The mean canonical correlation of two representations, 0 to 1, each correlation weighed by how much of x its direction \
         accounts for: `Σ αρ / Σ α` over the correlations ρ, α the sum of `|⟨h, xⱼ⟩|` over the columns of x for the canonical \
         variate h (Morcos et al. 2018). `pwcca(x, y)` and `pwcca(y, x)` differ. Where several correlations are equal, the weights \
         are not determined, and neither is the answer. NULL where a side does not vary, and where there are no more rows than \
         directions of both sides: some correlations are then 1 whatever the data.",
        "pwcca(x, y)",
    )
    .with_sql_example(
        "```sql
> SELECT round(pwcca(x, y), 4) AS similarity
  FROM (VALUES ([1.0, 0.0], [0.1, 2.1]), ([0.0, 1.0], [1.9, 0.0]),
               ([-1.0, 1.0], [2.1, -2.0]), ([2.0, 2.0], [3.8, 4.1]), ([0.5, 1.0], [2.0, 1.5])) AS t(x, y);
+------------+
| similarity |
+------------+
| 0.9973     |
+------------+
```",
    )
    .with_argument("x", "A list of Float32 or Float64, as long in every row. Rows where it is NULL or holds a NULL are passed over.")
    .with_argument("y", "The same; x and y may be of different widths.")
    .with_related_udf("svcca")
    .build()
}
