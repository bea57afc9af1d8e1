//! Where statements go: a topic, or a folder of Parquet files.

mod kafka;
mod parquet;

pub(crate) use kafka::{KafkaSink, Refusal};
pub(crate) use parquet::ParquetSink;

use super::client;
use super::config::Config;
use super::dead_letter;
use super::error::Error;
use super::stop::Stop;
use super::work::Work;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What became of records that could not be delivered: their numbers in the batch, and why.
#[derive(Default)]
pub(crate) struct Deliveries {
    failed: Mutex<Vec<(usize, RDKafkaErrorCode)>>,
}

impl Deliveries {
    fn failed(&self) -> MutexGuard<'_, Vec<(usize, RDKafkaErrorCode)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        // What is not got over fails a transaction or a delivery, and is told then.
        tracing::info!(%error, reason, "Kafka");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if let Err((error, _)) = result
            && let Some(code) = error.rdkafka_error_code()
        {
            self.failed().push((number, code));
        }
    }
}

/// Hands a record over, waiting for room. Why it could not be is noted among the deliveries too.
pub(crate) fn send(
    producer: &BaseProducer<Deliveries>,
    mut record: BaseRecord<'_, [u8], [u8], usize>,
    number: usize,
    stop: &Stop,
    beat: &mut dyn FnMut(),
) -> Result<(), KafkaError> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if !stop.overdue() => {
                record = back;
                beat();
                producer.poll(POLL);
            }
            Err((error, _)) => {
                if let Some(code) = error.rdkafka_error_code() {
                    producer.context().failed().push((number, code));
                }
                return Err(error);
            }
        }
    }
}

/// How long a producer is polled at once, while it is waited for.
const POLL: Duration = Duration::from_millis(2);

/// Waits until it is known of every record what became of it; false where that takes longer than there is time left.
///
/// Whoever waits polls: rust-rdkafka's `flush`, and the thread of its `ThreadedProducer`, look every 100 ms.
pub(crate) fn settled(producer: &BaseProducer<Deliveries>, stop: &Stop, beat: &mut dyn FnMut()) -> bool {
    while producer.in_flight_count() > 0 {
        if stop.overdue() {
            return false;
        }
        beat();
        producer.poll(POLL);
    }
    true
}

/// Aborts a transaction. What is in flight is given up, which is told as events: they are taken meanwhile, since the abort waits for that.
pub(crate) fn abort(producer: &BaseProducer<Deliveries>) -> Result<(), KafkaError> {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                producer.poll(POLL);
            }
        });
        let aborted = producer.abort_transaction(client::PATIENCE);
        ended.store(true, Ordering::Relaxed);
        aborted
    })
}

/// Errors of a record that come again at every try.
fn permanent(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code,
        MessageSizeTooLarge
            | InvalidMessageSize
            | InvalidRecord
            | TopicAuthorizationFailed
            | UnknownTopicOrPartition
            | UnknownTopic
            | UnknownPartition
            | InvalidTopic
            | PolicyViolation
    )
}

/// The dead-letter topic, written outside of transactions.
pub(crate) struct DeadLetters {
    producer: BaseProducer<Deliveries>,
    topic: String,
    instance: String,
    stop: Arc<Stop>,
}

impl DeadLetters {
    pub(crate) fn open(config: &Config, stop: &Arc<Stop>) -> Result<DeadLetters, Error> {
        let client = client::producer(config, false);
        Ok(DeadLetters {
            producer: client.create_with_context(Deliveries::default()).map_err(Error::Client)?,
            topic: config.dead_letter.topic.clone(),
            instance: config.instance(),
            stop: Arc::clone(stop),
        })
    }

    /// Writes a batch's dead letters; they are in the topic when this answers.
    pub(crate) fn write(&self, work: &Work, beat: &mut dyn FnMut()) -> Result<(), Error> {
        self.producer.context().failed().clear();
        for number in 0..work.dead_letters.len() {
            self.send(work, number, beat);
        }
        self.flush(beat)?;
        let refused = std::mem::take(&mut *self.producer.context().failed());
        // A broker refuses a batch as a whole: those in it are sent again, one by one.
        for (number, _) in refused.iter().filter(|(_, code)| permanent(*code)) {
            self.send(work, *number, beat);
            self.flush(beat)?;
        }
        let failed = self.producer.context().failed().first().copied();
        let failed = failed.or_else(|| refused.iter().find(|(_, code)| !permanent(*code)).copied());
        match failed {
            None => Ok(()),
            Some((_, code)) if permanent(code) => {
                Err(Error::DeadLetter { topic: self.topic.clone(), reason: code.to_string() })
            }
            Some((_, code)) => Err(Error::Interrupted(format!("writing dead letters: {code}"))),
        }
    }

    fn send(&self, work: &Work, number: usize, beat: &mut dyn FnMut()) {
        let Some(dead) = work.dead_letters.get(number) else { return };
        let Some(record) = work.records.get(dead.record) else { return };
        let headers = dead_letter::owned(&dead_letter::headers(dead, record, &self.instance));
        let mut letter = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.topic, number)
            .payload(dead.bytes.as_slice())
            .headers(headers);
        if let Some(key) = &record.key {
            letter = letter.key(key);
        }
        if let Some(timestamp) = record.timestamp {
            letter = letter.timestamp(timestamp);
        }
        // Why it could not be handed over is among the deliveries.
        let _ = send(&self.producer, letter, number, &self.stop, beat);
    }

    fn flush(&self, beat: &mut dyn FnMut()) -> Result<(), Error> {
        // What became of each record is among the deliveries.
        if !settled(&self.producer, &self.stop, beat) {
            return Err(Error::Interrupted("dead letters were not written in time".into()));
        }
        Ok(())
    }
}
