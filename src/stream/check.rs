//! What `foramen doctor` says of a stream: whether its brokers answer, and whether what it needs is there.

use super::client;
use super::config::{Config, Sink};
use super::encode::Encoder;
use super::error::Error;
use super::transform::Transform;
use crate::model::Model;
use rdkafka::consumer::Consumer;
use std::sync::Arc;

/// A thing that was looked at, and what came of it.
pub type Check = (&'static str, Result<String, Error>);

/// Asks the brokers, and plans the query where there is a model. Nothing is created and nothing is read.
pub async fn check(config: &Config, model: Option<Arc<Model>>) -> Vec<Check> {
    let mut checks = vec![("Kafka", brokers(config)), ("topics", topics(config))];
    if let Some(model) = model {
        let planned = Transform::plan(&config.transform.sql, model, &config.hl7).await;
        let avro = match (&planned, &config.sink) {
            (Ok(transform), Sink::Kafka(sink)) => {
                let encoder = Encoder::new(sink.format, transform.schema(), sink.schema_id);
                Some(encoder.map(|encoder| encoder.avro_schema()).map_err(|error| Error::Transform(error.to_string())))
            }
            _ => None,
        };
        let columns = |transform: Transform| {
            let names: Vec<String> = transform.schema().fields().iter().map(|field| field.name().clone()).collect();
            format!("{} columns: {}", names.len(), names.join(", "))
        };
        checks.push(("the stream's query", planned.map(columns)));
        match avro {
            Some(Ok(Some(schema))) => checks.push(("the Avro schema of its values", Ok(schema))),
            Some(Err(error)) => checks.push(("the form of its values", Err(error))),
            Some(Ok(None)) | None => {}
        }
    }
    checks
}

fn asker(config: &Config) -> Result<client::Reader, Error> {
    client::reader(config, "read_committed", &config.kafka.group)
}

fn brokers(config: &Config) -> Result<String, Error> {
    let metadata = asker(config)?.fetch_metadata(None, client::PATIENCE).map_err(|source| Error::Kafka {
        doing: "asking the brokers; do they run, and may this machine reach them?",
        source,
    })?;
    let brokers: Vec<String> =
        metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect();
    let (_, version) = rdkafka::util::get_rdkafka_version();
    Ok(format!("{} answer; librdkafka {version}", brokers.join(", ")))
}

fn topics(config: &Config) -> Result<String, Error> {
    let asker = asker(config)?;
    let mut told = Vec::new();
    let mut needed: Vec<(&str, bool)> = config.kafka.topics.iter().map(|topic| (topic.as_str(), false)).collect();
    let changelog = config.changelog();
    needed.push((&config.dead_letter.topic, config.kafka.create_topics));
    if let Sink::Kafka(sink) = &config.sink {
        needed.push((&sink.topic, config.kafka.create_topics));
        needed.push((&changelog, config.kafka.create_topics));
    }
    for (topic, made) in needed {
        let found = client::partitions(asker.client(), topic);
        match found.map_err(|source| Error::Kafka { doing: "asking for topics", source })? {
            Some(partitions) => told.push(format!("{topic} ({partitions} partitions)")),
            None if made => told.push(format!("{topic} (is created at the start)")),
            None => {
                return Err(Error::Topic { topic: topic.to_owned(), reason: "it does not exist; create it".into() });
            }
        }
    }
    Ok(told.join(", "))
}
