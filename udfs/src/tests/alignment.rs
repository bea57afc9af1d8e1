//! The aggregates in sessions: every layout, partitions, groups, and what is refused.

use super::*;
use arrow::array::{AsArray, Float64Array};
use arrow::datatypes::Float64Type;

const FUNCTIONS: [&str; 8] = [
    "linear_cka",
    "linear_cka_debiased",
    "svcca",
    "pwcca",
    "procrustes_similarity",
    "rbf_cka",
    "gradient_cosine",
    "gradient_conflict_rate",
];

/// A session with a table `t` of `id`, a group `g` and vectors `x` and `y` of three values, some rows without.
async fn vectors(partitions: usize, batch: usize) -> SessionContext {
    let (context, _) = session(
        SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(batch)
            .with_repartition_file_min_size(1),
    );
    let sql = "CREATE TABLE t AS SELECT i AS id, i % 7 AS g,
        CASE WHEN i % 11 = 3 THEN NULL WHEN i % 11 = 5 THEN [1.0, NULL, 2.0]
             ELSE [sin(i * 1.3), cos(i * i * 0.7), sin(i * 2.9)] END AS x,
        CASE WHEN i % 13 = 4 THEN NULL ELSE [cos(i * 1.3) + sin(i * 1.3), sin(i * 0.3), sin(i * 2.9) - 0.2] END AS y
        FROM (SELECT CAST(value AS DOUBLE) AS d, value AS i FROM generate_series(1, 3000))";
    context.sql(sql).await.unwrap().collect().await.unwrap();
    context
}

fn calls(arguments: &str) -> String {
    FUNCTIONS.map(|name| format!("{name}({arguments})")).join(", ")
}

/// The Float64 columns of a query, row after row.
async fn numbers(context: &SessionContext, sql: &str) -> Vec<Option<f64>> {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let mut numbers = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let columns = batch.columns().iter().filter_map(|column| column.as_primitive_opt::<Float64Type>());
            numbers.extend(columns.map(|column: &Float64Array| column.iter().nth(row).flatten()));
        }
    }
    numbers
}

fn same(a: &[Option<f64>], b: &[Option<f64>]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a.unwrap() - b.unwrap()).abs() < 1e-9, "{a:?} and {b:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_batches_and_groups_change_nothing() {
    let one = vectors(1, 8192).await;
    let whole = format!("SELECT {} FROM t", calls("x, y"));
    let groups = format!("SELECT g, {} FROM t GROUP BY g ORDER BY g", calls("x, y"));
    let (expected, by_group) = (numbers(&one, &whole).await, numbers(&one, &groups).await);
    assert_eq!((expected.len(), by_group.len()), (8, 56));
    for (partitions, batch) in [(4, 100), (3, 7), (1, 1)] {
        let context = vectors(partitions, batch).await;
        if partitions > 1 {
            assert!(rows(&context, &format!("EXPLAIN {whole}")).await.contains("mode=Final"));
            assert!(rows(&context, &format!("EXPLAIN {groups}")).await.contains("mode=FinalPartitioned"));
        }
        same(&numbers(&context, &whole).await, &expected);
        same(&numbers(&context, &groups).await, &by_group);
    }
    // A group alone is that group.
    for g in 0..7 {
        let alone = numbers(&one, &format!("{whole} WHERE g = {g}")).await;
        same(&alone, &by_group[8 * g..8 * g + 8]);
    }
    let passed_over = format!("{whole} WHERE x IS NOT NULL AND y IS NOT NULL AND x[2] IS NOT NULL");
    same(&numbers(&one, &passed_over).await, &expected);
}

#[tokio::test]
async fn every_layout_gives_the_same_answer() {
    let context = vectors(2, 500).await;
    let expected = numbers(&context, &format!("SELECT {} FROM t", calls("x, y"))).await;
    for layout in ["List(Float64)", "LargeList(Float64)", "FixedSizeList(3 x Float64)"] {
        let cast = format!("arrow_cast(x, '{layout}'), arrow_cast(y, '{layout}')");
        same(&numbers(&context, &format!("SELECT {} FROM t", calls(&cast))).await, &expected);
    }
    // Of fewer rows than rbf_cka takes a sample of: rounded values have other hashes.
    let few = "WHERE id < 2000";
    let expected = numbers(&context, &format!("SELECT {} FROM t {few}", calls("x, y"))).await;
    for layout in ["List(Float32)", "LargeList(Float32)", "FixedSizeList(3 x Float32)"] {
        let cast = format!("arrow_cast(x, '{layout}'), arrow_cast(y, '{layout}')");
        let single = numbers(&context, &format!("SELECT {} FROM t {few}", calls(&cast))).await;
        for (single, double) in single.iter().zip(&expected) {
            assert!((single.unwrap() - double.unwrap()).abs() < 1e-6);
        }
    }
}

