//! The Kafka sink: statements, dead letters, changes of the state and offsets in one transaction.

use super::{Deliveries, abort, permanent, send, settled};
use crate::stream::client;
use crate::stream::config::{Config, KafkaSink as Settings};
use crate::stream::dead_letter;
use crate::stream::encode::{Encoder, envelope_schema};
use crate::stream::error::{Error, passes};
use crate::stream::record::{Headers, Partition};
use crate::stream::stop::Stop;
use crate::stream::versions::Change;
use crate::stream::work::{Statement, States, Work};
use arrow::array::{ArrayRef, Int32Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMillisecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaError};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

/// Transactions that a batch is tried in, before the session begins anew.
const TRIES: usize = 5;
/// A pause between tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a batch was not written. Nothing of it can be seen by who reads committed records.
pub(crate) enum Refusal {
    /// One statement can't be written, whatever is done: the number of it.
    Statement(usize, RDKafkaErrorCode),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Other(error)
    }
}

/// What a record of the transaction is.
#[derive(Clone, Copy)]
enum Part {
    DeadLetter,
    Statement(usize),
    State,
}

struct Out {
    part: Part,
    topic: Arc<str>,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Option<i64>,
    headers: Headers,
}

/// A transactional producer and the form of its records.
pub(crate) struct KafkaSink {
    producer: BaseProducer<Deliveries>,
    encoder: Encoder,
    rows: SchemaRef,
    settings: Settings,
    topic: Arc<str>,
    changelog: Arc<str>,
    dead_letters: Arc<str>,
    instance: String,
    group: String,
    stop: Arc<Stop>,
}

impl KafkaSink {
    /// Takes over from whoever went by this instance's name before: what that one had in flight is aborted by the broker.
    ///
    /// # Errors
    /// Where the transform's rows can't be written in the format, or the broker has no transactions for us.
    pub(crate) fn open(
        config: &Config,
        settings: &Settings,
        rows: &Schema,
        stop: &Arc<Stop>,
    ) -> Result<KafkaSink, Error> {
        let encoder = encoder(settings, rows)?;
        let client = client::producer(config, true);
        let producer: BaseProducer<Deliveries> =
            client.create_with_context(Deliveries::default()).map_err(Error::Client)?;
        let sink = KafkaSink {
            producer,
            encoder,
            rows: Arc::new(rows.clone()),
            settings: settings.clone(),
            topic: settings.topic.as_str().into(),
            changelog: config.changelog().into(),
            dead_letters: config.dead_letter.topic.as_str().into(),
            instance: config.instance(),
            group: config.kafka.group.clone(),
            stop: Arc::clone(stop),
        };
        sink.patiently("beginning transactions", &mut || {}, || sink.producer.init_transactions(client::PATIENCE))?;
        Ok(sink)
    }

    /// Takes rows of another form from now on, as another model gives them.
    pub(crate) fn reform(&mut self, rows: &SchemaRef) -> Result<(), Error> {
        if *rows != self.rows {
            self.encoder = encoder(&self.settings, rows)?;
            self.rows = Arc::clone(rows);
        }
        Ok(())
    }

    /// Writes a batch, its offsets and its state, all or nothing. `group` says who commits, and is none where the partitions were lost.
    /// `beat` is called while brokers are waited for.
    pub(crate) fn commit(
        &mut self,
        work: &Work,
        states: &States,
        offsets: &TopicPartitionList,
        group: &dyn Fn() -> Option<ConsumerGroupMetadata>,
        beat: &mut dyn FnMut(),
    ) -> Result<(), Refusal> {
        let outs = self.outs(work, states)?;
        // A broker refuses a batch as a whole: where it does, records are sent one by one, to know which it is.
        let mut singly = false;
        let mut tries = TRIES;
        loop {
            // Asked for at each try: the group's generation moves on in the background, and the partitions stay ours until a poll
            // says otherwise.
            let member = group().ok_or_else(|| Error::Interrupted("the partitions are another's by now".into()))?;
            self.deliveries().clear();
            self.producer.begin_transaction().map_err(|error| self.failure("beginning a transaction", error))?;
            let Err((doing, error)) = self.write(&outs, singly, offsets, &member, beat) else { return Ok(()) };
            let refused: Vec<(usize, RDKafkaErrorCode)> = self.deliveries().drain(..).collect();
            // Aborted here, or by the broker when the next session begins: in either case it is not seen.
            if let Err(abort) = self.patiently("aborting", beat, || abort(&self.producer)) {
                tracing::debug!(error = %abort, "a transaction could not be aborted, and is left to its time-out");
                return Err(self.failure(doing, error).into());
            }
            let parts = refused.iter().filter_map(|(number, code)| Some((outs.get(*number)?, *code)));
            let lasting: Vec<(&Out, RDKafkaErrorCode)> = parts.filter(|(_, code)| permanent(*code)).collect();
            tries -= 1;
            match lasting.as_slice() {
                [] if tries > 0 && mended_by_abort(&error) => {
                    tracing::debug!(error = brief(&error), "the transaction is tried again")
                }
                [] => return Err(self.failure(doing, error).into()),
                [_, _, ..] if !singly => singly = true,
                [(out, code), ..] => return Err(self.refusal(out, *code)),
            }
        }
    }

