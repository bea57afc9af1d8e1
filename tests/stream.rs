//! `foramen stream` against a real broker: rows, versions, dead letters, operation.
#![cfg(all(feature = "kafka", feature = "train"))]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod broker;
mod streaming;

use arrow::array::{AsArray, RecordBatch};
use arrow::util::pretty::pretty_format_batches;
use broker::Broker;
use foramen::hl7;
use foramen::labels::LabelSchema;
use foramen::model::{Model, Options};
use foramen::sql::{SqlModel, context, finding_rows};
use foramen::train::{Precision, export::export_untrained};
use rdkafka::Message;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use streaming::{Hl7, Running, Topics, free_port, get, header, metric, text, wait};

/// A model that answers at once, and nothing sensible; another seed is another model.
fn untrained(seed: u64, folder: &Path) {
    export_untrained(&LabelSchema::spine(), Precision::Float32, seed, folder).unwrap();
}

/// Rows of a query, as text.
fn asked(model: &Path, sql: &[&str]) -> String {
    let batches = batches(model, sql);
    pretty_format_batches(&batches).unwrap().to_string()
}

fn batches(model: &Path, sql: &[&str]) -> Vec<RecordBatch> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let model = Arc::new(SqlModel::lazy(model, Options::default()));
    let context = context(model, hl7::Options::default(), Default::default()).unwrap();
    let mut last = Vec::new();
    for statement in sql {
        last = runtime.block_on(async { context.sql(statement).await.unwrap().collect().await.unwrap() });
    }
    last
}

/// The view of `examples/stream/current.sql` over a folder.
fn current(folder: &Path) -> String {
    let example = std::fs::read_to_string("examples/stream/current.sql").unwrap();
    let view = example.split(";\n").find(|statement| statement.contains("CREATE VIEW current")).unwrap();
    let view = &view[view.find("CREATE VIEW").unwrap()..];
    view.replace("out/rows/", &format!("{}/", folder.display()))
}

fn parquet(folder: &Path) -> String {
    format!("kind = 'parquet'\nfolder = '{}'\nroll_ms = 200", folder.display())
}

#[test]
fn the_stream_has_the_rows_of_the_same_query_over_an_archive() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new("models/spine");
    let tasks = Model::open(model, &Options::default()).unwrap().package().labels().tasks().to_vec();
    let archive = folder.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    let topics = Topics::create(broker.bootstrap(), "same", 2);
    let mut sent = Vec::new();
    for (number, file) in
        ["oru-lumbar.hl7", "oru-cervical-formatted.hl7", "mdm-document.hl7", "sql-day.hl7"].iter().enumerate()
    {
        let bytes = std::fs::read(Path::new("examples/messages").join(file)).unwrap();
        std::fs::write(archive.join(file), &bytes).unwrap();
        sent.push((format!("k{number}"), bytes));
    }
    // In an archive every version has its rows; so it is in a folder of a stream.
    topics.produce(sent.iter().map(|(key, bytes)| (key.as_str(), bytes.clone())));
    let rows = folder.path().join("rows");
    let query = finding_rows("messages", &tasks);
    let config = topics.config("a", &parquet(&rows), &format!("[transform]\nsql = '''{query}'''\n"));
    let mut stream = Running::start(folder.path(), "a", &config, model);
    wait("all messages are committed", || topics.committed() == sent.len() as i64);
    assert!(stream.terminate().success());
    let table = format!("CREATE EXTERNAL TABLE messages STORED AS HL7 LOCATION '{}/'", archive.display());
    let order = "ORDER BY report_id, report_status, level, evidence";
    let archived = asked(model, &[&table, &format!("SELECT * EXCEPT (source) FROM ({query}) {order}")]);
    let own = "source, version, version_at, change, row_index, message_digest";
    let streamed = format!("SELECT * EXCEPT ({own}) FROM '{}/' WHERE row_index IS NOT NULL {order}", rows.display());
    assert_eq!(asked("none".as_ref(), &[&streamed]), archived);
    assert!(archived.lines().count() > 15, "{archived}");
}

