//! Reports in HL7 v2 messages.

use super::item::{Item, Items, Rejection, Report};
use super::text::unreadable;
use crate::hl7::{self, Fallback, Notices, Piece, PieceReader, Status, Study};
use std::io::Read;

/// The reports of every message of an input; messages are read one at a time.
pub(super) fn items(source: String, input: impl Read + 'static, options: hl7::Options) -> Items {
    let pieces = PieceReader::new(input, options.clone());
    Box::new(pieces.flat_map(move |piece| match piece {
        Err(error) => vec![Item::Reject(unreadable(&source, &error))],
        Ok(piece) => {
            let miscounts = piece.miscounts;
            let mut items = of_piece(piece, &source, &options);
            if miscounts > 0 {
                items.push(Item::Odd("batch or file that states another count than it holds", miscounts));
            }
            items
        }
    }))
}

fn of_piece(piece: Piece, source: &str, options: &hl7::Options) -> Vec<Item> {
    match hl7::read(&piece.bytes, options) {
        Err(reject) => vec![Item::Reject(Rejection::of_message(source, piece.offset, reject, piece.bytes))],
        Ok(message) if !message.is_report => vec![Item::NotReport(message.kind.to_string())],
        Ok(message) if message.studies.is_empty() => {
            vec![Item::NotReport(format!("{} without a result", message.kind))]
        }
        Ok(message) => {
            let notices = odd(&message.notices);
            message.studies.into_iter().map(|study| item(study, source)).chain(notices).collect()
        }
    }
}

fn odd(notices: &Notices) -> impl Iterator<Item = Item> + use<> {
    let charset = |which| usize::from(notices.charset == Some(which));
    let counts = [
        ("message that names no character set", charset(Fallback::Absent)),
        ("message that names an unknown character set", charset(Fallback::Unknown)),
        ("message in another character set than it says", charset(Fallback::False)),
        ("time that is none, left empty", notices.bad_times),
        ("status that is not known, taken as preliminary", notices.unknown_statuses),
        ("attachment that is not text, not read", notices.attachments),
        ("line end within a field, read as one of its text", notices.continued_lines),
    ];
    counts.into_iter().filter(|(_, times)| *times > 0).map(|(what, times)| Item::Odd(what, times as u64))
}

fn item(study: Study, source: &str) -> Item {
    if study.status == Status::Retracted {
        return Item::Retracted;
    }
    Item::Report(Report {
        report_id: study.report_id,
        message_control_id: study.message_control_id,
        patient_id: study.patient_id,
        exam: study.exam,
        report_status: Some(study.status.name()),
        reported_at: study.reported_at.map(|time| time.timestamp_millis()),
        source: source.to_owned(),
        text: study.text.into_exposed(),
    })
}
