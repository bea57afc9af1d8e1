//! `foramen label`, `foramen model` and `foramen doctor` as they are typed, with inputs good and bad.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use foramen::archive::{MODEL_KEY, SCHEMA_KEY, finding_schema};
use foramen::labels::LabelSchema;
use foramen::train::{Precision, export::export_untrained};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

fn model() -> &'static Path {
    static MODEL: OnceLock<TempDir> = OnceLock::new();
    let export = || {
        let folder = tempfile::tempdir().unwrap();
        export_untrained(&LabelSchema::spine(), Precision::Float32, 7, folder.path()).unwrap();
        folder
    };
    MODEL.get_or_init(export).path()
}

/// A folder to work in.
struct Place(TempDir);

/// What a command did.
struct Done {
    status: i32,
    out: String,
    screen: String,
}

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Place {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), content).unwrap();
        self
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.fed(arguments, b"")
    }

    fn fed(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foramen"));
        command.args(arguments).current_dir(self.0.path()).env("FORAMEN_MODEL", model()).env_remove("RUST_LOG");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that refuses its arguments reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input);
        let done = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done {
            status: done.status.code().expect("it was not killed"),
            out: text(done.stdout),
            screen: text(done.stderr),
        }
    }

    /// Labels inputs into `out.jsonl`: what was told, the rows and the rejects.
    fn label(&self, arguments: &[&str]) -> (Done, Vec<Value>, Vec<Value>) {
        let done = self.run(&[&["label", "--output", "out.jsonl"], arguments].concat());
        let lines = |name| -> Vec<Value> {
            let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        (done, lines("out.jsonl"), lines("out.jsonl.rejects.jsonl"))
    }
}

/// The one reject of inputs of which the rest goes on.
fn rejected(place: &Place, arguments: &[&str], code: &str, words: &[&str]) -> Value {
    let (done, _, rejects) = place.label(arguments);
    assert_eq!(done.status, 3, "{}", done.screen);
    assert_eq!(rejects.len(), 1, "{rejects:?}");
    assert_eq!(rejects[0]["code"], code, "{rejects:?}");
    for word in words {
        assert!(rejects[0]["message"].as_str().unwrap().contains(word), "{word}: {rejects:?}");
        assert!(done.screen.contains(word), "{word}: {}", done.screen);
    }
    assert!(done.screen.contains(rejects[0]["source"].as_str().unwrap()), "{}", done.screen);
    assert!(
        done.screen.contains(&format!("1 reject: {code} 1")) && done.screen.contains("out.jsonl.rejects.jsonl"),
        "{}",
        done.screen
    );
    rejects[0].clone()
}

fn message(id: &str, text: &str) -> String {
    format!(
        "MSH|^~\\&|RIS|HOSPITAL|||20260102030405||ORU^R01|C{id}|P|2.5\rPID|1||SECRET{id}^^^^MR||DOE^JANE\r\
         OBR|1||{id}|72148^MRI LUMBAR SPINE||||||||||||||||||20260102040506|||F\rOBX|1|TX|||{text}||||||F\r"
    )
}

const REPORT: &str = "L4-L5: Mild disc bulge. L5-S1: Left extrusion.";

