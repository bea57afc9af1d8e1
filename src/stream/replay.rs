//! `foramen stream replay`: dead letters back into the topics that they came from.

use super::client::{self, Reader};
use super::config::Config;
use super::dead_letter::{ATTEMPTS, CONNECT, OWN, ours, owned};
use super::error::Error;
use super::record::Headers;
use super::sink::{Deliveries, abort, send, settled};
use super::stop::Stop;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Letters in one transaction.
const BATCH: usize = 500;

/// Which dead letters are fed back.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// Those of these codes; of all where there are none.
    pub codes: BTreeSet<String>,
    /// The topic that they go to, in place of the one that each came from.
    pub to: Option<String>,
    /// Count them only.
    pub dry_run: bool,
}

/// What became of the dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Fed back, by code.
    pub replayed: BTreeMap<String, u64>,
    /// Passed over, having another code.
    pub other_codes: u64,
    /// Passed over, since they don't say where they came from: nothing of ours wrote them.
    pub without_origin: u64,
}

impl Replay {
    /// The consumer group that keeps how far a replay of these codes has come, so that a letter goes back once.
    fn group(&self, config: &Config) -> String {
        let mut group = format!("{}-replay", config.kafka.group);
        for code in &self.codes {
            group.push('-');
            group.push_str(code);
        }
        group
    }
}

/// Feeds dead letters back that were there when it began, each once, with key, headers and partition as they came.
///
/// # Errors
/// Where Kafka can't be read or written; what was fed back until then stays so.
pub fn replay(config: &Config, replay: &Replay, stop: &Stop) -> Result<Replayed, Error> {
    let failed = |doing| move |source| Error::Kafka { doing, source };
    let topic = &config.dead_letter.topic;
    let consumer = client::reader(config, "read_committed", &replay.group(config))?;
    let producer: Option<BaseProducer<Deliveries>> = match replay.dry_run {
        true => None,
        false => {
            let mut settings = client::producer(config, true);
            settings.set("transactional.id", replay.group(config));
            let producer: BaseProducer<Deliveries> =
                settings.create_with_context(Deliveries::default()).map_err(Error::Client)?;
            producer.init_transactions(client::PATIENCE).map_err(failed("beginning transactions"))?;
            Some(producer)
        }
    };
    let mut ends = begin(&consumer, topic)?;
    let mut summary = Replayed::default();
    let mut batch: Vec<Letter> = Vec::new();
    let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
    while !ends.is_empty() && !stop.stopped() {
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(message)) => {
                let Some(end) = ends.get(&message.partition()).copied() else { continue };
                if message.offset() >= end {
                    ends.remove(&message.partition());
                    continue;
                }
                offsets.insert(message.partition(), message.offset() + 1);
                let letter = Letter::of(&message);
                match &letter.origin {
                    _ if !replay.codes.is_empty() && !replay.codes.contains(&letter.code) => summary.other_codes += 1,
                    None if replay.to.is_none() => summary.without_origin += 1,
                    _ => {
                        *summary.replayed.entry(letter.code.clone()).or_default() += 1;
                        batch.push(letter);
                    }
                }
            }
            Some(Err(KafkaError::PartitionEOF(number))) => {
                ends.remove(&number);
            }
            Some(Err(error)) if super::changelog::transient(&error) => tracing::debug!(%error, "reading dead letters"),
            Some(Err(source)) => return Err(Error::Kafka { doing: "reading dead letters", source }),
        }
        if let Some(producer) = &producer
            && (batch.len() >= BATCH || ends.is_empty())
            && !offsets.is_empty()
        {
            write(producer, &consumer, topic, &batch, &offsets, replay, stop)?;
            batch.clear();
            offsets.clear();
        }
    }
    Ok(summary)
}

