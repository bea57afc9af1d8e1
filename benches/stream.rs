//! What the stream carries, and how long a message takes: against `foramen label` on the same reports, in one run.
//!
//! `make bench` runs it. It measures and asserts nothing about time; texts are those of `corpus/written.jsonl`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it measured, and fails loudly")]

mod archive;
#[path = "../tests/broker/mod.rs"]
mod broker;
#[path = "../tests/streaming/mod.rs"]
mod streaming;

use broker::Broker;
use foramen::labels::LabelSchema;
use foramen::train::{Precision, export::export_untrained};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use streaming::{Hl7, Running, Topics, free_port, get, metric, pause, wait};

fn main() {
    // `cargo test` runs benches too, to see that they work; it is told by this argument being absent.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Some(broker) = Broker::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let quick = folder.path().join("quick");
    export_untrained(&LabelSchema::spine(), Precision::Float32, 7, &quick).unwrap();
    let real = Path::new("models/spine");
    let texts = texts();
    println!("| what | messages | seconds | messages/s | against |\n| --- | --- | --- | --- | --- |");

    // The machinery: no model, a model that costs nothing, and the same into a folder.
    let many = 20_000;
    let bare = "[transform]\nsql = \"SELECT source, hl7_report(message)['report_id'] AS report_id FROM messages\"\n";
    let parquet = format!("kind = 'parquet'\nfolder = '{}'\nroll_ms = 2000", folder.path().join("rows").display());
    let mut first = None;
    for (name, sink, query) in [
        ("Kafka to Kafka, no model in the query", None, bare),
        ("Kafka to Kafka, a model of two tiny layers", None, ""),
        ("Kafka to Parquet, the same model", Some(parquet.as_str()), ""),
    ] {
        let seconds =
            drained(&broker, folder.path(), &format!("many{}", name.len()), sink, query, &quick, many, &texts[..1]);
        let base = *first.get_or_insert(seconds);
        println!(
            "| {name} | {many} | {seconds:.1} | {:.0} | {:.2} of the first |",
            many as f64 / seconds,
            base / seconds
        );
    }

    // The real model, against the same model in `foramen label` on the same messages.
    let some = texts.len();
    let archive = folder.path().join("archive.hl7");
    let messages: Vec<String> = (0..some).map(|number| message(number, &texts)).collect();
    std::fs::write(&archive, messages.concat()).unwrap();
    let started = Instant::now();
    let rows = folder.path().join("label.parquet");
    let label =
        Command::new(env!("CARGO_BIN_EXE_foramen")).arg("label").arg(&archive).arg("--output").arg(&rows).output();
    assert!(label.unwrap().status.success());
    let label = started.elapsed().as_secs_f64();
    println!("| `foramen label`, the shipped model | {some} | {label:.1} | {:.1} | |", some as f64 / label);
    let seconds = drained(&broker, folder.path(), "real", None, "", real, some, &texts);
    println!(
        "| Kafka to Kafka, the shipped model | {some} | {seconds:.1} | {:.1} | {:.2} of `foramen label` |",
        some as f64 / seconds,
        label / seconds
    );

    latency(&broker, folder.path(), real, &texts);
}

/// Each a field of HL7: separators escaped, lines as repetitions.
fn texts() -> Vec<String> {
    archive::texts(1).iter().map(|text| archive::escaped(text).replace('\n', "~")).collect()
}

fn message(number: usize, texts: &[String]) -> String {
    let id = number.to_string();
    Hl7 { report: &id, control: &id, text: &texts[number % texts.len()], ..Hl7::default() }.message()
}