/// Versions of one report each, and what holds of them in the end: status and disc, or nothing.
fn histories() -> Vec<(Vec<Hl7<'static>>, Option<&'static str>)> {
    let version = |status, day, text| Hl7 { status, day, text, ..Hl7::default() };
    let (first, last) = ("L4-5: Disc bulge.", "L5-S1: Disc extrusion. L4-5: Normal.");
    vec![
        (vec![version("P", 1, first), version("F", 2, last)], Some("final L4-L5 L5-S1")),
        (vec![version("P", 1, first), version("U", 2, "")], Some("final L4-L5")),
        (vec![version("F", 1, first), version("C", 2, last), version("P", 3, first)], Some("corrected L4-L5 L5-S1")),
        (vec![version("F", 1, last), version("X", 2, "")], None),
        (vec![version("P", 1, first), version("D", 2, ""), version("F", 3, last)], Some("final L4-L5 L5-S1")),
        (vec![version("F", 1, last), version("C", 2, "MRI of the knee.")], Some("corrected")),
    ]
}

fn permutations(length: usize) -> Vec<Vec<usize>> {
    if length == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(length - 1);
    let insert = |order: &Vec<usize>| {
        (0..=order.len()).map(|at| [&order[..at], &[length - 1], &order[at..]].concat()).collect::<Vec<_>>()
    };
    shorter.iter().flat_map(insert).collect()
}

#[test]
fn versions_in_every_order_end_in_what_holds() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    // Every history in every order, each as a report of its own.
    let mut sent = Vec::new();
    let mut holds: BTreeMap<String, String> = BTreeMap::new();
    for (number, (versions, end)) in histories().iter().enumerate() {
        for (nth, order) in permutations(versions.len()).iter().enumerate() {
            let report = format!("H{number}-{nth}");
            for &at in order {
                let control = format!("{report}-{at}");
                let version = &versions[at];
                let message = Hl7 { report: &report, control: &control, ..*version }.message();
                sent.push((report.clone(), message.into_bytes()));
            }
            if let Some(end) = end {
                holds.insert(report, (*end).to_owned());
            }
        }
    }
    // Once in one batch, once with a restart in the middle, once message by message.
    for (name, sink, most) in
        [("topic", "kafka", 500), ("topic-1", "kafka", 1), ("folder", "parquet", 500), ("folder-1", "parquet", 1)]
    {
        let topics = Topics::create(broker.bootstrap(), &format!("versions-{name}"), 2);
        let rows = folder.path().join(name);
        let sink_config = if sink == "kafka" { topics.kafka_sink() } else { parquet(&rows) };
        let config = topics.config("a", &sink_config, &format!("[batch]\nmax_messages = {most}\n"));
        let (before, after) = sent.split_at(sent.len() / 2);
        let send = |part: &[(String, Vec<u8>)]| {
            topics.produce(part.iter().map(|(key, bytes)| (key.as_str(), bytes.clone())));
        };
        send(before);
        let mut stream = Running::start(folder.path(), name, &config, &model);
        wait("the first half is committed", || topics.committed() >= before.len() as i64 - 2);
        // What was known must be known again.
        stream.kill();
        send(after);
        let mut stream = Running::start(folder.path(), name, &config, &model);
        wait("all is committed", || topics.committed() >= sent.len() as i64);
        assert!(stream.terminate().success());
        let ends: BTreeMap<String, String> = match sink {
            "kafka" => {
                topics.latest(&topics.output()).into_iter().map(|(report, value)| (report, told(&value))).collect()
            }
            _ => {
                let sql = "SELECT report_id, report_status, coalesce(level, '') AS level FROM current ORDER BY report_id, level";
                let mut ends: BTreeMap<String, String> = BTreeMap::new();
                for batch in batches("none".as_ref(), &[&current(&rows), sql]) {
                    let column =
                        |at: usize| arrow::compute::cast(batch.column(at), &arrow::datatypes::DataType::Utf8).unwrap();
                    let (reports, statuses, levels) = (column(0), column(1), column(2));
                    for row in 0..batch.num_rows() {
                        let end = ends
                            .entry(reports.as_string::<i32>().value(row).to_owned())
                            .or_insert_with(|| statuses.as_string::<i32>().value(row).to_owned());
                        let level = levels.as_string::<i32>().value(row);
                        if !level.is_empty() {
                            *end = format!("{end} {level}");
                        }
                    }
                }
                ends
            }
        };
        assert_eq!(ends, holds, "{name}");
    }
}