    fn refusal(&self, out: &Out, code: RDKafkaErrorCode) -> Refusal {
        match out.part {
            Part::DeadLetter => {
                Error::DeadLetter { topic: self.dead_letters.to_string(), reason: code.to_string() }.into()
            }
            Part::Statement(number) if of_the_record(code) => Refusal::Statement(number, code),
            Part::Statement(_) | Part::State => {
                Error::Topic { topic: out.topic.to_string(), reason: format!("it can't be written: {code}") }.into()
            }
        }
    }

    fn write(
        &self,
        outs: &[Out],
        singly: bool,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
        beat: &mut dyn FnMut(),
    ) -> Result<(), (&'static str, KafkaError)> {
        for (number, out) in outs.iter().enumerate() {
            self.send(number, out, beat).map_err(|error| ("writing", error))?;
            if singly {
                settled(&self.producer, &self.stop, beat);
                if !self.deliveries().is_empty() {
                    return Err(("writing", KafkaError::Canceled));
                }
            }
        }
        let producer = &self.producer;
        self.patiently_raw(beat, || producer.send_offsets_to_transaction(offsets, group, client::PATIENCE))
            .map_err(|error| ("writing offsets", error))?;
        // A commit waits for what is in flight too, but nobody polls meanwhile.
        if !settled(producer, &self.stop, beat) {
            return Err(("committing", KafkaError::Canceled));
        }
        self.patiently_raw(beat, || producer.commit_transaction(client::PATIENCE))
            .map_err(|error| ("committing", error))
    }

