use super::*;

const MESSAGE: &str = "MSH|^~\\&|a|b|c|d|e||ORU^R01|77|P|2.5\rOBR|1||A1|72148\rOBX|1|TX|&GDT||L4-L5: bulge.\rOBR|2||A2|72141\rOBX|1|TX|&GDT||C5-C6: normal.";

#[tokio::test]
async fn every_layout_of_text_gives_the_same_rows() {
    let (context, _) = session(SessionConfig::new());
    let values = [Some("L4-L5: bulge. L5-S1: severe."), None, Some(""), Some("L1-L2: extrusion, mild.")];
    for query in [
        "SELECT extract_findings(t) AS x FROM r",
        "SELECT report_segments(t) AS x FROM r",
        "SELECT embed_segments(t) AS x, embed_segments(t, 1) AS y FROM r",
    ] {
        texts(&context, &values, &DataType::Utf8, 10);
        let expected = rows(&context, query).await;
        assert!(expected.contains("L5-S1") && expected.contains("[]"), "{expected}");
        for layout in
            [DataType::LargeUtf8, DataType::Utf8View, dictionary(DataType::Utf8), dictionary(DataType::Utf8View)]
        {
            texts(&context, &values, &layout, 2);
            assert_eq!(rows(&context, query).await, expected, "{layout}");
        }
    }
}

