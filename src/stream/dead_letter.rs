//! Dead letters: the message unchanged, and headers that say why, by the names of Kafka Connect. No header holds content.

use super::record::{DeadLetter, Headers, Record};
use rdkafka::message::{Header, OwnedHeaders};

/// Before the name of every header of ours that Kafka Connect has too.
pub(crate) const CONNECT: &str = "__connect.errors.";
/// Before the name of every other header of ours.
pub(crate) const OWN: &str = "foramen.";

/// Headers of a dead letter: those that the record had, and why it could not be read.
pub(crate) fn headers(dead: &DeadLetter, record: &Record, instance: &str) -> Headers {
    let reason = &dead.reason;
    // A letter that was fed back and died again says so anew.
    let mut headers: Headers =
        record.headers.iter().filter(|(name, _)| !ours(name) || name == ATTEMPTS).cloned().collect();
    let mut add = |name: String, value: &str| headers.push((name, Some(value.as_bytes().to_vec())));
    add(format!("{CONNECT}topic"), &record.partition.topic);
    add(format!("{CONNECT}partition"), &record.partition.number.to_string());
    add(format!("{CONNECT}offset"), &record.offset.to_string());
    add(format!("{CONNECT}connector.name"), "foramen");
    add(format!("{CONNECT}task.id"), instance);
    add(format!("{CONNECT}stage"), reason.stage);
    add(format!("{CONNECT}class.name"), "foramen");
    add(format!("{CONNECT}exception.class.name"), &format!("foramen.{}", reason.code));
    add(format!("{CONNECT}exception.message"), &reason.message);
    add(format!("{OWN}stage"), reason.stage);
    add(format!("{OWN}code"), reason.code);
    for (name, value) in [("position", &reason.position), ("control_id", &reason.control_id)] {
        if let Some(value) = value {
            add(format!("{OWN}{name}"), value);
        }
    }
    headers
}

/// How often a letter was fed back.
pub(crate) const ATTEMPTS: &str = "foramen.replays";

/// Whether a header is one that dead letters get.
pub(crate) fn ours(name: &str) -> bool {
    name.starts_with(CONNECT) || name.starts_with(OWN)
}

/// Headers as the client takes them.
pub(crate) fn owned(headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |owned, (key, value)| {
        owned.insert(Header { key, value: value.as_deref() })
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::{Partition, Reason};
    use super::*;

    #[test]
    fn a_letter_says_why_and_keeps_what_came_with_it() {
        let record = Record {
            partition: Partition { topic: "hl7".into(), number: 2 },
            offset: 7,
            timestamp: Some(1),
            key: None,
            headers: vec![
                ("trace".into(), Some(b"abc".to_vec())),
                ("foramen.code".into(), Some(b"old".to_vec())),
                (ATTEMPTS.into(), Some(b"1".to_vec())),
                ("empty".into(), None),
            ],
            payload: Vec::new(),
        };
        let reason = Reason {
            code: "no-text",
            stage: "text",
            position: Some("OBR[1]".into()),
            control_id: None,
            message: "no-text at OBR[1]: …".into(),
        };
        let headers = headers(&DeadLetter { record: 0, bytes: Vec::new(), reason }, &record, "a");
        let value = |name: &str| {
            let found: Vec<_> = headers.iter().filter(|(key, _)| key == name).collect();
            assert_eq!(found.len(), 1, "{name}");
            found[0].1.as_deref()
        };
        assert_eq!(value("trace"), Some(&b"abc"[..]));
        assert_eq!(value("empty"), None);
        assert_eq!(value("foramen.code"), Some(&b"no-text"[..]));
        assert_eq!(value("__connect.errors.topic"), Some(&b"hl7"[..]));
        assert_eq!(value("__connect.errors.offset"), Some(&b"7"[..]));
        assert_eq!(value("__connect.errors.exception.class.name"), Some(&b"foramen.no-text"[..]));
        assert_eq!(value(ATTEMPTS), Some(&b"1"[..]));
        assert!(!headers.iter().any(|(key, _)| key == "foramen.control_id"));
        assert_eq!(rdkafka::message::Headers::count(&owned(&headers)), headers.len());
    }
}
