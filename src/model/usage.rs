//! What a model has done so far, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Sums since a model was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens that were run.
    pub tokens: u64,
    /// Tokens that were run to fill shorter rows of a batch.
    pub padding: u64,
    /// Inputs whose answer was known.
    pub cache_hits: u64,
    /// Inputs that were run.
    pub cache_misses: u64,
    /// Time spent on making tokens, summed over threads.
    pub tokenise: Duration,
    /// Time spent in ONNX Runtime, summed over threads.
    pub infer: Duration,
}

impl Usage {
    /// What came after an earlier reading.
    #[must_use]
    pub fn since(&self, before: &Usage) -> Usage {
        Usage {
            tokens: self.tokens.saturating_sub(before.tokens),
            padding: self.padding.saturating_sub(before.padding),
            cache_hits: self.cache_hits.saturating_sub(before.cache_hits),
            cache_misses: self.cache_misses.saturating_sub(before.cache_misses),
            tokenise: self.tokenise.saturating_sub(before.tokenise),
            infer: self.infer.saturating_sub(before.infer),
        }
    }
}

/// The counters behind [`Usage`].
#[derive(Debug, Default)]
pub(super) struct Meter {
    tokens: AtomicU64,
    padding: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    tokenise: AtomicU64,
    infer: AtomicU64,
}

impl Meter {
    pub(super) fn looked_up(&self, hits: usize, misses: usize) {
        self.hits.fetch_add(hits as u64, Ordering::Relaxed);
        self.misses.fetch_add(misses as u64, Ordering::Relaxed);
    }

    pub(super) fn tokenised(&self, time: Duration) {
        self.tokenise.fetch_add(nanoseconds(time), Ordering::Relaxed);
    }

    /// A batch of rows, of which each has `length` tokens with those that fill it.
    pub(super) fn ran(&self, rows: &[&[u32]], length: usize, time: Duration) {
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.padding.fetch_add((rows.len() * length).saturating_sub(tokens) as u64, Ordering::Relaxed);
        self.infer.fetch_add(nanoseconds(time), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Usage {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            tokens: read(&self.tokens),
            padding: read(&self.padding),
            cache_hits: read(&self.hits),
            cache_misses: read(&self.misses),
            tokenise: Duration::from_nanos(read(&self.tokenise)),
            infer: Duration::from_nanos(read(&self.infer)),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
