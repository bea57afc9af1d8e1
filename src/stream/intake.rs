//! Records to messages, and messages to what they say of which report.

use super::record::{DeadLetter, Reason, Record};
use super::versions::{Arrival, Digest, Kind, Place};
use crate::hl7::{self, Message, Status};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;

/// A message that carries reports.
pub(crate) struct Read {
    /// Which of the batch's records it was in.
    pub(crate) record: usize,
    pub(crate) place: Place,
    /// `topic/partition/offset`, and `#n` for the nth message after the first of a record.
    pub(crate) source: String,
    pub(crate) bytes: Vec<u8>,
    /// Whether it is all that its record holds.
    pub(crate) whole: bool,
    /// Sending application and facility, and control id; the message itself where it has none.
    pub(crate) control_id: Digest,
    pub(crate) digest: Digest,
    /// MSH-10, by which the message may be named.
    pub(crate) name: Option<String>,
    /// What it says, once for each report.
    pub(crate) says: Vec<Says>,
}

/// What a message says of a report.
pub(crate) struct Says {
    pub(crate) report_id: String,
    pub(crate) report: Digest,
    pub(crate) arrival: Arrival,
    pub(crate) status: Status,
}

/// What became of a batch's records.
#[derive(Default)]
pub(crate) struct Intake {
    pub(crate) messages: Vec<Read>,
    pub(crate) rejects: Vec<DeadLetter>,
    /// Types of messages that carry no report, or none yet (orders without a result), once a message.
    pub(crate) not_reports: Vec<String>,
}

/// The first 16 bytes of the sha256 of parts, each with its length before it.
pub(crate) fn digest(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(hash.finalize().get(..16).unwrap_or(&[0; 16]));
    digest
}

/// Names a report of a topic.
pub(crate) fn report_digest(topic: &str, report_id: &str) -> Digest {
    digest(&[topic.as_bytes(), report_id.as_bytes()])
}

/// Reads every message of every record. Nothing is lost: a message is read, is a reject, or is of a kind that carries no report.
pub(crate) fn read(records: &[Record], options: &hl7::Options) -> Intake {
    let mut intake = Intake::default();
    for (at, record) in records.iter().enumerate() {
        let frames: Vec<hl7::Frame<'_>> = hl7::split(&record.payload, options).collect();
        // Framing around a single message is part of what arrived.
        let whole = frames.len() < 2;
        if frames.is_empty() {
            // An empty record is no message, and says so.
            let read = hl7::read(&record.payload, options).map_err(Reason::from);
            intake.take(at, record, Part { nth: 0, whole, bytes: &record.payload }, read);
        }
        for (nth, frame) in (0u32..).zip(frames) {
            let read = match frame.reject {
                Some(reject) => Err(reject.into()),
                None => hl7::read(frame.bytes, options).map_err(Reason::from),
            };
            intake.take(at, record, Part { nth, whole, bytes: frame.bytes }, read);
        }
    }
    intake
}

/// A message of a record.
struct Part<'a> {
    nth: u32,
    /// Whether it is all that the record holds.
    whole: bool,
    bytes: &'a [u8],
}

impl Intake {
    fn take(&mut self, at: usize, record: &Record, part: Part<'_>, read: Result<Message, Reason>) {
        let Part { nth, whole, bytes } = part;
        let message = match read {
            Ok(message) => message,
            Err(reason) => {
                let bytes = if whole { &record.payload } else { bytes };
                self.rejects.push(DeadLetter { record: at, bytes: bytes.to_vec(), reason });
                return;
            }
        };
        if message.studies.is_empty() {
            self.not_reports.push(message.kind.to_string());
            return;
        }
        let place = Place(record.offset, nth);
        let mut known = HashSet::new();
        let says = message.studies.iter().filter(|study| known.insert(study.report_id.clone())).map(|study| Says {
            report: report_digest(&record.partition.topic, &study.report_id),
            arrival: Arrival {
                kind: Kind::of(study.status, !study.text.expose().is_empty()),
                at: study.version_at.map(|at| at.timestamp_millis()),
                place,
            },
            status: study.status,
            report_id: study.report_id.clone(),
        });
        let says: Vec<Says> = says.collect();
        let first = message.studies.first();
        let sender = |field: Option<&Option<String>>| field.and_then(|field| field.clone()).unwrap_or_default();
        let (application, facility) =
            (sender(first.map(|study| &study.sending_application)), sender(first.map(|study| &study.sending_facility)));
        let own = digest(&[bytes]);
        let control_id = message.control_id.as_ref().map_or(own, |id| {
            digest(&[record.partition.topic.as_bytes(), application.as_bytes(), facility.as_bytes(), id.as_bytes()])
        });
        self.messages.push(Read {
            record: at,
            place,
            source: source(record, nth),
            bytes: bytes.to_vec(),
            whole,
            control_id,
            digest: own,
            name: message.control_id,
            says,
        });
    }
}

fn source(record: &Record, nth: u32) -> String {
    match nth {
        0 => record.name(),
        nth => format!("{}#{}", record.name(), nth + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Partition;
    use super::*;

    fn record(payload: &str) -> Record {
        let partition = Partition { topic: "hl7".into(), number: 3 };
        Record { partition, offset: 40, timestamp: None, key: None, headers: Vec::new(), payload: payload.into() }
    }

    const ONE: &str =
        "MSH|^~\\&|RIS|HOSP|||20260302||ORU^R01|M1|P|2.5\rOBR|1||A1|72148^MRI\rOBX|1|TX|&GDT||L4-5: bulge.||||||F\r";

    #[test]
    fn a_record_of_several_messages_is_all_of_them_in_order() {
        let adt = "MSH|^~\\&|||||||ADT^A08|M2|P|2.5\r";
        let empty = "MSH|^~\\&|||||||ORU^R01|M3|P|2.5\rOBR|1||A2\r";
        let intake = read(
            &[record(ONE), record(&format!("{adt}{}{empty}", ONE.replace("M1", "M4"))), record("")],
            &hl7::Options::default(),
        );
        let sources: Vec<&str> = intake.messages.iter().map(|message| message.source.as_str()).collect();
        assert_eq!(sources, ["hl7/3/40", "hl7/3/40#2"]);
        assert_eq!(intake.not_reports, ["ADT^A08"]);
        let rejects: Vec<_> = intake.rejects.iter().map(|dead| (dead.record, dead.reason.code, &dead.bytes)).collect();
        assert_eq!(rejects, [(1, "no-text", &empty.trim_end().as_bytes().to_vec()), (2, "no-msh", &Vec::new())]);
        let [first, second] = intake.messages.as_slice() else { panic!() };
        assert_eq!(first.says[0].report, second.says[0].report);
        assert_ne!(first.control_id, second.control_id);
        assert_eq!((second.place, second.says.len()), (Place(40, 1), 1));
    }

    #[test]
    fn a_reject_keeps_the_frame_around_a_single_message() {
        let framed = format!("\u{b}{}", ONE.replace("OBX|1|TX|&GDT||L4-5: bulge.||||||F\r", ""));
        let intake = read(&[record(&framed)], &hl7::Options::default());
        let dead = &intake.rejects[0];
        assert_eq!((dead.reason.code, dead.bytes.as_slice()), ("truncated", framed.as_bytes()));
    }

    #[test]
    fn one_report_in_two_orders_is_said_once() {
        let twice = format!("{ONE}OBR|2||A1|72148^MRI\rOBX|1|TX|&GDT||L5-S1: bulge.||||||F\r");
        let intake = read(&[record(&twice)], &hl7::Options::default());
        assert_eq!(intake.messages[0].says.len(), 1);
    }
}
