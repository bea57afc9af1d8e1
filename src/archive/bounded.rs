//! A bound on the length of one CSV record: an open quote would make one of all that follows.

use super::MAX_REPORT;
use std::io::{self, BufRead, Read};

/// A CSV input that fails where a record is longer than any report may be.
pub(super) struct Bounded<R> {
    input: R,
    quoted: bool,
    length: usize,
}

impl<R: BufRead> Bounded<R> {
    /// Watches an input from the beginning of a record.
    pub(super) fn new(input: R) -> Self {
        Self { input, quoted: false, length: 0 }
    }

    fn watch(&mut self, read: usize) -> io::Result<()> {
        for byte in self.input.fill_buf()?.iter().take(read) {
            self.length += 1;
            match byte {
                // A doubled quote within quotes leaves and enters again.
                b'"' => self.quoted = !self.quoted,
                b'\n' if !self.quoted => self.length = 0,
                _ => {}
            }
        }
        if self.length > MAX_REPORT {
            let megabytes = MAX_REPORT >> 20;
            return Err(io::Error::other(format!("a record of more than {megabytes} MB: is a quote left open?")));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.fill_buf()?.len().min(buffer.len());
        self.watch(read)?;
        self.input.read(&mut buffer[..read])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn an_open_quote_is_an_error_and_many_long_records_are_none() {
        let record = format!("a,\"{}\"\"\n\"\n", "x\n".repeat(1 << 20));
        let many = record.repeat(40);
        let mut read = Vec::new();
        Bounded::new(BufReader::new(many.as_bytes())).read_to_end(&mut read).unwrap();
        assert!(read == many.as_bytes());

        let open = format!("a,\"{}", "x\n".repeat((MAX_REPORT >> 1) + 1));
        let error = Bounded::new(BufReader::new(open.as_bytes())).read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("quote"), "{error}");
    }
}
