//! Documents in OBX-5 of type ED: text, RTF, HTML and CDA are read; anything else is an attachment.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use super::cda::{self, Body};
use super::escape::Escapes;
use super::markup;
use super::reject::Code;
use super::text::Section;

/// Senders leave the padding off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What an ED field holds.
#[derive(Default, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Document {
    /// Narrative, with its section where the document says it.
    pub(super) text: Vec<(Option<Section>, String)>,
    /// Documents that are not text.
    pub(super) attachments: usize,
}

/// Reads OBX-5 of type ED: source ^ type ^ subtype ^ encoding ^ data.
pub(super) fn read(raw: &str, escapes: &Escapes) -> Result<Document, Code> {
    let separator = escapes.separators.component;
    let encoding = |raw: &str| raw.split(separator).nth(3).unwrap_or_default().trim().to_ascii_uppercase();
    let mut document = Document::default();
    if matches!(encoding(raw).as_str(), "BASE64" | "HEX") {
        for repeat in raw.split(escapes.separators.repetition) {
            one(repeat, escapes, &mut document)?;
        }
    } else {
        // Typed text may hold any separator unescaped, as XML does.
        one(raw, escapes, &mut document)?;
    }
    Ok(document)
}

fn one(raw: &str, escapes: &Escapes, document: &mut Document) -> Result<(), Code> {
    let parts: Vec<&str> = raw.splitn(5, escapes.separators.component).collect();
    let [_, kind, subtype, encoding, data] = match parts.as_slice() {
        [source, kind, subtype, encoding, data] => [*source, *kind, *subtype, *encoding, *data],
        // Text where a document should be.
        [text] => ["", "", "", "", *text],
        _ => return Ok(()),
    };
    let kind = format!("{kind}/{subtype}").to_ascii_lowercase();
    if data.trim().is_empty() {
        return Ok(());
    }
    if is_attachment(&kind) {
        document.attachments += 1;
        return Ok(());
    }
    let bytes: Cow<'_, [u8]> = match encoding.trim().to_ascii_uppercase().as_str() {
        "BASE64" => Cow::Owned(base64(&escapes.decoded(data))?),
        "HEX" => Cow::Owned(hex(&escapes.decoded(data)).ok_or(Code::BadBase64)?),
        _ => return content(&escapes.decoded(data), &kind, document),
    };
    from_bytes(&bytes, &kind, escapes.encoding, document)
}

/// By the type and subtype that the sender gives.
fn is_attachment(kind: &str) -> bool {
    const BINARY: &[&str] = &[
        "pdf",
        "jpeg",
        "jpg",
        "png",
        "gif",
        "tif",
        "bmp",
        "image",
        "audio",
        "video",
        "dicom",
        "zip",
        "msword",
        "officedocument",
        "octet-stream",
        "mpeg",
        "wav",
    ];
    BINARY.iter().any(|binary| kind.contains(binary)) || kind.starts_with("im/") || kind.starts_with("au/")
}

fn base64(data: &str) -> Result<Vec<u8>, Code> {
    let compact: Vec<u8> = data.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    BASE64.decode(compact).map_err(|_| Code::BadBase64)
}

fn hex(data: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        data.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

/// A decoded document: text in some character set, or an attachment after all.
fn from_bytes(bytes: &[u8], kind: &str, message: &'static Encoding, document: &mut Document) -> Result<(), Code> {
    let magic: &[&[u8]] =
        &[b"%PDF", b"\x89PNG", b"\xFF\xD8\xFF", b"GIF8", b"PK\x03\x04", b"II*\0", b"MM\0*", b"\xD0\xCF\x11\xE0"];
    let marked = Encoding::for_bom(bytes);
    let head = bytes.get(..1024).unwrap_or(bytes);
    if magic.iter().any(|m| bytes.starts_with(m)) || (marked.is_none() && head.contains(&0)) {
        document.attachments += 1;
        return Ok(());
    }
    let (encoding, mark) = marked.unwrap_or_else(|| {
        let encoding = declared_by_xml(head).unwrap_or_else(|| {
            let utf8 = Encoding::utf8_valid_up_to(bytes) == bytes.len();
            if utf8 {
                UTF_8
            } else if message.is_single_byte() {
                message
            } else {
                WINDOWS_1252
            }
        });
        (encoding, 0)
    });
    let (text, _) = encoding.decode_without_bom_handling(bytes.get(mark..).unwrap_or_default());
    content(&text, kind, document)
}

/// `encoding="…"` of an XML declaration.
fn declared_by_xml(head: &[u8]) -> Option<&'static Encoding> {
    let head = String::from_utf8_lossy(head);
    let declaration = head.trim_start().strip_prefix("<?xml")?.split("?>").next()?;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let label = value.split(['"', '\'']).nth(1)?;
    Encoding::for_label(label.as_bytes())
}