#[tokio::test]
async fn every_layout_of_messages_gives_the_same_rows() {
    let (context, _) = session(SessionConfig::new());
    let values = [Some(MESSAGE), None, Some("PID|1"), Some("MSH|^~\\&|")];
    for query in [
        "SELECT hl7_report(t) AS x FROM r",
        "SELECT hl7_reports(t) AS x FROM r",
        "SELECT hl7_error(t) AS x FROM r",
        "SELECT hl7_field(t, 'OBR-3') AS x, hl7_field(t, arrow_cast('MSH-9', 'Utf8View')) AS y FROM r",
    ] {
        texts(&context, &values, &DataType::Utf8, 10);
        let expected = rows(&context, query).await;
        let plain =
            [DataType::LargeUtf8, DataType::Utf8View, DataType::Binary, DataType::LargeBinary, DataType::BinaryView];
        let in_dictionaries = plain.clone().map(dictionary);
        for layout in plain.iter().chain(&in_dictionaries) {
            texts(&context, &values, layout, 3);
            assert_eq!(rows(&context, query).await, expected, "{layout}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_null_and_hl7_error_says_why() {
    let (context, _) = session(SessionConfig::new());
    texts(&context, &[Some(MESSAGE), Some("PID|1"), None, Some("MSH|x")], &DataType::Binary, 10);
    let shown = rows(
        &context,
        "SELECT hl7_report(t)['report_id'] AS id, array_length(hl7_reports(t)) AS n, hl7_reports(t) IS NULL AS none, hl7_error(t) AS why FROM r",
    )
    .await;
    let expected = "\
+----+---+-------+------------------+
| id | n | none  | why              |
+----+---+-------+------------------+
| A1 | 2 | false |                  |
|    |   | true  | no-msh at byte 0 |
|    |   | true  |                  |
|    |   | true  | not-a-report     |
+----+---+-------+------------------+";
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_report_has_the_documented_types() {
    let (context, _) = session(SessionConfig::new());
    texts(&context, &[Some(MESSAGE)], &DataType::Utf8, 10);
    let shown = rows(
        &context,
        "SELECT arrow_typeof(hl7_report(t)['reported_at']) AS time, hl7_report(t)['reported_at'] AS at, \
         hl7_report(t)['linked_ids'] AS linked, hl7_report(t)['text'] AS text FROM r",
    )
    .await;
    assert!(shown.contains("Timestamp(ms, \"UTC\")"), "{shown}");
    assert!(shown.contains("2023-11-14T22:13:20Z | [B1, B2] | L4-L5: bulge."), "{shown}");
}

#[tokio::test]
async fn literals_are_answered_when_the_query_is_planned() {
    let (context, model) = session(SessionConfig::new());
    let shown =
        rows(&context, "SELECT extract_findings('L4-L5: bulge.')[1]['disc'] AS disc, foramen_model() AS m").await;
    assert!(shown.contains("| bulge | key-words@1 0123456789ab |"), "{shown}");
    assert_eq!(model.calls.load(std::sync::atomic::Ordering::SeqCst), 1);
    let shown =
        rows(&context, "SELECT extract_findings(NULL) AS a, hl7_error(NULL) AS b, hl7_field(NULL, 'PID-3') AS c").await;
    assert!(shown.ends_with("|   |   |   |\n+---+---+---+"), "{shown}");
}

#[tokio::test]
async fn wrong_types_are_refused_in_planning_with_function_and_position() {
    let (context, _) = session(SessionConfig::new());
    texts(&context, &[Some("L4-L5: bulge.")], &DataType::Utf8, 1);
    for (query, words) in [
        ("SELECT extract_findings(1) FROM r", "extract_findings: argument 1 is Int64, expected text"),
        (
            "SELECT extract_findings(arrow_cast(t, 'Binary')) FROM r",
            "extract_findings: argument 1 is Binary, expected text",
        ),
        ("SELECT report_segments(true) FROM r", "report_segments: argument 1 is Boolean, expected text"),
        ("SELECT embed_segments(t, 'x') FROM r", "embed_segments: argument 2 is Utf8, expected a whole number"),
        ("SELECT embed_segments(t, 1.5) FROM r", "embed_segments: argument 2 is Float64, expected a whole number"),
        ("SELECT hl7_report(now()) FROM r", "hl7_report: argument 1 is Timestamp"),
        ("SELECT hl7_field(t, 3) FROM r", "hl7_field: argument 2 is Int64, expected text"),
        ("SELECT hl7_field(t) FROM r", "hl7_field takes 2 arguments, 1 given"),
        ("SELECT embed_segments() FROM r", "embed_segments takes 1 to 2 arguments, 0 given"),
        ("SELECT foramen_model(t) FROM r", "foramen_model takes 0 arguments, 1 given"),
        ("SELECT hl7_field(t, 'PID') FROM r", "hl7_field: argument 2: not a path"),
        ("SELECT embed_segments(t, 3) FROM r", "layers 0 to 2"),
        ("SELECT embed_segments(t, -1) FROM r", "layers 0 to 2"),
    ] {
        let said = refusal(&context, query).await;
        assert!(said.contains(words), "{query}: {said}");
    }
}

#[tokio::test]
async fn a_failing_model_fails_the_query_and_shows_no_content() {
    let (context, _) = session(SessionConfig::new());
    texts(&context, &[Some("L4-L5: fail, Mrs Example.")], &DataType::Utf8, 1);
    let said = failure(&context, "SELECT extract_findings(t) FROM r").await;
    assert!(said.contains("extract_findings: the session could not run"), "{said}");
    assert!(!said.contains("Example"), "{said}");
}

#[tokio::test]
async fn layers_may_come_from_a_column() {
    let (context, _) = session(SessionConfig::new());
    texts(&context, &[Some("L4-L5: bulge."), Some("none"), None], &DataType::Utf8, 2);
    let shown = rows(
        &context,
        "SELECT layer, e['level'] AS level, e['embedding'][1] AS first FROM \
         (SELECT layer, unnest(embed_segments(t, layer)) AS e FROM r CROSS JOIN (VALUES (2), (0), (NULL)) AS l(layer)) ORDER BY layer",
    )
    .await;
    let expected = "\
+-------+-------+-------+
| layer | level | first |
+-------+-------+-------+
| 0     | L4-L5 | 0.0   |
| 2     | L4-L5 | 2.0   |
+-------+-------+-------+";
    assert_eq!(shown, expected);
    let said =
        failure(&context, "SELECT embed_segments(t, layer) FROM r CROSS JOIN (VALUES (2), (7)) AS l(layer)").await;
    assert!(said.contains("embed_segments: argument 2 is layer 7"), "{said}");
}
