//! RTF and HTML to text. Only what reports use of them: paragraphs, tables, characters. The crates for either are far larger
//! (a browser's parser) or drop text that they do not know; here what is not understood is passed over and the text stays.

use encoding_rs::{Encoding, WINDOWS_1252};

/// Text under construction: white space collapsed, line ends where blocks begin and end.
#[derive(Default)]
pub(super) struct Flow {
    out: String,
}

impl Flow {
    /// Adds text; runs of white space become one space.
    pub(super) fn text(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() || c == '\u{A0}' {
                self.space();
            } else {
                self.out.push(c);
            }
        }
    }

    /// A space, unless there is one or a line begins.
    pub(super) fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with([' ', '\n']) {
            self.out.push(' ');
        }
    }

    /// Ends the line, if one is begun.
    pub(super) fn block(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.line();
        }
    }

    /// Ends the line.
    pub(super) fn line(&mut self) {
        if self.out.ends_with(' ') {
            self.out.pop();
        }
        self.out.push('\n');
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.out.trim().to_owned()
    }

    /// What a start or end tag of HTML or of CDA's narrative means for the flow.
    pub(super) fn tag(&mut self, name: &str) {
        match name {
            "br" => self.line(),
            "td" | "th" => self.space(),
            "p" | "div" | "tr" | "li" | "ul" | "ol" | "table" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "pre"
            | "hr" | "dt" | "dd" | "paragraph" | "list" | "item" | "caption" | "title" | "section" => self.block(),
            _ => {}
        }
    }
}

/// The text of an HTML document.
pub(super) fn html(source: &str) -> String {
    let mut flow = Flow::default();
    let mut rest = source;
    while let Some((text, after)) = rest.split_once('<') {
        flow.text(&entities(text));
        let tag_like = after.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'));
        if !tag_like {
            flow.text("<");
            rest = after;
            continue;
        }
        if let Some(comment) = after.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, next)| next);
            continue;
        }
        let (tag, next) = after.split_once('>').unwrap_or((after, ""));
        let name: String = tag.chars().skip_while(|c| *c == '/').take_while(char::is_ascii_alphanumeric).collect();
        let name = name.to_ascii_lowercase();
        rest = next;
        if matches!(name.as_str(), "script" | "style" | "head") && !tag.starts_with('/') && !tag.ends_with('/') {
            rest = after_end_tag(next, &name);
        }
        flow.tag(&name);
    }
    flow.text(&entities(rest));
    flow.finish()
}

fn after_end_tag<'a>(text: &'a str, name: &str) -> &'a str {
    let end = format!("</{name}");
    let at = text.as_bytes().windows(end.len()).position(|w| w.eq_ignore_ascii_case(end.as_bytes()));
    at.and_then(|at| text.get(at..)).and_then(|rest| rest.split_once('>')).map_or("", |(_, next)| next)
}

/// Replaces character references; one that is not known stays.
fn entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        // A reference is short: without this bound a text full of `&` would be searched again and again.
        let head = after.char_indices().take(12).find(|(_, c)| *c == ';').map(|(at, _)| at);
        let known = head.and_then(|at| Some((entity(after.get(..at)?)?, after.get(at + 1..)?)));
        match known {
            Some((c, next)) => {
                out.push(c);
                rest = next;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A character reference's name, without `&` and `;`.
pub(super) fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "deg" => '°',
        "plusmn" => '±',
        "micro" => 'µ',
        "times" => '×',
        "frac12" => '½',
        "ndash" => '–',
        "mdash" => '—',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "bull" => '•',
        "hellip" => '…',
        _ => return None,
    })
}

/// Groups of RTF that hold no text of the document.
const RTF_SKIPPED: &[&str] = &[
    "fonttbl",
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "object",
    "header",
    "headerl",
    "headerr",
    "headerf",
    "footer",
    "footerl",
    "footerr",
    "footerf",
    "listtable",
    "listoverridetable",
    "generator",
    "xmlnstbl",
    "themedata",
    "datastore",
    "fldinst",
    "revtbl",
];

/// The text of an RTF document.
pub(super) fn rtf(source: &str) -> String {
    Rtf { rest: source, out: String::new(), bytes: Vec::new(), encoding: WINDOWS_1252, uc: 1, skip: 0, pending: 0 }
        .read()
}

struct Rtf<'a> {
    rest: &'a str,
    out: String,
    /// Bytes of successive `\'hh`, which may be one character.
    bytes: Vec<u8>,
    encoding: &'static Encoding,
    /// How many characters stand in for a `\u` one.
    uc: usize,
    /// Open groups since one that is skipped began; 0 outside.
    skip: usize,
    /// Stand-in characters still to be passed over.
    pending: usize,
}