/// Status and levels of a record's value.
fn told(value: &Value) -> String {
    let rows = value["rows"].as_array().unwrap();
    let mut levels: Vec<&str> = rows.iter().map(|row| row["level"].as_str().unwrap()).collect();
    levels.sort_unstable();
    for row in rows {
        assert_eq!(row["report_status"], value["report_status"]);
    }
    std::iter::once(value["report_status"].as_str().unwrap()).chain(levels).collect::<Vec<_>>().join(" ")
}

#[test]
fn messages_that_come_twice_are_read_once() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    for kind in ["kafka", "parquet"] {
        let topics = Topics::create(broker.bootstrap(), &format!("twice-{kind}"), 1);
        let rows = folder.path().join(kind);
        let sink = if kind == "kafka" { topics.kafka_sink() } else { parquet(&rows) };
        let port = free_port();
        let config = topics.config("a", &sink, &format!("[metrics]\nlisten = '127.0.0.1:{port}'\n"));
        let one = || Hl7 { report: "A", control: "1", ..Hl7::default() };
        topics.send(&[one(), one(), Hl7 { report: "B", control: "2", ..Hl7::default() }]);
        let mut stream = Running::start(folder.path(), kind, &config, &model);
        wait("all is committed", || topics.committed() == 3);
        stream.kill();
        // Known again after a restart; the same control id with other bytes is another message.
        topics.send(&[one(), Hl7 { report: "C", control: "1", ..Hl7::default() }]);
        let mut stream = Running::start(folder.path(), kind, &config, &model);
        wait("all is committed", || topics.committed() == 5);
        wait("metrics", || {
            let metrics = get(port, "/metrics").unwrap_or_default().1;
            metric(&metrics, "foramen_duplicates_total") == Some(1.0)
                && metric(&metrics, "foramen_reused_control_ids_total") == Some(1.0)
        });
        assert!(stream.terminate().success());
        let reports: Vec<String> = match kind {
            "kafka" => topics.read(&topics.output()).iter().map(|record| text(record.key())).collect(),
            _ => {
                let sql = format!("SELECT report_id FROM '{}/' ORDER BY report_id", rows.display());
                let rows = batches("none".as_ref(), &[&sql]);
                let column = |batch: &RecordBatch| {
                    let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
                    column.as_string::<i32>().iter().map(|id| id.unwrap().to_owned()).collect::<Vec<_>>()
                };
                rows.iter().flat_map(column).collect()
            }
        };
        assert_eq!(reports, ["A", "B", "C"], "{kind}");
    }
}

#[test]
fn what_fails_is_a_dead_letter_unchanged_and_can_be_fed_back() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    let topics = Topics::create(broker.bootstrap(), "dead", 2);
    let strict = "[transform]\nsql = 'SELECT *, CAST(substr(report_id, 2) AS INT) AS number FROM findings'\n";
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("x", b"no message at all".to_vec()),
        ("x", Vec::new()),
        ("y", b"MSH|^~\\&|RIS||||||ORU^R01|T1|P|2.5\rOBR|1||A9\rOBX|1|ED|&GDT||^TEXT^^Base64^%%%||||||F\r".to_vec()),
        ("y", Hl7 { text: "", control: "T2", ..Hl7::default() }.message().into_bytes()),
        // Sound, but for the query.
        ("z", Hl7 { report: "Rx", control: "T3", ..Hl7::default() }.message().into_bytes()),
    ];
    topics.produce(bad.iter().cloned());
    topics.send(&[Hl7 { report: "R7", control: "G1", ..Hl7::default() }]);
    let config = topics.config("a", &topics.kafka_sink(), strict);
    let mut stream = Running::start(folder.path(), "a", &config, &model);
    wait("all is committed", || topics.committed() == 6);
    assert!(stream.terminate().success());
    let dead = topics.read(&topics.dead());
    let codes: BTreeMap<String, Vec<u8>> = dead
        .iter()
        .map(|record| {
            let reason = header(record, "__connect.errors.exception.message").unwrap();
            assert!(header(record, "__connect.errors.topic") == Some(topics.input()), "{reason}");
            assert!(header(record, "foramen.stage").is_some() && reason.len() > 20);
            let code = header(record, "foramen.code").unwrap();
            (
                format!("{code} {}", record.payload().unwrap_or_default().len()),
                record.payload().unwrap_or_default().to_vec(),
            )
        })
        .collect();
    let expected: BTreeSet<Vec<u8>> = bad.iter().map(|(_, bytes)| bytes.clone()).collect();
    assert!(codes.values().cloned().collect::<BTreeSet<_>>() == expected, "{:?}", codes.keys());
    let names: Vec<&str> = codes.keys().map(|key| key.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["bad-base64", "no-msh", "no-msh", "no-text", "transform-failed"]);
    assert_eq!(topics.latest(&topics.output()).keys().collect::<Vec<_>>(), ["R7"]);

    // The query is mended, and what died of it is fed back: once, however often that is asked for.
    let mended = topics.config("a", &topics.kafka_sink(), "");
    let path = folder.path().join("mended.toml");
    std::fs::write(&path, &mended).unwrap();
    let replay = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_foramen"));
        let output = command.args(["stream", "replay", "--config"]).arg(&path).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        replay(&["--code", "transform-failed", "--dry-run"])
            .contains("1 dead letters would be fed back: transform-failed 1")
    );
    assert!(replay(&["--code", "transform-failed"]).contains("1 dead letters fed back: transform-failed 1"));
    assert!(replay(&["--code", "transform-failed"]).contains("0 dead letters fed back"));
    assert_eq!(topics.read(&topics.input()).len(), 7);
    let mut stream = Running::start(folder.path(), "mended", &mended, &model);
    wait("the letter is read", || topics.latest(&topics.output()).contains_key("Rx"));
    // All of them: those without remedy die again, and say that they were fed back.
    assert!(replay(&[]).contains("5 dead letters fed back"));
    wait("they are dead again", || topics.read(&topics.dead()).len() == 9);
    assert!(stream.terminate().success());
    let again = topics.read(&topics.dead());
    let again: Vec<_> = again.iter().filter(|record| header(record, "foramen.replays").is_some()).collect();
    assert_eq!(again.len(), 4);
    for record in again {
        assert_eq!(header(record, "foramen.replays").as_deref(), Some("1"));
        assert!(expected.contains(record.payload().unwrap_or_default()));
    }
}

