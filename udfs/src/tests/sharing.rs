//! The table functions over stored embeddings and gradients, on Parquet written here.

use super::{failure, refusal, rows, session};
use datafusion::prelude::{SessionConfig, SessionContext};
use std::path::Path;

fn open() -> SessionContext {
    let (context, _) = session(SessionConfig::new().with_target_partitions(2));
    crate::register_sharing_tables(&mut context.state_ref().write());
    context
}

/// Two layers. `a` and `b` agree at both, `c` is against them at the upper one; their embeddings are alike, `d`'s are of another kind.
async fn stored(context: &SessionContext, folder: &Path, what: &[&str]) {
    let gradient = "CASE
        WHEN task = 'a' THEN [1.0, step, 0.0] WHEN task = 'b' THEN [1.0, step, 0.1]
        WHEN task = 'c' AND layer = 0 THEN [1.0, step, -0.1] ELSE [-1.0, -step, 0.1] END";
    let embedding = "CASE WHEN task = 'd' THEN [random_a(n), 1.0] ELSE [sin(n), cos(2 * n)] END";
    let embedding = embedding.replace("random_a(n)", "sin(n * n)").replace("1.0]", "cos(n * n * 3)]");
    let gradients = format!(
        "COPY (SELECT 'r-1' AS run, step, task, arrow_cast(layer, 'Int32') AS layer, {gradient} AS gradient
         FROM (VALUES ('a'), ('b'), ('c')) AS t(task), (VALUES (0), (1)) AS l(layer), (VALUES (1.0), (2.0)) AS s(step))
         TO '{}/gradients/x.parquet'",
        folder.display()
    );
    let embeddings = format!(
        "COPY (SELECT 'r-1' AS run, task, arrow_cast(layer, 'Int32') AS layer, cast(n AS VARCHAR) AS report_id, 'L4-L5' AS level, {embedding} AS embedding
         FROM (VALUES ('a'), ('b'), ('c'), ('d'), ('multi')) AS t(task), (VALUES (0), (1)) AS l(layer), generate_series(1, 60) AS s(n))
         TO '{}/embeddings/x.parquet'",
        folder.display()
    );
    for (name, sql) in [("gradients", gradients), ("embeddings", embeddings)] {
        if what.contains(&name) {
            context.sql(&sql).await.unwrap().collect().await.unwrap();
        }
    }
}

#[tokio::test]
async fn pairs_are_what_the_aggregates_say_of_each_layer() {
    let (context, folder) = (open(), tempfile::tempdir().unwrap());
    stored(&context, folder.path(), &["gradients", "embeddings"]).await;
    let at = folder.path().display();
    let found = rows(
        &context,
        &format!(
            "SELECT layer, task, other, round(similarity, 3) AS s, round(cosine, 2) AS c, conflict_rate AS r
             FROM task_alignment('{at}') WHERE task IN ('a', 'c') AND other IN ('b', 'd', 'multi') ORDER BY layer, task, other"
        ),
    )
    .await;
    let line = |text: &str| assert!(found.contains(text), "{text}\n{found}");
    line("| 0     | a    | b     | 1.0");
    line("| 1     | c    | b     | 1.0   | -0.99 | 1.0 |");
    line("| 0     | c    | b     | 1.0   | 0.99  | 0.0 |");
    line("| 1     | a    | multi | 1.0   |       |     |");
    // Each pair stands in both orders: 10 pairs of embeddings, at two layers.
    let count = rows(&context, &format!("SELECT count(*) AS n FROM task_alignment('{at}')")).await;
    assert!(count.contains("| 40 |"), "{count}");
    // One table of the two will do.
    let alone = tempfile::tempdir().unwrap();
    stored(&context, alone.path(), &["gradients"]).await;
    let at = alone.path().display();
    let found =
        rows(&context, &format!("SELECT count(*) AS n, count(similarity) AS s FROM task_alignment('{at}/')")).await;
    assert!(found.contains("| 12 | 0 |"), "{found}");
}

#[tokio::test]
async fn a_verdict_says_how_far_up_a_task_may_share() {
    let (context, folder) = (open(), tempfile::tempdir().unwrap());
    stored(&context, folder.path(), &["gradients", "embeddings"]).await;
    let at = folder.path().display();
    let verdicts = |arguments: &str| {
        format!("SELECT DISTINCT task, verdict, reason FROM sharing_verdict('{at}'{arguments}) ORDER BY task")
    };
    let found = rows(&context, &verdicts("")).await;
    assert!(found.contains("| c    | share lower layers up to 0 | gradients part at layer 1: cosine -"), "{found}");
    assert!(found.contains("| d    | keep apart "), "{found}");
    assert!(found.contains("representations part at layer 0: similarity "), "{found}");
    // a has one friend and one foe at the upper layer: the middle of the two is about zero.
    let found = rows(&context, &verdicts(", -1, -1")).await;
    assert_eq!(found.matches("| share ").count(), 4, "{found}");
    assert!(found.contains("aligned at every layer: cosine at least"), "{found}");
    let found = rows(&context, &verdicts(", 0.999")).await;
    assert_eq!(found.matches("| keep apart ").count(), 4, "{found}");
}

