//! A message's bytes to text: MSH-18 (table 0211), and what the bytes themselves say.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use super::frame::Units;

/// How the character set was found, where it was not simply the declared one. Each is counted; none loses the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fallback {
    /// MSH-18 is empty and the message is not plain ASCII.
    Absent,
    /// MSH-18 names a set that is not known.
    Unknown,
    /// MSH-18 names a set that the bytes are not in.
    False,
}

/// A decoded message.
pub(super) struct Decoded<'a> {
    pub(super) text: Cow<'a, str>,
    /// For the bytes of `\X…\` escapes.
    pub(super) encoding: &'static Encoding,
    pub(super) fallback: Option<Fallback>,
    /// UTF-16 with units that are not.
    pub(super) broken: bool,
}

/// A character set by its name in table 0211, or any name that the WHATWG encoding standard knows; spelling and case are free.
/// ASCII and plain `UNICODE` are read as UTF-8, Latin-1 as Windows-1252.
pub fn encoding(name: &str) -> Option<&'static Encoding> {
    let key: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
    let label = match key.as_str() {
        "ASCII" | "USASCII" | "ISOIR6" | "UNICODE" | "UNICODEUTF8" | "UTF8" => "utf-8",
        "UNICODEUTF16" | "UTF16" => "utf-16le",
        "8859" | "ISO8859" | "LATIN1" | "ISOIR100" => "windows-1252",
        "ISOIR87" | "ISOIR159" | "ISO2022JP" => "iso-2022-jp",
        "ISOIR13" | "ISOIR14" => "shift_jis",
        "GB180302000" | "GB18030" => "gb18030",
        "KSX1001" | "ISOIR149" => "euc-kr",
        "BIG5" => "big5",
        _ => {
            if let Some(part) = key.strip_prefix("ISO8859").or_else(|| key.strip_prefix("8859")) {
                return Encoding::for_label(format!("iso-8859-{part}").as_bytes());
            }
            if let Some(page) = key.strip_prefix("WINDOWS").or_else(|| key.strip_prefix("CP")).or(Some(&key))
                && page.len() == 4
                && page.starts_with("125")
            {
                return Encoding::for_label(format!("windows-{page}").as_bytes());
            }
            name.trim()
        }
    };
    Encoding::for_label(label.as_bytes())
}

/// Decodes a message. `forced` overrides what MSH-18 declares; a byte order mark and the layout of UTF-16 override both.
pub(super) fn decode<'a>(bytes: &'a [u8], forced: Option<&'static Encoding>) -> Decoded<'a> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return plain(bytes.get(mark..).unwrap_or_default(), encoding);
    }
    if let Some(big_endian) = Units::detect(bytes, 0).utf16() {
        return plain(bytes, if big_endian { encoding_rs::UTF_16BE } else { encoding_rs::UTF_16LE });
    }
    if let Some(encoding) = forced {
        return plain(bytes, encoding);
    }
    let declared = declared(bytes);
    let known = declared.first().filter(|name| !name.is_empty()).map(|name| encoding(name));
    let japanese = |name: &&str| encoding(name) == Some(encoding_rs::ISO_2022_JP);
    if declared.iter().skip(1).any(|name| japanese(&name.as_ref())) && bytes.windows(2).any(|w| w == b"\x1b$") {
        // `~ISO IR87`: ASCII, switching to Kanji by escape sequences (the usual Japanese message).
        return plain(bytes, encoding_rs::ISO_2022_JP);
    }
    match known {
        None => guess(bytes, Fallback::Absent),
        Some(None) => guess(bytes, Fallback::Unknown),
        Some(Some(declared)) => trust(bytes, declared),
    }
}

fn plain<'a>(bytes: &'a [u8], encoding: &'static Encoding) -> Decoded<'a> {
    let (text, errors) = encoding.decode_without_bom_handling(bytes);
    let broken = errors && (encoding == encoding_rs::UTF_16BE || encoding == encoding_rs::UTF_16LE);
    Decoded { text, encoding, fallback: None, broken }
}

/// UTF-8 where the bytes are valid UTF-8, else Windows-1252.
fn guess<'a>(bytes: &'a [u8], why: Fallback) -> Decoded<'a> {
    let fallback = (why != Fallback::Absent || !bytes.is_ascii()).then_some(why);
    let encoding = if Encoding::utf8_valid_up_to(bytes) == bytes.len() { UTF_8 } else { WINDOWS_1252 };
    Decoded { fallback, ..plain(bytes, encoding) }
}

/// The declared set, unless the bytes belie it.
fn trust<'a>(bytes: &'a [u8], declared: &'static Encoding) -> Decoded<'a> {
    let utf8 = || Encoding::utf8_valid_up_to(bytes) == bytes.len();
    let belied = if declared == UTF_8 {
        !utf8()
    } else if declared == encoding_rs::UTF_16LE {
        // Real UTF-16 was found by its layout before.
        true
    } else if declared.is_single_byte() {
        !bytes.is_ascii() && utf8()
    } else {
        declared.decode_without_bom_handling_and_without_replacement(bytes).is_none()
    };
    if belied { guess(bytes, Fallback::False) } else { plain(bytes, declared) }
}

