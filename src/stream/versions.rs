//! The versions of a report: which of them counts, by the table in `docs/stream.md`.
//!
//! Versions are ordered by rank (a final, corrected or retracted one is above a preliminary one), then by the time of the version,
//! then by their order of arrival. What arrives decides nothing else, so the same versions in any order end in the same report.

use crate::hl7::Status;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The first 16 bytes of a sha256: names a report, or a message, without holding anything of it.
pub(crate) type Digest = [u8; 16];

/// What arrived about a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) kind: Kind,
    /// Milliseconds since 1970; a version without a time is before every one that has it.
    pub(crate) at: Option<i64>,
    /// Offset of its record, and its place among the messages of that record.
    pub(crate) place: Place,
}

/// Offset of a record, and the place of a message among those of that record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Place(pub(crate) i64, pub(crate) u32);

/// What a message says of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, with its status.
    Report(Status),
    /// The version sent before is final.
    Finalised,
    /// What was sent before does not hold.
    Retracted,
}

impl Kind {
    pub(crate) fn of(status: Status, has_text: bool) -> Kind {
        match (status, has_text) {
            (Status::Retracted, _) => Kind::Retracted,
            (Status::Final, false) => Kind::Finalised,
            (status, _) => Kind::Report(status),
        }
    }
}

/// What an arrival changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The text that arrived is what holds now, under this status.
    Report(Status),
    /// The text said before holds under another status.
    Status(Status),
    /// Nothing of the report holds.
    Retraction,
    /// It is older or lower than what holds, and changes nothing.
    Late,
    /// It says that a version is final that has not arrived yet.
    Waiting,
}

/// Name of a change in rows, records and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Report,
    Status,
    Retraction,
}

impl Change {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Change::Report => "report",
            Change::Status => "status",
            Change::Retraction => "retraction",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Change> {
        [Change::Report, Change::Status, Change::Retraction].into_iter().find(|change| change.name() == name)
    }
}

/// What is remembered of a report. It holds text only as long as a preliminary version may yet be made final without being sent
/// again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportState {
    /// Versions that held so far.
    #[serde(rename = "v")]
    pub(crate) version: u32,
    /// The greatest version with text.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    others: Option<Box<Others>>,
    /// When something was last said of it, in milliseconds since 1970.
    #[serde(rename = "t")]
    pub(crate) touched: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    #[serde(rename = "s")]
    status: Code,
    #[serde(rename = "a")]
    at: Option<i64>,
    #[serde(rename = "p")]
    place: Place,
}

/// What few reports have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Others {
    #[serde(rename = "f")]
    finalised: Option<(Option<i64>, Place)>,
    #[serde(rename = "r")]
    retracted: Option<(Option<i64>, Place)>,
    /// The message of a preliminary version. In the changelog it stands beside this, unescaped.
    #[serde(skip)]
    held: Option<Held>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    held_source: Option<String>,
}

/// A message that may be read again.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) source: String,
    pub(crate) message: Arc<[u8]>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({}, {} bytes)", self.source, self.message.len())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Code {
    P,
    F,
    C,
}

impl Code {
    fn of(status: Status) -> Code {
        match status {
            Status::Preliminary => Code::P,
            Status::Corrected => Code::C,
            Status::Final | Status::Retracted => Code::F,
        }
    }

    fn status(self) -> Status {
        match self {
            Code::P => Status::Preliminary,
            Code::F => Status::Final,
            Code::C => Status::Corrected,
        }
    }
}

/// What versions are compared by.
type Order = (bool, Option<i64>, Place);

#[derive(PartialEq, Eq)]
enum Shown {
    Nothing,
    Text(Place, Status),
    Retracted,
}

