//! The configuration of a stream: one TOML file. Unknown keys are refused, and what cannot work is an error at the start.

use super::encode::Format;
use super::error::Error;
use crate::hl7;
use crate::model::{Arithmetic, Device, checked_score};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A stream, as its file describes it. Every key is described in `docs/reference/configuration.md`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Brokers, consumer group and topics.
    pub kafka: Kafka,
    /// What is made of the messages.
    #[serde(default)]
    pub transform: Transform,
    /// When a batch is closed.
    #[serde(default)]
    pub batch: Batch,
    /// Where rows go.
    #[serde(deserialize_with = "one_sink")]
    pub sink: Sink,
    /// Where messages go that can't be read.
    pub dead_letter: DeadLetter,
    /// What is remembered of reports.
    #[serde(default)]
    pub state: State,
    /// A site's ways with HL7 messages, as in `--hl7-options`.
    #[serde(default)]
    pub hl7: hl7::Options,
    /// The model package, and how it is run.
    #[serde(default)]
    pub model: ModelConfig,
    /// Metrics and health.
    #[serde(default)]
    pub metrics: Metrics,
}

/// Brokers, consumer group and topics.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// The consumer group.
    pub group: String,
    /// Topics with HL7 messages.
    pub topics: Vec<String>,
    /// The name of this instance among those of its group: two that run at once must differ. By default the host's name.
    #[serde(default)]
    pub instance: Option<String>,
    /// Whether topics that are missing (changelog, output, dead letters) are created.
    #[serde(default = "yes")]
    pub create_topics: bool,
    /// Replicas of topics that are created; the broker's default where it is not given.
    #[serde(default)]
    pub replication: Option<i32>,
    /// Any property of librdkafka, for every client of this stream: TLS, SASL, static membership …
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
}

// Properties hold passwords.
impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&String> = self.properties.keys().collect();
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("topics", &self.topics)
            .field("instance", &self.instance)
            .field("create_topics", &self.create_topics)
            .field("replication", &self.replication)
            .field("properties", &keys)
            .finish()
    }
}

/// A property's value: text, a number or a truth value.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Property {
    /// `true`
    Flag(bool),
    /// `10000`
    Number(i64),
    /// `"SASL_SSL"`
    Text(String),
}

impl Property {
    fn text(&self) -> String {
        match self {
            Property::Flag(flag) => flag.to_string(),
            Property::Number(number) => number.to_string(),
            Property::Text(text) => text.clone(),
        }
    }
}

/// What is made of the messages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transform {
    /// A query over the table `messages`, or over the view `findings`. Its rows must have the columns `report_id` and `source`.
    pub sql: String,
}

impl Default for Transform {
    fn default() -> Self {
        Transform { sql: "SELECT * FROM findings".into() }
    }
}

/// When a batch is closed: at the first of these.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Messages.
    pub max_messages: usize,
    /// Bytes of messages.
    pub max_bytes: usize,
    /// Milliseconds since its first message.
    pub max_wait_ms: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Batch { max_messages: 256, max_bytes: 16 << 20, max_wait_ms: 200 }
    }
}

impl Batch {
    /// The longest that a message waits for others.
    pub fn max_wait(&self) -> Duration {
        Duration::from_millis(self.max_wait_ms)
    }
}

/// Where rows go.
#[derive(Debug, Clone)]
pub enum Sink {
    /// A topic, one record a version of a report.
    Kafka(KafkaSink),
    /// A folder of Parquet files, one row a motion segment.
    Parquet(ParquetSink),
}

/// `kind = "kafka"`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSink {
    /// The topic of findings, keyed by report.
    pub topic: String,
    /// The form of a record's value.
    #[serde(default)]
    pub format: Format,
    /// The schema's number in a registry, written before each Avro value as Confluent's clients expect it.
    #[serde(default)]
    pub schema_id: Option<u32>,
}

/// `kind = "parquet"`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetSink {
    /// A folder, or a URL of an object store.
    pub folder: String,
    /// Rows after which a file is completed.
    #[serde(default = "roll_rows")]
    pub roll_rows: usize,
    /// Milliseconds after which a file is completed, counted from its first message.
    #[serde(default = "roll_ms")]
    pub roll_ms: u64,
}

fn roll_rows() -> usize {
    200_000
}

fn roll_ms() -> u64 {
    60_000
}

fn yes() -> bool {
    true
}

