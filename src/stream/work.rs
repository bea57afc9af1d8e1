//! A batch of records to what is to be written: statements about reports, dead letters, and changes of what is remembered.

use super::error::Error;
use super::intake::{self, Intake, Read};
use super::record::{Code, DeadLetter, Partition, Reason, Record};
use super::transform::{Failed, Input, Transform, texts};
use super::versions::{Change, Digest, Held, Kind, Outcome, PartitionState, Place, Sighting, Staged};
use crate::hl7::{self, Status};
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::error::ArrowError;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is said of a report in one version of it.
pub(crate) struct Statement {
    pub(crate) report_id: String,
    /// The message whose text was read.
    pub(crate) source: String,
    /// Where the message that made the change was.
    pub(crate) partition: Partition,
    pub(crate) place: Place,
    pub(crate) status: Status,
    /// Versions of the report so far, this one included; `None` where it changes nothing, being late.
    pub(crate) version: Option<u32>,
    /// Milliseconds since 1970.
    pub(crate) version_at: Option<i64>,
    pub(crate) change: Change,
    /// The message that made the change.
    pub(crate) message: Digest,
    pub(crate) control_id: Digest,
    /// The transform's rows for the report.
    pub(crate) rows: RecordBatch,
}

/// What a batch was, counted.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Counts {
    pub(crate) reports: BTreeMap<&'static str, u64>,
    pub(crate) corrections: BTreeMap<&'static str, u64>,
    pub(crate) not_reports: Vec<String>,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    pub(crate) reused: u64,
    pub(crate) transform: Duration,
}

/// What a batch is to write.
pub(crate) struct Work {
    pub(crate) records: Vec<Record>,
    pub(crate) statements: Vec<Statement>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    pub(crate) staged: HashMap<Partition, Staged>,
    pub(crate) counts: Counts,
}

/// What is remembered of the partitions that are read.
pub(crate) struct States {
    pub(crate) partitions: HashMap<Partition, PartitionState>,
    /// Messages of a partition among which duplicates are known.
    pub(crate) window: usize,
    /// Whether every version is written, the late ones too, and a change of status without its rows: as into a folder, where SQL
    /// picks what holds. A topic gets what holds.
    pub(crate) every_version: bool,
}

/// An event of a report whose rows are to be found in the transform's answer.
struct Event<'a> {
    message: &'a Read,
    says: &'a intake::Says,
    source: String,
    status: Status,
    version: Option<u32>,
    change: Change,
}

#[derive(Default)]
struct Plan<'a> {
    events: Vec<Event<'a>>,
    /// Messages whose rows are asked for, by source: the message's number, and what is read again where it is not the message.
    inputs: Vec<(usize, Option<Held>)>,
    staged: HashMap<Partition, Staged>,
    counts: Counts,
}

/// Reads, judges and transforms a batch.
///
/// # Errors
/// [`Error::TransformFails`] where not even a sound message can be transformed, [`Error::Transform`] where the rows can't be matched
/// to their reports. Messages that are `refused` already are dead letters. What is wrong with a single message makes it a dead letter.
pub(crate) async fn process(
    records: Vec<Record>,
    states: &States,
    transform: &Transform,
    options: &hl7::Options,
    refused: &HashMap<(Partition, Place), Reason>,
) -> Result<Work, Error> {
    let Intake { messages, rejects, not_reports } = intake::read(&records, options);
    let mut dead_letters = rejects;
    let mut failed: HashSet<usize> = HashSet::new();
    for (at, message) in messages.iter().enumerate() {
        let partition = records.get(message.record).map(|record| record.partition.clone());
        if let Some(reason) = partition.and_then(|partition| refused.get(&(partition, message.place))) {
            failed.insert(at);
            let reason = Reason { control_id: message.name.clone(), ..reason.clone() };
            dead_letters.push(dead_letter(message, &records, reason));
        }
    }
    let started = Instant::now();
    loop {
        let plan = plan(&messages, &records, states, &failed);
        let held: Vec<Option<Record>> =
            plan.inputs.iter().map(|(at, held)| held_record(*at, held, &messages, &records)).collect();
        let inputs = plan.inputs.iter().zip(&held).filter_map(|((at, again), record)| {
            let message = messages.get(*at)?;
            Some(match (again, record) {
                (Some(again), Some(record)) => Input { source: &again.source, record, message: &again.message },
                _ => Input { source: &message.source, record: records.get(message.record)?, message: &message.bytes },
            })
        });
        let inputs: Vec<Input<'_>> = inputs.collect();
        let rows = match run(transform, &inputs).await? {
            Ok(rows) => rows,
            Err(failures) => {
                for (input, Failed(reason)) in failures {
                    let Some((at, message)) =
                        plan.inputs.get(input).and_then(|(at, _)| Some((*at, messages.get(*at)?)))
                    else {
                        continue;
                    };
                    if failed.insert(at) {
                        dead_letters.push(dead_letter(message, &records, failure(message, &reason)));
                    }
                }
                continue;
            }
        };
        let counts = Counts { not_reports, transform: started.elapsed(), ..plan.counts };
        let statements = statements(plan.events, &rows, &records)?;
        let staged = plan.staged;
        drop(inputs);
        drop(held);
        return Ok(Work { statements, dead_letters, staged, counts, records });
    }
}

