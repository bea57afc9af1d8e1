//! From text and HL7 to finding rows: against raw ONNX Runtime on the same tokens, and against Python as people write it.
//!
//! `make bench` runs it. It measures and asserts nothing about time; texts are those of `corpus/written.jsonl`. What the tables mean is in
//! `docs/performance.md`. Every figure is the best of several runs taken in turn, so that a disturbance falls on all alike.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it measured, and fails loudly")]

mod archive;

use foramen::hl7;
use foramen::labels::LabelSchema;
use foramen::model::{Arithmetic, GRAPH, INT8_GRAPH, Model, Options, Runtime};
use foramen::report;
use foramen::train::Precision;
use foramen::train::export::export_resized;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokenizers::Tokenizer;

const MODEL: &str = "models/spine";
const RUNS: usize = 5;

fn main() {
    // `cargo test` runs benches too, to see that they work; it is told by this argument being absent.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let reports = archive::texts(4);
    let texts: Vec<&str> = reports.iter().map(String::as_str).collect();
    let mut seen = HashSet::new();
    let segments = texts.iter().flat_map(|text| report::segments(text)).map(|segment| segment.input);
    let inputs: Vec<String> = segments.filter(|input| seen.insert(input.clone())).collect();
    let tokens = tokens(Path::new(MODEL), &inputs);
    let total: usize = tokens.iter().map(Vec::len).sum();
    let threads = std::thread::available_parallelism().unwrap().get();
    let model = open(Path::new(MODEL), Arithmetic::Auto, 0);
    let runtime = Runtime::load().unwrap().version.unwrap_or_default();
    println!(
        "{} reports, {} distinct segments, {total} tokens; {}; {threads} threads; ONNX Runtime {runtime}; {} on {}\n",
        texts.len(),
        inputs.len(),
        machine(),
        model.id(),
        model.provider()
    );

    ladder(folder, &texts, &tokens);
    peers(folder, &model, &texts, &inputs, &tokens);
    repeated(&texts);
    around(&model, &texts, &inputs);
}

fn machine() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = told.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    name.trim_start_matches([' ', '\t', ':']).to_owned()
}

fn open(folder: &Path, arithmetic: Arithmetic, cache_bytes: usize) -> Model {
    Model::open(folder, &Options { arithmetic, cache_bytes, ..Options::default() }).unwrap()
}

/// Windows of the inputs; none is longer than one.
fn tokens(package: &Path, inputs: &[String]) -> Vec<Vec<i64>> {
    let mut tokenizer = Tokenizer::from_file(package.join("tokenizer.json")).unwrap();
    tokenizer.with_padding(None).with_truncation(None).unwrap();
    let (start, end) = (tokenizer.token_to_id("[CLS]").unwrap(), tokenizer.token_to_id("[SEP]").unwrap());
    let framed = |input: &String| {
        let ids = tokenizer.encode_fast(input.as_str(), false).unwrap().get_ids().to_vec();
        let ids = std::iter::once(start).chain(ids.into_iter().take(254)).chain([end]);
        ids.map(i64::from).collect()
    };
    inputs.iter().map(framed).collect()
}

/// The least seconds of each of several ways, taken in turn.
fn best<const N: usize>(mut ways: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut least = [f64::INFINITY; N];
    for _ in 0..RUNS {
        for (least, way) in least.iter_mut().zip(&mut ways) {
            let started = Instant::now();
            way();
            *least = least.min(started.elapsed().as_secs_f64());
        }
    }
    least
}

/// ONNX Runtime alone: sessions of so many threads each, of a package's graph.
fn raw(graph: &Path, sessions: usize, threads: usize) -> Vec<Session> {
    let environment = Runtime::load().unwrap().environment;
    let open = |_| {
        let builder = Session::builder(&environment).unwrap().with_intra_threads(threads).unwrap();
        let builder = builder.with_optimization_level(GraphOptimizationLevel::All).unwrap();
        builder.with_intra_op_spinning(false).unwrap().commit_from_file(graph).unwrap()
    };
    (0..sessions).map(open).collect()
}

/// Runs batches, the longest first, a thread for each session.
fn run(sessions: &mut [Session], rows: &[Vec<i64>], batches: &[Vec<usize>]) {
    let next = AtomicUsize::new(batches.len());
    std::thread::scope(|scope| {
        for session in sessions {
            scope.spawn(|| {
                while let Some(at) =
                    next.fetch_sub(1, Ordering::Relaxed).checked_sub(1).filter(|at| *at < batches.len())
                {
                    one(session, rows, &batches[at]);
                }
            });
        }
    });
}

