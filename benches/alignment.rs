//! Linear CKA of a million pairs of vectors of width 384, in SQL, against numpy with BLAS on the same data and threads.
//!
//! `make bench` runs it. The tables are made here and lie in memory as Arrow lists of Float32; numpy reads the same numbers from files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it measured, and fails loudly")]

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionConfig;
use foramen::model::Options;
use foramen::sql::{SqlModel, context};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

const ROWS: usize = 1_000_000;
const WIDTH: usize = 384;
const BLOCK: usize = 8192;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let threads = std::thread::available_parallelism().unwrap().get();
    let folder = tempfile::tempdir().unwrap();
    let (batches, files) = table(folder.path());
    println!(
        "{ROWS} pairs of width {WIDTH}, {threads} threads\n\n| what | seconds | of numpy | answer | memory beside the data |\n| --- | --- | --- | --- | --- |"
    );
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let mut numpy = Command::new(python);
    numpy.arg("benches/alignment.py").args(&files).arg(WIDTH.to_string());
    let told = String::from_utf8(numpy.output().unwrap().stdout).unwrap();
    let told: Vec<&str> = told.split_whitespace().collect();
    let [seconds, answer, version] = told.as_slice() else {
        panic!("benches/alignment.py needs numpy; PYTHON says which python")
    };
    let base: f64 = seconds.parse().unwrap();
    println!("| numpy {version}, float64 in blocks | {base:.1} | 1.00 | {:.9} | |", answer.parse::<f64>().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for function in ["linear_cka", "linear_cka_debiased", "procrustes_similarity"] {
        let config = SessionConfig::new().with_target_partitions(threads);
        let model = Arc::new(SqlModel::lazy("none", Options::default()));
        let context = context(model, Default::default(), config).unwrap();
        let parts = batches.chunks(batches.len().div_ceil(threads)).map(<[RecordBatch]>::to_vec).collect();
        let table = MemTable::try_new(batches[0].schema(), parts).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let before = memory("VmRSS:");
        let started = Instant::now();
        let sql = format!("SELECT {function}(x, y) FROM t");
        let found = runtime.block_on(async { context.sql(&sql).await.unwrap().collect().await.unwrap() });
        let seconds = started.elapsed().as_secs_f64();
        let answer = found[0].column(0).as_primitive::<Float64Type>().value(0);
        let more = memory("VmHWM:").saturating_sub(before) / 1024;
        println!("| `{function}(x, y)` | {seconds:.1} | {:.2} | {answer:.9} | at most {more} MiB |", seconds / base);
    }
}

/// Kilobytes of this process, by a line of its status.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find(|found| found.starts_with(line)).unwrap();
    found.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Pairs of which y is partly x; as record batches, and as files of numbers.
fn table(folder: &Path) -> (Vec<RecordBatch>, [std::path::PathBuf; 2]) {
    let files = ["x", "y"].map(|name| folder.join(name));
    let mut out = files.each_ref().map(|file| std::io::BufWriter::new(std::fs::File::create(file).unwrap()));
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    let item = Arc::new(Field::new_list_field(DataType::Float32, false));
    let mut batches = Vec::new();
    for start in (0..ROWS).step_by(BLOCK) {
        let rows = BLOCK.min(ROWS - start);
        let x: Vec<f32> = (0..rows * WIDTH).map(|_| next()).collect();
        let y: Vec<f32> = x.iter().map(|x| 0.5 * x + next()).collect();
        for (out, values) in out.iter_mut().zip([&x, &y]) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.write_all(&bytes).unwrap();
        }
        let list = |values: Vec<f32>| -> ArrayRef {
            Arc::new(FixedSizeListArray::new(
                Arc::clone(&item),
                WIDTH as i32,
                Arc::new(Float32Array::from(values)),
                None,
            ))
        };
        batches.push(RecordBatch::try_from_iter([("x", list(x)), ("y", list(y))]).unwrap());
    }
    out.iter_mut().for_each(|out| out.flush().unwrap());
    (batches, files)
}
