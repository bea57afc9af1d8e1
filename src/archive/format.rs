//! Which format an input has: by its name where that says it, else by its first bytes.

use super::source::Source;
use serde::{Deserialize, Serialize};

/// How reports stand in an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputFormat {
    /// HL7 v2 messages: one, many, MLLP frames, batches.
    Hl7,
    /// One report, as plain text.
    Text,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated with a header.
    Csv,
    /// Parquet.
    Parquet,
}

/// How many of an input's first bytes are looked at.
pub(super) const HEAD: usize = 8192;

/// The format of an input from its name and its first bytes.
pub(super) fn format(source: &Source, head: &[u8]) -> InputFormat {
    match source.extension().as_str() {
        "hl7" | "mllp" => InputFormat::Hl7,
        "jsonl" | "ndjson" => InputFormat::Jsonl,
        "csv" => InputFormat::Csv,
        "parquet" | "pq" => InputFormat::Parquet,
        _ => sniff(head),
    }
}

fn sniff(head: &[u8]) -> InputFormat {
    if head.starts_with(b"PAR1") {
        return InputFormat::Parquet;
    }
    // In UTF-16, these first letters are the same with zeros between them.
    let plain: Vec<u8> =
        head.iter().copied().filter(|byte| !matches!(byte, 0 | 0xFE | 0xFF | 0xEF | 0xBB | 0xBF)).collect();
    let start = plain.trim_ascii_start();
    let header = |line: &[u8]| {
        let header = [b"MSH", b"FHS", b"BHS"].iter().any(|name| line.starts_with(*name));
        header && line.get(3).is_some_and(|separator| !separator.is_ascii_alphanumeric() && *separator != b' ')
    };
    if head.starts_with(&[0x0B])
        || header(start)
        || plain.split(|byte| matches!(byte, b'\r' | b'\n' | 0x0B)).any(header)
    {
        return InputFormat::Hl7;
    }
    let after = |first: &[u8]| start.strip_prefix(first).map(|rest| rest.trim_ascii_start().first().copied());
    if matches!(after(b"{"), Some(None | Some(b'"' | b'}'))) || matches!(after(b"["), Some(Some(b'{'))) {
        return InputFormat::Jsonl;
    }
    InputFormat::Text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_name_then_by_content() {
        let by_name = |name: &str| format(&Source::file(name.into()), b"");
        assert_eq!(by_name("a/B.HL7"), InputFormat::Hl7);
        assert_eq!(by_name("a.ndjson"), InputFormat::Jsonl);
        assert_eq!(by_name("a.txt"), InputFormat::Text);
        let utf16: Vec<u8> = "\u{feff}MSH|^~\\&|".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (head, expected) in [
            (&b"MSH|^~\\&|"[..], InputFormat::Hl7),
            (b"\xef\xbb\xbf\r\nFHS|^~\\&", InputFormat::Hl7),
            (b"\x0bMSH|^~\\&|", InputFormat::Hl7),
            (b"stray\rMSH|^~\\&|", InputFormat::Hl7),
            (&utf16, InputFormat::Hl7),
            (b"MSH is short for message header", InputFormat::Text),
            (b" {\"id\": 1}", InputFormat::Jsonl),
            (b"{\n  \"id\": 1", InputFormat::Jsonl),
            (b"[{\"id\": 1}]", InputFormat::Jsonl),
            (b"{dictated} L4-L5", InputFormat::Text),
            (b"[FINDINGS] L4-L5", InputFormat::Text),
            (b"PAR1\x15", InputFormat::Parquet),
            (b"", InputFormat::Text),
        ] {
            assert_eq!(format(&Source::Stdin, head), expected, "{head:?}");
        }
    }
}