/// Seconds from the first commit's beginning to the last message's, of messages that all were there before.
#[allow(clippy::too_many_arguments, reason = "each is a setting of the run")]
fn drained(
    broker: &Broker,
    folder: &Path,
    name: &str,
    sink: Option<&str>,
    query: &str,
    model: &Path,
    messages: usize,
    texts: &[String],
) -> f64 {
    let topics = Topics::create(broker.bootstrap(), name, 3);
    let sent: Vec<(String, Vec<u8>)> =
        (0..messages).map(|number| (number.to_string(), message(number, texts).into_bytes())).collect();
    topics.produce(sent.iter().map(|(key, bytes)| (key.as_str(), bytes.clone())));
    let sink = sink.map_or_else(|| topics.kafka_sink(), str::to_owned);
    let batch = "[batch]\nmax_messages = 1000\nmax_wait_ms = 100\n";
    let port = free_port();
    let config = topics.config("a", &sink, &format!("{query}{batch}[metrics]\nlisten = '127.0.0.1:{port}'\n"));
    let mut stream = Running::start_with(folder, name, &config, model, "info,librdkafka=error,rdkafka=error");
    wait("it is ready", || get(port, "/readyz").is_some_and(|(status, _)| status == 200));
    let started = Instant::now();
    wait("all is committed", || topics.committed() >= messages as i64);
    let seconds = started.elapsed().as_secs_f64();
    assert!(stream.terminate().success());
    seconds
}

/// At a low rate, from a message's production to its record being read, committed.
fn latency(broker: &Broker, folder: &Path, model: &Path, texts: &[String]) {
    let (messages, gap) = (200, Duration::from_millis(250));
    let topics = Topics::create(broker.bootstrap(), "latency", 3);
    let port = free_port();
    let batch = "[batch]\nmax_wait_ms = 5\n";
    let config = topics.config("a", &topics.kafka_sink(), &format!("{batch}[metrics]\nlisten = '127.0.0.1:{port}'\n"));
    let mut stream = Running::start_with(folder, "latency", &config, model, "info,librdkafka=error,rdkafka=error");
    wait("it is ready", || get(port, "/readyz").is_some_and(|(status, _)| status == 200));
    let consumer: BaseConsumer = topics
        .client()
        .set("group.id", "latency")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "5")
        .create()
        .unwrap();
    consumer.subscribe(&[&topics.output()]).unwrap();
    let producer: BaseProducer = topics.client().set("linger.ms", "0").create().unwrap();
    let input = topics.input();
    let mut sent: HashMap<String, Instant> = HashMap::new();
    let mut took: Vec<f64> = Vec::new();
    let mut next = Instant::now() + Duration::from_secs(2);
    while took.len() < messages {
        if sent.len() < messages && Instant::now() >= next {
            let number = sent.len();
            let message = message(number, texts).into_bytes();
            let key = number.to_string();
            let record = BaseRecord::to(&input).key(&key).payload(&message);
            sent.insert(key.clone(), Instant::now());
            producer.send(record).map_err(|(error, _)| error).unwrap();
            next += gap;
        }
        producer.poll(Duration::ZERO);
        if let Some(Ok(record)) = consumer.poll(Duration::from_millis(2)) {
            let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
            took.push(sent[&key].elapsed().as_secs_f64() * 1e3);
        }
    }
    let metrics = get(port, "/metrics").unwrap().1;
    let sum = |name: &str| metric(&metrics, &format!("foramen_{name}_seconds_sum")).unwrap_or(0.0);
    let count = metric(&metrics, "foramen_infer_seconds_count").unwrap_or(1.0);
    pause(Duration::from_millis(100));
    assert!(stream.terminate().success());
    took.sort_by(f64::total_cmp);
    let quantile = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    let mean = took.iter().sum::<f64>() / took.len() as f64;
    println!("\n| at 4 messages a second, the shipped model | ms |\n| --- | --- |");
    println!(
        "| message to committed record, p50 | {:.0} |\n| p99 | {:.0} |\n| mean | {mean:.0} |",
        quantile(0.5),
        quantile(0.99)
    );
    println!("| of the mean: ONNX Runtime, a batch | {:.0} |", sum("infer") / count * 1e3);
    println!("| of the mean: the whole query, model included, a batch | {:.0} |", sum("transform") / count * 1e3);
    println!("| of the mean: the commit, a batch | {:.0} |", sum("write") / count * 1e3);
}