#[test]
fn every_kind_of_input_gives_its_rows() {
    let place = Place::new()
        .with("in/a.hl7", message("1", REPORT) + &message("2", "The knee is normal."))
        .with("in/b.txt", REPORT)
        .with("in/c.jsonl", format!("{{\"id\": \"c1\", \"text\": \"{REPORT}\"}}\n\n{{\"id\": 7, \"text\": null}}\n"))
        .with("in/d.csv", format!("\u{feff}report_id,Text\n007,\"{REPORT}\nSecond line\"\n008,\n"));
    let columns = [("note", REPORT), ("id", "p1")];
    write_parquet(&place.path("in/sub/e.parquet"), &columns);
    let (done, rows, rejects) = place.label(&["in"]);
    // The Parquet file has no column of that name.
    assert_eq!((done.status, rows.len(), rejects.len()), (3, 8, 1), "{}", done.screen);
    let (done, rows, rejects) = place.label(&["in/*.*"]);
    assert_eq!((done.status, rejects.len()), (0, 0), "{}", done.screen);
    assert!(!place.path("out.jsonl.rejects.jsonl").exists(), "what an earlier run rejected is not left behind");
    assert!(
        done.screen.contains("7 reports and 8 rows from 4 files")
            && done.screen.contains("3 reports of no motion segment")
    );
    let column = |name: &str| -> Vec<&str> { rows.iter().map(|row| row[name].as_str().unwrap_or("-")).collect() };
    assert_eq!(column("report_id"), ["1", "1", "b", "b", "c1", "c1", "007", "007"]);
    assert_eq!(column("level"), ["L4-L5", "L5-S1"].repeat(4));
    assert_eq!(column("message_control_id")[..3], ["C1", "C1", "-"]);
    assert_eq!(column("patient_id")[..3], ["SECRET1", "SECRET1", "-"]);
    assert_eq!(column("report_status")[..3], ["final", "final", "-"]);
    assert_eq!(rows[0]["reported_at"], "2026-01-02T04:05:06Z");
    assert_eq!(rows[0]["exam"], "MRI LUMBAR SPINE");
    assert_eq!(rows[0]["source"], "in/a.hl7");
    assert!(rows[1]["evidence"].as_str().unwrap().contains("Left extrusion"));
    for row in &rows[2..] {
        assert_eq!(
            row["disc"],
            rows[if row["level"] == "L4-L5" { 0 } else { 1 }]["disc"],
            "the same text has the same grade"
        );
    }
    let (done, rows, _) = place.label(&["in/sub/e.parquet", "--text-column", "note"]);
    assert_eq!((done.status, rows.len()), (0, 2), "{}", done.screen);
    assert_eq!(rows[0]["report_id"], "p1");
}

fn write_parquet(path: &Path, columns: &[(&str, &str)]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let fields: Vec<Field> = columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.iter().map(|(_, value)| Arc::new(StringArray::from(vec![*value])) as _).collect();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), schema.clone(), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
    writer.close().unwrap();
}

#[test]
fn every_kind_of_output_holds_the_same_rows() {
    // More than one chunk.
    let lines: String =
        (0..600).map(|n| format!("{{\"id\": \"{n}\", \"text\": \"L4-L5: bulge {n}. L5-S1: mild.\"}}\n")).collect();
    let place = Place::new().with("in.jsonl", lines);
    let out = |name: &str| {
        let done = place.run(&["label", "in.jsonl", "--output", name]);
        assert_eq!(done.status, 0, "{}", done.screen);
        place.path(name)
    };
    let open = |name: &str| std::fs::File::open(out(name)).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(open("out.parquet")).unwrap();
    let metadata = builder.metadata().file_metadata().key_value_metadata().unwrap();
    let value = |key: &str| metadata.iter().find(|pair| pair.key == key).unwrap().value.clone().unwrap();
    assert!(value(MODEL_KEY).starts_with("untrained@0.0.0 ") && value(SCHEMA_KEY) == "spine/1");
    let joined = |batches: Vec<RecordBatch>| concat_batches(&batches[0].schema(), &batches).unwrap();
    let parquet = joined(builder.build().unwrap().map(Result::unwrap).collect());
    let reader = arrow::ipc::reader::FileReader::try_new(open("out.arrow"), None).unwrap();
    assert_eq!(reader.schema().metadata()[SCHEMA_KEY], "spine/1");
    let ipc = joined(reader.map(Result::unwrap).collect());
    assert_eq!(parquet.num_rows(), 1200);
    assert_eq!(parquet.columns(), ipc.columns());
    assert_eq!(parquet.schema().fields(), finding_schema(&LabelSchema::spine()).fields());
    let disc = parquet["disc"].as_dictionary::<Int8Type>();
    let grade = |row: usize| disc.values().as_string::<i32>().value(disc.keys().value(row) as usize);
    let csv = std::fs::read_to_string(out("out.csv")).unwrap();
    let json = std::fs::read_to_string(out("out.jsonl")).unwrap();
    assert_eq!((csv.lines().count(), json.lines().count()), (1201, 1200));
    for (row, line) in json.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["disc"], grade(row));
        assert_eq!(line.as_object().unwrap().len(), parquet.num_columns(), "nothing is left out, NULLs neither");
    }
    assert!(csv.lines().nth(1).unwrap().starts_with("0,,,,,,in.jsonl,lumbar,L4-L5,"));
    let mut left = std::fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.all(|name| !name.to_string_lossy().ends_with(".partial")));
    let empty = Place::new().with("knee.txt", "The knee is normal.");
    assert_eq!(empty.run(&["label", "knee.txt", "--output", "out.csv"]).status, 0);
    assert!(std::fs::read_to_string(empty.path("out.csv")).unwrap().starts_with("report_id,message_control_id"));
}