fn dead_letter(message: &Read, records: &[Record], reason: Reason) -> DeadLetter {
    let record = records.get(message.record).filter(|_| message.whole);
    let bytes = record.map_or(&message.bytes, |record| &record.payload);
    DeadLetter { record: message.record, bytes: bytes.clone(), reason }
}

fn failure(message: &Read, reason: &str) -> Reason {
    Reason {
        code: Code::TransformFailed.name(),
        stage: "model",
        position: None,
        control_id: message.name.clone(),
        message: format!(
            "the transform failed on this message alone: {reason}; run its query on the message with `foramen sql`"
        ),
    }
}

/// The record that a message read again stands for in the table `messages`.
fn held_record(at: usize, held: &Option<Held>, messages: &[Read], records: &[Record]) -> Option<Record> {
    let held = held.as_ref()?;
    let now = records.get(messages.get(at)?.record)?;
    let offset =
        held.source.rsplit('/').next().and_then(|end| end.split('#').next()).and_then(|offset| offset.parse().ok());
    Some(Record {
        partition: now.partition.clone(),
        offset: offset.unwrap_or(now.offset),
        timestamp: None,
        key: None,
        headers: Vec::new(),
        payload: Vec::new(),
    })
}

/// Judges the messages in order: which change what is known of a report, and whose rows are needed.
fn plan<'a>(messages: &'a [Read], records: &[Record], states: &States, failed: &HashSet<usize>) -> Plan<'a> {
    let mut plan = Plan::default();
    let nothing = PartitionState::default();
    let mut asked: HashSet<String> = HashSet::new();
    for (at, message) in messages.iter().enumerate() {
        let Some(record) = records.get(message.record).filter(|_| !failed.contains(&at)) else { continue };
        let known = states.partitions.get(&record.partition).unwrap_or(&nothing);
        let staged = plan.staged.entry(record.partition.clone()).or_default();
        match known.see(staged, message.control_id, message.digest) {
            Sighting::Duplicate => {
                plan.counts.duplicates += 1;
                continue;
            }
            Sighting::Reused => plan.counts.reused += 1,
            Sighting::New => {}
        }
        let mut ask = |source: &str, held: Option<Held>| {
            if asked.insert(source.to_owned()) {
                plan.inputs.push((at, held));
            }
        };
        for says in &message.says {
            *plan.counts.reports.entry(says.status.name()).or_default() += 1;
            let mut state = known.report(staged, &says.report);
            let has_text = matches!(says.arrival.kind, Kind::Report(_));
            let hold = says.status == Status::Preliminary && has_text && !states.every_version;
            let held = hold.then(|| Held { source: message.source.clone(), message: message.bytes.as_slice().into() });
            let outcome = state.observe(says.arrival, held);
            state.touched = record.timestamp.unwrap_or_default().max(state.touched);
            // Whose rows hold now: the message's own, or those of one that was sent before.
            let (change, status, source) = match outcome {
                Outcome::Retraction => (Change::Retraction, Status::Retracted, message.source.clone()),
                Outcome::Report(status) if has_text => (Change::Report, status, message.source.clone()),
                Outcome::Report(status) | Outcome::Status(status) => match state.take_held() {
                    Some(held) => {
                        let source = held.source.clone();
                        ask(&source, Some(held));
                        let again = matches!(outcome, Outcome::Report(_));
                        (if again { Change::Report } else { Change::Status }, status, source)
                    }
                    None => (Change::Status, status, message.source.clone()),
                },
                Outcome::Late | Outcome::Waiting => {
                    plan.counts.late += u64::from(outcome == Outcome::Late);
                    let change = match says.arrival.kind {
                        Kind::Report(_) => Change::Report,
                        Kind::Finalised => Change::Status,
                        Kind::Retracted => Change::Retraction,
                    };
                    (change, says.status, message.source.clone())
                }
            };
            let holds = !matches!(outcome, Outcome::Late | Outcome::Waiting);
            let version = holds.then_some(state.version);
            if holds && state.version > 1 {
                *plan.counts.corrections.entry(change.name()).or_default() += 1;
            }
            staged.reports.insert(says.report, state);
            if holds || states.every_version {
                if change == Change::Report && source == message.source {
                    ask(&message.source, None);
                }
                plan.events.push(Event { message, says, source, status, version, change });
            }
        }
    }
    plan
}

