//! Bytes to messages: MLLP frames, batches, files with many messages. Slices of the input only, in one pass over it.

use std::fmt;

use super::Options;
use super::reject::{Code, Reject, Stage};

/// One message of an input, or a run of bytes that is none. The bytes are the input's, unchanged; `Debug` shows their number only.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Where `bytes` begins in the input.
    pub offset: usize,
    /// The message from its MSH (or the byte order mark before it) to its last segment, without the line end after that.
    pub bytes: &'a [u8],
    /// Why this is not a message that can be read. Its position is in the input.
    pub reject: Option<Reject>,
    /// What was counted before it.
    pub(super) before: Counts,
}

/// What batch and file trailers state the number of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages since the last batch header or trailer.
    messages: u64,
    /// Batches since the last file header.
    batches: u64,
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, bytes, reject, .. } = self;
        f.debug_struct("Frame").field("offset", offset).field("bytes", &bytes.len()).field("reject", reject).finish()
    }
}

/// Something about the framing that is odd but loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// BTS-1 at this byte says another number of messages than the batch holds.
    BatchCount {
        /// Offset of the BTS segment in the input.
        byte: usize,
        /// What BTS-1 says.
        stated: u64,
        /// What was read.
        found: u64,
    },
    /// FTS-1 at this byte says another number of batches than the file holds.
    FileCount {
        /// Offset of the FTS segment in the input.
        byte: usize,
        /// What FTS-1 says.
        stated: u64,
        /// What was read.
        found: u64,
    },
}

/// Splits an input into its messages. See [`Split`].
pub fn split<'a>(bytes: &'a [u8], options: &Options) -> Split<'a> {
    split_on(bytes, options, Counts::default())
}

/// Splits the rest of an input, of which `counts` were read before.
pub(super) fn split_on<'a>(bytes: &'a [u8], options: &Options, counts: Counts) -> Split<'a> {
    Split {
        bytes,
        limit: options.max_message_bytes,
        units: Units::detect(bytes, 0),
        at: 0,
        pending: None,
        framed: false,
        counts,
        before: counts,
        found_any: false,
        done: false,
        warnings: Vec::new(),
    }
}

/// Iterator over the [`Frame`]s of an input, made by [`split`]; [`Split::warnings`] says what was odd so far.
pub struct Split<'a> {
    bytes: &'a [u8],
    limit: usize,
    units: Units<'a>,
    /// Start of the next line.
    at: usize,
    /// What is being collected: a message, or stray bytes, and where it began.
    pending: Option<(Kind, usize)>,
    /// Within an MLLP frame that has not ended.
    framed: bool,
    counts: Counts,
    /// What was counted before what is being collected.
    before: Counts,
    found_any: bool,
    done: bool,
    warnings: Vec<Warning>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message,
    Stray,
}

