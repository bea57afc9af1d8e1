//! One report a file, as plain text.

use super::item::{Item, Items, Rejection, Report};
use super::source::Source;
use super::{Code, MAX_REPORT, Reading};
use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use std::io::{self, Read};

/// A report whose id is its file's name.
pub(super) fn items(source: &Source, input: impl Read, reading: &Reading) -> Items {
    let name = source.name();
    let items = match bounded(input) {
        Ok(bytes) => match decode(&bytes, reading.charset) {
            Some((text, guessed)) => {
                let odd = guessed.then_some(Item::Odd("text that is not UTF-8, read as Windows-1252", 1));
                let report = Report { report_id: source.stem(), source: name, text, ..Report::default() };
                odd.into_iter().chain([Item::Report(report)]).collect()
            }
            None => vec![Item::Reject(not_text(&name).with(0, bytes))],
        },
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => vec![Item::Reject(too_large(&name))],
        Err(error) => vec![Item::Reject(unreadable(&name, &error))],
    };
    Box::new(items.into_iter())
}

/// All of an input, or the error `FileTooLarge`.
fn bounded(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_REPORT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_REPORT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Text by its byte order mark, else in the given character set, else as UTF-8 where that is valid, else in Windows-1252, and
/// whether it is the last; nothing where it holds control characters that no text has.
fn decode(bytes: &[u8], charset: Option<&'static Encoding>) -> Option<(String, bool)> {
    let guess = || if std::str::from_utf8(bytes).is_ok() { UTF_8 } else { WINDOWS_1252 };
    let (text, used, _) = charset.unwrap_or_else(guess).decode(bytes);
    // Some dictation systems leave 0x1A (end of file) and 0x0C (end of page).
    let strange = |c: char| {
        c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1a}' | '\u{80}'..='\u{9f}')
    };
    (!text.chars().any(strange)).then(|| (text.into_owned(), charset.is_none() && used == WINDOWS_1252))
}

fn not_text(source: &str) -> Rejection {
    let message =
        "it is neither text nor HL7, JSON lines, CSV or Parquet; take it away, or name its format with --input-format";
    Rejection::new(source, Code::NotText, "decode", message)
}

pub(super) fn too_large(source: &str) -> Rejection {
    let message = format!("a report of more than {} MB; split it", MAX_REPORT >> 20);
    Rejection::new(source, Code::TooLarge, "frame", message)
}

pub(super) fn unreadable(source: &str, error: &io::Error) -> Rejection {
    Rejection::new(
        source,
        Code::Unreadable,
        "frame",
        format!("it can't be read: {error}; check that it is there and may be read"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_and_junk_is_not_text() {
        let utf16: Vec<u8> = "\u{feff}Höhe L4".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, charset, expected) in [
            (&b"H\xc3\xb6he"[..], None, Some("Höhe")),
            (b"\xef\xbb\xbfH\xc3\xb6he", None, Some("Höhe")),
            (b"H\xf6he", None, Some("Höhe")),
            (b"\xb9", Encoding::for_label(b"iso-8859-2"), Some("š")),
            (&utf16, None, Some("Höhe L4")),
            (b"\x7fELF\x02\x01\x01\x00\x00", None, None),
            (b"\x89PNG\r\n\x1a\n\0\0", None, None),
        ] {
            let decoded = decode(bytes, charset);
            assert_eq!(decoded.as_ref().map(|(text, _)| text.as_str()), expected, "{bytes:?}");
            assert_eq!(decoded.is_some_and(|(_, guessed)| guessed), bytes == b"H\xf6he");
        }
    }
}