/// Runs the query. Where it fails, those inputs are found on which it fails alone.
async fn run(transform: &Transform, inputs: &[Input<'_>]) -> Result<Result<RecordBatch, Vec<(usize, Failed)>>, Error> {
    if inputs.is_empty() {
        return Ok(Ok(RecordBatch::new_empty(transform.schema().clone())));
    }
    let mut failures = Vec::new();
    let mut parts: Vec<_> = std::iter::once(0..inputs.len()).collect();
    while let Some(part) = parts.pop() {
        let Some(slice) = inputs.get(part.clone()) else { continue };
        match transform.run(slice).await {
            Ok(rows) if slice.len() == inputs.len() => return Ok(Ok(rows)),
            Ok(_) => {}
            Err(failure) if slice.len() == 1 => {
                if failures.is_empty() {
                    sound(transform, &failure).await?;
                }
                failures.push((part.start, failure));
            }
            Err(_) => {
                let middle = part.start + slice.len() / 2;
                parts.push(part.start..middle);
                parts.push(middle..part.end);
            }
        }
    }
    if failures.is_empty() {
        // Each part passes, and the whole does not: too much at once, then.
        let mut rows = Vec::with_capacity(inputs.len());
        for at in 0..inputs.len() {
            if let Some(one) = inputs.get(at..at + 1) {
                match transform.run(one).await {
                    Ok(one) => rows.push(one),
                    Err(failure) => failures.push((at, failure)),
                }
            }
        }
        if failures.is_empty() {
            let rows = concat_batches(transform.schema(), &rows);
            return Ok(Ok(rows.map_err(|error| Error::TransformFails(error.to_string()))?));
        }
    }
    Ok(Err(failures))
}

const CANARY: &str = "MSH|^~\\&|FORAMEN|||||20200101||ORU^R01|canary|P|2.5\rOBR|1||canary|^canary\rOBX|1|TX|&GDT||L4-5: disc bulge.||||||F\r";

/// Whether the query works at all, so that a broken model does not make dead letters of everything.
async fn sound(transform: &Transform, failure: &Failed) -> Result<(), Error> {
    let record = Record {
        partition: Partition { topic: "canary".into(), number: 0 },
        offset: 0,
        timestamp: None,
        key: None,
        headers: Vec::new(),
        payload: CANARY.into(),
    };
    let input = Input { source: "canary/0/0", record: &record, message: CANARY.as_bytes() };
    match transform.run(&[input]).await {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::TransformFails(failure.0.clone())),
    }
}

/// Each event with its rows.
fn statements(events: Vec<Event<'_>>, rows: &RecordBatch, records: &[Record]) -> Result<Vec<Statement>, Error> {
    let failed = |error: ArrowError| Error::TransformFails(error.to_string());
    let (reports, sources) = (texts(rows, "report_id"), texts(rows, "source"));
    let mut places: HashMap<(&str, &str), Vec<u32>> = HashMap::new();
    for (row, key) in (0u32..).zip(sources.iter().map(String::as_str).zip(reports.iter().map(String::as_str))) {
        places.entry(key).or_default().push(row);
    }
    let known: HashSet<(&str, &str)> = events
        .iter()
        .flat_map(|event| {
            event.message.says.iter().map(|says| (event.message.source.as_str(), says.report_id.as_str()))
        })
        .collect();
    let again: HashSet<&str> =
        events.iter().filter(|event| event.source != event.message.source).map(|event| event.source.as_str()).collect();
    if places.keys().any(|key| !known.contains(key) && !again.contains(key.0)) {
        return Err(Error::Transform(
            "a row's `source` and `report_id` are those of no message in the batch, so that its report is not known; \
             select both columns as they are, unchanged"
                .into(),
        ));
    }
    let mut statements = Vec::with_capacity(events.len());
    for event in events {
        let Some(record) = records.get(event.message.record) else { continue };
        let own = match event.change {
            Change::Retraction => None,
            Change::Report | Change::Status => places.get(&(event.source.as_str(), event.says.report_id.as_str())),
        };
        let own = match own.map(Vec::as_slice) {
            None | Some([]) => rows.slice(0, 0),
            Some([first, .., last]) if (last - first) as usize == own.map_or(0, Vec::len) - 1 => {
                rows.slice(*first as usize, (last - first + 1) as usize)
            }
            Some(numbers) => take_record_batch(rows, &UInt32Array::from(numbers.to_vec())).map_err(failed)?,
        };
        statements.push(Statement {
            rows: with_status(own, event.status).map_err(failed)?,
            report_id: event.says.report_id.clone(),
            source: event.source,
            partition: record.partition.clone(),
            place: event.message.place,
            status: event.status,
            version: event.version,
            version_at: event.says.arrival.at,
            change: event.change,
            message: event.message.digest,
            control_id: event.message.control_id,
        });
    }
    Ok(statements)
}

/// The rows under the status that holds, where they have a column for it.
fn with_status(rows: RecordBatch, status: Status) -> Result<RecordBatch, ArrowError> {
    let Ok(at) = rows.schema().index_of("report_status") else { return Ok(rows) };
    let column = rows.column(at);
    let text: ArrayRef = Arc::new(StringArray::from(vec![status.name(); rows.num_rows()]));
    let column = cast(&text, column.data_type())?;
    let mut columns = rows.columns().to_vec();
    if let Some(place) = columns.get_mut(at) {
        *place = column;
    }
    RecordBatch::try_new(rows.schema(), columns)
}
