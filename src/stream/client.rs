//! Clients of Kafka: how each is configured, and what has to be there before a stream begins.

use super::config::{Config, Sink};
use super::error::{Error, passes};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a broker is waited for before it is asked again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What every client has. What the configuration's properties say goes before `defaults`; `ours` goes before them.
fn configured(config: &Config, defaults: &[(&str, &str)], ours: &[(&str, &str)]) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.kafka.brokers);
    client.set("client.id", config.instance());
    for (key, value) in defaults {
        client.set(*key, *value);
    }
    for key in config.kafka.properties.keys() {
        if let Some(value) = config.property(key) {
            client.set(key, value);
        }
    }
    for (key, value) in ours {
        client.set(*key, *value);
    }
    client
}

/// The consumer group's member.
pub(crate) fn consumer(config: &Config) -> ClientConfig {
    configured(
        config,
        &[
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
            ("statistics.interval.ms", "5000"),
            // What is fetched ahead, a partition: the bound of memory while a batch is read.
            ("queued.max.messages.kbytes", "16384"),
        ],
        &[
            ("group.id", &config.kafka.group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("partition.assignment.strategy", "cooperative-sticky"),
        ],
    )
}

/// The context of clients whose errors are told by what waits for them.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka");
    }
}

impl ConsumerContext for Quiet {}

/// A reader of given partitions.
pub(crate) type Reader = BaseConsumer<Quiet>;

/// A reader of given partitions, in no group but for committed offsets. It tells where a partition ends.
pub(crate) fn reader(config: &Config, isolation: &str, group: &str) -> Result<Reader, Error> {
    let mut client = configured(
        config,
        &[],
        &[
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", isolation),
            ("statistics.interval.ms", "0"),
        ],
    );
    // A member's name would make two members of it.
    client.remove("group.instance.id");
    client.set("group.id", group);
    client.create_with_context(Quiet).map_err(Error::Client)
}

/// A producer. With `transactional`, of transactions in the name of this instance.
pub(crate) fn producer(config: &Config, transactional: bool) -> ClientConfig {
    let mut client = configured(
        config,
        &[
            ("compression.type", "zstd"),
            // As Java's clients do, so that a report's key leads to the same partition whoever writes.
            ("partitioner", "murmur2_random"),
            // The broker's limit is the one that counts, and it says which record is too large.
            ("message.max.bytes", "104857600"),
        ],
        &[("enable.idempotence", "true"), ("statistics.interval.ms", "0")],
    );
    if transactional {
        client.set("transactional.id", format!("{}-{}", config.kafka.group, config.instance()));
    }
    client
}

/// A topic that has to be there.
struct Needed {
    name: String,
    partitions: i32,
    properties: Vec<(&'static str, String)>,
}

/// Partitions of each topic that is read, after seeing that every topic that the stream needs is there, or making it.
///
/// # Errors
/// [`Error::Topic`] where one is missing and may not be made; [`Error::Kafka`] where no broker answers.
pub(crate) async fn prepare(config: &Config) -> Result<BTreeMap<String, i32>, Error> {
    let client = reader(config, "read_uncommitted", &config.kafka.group)?;
    let failed = |doing| move |source| Error::Kafka { doing, source };
    let partitions = |topic: &str| partitions(client.client(), topic).map_err(failed("asking for topics"));
    let mut read = BTreeMap::new();
    for topic in &config.kafka.topics {
        let Some(count) = partitions(topic)? else {
            let reason = "it is to be read and does not exist; create it, or mend [kafka] topics".into();
            return Err(Error::Topic { topic: topic.clone(), reason });
        };
        read.insert(topic.clone(), count);
    }
    let most = read.values().copied().max().unwrap_or(1);
    let mut needed = vec![Needed { name: config.dead_letter.topic.clone(), partitions: most, properties: Vec::new() }];
    if let Sink::Kafka(sink) = &config.sink {
        let compacted = vec![("cleanup.policy", "compact".to_owned())];
        needed.push(Needed { name: sink.topic.clone(), partitions: most, properties: compacted });
        let retention = i64::from(config.state.retention_days) * 86_400_000;
        let bounded = vec![("cleanup.policy", "compact,delete".to_owned()), ("retention.ms", retention.to_string())];
        needed.push(Needed { name: config.changelog(), partitions: most, properties: bounded });
    }
    for topic in needed {
        match partitions(&topic.name)? {
            Some(count) if topic.name == config.changelog() && count < most => {
                tracing::info!(topic = topic.name, from = count, to = most, "the changelog gets more partitions");
                enlarge(config, &topic.name, most).await?;
            }
            Some(_) => {}
            None if config.kafka.create_topics => {
                tracing::info!(topic = topic.name, partitions = topic.partitions, "a topic is created");
                create(config, &topic).await?;
            }
            None => {
                let reason = "it does not exist, and [kafka] create_topics is false; create it".into();
                return Err(Error::Topic { topic: topic.name, reason });
            }
        }
    }
    Ok(read)
}

pub(crate) fn partitions<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<Option<i32>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), PATIENCE)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let Some(found) = found else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(Some(found.partitions().len() as i32).filter(|count| *count > 0)),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
    }
}

async fn create(config: &Config, topic: &Needed) -> Result<(), Error> {
    let admin: AdminClient<_> = admin(config)?;
    let replication = TopicReplication::Fixed(config.kafka.replication.unwrap_or(-1));
    let mut new = NewTopic::new(&topic.name, topic.partitions, replication);
    for (key, value) in &topic.properties {
        new = new.set(key, value);
    }
    let made = admin.create_topics([&new], &options()).await;
    // Another instance may have been first.
    told(&topic.name, made, &[RDKafkaErrorCode::TopicAlreadyExists])
}

async fn enlarge(config: &Config, topic: &str, partitions: i32) -> Result<(), Error> {
    let admin: AdminClient<_> = admin(config)?;
    let new = NewPartitions::new(topic, usize::try_from(partitions).unwrap_or(1));
    told(topic, admin.create_partitions([&new], &options()).await, &[RDKafkaErrorCode::InvalidPartitions])
}

fn admin(config: &Config) -> Result<AdminClient<rdkafka::client::DefaultClientContext>, Error> {
    configured(config, &[], &[("statistics.interval.ms", "0")]).create().map_err(Error::Client)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// What became of each topic: its name, or the error.
type TopicResult = Result<String, (String, RDKafkaErrorCode)>;

fn told(topic: &str, outcome: KafkaResult<Vec<TopicResult>>, harmless: &[RDKafkaErrorCode]) -> Result<(), Error> {
    let outcome = outcome.map_err(|source| Error::Kafka { doing: "making a topic", source })?;
    for made in outcome {
        if let Err((_, code)) = made
            && !harmless.contains(&code)
        {
            let error = KafkaError::AdminOp(code);
            if passes(&error) && matches!(code, RDKafkaErrorCode::RequestTimedOut | RDKafkaErrorCode::NotController) {
                return Err(Error::Kafka { doing: "making a topic", source: error });
            }
            return Err(Error::Topic {
                topic: topic.to_owned(),
                reason: format!("it can't be made: {code}; create it"),
            });
        }
    }
    Ok(())
}