impl ReportState {
    /// Takes an arrival in. `held` is its message, kept where it may be needed again.
    pub(crate) fn observe(&mut self, arrival: Arrival, held: Option<Held>) -> Outcome {
        let before = self.shown();
        let Arrival { kind, at, place } = arrival;
        match kind {
            Kind::Report(status) => {
                let content = Content { status: Code::of(status), at, place };
                let greater = self.content.is_none_or(|now| self.order(content) > self.order(now));
                if !greater {
                    return Outcome::Late;
                }
                self.content = Some(content);
                self.keep(held.filter(|_| self.status_of(content) == Status::Preliminary));
            }
            Kind::Finalised => {
                let others = self.others.get_or_insert_default();
                others.finalised = others.finalised.max(Some((at, place)));
            }
            Kind::Retracted => {
                let others = self.others.get_or_insert_default();
                others.retracted = others.retracted.max(Some((at, place)));
            }
        }
        let outcome = match (before, self.shown()) {
            (before, now) if before == now && now == Shown::Nothing => return Outcome::Waiting,
            (before, now) if before == now => return Outcome::Late,
            (Shown::Text(before, _), Shown::Text(now, status)) if before == now => Outcome::Status(status),
            (_, Shown::Text(_, status)) => Outcome::Report(status),
            (_, Shown::Retracted | Shown::Nothing) => Outcome::Retraction,
        };
        self.version = self.version.saturating_add(1);
        outcome
    }

    /// The message whose text holds, where it is kept; it is given up by the call, since a version is made final once.
    pub(crate) fn take_held(&mut self) -> Option<Held> {
        let others = self.others.as_mut()?;
        others.held_source = None;
        others.held.take()
    }

    fn keep(&mut self, held: Option<Held>) {
        if held.is_some() || self.others.is_some() {
            let others = self.others.get_or_insert_default();
            others.held_source = held.as_ref().map(|held| held.source.clone());
            others.held = held;
        }
    }

    fn finalised(&self, content: Content) -> bool {
        let finalised = self.others.as_ref().and_then(|others| others.finalised);
        finalised.is_some_and(|(at, _)| at >= content.at)
    }

    fn status_of(&self, content: Content) -> Status {
        match content.status.status() {
            Status::Preliminary if self.finalised(content) => Status::Final,
            status => status,
        }
    }

    fn order(&self, content: Content) -> Order {
        (self.status_of(content) != Status::Preliminary, content.at, content.place)
    }

    fn retraction(&self) -> Option<Order> {
        let (at, place) = self.others.as_ref()?.retracted?;
        Some((true, at, place))
    }

    fn shown(&self) -> Shown {
        match (self.content, self.retraction()) {
            (Some(content), retraction) if retraction.is_none_or(|retraction| retraction < self.order(content)) => {
                Shown::Text(content.place, self.status_of(content))
            }
            (_, Some(_)) => Shown::Retracted,
            (_, None) => Shown::Nothing,
        }
    }

    /// The form in the changelog: a line of JSON, and the message that is held.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // A struct of numbers and a text without keys of its own can't fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        if let Some(held) = self.others.as_ref().and_then(|others| others.held.as_ref()) {
            bytes.extend_from_slice(&held.message);
        }
        bytes
    }

    /// Reads what [`ReportState::to_bytes`] wrote; `None` where it is something else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<ReportState> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let mut state: ReportState = serde_json::from_slice(bytes.get(..end)?).ok()?;
        if let Some(others) = state.others.as_mut()
            && let Some(source) = others.held_source.clone()
        {
            others.held = Some(Held { source, message: bytes.get(end + 1..)?.into() });
        }
        Some(state)
    }

    /// Bytes on the heap, about.
    fn heap(&self) -> usize {
        let held = |others: &Others| {
            size_of::<Others>() + others.held.as_ref().map_or(0, |held| held.message.len() + 2 * held.source.len())
        };
        self.others.as_ref().map_or(0, |others| held(others))
    }
}

/// The messages that a partition saw last, by their control id.
#[derive(Debug, Default)]
struct Seen {
    order: VecDeque<Digest>,
    messages: HashMap<Digest, Digest>,
}

/// What is remembered of one partition of a topic.
#[derive(Debug, Default)]
pub(crate) struct PartitionState {
    reports: HashMap<Digest, ReportState>,
    seen: Seen,
    heap: usize,
}

/// Whether a message was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sighting {
    New,
    /// The same bytes.
    Duplicate,
    /// The same control id with other bytes.
    Reused,
}

/// Changes to a partition's state that hold once their batch is committed.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) reports: HashMap<Digest, ReportState>,
    messages: HashMap<Digest, Digest>,
    order: Vec<Digest>,
}