impl Rtf<'_> {
    fn read(mut self) -> String {
        while let Some(c) = self.rest.chars().next() {
            self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                '{' => {
                    self.flush();
                    self.skip += usize::from(self.skip > 0);
                    self.pending = 0;
                }
                '}' => {
                    self.flush();
                    self.skip = self.skip.saturating_sub(1);
                    self.pending = 0;
                }
                '\\' => self.control(),
                '\r' | '\n' => {}
                c => self.char(c),
            }
        }
        self.flush();
        self.out.trim().to_owned()
    }

    fn control(&mut self) {
        let Some(c) = self.rest.chars().next() else { return };
        if !c.is_ascii_alphabetic() {
            self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                '\'' => {
                    let byte = self.rest.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    let Some(byte) = byte else { return };
                    self.rest = self.rest.get(2..).unwrap_or_default();
                    if self.pending > 0 {
                        self.pending -= 1;
                    } else if self.skip == 0 {
                        self.bytes.push(byte);
                    }
                }
                // A destination that a reader may ignore.
                '*' if self.skip == 0 => self.skip = 1,
                '~' => self.char(' '),
                '_' => self.char('-'),
                '\\' | '{' | '}' => self.char(c),
                '\r' | '\n' => self.char('\n'),
                _ => {}
            }
            return;
        }
        let letters = self.rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = self.rest.get(..letters).unwrap_or_default();
        let after = self.rest.get(letters..).unwrap_or_default();
        let digits = after.strip_prefix('-').unwrap_or(after).bytes().take_while(u8::is_ascii_digit).count();
        let length = if digits > 0 { digits + usize::from(after.starts_with('-')) } else { 0 };
        let number: Option<i32> = after.get(..length).and_then(|n| n.parse().ok());
        let after = after.get(length..).unwrap_or_default();
        self.rest = after.strip_prefix(' ').unwrap_or(after);
        match word {
            "par" | "line" | "row" | "sect" | "page" => self.char('\n'),
            "tab" | "cell" => self.char('\t'),
            "emdash" => self.char('—'),
            "endash" => self.char('–'),
            "lquote" => self.char('‘'),
            "rquote" => self.char('’'),
            "ldblquote" => self.char('“'),
            "rdblquote" => self.char('”'),
            "bullet" => self.char('•'),
            "uc" => self.uc = number.and_then(|n| usize::try_from(n).ok()).unwrap_or(1).min(16),
            "u" => {
                let code = number.map(|n| if n < 0 { n + 0x1_0000 } else { n }).and_then(|n| u32::try_from(n).ok());
                self.pending = 0;
                self.char(code.and_then(char::from_u32).unwrap_or(' '));
                self.pending = self.uc;
            }
            "ansicpg" => {
                let label = format!("windows-{}", number.unwrap_or(1252));
                self.encoding = Encoding::for_label(label.as_bytes()).unwrap_or(WINDOWS_1252);
            }
            "bin" => {
                let length = number.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                self.rest = self.rest.get(length..).unwrap_or_default();
            }
            word if self.skip == 0 && RTF_SKIPPED.contains(&word) => self.skip = 1,
            _ => {}
        }
    }

    fn char(&mut self, c: char) {
        if self.pending > 0 && c != '\n' {
            self.pending -= 1;
            return;
        }
        self.flush();
        if self.skip == 0 {
            self.out.push(c);
        }
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            self.out.push_str(&self.encoding.decode_without_bom_handling(&self.bytes).0);
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn html_blocks_tables_and_characters() {
        let source = "<!DOCTYPE html><html><head><title>x</title></head><body><style>p{}</style><p>Disc\n bulge &amp; <b>mild</b>&nbsp;stenosis \
                      &lt; 3&#160;mm</p><!-- no --><table><tr><td>L4-5</td><td>bulge</td></tr></table>L5-S1<br/>normal 1 < 2 R&D";
        assert_eq!(html(source), "Disc bulge & mild stenosis < 3 mm\nL4-5 bulge\nL5-S1\nnormal 1 < 2 R&D");
    }

    #[test]
    fn rtf_paragraphs_and_characters() {
        let source = r"{\rtf1\ansi\ansicpg1250\deff0{\fonttbl{\f0 Arial;}}{\*\generator x;}\pard\b FINDINGS:\b0\par
L4-5 \'b3agodna przepuklina \u8211- 5\~mm\par{\pict 0102}\{x\} a\tab b\par}";
        assert_eq!(rtf(source), "FINDINGS:\nL4-5 łagodna przepuklina – 5 mm\n{x} a\tb");
    }

    proptest! {
        #[test]
        fn any_source_is_read(source in r"[<>&;#/a-c{}\\'*0-9é \-]{0,80}") {
            html(&source);
            rtf(&source);
        }
    }
}
