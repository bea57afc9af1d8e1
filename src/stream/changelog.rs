//! What is remembered of reports, read back from its topic when a partition is assigned.

use super::client;
use super::config::Config;
use super::error::Error;
use super::record::Partition;
use super::stop::Stop;
use super::versions::PartitionState;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Reads the state of partitions. `beat` is called at least every second, so that the consumer group goes on meanwhile; where it
/// fails, so does this.
///
/// # Errors
/// [`Error::Kafka`] or [`Error::Interrupted`] where the topic can't be read to its end.
pub(crate) fn restore(
    config: &Config,
    partitions: &[Partition],
    stop: &Stop,
    beat: &mut dyn FnMut() -> Result<(), Error>,
) -> Result<HashMap<Partition, PartitionState>, Error> {
    let failed = |source| Error::Kafka { doing: "reading the changelog", source };
    let topic = config.changelog();
    let window = config.state.duplicate_window;
    let mut states: HashMap<Partition, PartitionState> =
        partitions.iter().map(|partition| (partition.clone(), PartitionState::default())).collect();
    let committed = client::reader(config, "read_committed", &config.kafka.group)?;
    let all = client::reader(config, "read_uncommitted", &config.kafka.group)?;
    let mut ends = BTreeSet::new();
    let mut assignment = TopicPartitionList::new();
    for number in partitions.iter().map(|partition| partition.number).collect::<BTreeSet<_>>() {
        let (low, high) = all.fetch_watermarks(&topic, number, client::PATIENCE).map_err(failed)?;
        // A transaction that is still open may yet add to what is committed: that of an instance that died, until it times out.
        while committed.fetch_watermarks(&topic, number, client::PATIENCE).map_err(failed)?.1 < high && !stop.stopped()
        {
            beat()?;
            stop.wait(Duration::from_millis(200));
        }
        beat()?;
        if low < high {
            ends.insert(number);
            assignment.add_partition_offset(&topic, number, Offset::Beginning).map_err(failed)?;
        }
    }
    committed.assign(&assignment).map_err(failed)?;
    let mut beaten = Instant::now();
    let mut foreign = 0u64;
    while !ends.is_empty() && !stop.stopped() {
        if beaten.elapsed() > Duration::from_secs(1) {
            beat()?;
            beaten = Instant::now();
        }
        match committed.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                let header = message.headers().and_then(|headers| {
                    headers.iter().find(|header| header.key == "topic").and_then(|header| header.value)
                });
                let of = header.and_then(|topic| std::str::from_utf8(topic).ok());
                let of = of.map(|topic| Partition { topic: topic.into(), number: message.partition() });
                let Some(state) = of.and_then(|of| states.get_mut(&of)) else { continue };
                if !state.restore(message.key().unwrap_or_default(), message.payload(), window) {
                    foreign += 1;
                }
            }
            Some(Err(KafkaError::PartitionEOF(number))) => {
                ends.remove(&number);
            }
            Some(Err(error)) if transient(&error) => tracing::debug!(%error, "reading the changelog"),
            Some(Err(source)) => return Err(failed(source)),
        }
    }
    if foreign > 0 {
        tracing::warn!(
            topic,
            records = foreign,
            "the changelog holds records that are not of this version's form; passed over"
        );
    }
    Ok(states)
}

/// Errors that a client tells of and gets over by itself.
pub(crate) fn transient(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::*;
    matches!(
        error.rdkafka_error_code(),
        Some(
            BrokerTransportFailure
                | AllBrokersDown
                | Resolve
                | OperationTimedOut
                | RequestTimedOut
                | NetworkException
                | NotLeaderForPartition
                | LeaderNotAvailable
                | CoordinatorNotAvailable
                | NotCoordinator
                | CoordinatorLoadInProgress
                | UnknownTopicOrPartition
                | MessageTimedOut
        )
    )
}