#[tokio::test]
async fn tasks_are_grouped_for_a_number_of_models() {
    let (context, folder) = (open(), tempfile::tempdir().unwrap());
    stored(&context, folder.path(), &["gradients"]).await;
    let at = folder.path().display();
    let sql = |models: usize| format!("SELECT model, task FROM task_groups('{at}', {models}) ORDER BY model, task");
    let found = rows(&context, &sql(2)).await;
    assert!(found.contains("| 1     | a    |\n| 1     | b    |\n| 2     | c    |"), "{found}");
    assert_eq!(rows(&context, &sql(1)).await.matches("| 1     |").count(), 3);
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_said() {
    let context = open();
    let empty = tempfile::tempdir().unwrap();
    let sql = format!("SELECT * FROM task_alignment('{}')", empty.path().display());
    let said = failure(&context, &sql).await;
    assert!(said.contains("neither embeddings/ nor gradients/") && said.contains("foramen-train study"), "{said}");
    for (sql, expected) in [
        ("SELECT * FROM task_alignment(3)", "task_alignment('folder')"),
        ("SELECT * FROM task_alignment('x', 1)", "too many arguments"),
        ("SELECT * FROM task_groups('x')", "1 or more"),
        ("SELECT * FROM task_groups('x', 1.5)", "1 or more"),
        ("SELECT * FROM sharing_verdict('x', 'much')", "a number is asked for"),
    ] {
        let said = refusal(&context, sql).await;
        assert!(said.contains(expected), "{sql}: {said}");
    }
}

#[tokio::test]
async fn pairs_are_what_a_join_and_the_aggregates_say() {
    let (context, folder) = (open(), tempfile::tempdir().unwrap());
    let at = folder.path().display();
    // Task `a` lacks some segments and steps, `b` has one more than the others; layer 1 has more rows than twice the width.
    let vector = "[sin(n * t), cos(n + t), sin(n * n + 3 * t), cos(3 * n * t)]";
    for (table, key, column) in [
        ("embeddings", "cast(n AS VARCHAR) AS report_id, 'L4-L5' AS level", "embedding"),
        ("gradients", "n AS step", "gradient"),
    ] {
        let sql = format!(
            "COPY (SELECT 'r' AS run, arrow_cast(layer, 'Int32') AS layer, task, {key}, {vector} AS {column}
             FROM (VALUES ('a', 1.0), ('b', 2.0), ('c', 5.0)) AS s(task, t), (VALUES (0, 7), (1, 60)) AS l(layer, most), generate_series(1, 61) AS g(n)
             WHERE n <= most + CASE task WHEN 'b' THEN 1 ELSE 0 END AND (task <> 'a' OR n % 5 <> 0)) TO '{at}/{table}/x.parquet'"
        );
        context.sql(&sql).await.unwrap().collect().await.unwrap();
        let sql = format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{at}/{table}/'");
        context.sql(&sql).await.unwrap();
    }
    let joined = "WITH s AS (SELECT a.layer, a.task, b.task AS other, linear_cka_debiased(a.embedding, b.embedding) AS similarity
           FROM embeddings a JOIN embeddings b ON a.layer = b.layer AND a.report_id = b.report_id AND a.level = b.level AND a.task <> b.task GROUP BY 1, 2, 3),
         c AS (SELECT a.layer, a.task, b.task AS other, gradient_cosine(a.gradient, b.gradient) AS cosine, gradient_conflict_rate(a.gradient, b.gradient) AS conflict_rate
           FROM gradients a JOIN gradients b ON a.layer = b.layer AND a.step = b.step AND a.task <> b.task GROUP BY 1, 2, 3)
         SELECT s.layer, s.task, s.other, round(similarity, 9) AS s, round(cosine, 9) AS c, round(conflict_rate, 9) AS r FROM s JOIN c USING (layer, task, other) ORDER BY 1, 2, 3";
    let shared = format!(
        "SELECT layer, task, other, round(similarity, 9) AS s, round(cosine, 9) AS c, round(conflict_rate, 9) AS r FROM task_alignment('{at}') ORDER BY 1, 2, 3"
    );
    let (joined, shared) = (rows(&context, joined).await, rows(&context, &shared).await);
    assert_eq!(joined.lines().count(), 12 + 4, "{joined}");
    assert_eq!(shared, joined);
    // The same file once more: every segment is there twice.
    std::fs::copy(folder.path().join("embeddings/x.parquet"), folder.path().join("embeddings/y.parquet")).unwrap();
    let said = failure(&open(), &format!("SELECT * FROM task_alignment('{at}')")).await;
    assert!(said.contains("embeddings of task a: two of one layer"), "{said}");
}
