//! What `foramen label` costs by the number of reports, with a model that costs next to nothing, and how long commands take to start.
//!
//! `make bench` runs it. It measures and asserts nothing about time; texts are those of `corpus/written.jsonl`. Cold starts are measured where
//! the system's page cache may be dropped (as root on Linux).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it measured, and fails loudly")]

mod archive;

use foramen::labels::LabelSchema;
use foramen::train::{Precision, export::export_untrained};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FORAMEN: &str = env!("CARGO_BIN_EXE_foramen");

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let quick = folder.join("quick");
    export_untrained(&LabelSchema::spine(), Precision::Float32, 7, &quick).unwrap();
    let texts = archive::texts(1);
    println!(
        "| reports | MB | seconds | reports/s | MB/s | memory at most, MiB |\n| --- | --- | --- | --- | --- | --- |"
    );
    for reports in [1_000, 10_000, 100_000, 1_000_000] {
        let file = folder.join("archive.hl7");
        let mut out = BufWriter::new(std::fs::File::create(&file).unwrap());
        for number in 0..reports {
            writeln!(out, "{}", archive::message(number, &texts[number % texts.len()])).unwrap();
        }
        out.flush().unwrap();
        let megabytes = std::fs::metadata(&file).unwrap().len() as f64 / 1e6;
        let mut label = Command::new(FORAMEN);
        label.arg("label").arg(&file).arg("--model").arg(&quick).arg("--output").arg(folder.join("rows.parquet"));
        let (seconds, memory) = run(&mut label);
        println!(
            "| {reports} | {megabytes:.0} | {seconds:.1} | {:.0} | {:.1} | {} |",
            reports as f64 / seconds,
            megabytes / seconds,
            memory / 1024
        );
    }
    starts(folder);
}

/// Seconds and the most kilobytes of a command that succeeds.
#[expect(clippy::disallowed_methods, reason = "the system is asked for a process's memory time and again")]
fn run(command: &mut Command) -> (f64, u64) {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success(), "{command:?}");
            return (started.elapsed().as_secs_f64(), most);
        }
        let told = std::fs::read_to_string(&status).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most = most.max(line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn starts(folder: &Path) {
    let report = folder.join("one.txt");
    std::fs::write(&report, "L4-5: broad-based disc bulge, mild canal stenosis.").unwrap();
    let report = report.to_str().unwrap();
    let rows = folder.join("one.jsonl");
    let rows = rows.to_str().unwrap();
    let model = "SELECT extract_findings('L4-5: disc bulge.')";
    println!("\n| command | warm, ms | cold, ms | memory at most, MiB |\n| --- | --- | --- | --- |");
    for (name, arguments) in [
        ("--version", vec!["--version"]),
        ("model models/spine", vec!["model", "models/spine"]),
        ("sql -c \"SELECT 1\"", vec!["sql", "-c", "SELECT 1"]),
        ("sql -c \"SELECT extract_findings(…)\"", vec!["sql", "-c", model]),
        ("label one.txt", vec!["label", report, "--output", rows]),
    ] {
        let once = || run(Command::new(FORAMEN).args(&arguments));
        let cold = std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok().then(|| once().0);
        let warm: Vec<(f64, u64)> = (0..5).map(|_| once()).collect();
        let least = warm.iter().map(|(seconds, _)| *seconds).fold(f64::INFINITY, f64::min);
        let cold = cold.map_or_else(|| "not measured".to_owned(), |cold| format!("{:.0}", cold * 1e3));
        let memory = warm.iter().map(|(_, memory)| *memory).max().unwrap_or(0) / 1024;
        println!("| `foramen {name}` | {:.0} | {cold} | {memory} |", least * 1e3);
    }
}