    fn send(&self, number: usize, out: &Out, beat: &mut dyn FnMut()) -> Result<(), KafkaError> {
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&out.topic, number);
        record = record.headers(dead_letter::owned(&out.headers));
        if let Some(partition) = out.partition {
            record = record.partition(partition);
        }
        if let Some(key) = &out.key {
            record = record.key(key);
        }
        if let Some(value) = &out.value {
            record = record.payload(value);
        }
        if let Some(timestamp) = out.timestamp {
            record = record.timestamp(timestamp);
        }
        send(&self.producer, record, number, &self.stop, beat)
    }

    fn deliveries(&self) -> MutexGuard<'_, Vec<(usize, RDKafkaErrorCode)>> {
        self.producer.context().failed()
    }

    /// Tries until it works, or fails for a reason that waiting does not mend.
    fn patiently(
        &self,
        doing: &'static str,
        beat: &mut dyn FnMut(),
        attempt: impl FnMut() -> Result<(), KafkaError>,
    ) -> Result<(), Error> {
        self.patiently_raw(beat, attempt).map_err(|error| self.failure(doing, error))
    }

    fn patiently_raw(
        &self,
        beat: &mut dyn FnMut(),
        mut attempt: impl FnMut() -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        let started = Instant::now();
        let mut told = false;
        loop {
            beat();
            match attempt() {
                Err(error) if retriable(&error) && !self.stop.overdue() => {
                    if !told && started.elapsed() > client::PATIENCE {
                        tracing::warn!(error = brief(&error), "brokers do not answer; trying on");
                        told = true;
                    }
                    self.stop.wait(PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    fn failure(&self, doing: &'static str, source: KafkaError) -> Error {
        if let KafkaError::Transaction(error) = &source
            && fenced(error)
        {
            return Error::Fenced { group: self.group.clone(), instance: self.instance.clone() };
        }
        match passes(&source) {
            true => Error::Interrupted(format!("{doing}: {}", brief(&source))),
            false => Error::Kafka { doing, source },
        }
    }

    /// The records of a batch: dead letters first.
    fn outs(&mut self, work: &Work, states: &States) -> Result<Vec<Out>, Error> {
        let mut outs = Vec::new();
        for dead in &work.dead_letters {
            let Some(record) = work.records.get(dead.record) else { continue };
            outs.push(Out {
                part: Part::DeadLetter,
                topic: Arc::clone(&self.dead_letters),
                partition: None,
                key: record.key.clone(),
                value: Some(dead.bytes.clone()),
                timestamp: record.timestamp,
                headers: dead_letter::headers(dead, record, &self.instance),
            });
        }
        let values = self.values(&work.statements)?;
        for (number, (statement, value)) in work.statements.iter().zip(values).enumerate() {
            let header = |name: &str, value: &str| (format!("foramen.{name}"), Some(value.as_bytes().to_vec()));
            outs.push(Out {
                part: Part::Statement(number),
                topic: Arc::clone(&self.topic),
                partition: None,
                key: Some(statement.report_id.as_bytes().to_vec()),
                value,
                timestamp: None,
                headers: vec![
                    header("report_status", statement.status.name()),
                    header("version", &statement.version.unwrap_or_default().to_string()),
                    header("change", statement.change.name()),
                    header("source", &statement.source),
                    ("content-type".into(), Some(self.encoder.content_type().as_bytes().to_vec())),
                ],
            });
        }
        let nothing = Default::default();
        for (Partition { topic, number }, staged) in &work.staged {
            let partition = Partition { topic: Arc::clone(topic), number: *number };
            let state = states.partitions.get(&partition).unwrap_or(&nothing);
            for (key, value) in state.changes(staged, states.window) {
                outs.push(Out {
                    part: Part::State,
                    topic: Arc::clone(&self.changelog),
                    partition: Some(*number),
                    key: Some(key),
                    value,
                    timestamp: None,
                    headers: vec![("topic".into(), Some(topic.as_bytes().to_vec()))],
                });
            }
        }
        Ok(outs)
    }

    /// A value for each statement: none, a tombstone, for a retraction.
    fn values(&mut self, statements: &[Statement]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let said: Vec<&Statement> =
            statements.iter().filter(|statement| statement.change != Change::Retraction).collect();
        let envelope = envelope(&said, &self.rows).map_err(|error| Error::TransformFails(error.to_string()))?;
        let encoded = self.encoder.encode(&envelope).map_err(|error| Error::TransformFails(error.to_string()))?;
        let mut encoded = encoded.into_iter();
        let value = |statement: &Statement| match statement.change {
            Change::Retraction => Ok(None),
            _ => encoded.next().map(Some).ok_or_else(|| Error::TransformFails("a value is missing".into())),
        };
        statements.iter().map(value).collect()
    }
}

fn encoder(settings: &Settings, rows: &Schema) -> Result<Encoder, Error> {
    Encoder::new(settings.format, rows, settings.schema_id).map_err(|error| Error::Transform(error.to_string()))
}

/// Errors of a record, rather than of its topic.
fn of_the_record(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::*;
    matches!(code, MessageSizeTooLarge | InvalidMessageSize | InvalidRecord)
}

/// Errors that end a transaction and nothing else: neither the membership of the group nor the producer.
fn mended_by_abort(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    let KafkaError::Transaction(error) = error else { return matches!(error, KafkaError::Canceled) };
    let group = [UnknownMemberId, FencedInstanceId];
    !error.is_fatal() && !fenced(error) && !group.contains(&error.code())
}

/// Errors that the same call may get over.
fn retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_retriable(),
        KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
        _ => false,
    }
}

fn fenced(error: &RDKafkaError) -> bool {
    use RDKafkaErrorCode::*;
    matches!(error.code(), Fenced | ProducerFenced | InvalidProducerEpoch)
}

/// A client's error in one line.
fn brief(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(error) => format!("{} ({})", error.name(), error.string()),
        other => other.to_string(),
    }
}

/// Statements as rows: one a statement, with its own rows as a list.
fn envelope(statements: &[&Statement], rows: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let schema = envelope_schema(rows);
    let text = |value: fn(&Statement) -> &str| -> ArrayRef {
        Arc::new(statements.iter().map(|statement| Some(value(statement))).collect::<StringArray>())
    };
    let times: TimestampMillisecondArray = statements.iter().map(|statement| statement.version_at).collect();
    let versions: Int32Array = statements
        .iter()
        .map(|statement| i32::try_from(statement.version.unwrap_or_default()).unwrap_or(i32::MAX))
        .collect();
    let all = concat_batches(rows, statements.iter().map(|statement| &statement.rows))?;
    let item = match schema.field_with_name("rows")?.data_type() {
        DataType::List(item) => Arc::clone(item),
        _ => Arc::new(Field::new_list_field(DataType::Struct(rows.fields().clone()), false)),
    };
    let lengths = OffsetBuffer::from_lengths(statements.iter().map(|statement| statement.rows.num_rows()));
    let all = StructArray::try_new(rows.fields().clone(), all.columns().to_vec(), None)?;
    let columns: Vec<ArrayRef> = vec![
        text(|statement| &statement.report_id),
        text(|statement| statement.status.name()),
        Arc::new(versions),
        Arc::new(times.with_timezone("UTC")),
        text(|statement| statement.change.name()),
        text(|statement| &statement.source),
        Arc::new(ListArray::try_new(item, lengths, Arc::new(all), None)?),
    ];
    RecordBatch::try_new(schema, columns)
}
