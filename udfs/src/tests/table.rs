//! HL7 files as tables.

use super::*;
use std::path::Path;

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Three files, one of them in a folder below and one with bytes that are no message.
fn inbox() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.hl7", b"MSH|^~\\&|||||||ORU^R01|1\rOBR|1||A1\nMSH|^~\\&|||||||ORU^R01|2\rOBR|1||A2\n");
    write(folder.path(), "b.txt", b"caf\xe9\nMSH|^~\\&|||||||ORU^R01|3\rOBR|1||A3\n");
    write(folder.path(), "below/c.hl7", b"MSH|^~\\&|||||||ORU^R01|4\rOBR|1||A4\n");
    folder
}

async fn create(context: &SessionContext, location: &str) {
    context.sql("DROP TABLE IF EXISTS m").await.unwrap();
    let sql = format!("CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION '{location}'");
    context.sql(&sql).await.unwrap().collect().await.unwrap();
}

#[tokio::test]
async fn files_folders_and_patterns_are_read() {
    let below = SessionConfig::new().set_bool("datafusion.execution.listing_table_ignore_subdirectory", false);
    let (context, _) = session(below);
    let inbox = inbox();
    let root = inbox.path().display();
    let query = "SELECT hl7_field(message, 'OBR-3') AS id FROM m ORDER BY id NULLS FIRST";
    for (location, expected) in [
        (format!("{root}/a.hl7"), "A1 A2"),
        (format!("{root}/"), "- A1 A2 A3 A4"),
        (format!("{root}"), "- A1 A2 A3 A4"),
        (format!("{root}/*.txt"), "- A3"),
        (format!("{root}/**/*.hl7"), "A1 A2 A4"),
    ] {
        create(&context, &location).await;
        let batches = context.sql(query).await.unwrap().collect().await.unwrap();
        let mut ids = Vec::new();
        for batch in &batches {
            let column = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
            ids.extend(column.iter().map(|id| id.unwrap_or("-").to_owned()));
        }
        assert_eq!(ids.join(" "), expected, "{location}");
    }
}

#[tokio::test]
async fn rows_say_where_they_come_from_and_nothing_is_lost() {
    let (context, _) = session(SessionConfig::new());
    let inbox = inbox();
    create(&context, &format!("{}/b.txt", inbox.path().display())).await;
    let shown =
        rows(&context, "SELECT split_part(source, '/', -1) AS s, message, hl7_error(message) AS e FROM m").await;
    assert!(shown.contains("| b.txt#1 | 636166e9"), "{shown}");
    assert!(shown.contains("no-msh at byte 0"), "{shown}");
    assert!(shown.contains("| b.txt#2 | 4d5348"), "{shown}");
    let shown = rows(&context, "SELECT source FROM m LIMIT 1").await;
    assert!(shown.contains(&format!("{}/b.txt#1", inbox.path().display())), "{shown}");
}

#[tokio::test]
async fn only_what_a_query_wants_is_read() {
    let (context, _) = session(SessionConfig::new().with_target_partitions(2).with_batch_size(10));
    let folder = tempfile::tempdir().unwrap();
    let messages: String = (0..5000).map(|i| format!("MSH|^~\\&|||||||ORU^R01|{i}\rOBR|1||A{i}\n")).collect();
    write(folder.path(), "many.hl7", messages.as_bytes());
    create(&context, &format!("{}/many.hl7", folder.path().display())).await;
    assert!(rows(&context, "SELECT count(*) AS n FROM m").await.contains("| 5000 |"));
    assert!(rows(&context, "SELECT count(*) AS n FROM (SELECT message FROM m LIMIT 7)").await.contains("| 7 |"));
    let plan = rows(&context, "EXPLAIN SELECT upper(source) AS s FROM m LIMIT 3").await;
    assert!(plan.contains("projection=[source], limit=3, file_type=hl7"), "{plan}");
    let shown = rows(&context, "SELECT message, source FROM m WHERE source LIKE '%#5000'").await;
    assert!(shown.contains("#5000"), "{shown}");
}

#[tokio::test]
async fn a_file_is_a_table_by_its_name() {
    let (model, reader) = testing::engines();
    let context = SessionContext::new().enable_url_table();
    let state = context.state_ref();
    crate::register_all(&mut *state.write(), &(model as Arc<dyn ReportModel>), &reader).unwrap();
    crate::register_hl7_tables(&mut state.write(), &reader).unwrap();
    let inbox = inbox();
    let query =
        format!("SELECT hl7_report(message)['report_id'] AS id FROM '{}/a.hl7' ORDER BY id", inbox.path().display());
    assert!(rows(&context, &query).await.contains("| A1 |\n| A2 |"));
}

#[tokio::test]
async fn mistakes_in_create_are_named() {
    let (context, _) = session(SessionConfig::new());
    let inbox = inbox();
    let file = format!("{}/a.hl7", inbox.path().display());
    for (sql, words) in [
        (format!("CREATE EXTERNAL TABLE x STORED AS HL7 LOCATION '{file}.gone'"), "table x: there is no file at"),
        (format!("CREATE EXTERNAL TABLE x STORED AS HL7 LOCATION '{file}' OPTIONS ('a.b' 'c')"), "no option"),
        (
            format!("CREATE EXTERNAL TABLE x (y INT) STORED AS HL7 LOCATION '{file}'"),
            "has the columns source and message",
        ),
    ] {
        let said = match context.sql(&sql).await {
            Ok(frame) => frame.collect().await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(words), "{said}");
    }
}

/// The reader sees an object store's chunks as one stream, wherever they are cut.
#[tokio::test(flavor = "multi_thread")]
async fn other_object_stores_are_read_in_chunks() {
    use datafusion::object_store::{ObjectStoreExt, memory::InMemory, path::Path as Location};
    let (context, _) = session(SessionConfig::new());
    let store = InMemory::new();
    let bytes = b"MSH|^~\\&|||||||ORU^R01|1\rOBR|1||A1\nMSH|^~\\&|||||||ORU^R01|2\rOBR|1||A2\n";
    store.put(&Location::from("in/a.hl7"), bytes.to_vec().into()).await.unwrap();
    context.register_object_store(&"mem://bucket".try_into().unwrap(), Arc::new(store));
    create(&context, "mem://bucket/in/a.hl7").await;
    let shown = rows(&context, "SELECT source, hl7_field(message, 'OBR-3') AS id FROM m").await;
    assert!(shown.contains("| mem://bucket/in/a.hl7#2 | A2 |"), "{shown}");
}