impl PartitionState {
    /// What is known of a report, changes of this batch included.
    pub(crate) fn report(&self, staged: &Staged, report: &Digest) -> ReportState {
        staged.reports.get(report).or_else(|| self.reports.get(report)).cloned().unwrap_or_default()
    }

    /// Looks a message up by its control id, and notes it.
    pub(crate) fn see(&self, staged: &mut Staged, control_id: Digest, message: Digest) -> Sighting {
        let before = staged.messages.get(&control_id).or_else(|| self.seen.messages.get(&control_id));
        let sighting = match before {
            Some(before) if *before == message => return Sighting::Duplicate,
            Some(_) => Sighting::Reused,
            None => Sighting::New,
        };
        staged.messages.insert(control_id, message);
        staged.order.push(control_id);
        sighting
    }

    /// What a batch writes into the changelog: reports that changed, messages that were seen, and messages that leave the window of
    /// `window` messages.
    pub(crate) fn changes(&self, staged: &Staged, window: usize) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut changes = Vec::with_capacity(staged.reports.len() + staged.order.len());
        for (report, state) in &staged.reports {
            changes.push((key(REPORT, report), Some(state.to_bytes())));
        }
        for (control_id, message) in &staged.messages {
            changes.push((key(MESSAGE, control_id), Some(message.to_vec())));
        }
        let leaving = (self.seen.order.len() + staged.order.len()).saturating_sub(window);
        let leaving = self.seen.order.iter().take(leaving).filter(|id| !staged.messages.contains_key(*id));
        changes.extend(leaving.map(|id| (key(MESSAGE, id), None)));
        changes
    }

    /// Makes a batch's changes hold.
    pub(crate) fn apply(&mut self, staged: Staged, window: usize) {
        for (report, state) in staged.reports {
            self.put(report, state);
        }
        for control_id in staged.order {
            self.seen.order.push_back(control_id);
        }
        self.seen.messages.extend(staged.messages);
        self.trim(window);
    }

    /// Takes in a record of the changelog; `false` where it is none of ours.
    pub(crate) fn restore(&mut self, key: &[u8], value: Option<&[u8]>, window: usize) -> bool {
        let Some((kind, Ok(digest))) = key.split_first().map(|(kind, rest)| (*kind, Digest::try_from(rest))) else {
            return false;
        };
        match (kind, value) {
            (REPORT, Some(value)) => match ReportState::from_bytes(value) {
                Some(state) => self.put(digest, state),
                None => return false,
            },
            (REPORT, None) => self.remove(&digest),
            (MESSAGE, Some(value)) => match Digest::try_from(value) {
                Ok(message) => self.restore_message(digest, message, window),
                Err(_) => return false,
            },
            (MESSAGE, None) => {
                self.seen.messages.remove(&digest);
            }
            _ => return false,
        }
        true
    }

    /// Notes a message that was read before a restart.
    pub(crate) fn restore_message(&mut self, control_id: Digest, message: Digest, window: usize) {
        self.seen.messages.insert(control_id, message);
        self.seen.order.push_back(control_id);
        self.trim(window);
    }

    fn trim(&mut self, window: usize) {
        while self.seen.order.len() > window {
            // One that was seen again is further back in the queue too, and leaves early: the window is a bound, not a promise.
            if let Some(oldest) = self.seen.order.pop_front() {
                self.seen.messages.remove(&oldest);
            }
        }
    }

    pub(crate) fn put(&mut self, report: Digest, state: ReportState) {
        self.heap += state.heap();
        if let Some(before) = self.reports.insert(report, state) {
            self.heap = self.heap.saturating_sub(before.heap());
        }
    }

    fn remove(&mut self, report: &Digest) {
        if let Some(before) = self.reports.remove(report) {
            self.heap = self.heap.saturating_sub(before.heap());
        }
    }

    /// Forgets reports of which nothing was said since a time.
    pub(crate) fn forget_before(&mut self, oldest: i64) {
        let gone: Vec<Digest> =
            self.reports.iter().filter(|(_, state)| state.touched < oldest).map(|(report, _)| *report).collect();
        for report in &gone {
            self.remove(report);
        }
    }

    /// Reports, and bytes of memory, about.
    pub(crate) fn size(&self) -> (usize, usize) {
        let entry = size_of::<Digest>() + size_of::<ReportState>() + 1;
        let seen = self.seen.messages.capacity() * (2 * size_of::<Digest>() + 1)
            + self.seen.order.capacity() * size_of::<Digest>();
        (self.reports.len(), self.reports.capacity() * entry * 8 / 7 + self.heap + seen)
    }
}

