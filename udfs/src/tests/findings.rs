//! How findings behave in the queries that people write over them.

use super::*;
use std::sync::atomic::Ordering;

/// Distinct reports, several segments each.
fn reports(count: usize) -> Vec<String> {
    let grades = ["normal", "bulge", "extrusion"];
    let report = |i: usize| {
        format!("L4-L5: {} in case {i}. L5-S1: {}.", grades[i % 3], if i.is_multiple_of(2) { "mild" } else { "severe" })
    };
    (0..count).map(report).collect()
}

fn register(context: &SessionContext, reports: &[String], batch: usize) {
    let values: Vec<Option<&str>> = reports.iter().map(|report| Some(report.as_str())).collect();
    texts(context, &values, &DataType::Utf8View, batch);
}

#[tokio::test]
async fn findings_are_unnested_filtered_and_grouped() {
    let (context, _) = session(SessionConfig::new());
    register(&context, &reports(6), 4);
    for query in [
        "SELECT f['level'] AS level, f['disc'] AS disc, count(*) AS n FROM (SELECT unnest(extract_findings(t)) AS f FROM r) \
         WHERE f['disc'] = 'bulge' OR f['canal'] IN ('severe') GROUP BY f['level'], f['disc'] ORDER BY level, disc",
        // The struct's fields by dots, and a subquery in WITH.
        "WITH x AS (SELECT unnest(extract_findings(t)) AS f FROM r) SELECT x.f.level AS level, x.f.disc AS disc, count(*) AS n \
         FROM x WHERE x.f.disc = 'bulge' OR x.f.canal IN ('severe') GROUP BY 1, 2 ORDER BY 1, 2",
    ] {
        let expected = "\
+-------+--------+---+
| level | disc   | n |
+-------+--------+---+
| L4-L5 | bulge  | 2 |
| L5-S1 | normal | 3 |
+-------+--------+---+";
        assert_eq!(rows(&context, query).await, expected);
    }
}

#[tokio::test]
async fn explanations_stand_beside_their_rows() {
    let (context, _) = session(SessionConfig::new());
    // One that has nothing to explain, NULL, and text whose characters are wider than a byte.
    let values = [Some("Ö. L4-L5: severe bulge. L5-S1: mild."), Some("L4-L5: clear."), None, Some("C5-C6: extrusion.")];
    texts(&context, &values, &DataType::Utf8View, 2);
    let query = "SELECT e['level'] AS level, e['task'] AS task, e['grade'] AS grade, e['grade_without'] AS without, e['decisive'] AS decisive, \
                 substr(t, s['start'] + 1, s['end'] - s['start']) AS place, s['text'] = substr(t, s['start'] + 1, s['end'] - s['start']) AS same \
                 FROM (SELECT t, e, unnest(e['sentences']) AS s FROM (SELECT t, unnest(explain_findings(t)) AS e FROM r)) ORDER BY level, task";
    let expected = "\
+-------+-------+-----------+---------+----------+----------------------+------+
| level | task  | grade     | without | decisive | place                | same |
+-------+-------+-----------+---------+----------+----------------------+------+
| C5-C6 | disc  | extrusion | normal  | true     | C5-C6: extrusion.    | true |
| L4-L5 | canal | severe    | none    | true     | L4-L5: severe bulge. | true |
| L4-L5 | disc  | bulge     | normal  | true     | L4-L5: severe bulge. | true |
| L5-S1 | canal | mild      | none    | true     | L5-S1: mild.         | true |
+-------+-------+-----------+---------+----------+----------------------+------+";
    assert_eq!(rows(&context, query).await, expected);
    let lists = "SELECT cardinality(explain_findings(t)) AS n FROM r ORDER BY t NULLS FIRST";
    assert_eq!(rows(&context, lists).await.matches("| 0 |").count(), 1);
}