#[test]
fn grades_that_are_not_sure_are_null() {
    let place = Place::new().with("in.txt", REPORT);
    let (_, all, _) = place.label(&["in.txt"]);
    let scores: Vec<f64> = all.iter().map(|row| row["disc_score"].as_f64().unwrap()).collect();
    let least = scores.iter().copied().fold(1.0, f64::min) + 1e-4;
    let (done, some, _) = place.label(&["in.txt", "--min-score", &least.to_string()]);
    assert_eq!(done.status, 0, "{}", done.screen);
    let mut withheld = 0;
    for (all, some) in all.iter().zip(&some) {
        assert_eq!(all["disc_score"], some["disc_score"]);
        let sure = all["disc_score"].as_f64().unwrap() >= least;
        assert_eq!(some["disc"], if sure { all["disc"].clone() } else { Value::Null });
        withheld += usize::from(!sure);
    }
    assert!(withheld > 0 && some.len() == all.len());
}

#[test]
fn standard_input_and_standard_output() {
    let place = Place::new();
    for (input, id) in [
        (REPORT.to_owned(), "stdin"),
        (message("77", REPORT), "77"),
        (format!("{{\"id\":\"j\",\"text\":\"{REPORT}\"}}"), "j"),
    ] {
        let done = place.fed(&["label", "-", "--output", "-"], input.as_bytes());
        assert_eq!(done.status, 0, "{}", done.screen);
        let rows: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[0]["report_id"], &rows[0]["source"]), (&Value::from(id), &Value::from("stdin")));
    }
    let done = place.fed(&["label", "-", "--output", "-", "--rejects", "r.jsonl"], b"\0\x01\xff");
    assert_eq!((done.status, done.out.as_str()), (3, ""), "{}", done.screen);
    assert!(std::fs::read_to_string(place.path("r.jsonl")).unwrap().contains("\"base64\":\"AAH/\""));
}

#[test]
fn what_is_bad_is_rejected_and_the_rest_goes_on() {
    let good = || Place::new().with("in/z.txt", REPORT);
    let whole =
        |place: &Place| assert_eq!(std::fs::read_to_string(place.path("out.jsonl")).unwrap().lines().count(), 2);

    let place = good().with("in/empty.hl7", "").with("blank.txt", " \r\n\n");
    whole({
        rejected(&place, &["in"], "empty", &["is empty"]);
        &place
    });
    rejected(&place, &["blank.txt"], "empty", &["check how it was made"]);

    let place = good().with("in/junk.bin", (0..=255u8).cycle().take(5000).collect::<Vec<u8>>());
    let reject = rejected(&place, &["in"], "not-text", &["--input-format"]);
    whole(&place);
    assert!(reject["base64"].is_string() && reject.get("text").is_none(), "bytes stand once");

    let place = good().with("in/cut.hl7", format!("\u{b}{}", message("5", "L4-L5 \\.b").trim_end_matches('\r')));
    let reject = rejected(&place, &["in"], "truncated", &["sent again"]);
    whole(&place);
    assert_eq!(reject["control_id"], "C5");
    assert!(reject["text"].as_str().unwrap().contains("SECRET5"), "the file of rejects has the bytes");

    let place = good().with("in/a.csv", "id,note,n\n1,L4-L5: bulge,2\n");
    rejected(&place, &["in"], "no-text-column", &["text or report", "--text-column", "id, note, n"]);
    rejected(&place, &["in", "--text-column", "nota"], "no-text-column", &["nota", "id, note, n"]);
    rejected(&place, &["in", "--text-column", "note", "--id-column", "key"], "no-id-column", &["key", "--id-column"]);
    whole(&place);

    let place = good().with("in/b.jsonl", format!("{{\"text\": 5}}\n{{\"text\": \"{REPORT}\"}}\n"));
    let reject = rejected(&place, &["in"], "text-not-text", &["--text-column"]);
    assert_eq!((&reject["position"], &reject["offset"]), (&"line 1".into(), &0.into()));
    let place = good().with(
        "in/c.jsonl",
        format!("{{\"text\": \"{REPORT}\"}}\nL4-L5 is not JSON SECRET\n{{\"text\": \"{REPORT}\"}}"),
    );
    let (done, rows, rejects) = place.label(&["in"]);
    assert_eq!((done.status, rows.len(), rejects.len()), (3, 6, 1), "{}", done.screen);
    assert_eq!(rejects[0]["text"], "L4-L5 is not JSON SECRET");

    let place = good().with("in/d.csv", format!("id,text\n1,\"{REPORT}\"\n2,SECRET,too,many\n"));
    rejected(&place, &["in"], "bad-csv", &["row"]);

    let place = good();
    write_parquet(&place.path("in/e.parquet"), &[("text", REPORT)]);
    let bytes = std::fs::read(place.path("in/e.parquet")).unwrap();
    std::fs::write(place.path("in/e.parquet"), &bytes[..bytes.len() - 20]).unwrap();
    rejected(&place, &["in"], "bad-parquet", &["cut short"]);
    whole(&place);
}