#[tokio::test]
async fn no_rows_and_nulls_are_null() {
    let context = vectors(2, 500).await;
    for query in [
        format!("SELECT {} FROM t WHERE id < 0", calls("x, y")),
        format!("SELECT {} FROM t WHERE x IS NULL", calls("x, y")),
        format!("SELECT {} FROM t", calls("NULL, y")),
        format!("SELECT {} FROM t", calls("[0.0, 0.0, 0.0], y")),
        format!("SELECT {} FROM t", calls("arrow_cast([], 'List(Float64)'), arrow_cast([], 'List(Float64)')")),
    ] {
        assert_eq!(numbers(&context, &query).await, [None; 8], "{query}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_function_and_position() {
    let context = vectors(2, 500).await;
    for name in FUNCTIONS {
        for (arguments, words) in [
            ("x, id", ": argument 2 is Int64, expected a list of Float32 or Float64"),
            ("'a', y", ": argument 1 is Utf8, expected a list"),
            ("x, [1, 2, 3]", ": argument 2 is List(Int64), expected a list"),
        ] {
            let said = refusal(&context, &format!("SELECT {name}({arguments}) FROM t")).await;
            assert!(said.contains(&format!("{name}{words}")), "{said}");
        }
    }
    for (call, words) in [
        ("linear_cka(x)", "linear_cka takes 2 arguments, 1 given"),
        ("pwcca(x, y, 0.5)", "pwcca takes 2 arguments, 3 given"),
        ("svcca(x)", "svcca takes 2 to 3 arguments, 1 given"),
        ("svcca(x, y, 'a')", "svcca: argument 3 is Utf8, expected a number"),
    ] {
        let said = refusal(&context, &format!("SELECT {call} FROM t")).await;
        assert!(said.contains(words), "{said}");
    }
    for (share, words) in [
        ("1.5", "is 1.5, expected a share"),
        ("0", "is 0"),
        ("NULL + 0.5", "is NULL"),
        ("id / 9000", "is not a constant"),
    ] {
        let frame = context.sql(&format!("SELECT svcca(x, y, {share}) FROM t")).await.unwrap();
        let said = frame.collect().await.unwrap_err().strip_backtrace();
        assert!(said.contains(&format!("svcca: argument 3 {words}")), "{said}");
    }
    let changing = "CASE WHEN id = 2000 THEN [1.0, 2.0] ELSE y END";
    for name in &FUNCTIONS[..6] {
        let said = failure(&context, &format!("SELECT {name}(x, {changing}) FROM t")).await;
        assert!(said.contains(name) && said.contains("argument 2 has"), "{said}");
        assert!(said.contains('2') && said.contains('3'), "{said}");
    }
    for name in &FUNCTIONS[6..] {
        let said = failure(&context, &format!("SELECT {name}(x, {changing}) FROM t")).await;
        assert!(said.contains(&format!("{name}: argument 1 has 3 values and argument 2 has 2")), "{said}");
    }
}

/// Against numpy: `tests/fixtures/alignment.py` made the rows and the answers.
#[tokio::test]
async fn answers_are_those_of_numpy() {
    let (context, _) = session(SessionConfig::new());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");
    for table in ["rows", "answers"] {
        let file = format!("{folder}/alignment_{table}.json");
        context.register_json(table, &file, Default::default()).await.unwrap();
    }
    let differences = FUNCTIONS
        .map(|name| {
            format!("CASE WHEN f.{name} IS NULL AND a.{name} IS NULL THEN 0.0 ELSE abs(f.{name} - a.{name}) END")
        })
        .join(", ");
    let found = FUNCTIONS.map(|name| format!("{name}(x, y) AS {name}")).join(", ");
    let sql = format!(
        "SELECT {differences} FROM answers AS a JOIN (SELECT name, {found} FROM rows GROUP BY name) AS f ON a.name = f.name"
    );
    let found = numbers(&context, &sql).await;
    assert_eq!(found.len(), 4 * FUNCTIONS.len());
    assert!(found.iter().all(|difference| difference.unwrap() < 1e-9), "{found:?}");
}