fn one(session: &mut Session, rows: &[Vec<i64>], batch: &[usize]) {
    let length = batch.iter().map(|&row| rows[row].len()).max().unwrap();
    let (mut ids, mut mask) = (vec![0i64; batch.len() * length], vec![0i64; batch.len() * length]);
    for (place, &row) in batch.iter().enumerate() {
        let at = place * length..place * length + rows[row].len();
        ids[at.clone()].copy_from_slice(&rows[row]);
        mask[at].fill(1);
    }
    let shape = [batch.len(), length];
    let (ids, mask) = (Tensor::from_array((shape, ids)).unwrap(), Tensor::from_array((shape, mask)).unwrap());
    session.run(ort::inputs!["input_ids" => ids, "attention_mask" => mask]).unwrap();
}

/// As people batch: so many rows as they come, padded to the longest.
fn fixed(rows: &[Vec<i64>], size: usize) -> Vec<Vec<usize>> {
    (0..rows.len()).collect::<Vec<_>>().chunks(size).map(<[usize]>::to_vec).collect()
}

/// Rows of one length together, within a budget of tokens.
fn packed(rows: &[Vec<i64>], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows[row].len());
    let alike = order.chunk_by(|a, b| rows[*a].len() == rows[*b].len());
    alike.flat_map(|rows_| rows_.chunks((budget / rows[rows_[0]].len()).max(1))).map(<[usize]>::to_vec).collect()
}

/// What each step gains, ONNX Runtime alone.
fn ladder(folder: &Path, texts: &[&str], tokens: &[Vec<i64>]) {
    let threads = std::thread::available_parallelism().unwrap().get();
    let schema = LabelSchema::spine();
    let six = folder.join("six");
    let three = folder.join("three");
    export_resized(Path::new(MODEL), &schema, 6, Precision::Float32, &six).unwrap();
    export_resized(Path::new(MODEL), &schema, 3, Precision::Float32, &three).unwrap();
    let [mut naive, mut sorted, mut exact] = [(); 3].map(|()| raw(&six.join(GRAPH), 1, threads));
    let mut parted = raw(&six.join(GRAPH), threads, 1);
    let mut small = raw(&three.join(GRAPH), threads, 1);
    let (as_they_come, alike, packed) = (fixed(tokens, 32), by_length(tokens, 32), packed(tokens, 1024));
    let model = open(Path::new(MODEL), Arithmetic::Float32, 0);
    let auto = open(Path::new(MODEL), Arithmetic::Auto, 0);
    let seconds = best([
        &mut || run(&mut naive, tokens, &as_they_come),
        &mut || run(&mut sorted, tokens, &alike),
        &mut || run(&mut exact, tokens, &packed),
        &mut || run(&mut parted, tokens, &packed),
        &mut || run(&mut small, tokens, &packed),
        &mut || drop(model.findings(texts).unwrap()),
        &mut || drop(auto.findings(texts).unwrap()),
    ]);
    println!("| step | seconds | reports/s | of the first | of the step before |\n| --- | --- | --- | --- | --- |");
    let names = [
        "six layers, float32, 32 rows as they come, padded to the longest; one session".to_owned(),
        "32 rows of like length".into(),
        "rows of one length, 1,024 tokens a batch: no padding".into(),
        "a session of one thread for each thread".into(),
        "three layers".into(),
        format!("the shipped model from text, {}", model.provider()),
        format!("the shipped model from text, {}", auto.provider()),
    ];
    for (at, name) in names.iter().enumerate() {
        let before = seconds[at.saturating_sub(1)] / seconds[at];
        let first = seconds[0] / seconds[at];
        println!(
            "| {name} | {:.2} | {:.0} | {first:.2} | {before:.2} |",
            seconds[at],
            texts.len() as f64 / seconds[at]
        );
    }
    println!();
}

fn by_length(rows: &[Vec<i64>], size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows[row].len());
    order.chunks(size).map(<[usize]>::to_vec).collect()
}

