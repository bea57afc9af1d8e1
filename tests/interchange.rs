//! Finding rows in the forms of others, through the command `foramen export`. FHIR resources go through HAPI FHIR's validator.
//!
//! `FORAMEN_UPDATE=1 cargo test --test interchange` writes what comes out into examples/export, to be looked through before it is kept.

// A test fails by panicking, its helpers too, and says what it left out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use foramen::interchange::{FlatMap, Grade, Report, Segment};
use foramen::labels::LabelSchema;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

const FINDINGS: &str = "examples/export/findings.jsonl";

fn export(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foramen")).arg("export").args(arguments).output().unwrap()
}

fn exported(arguments: &[&str]) -> String {
    let output = export(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is written is what stands in the examples.
fn kept(name: &str, text: &str) {
    let path = Path::new("examples/export").join(name);
    if std::env::var_os("FORAMEN_UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == text,
        "{name} is not what is written: FORAMEN_UPDATE=1 writes it"
    );
}

fn fails(arguments: &[&str], words: &[&str]) {
    let output = export(arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

#[test]
fn the_last_version_of_a_report_is_a_row_of_rsna_labels() {
    let text = exported(&[FINDINGS, "--to", "rsna2024", "--output", "-"]);
    kept("rsna2024.csv", &text);
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    assert_eq!(header.len(), 26);
    assert_eq!(header[..3], ["study_id", "spinal_canal_stenosis_l1_l2", "spinal_canal_stenosis_l2_l3"]);
    let first = lines.next().unwrap();
    let cell = |name: &str| first[header.iter().position(|column| *column == name).unwrap()];
    assert_eq!(cell("study_id"), "DEMO-1");
    // The final report, not the preliminary one; a grade that was withheld and a segment that is not named are empty.
    assert_eq!(cell("spinal_canal_stenosis_l4_l5"), "Moderate");
    assert_eq!(cell("left_neural_foraminal_narrowing_l4_l5"), "Normal/Mild");
    assert_eq!(cell("left_neural_foraminal_narrowing_l5_s1"), "Severe");
    assert_eq!(cell("right_neural_foraminal_narrowing_l5_s1"), "");
    assert_eq!(cell("right_subarticular_stenosis_l5_s1"), "Moderate");
    assert_eq!(cell("spinal_canal_stenosis_l1_l2"), "");
    // No cervical label is there to be given.
    assert!(lines.next().unwrap()[1..].iter().all(|cell| cell.is_empty()));
}

/// Each of the 25 labels with each of its three values, and no two findings that differ in a label in one row.
#[test]
fn every_rsna_label_is_written_and_nothing_of_it_is_lost() {
    let schema = LabelSchema::spine();
    let map = FlatMap::rsna2024(&schema).unwrap();
    let header = map.header();
    let report = |level: &str, task: &str, grade: &str| Report {
        report_id: "1".into(),
        message_control_id: None,
        patient_id: None,
        exam: None,
        status: None,
        reported_at: None,
        model: None,
        segments: vec![Segment {
            region: None,
            level: level.into(),
            grades: vec![Grade { task: task.into(), grade: Some(grade.into()), score: None }],
            evidence: None,
        }],
    };
    let mut said = BTreeSet::new();
    for level in ["L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1"] {
        for (task, column) in [
            ("canal_stenosis", "spinal_canal_stenosis"),
            ("foraminal_stenosis_left", "left_neural_foraminal_narrowing"),
            ("foraminal_stenosis_right", "right_neural_foraminal_narrowing"),
            ("subarticular_stenosis_left", "left_subarticular_stenosis"),
            ("subarticular_stenosis_right", "right_subarticular_stenosis"),
        ] {
            for (grade, label) in
                [("none", "Normal/Mild"), ("mild", "Normal/Mild"), ("moderate", "Moderate"), ("severe", "Severe")]
            {
                let row = map.row(&report(level, task, grade));
                let name = format!("{column}_{}", level.to_lowercase().replace('-', "_"));
                let place = header.iter().position(|column| *column == name).unwrap();
                assert_eq!(row[place], label);
                assert_eq!(row.iter().filter(|cell| !cell.is_empty()).count(), 2);
                said.insert((place, label));
            }
        }
    }
    assert_eq!(said.len(), 75);
}

fn bundles(arguments: &[&str]) -> Vec<Value> {
    let all = [&[FINDINGS, "--to", "fhir", "--output", "-"], arguments].concat();
    exported(&all).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn resources<'a>(bundle: &'a Value, kind: &str) -> Vec<&'a Value> {
    let entries = bundle["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]);
    entries.filter(|resource| resource["resourceType"] == kind).collect()
}

#[test]
fn fhir_resources_say_what_the_rows_say() {
    let bundles = bundles(&[]);
    let pretty: String = bundles.iter().map(|bundle| serde_json::to_string_pretty(bundle).unwrap() + "\n").collect();
    kept("fhir.json", &pretty);
    // A bundle for each version of each report.
    assert_eq!(bundles.len(), 3);
    let last = &bundles[1];
    let [device] = resources(last, "Device")[..] else { panic!("one device") };
    let [report] = resources(last, "DiagnosticReport")[..] else { panic!("one report") };
    let observations = resources(last, "Observation");
    assert_eq!(device["identifier"][0]["value"], "spine@0.2.0 0123456789ab");
    let levels: Vec<&str> =
        report["result"].as_array().unwrap().iter().map(|r| r["display"].as_str().unwrap()).collect();
    assert_eq!(levels, ["L4-L5", "L5-S1"]);
    for (observation, result) in observations.iter().zip(report["result"].as_array().unwrap()) {
        assert_eq!(result["reference"], format!("Observation/{}", observation["id"].as_str().unwrap()));
        assert_eq!(observation["device"]["reference"], format!("Device/{}", device["id"].as_str().unwrap()));
        assert_eq!(observation["component"].as_array().unwrap().len(), 9);
        for resource in [*observation, report] {
            assert_eq!(resource["meta"]["security"][0]["code"], "AIAST");
        }
    }
    assert!(device.get("meta").is_none());
    let component = |observation: &Value, task: &str| {
        let all = observation["component"].as_array().unwrap();
        all.iter().find(|component| component["code"]["coding"][0]["code"] == task).unwrap().clone()
    };
    let canal = component(observations[0], "canal_stenosis");
    assert_eq!(canal["valueCodeableConcept"]["coding"][0]["code"], "moderate");
    assert_eq!(canal["code"]["coding"][1]["code"], "RDE2058");
    assert_eq!(canal["extension"][0]["valueDecimal"], 0.91);
    let withheld = component(observations[1], "foraminal_stenosis_right");
    assert!(withheld.get("valueCodeableConcept").is_none() && withheld["dataAbsentReason"].is_object());
    // The preliminary version has the id of the final one, which takes its place.
    assert_eq!(resources(&bundles[0], "Observation")[0]["id"], observations[0]["id"]);
    assert_eq!(resources(&bundles[0], "DiagnosticReport")[0]["status"], "preliminary");
    // RadElement speaks of the lumbar spine; what a row lacks, its resources lack.
    let cervical = resources(&bundles[2], "Observation")[0];
    assert!(!cervical.to_string().contains("RDE"));
    assert!(["subject", "issued"].iter().all(|member| cervical.get(member).is_none()));
    assert_eq!(cervical["status"], "corrected");
}

#[test]
fn evidence_can_be_left_out_and_codes_be_a_sites_own() {
    let folder = tempfile::tempdir().unwrap();
    let codes = folder.path().join("codes.toml");
    let own = "name = \"own\"\nsystem = \"urn:site\"\n[segments.\"C5-C6\"]\ncode = \"S56\"\ndisplay = \"five six\"\n[[task]]\nname = \"cord\"\n\
               code = \"CORD\"\ndisplay = \"The cord\"\n[task.grades.compression]\ncode = \"CC\"\ndisplay = \"compressed\"\n";
    std::fs::write(&codes, own).unwrap();
    let path = codes.to_str().unwrap();
    let bundles = bundles(&["--no-evidence", "--codes", path]);
    let text = bundles[2].to_string();
    assert!(!text.contains("osteophyte ridge") && !text.contains("\"note\""));
    for code in ["\"S56\"", "\"CORD\"", "\"CC\"", "urn:site"] {
        assert!(text.contains(code), "{code}");
    }
    for (from, to, word) in [
        ("\"cord\"", "\"chord\"", "chord"),
        ("grades.compression", "grades.crushed", "crushed"),
        ("code = \"CC\"", "cod = 1", "cod"),
    ] {
        std::fs::write(&codes, own.replace(from, to)).unwrap();
        fails(&[FINDINGS, "--to", "fhir", "--output", "-", "--codes", path], &["codes.toml", word]);
    }
}

#[test]
fn a_table_of_ones_own_and_what_can_not_be_exported() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("registry.toml");
    let own = "name = \"registry\"\nid_column = \"case\"\n[levels]\n\"C5-C6\" = \"C56\"\n[[column]]\nname = \"{level} cord\"\ntask = \"cord\"\n\
               grades = { none = \"0\", contact = \"1\", compression = \"2\" }\n";
    std::fs::write(&map, own).unwrap();
    let path = map.to_str().unwrap();
    assert_eq!(exported(&[FINDINGS, "--to", path, "--output", "-"]), "case,C56 cord\nDEMO-1,\nDEMO-2,2\n");
    std::fs::write(&map, own.replace("contact = \"1\", ", "")).unwrap();
    fails(&[FINDINGS, "--to", path, "--output", "-"], &["registry.toml", "contact"]);

    let out = folder.path().join("out.csv");
    let out = out.to_str().unwrap();
    fails(&[FINDINGS, "--to", "hl7", "--output", out], &["hl7", "rsna2024"]);
    fails(&["none.parquet", "--to", "fhir", "--output", out], &["none.parquet"]);
    fails(
        &["examples/reports/reports.csv", "--to", "fhir", "--output", out],
        &["reports.csv", "no column", "foramen label"],
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written is left");
}

/// What `foramen label` writes, in every format, exports to the same.
#[test]
fn every_format_of_finding_rows_is_read() {
    if !Path::new("models/spine/package.toml").exists() {
        println!("skipped: models/spine is absent");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    for extension in ["parquet", "jsonl", "csv", "arrow"] {
        let rows = folder.path().join(format!("rows.{extension}"));
        let rows = rows.to_str().unwrap();
        let label = ["label", "examples/messages/oru-lumbar.hl7", "--output", rows];
        assert!(Command::new(env!("CARGO_BIN_EXE_foramen")).args(label).status().unwrap().success());
        seen.insert(exported(&[rows, "--to", "fhir", "--output", "-"]));
        seen.insert(exported(&[rows, "--to", "rsna2024", "--output", "-"]));
    }
    assert_eq!(seen.len(), 2, "{seen:#?}");
}

#[test]
fn a_validator_of_fhir_r4_finds_no_error() {
    let libraries = Path::new("native/hapi/libs");
    if !libraries.is_dir() {
        assert!(std::env::var_os("CI").is_none(), "native/hapi is absent: `python3 scripts/fetch.py hapi` fetches it");
        println!("skipped: HAPI FHIR is absent; `python3 scripts/fetch.py hapi` fetches it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let write = |name: String, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    for (index, bundle) in bundles(&[]).iter().enumerate() {
        files.push(write(format!("{index}.json"), bundle.to_string()));
    }
    // So that the test can fail: a status that R4 does not have, a member it does not know, a component without its code.
    let good = std::fs::read_to_string(&files[1]).unwrap();
    let broken = [
        good.replace("\"status\":\"final\"", "\"status\":\"retracted\""),
        good.replace("\"bodySite\"", "\"bodyPlace\""),
        good.replace("\"type\":\"transaction\"", "\"type\":\"transfer\""),
    ];
    let broken = broken.map(|text| {
        assert_ne!(text, good);
        files.push(write(format!("broken-{}.json", files.len()), text));
        files.last().unwrap().clone()
    });
    let classes = format!("{}/*", libraries.display());
    let output =
        Command::new("java").args(["-cp", &classes, "tests/fhir/Validate.java"]).args(&files).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    for file in &files {
        let valid = told.contains(&format!("{}: valid", file.display()));
        assert_eq!(valid, !broken.contains(file), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