const REPORT: u8 = b'r';
const MESSAGE: u8 = b'm';

fn key(kind: u8, digest: &Digest) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(digest);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(code: char, at: i64) -> Arrival {
        let kind = match code {
            'P' => Kind::Report(Status::Preliminary),
            'F' => Kind::Report(Status::Final),
            'C' => Kind::Report(Status::Corrected),
            'U' => Kind::Finalised,
            _ => Kind::Retracted,
        };
        Arrival { kind, at: Some(at), place: Place(at, 0) }
    }

    /// Outcomes of arrivals in an order, and what holds in the end.
    fn run(arrivals: &[(char, i64)]) -> (Vec<Outcome>, ReportState) {
        let mut state = ReportState::default();
        let outcomes = arrivals.iter().map(|(code, at)| state.observe(arrival(*code, *at), None)).collect();
        (outcomes, state)
    }

    fn text(state: &ReportState) -> Option<(i64, Status)> {
        match state.shown() {
            Shown::Text(Place(offset, _), status) => Some((offset, status)),
            _ => None,
        }
    }

    #[test]
    fn the_common_ways() {
        let (preliminary, last, corrected) = (Status::Preliminary, Status::Final, Status::Corrected);
        use Outcome::{Late, Report, Retraction, Status as Now, Waiting};
        for (arrivals, expected, holds) in [
            (vec![('P', 1), ('F', 2)], vec![Report(preliminary), Report(last)], Some((2, last))),
            (vec![('F', 2), ('P', 1)], vec![Report(last), Late], Some((2, last))),
            (vec![('F', 2), ('P', 3)], vec![Report(last), Late], Some((2, last))),
            (vec![('P', 1), ('U', 2)], vec![Report(preliminary), Now(last)], Some((1, last))),
            (vec![('U', 2), ('P', 1)], vec![Waiting, Report(last)], Some((1, last))),
            (vec![('U', 2), ('P', 3)], vec![Waiting, Report(preliminary)], Some((3, preliminary))),
            (vec![('F', 1), ('C', 2)], vec![Report(last), Report(corrected)], Some((2, corrected))),
            (vec![('C', 2), ('F', 1)], vec![Report(corrected), Late], Some((2, corrected))),
            (vec![('F', 1), ('U', 2)], vec![Report(last), Late], Some((1, last))),
            (vec![('F', 1), ('D', 2)], vec![Report(last), Retraction], None),
            (vec![('D', 2), ('F', 1)], vec![Retraction, Late], None),
            (vec![('F', 1), ('D', 2), ('F', 3)], vec![Report(last), Retraction, Report(last)], Some((3, last))),
            (vec![('F', 3), ('D', 2)], vec![Report(last), Late], Some((3, last))),
            (vec![('P', 3), ('D', 2)], vec![Report(preliminary), Retraction], None),
            (vec![('P', 1), ('P', 1)], vec![Report(preliminary), Late], Some((1, preliminary))),
        ] {
            let (outcomes, state) = run(&arrivals);
            assert_eq!((&outcomes, text(&state)), (&expected, holds), "{arrivals:?}");
            let said = outcomes.iter().filter(|outcome| !matches!(outcome, Late | Waiting)).count();
            assert_eq!(state.version as usize, said);
        }
    }

    #[test]
    fn versions_in_every_order_end_in_the_same_report() {
        let sets: [&[(char, i64)]; 7] = [
            &[('P', 1), ('P', 2), ('F', 3), ('C', 4)],
            &[('P', 1), ('U', 2), ('C', 3)],
            &[('P', 1), ('F', 2), ('D', 3), ('F', 4), ('P', 5)],
            &[('F', 1), ('C', 2), ('D', 3)],
            &[('P', 1), ('U', 2), ('D', 3), ('C', 4)],
            &[('P', 4), ('F', 2), ('C', 3), ('U', 1)],
            &[('P', 5), ('D', 3), ('U', 6)],
        ];
        for set in sets {
            let mut ends = Vec::new();
            permute(&mut set.to_vec(), 0, &mut |order| {
                let (_, state) = run(order);
                ends.push((text(&state), order.to_vec()));
            });
            for (end, order) in &ends {
                assert_eq!(*end, ends[0].0, "{order:?}");
            }
        }
    }

    fn permute(items: &mut Vec<(char, i64)>, from: usize, each: &mut impl FnMut(&[(char, i64)])) {
        if from == items.len() {
            return each(items);
        }
        for at in from..items.len() {
            items.swap(from, at);
            permute(items, from + 1, each);
            items.swap(from, at);
        }
    }

    #[test]
    fn a_preliminary_message_is_held_until_it_is_final() {
        let held = || Some(Held { source: "hl7/0/1".into(), message: (*b"MSH|\n|").into() });
        let mut state = ReportState::default();
        state.observe(arrival('P', 1), held());
        assert_eq!(ReportState::from_bytes(&state.to_bytes()), Some(state.clone()));
        assert_eq!(state.observe(arrival('U', 2), None), Outcome::Status(Status::Final));
        assert_eq!(state.take_held(), held());
        assert_eq!(state.take_held(), None);
        let mut state = ReportState::default();
        state.observe(arrival('P', 1), held());
        state.observe(arrival('F', 2), held());
        assert_eq!(state.take_held(), None);
        assert!(!String::from_utf8(state.to_bytes()).unwrap().contains("MSH"));
        assert_eq!(ReportState::from_bytes(b"{}"), None);
    }

    #[test]
    fn a_message_is_known_again_within_the_window() {
        let mut partition = PartitionState::default();
        let id = |n: u8| [n; 16];
        for n in 0..4 {
            let mut staged = Staged::default();
            assert_eq!(partition.see(&mut staged, id(n), id(n)), Sighting::New);
            assert_eq!(partition.see(&mut staged, id(n), id(n)), Sighting::Duplicate);
            let changes = partition.changes(&staged, 3);
            assert_eq!(changes.iter().filter(|(_, value)| value.is_none()).count(), usize::from(n == 3));
            partition.apply(staged, 3);
        }
        let mut staged = Staged::default();
        assert_eq!(partition.see(&mut staged, id(1), id(1)), Sighting::Duplicate);
        assert_eq!(partition.see(&mut staged, id(1), id(9)), Sighting::Reused);
        assert_eq!(partition.see(&mut staged, id(0), id(0)), Sighting::New);
    }

    #[test]
    fn the_changelog_restores_what_was_applied() {
        let (mut partition, mut restored) = (PartitionState::default(), PartitionState::default());
        let mut staged = Staged::default();
        let mut state = partition.report(&staged, &[7; 16]);
        let held = Held { source: "hl7/0/1".into(), message: vec![b'M'; 5000].into() };
        state.observe(arrival('P', 1), Some(held));
        state.touched = 5;
        staged.reports.insert([7; 16], state);
        partition.see(&mut staged, [1; 16], [2; 16]);
        for (key, value) in partition.changes(&staged, 10) {
            assert!(restored.restore(&key, value.as_deref(), 10));
        }
        partition.apply(staged, 10);
        assert_eq!(restored.reports, partition.reports);
        assert_eq!(restored.seen.messages, partition.seen.messages);
        assert!(restored.size().1 > 5000);
        restored.forget_before(6);
        assert_eq!(restored.size().0, 0);
        assert!(!restored.restore(b"x", None, 10) && !restored.restore(&[b'r'; 17], Some(b"?"), 10));
    }

    #[test]
    fn a_million_reports_fit() {
        let mut partition = PartitionState::default();
        for n in 0..1_000_000u32 {
            let mut report = [0; 16];
            report[..4].copy_from_slice(&n.to_le_bytes());
            let mut state = ReportState::default();
            state.observe(arrival('F', i64::from(n)), None);
            partition.put(report, state);
        }
        let (reports, bytes) = partition.size();
        assert_eq!(reports, 1_000_000);
        // The figure in docs/stream.md.
        assert!(bytes < 256 << 20, "{bytes}");
    }
}