/// Where messages go that can't be read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// The topic.
    pub topic: String,
}

/// What is remembered of reports, to know a later version from an earlier one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The compacted topic that keeps it; by default the group's name and `-changelog`.
    pub topic: Option<String>,
    /// Days after which a report that nothing more was said of is forgotten.
    pub retention_days: u32,
    /// Messages of a partition among which duplicates are recognised.
    pub duplicate_window: usize,
}

impl Default for State {
    fn default() -> Self {
        State { topic: None, retention_days: 365, duplicate_window: 100_000 }
    }
}

/// The model package, and how it is run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// The package; by default as for `foramen label`.
    pub folder: Option<PathBuf>,
    /// Where it runs.
    #[serde(deserialize_with = "device")]
    pub device: Option<Device>,
    /// What it computes in on the processor.
    #[serde(deserialize_with = "arithmetic")]
    pub arithmetic: Arithmetic,
    /// Threads of the CPU; by default all.
    pub threads: Option<usize>,
    /// Score below which a grade is NULL, 0 to 1; by default every grade is given.
    #[serde(deserialize_with = "score")]
    pub min_score: f32,
}

/// Metrics and health.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address for `/metrics`, `/healthz` and `/readyz`; none where it is not given.
    pub listen: Option<SocketAddr>,
}