/// The whole way against its limit and against others.
fn peers(folder: &Path, model: &Model, texts: &[&str], inputs: &[String], tokens: &[Vec<i64>]) {
    let threads = std::thread::available_parallelism().unwrap().get();
    let graph = if model.provider().ends_with("int8") { INT8_GRAPH } else { GRAPH };
    let mut sessions = raw(&Path::new(MODEL).join(graph), threads, 1);
    let exact = packed(tokens, 1024);
    let archive = folder.join("archive.hl7");
    std::fs::write(&archive, messages(texts)).unwrap();
    let label = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foramen"));
        command.arg("label").arg(&archive).arg("--output").arg(folder.join("rows.parquet"));
        assert!(command.output().unwrap().status.success());
    };
    let [raw, ours, whole] =
        best([&mut || run(&mut sessions, tokens, &exact), &mut || drop(model.findings(texts).unwrap()), &mut || {
            label()
        }]);
    println!("| what | seconds | reports/s | foramen is |\n| --- | --- | --- | --- |");
    let line = |name: &str, seconds: f64| {
        let speed = texts.len() as f64 / seconds;
        println!("| {name} | {seconds:.2} | {speed:.1} | {:.2} x |", seconds / ours);
    };
    line("raw ONNX Runtime: the same graph, the same tokens, packed", raw);
    line("foramen, from text to findings, no cache", ours);
    line("`foramen label`, from HL7 messages to Parquet, the whole process", whole);
    let file = folder.join("inputs.json");
    std::fs::write(&file, serde_json::to_string(inputs).unwrap()).unwrap();
    let Some(python) = std::env::var_os("PEERS").filter(|python| !python.is_empty()) else {
        println!(
            "\nWithout PEERS (a Python with onnxruntime, tokenizers, torch and transformers: `make peers`) there are no others to compare with.\n"
        );
        return;
    };
    let mut script = Command::new(PathBuf::from(python));
    script.arg("benches/inference.py").arg(&file).arg(MODEL).arg(threads.to_string());
    let told = String::from_utf8(script.output().unwrap().stdout).unwrap();
    for told in told.lines() {
        let (name, seconds) = told.rsplit_once('\t').unwrap();
        line(name, seconds.parse().unwrap());
    }
    println!();
}

/// An archive in which reports and segments come again, as they do where reports are made of templates.
fn repeated(texts: &[&str]) {
    let model = open(Path::new(MODEL), Arithmetic::Auto, Options::default().cache_bytes);
    println!("| an archive with | reports/s | read by the model | remembered |\n| --- | --- | --- | --- |");
    for (name, copies) in [("every report once", 1), ("every report three times", 3), ("every report ten times", 10)] {
        let model = if copies == 1 { &open(Path::new(MODEL), Arithmetic::Auto, 0) } else { &model };
        let before = model.usage();
        let started = Instant::now();
        for _ in 0..copies {
            for chunk in texts.chunks(256) {
                model.findings(chunk).unwrap();
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let usage = model.usage().since(&before);
        let speed = (copies * texts.len()) as f64 / seconds;
        println!("| {name} | {speed:.0} | {} | {} |", usage.cache_misses, usage.cache_hits);
    }
    println!();
}

/// What is around the model, each part alone on one thread.
fn around(model: &Model, texts: &[&str], inputs: &[String]) {
    let archive = messages(texts);
    let bare: Vec<String> = archive.split("\r\r").map(|message| message.trim_end_matches('\r').to_owned()).collect();
    let frames: Vec<Vec<u8>> = {
        let options = hl7::Options::default();
        hl7::split(archive.as_bytes(), &options).map(|frame| frame.bytes.to_vec()).collect()
    };
    let options = hl7::Options::default();
    let characters: usize = texts.iter().map(|text| text.len()).sum();
    let tokenizer = {
        let mut tokenizer = Tokenizer::from_file(format!("{MODEL}/tokenizer.json")).unwrap();
        tokenizer.with_padding(None).with_truncation(None).unwrap();
        tokenizer
    };
    let ids = inputs.iter().map(String::len).sum::<usize>();
    let [split, read, bare_, segments, tokenise, all] = best([
        &mut || assert!(hl7::split(archive.as_bytes(), &options).count() >= texts.len()),
        &mut || frames.iter().for_each(|frame| drop(hl7::read(frame, &options).unwrap())),
        &mut || bare.iter().for_each(|text| drop(hl7_parser::Message::parse_with_lenient_newlines(text, true))),
        &mut || texts.iter().for_each(|text| drop(report::segments(text))),
        &mut || inputs.iter().for_each(|input| drop(tokenizer.encode_fast(input.as_str(), false).unwrap())),
        &mut || drop(model.findings(texts).unwrap()),
    ]);
    println!("| around the model | seconds | MB/s | of the whole |\n| --- | --- | --- | --- |");
    let line = |name: &str, seconds: f64, bytes: usize| {
        println!("| {name} | {seconds:.4} | {:.1} | {:.1} % |", bytes as f64 / seconds / 1e6, 100.0 * seconds / all);
    };
    line("messages out of a file", split, archive.len());
    line("messages to studies", read, archive.len());
    line("for comparison: `hl7-parser` alone", bare_, archive.len());
    line("reports to segments", segments, characters);
    let before = model.usage();
    model.findings(texts).unwrap();
    let ours = model.usage().since(&before).tokenise.as_secs_f64();
    line("segments to tokens", ours, ids);
    line("for comparison: `tokenizers` alone", tokenise, ids);
    line("all of it, the model included, from text", all, characters);
}

fn messages(texts: &[&str]) -> String {
    texts.iter().enumerate().map(|(number, text)| archive::message(number, text) + "\r").collect()
}
