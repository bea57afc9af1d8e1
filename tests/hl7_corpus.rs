//! HL7 messages that others published, and 200,000 mutations of them, through the public surface.
//!
//! The messages are not part of the project: the tests look for `data/hl7` under `$FORAMEN_SHARED`, else under `../shared`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests; a skipped one says so")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foramen::hl7::{Code, Fallback, Message, Options, Reject, Status, field, read, split};

/// Rejects that the corpus may have, and in which folders; `no-msh` and `no-text` may come anywhere: junk, and laboratory values.
const REASONS: &[(Code, &[&str])] = &[
    // Broken on purpose by a fuzzer, and messages whose MSH-2 holds the escape character twice.
    (Code::BadSeparators, &["nhapi-badinputs", "hl7v2-fhir-converter", "cosyte"]),
    // The covering letter in these stops in the middle of a base64 quantum.
    (Code::BadBase64, &["ansforge-examples"]),
];

/// Files whose number of messages is not that of `INDEX.jsonl`, by which rule, and how many there are.
const RECOUNTED: &[(&str, &str, usize)] = &[];

fn corpus() -> Option<PathBuf> {
    let shared = std::env::var_os("FORAMEN_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let folder = shared.join("data/hl7");
    if folder.join("INDEX.jsonl").exists() {
        return Some(folder);
    }
    eprintln!("skipped: {} is absent", folder.display());
    None
}

/// Every file of the index: name, bytes, number of messages.
fn files(folder: &Path) -> Vec<(String, Vec<u8>, usize)> {
    let index = std::fs::read_to_string(folder.join("INDEX.jsonl")).unwrap();
    index
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = row["file"].as_str().unwrap().to_owned();
            let bytes = std::fs::read(folder.join(&name)).unwrap();
            (name, bytes, usize::try_from(row["messages"].as_u64().unwrap()).unwrap())
        })
        .collect()
}

fn messages(bytes: &[u8]) -> Vec<Result<Message, Reject>> {
    let options = Options::default();
    split(bytes, &options)
        .map(|frame| match frame.reject {
            Some(reject) => Err(reject),
            None => read(frame.bytes, &options),
        })
        .collect()
}

#[test]
fn every_message_is_read_or_rejected_for_a_reason() {
    let Some(folder) = corpus() else { return };
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    let mut total = 0;
    for (name, bytes, expected) in files(&folder) {
        let expected = RECOUNTED.iter().find(|(file, ..)| *file == name).map_or(expected, |(_, _, count)| *count);
        let read = messages(&bytes);
        let found = read.iter().filter(|result| !matches!(result, Err(reject) if reject.code == Code::NoMsh)).count();
        assert_eq!(found, expected, "{name}");
        total += found;
        for result in read {
            let outcome = match result {
                Ok(message) if !message.is_report => {
                    assert!(message.studies.is_empty());
                    "not a report".to_owned()
                }
                Ok(message) => {
                    assert!(!message.studies.is_empty() || message.notices.without_result > 0, "{name}");
                    for study in &message.studies {
                        assert!(!study.report_id.is_empty());
                        let text = study.text.expose();
                        assert!(
                            !text.is_empty() || matches!(study.status, Status::Retracted | Status::Final),
                            "{name}"
                        );
                        assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{name}");
                    }
                    "report".to_owned()
                }
                Err(reject) => {
                    let folder = name.split('/').next().unwrap();
                    let allowed = REASONS
                        .iter()
                        .find(|(code, _)| *code == reject.code)
                        .map(|(_, folders)| folders.contains(&folder));
                    let anywhere = matches!(reject.code, Code::NoMsh | Code::NoText);
                    assert!(anywhere || allowed == Some(true), "{name}: {reject}");
                    reject.code.to_string()
                }
            };
            *tally.entry(outcome).or_default() += 1;
        }
    }
    let accounted: usize = tally.iter().filter(|(outcome, _)| *outcome != "no-msh").map(|(_, count)| count).sum();
    assert_eq!(accounted, total, "{tally:?}");
    assert!(tally["report"] > total / 3, "{tally:?}");
}

