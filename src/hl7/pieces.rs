//! Messages out of an input of any length, through a window of it.

use super::frame::{Counts, Warning, split_on};
use super::{Code, Frame, Options};
use std::collections::VecDeque;
use std::io::{self, Read};

/// Bytes that are read at once; more where a message is longer than that.
const CHUNK: usize = 1 << 20;

const MLLP_START: u8 = 0x0B;

/// A piece of an input: a message, or bytes that belong to none, which [`super::read`] refuses with its reason.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// Position of its first byte in the input.
    pub offset: u64,
    /// The bytes, unchanged but for the framing around them.
    pub bytes: Vec<u8>,
    /// Batch and file trailers after it, and before the next, whose count is not what was read.
    pub miscounts: u64,
}

/// Cuts an input into the pieces that [`split`] would find in the whole of it. It holds no more than the longest message
/// and as much again, or twice the limit of [`Options`] where something longer stands between two messages: that comes in parts.
pub struct PieceReader<R> {
    input: R,
    options: Options,
    /// What was read and is not yet given out; begins at `offset` of the input.
    held: Vec<u8>,
    offset: u64,
    ended: bool,
    ready: VecDeque<Piece>,
    /// What was counted before `held`.
    counts: Counts,
}

impl<R: Read> PieceReader<R> {
    /// The pieces of an input, read by and by.
    pub fn new(input: R, options: Options) -> Self {
        Self {
            input,
            options,
            held: Vec::new(),
            offset: 0,
            ended: false,
            ready: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Reads as much again as is held, so that a long message is not looked through once for every chunk of it.
    fn fill(&mut self) -> io::Result<()> {
        let wanted = self.held.len().max(CHUNK);
        let read = self.input.by_ref().take(wanted as u64).read_to_end(&mut self.held)?;
        self.ended = read < wanted;
        Ok(())
    }

    /// Moves every piece of which the end is certain from what is held to what is ready.
    fn cut(&mut self) {
        // A line that is cut short may turn out to be another one; what is over the limit is not waited for.
        let lines = self.held.iter().rposition(|byte| matches!(byte, b'\r' | b'\n')).map_or(0, |end| end + 1);
        let all = self.ended || self.held.len() > self.options.max_message_bytes;
        let window = if all { &self.held[..] } else { &self.held[..lines] };
        let mut done = 0;
        let mut frames = split_on(window, &self.options, self.counts);
        let mut next = frames.next();
        while let Some(frame) = next.take() {
            next = frames.next();
            match &next {
                Some(next) => (done, self.counts) = (before(window, next), next.before),
                None if self.ended => done = window.len(),
                None if frame.bytes.len() > self.options.max_message_bytes => done = frame.offset + frame.bytes.len(),
                // It may go on.
                None => break,
            }
            self.ready.push_back(piece(window, &frame, self.offset));
        }
        // What stands after `done` is read again, and warned of then.
        let byte = |warning: &Warning| match *warning {
            Warning::BatchCount { byte, .. } | Warning::FileCount { byte, .. } => byte,
        };
        let miscounts = frames.warnings().iter().filter(|warning| byte(warning) < done).count() as u64;
        if let Some(last) = self.ready.back_mut() {
            last.miscounts += miscounts;
        }
        self.held.drain(..done);
        self.offset += done as u64;
    }
}

/// Where a frame's bytes begin, the start of its MLLP frame included.
fn before(window: &[u8], frame: &Frame<'_>) -> usize {
    let framed = frame.offset > 0 && window.get(frame.offset - 1) == Some(&MLLP_START);
    frame.offset - usize::from(framed)
}

fn piece(window: &[u8], frame: &Frame<'_>, base: u64) -> Piece {
    // That a frame has no end shows only with its start.
    let truncated = frame.reject.as_ref().is_some_and(|reject| reject.code == Code::Truncated);
    let start = if truncated { before(window, frame) } else { frame.offset };
    let bytes = window.get(start..frame.offset + frame.bytes.len()).unwrap_or(frame.bytes);
    Piece { offset: base + start as u64, bytes: bytes.to_vec(), miscounts: 0 }
}

impl<R: Read> Iterator for PieceReader<R> {
    type Item = io::Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            if self.ended {
                return None;
            }
            if let Err(error) = self.fill() {
                self.ended = true;
                return Some(Err(error));
            }
            self.cut();
        }
        self.ready.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hl7::split;

    /// Gives a few bytes at a time, as a socket does.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn pieces(input: &[u8], options: Options) -> Vec<Piece> {
        PieceReader::new(Slow(input, 70_000), options).collect::<io::Result<_>>().unwrap()
    }