#[test]
fn parquet_columns_of_another_type_are_named() {
    let place = Place::new();
    let schema = Arc::new(Schema::new(vec![
        Field::new("text", DataType::Int32, true),
        Field::new("note", DataType::Utf8, true),
    ]));
    let arrays: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(arrow::array::Int32Array::from(vec![1])), Arc::new(StringArray::from(vec![REPORT]))];
    let file = std::fs::File::create(place.path("in.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema.clone(), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
    writer.close().unwrap();
    rejected(&place, &["in.parquet"], "text-not-text", &["text is Int32", "--text-column", "note"]);
    let (done, rows, _) = place.label(&["in.parquet", "--text-column", "note", "--id-column", "text"]);
    assert_eq!((done.status, rows.len()), (0, 2), "{}", done.screen);
    assert_eq!(rows[0]["report_id"], "1");
}

#[test]
fn text_in_other_languages_and_character_sets_is_read() {
    let place = Place::new()
        .with("german.txt", "MRT der LWS: Bandscheibenvorfall im untersten Segment, Höhenminderung.")
        .with("latin.txt", b"L4-L5: H\xf6henminderung, bulge.");
    let (done, rows, rejects) = place.label(&["german.txt", "latin.txt"]);
    assert_eq!((done.status, rows.len(), rejects.len()), (0, 1, 0), "{}", done.screen);
    assert!(rows[0]["evidence"].as_str().unwrap().contains("Höhenminderung"));
    assert!(
        done.screen.contains("1 report of no motion segment") && done.screen.contains("1 x text that is not UTF-8"),
        "{}",
        done.screen
    );
    let (_, rows, _) = place.label(&["latin.txt", "--charset", "8859/7"]);
    assert!(rows[0]["evidence"].as_str().unwrap().contains("Hφhenminderung"), "{rows:?}");
}

#[test]
fn a_message_of_50_mb_is_read_and_a_longer_one_refused() {
    let scan = format!("OBX|2|ED|||^application^PDF^Base64^{}||||||F\r", "QUJD".repeat(13 << 20));
    let place = Place::new().with("long.hl7", message("1", REPORT) + &scan + &message("2", REPORT));
    let (done, rows, _) = place.label(&["long.hl7"]);
    assert_eq!((done.status, rows.len()), (0, 4), "{}", done.screen);
    assert!(done.screen.contains("1 x attachment that is not text"), "{}", done.screen);
    let filler = "The marrow signal is normal. ";
    let place = Place::new().with("long.txt", filler.repeat(2_400_000)).with("short.txt", REPORT);
    let reject = rejected(&place, &["long.txt", "short.txt"], "too-large", &["64 MB"]);
    assert!(reject.get("text").is_none(), "the file is still there");
    // Shorter, and yet nothing that one would write of a segment.
    let place =
        Place::new().with("long.txt", format!("L4-L5: {}", "bulge and ".repeat(500_000))).with("short.txt", REPORT);
    rejected(&place, &["long.txt", "short.txt"], "model-failed", &["longer than a report can be", "split the text"]);
}

#[test]
fn other_messages_are_counted_by_type() {
    let admission = message("3", REPORT).replace("ORU^R01", "ADT^A01");
    let place = Place::new().with("in.hl7", message("1", REPORT) + &admission + &admission);
    let (done, rows, rejects) = place.label(&["in.hl7"]);
    assert_eq!((done.status, rows.len(), rejects.len()), (0, 2, 0), "{}", done.screen);
    assert!(done.screen.contains("2 messages of other kinds: ADT^A01 2"), "{}", done.screen);
}

#[test]
fn a_sites_ways_with_messages_are_followed() {
    let with_accession = message("1", REPORT).replace("SPINE||||||||||||||||||", "SPINE||||||||||||||ACC1||||");
    let place = Place::new()
        .with("in.hl7", with_accession)
        .with("site.toml", "report_id = [\"OBR-18\", \"OBR-3.1\"]\n\n[status.obx-11]\nF = \"preliminary\"\n")
        .with("bad.toml", "report_ids = [\"OBR-18\"]\n");
    for (options, id, status) in
        [(&[] as &[&str], "1", "final"), (&["--hl7-options", "site.toml"], "ACC1", "preliminary")]
    {
        let (done, rows, _) = place.label(&[&["in.hl7"], options].concat());
        assert_eq!((done.status, rows.len()), (0, 2), "{}", done.screen);
        assert!(rows.iter().all(|row| row["report_id"] == id && row["report_status"] == status), "{rows:?}");
        let query = "SELECT r['report_id'] AS id, r['report_status'] AS s FROM (SELECT hl7_report(message) AS r FROM 'in.hl7');";
        let done = place.run(&[&["sql", "--format", "csv", "-c", query], options].concat());
        assert_eq!(done.out, format!("id,s\n{id},{status}\n"), "{}", done.screen);
    }
    for (file, word) in [("bad.toml", "report_ids"), ("none.toml", "cannot read")] {
        for command in [&["label", "in.hl7", "--output", "-"][..], &["sql", "-c", "SELECT 1;"]] {
            let done = place.run(&[command, &["--hl7-options", file]].concat());
            assert_eq!((done.status, done.out.as_str()), (1, ""), "{}", done.screen);
            assert!(done.screen.contains(file) && done.screen.contains(word), "{}", done.screen);
        }
    }
}

#[test]
fn the_screen_shows_nothing_of_a_patient() {
    let place = Place::new()
        .with("in/a.hl7", message("1", REPORT) + "MSH|^~\\&|\rPID|1||SECRET9\rstray")
        .with("in/b.jsonl", "{\"id\": \"SECRET2\", \"text\": [\"SECRET3\"]}\nSECRET4\n")
        .with("in/c.csv", "id,text\nSECRET5,\"a\"b\"SECRET6\nSECRET7\n")
        .with("in/d.csv", "4711,SECRET8\n4712,SECRET9\n")
        .with("in/e.hl7", message("5", REPORT).replace("ORU^R01", "SECRET^A"));
    let done = {
        let mut arguments = vec!["label", "in", "--output", "out.parquet"];
        arguments.extend(["--rejects", "r.jsonl"]);
        place.run(&arguments)
    };
    assert_eq!((done.status, done.out.as_str()), (3, ""), "{}", done.screen);
    assert!(!done.screen.contains("SECRET") && !done.screen.contains("DOE"), "{}", done.screen);
}

#[test]
fn an_output_in_the_input_folder_is_not_read_and_an_input_not_written_over() {
    let place = Place::new().with("in/a.txt", REPORT).with("in/b.bin", b"\0\0");
    for _ in 0..2 {
        let done = place.run(&["label", "in", "--output", "in/out.csv"]);
        assert_eq!(done.status, 3, "{}", done.screen);
        assert!(done.screen.contains("1 report and 2 rows from 2 files"), "{}", done.screen);
    }
    let done = place.run(&["label", "in/out.csv", "--output", "in/out.csv"]);
    assert!(done.status == 1 && done.screen.contains("is an input too"), "{}", done.screen);
}

#[test]
fn what_can_not_run_says_why() {
    let place = Place::new().with("in.txt", REPORT).with("folder.csv/x", "");
    for (arguments, status, words) in [
        (&["in.txt", "--output", "out.xls"][..], 2, &["out.xls", "*.parquet"][..]),
        (&["in.txt"], 2, &["--output"]),
        (&["--output", "out.csv"], 2, &["INPUT"]),
        (&["in.txt", "--output", "out.csv", "--charset", "klingon"], 2, &["character set", "utf-8"]),
        (&["in.txt", "--output", "out.csv", "--device", "gpu"], 2, &["cuda:N"]),
        (&["in.txt", "--output", "out.csv", "--min-score", "80"], 2, &["--min-score", "between 0 and 1"]),
        (&["in.txt", "--output", "out.csv", "--min-score", "most"], 2, &["--min-score", "invalid float"]),
        (&["none.txt", "--output", "out.csv"], 1, &["none.txt", "neither a file nor a folder"]),
        (&["in.txt", "--output", "none/out.csv"], 1, &["none/out.csv", "can't be written", "folder"]),
        (&["in.txt", "--output", "folder.csv"], 1, &["folder.csv", "can't be written"]),
        (&["in.txt", "--output", "out.csv", "--rejects", "out.csv"], 1, &["out.csv", "--rejects"]),
        (&["in.txt", "--output", "out.csv", "--model", "none"], 1, &["none", "package.toml"]),
        (&["in.txt", "--output", "out.csv", "--device", "cuda:63"], 1, &["cuda:63", "--device cpu"]),
    ] {
        let done = place.run(&[&["label"], arguments].concat());
        assert_eq!(done.status, status, "{arguments:?}: {}", done.screen);
        for word in words {
            assert!(done.screen.contains(word), "{word}: {}", done.screen);
        }
        assert!(!place.path("out.csv").exists() && !place.path(".out.csv.partial").exists());
    }
}

#[test]
fn a_model_folder_with_a_file_missing_or_altered_is_told() {
    let place = Place::new().with("in.txt", REPORT);
    std::fs::create_dir(place.path("model")).unwrap();
    for entry in std::fs::read_dir(model()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, place.path("model").join(path.file_name().unwrap())).unwrap();
    }
    let done = place.run(&["model", "model"]);
    assert_eq!(done.status, 0, "{}", done.screen);
    for word in
        ["untrained@0.0.0", "model.onnx", "all whole", "spine/1", "canal_stenosis: none, mild, moderate, severe"]
    {
        assert!(done.out.contains(word), "{word}: {}", done.out);
    }
    std::fs::write(place.path("model/tokenizer.json"), "{}").unwrap();
    let commands: [&[&str]; 3] = [
        &["model", "model"],
        &["label", "in.txt", "--output", "out.csv", "--model", "model"],
        &["doctor", "--model", "model"],
    ];
    for command in commands {
        let done = place.run(command);
        let told = format!("{}{}", done.out, done.screen);
        assert!(
            done.status == 1 && told.contains("tokenizer.json") && told.contains("copy the whole package"),
            "{told}"
        );
    }
    std::fs::remove_file(place.path("model/model.onnx")).unwrap();
    for command in commands {
        let done = place.run(command);
        let told = format!("{}{}", done.out, done.screen);
        assert!(done.status == 1 && told.contains("model.onnx"), "{told}");
    }
}

