//! `foramen stream` where things go wrong: killed, rebalanced, without its broker. Every report is there exactly once in the end.
#![cfg(all(feature = "kafka", feature = "train"))]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod broker;
mod streaming;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use broker::Broker;
use foramen::labels::LabelSchema;
use foramen::model::Options;
use foramen::sql::{SqlModel, context};
use foramen::train::{Precision, export::export_untrained};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use streaming::{Hl7, Running, Topics, pause, text, wait};
use tempfile::TempDir;

/// A model that answers at once, and nothing sensible.
fn model() -> &'static Path {
    static PACKAGE: OnceLock<TempDir> = OnceLock::new();
    let package = PACKAGE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        export_untrained(&LabelSchema::spine(), Precision::Float32, 7, folder.path()).unwrap();
        folder
    });
    package.path()
}

/// How much is asked of the long tests: `FORAMEN_SOAK=1` asks for what the documentation reports.
fn size(usual: usize, soak: usize) -> usize {
    if std::env::var_os("FORAMEN_SOAK").is_some() { soak } else { usual }
}

const TEXTS: [&str; 4] = [
    "L4-5: Broad-based disc bulge, mild canal stenosis.",
    "L5-S1: Left paracentral extrusion. L4-5: Normal.",
    "C5-6: Disc protrusion contacting the cord.",
    "MRI of the knee. The menisci are intact.",
];

fn message(number: usize) -> (String, Vec<u8>) {
    let (report, control) = (format!("R{number}"), format!("M{number}"));
    let hl7 = Hl7 { report: &report, control: &control, text: TEXTS[number % TEXTS.len()], ..Hl7::default() };
    let message = hl7.message().into_bytes();
    (report, message)
}

/// Sends messages over a while, from a thread of its own.
fn flow(topics: &Topics, messages: usize, over: Duration) -> std::thread::JoinHandle<()> {
    let topics = Topics { bootstrap: topics.bootstrap.clone(), name: topics.name.clone() };
    std::thread::spawn(move || {
        let part = messages.div_ceil(20);
        for from in (0..messages).step_by(part) {
            let batch: Vec<_> = (from..(from + part).min(messages)).map(message).collect();
            topics.produce(batch.iter().map(|(key, message)| (key.as_str(), message.clone())));
            pause(over / 20);
        }
    })
}

/// Numbers below a bound, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Each report is said once in the topic, and nothing is a dead letter.
fn once_in_topic(topics: &Topics, messages: usize) {
    let mut said: BTreeMap<String, usize> = BTreeMap::new();
    for record in topics.read(&topics.output()) {
        *said.entry(text(rdkafka::Message::key(&record))).or_default() += 1;
    }
    let twice = said.iter().filter(|(_, times)| **times > 1).count();
    assert_eq!((said.len(), twice), (messages, 0), "reports, and those said twice");
    assert_eq!(topics.read(&topics.dead()).len(), 0);
}

/// Each report is in the folder once: one row for each motion segment, or one without.
fn once_in_folder(folder: &Path, messages: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let model = Arc::new(SqlModel::lazy("none", Options::default()));
    let context = context(model, Default::default(), Default::default()).unwrap();
    let sql = format!(
        "SELECT count(*), count(DISTINCT report_id), count(DISTINCT (report_id, coalesce(level, ''))), min(version), max(version)
         FROM '{}/'",
        folder.display()
    );
    let rows = runtime.block_on(async { context.sql(&sql).await.unwrap().collect().await.unwrap() });
    let number = |column: usize| rows[0].column(column).as_primitive::<Int64Type>().value(0);
    let expected: usize = (0..messages).map(|number| if number % 4 == 1 { 2 } else { 1 }).sum();
    assert_eq!((number(1), number(0), number(2)), (messages as i64, expected as i64, expected as i64));
    let versions: Vec<i32> =
        (3..5).map(|column| rows[0].column(column).as_primitive::<arrow::datatypes::Int32Type>().value(0)).collect();
    assert_eq!(versions, [1, 1]);
}

/// Kills a stream again and again while messages flow, and lets it finish.
fn killed(topics: &Topics, sink: &str, folder: &Path) -> usize {
    let (messages, kills) = (size(2_000, 20_000), size(8, 50));
    let config = topics.config("a", sink, "[batch]\nmax_messages = 100\nmax_wait_ms = 50\n");
    let flowing = flow(topics, messages, Duration::from_millis(size(8_000, 90_000) as u64));
    let mut random = Random(messages as u64);
    for _ in 0..kills {
        let mut stream = Running::start(folder, "a", &config, model());
        pause(Duration::from_millis(200 + random.below(2_000)));
        assert!(stream.runs(), "{}", stream.log());
        stream.kill();
    }
    flowing.join().unwrap();
    let mut stream = Running::start(folder, "a", &config, model());
    wait("all messages are committed", || topics.committed() >= messages as i64);
    assert!(stream.terminate().success());
    messages
}