/// The repetitions of MSH-18 as written.
fn declared(bytes: &[u8]) -> Vec<Cow<'_, str>> {
    let line = bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    let Some(separator) = line.get(3).copied() else { return Vec::new() };
    // A field separator of several bytes: its first byte does not occur in the other fields of a header that holds plain codes.
    let width = match separator {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC2.. => 2,
        _ => 1,
    };
    let mut fields = line.split(|b| *b == separator);
    let field = fields.nth(17).unwrap_or_default();
    let field = if width > 1 && line.get(3..3 + width).is_some_and(|s| std::str::from_utf8(s).is_ok()) {
        field.get(width - 1..).unwrap_or_default()
    } else {
        field
    };
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'_' | b'/' | b'.');
    field.split(|b| !is_name(b)).map(String::from_utf8_lossy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(charset: &str, tail: &[u8]) -> Vec<u8> {
        let mut bytes = format!("MSH|^~\\&|||||||ORU^R01|1|P|2.5||||||{charset}\rOBX|1|TX|||").into_bytes();
        bytes.extend_from_slice(tail);
        bytes
    }

    fn read(charset: &str, tail: &[u8]) -> (String, Option<Fallback>) {
        let bytes = message(charset, tail);
        let decoded = decode(&bytes, None);
        (decoded.text.rsplit('|').next().unwrap().to_owned(), decoded.fallback)
    }

    #[test]
    fn names_as_found_in_the_field() {
        for (name, expected) in [
            ("ASCII", "UTF-8"),
            ("UNICODE UTF-8", "UTF-8"),
            ("UTF8", "UTF-8"),
            ("utf-8", "UTF-8"),
            ("8859/1", "windows-1252"),
            ("ISO-8859-1", "windows-1252"),
            ("8859", "windows-1252"),
            ("8859/2", "ISO-8859-2"),
            ("8859/9", "windows-1254"),
            ("8859/15", "ISO-8859-15"),
            ("WINDOWS-1252", "windows-1252"),
            ("CP1250", "windows-1250"),
            ("1251", "windows-1251"),
            ("ISO IR87", "ISO-2022-JP"),
            ("ISO IR159", "ISO-2022-JP"),
            ("GB 18030-2000", "gb18030"),
            ("KS X 1001", "EUC-KR"),
            ("BIG-5", "Big5"),
        ] {
            assert_eq!(encoding(name).map(Encoding::name), Some(expected), "{name}");
        }
        assert_eq!(encoding("ISO IR 999"), None);
        assert_eq!(encoding("8859/12"), None);
    }

    #[test]
    fn declared_sets_are_read() {
        assert_eq!(read("UNICODE UTF-8", "Größe".as_bytes()), ("Größe".into(), None));
        assert_eq!(read("8859/1", b"Gr\xf6\xdfe \x96 x"), ("Größe – x".into(), None));
        assert_eq!(read("8859/2", b"\xb3\xf3d\xbc"), ("łódź".into(), None));
        assert_eq!(read("BIG-5", b"\xa4\xa4"), ("中".into(), None));
        assert_eq!(read("KS X 1001", b"\xc7\xd1"), ("한".into(), None));
        assert_eq!(read("GB 18030-2000", b"\xd6\xd0"), ("中".into(), None));
        assert_eq!(read("ISO IR87", b"\x1b$B4A;z\x1b(B"), ("漢字".into(), None));
        assert_eq!(read("~ISO IR87", b"\x1b$B4A;z\x1b(B"), ("漢字".into(), None));
    }

    #[test]
    fn absent_unknown_and_false_sets_fall_back() {
        assert_eq!(read("", b"plain"), ("plain".into(), None));
        assert_eq!(read("", "±60%".as_bytes()), ("±60%".into(), Some(Fallback::Absent)));
        assert_eq!(read("", b"\xb160%"), ("±60%".into(), Some(Fallback::Absent)));
        assert_eq!(read("ISO IR 999", b"plain"), ("plain".into(), Some(Fallback::Unknown)));
        assert_eq!(read("UNICODE UTF-8", b"\xb160%"), ("±60%".into(), Some(Fallback::False)));
        assert_eq!(read("ASCII", b"\xb160%"), ("±60%".into(), Some(Fallback::False)));
        assert_eq!(read("8859/1", "Größe".as_bytes()), ("Größe".into(), Some(Fallback::False)));
        assert_eq!(read("UNICODE UTF-16", b"plain"), ("plain".into(), Some(Fallback::False)));
    }

    #[test]
    fn byte_order_mark_and_layout_beat_the_declaration_and_the_override() {
        let text = String::from_utf8(message("8859/1", "Größe".as_bytes())).unwrap();
        for (big_endian, mark) in [(false, false), (true, false), (false, true), (true, true)] {
            let units = text.encode_utf16().flat_map(|u| if big_endian { u.to_be_bytes() } else { u.to_le_bytes() });
            let mut bytes: Vec<u8> = match (mark, big_endian) {
                (true, true) => vec![0xFE, 0xFF],
                (true, false) => vec![0xFF, 0xFE],
                _ => Vec::new(),
            };
            bytes.extend(units);
            let decoded = decode(&bytes, Some(WINDOWS_1252));
            assert!(decoded.text.ends_with("Größe") && !decoded.broken);
            bytes.push(0);
            assert!(decode(&bytes, None).broken);
        }
        let marked = [&[0xEF, 0xBB, 0xBF], text.as_bytes()].concat();
        assert!(decode(&marked, Some(WINDOWS_1252)).text.ends_with("Größe"));
    }

    #[test]
    fn the_override_beats_the_declaration() {
        let bytes = message("UNICODE UTF-8", b"\xb3\xf3d\xbc");
        assert!(decode(&bytes, encoding("8859/2")).text.ends_with("łódź"));
    }
}