#[test]
fn a_dead_letter_topic_that_cannot_be_written_stops_the_stream() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    for kind in ["kafka", "parquet"] {
        let topics = Topics::create(broker.bootstrap(), &format!("stops-{kind}"), 1);
        topics.create_with(&topics.dead(), &[("max.message.bytes", "300")]);
        let rows = folder.path().join(kind);
        let sink = if kind == "kafka" { topics.kafka_sink() } else { parquet(&rows) };
        topics.produce([("x", vec![b'?'; 2000])]);
        topics.send(&[Hl7::default()]);
        let mut stream = Running::start(folder.path(), kind, &topics.config("a", &sink, ""), &model);
        assert_eq!(stream.ended().code(), Some(1));
        let log = stream.log();
        assert!(log.contains("nothing is skipped") && log.contains(&topics.dead()), "{log}");
        assert_eq!(topics.committed(), 0);
        assert_eq!(topics.read(&topics.output()).len(), 0);
    }
}

#[test]
fn a_statement_that_is_too_large_is_a_dead_letter_and_the_rest_goes_on() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    let topics = Topics::create(broker.bootstrap(), "large", 1);
    topics.create_with(&topics.output(), &[("max.message.bytes", "3000")]);
    // Compressed records are counted as they are sent: make them hard to compress.
    let long: String =
        (0..200).map(|n: u64| format!("L4-5: bulge {:x}. ", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    topics.send(&[
        Hl7 { report: "A", control: "1", ..Hl7::default() },
        Hl7 { report: "B", control: "2", text: &long, ..Hl7::default() },
        Hl7 { report: "C", control: "3", ..Hl7::default() },
    ]);
    let config = topics
        .config("a", &topics.kafka_sink(), "")
        .replace("'session.timeout.ms'", "'compression.type' = 'none'\n'session.timeout.ms'");
    let mut stream = Running::start(folder.path(), "a", &config, &model);
    wait("all is committed", || topics.committed() == 3);
    assert!(stream.terminate().success());
    assert_eq!(topics.latest(&topics.output()).keys().collect::<Vec<_>>(), ["A", "C"]);
    let dead = topics.read(&topics.dead());
    assert_eq!(dead.len(), 1);
    assert_eq!(header(&dead[0], "foramen.stage").as_deref(), Some("sink"));
    assert_eq!(header(&dead[0], "foramen.control_id").as_deref(), Some("2"));
}

/// Words that no log may hold.
const MARKS: [&str; 6] = ["ZZNAME", "ZZID", "ZZTEXT", "ZZSTREET", "ZZDOCTOR", "ZZEXAM"];

fn marked() -> Vec<Vec<u8>> {
    let sound = "MSH|^~\\&|RIS|HOSPITAL|||202603020815||ORU^R01|CTRL|P|2.5\r\
                 PID|1||ZZID9^^^H^MR||ZZNAME^ANNA||19400101|F|||ZZSTREET 5\r\
                 OBR|1||REPORT|72148^ZZEXAM|||202603020815|||||||||ZZDOCTOR^KIM||||||202603020815|||F\r\
                 OBX|1|TX|&GDT||L4-5: ZZTEXT disc bulge.||||||F\r";
    let mut messages = Vec::new();
    let mut number = 0;
    let mut add = |message: String| {
        number += 1;
        messages.push(
            message.replace("CTRL", &format!("C{number}")).replace("REPORT", &format!("RPT{number}")).into_bytes(),
        );
    };
    add(sound.to_owned());
    for status in ["P", "C", "X", "U", "I", "Q"] {
        add(sound.replace("|||F\r", &format!("|||{status}\r")).replace("||||||F\r", &format!("||||||{status}\r")));
    }
    add(sound.replace("ORU^R01", "ADT^A01"));
    add(sound.replace("ORU^R01", "ZZNAME^ANNA"));
    add(sound.replace("L4-5: ZZTEXT disc bulge.", ""));
    add(sound.replace("TX|&GDT||L4-5: ZZTEXT disc bulge.", "ED|&GDT||^TEXT^^Base64^ZZTEXT%%%"));
    add(sound.replace("TX|&GDT||L4-5: ZZTEXT disc bulge.", "ED|&GDT||^text^XML^A^<a><b>ZZTEXT</a>"));
    add(format!("\u{b}{sound}"));
    add(sound.replace("disc bulge.", "disc \\X41"));
    add(sound.replace("^~\\&", "ZZNAME"));
    add(sound.replace("202603020815", "ZZNAME"));
    add(sound.replace("MSH|", "ZZNAME|"));
    add(sound.replace("PID|1", "PIDZZNAME|1"));
    add(sound.replace("|P|2.5", "|P|2.5||||||UNICODE UTF-8").replace("ZZTEXT", "ZZTEXT \u{e9}"));
    for cut in [40, 90, 150, 200, 240] {
        add(sound[..cut].to_owned());
    }
    messages.push(sound.replace("ZZTEXT", "ZZTEXT\u{0}").into_bytes());
    messages.push([sound.as_bytes(), &[0xFF, 0xFE, 0x80]].concat());
    messages
}

#[test]
fn no_patients_data_is_in_logs_metrics_headers_or_errors() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    // A query that fails on values, whose text DataFusion would quote.
    let queries = ["", "[transform]\nsql = 'SELECT *, CAST(patient_id AS INT) AS n FROM findings'\n"];
    for (number, (query, kind)) in queries.iter().zip(["kafka", "parquet"]).enumerate() {
        let topics = Topics::create(broker.bootstrap(), &format!("phi-{kind}"), 2);
        let messages = marked();
        topics.produce(messages.iter().map(|message| ("k", message.clone())));
        let port = free_port();
        let sink = if kind == "kafka" { topics.kafka_sink() } else { parquet(&folder.path().join("rows")) };
        let config = topics.config("a", &sink, &format!("{query}[metrics]\nlisten = '127.0.0.1:{port}'\n"));
        // Everything that can be told is.
        let mut stream = Running::start_with(folder.path(), kind, &config, &model, "trace");
        wait("all is committed", || topics.committed() == messages.len() as i64);
        let told = ["/metrics", "/healthz", "/readyz", "/", "/ZZ"].map(|path| get(port, path).unwrap().1);
        assert!(stream.terminate().success());
        let mut emitted = vec![stream.log()];
        emitted.extend(told);
        let dead = topics.read(&topics.dead());
        assert!(dead.len() > 5 + 10 * number, "{}", dead.len());
        for record in &dead {
            let bytes = record.payload().unwrap_or_default();
            let code = header(record, "foramen.code").unwrap();
            assert!(
                messages.iter().any(|message| message == bytes),
                "unchanged: {code} {}",
                String::from_utf8_lossy(bytes)
            );
            let headers = rdkafka::message::Headers::iter(record.headers().unwrap());
            emitted.extend(headers.map(|header| format!("{} {}", header.key, text(header.value))));
        }
        assert!(emitted[0].len() > 1000 && emitted[1].contains("foramen_rejects_total"));
        for mark in MARKS {
            for told in &emitted {
                if let Some(line) = told.lines().find(|line| line.contains(mark)) {
                    panic!("{mark} in: {line}");
                }
            }
        }
    }
}