fn score<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    checked_score(f32::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn arithmetic<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arithmetic, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn device<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Device>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

/// `[sink]` is one table, told apart by its `kind`.
fn one_sink<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sink, D::Error> {
    let mut table = match toml::Value::deserialize(deserializer)? {
        toml::Value::Table(table) => table,
        _ => {
            return Err(D::Error::custom(
                "one stream has one sink: a transaction of Kafka and the renaming of a file can't be one step, so two sinks \
                 would disagree after a crash. Run two streams with two groups",
            ));
        }
    };
    let kind = table.remove("kind");
    let rest = toml::Value::Table(table);
    match kind.as_ref().and_then(toml::Value::as_str) {
        Some("kafka") => rest.try_into().map(Sink::Kafka).map_err(D::Error::custom),
        Some("parquet") => rest.try_into().map(Sink::Parquet).map_err(D::Error::custom),
        _ => Err(D::Error::custom("the sink's `kind` is \"kafka\" or \"parquet\"")),
    }
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`Error::Config`], with the place in the file.
    pub fn open(path: &Path) -> Result<Config, Error> {
        let failed = |reason: String| Error::Config { path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let config: Config = toml::from_str(&text).map_err(|error| failed(told(&error, &text)))?;
        config.check().map_err(failed)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let topics = &self.kafka.topics;
        if topics.is_empty() || self.kafka.brokers.is_empty() || self.kafka.group.is_empty() {
            return Err("[kafka] needs brokers, a group, and at least one topic".into());
        }
        if self.batch.max_messages == 0 || self.batch.max_bytes == 0 {
            return Err("[batch] max_messages and max_bytes must be at least 1".into());
        }
        let mut others = vec![("the dead-letter topic", self.dead_letter.topic.as_str())];
        if let Sink::Kafka(sink) = &self.sink {
            others.push(("the sink's topic", &sink.topic));
            if sink.schema_id.is_some() && sink.format != Format::Avro {
                return Err("[sink] schema_id is for format = \"avro\"".into());
            }
        }
        let changelog = self.changelog();
        others.push(("the changelog", &changelog));
        for (at, (what, name)) in others.iter().enumerate() {
            if topics.iter().any(|topic| topic == name) {
                return Err(format!("{what} is `{name}`, a topic that is read: the stream would read what it writes"));
            }
            if let Some((other, _)) = others.iter().take(at).find(|(_, other)| other == name) {
                return Err(format!("{what} and {other} are both `{name}`"));
            }
        }
        for (key, why) in OURS {
            if self.kafka.properties.contains_key(*key) {
                return Err(format!("[kafka.properties] {key} is not to be set: {why}"));
            }
        }
        Ok(())
    }

    /// The topic of the state.
    pub fn changelog(&self) -> String {
        self.state.topic.clone().unwrap_or_else(|| format!("{}-changelog", self.kafka.group))
    }

    /// The name of this instance.
    pub fn instance(&self) -> String {
        let host =
            || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
        let name = self.kafka.instance.clone().or_else(host).unwrap_or_else(|| "foramen".into());
        name.trim().to_owned()
    }

    /// The property of librdkafka, where it is set.
    pub fn property(&self, key: &str) -> Option<String> {
        self.kafka.properties.get(key).map(Property::text)
    }
}

/// What is wrong with a file, and in which line. The error's own form shows the line, which may hold a password.
fn told(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
    format!("{}{}", line.unwrap_or_default(), error.message())
}

/// Properties on which exactly-once delivery rests.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "[kafka] brokers says it"),
    ("group.id", "[kafka] group says it"),
    ("enable.auto.commit", "offsets are committed with the rows"),
    ("enable.auto.offset.store", "offsets are committed with the rows"),
    ("enable.partition.eof", "the stream decides it for each client"),
    ("transactional.id", "it is made of group and instance"),
    ("enable.idempotence", "transactions need it"),
    ("partition.assignment.strategy", "rebalancing is cooperative"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "[kafka]\nbrokers = 'localhost:9092'\ngroup = 'g'\ntopics = ['hl7']\n\
                         [sink]\nkind = 'kafka'\ntopic = 'findings'\n[dead_letter]\ntopic = 'dead'\n";

    fn read(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn the_least_that_is_needed() {
        let config = read(LEAST).unwrap();
        assert_eq!(config.changelog(), "g-changelog");
        assert_eq!(config.transform.sql, "SELECT * FROM findings");
        assert!(matches!(config.sink, Sink::Kafka(KafkaSink { format: Format::Json, schema_id: None, .. })));
        assert!(!config.instance().is_empty());
        assert_eq!(config.model.min_score, 0.0);
        assert_eq!(read(&format!("{LEAST}\n[model]\nmin_score = 0.8\n")).unwrap().model.min_score, 0.8);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        for (from, to, reason) in [
            ("group = 'g'", "groupp = 'g'", "groupp"),
            ("topic = 'findings'", "topic = 'findings'\nfolder = 'x'", "folder"),
            ("topic = 'findings'", "topic = 'findings'\n[model]\nmin_score = 1.5", "between 0 and 1"),
            ("kind = 'kafka'", "kind = 'postgres'", "\"kafka\" or \"parquet\""),
            (
                "[sink]\nkind = 'kafka'\ntopic = 'findings'",
                "[[sink]]\nkind = 'kafka'\ntopic = 'a'\n[[sink]]\nkind = 'parquet'\nfolder = 'b'",
                "one sink",
            ),
            ("topic = 'dead'", "topic = 'hl7'", "reads"),
            ("topic = 'dead'", "topic = 'findings'", "both `findings`"),
            ("topics = ['hl7']", "topics = []", "at least one topic"),
            (
                "topics = ['hl7']",
                "topics = ['hl7']\nproperties = { 'enable.auto.commit' = true }",
                "committed with the rows",
            ),
            ("topic = 'findings'", "topic = 'findings'\nschema_id = 4", "avro"),
            ("[dead_letter]\ntopic = 'dead'\n", "", "dead_letter"),
        ] {
            assert!(LEAST.contains(from), "{from}");
            let error = read(&LEAST.replace(from, to)).map(|_| ()).unwrap_err();
            assert!(
                error.contains(reason) || error.contains("would read what it writes") && reason == "reads",
                "{reason}: {error}"
            );
        }
    }

    #[test]
    fn the_examples_are_configurations() {
        for example in ["kafka.toml", "parquet.toml"] {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            Config::open(&root.join("examples/stream").join(example)).unwrap();
        }
        let missing = Config::open(Path::new("no/such.toml")).unwrap_err().to_string();
        assert!(missing.contains("no/such.toml"), "{missing}");
    }

    #[test]
    fn passwords_are_not_shown() {
        let text = LEAST.replace(
            "topics = ['hl7']",
            "topics = ['hl7']\nproperties = { 'sasl.password' = 'secret', 'session.timeout.ms' = 6000 }",
        );
        let config = read(&text).unwrap();
        let shown = format!("{config:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("secret"), "{shown}");
        assert_eq!(config.property("session.timeout.ms").as_deref(), Some("6000"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stream.toml");
        for broken in ["'sasl.password' = 'secret", "'sasl.password' = ['secret']", "'sasl.password' = secret"] {
            std::fs::write(&file, format!("{LEAST}\n[kafka.properties]\n{broken}\n")).unwrap();
            let error = Config::open(&file).unwrap_err().to_string();
            assert!(error.contains("line ") && !error.contains("secret"), "{broken}: {error}");
        }
    }
}
