//! The narrative of a CDA document (HL7 Clinical Document Architecture, release 2): the text of its sections.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::markup::{Flow, entity};
use super::text::Section;

/// What a CDA document holds.
#[derive(PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Body {
    /// The narrative of its sections, in order.
    Sections(Vec<(Section, String)>),
    /// A document of another kind: media type, whether it is base64, and its content.
    Other { media_type: String, base64: bool, content: String },
}

/// A section that is open.
#[derive(Default)]
struct Open {
    section: Option<Section>,
    /// What the sections around it say.
    inherited: Option<Section>,
    title: String,
}

/// Reads a document; `None` where it is not well-formed XML to its end.
pub(super) fn read(xml: &str) -> Option<Body> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().allow_dangling_amp = true;
    let mut walk = Walk::default();
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) => walk.start(&element),
            Event::Empty(element) => {
                walk.start(&element);
                walk.end();
            }
            Event::End(_) => walk.end(),
            Event::Text(text) => walk.text(&text),
            Event::CData(text) => walk.text(&text),
            Event::GeneralRef(name) => match entity(&name) {
                Some(c) => walk.text(c.encode_utf8(&mut [0; 4])),
                None => walk.text(&format!("&{};", &*name)),
            },
            Event::Eof => break,
            _ => {}
        }
    }
    if !walk.path.is_empty() {
        return None;
    }
    Some(match walk.other {
        Some(other) if walk.out.is_empty() => other,
        _ => Body::Sections(walk.out),
    })
}

#[derive(Default)]
struct Walk {
    /// Local names of the open elements.
    path: Vec<String>,
    open: Vec<Open>,
    /// The narrative or title being read, and the depth of its element.
    flow: Option<(Flow, usize)>,
    out: Vec<(Section, String)>,
    other: Option<Body>,
}

impl Walk {
    fn start(&mut self, element: &BytesStart<'_>) {
        let name = element.local_name().into_inner().to_owned();
        let parent = self.path.last().map_or("", String::as_str);
        if let Some((flow, _)) = &mut self.flow {
            flow.tag(&name);
        } else {
            match (parent, name.as_str()) {
                ("section", "code") => {
                    let code = attribute(element, "code").and_then(|code| Section::of_code(&code));
                    if let Some(open) = self.open.last_mut() {
                        open.section = open.section.or(code);
                    }
                }
                ("section", "title" | "text") => self.flow = Some((Flow::default(), self.path.len())),
                ("nonXMLBody", "text") => {
                    self.other = Some(Body::Other {
                        media_type: attribute(element, "mediaType").unwrap_or_default(),
                        base64: attribute(element, "representation").is_some_and(|r| r == "B64"),
                        content: String::new(),
                    });
                }
                (_, "section") => {
                    let inherited = self.open.last().and_then(|outer| outer.section.or(outer.inherited));
                    self.open.push(Open { inherited, ..Open::default() });
                }
                _ => {}
            }
        }
        self.path.push(name);
    }

    fn text(&mut self, text: &str) {
        if let Some((flow, _)) = &mut self.flow {
            flow.text(text);
        } else if let Some(Body::Other { content, .. }) = &mut self.other
            && self.path.ends_with(&["nonXMLBody".to_owned(), "text".to_owned()])
        {
            content.push_str(text);
        }
    }

    fn end(&mut self) {
        let Some(name) = self.path.pop() else { return };
        match self.flow.take() {
            Some((flow, depth)) if depth == self.path.len() => self.finish(&name, flow.finish()),
            Some((mut flow, depth)) => {
                flow.tag(&name);
                self.flow = Some((flow, depth));
            }
            None if name == "section" => {
                self.open.pop();
            }
            None => {}
        }
    }

    /// A title or the narrative of a section is whole.
    fn finish(&mut self, name: &str, text: String) {
        let Some(open) = self.open.last_mut() else { return };
        if name == "title" {
            open.section = open.section.or_else(|| Section::of_name(&text));
            open.title = text;
            return;
        }
        if text.is_empty() {
            return;
        }
        // A section within one that says what it is belongs to that, under its own title.
        let (section, titled) = match open.section {
            Some(section) => (section, false),
            None => (open.inherited.unwrap_or(Section::Narrative), true),
        };
        let title = open.title.trim_end_matches(':').trim();
        let text = if titled && !title.is_empty() { format!("{title}:\n{text}") } else { text };
        self.out.push((section, text));
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(body: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><ClinicalDocument xmlns=\"urn:hl7-org:v3\"><title>Report</title><component>{body}</component></ClinicalDocument>"
        )
    }

    #[test]
    fn sections_by_code_title_and_nesting() {
        let xml = document(
            "<structuredBody><component><section><code code=\"59776-5\"/><title>Findings</title><text><paragraph>Bulge at \
             L4-5 &amp; more.</paragraph><table><tbody><tr><td>L5-S1</td><td>normal</td></tr></tbody></table></text>\
             <component><section><title>Cord</title><text>Normal.</text></section></component></section></component>\
             <component><section><title>Impression</title><text>Bulge &lt; 3&#160;mm.</text></section></component>\
             <component><section><title>Other</title><text>Free</text></section></component></structuredBody>",
        );
        let expected = [
            (Section::Findings, "Bulge at L4-5 & more.\nL5-S1 normal"),
            (Section::Findings, "Cord:\nNormal."),
            (Section::Impression, "Bulge < 3 mm."),
            (Section::Narrative, "Other:\nFree"),
        ];
        let expected = expected.map(|(section, text)| (section, text.to_owned())).to_vec();
        assert_eq!(read(&xml), Some(Body::Sections(expected)));
    }

    #[test]
    fn a_body_of_another_kind() {
        let xml = document(
            "<nonXMLBody><text mediaType=\"application/pdf\" representation=\"B64\">JVBERi0=</text></nonXMLBody>",
        );
        let expected = Body::Other { media_type: "application/pdf".into(), base64: true, content: "JVBERi0=".into() };
        assert_eq!(read(&xml), Some(expected));
    }

    #[test]
    fn a_document_that_stops_is_none() {
        let xml = document("<structuredBody><section><text>Bulge at L4-5</text></section></structuredBody>");
        for cut in [40, 90, 130, 170, xml.len() - 1] {
            assert_eq!(read(&xml[..cut]), None, "{cut}");
        }
    }
}
