//! Escape sequences (chapter 2, "Use of escape sequences in text fields").

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use hl7_parser::message::Separators;

/// The character that MSH-2 has no separator for, so that nothing in a message is taken for it.
pub(super) const NONE: char = '\u{FFFF}';

/// What escapes are decoded with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Escapes {
    pub(super) separators: Separators,
    /// The message's character set, for `\X…\`.
    pub(super) encoding: &'static Encoding,
}

/// What one escape stands for.
enum Meaning {
    Char(char),
    Lines(usize),
    Bytes(Vec<u8>),
    Space,
    Nothing,
}

impl Escapes {
    /// Decodes `text` onto `out`. What is no escape stays as it is typed.
    pub(super) fn decode(&self, text: &str, out: &mut String) {
        let escape = self.separators.escape;
        let mut rest = text;
        // Bytes of successive `\X…\`, which may be one character.
        let mut bytes: Vec<u8> = Vec::new();
        while let Some((before, after)) = rest.split_once(escape) {
            if !before.is_empty() {
                self.flush(&mut bytes, out);
                out.push_str(before);
            }
            let meaning = after.split_once(escape).and_then(|(body, next)| Some((self.meaning(body)?, next)));
            if !matches!(meaning, Some((Meaning::Bytes(_), _))) {
                self.flush(&mut bytes, out);
            }
            let Some((meaning, next)) = meaning else {
                out.push(escape);
                rest = after;
                continue;
            };
            match meaning {
                Meaning::Char(c) => out.push(c),
                Meaning::Lines(count) => out.extend(std::iter::repeat_n('\n', count)),
                Meaning::Bytes(more) => bytes.extend(more),
                Meaning::Space => out.push(' '),
                Meaning::Nothing => {}
            }
            rest = next;
        }
        self.flush(&mut bytes, out);
        out.push_str(rest);
    }