/// Assigns every partition from where the group had come to; answers where each ends now.
fn begin(consumer: &Reader, topic: &str) -> Result<BTreeMap<i32, i64>, Error> {
    let failed = |source| Error::Kafka { doing: "asking for the dead letters", source };
    let metadata = consumer.fetch_metadata(Some(topic), client::PATIENCE).map_err(failed)?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        list.add_partition(topic, partition.id());
    }
    let committed = consumer.committed_offsets(list, client::PATIENCE).map_err(failed)?;
    let mut ends = BTreeMap::new();
    let mut assigned = TopicPartitionList::new();
    for partition in committed.elements() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.partition(), client::PATIENCE).map_err(failed)?;
        let from = match partition.offset() {
            Offset::Offset(offset) => offset.max(low),
            _ => low,
        };
        if from < high {
            ends.insert(partition.partition(), high);
            assigned.add_partition_offset(topic, partition.partition(), Offset::Offset(from)).map_err(failed)?;
        }
    }
    consumer.assign(&assigned).map_err(failed)?;
    Ok(ends)
}

/// A dead letter on its way back.
struct Letter {
    code: String,
    /// Topic and partition that it came from.
    origin: Option<(String, i32)>,
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
    timestamp: Option<i64>,
    headers: Headers,
}

impl Letter {
    fn of(message: &BorrowedMessage<'_>) -> Letter {
        let all: Headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        let text = |name: &str| {
            let found = all.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_deref());
            found.and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned)
        };
        let topic = text(&format!("{CONNECT}topic"));
        let partition = text(&format!("{CONNECT}partition")).and_then(|number| number.parse().ok());
        let attempts: u32 = text(ATTEMPTS).and_then(|number| number.parse().ok()).unwrap_or(0);
        let mut headers: Headers = all.iter().filter(|(name, _)| !ours(name)).cloned().collect();
        headers.push((ATTEMPTS.to_owned(), Some((attempts + 1).to_string().into_bytes())));
        Letter {
            code: text(&format!("{OWN}code")).unwrap_or_else(|| "unknown".into()),
            origin: topic.zip(partition),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().unwrap_or_default().to_vec(),
            timestamp: message.timestamp().to_millis(),
            headers,
        }
    }
}

fn write(
    producer: &BaseProducer<Deliveries>,
    consumer: &Reader,
    topic: &str,
    batch: &[Letter],
    offsets: &BTreeMap<i32, i64>,
    replay: &Replay,
    stop: &Stop,
) -> Result<(), Error> {
    let failed = |doing| move |source| Error::Kafka { doing, source };
    producer.begin_transaction().map_err(failed("beginning a transaction"))?;
    for (number, letter) in batch.iter().enumerate() {
        let (to, partition) = match (&replay.to, &letter.origin) {
            (Some(to), _) => (to.as_str(), None),
            (None, Some((topic, partition))) => (topic.as_str(), Some(*partition)),
            (None, None) => continue,
        };
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(to, number)
            .payload(letter.payload.as_slice())
            .headers(owned(&letter.headers));
        if let Some(partition) = partition {
            // Versions of a report stay in one partition, where what is remembered of it is.
            record = record.partition(partition);
        }
        if let Some(key) = &letter.key {
            record = record.key(key);
        }
        if let Some(timestamp) = letter.timestamp {
            record = record.timestamp(timestamp);
        }
        send(producer, record, number, stop, &mut || {}).map_err(failed("feeding dead letters back"))?;
    }
    let mut list = TopicPartitionList::new();
    for (partition, next) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*next)).map_err(failed("noting offsets"))?;
    }
    let group = consumer.group_metadata().ok_or_else(|| Error::Interrupted("no consumer group".into()))?;
    settled(producer, stop, &mut || {});
    producer
        .send_offsets_to_transaction(&list, &group, client::PATIENCE)
        .and_then(|()| producer.commit_transaction(client::PATIENCE))
        .map_err(|source| {
            // The error is told; a transaction that stays open is ended by the broker.
            let _ = abort(producer);
            Error::Kafka { doing: "feeding dead letters back", source }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_of_codes_has_its_own_progress() {
        let config: Config = toml::from_str(
            "[kafka]\nbrokers = 'b'\ngroup = 'g'\ntopics = ['t']\n[sink]\nkind = 'parquet'\nfolder = 'f'\n[dead_letter]\ntopic = 'd'",
        )
        .unwrap();
        let codes = ["no-text", "no-msh"].map(str::to_owned).into();
        assert_eq!(Replay { codes, ..Replay::default() }.group(&config), "g-replay-no-msh-no-text");
        assert_eq!(Replay::default().group(&config), "g-replay");
    }
}