#[test]
fn published_messages_that_are_rejected_die_and_the_others_live() {
    let shared = std::env::var_os("FORAMEN_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let index = shared.join("data/hl7");
    if !index.is_dir() {
        println!("skipped: {} is not there", index.display());
        return;
    }
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    // One of each kind of reject, by code, position and file.
    let options = hl7::Options::default();
    let mut poison: Vec<Vec<u8>> = Vec::new();
    let mut kinds = BTreeSet::new();
    for entry in walkdir::WalkDir::new(&index).sort_by_file_name() {
        let entry = entry.unwrap();
        if !entry.file_type().is_file() || entry.path().extension().is_some_and(|e| e == "jsonl" || e == "md") {
            continue;
        }
        let bytes = std::fs::read(entry.path()).unwrap();
        for frame in hl7::split(&bytes, &options) {
            let reject = match frame.reject {
                Some(reject) => reject,
                None => match hl7::read(frame.bytes, &options) {
                    Err(reject) => reject,
                    Ok(_) => continue,
                },
            };
            let alone = hl7::split(frame.bytes, &options).count() == 1 && hl7::read(frame.bytes, &options).is_err();
            if alone && kinds.insert((reject.code, reject.position.to_string(), entry.path().to_path_buf())) {
                poison.push(frame.bytes.to_vec());
            }
        }
    }
    assert!(poison.len() > 100, "{}", poison.len());
    let mut sent: Vec<(String, Vec<u8>)> = Vec::new();
    let mut good = 0;
    for poison in &poison {
        for _ in 0..99 {
            let (report, control) = (format!("G{good}"), format!("C{good}"));
            sent.push((
                report.clone(),
                Hl7 { report: &report, control: &control, ..Hl7::default() }.message().into_bytes(),
            ));
            good += 1;
        }
        sent.push(("poison".into(), poison.clone()));
    }
    let topics = Topics::create(broker.bootstrap(), "poison", 3);
    topics.produce(sent.iter().map(|(key, bytes)| (key.as_str(), bytes.clone())));
    let config = topics.config("a", &topics.kafka_sink(), "[batch]\nmax_messages = 1000\n");
    let mut stream = Running::start_with(folder.path(), "a", &config, &model, "info");
    wait("all is committed", || topics.committed() == sent.len() as i64);
    assert!(stream.terminate().success());
    let mut dead: Vec<Vec<u8>> =
        topics.read(&topics.dead()).iter().map(|record| record.payload().unwrap_or_default().to_vec()).collect();
    dead.sort();
    poison.sort();
    assert!(dead == poison, "{} of {}", dead.len(), poison.len());
    assert_eq!(topics.latest(&topics.output()).len(), good);
}

#[test]
fn a_new_model_package_is_taken_up_and_a_broken_one_is_not() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    let topics = Topics::create(broker.bootstrap(), "swap", 1);
    let port = free_port();
    let config = topics.config("a", &topics.kafka_sink(), &format!("[metrics]\nlisten = '127.0.0.1:{port}'\n"));
    let mut stream = Running::start(folder.path(), "a", &config, &model);
    let id = || Model::open(&model, &Options::default()).map(|model| model.id().to_owned());
    let mut ids = vec![id().unwrap()];
    topics.send(&[Hl7 { report: "A", control: "1", ..Hl7::default() }]);
    wait("the first is said", || topics.latest(&topics.output()).len() == 1);
    // A package that is not whole leaves the one before at work.
    let manifest = model.join("package.toml");
    let whole = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{whole}\nhalf =")).unwrap();
    wait("it is looked at", || stream.log().contains("can't be opened yet"));
    topics.send(&[Hl7 { report: "B", control: "2", ..Hl7::default() }]);
    wait("the second is said", || topics.latest(&topics.output()).len() == 2);
    untrained(8, &model);
    ids.push(id().unwrap());
    wait("it is taken up", || stream.log().contains("a new model reads from here on"));
    topics.send(&[Hl7 { report: "C", control: "3", ..Hl7::default() }]);
    wait("the third is said", || topics.latest(&topics.output()).len() == 3);
    let metrics = get(port, "/metrics").unwrap().1;
    let lines: Vec<&str> = metrics.lines().filter(|line| line.starts_with("foramen_model_info{")).collect();
    assert!(lines.len() == 1 && lines[0].contains(&ids[1]), "{lines:?}");
    assert!(stream.terminate().success());
    let latest = topics.latest(&topics.output());
    let read = |report: &str| latest[report]["rows"][0]["model"].as_str().unwrap().to_owned();
    assert_eq!([read("A"), read("B"), read("C")], [ids[0].clone(), ids[0].clone(), ids[1].clone()]);
}