#[test]
fn killed_at_any_moment_the_topic_has_every_report_once() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let topics = Topics::create(broker.bootstrap(), "kill-kafka", 3);
    let messages = killed(&topics, &topics.kafka_sink(), folder.path());
    once_in_topic(&topics, messages);
}

#[test]
fn killed_at_any_moment_the_folder_has_every_report_once() {
    let Some(broker) = Broker::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let topics = Topics::create(broker.bootstrap(), "kill-parquet", 3);
    let rows = folder.path().join("rows");
    let sink = format!("kind = 'parquet'\nfolder = '{}'\nroll_ms = 300", rows.display());
    let messages = killed(&topics, &sink, folder.path());
    once_in_folder(&rows, messages);
}

#[test]
fn members_that_come_and_go_under_load_lose_and_repeat_nothing() {
    let Some(broker) = Broker::shared() else { return };
    for kind in ["kafka", "parquet"] {
        let folder = tempfile::tempdir().unwrap();
        let topics = Topics::create(broker.bootstrap(), &format!("rebalance-{kind}"), 6);
        let rows = folder.path().join("rows");
        let sink = match kind {
            "kafka" => topics.kafka_sink(),
            _ => format!("kind = 'parquet'\nfolder = '{}'\nroll_ms = 400", rows.display()),
        };
        let messages = size(2_000, 20_000);
        let config = |name: &str| topics.config(name, &sink, "[batch]\nmax_messages = 50\nmax_wait_ms = 50\n");
        let start = |name: &str| Running::start(folder.path(), name, &config(name), model());
        let flowing = flow(&topics, messages, Duration::from_millis(size(12_000, 60_000) as u64));
        let mut first = start("a");
        pause(Duration::from_secs(2));
        let mut second = start("b");
        pause(Duration::from_secs(3));
        let mut third = start("c");
        pause(Duration::from_secs(3));
        assert!(second.terminate().success());
        pause(Duration::from_secs(1));
        third.kill();
        let mut again = start("b");
        flowing.join().unwrap();
        wait("all messages are committed", || topics.committed() >= messages as i64);
        for stream in [&mut first, &mut again] {
            assert!(stream.terminate().success());
        }
        let log = first.log();
        assert!(log.matches("partitions revoked").count() >= 2, "the group was rebalanced");
        match kind {
            "kafka" => once_in_topic(&topics, messages),
            _ => once_in_folder(&rows, messages),
        }
    }
}

#[test]
fn a_broker_that_goes_away_is_waited_for() {
    // One of its own, since others would miss it.
    let Some(mut broker) = Broker::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let messages = 1_000;
    let mut streams = Vec::new();
    for kind in ["kafka", "parquet"] {
        let topics = Topics::create(broker.bootstrap(), &format!("outage-{kind}"), 3);
        let rows = folder.path().join("rows");
        let sink = match kind {
            "kafka" => topics.kafka_sink(),
            _ => format!("kind = 'parquet'\nfolder = '{}'\nroll_ms = 300", rows.display()),
        };
        let batch: Vec<_> = (0..messages / 2).map(message).collect();
        topics.produce(batch.iter().map(|(key, message)| (key.as_str(), message.clone())));
        let config = topics.config("a", &sink, "[batch]\nmax_messages = 20\nmax_wait_ms = 50\n");
        let stream = Running::start(folder.path(), kind, &config, model());
        wait("the stream has begun", || topics.committed() > 0);
        streams.push((topics, stream));
    }
    broker.stop();
    pause(Duration::from_secs(size(8, 60) as u64));
    broker.restart();
    for (topics, stream) in &mut streams {
        assert!(stream.runs(), "{}", stream.log());
        let batch: Vec<_> = (messages / 2..messages).map(message).collect();
        topics.produce(batch.iter().map(|(key, message)| (key.as_str(), message.clone())));
        wait("all messages are committed", || topics.committed() >= messages as i64);
        assert!(stream.terminate().success());
    }
    once_in_topic(&streams[0].0, messages);
    once_in_folder(&folder.path().join("rows"), messages);
}