#[test]
fn words_for_statuses_replacements_and_retractions() {
    let Some(folder) = corpus() else { return };
    let mut found: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (name, bytes, _) in files(&folder) {
        let group = match name.as_str() {
            name if name.starts_with("scout/msg_") || name.starts_with("scout/feed_") => "radiology feed",
            name if name.contains("_RPLC_") => "replacement",
            name if name.contains("_DEL_") => "retraction",
            _ => continue,
        };
        for message in messages(&bytes).into_iter().flatten() {
            assert_eq!(message.notices.unknown_statuses, 0, "{name}");
            for study in &message.studies {
                *found.entry((group, study.status.name())).or_default() += 1;
            }
        }
    }
    let groups: Vec<_> = found.keys().copied().collect();
    assert_eq!(
        groups,
        [
            ("radiology feed", "final"),
            ("radiology feed", "preliminary"),
            ("replacement", "corrected"),
            ("retraction", "retracted")
        ]
    );
}

#[test]
fn undeclared_latin_1_is_read() {
    let Some(folder) = corpus() else { return };
    let Ok(bytes) = std::fs::read(folder.join("scout/log_extraction_20250814.log.hl7")) else {
        eprintln!("skipped: the ISO-8859-1 feed is absent");
        return;
    };
    let read: Vec<Message> = messages(&bytes).into_iter().flatten().collect();
    let latin: Vec<_> = read.iter().filter(|message| message.notices.charset == Some(Fallback::Absent)).collect();
    assert!(latin.iter().any(|message| message.studies.iter().any(|study| study.text.expose().contains("±60%÷"))));
}

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

/// What breaks readers of HL7.
const TOKENS: &[&[u8]] = &[
    b"|",
    b"^",
    b"~",
    b"\\",
    b"&",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x0b",
    b"\x1c\r",
    b"\x1c",
    b"\0",
    b"MSH|",
    b"MSH|^~\\&|",
    b"\rOBX|1|ED|||^TEXT^^Base64^",
    b"\rOBR|1",
    b"\rBTS|9",
    b"\\.br\\",
    b"\\X",
    b"\\XC3\\",
    b"\\.in99999\\",
    b"\xEF\xBB\xBF",
    b"\xFF\xFE",
    b"\xFE\xFF",
    b"\xC3",
    b"\xE2\x82",
    b"\x1b$B",
    b"UNICODE UTF-16",
    b"ISO IR87",
    b"{\\rtf1",
    b"\rOBX|1|ED|||^text^XML^A^<ClinicalDocument><section><text>",
    b"<html",
    b"&#x",
    b"MDM^T10",
    b"99999999999999999999",
    b"\"\"",
];

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let length = random.below(1 + bytes.len().saturating_sub(at).min(40));
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let copy = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            4 => bytes.truncate(at),
            5 => {
                let from = random.below(other.len() + 1);
                let part = &other[from..from + random.below(1 + (other.len() - from).min(200))];
                bytes.splice(at..at + length, part.iter().copied());
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }
}

#[test]
fn two_hundred_thousand_mutations_without_a_panic() {
    let Some(folder) = corpus() else { return };
    let mut files: Vec<Vec<u8>> = files(&folder).into_iter().map(|(_, bytes, _)| bytes).collect();
    files.sort_by_key(Vec::len);
    let small = files.partition_point(|bytes| bytes.len() < 3_000);
    let medium = files.partition_point(|bytes| bytes.len() < 30_000);
    let mut random = Random(0x5EED);
    let options = Options { max_message_bytes: 20_000, ..Options::default() };
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..200_000 {
        // Small ones mostly: the large ones are large by their base64.
        let within = match round % 1000 {
            0 => files.len(),
            1..20 => medium,
            _ => small,
        };
        let (one, other) = (random.below(within), random.below(small));
        let mut bytes = files[one].clone();
        mutate(&mut bytes, &files[other], &mut random);
        let mut end = 0;
        for frame in split(&bytes, &options) {
            assert!(frame.offset >= end || frame.bytes.is_empty(), "frames overlap in round {round}");
            end = frame.offset + frame.bytes.len();
            assert_eq!(&bytes[frame.offset..end], frame.bytes);
            let outcome = match frame.reject.map_or_else(|| read(frame.bytes, &options), Err) {
                Ok(message) if message.is_report => "report",
                Ok(_) => "not a report",
                Err(reject) => {
                    assert!(!reject.to_string().is_empty());
                    reject.code.name()
                }
            };
            *outcomes.entry(outcome).or_default() += 1;
        }
        if round % 16 == 0 {
            let _ = field(&bytes, "OBX[2]-5[1].1", &options);
        }
    }
    // The mutations reach the whole reader, not its first check alone.
    for outcome in [
        "report",
        "not a report",
        "no-msh",
        "bad-separators",
        "truncated",
        "too-large",
        "bad-base64",
        "bad-document",
        "no-text",
    ] {
        assert!(outcomes.get(outcome).is_some_and(|count| *count > 20), "{outcome}: {outcomes:?}");
    }
}