impl Split<'_> {
    /// What was odd in the part of the input that was read so far.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl<'a> Split<'a> {
    /// Ends what is being collected at `end`.
    fn close(&mut self, end: usize, truncated: bool) -> Option<Frame<'a>> {
        let (kind, start) = self.pending.take()?;
        let end = self.units.trim_end(start, end);
        let bytes = self.bytes.get(start..end)?;
        self.found_any = true;
        let code = match kind {
            Kind::Stray => Some(Code::NoMsh),
            Kind::Message if bytes.len() > self.limit => Some(Code::TooLarge),
            Kind::Message if truncated => Some(Code::Truncated),
            Kind::Message => None,
        };
        let reject = code.map(|code| {
            let control_id = if kind == Kind::Message { super::peek_control_id(bytes) } else { None };
            Reject { control_id, ..Reject::at_byte(code, Stage::Frame, start) }
        });
        Some(Frame { offset: start, bytes, reject, before: self.before })
    }

    fn trailer(&mut self, name: [u8; 3], at: usize, end: usize) {
        let stated = self.units.number(at + 4 * self.units.width, end);
        match &name {
            b"BHS" => self.counts.messages = 0,
            b"FHS" => self.counts.batches = 0,
            b"BTS" => {
                let found = std::mem::take(&mut self.counts.messages);
                self.counts.batches += 1;
                if let Some(stated) = stated.filter(|stated| *stated != found) {
                    self.warnings.push(Warning::BatchCount { byte: at, stated, found });
                }
            }
            _ => {
                let found = std::mem::take(&mut self.counts.batches);
                if let Some(stated) = stated.filter(|stated| *stated != found) {
                    self.warnings.push(Warning::FileCount { byte: at, stated, found });
                }
            }
        }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        while self.at < self.bytes.len() {
            let line = self.at;
            // What comes before a header on its line: byte order mark, white space, the MLLP start byte.
            let (start, head, opens) = self.units.lead(line, self.pending.is_none());
            let header = self.units.header(head);
            if opens && header.is_some() && self.framed {
                // The frame before this one never ended.
                self.framed = false;
                if let Some(frame) = self.close(line, true) {
                    return Some(frame);
                }
            }
            if let Some(name) = header {
                if let Some(frame) = self.close(line, false) {
                    return Some(frame);
                }
                self.framed |= opens;
                let end = self.units.line_end(head);
                if &name == b"MSH" {
                    (self.pending, self.before) = (Some((Kind::Message, start)), self.counts);
                    self.counts.messages += 1;
                } else {
                    self.trailer(name, head, end.content);
                }
                if self.advance(end, line)
                    && let Some(frame) = self.close(end.content, false)
                {
                    return Some(frame);
                }
                continue;
            }
            let end = self.units.line_end(line);
            if self.pending.is_none() && !self.units.is_blank(head, end.content) {
                (self.pending, self.before) = (Some((Kind::Stray, line)), self.counts);
            }
            if self.advance(end, line)
                && let Some(frame) = self.close(end.content, false)
            {
                return Some(frame);
            }
        }
        if self.done {
            return None;
        }
        self.done = true;
        if let Some(frame) = self.close(self.bytes.len(), self.framed) {
            return Some(frame);
        }
        // An input with nothing in it says so, rather than passing as read.
        (!self.found_any).then(|| Frame {
            offset: 0,
            bytes: self.bytes,
            reject: Some(Reject::at_byte(Code::NoMsh, Stage::Frame, 0)),
            before: self.before,
        })
    }
}

impl Split<'_> {
    /// Goes to the line after `end`; true where an MLLP frame ended there.
    fn advance(&mut self, end: LineEnd, line: usize) -> bool {
        // Always forward, whatever the input.
        self.at = end.next.max(line + 1);
        if end.mllp {
            self.framed = false;
            // The next frame may be of another layout.
            self.units = Units::detect(self.bytes, self.at);
        }
        end.mllp
    }
}

/// Where a line ends.
#[derive(Debug, Clone, Copy)]
struct LineEnd {
    content: usize,
    next: usize,
    /// By the end of an MLLP frame.
    mllp: bool,
}

/// The input as code units: bytes, or the 16-bit units of UTF-16.
#[derive(Clone, Copy)]
pub(super) struct Units<'a> {
    bytes: &'a [u8],
    width: usize,
    big_endian: bool,
}

const MLLP_START: u8 = 0x0B;
const MLLP_END: u8 = 0x1C;
/// Stands for every unit beyond Latin-1.
const OTHER: u8 = 0xFF;

impl<'a> Units<'a> {
    /// By a byte order mark, or by how `MSH`, `FHS` or `BHS` is laid out at `at`.
    pub(super) fn detect(bytes: &'a [u8], at: usize) -> Self {
        let rest = bytes.get(at..).unwrap_or_default();
        let rest = rest.strip_prefix(&[MLLP_START]).unwrap_or(rest);
        let wide = |big_endian: bool| Self { bytes, width: 2, big_endian };
        match rest {
            [0xFE, 0xFF, ..] | [0, b'M' | b'F' | b'B', 0, b'S' | b'H', 0, b'H' | b'S', ..] => wide(true),
            [0xFF, 0xFE, ..] | [b'M' | b'F' | b'B', 0, b'S' | b'H', 0, b'H' | b'S', 0, ..] => wide(false),
            _ => Self { bytes, width: 1, big_endian: false },
        }
    }

    /// `Some(big_endian)` for UTF-16.
    pub(super) fn utf16(&self) -> Option<bool> {
        (self.width == 2).then_some(self.big_endian)
    }

    fn unit(&self, at: usize) -> Option<u8> {
        if self.width == 1 {
            return self.bytes.get(at).copied();
        }
        let (first, second) = (*self.bytes.get(at)?, self.bytes.get(at + 1).copied().unwrap_or(0));
        let (high, low) = if self.big_endian { (first, second) } else { (second, first) };
        Some(if high == 0 { low } else { OTHER })
    }

