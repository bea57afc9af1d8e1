//! From the level-conditioned input of a segment to the windows of tokens that the model reads.

use super::{Error, Package};
use crate::report::{CARRIED, TARGET};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use tokenizers::Tokenizer;

/// Windows of an input: a segment with more evidence than some 40 pages is no report's, and reading it would take minutes.
const MAX_WINDOWS: usize = 256;

/// Texts longer than this many bytes are tokenised in parts: an encoding takes some hundred times the memory of its text.
const PART: usize = 1 << 16;

/// Words whose tokens are remembered: reports are written in some ten thousand.
const WORDS: usize = 1 << 16;

/// Longer words than this many bytes are tokenised each time.
const WORD: usize = 32;

/// The package's tokenizer and window.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    /// The tokens of words: making them anew takes some sixty times as long.
    words: RwLock<HashMap<Box<str>, Arc<[u32]>>>,
    start: u32,
    end: u32,
    target: u32,
    carried: u32,
    /// Tokens of a window, special ones included.
    window: usize,
}

impl Tokens {
    pub(super) fn open(package: &Package) -> Result<Tokens, Error> {
        let invalid = |reason: String| Error::Tokenizer { folder: package.folder().into(), reason };
        let mut tokenizer = Tokenizer::from_file(package.folder().join("tokenizer.json"))
            .map_err(|error| invalid(error.to_string()))?;
        // Windows and padding are made here, whatever the file asks for.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        let id = |token: &str| tokenizer.token_to_id(token).ok_or_else(|| invalid(format!("it has no token {token}")));
        let (start, end, target, carried) = (id("[CLS]")?, id("[SEP]")?, id(TARGET)?, id(CARRIED)?);
        id(crate::report::OTHER)?;
        let window = package.manifest().max_tokens;
        Ok(Tokens { start, end, target, carried, window, tokenizer, words: RwLock::default() })
    }

    /// The windows of an input: one where it fits, else overlapping ones that together hold every token of it; or why there are
    /// none.
    pub(super) fn windows(&self, input: &str) -> Result<Vec<Vec<u32>>, String> {
        let mut ids = Vec::new();
        for part in parts(input) {
            // Tokens never reach across a space.
            for word in part.split(' ').filter(|word| !word.is_empty()) {
                self.word(word, &mut ids)?;
            }
            if spans(ids.len(), self.window).len() > MAX_WINDOWS {
                let reason = "what it says of one segment is longer than a report can be";
                return Err(format!(
                    "{reason} (more than {MAX_WINDOWS} windows of {} tokens); split the text",
                    self.window
                ));
            }
        }
        Ok(spans(ids.len(), self.window).into_iter().map(|span| self.frame(&ids[span])).collect())
    }

    /// Adds the tokens of a word.
    fn word(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), String> {
        let short = word.len() <= WORD;
        if short && let Some(known) = self.words.read().unwrap_or_else(PoisonError::into_inner).get(word) {
            ids.extend_from_slice(known);
            return Ok(());
        }
        // The tokenizer's error is not handed on: it could quote the text.
        let encoding = self.tokenizer.encode_fast(word, false).map_err(|_| "the tokenizer failed")?;
        ids.extend_from_slice(encoding.get_ids());
        if short {
            let mut words = self.words.write().unwrap_or_else(PoisonError::into_inner);
            if words.len() < WORDS {
                words.insert(word.into(), encoding.get_ids().into());
            }
        }
        Ok(())
    }

    fn frame(&self, ids: &[u32]) -> Vec<u32> {
        let mut window = Vec::with_capacity(ids.len() + 3);
        window.push(self.start);
        // A window in the middle of a long sentence may hold no mention of its segment: it belongs there by what stood before.
        if !ids.contains(&self.target) && !ids.contains(&self.carried) && ids.len() + 3 <= self.window {
            window.push(self.carried);
        }
        window.extend_from_slice(ids);
        window.push(self.end);
        window
    }
}

/// Cuts a text after white space into parts of at most [`PART`] bytes (at any character where it has none): tokens never
/// reach across white space, so the parts' tokens are the text's.
fn parts(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while text.len() > PART {
        let room = &text[..text.floor_char_boundary(PART)];
        let cut = room.char_indices().rev().find(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
        let (part, rest) = text.split_at(cut.unwrap_or(room.len()));
        parts.push(part);
        text = rest;
    }
    parts.push(text);
    parts
}

/// Ranges that cover `length` tokens: one where they fit beside [CLS] and [SEP], else overlapping by a quarter, each leaving room
/// for a leading [CARRIED] too.
fn spans(length: usize, window: usize) -> Vec<Range<usize>> {
    if length + 2 <= window {
        return std::iter::once(0..length).collect();
    }
    let room = window - 3;
    let step = room - room / 4;
    let count = 1 + (length - room).div_ceil(step);
    (0..count).map(|index| index * step..(index * step + room).min(length)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn shipped() -> Tokens {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/spine");
        Tokens::open(&Package::open(&folder).unwrap()).unwrap()
    }

    #[test]
    fn tokens_of_words_are_the_tokens_of_the_text() {
        let tokens = shipped();
        let corpus =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/heldout.jsonl")).unwrap();
        let odd = "Größe  of [TARGET]:\tno\u{a0}break, 5\u{2013}6mm; [OTHER]/[OTHER] naïve\u{200b}joined 脊椎 e\u{301} \u{301} ";
        let long = "osteo".repeat(40);
        for text in corpus.lines().chain([odd, &long]) {
            let whole = tokens.tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec();
            // Twice: made, and remembered.
            for _ in 0..2 {
                let mut ids = Vec::new();
                text.split(' ').filter(|word| !word.is_empty()).for_each(|word| tokens.word(word, &mut ids).unwrap());
                assert_eq!(ids, whole);
            }
        }
        assert!(!tokens.words.read().unwrap().contains_key(long.as_str()));
    }

    proptest! {
        #[test]
        fn any_texts_tokens_are_those_of_its_words(text in "[a-zA-Z\\PC ]{0,60}") {
            static TOKENS: std::sync::LazyLock<Tokens> = std::sync::LazyLock::new(shipped);
            let mut ids = Vec::new();
            text.split(' ').filter(|word| !word.is_empty()).for_each(|word| TOKENS.word(word, &mut ids).unwrap());
            prop_assert_eq!(ids, TOKENS.tokenizer.encode_fast(text.as_str(), false).unwrap().get_ids().to_vec());
        }

        #[test]
        fn windows_cover_every_token_and_fit(length in 0usize..5000, window in 8usize..600) {
            let spans = spans(length, window);
            prop_assert_eq!(spans[0].start, 0);
            prop_assert_eq!(spans[spans.len() - 1].end, length);
            prop_assert!(spans.iter().all(|span| span.len() + 2 <= window));
            prop_assert!(spans.windows(2).all(|pair| pair[1].start < pair[0].end && pair[0].end < pair[1].end));
        }
    }

    #[test]
    fn parts_are_the_text_cut_after_white_space() {
        let words = "foraminal narrowing ".repeat(20_000);
        let cut = parts(&words);
        assert!(cut.len() > 5 && cut.concat() == words);
        assert!(cut.iter().all(|part| part.len() <= PART && part.ends_with(' ')));
        let solid = "é".repeat(PART);
        assert!(parts(&solid).concat() == solid);
    }
}
