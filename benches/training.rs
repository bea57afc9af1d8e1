//! Steps of training, against PyTorch on the same network, batches, threads and precision.
//!
//! `make bench` runs it. It measures and asserts nothing about time. A step is a forward and a backward pass of all tasks, clipping and AdamW,
//! with dropout, over the batches that `foramen-train fit` takes of `corpus/written.jsonl`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it measured, and fails loudly")]

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use foramen::labels::LabelSchema;
use foramen::train::encoder::{Batch, Config};
use foramen::train::examples::{self, Example};
use foramen::train::network::{Network, cross_entropy};
use foramen::train::optim::AdamW;
use foramen::train::{Matrix, data};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tokenizers::Tokenizer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of the default configuration of `fit`.
const BATCH: usize = 24;
const DROPOUT: f32 = 0.1;
const STEPS: usize = 30;
/// Steps that are not measured.
const WARM: usize = 3;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let schema = LabelSchema::spine();
    let mut tokenizer = Tokenizer::from_file("models/spine/tokenizer.json").unwrap();
    tokenizer.with_padding(None).with_truncation(None).unwrap();
    let reports = data::read_jsonl(Path::new("corpus/written.jsonl")).unwrap();
    let mut all = examples::build(&reports, &schema, &tokenizer, 256).unwrap().all;
    // As the epochs of `fit` do, with a stride for its shuffle.
    let count = all.len();
    all = (0..count).map(|at| all[at * 7919 % count].clone()).collect();
    let batches: Vec<&[Example]> = all.chunks_exact(BATCH).take(STEPS + WARM).collect();
    let measured = batches[WARM..].iter().flat_map(|batch| batch.iter());
    let tokens: usize = measured.map(|example| example.ids.len()).sum();
    let config = Config {
        vocabulary: tokenizer.get_vocab_size(true),
        positions: 512,
        width: 384,
        layers: 6,
        heads: 12,
        inner: 1536,
    };
    let threads = std::thread::available_parallelism().unwrap().get();
    println!(
        "{STEPS} steps of {BATCH} motion segments, {tokens} tokens, six layers of width 384, float32, {threads} threads\n"
    );

    let ours = steps(&schema, &config, &batches);
    let multiplied = multiplied(&config, tokens);
    println!("| what | tokens/s | of the first PyTorch | GFLOP/s in products |\n| --- | --- | --- | --- |");
    let peer = peer(&batches, &config, &schema, threads);
    let base = peer.as_ref().map(|peer| peer.padded);
    let line = |name: &str, seconds: f64| {
        let ratio = base.map_or_else(String::new, |base| format!("{:.2}", base / seconds));
        println!("| {name} | {:.0} | {ratio} | {:.0} |", tokens as f64 / seconds, multiplied / seconds / 1e9);
    };
    line("foramen-train", ours);
    match &peer {
        Some(Peer { name, padded, bucketed, .. }) => {
            line(&format!("{name}, padded to the longest of a batch"), *padded);
            line(&format!("{name}, the same motion segments in batches of like length"), *bucketed);
        }
        None => println!(
            "\nWithout PEERS (a Python with torch and transformers: `make peers`) there is none to compare with."
        ),
    }
    println!("\n| a product alone, [1024, 384] by [384, 1536] | GFLOP/s |\n| --- | --- |\n| faer | {:.0} |", product());
    if let Some(Peer { name, product, .. }) = &peer {
        println!("| {name} | {:.0} |", product / 1e9);
    }
}

/// Seconds of the measured steps.
fn steps(schema: &LabelSchema, config: &Config, batches: &[&[Example]]) -> f64 {
    let mut state = 1u64;
    let mut network = Network::random(config, schema, || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 40) as f32 / (1u32 << 24) as f32 - 0.5) * 3.4
    });
    let (mut optimiser, mut gradient) = (AdamW::new(&network, 0.01), network.zeros_like());
    let weights: Vec<Vec<f32>> = schema.tasks().iter().map(|task| vec![1.0; task.grades.len()]).collect();
    let mut started = Instant::now();
    for (step, batch) in batches.iter().enumerate() {
        if step == WARM {
            started = Instant::now();
        }
        let pass = network.forward(Batch::new(batch.iter().map(|e| e.ids.as_slice())), DROPOUT, step as u64);
        let of_task = |(task, logits): (usize, &Matrix)| {
            let targets: Vec<u8> = batch.iter().map(|example| example.grades[task]).collect();
            Some(cross_entropy(logits, &targets, &weights[task], 0.02).1)
        };
        let d: Vec<_> = pass.logits().iter().enumerate().map(of_task).collect();
        network.backward(&pass, &d, &mut gradient);
        optimiser.step(&mut network, &mut gradient, 1e-4, 1e-3, 1.0);
    }
    started.elapsed().as_secs_f64()
}

/// Floating-point operations of the dense products of so many tokens, forward and twice as many backward; attention's own are few.
fn multiplied(config: &Config, tokens: usize) -> f64 {
    let weights = config.layers * (4 * config.width * config.width + 2 * config.width * config.inner);
    6.0 * weights as f64 * tokens as f64
}

/// Operations a second of one product of the feed-forward block.
fn product() -> f64 {
    let (rows, inner, columns) = (1024, 384, 1536);
    let (a, b) = (
        Mat::<f32>::from_fn(inner, rows, |i, j| (i + j) as f32),
        Mat::<f32>::from_fn(columns, inner, |i, j| (i * j) as f32),
    );
    let mut out = Mat::<f32>::zeros(columns, rows);
    let mut least = f64::INFINITY;
    for _ in 0..30 {
        let started = Instant::now();
        matmul(&mut out, Accum::Replace, &b, &a, 1.0, Par::rayon(0));
        least = least.min(started.elapsed().as_secs_f64());
    }
    2.0 * (rows * inner * columns) as f64 / least / 1e9
}

struct Peer {
    name: String,
    /// Seconds of the measured steps.
    padded: f64,
    bucketed: f64,
    /// Operations a second of one product.
    product: f64,
}

fn peer(batches: &[&[Example]], config: &Config, schema: &LabelSchema, threads: usize) -> Option<Peer> {
    let python = std::env::var_os("PEERS").filter(|python| !python.is_empty())?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("batches.json");
    let of = |batch: &&[Example]| {
        let rows = batch.iter().map(|example| serde_json::json!({ "ids": example.ids, "grades": example.grades }));
        rows.collect::<Vec<_>>()
    };
    let grades: Vec<usize> = schema.tasks().iter().map(|task| task.grades.len()).collect();
    let told = serde_json::json!({ "batches": batches.iter().map(of).collect::<Vec<_>>(), "vocabulary": config.vocabulary, "width": config.width,
        "layers": config.layers, "heads": config.heads, "inner": config.inner, "dropout": DROPOUT, "grades": grades, "warm": WARM, "threads": threads });
    std::fs::write(&file, told.to_string()).unwrap();
    let output = Command::new(python).arg("benches/training.py").arg(&file).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let mut parts = told.trim().split('\t');
    let mut next = || parts.next().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let name = next().to_owned();
    let [padded, bucketed, product] = [next(), next(), next()].map(|number| number.parse().unwrap());
    Some(Peer { name, padded, bucketed, product })
}