#[test]
fn it_says_how_it_is_and_stops_when_asked() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    let topics = Topics::create(broker.bootstrap(), "operation", 2);
    let port = free_port();
    let config = topics.config(
        "a",
        &topics.kafka_sink(),
        &format!("[batch]\nmax_wait_ms = 60000\n[metrics]\nlisten = '127.0.0.1:{port}'\n"),
    );
    let mut stream = Running::start(folder.path(), "a", &config, &model);
    wait("it is ready", || get(port, "/readyz").is_some_and(|(status, _)| status == 200));
    assert_eq!(get(port, "/healthz").unwrap().0, 200);
    let numbers: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let sent: Vec<Hl7<'_>> = numbers.iter().map(|n| Hl7 { report: n, control: n, ..Hl7::default() }).collect();
    topics.send(&sent);
    wait("its lag is told", || {
        let metrics = get(port, "/metrics").unwrap_or_default().1;
        let lag = metrics.lines().filter(|line| line.starts_with("foramen_consumer_lag{"));
        lag.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() == 50.0
    });
    // Its batch would wait for a minute: what was taken in is finished, not dropped.
    assert_eq!(topics.committed(), 0);
    assert!(stream.terminate().success());
    assert_eq!(topics.latest(&topics.output()).len(), 50);
    assert!(get(port, "/healthz").is_none());

    // Another address that is taken, and other things that can't be.
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    for (from, to, expected) in [
        ("", "", format!("[metrics] listen = \"127.0.0.1:{port}\"")),
        (&*topics.input(), "no-such-topic", "topic no-such-topic: it is to be read and does not exist".to_owned()),
        (
            "[batch]",
            "[transform]\nsql = 'SELECT level FROM findings'\n[batch]",
            "no text column `report_id`".to_owned(),
        ),
        (
            "[batch]",
            "[transform]\nsql = 'SELECT nothing FROM findings'\n[batch]",
            "[transform] sql can't be used".to_owned(),
        ),
        ("[sink]", "[[sink]]", "one stream has one sink".to_owned()),
        ("max_wait_ms", "max_wait", "unknown field `max_wait`".to_owned()),
    ] {
        let listen = if from.is_empty() { port } else { free_port() };
        let config = match from {
            "" => config.clone(),
            from => config.replace(from, to).replace(&format!(":{port}"), &format!(":{listen}")),
        };
        let mut stream = Running::start(folder.path(), &format!("bad-{}", expected.len()), &config, &model);
        assert_eq!(stream.ended().code(), Some(1));
        assert!(stream.log().contains(&expected), "{expected}: {}", stream.log());
    }
    drop(taken);
}