#[test]
fn the_doctor_says_what_works() {
    let done = Place::new().run(&["doctor"]);
    assert_eq!(done.status, 0, "{}", done.out);
    for word in [
        "ok      ONNX Runtime",
        "libonnxruntime",
        "ok      model package",
        "ok      reading a sentence",
        "on cpu",
        "L4-L5:",
    ] {
        assert!(done.out.contains(word), "{word}: {}", done.out);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_foramen"));
    let done = command
        .arg("doctor")
        .env("FORAMEN_MODEL", model())
        .env("ORT_DYLIB_PATH", "/none/libonnxruntime.so")
        .output()
        .unwrap();
    let told = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1), "{told}");
    for word in
        ["FAILED  ONNX Runtime", "/none/libonnxruntime.so", "scripts/fetch.py onnxruntime", "ok      model package"]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn a_run_that_is_asked_to_stop_leaves_no_output() {
    let place = Place::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_foramen"));
    command.args(["label", "-", "--input-format", "jsonl", "--output", "out.csv"]).current_dir(place.0.path());
    command.env("FORAMEN_MODEL", model()).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let chunk = "{\"text\": \"L4-5: bulge.\"}\n".repeat(300);
    input.write_all(chunk.as_bytes()).unwrap();
    while !place.path(".out.csv.partial").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    let asked = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(asked.success());
    // More comes in until it has seen that.
    while input.write_all(chunk.as_bytes()).is_ok() && child.try_wait().unwrap().is_none() {}
    drop(input);
    let done = child.wait_with_output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("stopped before the end; no output was written"), "{told}");
    assert!(!place.path("out.csv").exists() && !place.path(".out.csv.partial").exists());
}
