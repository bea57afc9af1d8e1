//! Reports as JSON lines: one object a line.

use super::columns::{IDS, TEXTS, no_such};
use super::item::{Item, Items, Rejection, Report};
use super::text::{too_large, unreadable};
use super::{Code, MAX_REPORT, Reading};
use serde_json::{Map, Value};
use std::io::{BufRead, Read};

/// The reports of an input. A line that is none is a reject, and the next is read.
pub(super) fn items(source: String, input: impl BufRead + 'static, reading: &Reading) -> Items {
    let (id, text) = (reading.id_column.clone(), reading.text_column.clone());
    let mut lines = Lines { input, offset: 0, number: 0, failed: false };
    Box::new(std::iter::from_fn(move || {
        loop {
            let line = match lines.next()? {
                Ok(line) => line,
                Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                    return Some(Item::Reject(too_large(&source)));
                }
                Err(error) => return Some(Item::Reject(unreadable(&source, &error))),
            };
            if line.bytes.trim_ascii().is_empty() {
                continue;
            }
            return Some(match report(&line, &source, id.as_deref(), text.as_deref()) {
                Ok(report) => Item::Report(report),
                Err((code, message)) => {
                    let mut reject = Rejection::new(&source, code, "parse", message).with(line.offset, line.bytes);
                    reject.position = Some(format!("line {}", line.number));
                    Item::Reject(reject)
                }
            });
        }
    }))
}

struct Line {
    offset: u64,
    number: u64,
    bytes: Vec<u8>,
}

/// Lines with where they begin; after an error of the input there are no more.
struct Lines<R> {
    input: R,
    offset: u64,
    number: u64,
    failed: bool,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Option<std::io::Result<Line>> {
        if self.failed {
            return None;
        }
        let (mut bytes, offset) = (Vec::new(), self.offset);
        let read = self.input.by_ref().take(MAX_REPORT as u64).read_until(b'\n', &mut bytes);
        match read {
            Ok(0) => return None,
            Ok(length) if length < MAX_REPORT || bytes.ends_with(b"\n") => {}
            // The rest of so long a line is passed over, and the next line is read.
            Ok(_) => return Some(self.skip().and(Err(std::io::ErrorKind::FileTooLarge.into()))),
            Err(error) => {
                self.failed = true;
                return Some(Err(error));
            }
        }
        self.offset += bytes.len() as u64;
        self.number += 1;
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        Some(Ok(Line { offset, number: self.number, bytes }))
    }

    fn skip(&mut self) -> std::io::Result<()> {
        self.offset += MAX_REPORT as u64 + self.input.skip_until(b'\n')? as u64;
        self.number += 1;
        Ok(())
    }
}

fn report(line: &Line, source: &str, id: Option<&str>, text: Option<&str>) -> Result<Report, (Code, String)> {
    let object: Map<String, Value> = serde_json::from_slice(&line.bytes).map_err(|error| {
        // Only the place is told: the error's own text may quote the line.
        (
            Code::BadJson,
            format!("it is not a JSON object on one line (column {}); write one object a line", error.column()),
        )
    })?;
    let named = |asked: Option<&str>, known: &[&str]| match asked {
        Some(name) => object.get_key_value(name),
        None => known.iter().find_map(|known| object.iter().find(|(name, _)| name.eq_ignore_ascii_case(known))),
    };
    let missing = |code, option: &str, asked: Option<&str>, known: &[&str]| {
        (code, no_such(option, asked, known, object.keys().map(String::as_str)))
    };
    let text = match named(text, &TEXTS) {
        Some((_, Value::String(text))) => text.clone(),
        Some((_, Value::Null)) => String::new(),
        Some((name, _)) => {
            return Err((Code::TextNotText, format!("{name} is not a string; name the text with --text-column")));
        }
        None => return Err(missing(Code::NoTextColumn, "--text-column", text, &TEXTS)),
    };
    let report_id = match named(id, &IDS) {
        Some((_, Value::String(id))) => id.clone(),
        Some((_, Value::Number(id))) => id.to_string(),
        None if id.is_some() => return Err(missing(Code::NoIdColumn, "--id-column", id, &IDS)),
        _ => line.number.to_string(),
    };
    Ok(Report { report_id, source: source.to_owned(), text, ..Report::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, BufReader};

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }

    #[test]
    fn an_input_that_breaks_is_one_reject() {
        let input = BufReader::new(Read::chain(&b"{\"text\": \"L4-5: bulge.\"}\n"[..], Broken));
        let items: Vec<Item> = items("a.jsonl".into(), input, &Reading::default()).take(9).collect();
        assert!(matches!(&items[..], [Item::Report(_), Item::Reject(reject)] if reject.code == "unreadable"));
    }
}