/// A text by what it looks like.
fn content(text: &str, kind: &str, document: &mut Document) -> Result<(), Code> {
    let text = text.trim_start_matches('\u{FEFF}').trim();
    let lower: String = text.chars().take(64).flat_map(char::to_lowercase).collect();
    if text.starts_with("{\\rtf") {
        document.text.push((None, markup::rtf(text)));
    } else if lower.starts_with("<!doctype html") || lower.starts_with("<html") || kind.contains("html") {
        document.text.push((None, markup::html(text)));
    } else if text.starts_with('<') && text.contains("ClinicalDocument") {
        clinical_document(text, document)?;
    } else if lower.starts_with("<?xml") {
        document.attachments += 1;
    } else {
        document.text.push((None, text.replace("\r\n", "\n").replace('\r', "\n")));
    }
    Ok(())
}

fn clinical_document(xml: &str, document: &mut Document) -> Result<(), Code> {
    match cda::read(xml).ok_or(Code::BadDocument)? {
        Body::Sections(sections) => document.text.extend(sections.into_iter().map(|(section, text)| {
            let section = (section != Section::Narrative).then_some(section);
            (section, text)
        })),
        Body::Other { media_type, base64: false, content: text }
            if media_type.starts_with("text/") && !text.contains("ClinicalDocument") =>
        {
            content(&text, &media_type, document)?;
        }
        Body::Other { media_type, base64: true, content }
            if media_type.starts_with("text/") || media_type.contains("rtf") =>
        {
            let bytes = base64(&content)?;
            // One document within another, not a chain of them.
            if !bytes.windows(16).any(|w| w == b"ClinicalDocument") {
                from_bytes(&bytes, &media_type, UTF_8, document)?;
            }
        }
        Body::Other { .. } => document.attachments += 1,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hl7_parser::message::Separators;

    fn of(raw: &str) -> Result<Document, Code> {
        let escapes = Escapes { separators: Separators::default(), encoding: UTF_8 };
        read(raw, &escapes)
    }

    fn text(raw: &str) -> String {
        of(raw).unwrap().text.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("|")
    }

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        BASE64.encode(bytes)
    }

    #[test]
    fn text_typed_or_base64() {
        assert_eq!(text(r"^TEXT^^A^Bulge at L4-5\.br\R\T\D ^ more ~ still"), "Bulge at L4-5\nR&D ^ more ~ still");
        assert_eq!(text(&format!("^text^plain^Base64^{}", encode("Größe\r\nL4-5"))), "Größe\nL4-5");
        assert_eq!(text(&format!("^TEXT^^Base64^{}", encode(b"Gr\xf6\xdfe"))), "Größe");
        assert_eq!(text("^TEXT^^Base64^QnVs\\.br\\Z2U"), "Bulge");
        assert_eq!(text("^TEXT^^Hex^42756C6765"), "Bulge");
        assert_eq!(text("Bulge at L4-5"), "Bulge at L4-5");
        assert_eq!(text("^TEXT^^Base64^QQ==~^TEXT^^Base64^Qg=="), "A|B");
    }

    #[test]
    fn rtf_html_and_cda_by_their_text() {
        assert_eq!(text(&format!("^application^rtf^Base64^{}", encode(r"{\rtf1 Bulge\par}"))), "Bulge");
        assert_eq!(text("^TEXT^HTML^A^<p>Bulge</p>"), "Bulge");
        let cda = r#"<ClinicalDocument><section><code code="19005-8"/><text>Bulge</text></section></ClinicalDocument>"#;
        assert_eq!(
            of(&format!("^text^XML^Base64^{}", encode(cda))).unwrap().text,
            [(Some(Section::Impression), "Bulge".into())]
        );
        let latin = [
            br#"<?xml version="1.0" encoding="ISO-8859-1"?><ClinicalDocument><section><text>"#.as_slice(),
            b"\xe9</text></section></ClinicalDocument>",
        ];
        assert_eq!(text(&format!("^text^XML^Base64^{}", encode(latin.concat()))), "é");
    }

    #[test]
    fn other_documents_are_attachments() {
        for raw in [
            "^AP^PDF^Base64^<not base64>",
            "^Image^jpeg^Base64^AAAA",
            "^text^^Base64^JVBERi0x",
            "^TEXT^XML^A^<?xml version='1.0'?><a/>",
        ] {
            assert_eq!(of(raw), Ok(Document { text: Vec::new(), attachments: 1 }), "{raw}");
        }
        let cda = "<ClinicalDocument><nonXMLBody><text mediaType='application/pdf' representation='B64'>JVBERi0=</text></nonXMLBody></ClinicalDocument>";
        assert_eq!(of(&format!("^text^XML^A^{cda}")).unwrap().attachments, 1);
    }

    #[test]
    fn what_does_not_decode_says_so() {
        assert_eq!(of("^TEXT^^Base64^QnVsZ"), Err(Code::BadBase64));
        assert_eq!(of("^TEXT^^Base64^Qn!!"), Err(Code::BadBase64));
        assert_eq!(of("^TEXT^XML^A^<ClinicalDocument><section>"), Err(Code::BadDocument));
    }
}
