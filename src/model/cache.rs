//! What the model answered before: bounded by bytes, the least recently used goes first.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What an entry costs beside its values: its key and its places in two maps.
const OVERHEAD: usize = 160;

/// Which output of the model, and the sha256 of the input.
pub(super) type Key<W> = (W, [u8; 32]);

/// The key of an input.
pub(super) fn key<W>(want: W, input: &str) -> Key<W> {
    (want, Sha256::digest(input).into())
}

/// Model outputs by input.
pub(super) struct Cache<W> {
    entries: HashMap<Key<W>, (Arc<[f32]>, u64)>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, Key<W>>,
    clock: u64,
    bytes: usize,
    limit: usize,
}

impl<W: Copy + Eq + std::hash::Hash> Cache<W> {
    pub(super) fn new(limit: usize) -> Self {
        Cache { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, bytes: 0, limit }
    }

    pub(super) fn get(&mut self, key: &Key<W>) -> Option<Arc<[f32]>> {
        let (values, used) = self.entries.get_mut(key)?;
        self.order.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.order.insert(self.clock, *key);
        Some(values.clone())
    }

    pub(super) fn insert(&mut self, key: Key<W>, values: Arc<[f32]>) {
        let size = size(&values);
        if size > self.limit || self.entries.contains_key(&key) {
            return;
        }
        self.clock += 1;
        self.bytes += size;
        self.order.insert(self.clock, key);
        self.entries.insert(key, (values, self.clock));
        while self.bytes > self.limit {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some((values, _)) = self.entries.remove(&oldest) {
                self.bytes -= self::size(&values);
            }
        }
    }
}

fn size(values: &[f32]) -> usize {
    OVERHEAD + size_of_val(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_limit_holds() {
        let values = |n: f32| Arc::from(vec![n; 10]);
        let mut cache = Cache::new(3 * size(&[0.0; 10]));
        for (n, input) in ["a", "b", "c"].into_iter().enumerate() {
            cache.insert(key((), input), values(n as f32));
        }
        assert!(cache.get(&key((), "a")).is_some());
        cache.insert(key((), "d"), values(3.0));
        assert!(cache.get(&key((), "b")).is_none());
        assert_eq!(cache.get(&key((), "a")).as_deref(), Some(&[0.0; 10][..]));
        assert!(cache.bytes <= cache.limit && cache.entries.len() == 3 && cache.order.len() == 3);
        cache.insert(key((), "e"), Arc::from(vec![0.0; 1000]));
        assert!(cache.get(&key((), "e")).is_none(), "more than the limit is not kept");
    }

    #[test]
    fn outputs_of_one_input_are_kept_apart() {
        let mut cache = Cache::new(1 << 20);
        cache.insert(key(1, "a"), Arc::from(vec![1.0]));
        assert!(cache.get(&key(2, "a")).is_none());
    }
}
