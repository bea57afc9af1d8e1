//! The member of the consumer group: what happens when partitions come and go.

use super::changelog::transient;
use super::client::PATIENCE;
use super::error::Error;
use super::metrics::Metrics;
use super::record::Partition;
use super::sink::ParquetSink;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happened to the assignment, in order. It is seen to by the stream's loop, right after the poll that brought it.
pub(crate) enum Event {
    /// These came, and are paused until their state is there.
    Assigned(Vec<Partition>),
    /// These went.
    Revoked(Vec<Partition>),
    /// Something that ends the session.
    Failed(Error),
}

/// The context of the consumer.
pub(crate) struct Group {
    events: Mutex<Vec<Event>>,
    /// The Parquet sink, whose folder says where a partition begins, and whose files are completed before one goes.
    pub(crate) folder: Option<Mutex<ParquetSink>>,
    /// The offset that each partition has come to, as this member committed it.
    done: Mutex<HashMap<Partition, i64>>,
    metrics: Arc<Metrics>,
}

impl Group {
    pub(crate) fn new(folder: Option<ParquetSink>, metrics: Arc<Metrics>) -> Group {
        Group {
            events: Mutex::new(Vec::new()),
            folder: folder.map(Mutex::new),
            done: Mutex::new(HashMap::new()),
            metrics,
        }
    }

    /// Takes what happened since the last call.
    pub(crate) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes how far a partition has come. The client does not see what a transaction commits.
    pub(crate) fn came_to(&self, partition: &Partition, next: i64) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(partition.clone(), next);
    }

    fn push(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    fn assigned(&self, consumer: &BaseConsumer<Group>, list: &mut TopicPartitionList) {
        let partitions = partitions(list);
        if let Some(folder) = &self.folder
            && let Err(error) = begin(consumer, &folder.lock().unwrap_or_else(PoisonError::into_inner), list)
        {
            self.push(Event::Failed(error));
        }
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        };
        match assigned.and_then(|()| consumer.pause(list)) {
            Ok(()) => self.push(Event::Assigned(partitions)),
            Err(source) => self.push(Event::Failed(Error::Kafka { doing: "taking partitions", source })),
        }
    }

    fn revoked(&self, consumer: &BaseConsumer<Group>, list: &TopicPartitionList) {
        let partitions = partitions(list);
        if let Some(folder) = &self.folder {
            let mut folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
            for partition in &partitions {
                let kept = match consumer.assignment_lost() {
                    true => Err(Error::Interrupted("the partition was lost".into())),
                    false => folder.complete(partition, &mut |partition, offset| commit(consumer, partition, offset)),
                };
                if let Err(error) = kept {
                    tracing::warn!(%partition, %error, "a file was not completed; its messages are read again");
                    folder.discard(partition);
                }
            }
        }
        self.done.lock().unwrap_or_else(PoisonError::into_inner).retain(|partition, _| !partitions.contains(partition));
        let unassigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        if let Err(source) = unassigned {
            self.push(Event::Failed(Error::Kafka { doing: "giving partitions back", source }));
        }
        self.push(Event::Revoked(partitions));
    }
}

/// Sets where partitions are read from: what the folder holds, or what the group committed where that is more (messages without
/// rows make no file).
fn begin(consumer: &BaseConsumer<Group>, folder: &ParquetSink, list: &mut TopicPartitionList) -> Result<(), Error> {
    let failed = |source| Error::Kafka { doing: "asking for committed offsets", source };
    let committed = consumer.committed_offsets(list.clone(), PATIENCE).map_err(failed)?;
    for partition in partitions(list) {
        let held = folder.position(&partition)?;
        let committed = committed.find_partition(&partition.topic, partition.number).map(|found| found.offset());
        let committed = match committed {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        };
        if let Some(offset) = held.max(committed) {
            list.set_partition_offset(&partition.topic, partition.number, Offset::Offset(offset)).map_err(failed)?;
        }
    }
    Ok(())
}

/// Commits an offset in the name of this member; fails where the partition is another's by now.
pub(crate) fn commit(consumer: &BaseConsumer<Group>, partition: &Partition, offset: i64) -> Result<(), Error> {
    let mut list = TopicPartitionList::new();
    let failed = |source: KafkaError| match transient(&source) || super::error::passes(&source) {
        true => Error::Interrupted(format!("committing {partition}: {source}")),
        false => Error::Kafka { doing: "committing offsets", source },
    };
    list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset)).map_err(failed)?;
    let mut tries = TRIES;
    loop {
        match consumer.commit(&list, CommitMode::Sync) {
            // The group's generation moves on in the background; the partition is ours until a poll says otherwise.
            Err(error) if tries > 0 && moved_on(&error) && !consumer.assignment_lost() => {
                tries -= 1;
                std::thread::park_timeout(PAUSE);
            }
            outcome => return outcome.map_err(failed),
        }
    }
}

/// Tries to commit while the group is in between two generations, and the pause between them.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);

fn moved_on(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress};
    matches!(error.rdkafka_error_code(), Some(IllegalGeneration | RebalanceInProgress))
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    let partition = |(topic, number): &(String, i32)| Partition { topic: topic.as_str().into(), number: *number };
    let mut partitions: Vec<Partition> = list.to_topic_map().keys().map(partition).collect();
    partitions.sort();
    partitions
}

impl ClientContext for Group {
    fn stats(&self, statistics: Statistics) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values().filter(|partition| partition.partition >= 0 && partition.desired)
            {
                let name = Partition { topic: topic.topic.as_str().into(), number: partition.partition };
                let at = done.get(&name).copied().unwrap_or(-1).max(partition.committed_offset);
                // Where nothing was ever committed, all that there is is to be read.
                let at = if at >= 0 { at } else { partition.lo_offset };
                if at >= 0 && partition.ls_offset >= 0 {
                    self.metrics.set_lag(&topic.topic, partition.partition, (partition.ls_offset - at).max(0));
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // What the client gets over by itself is told once it lasts, by what waits for it.
        match transient(&error) {
            true => tracing::info!(%error, reason, "Kafka"),
            false => tracing::warn!(%error, reason, "Kafka"),
        }
    }
}

impl ConsumerContext for Group {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
            _ => self.revoked(consumer, list),
        }
    }
}

/// The first offset that a topic still has, and the one that the group had come to, for partitions where the latter is gone:
/// messages that nobody will read.
pub(crate) fn lost(consumer: &BaseConsumer<Group>, partitions: &[Partition]) -> HashMap<Partition, (i64, i64)> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.number);
    }
    let Ok(committed) = consumer.committed_offsets(list, PATIENCE) else { return HashMap::new() };
    let mut lost = HashMap::new();
    for partition in partitions {
        let Some(Offset::Offset(offset)) =
            committed.find_partition(&partition.topic, partition.number).map(|found| found.offset())
        else {
            continue;
        };
        if let Ok((low, _)) = consumer.fetch_watermarks(&partition.topic, partition.number, PATIENCE)
            && offset < low
        {
            lost.insert(partition.clone(), (offset, low));
        }
    }
    lost
}