#[tokio::test]
async fn csv_and_json_write_findings_as_text() {
    let (context, _) = session(SessionConfig::new());
    register(&context, &reports(2), 1);
    let query = "SELECT f FROM (SELECT unnest(extract_findings(t)) AS f FROM r)";
    let batches = context.sql(query).await.unwrap().collect().await.unwrap();
    let mut json = arrow::json::LineDelimitedWriter::new(Vec::new());
    json.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
    let text = String::from_utf8(json.into_inner()).unwrap();
    assert!(text.contains(r#"{"f":{"region":"lumbar","level":"L4-L5","disc":"normal","#), "{text}");
    let query = "SELECT f['disc'] AS disc FROM (SELECT unnest(extract_findings(t)) AS f FROM r)";
    let mut csv = arrow::csv::Writer::new(Vec::new());
    for batch in context.sql(query).await.unwrap().collect().await.unwrap() {
        csv.write(&batch).unwrap();
    }
    assert!(String::from_utf8(csv.into_inner()).unwrap().starts_with("disc\nnormal\n"));
}

/// Some of these fail over dictionaries with Int8 keys.
#[tokio::test]
async fn hundreds_of_batches_are_sorted_joined_grouped_and_put_together() {
    let reports = reports(300);
    let mut answers = Vec::new();
    for (partitions, batch) in [(1, 2), (4, 2), (3, 133)] {
        let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(16);
        let (context, _) = session(config);
        register(&context, &reports, batch);
        let mut shown = String::new();
        for query in [
            "SELECT f FROM (SELECT unnest(extract_findings(t)) AS f FROM r) ORDER BY f['evidence'], f['level']",
            "SELECT t, extract_findings(t) AS f FROM r ORDER BY t",
            "SELECT f['level'] AS l, f['disc'] AS d, f['canal'] AS c, count(*) AS n FROM \
             (SELECT unnest(extract_findings(t)) AS f FROM r) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
            "SELECT l, array_agg(d ORDER BY e) AS all FROM (SELECT f['level'] AS l, f['disc'] AS d, f['evidence'] AS e FROM \
             (SELECT unnest(extract_findings(t)) AS f FROM r)) GROUP BY l ORDER BY l",
            "SELECT a.f['disc'] AS x, b.f['disc'] AS y, count(*) AS n FROM \
             (SELECT t, unnest(extract_findings(t)) AS f FROM r) a JOIN (SELECT t, unnest(extract_findings(t)) AS f FROM r) b \
             ON a.t = b.t AND a.f['level'] < b.f['level'] GROUP BY 1, 2 ORDER BY 1, 2",
            "SELECT t, first_value(f['disc'] ORDER BY f['level']) AS d FROM (SELECT t, unnest(extract_findings(t)) AS f FROM r) \
             GROUP BY t ORDER BY t",
            "SELECT t, first_value(f['disc']) OVER (PARTITION BY t ORDER BY f['level'] DESC) AS d FROM \
             (SELECT t, unnest(extract_findings(t)) AS f FROM r) ORDER BY t",
            "SELECT min(f['disc']) AS a, max(f['disc']) AS b, count(DISTINCT f['disc']) AS c FROM \
             (SELECT unnest(extract_findings(t)) AS f FROM r UNION ALL SELECT unnest(extract_findings(t)) AS f FROM r)",
        ] {
            shown += &rows(&context, query).await;
        }
        answers.push(shown);
    }
    assert!(answers[0].contains("| L4-L5 | bulge     | none   | 100 |"), "{}", &answers[0][answers[0].len() - 3000..]);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test]
async fn rows_do_not_depend_on_their_neighbours() {
    let (context, _) = session(SessionConfig::new());
    let alone = rows_of(&context, &[Some("L4-L5: bulge.")]).await;
    let among = rows_of(&context, &[None, Some("x"), Some("L4-L5: bulge."), None]).await;
    assert_eq!(alone[0], among[2]);
    assert_eq!(among[0], "");
    assert_eq!(among[1], "[]");
}

async fn rows_of(context: &SessionContext, values: &[Option<&str>]) -> Vec<String> {
    texts(context, values, &DataType::Utf8, 10);
    let batches = context.sql("SELECT extract_findings(t) AS f FROM r").await.unwrap().collect().await.unwrap();
    let options = arrow::util::display::FormatOptions::default();
    let column = arrow::util::display::ArrayFormatter::try_new(batches[0].column(0), &options).unwrap();
    (0..values.len()).map(|row| column.value(row).to_string()).collect()
}

#[tokio::test]
async fn a_function_named_twice_on_the_same_text_runs_once() {
    // Named twice in one SELECT, the planner itself finds it: one call a batch.
    let (context, model) = session(SessionConfig::new().with_target_partitions(1));
    register(&context, &reports(10), 10);
    rows(&context, "SELECT extract_findings(t) AS f, array_length(extract_findings(t)) AS n FROM r").await;
    assert_eq!(model.calls.load(Ordering::SeqCst), 1);
    assert_eq!(model.graded.load(Ordering::SeqCst), 10);
    // In WHERE and SELECT they are two calls; the model grades each text once.
    let (context, model) = session(SessionConfig::new().with_target_partitions(1));
    register(&context, &reports(10), 10);
    rows(&context, "SELECT extract_findings(t) AS f FROM r WHERE array_length(extract_findings(t)) > 1").await;
    assert_eq!(model.graded.load(Ordering::SeqCst), 10);
    // A subquery that is unnested and whose fields are read one by one is one call.
    let (context, model) = session(SessionConfig::new().with_target_partitions(1));
    register(&context, &reports(10), 10);
    rows(
        &context,
        "SELECT f['level'], f['disc'], f['canal'] FROM (SELECT unnest(extract_findings(t)) AS f FROM r) WHERE f['disc'] = 'bulge'",
    )
    .await;
    assert_eq!(model.calls.load(Ordering::SeqCst), 1);
}