    fn whole(input: &[u8], options: &Options) -> Vec<Piece> {
        split(input, options).map(|frame| piece(input, &frame, 0)).collect()
    }

    fn message(number: usize, length: usize) -> String {
        format!("MSH|^~\\&|a|b|c|d|||ORU^R01|{number}|P|2.5\rOBX|1|TX|||{}\r", "long ".repeat(length / 5))
    }

    fn same(left: &[Piece], right: &[Piece]) {
        assert_eq!(left.len(), right.len());
        for (left, right) in left.iter().zip(right) {
            assert_eq!(left.offset, right.offset);
            assert!(left.bytes == right.bytes, "piece at {}", left.offset);
        }
    }

    #[test]
    fn a_window_finds_what_the_whole_has() {
        let framed = |text: String| format!("\u{b}{text}\u{1c}\r");
        let batch = |text: String| format!("FHS|^~\\&\rBHS|^~\\&\r{text}BTS|1\rFTS|1\r");
        let lengths = [10, 3_000_000, 400_000, 7, 900_000, 1_048_500, 20, 600_000];
        let plain: Vec<String> = lengths.iter().enumerate().map(|(i, length)| message(i, *length)).collect();
        let inputs = [
            plain.concat(),
            plain.iter().cloned().map(framed).collect(),
            plain.iter().cloned().map(batch).collect(),
            format!("stray bytes\r\nmore\n{}", plain.concat().replace('\r', "\r\n")),
            // The third frame never ends.
            plain
                .iter()
                .enumerate()
                .map(|(i, m)| if i == 2 { format!("\u{b}{m}") } else { framed(m.clone()) })
                .collect(),
            String::new(),
            "no message at all".to_owned(),
        ];
        for input in &inputs {
            let options = Options::default();
            same(&pieces(input.as_bytes(), options.clone()), &whole(input.as_bytes(), &options));
        }
    }

    #[test]
    fn counts_in_trailers_are_checked_over_windows() {
        let messages: String = (0..5).map(|i| message(i, 400_000)).collect();
        for (stated, files, expected) in [(5, 1, 0), (4, 1, 1), (5, 3, 1), (6, 2, 2)] {
            let input = format!("FHS|^~\\&\rBHS|^~\\&\r{messages}BTS|{stated}\rFTS|{files}\r");
            let found = pieces(input.as_bytes(), Options::default());
            assert_eq!(found.len(), 5);
            assert_eq!(found.iter().map(|piece| piece.miscounts).sum::<u64>(), expected, "{stated} {files}");
        }
    }

    #[test]
    fn wide_characters_are_followed_over_windows() {
        let text: String = (0..9).map(|i| message(i, 300_000)).collect();
        let bytes: Vec<u8> = std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let found = pieces(&bytes, Options::default());
        assert_eq!(found.len(), 9);
        same(&found, &whole(&bytes, &Options::default()));
    }

    #[test]
    fn what_is_too_long_comes_in_parts_and_none_is_lost() {
        let options = Options { max_message_bytes: 2_000_000, ..Options::default() };
        let input = format!(
            "{}{}{}",
            message(1, 50),
            message(2, 9_000_000).replace("long long long", "long\rlong long"),
            message(3, 50)
        );
        let found = pieces(input.as_bytes(), options.clone());
        assert!(found.len() > 3);
        let junk = pieces(&vec![b'x'; 9_000_000], options);
        assert!(junk.len() > 1 && junk.iter().map(|piece| piece.bytes.len()).sum::<usize>() == 9_000_000);
        assert!(found.iter().all(|piece| piece.bytes.len() <= 8_000_000));
        let total: usize = found.iter().map(|piece| piece.bytes.len()).sum();
        // The line ends between pieces are no part of them.
        assert!(total + 2 * found.len() >= input.len(), "{total} of {}", input.len());
        assert_eq!(found.last().unwrap().bytes, message(3, 50).trim_end_matches('\r').as_bytes());
    }
}