    /// The decoded text; itself where nothing is escaped.
    pub(super) fn decoded<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !text.contains(self.separators.escape) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        self.decode(text, &mut out);
        Cow::Owned(out)
    }

    fn flush(&self, bytes: &mut Vec<u8>, out: &mut String) {
        if bytes.is_empty() {
            return;
        }
        // UTF-16 messages write bytes of UTF-8 or Latin-1 too.
        let known = if self.encoding.output_encoding() == self.encoding { self.encoding } else { UTF_8 };
        let text = known
            .decode_without_bom_handling_and_without_replacement(bytes)
            .unwrap_or_else(|| WINDOWS_1252.decode_without_bom_handling(bytes).0);
        out.push_str(&text.replace("\r\n", "\n").replace('\r', "\n"));
        bytes.clear();
    }

    fn meaning(&self, body: &str) -> Option<Meaning> {
        let Separators { field, component, subcomponent, repetition, escape, .. } = self.separators;
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        let (kind, rest) = body.split_at_checked(1)?;
        Some(match kind {
            "F" if rest.is_empty() => Meaning::Char(field),
            "S" if rest.is_empty() => Meaning::Char(component),
            "T" if rest.is_empty() => Meaning::Char(if subcomponent == NONE { '&' } else { subcomponent }),
            "R" if rest.is_empty() => Meaning::Char(repetition),
            "E" if rest.is_empty() => Meaning::Char(escape),
            "P" if rest.is_empty() => Meaning::Char('#'),
            "H" | "N" if rest.is_empty() => Meaning::Nothing,
            "X" if !rest.is_empty() && rest.len().is_multiple_of(2) && hex(rest) => Meaning::Bytes(
                rest.as_bytes()
                    .chunks(2)
                    .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                    .collect(),
            ),
            "C" if rest.len() == 4 && hex(rest) => Meaning::Nothing,
            "M" if matches!(rest.len(), 4 | 6) && hex(rest) => Meaning::Nothing,
            "Z" if rest.len() <= 32 && rest.bytes().all(|b| b.is_ascii_alphanumeric()) => Meaning::Nothing,
            "." => {
                let (command, count) = rest.split_at_checked(2)?;
                let count = count.trim();
                let number = count.strip_prefix(['+', '-']).unwrap_or(count);
                if number.len() > 4 || !number.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                match command {
                    "br" | "ce" if count.is_empty() => Meaning::Lines(1),
                    // A page's worth at most: the number is the sender's.
                    "sp" => Meaning::Lines(number.parse::<usize>().unwrap_or(1).clamp(1, 60)),
                    "fi" | "nf" if count.is_empty() => Meaning::Space,
                    "in" | "ti" | "sk" => Meaning::Space,
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    /// Whether `text` stops inside an escape: its last escape character opens one that could still have been completed.
    pub(super) fn stops_inside(&self, text: &str) -> bool {
        let escape = self.separators.escape;
        let mut rest = text;
        while let Some((_, after)) = rest.split_once(escape) {
            match after.split_once(escape) {
                Some((body, next)) if self.meaning(body).is_some() => rest = next,
                Some(_) => rest = after,
                None => {
                    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
                    let open = match after.split_at_checked(1) {
                        None => after.is_empty(),
                        Some(("F" | "S" | "T" | "R" | "E" | "P" | "H" | "N", "")) => true,
                        Some(("X" | "C" | "M", digits)) => hex(digits),
                        Some((".", command)) => {
                            command.len() <= 6
                                && ["br", "sp", "ce", "in", "ti", "fi", "nf", "sk"]
                                    .iter()
                                    .any(|full| full.starts_with(command) || command.starts_with(full))
                        }
                        Some(_) => false,
                    };
                    return open;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escapes(encoding: &'static Encoding) -> Escapes {
        Escapes { separators: Separators::default(), encoding }
    }

    fn decoded(text: &str) -> String {
        escapes(UTF_8).decoded(text).into_owned()
    }

    #[test]
    fn separators() {
        assert_eq!(decoded(r"1\S\128 mg\F\dL a\T\b c\R\d e\E\f g\P\"), r"1^128 mg|dL a&b c~d e\f g#");
    }

    #[test]
    fn line_ends_and_layout() {
        assert_eq!(decoded(r"a\.br\b\.sp2\c\.ce\d\.sp\e"), "a\nb\n\nc\nd\ne");
        assert_eq!(decoded(r"a\.in+4\b\.ti-2\c\.fi\d\.nf\e\.sk3\f\.in\g"), "a b c d e f g");
        assert_eq!(decoded(r"a\H\b\N\c"), "abc");
    }

    #[test]
    fn bytes_are_of_the_messages_character_set() {
        assert_eq!(decoded(r"5 \XC2B5\m \XC3\\XA9\ \X0D0A\x"), "5 µm é \nx");
        assert_eq!(escapes(WINDOWS_1252).decoded(r"\XE9\"), "é");
        // Not UTF-8 in a UTF-8 message: Latin-1, as everywhere.
        assert_eq!(decoded(r"\XE9\"), "é");
    }

    #[test]
    fn foreign_sets_and_local_escapes_are_dropped_and_the_rest_stays() {
        assert_eq!(decoded(r"a\C2842\b\M824041\c\Z99\d"), "abcd");
        assert_eq!(decoded(r"C:\temp\new L4\L5 \.xy\ \Xq\ \"), r"C:\temp\new L4\L5 \.xy\ \Xq\ \");
        assert_eq!(decoded(r"a\b\T\c"), r"a\b&c");
        assert_eq!(decoded(r"é\.br\ü"), "é\nü");
    }

    #[test]
    fn an_escape_that_never_ends() {
        for text in [r"a\", r"a\.br", r"a\.", r"a\X0", r"a\T", r"a\.br\\.b", r"a\.in+1"] {
            assert!(escapes(UTF_8).stops_inside(text), "{text}");
        }
        for text in ["a", r"a\.br\", r"C:\temp", r"a\T\b", r"L4\L5"] {
            assert!(!escapes(UTF_8).stops_inside(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn encoded_text_comes_back(text in r"[ -~éß漢\n]{0,60}") {
            let mut encoded = String::new();
            for c in text.chars() {
                match c {
                    '|' => encoded.push_str(r"\F\"),
                    '^' => encoded.push_str(r"\S\"),
                    '&' => encoded.push_str(r"\T\"),
                    '~' => encoded.push_str(r"\R\"),
                    '\\' => encoded.push_str(r"\E\"),
                    '\n' => encoded.push_str(r"\.br\"),
                    'é' => encoded.push_str(r"\XC3A9\"),
                    c => encoded.push(c),
                }
            }
            prop_assert_eq!(decoded(&encoded), text);
        }

        #[test]
        fn any_text_is_decoded(text in r"[\\.XTFbrin0-9A-Fé ]{0,40}") {
            let escapes = escapes(UTF_8);
            escapes.decoded(&text);
            escapes.stops_inside(&text);
        }
    }
}