    /// Steps over what may stand before a header on its line: (start with the byte order mark, start of the header, whether an
    /// MLLP frame opens). White space only where no message is being read, so that an indented line of a message stays its own.
    fn lead(&self, line: usize, between: bool) -> (usize, usize, bool) {
        let (mut at, mut start, mut opens) = (line, line, false);
        loop {
            match self.bytes.get(at) {
                // One byte, in UTF-16 too.
                Some(&MLLP_START) if self.width == 1 || !opens => {
                    at += 1;
                    start = at;
                    opens = true;
                    continue;
                }
                None => return (start, at, opens),
                _ => {}
            }
            let rest = self.bytes.get(at..).unwrap_or_default();
            if rest.starts_with(&[0xEF, 0xBB, 0xBF]) {
                start = at;
                at += 3;
            } else if self.width == 2 && (rest.starts_with(&[0xFE, 0xFF]) || rest.starts_with(&[0xFF, 0xFE])) {
                start = at;
                at += 2;
            } else if between && matches!(self.unit(at), Some(b' ' | b'\t')) {
                at += self.width;
                start = at;
            } else {
                return (start, at, opens);
            }
        }
    }

    /// The header that begins at `at`: message, batch or file, header or trailer.
    fn header(&self, at: usize) -> Option<[u8; 3]> {
        let name = [self.unit(at)?, self.unit(at + self.width)?, self.unit(at + 2 * self.width)?];
        if !matches!(&name, b"MSH" | b"FHS" | b"BHS" | b"BTS" | b"FTS") {
            return None;
        }
        let next = self.unit(at + 3 * self.width);
        // A trailer may be its name alone; a header has its separators: `MSH2`, `MSH-2` or `MSH 6` at the start of a line of text is none.
        let mark = |unit: Option<u8>| unit.is_some_and(|u| u.is_ascii_punctuation() || u >= 0x80);
        let is = match next {
            None | Some(b'\r' | b'\n') => name[1] == b'T',
            Some(b'|') => true,
            _ => mark(next) && mark(self.unit(at + 4 * self.width)),
        };
        is.then_some(name)
    }

    fn line_end(&self, from: usize) -> LineEnd {
        let mut at = from;
        loop {
            if self.width == 1 {
                // The loop that the speed of framing is made of.
                let rest = self.bytes.get(at..).unwrap_or_default();
                at += rest
                    .iter()
                    .position(|b| matches!(b, b'\r' | b'\n' | &MLLP_END | &MLLP_START))
                    .unwrap_or(rest.len());
            }
            let Some(unit) = self.unit(at) else {
                return LineEnd { content: self.bytes.len(), next: self.bytes.len(), mllp: false };
            };
            let after = self.unit(at + self.width);
            match unit {
                b'\r' if after == Some(b'\n') => {
                    return LineEnd { content: at, next: at + 2 * self.width, mllp: false };
                }
                b'\r' | b'\n' => return LineEnd { content: at, next: at + self.width, mllp: false },
                MLLP_END if self.width == 1 && matches!(after, None | Some(b'\r' | b'\n' | MLLP_START)) => {
                    let next = at + 1 + usize::from(matches!(after, Some(b'\r' | b'\n')));
                    return LineEnd { content: at, next, mllp: true };
                }
                OTHER if self.width == 2 && self.bytes.get(at..at + 2) == Some(&[MLLP_END, b'\r']) => {
                    return LineEnd { content: at, next: at + 2, mllp: true };
                }
                // A frame that opens in the middle of a line.
                MLLP_START if at > from && self.width == 1 && self.header(at + 1).is_some() => {
                    return LineEnd { content: at, next: at, mllp: false };
                }
                _ => at += self.width,
            }
        }
    }

    fn is_blank(&self, start: usize, end: usize) -> bool {
        (start..end)
            .step_by(self.width)
            .all(|at| self.unit(at).is_none_or(|u| u.is_ascii_whitespace() || matches!(u, MLLP_START | MLLP_END | 0)))
    }

    fn trim_end(&self, start: usize, mut end: usize) -> usize {
        while end >= start + self.width && matches!(self.unit(end - self.width), Some(b'\r' | b'\n')) {
            end -= self.width;
        }
        end
    }

    /// The number that a field holds, up to the next separator.
    fn number(&self, start: usize, end: usize) -> Option<u64> {
        let digits: String = (start..end)
            .step_by(self.width)
            .map_while(|at| self.unit(at).filter(u8::is_ascii_digit).map(char::from))
            .collect();
        digits.parse().ok()
    }
}