#[test]
fn doctor_looks_at_the_stream_too() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let topics = Topics::create(broker.bootstrap(), "doctor", 2);
    let path = folder.path().join("stream.toml");
    let doctor = |config: &str| {
        std::fs::write(&path, config).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_foramen"));
        let output = command.arg("doctor").arg("--config").arg(&path).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (works, told) = doctor(&topics.config("a", &topics.kafka_sink(), ""));
    assert!(works && told.contains("ok      Kafka: ") && told.contains("(2 partitions)"), "{told}");
    assert!(told.contains("(is created at the start)") && told.contains("29 columns"), "{told}");
    let (works, told) = doctor(&topics.config("a", &topics.kafka_sink(), "[transform]\nsql = 'SELECT 1'\n"));
    assert!(!works && told.contains("FAILED  the stream's query"), "{told}");
}

#[test]
fn avro_and_arrow_values_hold_the_same_rows_as_json() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    untrained(7, &model);
    let mut evidence = Vec::new();
    for format in ["json", "avro", "arrow"] {
        let topics = Topics::create(broker.bootstrap(), &format!("format-{format}"), 1);
        topics.send(&[Hl7 { text: "L4-5: Bulge. L5-S1: Normal.", ..Hl7::default() }]);
        let sink = format!("{}\nformat = '{format}'", topics.kafka_sink());
        let mut stream = Running::start(folder.path(), format, &topics.config("a", &sink, ""), &model);
        wait("it is said", || topics.committed() == 1);
        assert!(stream.terminate().success());
        let records = topics.read(&topics.output());
        let value = records[0].payload().unwrap();
        let content = header(&records[0], "content-type").unwrap();
        evidence.push(match format {
            "json" => {
                let value: Value = serde_json::from_slice(value).unwrap();
                let rows = value["rows"].as_array().unwrap();
                assert_eq!(content, "application/json");
                rows.iter().map(|row| row["evidence"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
            }
            "avro" => {
                assert_eq!(value[..2], [0xC3, 0x01], "single-object encoding");
                // Decoded in the encoder's own tests; here: the text is in it.
                let inside = |text: &str| value.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(inside("L4-5: Bulge.") && inside("L5-S1: Normal."));
                vec!["L4-5: Bulge.".into(), "L5-S1: Normal.".into()]
            }
            _ => {
                let reader = arrow::ipc::reader::StreamReader::try_new(value, None).unwrap();
                let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
                let column = batches[0].column_by_name("evidence").unwrap();
                column.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
            }
        });
    }
    assert_eq!(evidence[0], evidence[1]);
    assert_eq!(evidence[0], evidence[2]);
}

#[test]
fn embeddings_of_a_site_that_writes_otherwise_drift_from_the_training_set() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let topics = Topics::create(broker.bootstrap(), "drift", 1);
    let written = std::fs::read_to_string("corpus/written.jsonl").unwrap();
    let text =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().replace(['\r', '\n'], " ");
    // Those that HL7 holds without escapes.
    let texts = written.lines().map(text).filter(|text| !text.contains(['|', '^', '~', '\\', '&']));
    let texts: Vec<String> = texts.skip(300).take(120).collect();
    let known = folder.path().join("written.jsonl");
    let first: Vec<&str> = written.lines().take(300).collect();
    std::fs::write(&known, first.join("\n")).unwrap();
    let mut sent = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        // The other site writes the same levels and grades between words that no report of training has.
        let other = text.replace(' ', " zq xv ");
        for (site, text) in [("NORTH", text), ("SOUTH", &other)] {
            let report = format!("{site}{number}");
            let message = Hl7 { report: &report, control: &report, text, ..Hl7::default() }.message();
            sent.push((report.clone(), message.replace("HOSPITAL", site).into_bytes()));
        }
    }
    topics.produce(sent.iter().map(|(key, bytes)| (key.as_str(), bytes.clone())));
    let example = std::fs::read_to_string("examples/stream/drift.toml").unwrap();
    let transform = &example[example.find("[transform]").unwrap()..example.find("[batch]").unwrap()];
    let rows = folder.path().join("rows");
    let config = topics.config("a", &parquet(&rows), transform);
    let mut stream = Running::start(folder.path(), "a", &config, Path::new("models/spine"));
    wait("all messages are committed", || topics.committed() == sent.len() as i64);
    assert!(stream.terminate().success());
    let sql = std::fs::read_to_string("examples/stream/drift.sql").unwrap();
    let sql = sql.replace("out/embeddings/", &format!("{}/", rows.display()));
    let sql = sql.replace("corpus/written.jsonl", &known.display().to_string());
    let statements: Vec<&str> = sql.split_inclusive(";\n").collect();
    let found = asked("models/spine".as_ref(), &statements);
    let similarity = |site: &str| -> f64 {
        let line = found.lines().find(|line| line.contains(site)).unwrap_or_else(|| panic!("{site}\n{found}"));
        line.split('|').nth(4).unwrap().trim().parse().unwrap()
    };
    let (training, north, south) = (similarity("(training set)"), similarity("NORTH"), similarity("SOUTH"));
    assert!(north > south + 0.05, "{found}");
    assert!((north - training).abs() < training - south, "{found}");
}
