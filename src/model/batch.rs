//! Token-budget batches: rows of like length together, so that little padding is computed.

use std::collections::BTreeMap;

/// Rows that are computed together.
#[derive(Debug, PartialEq)]
pub(super) struct Batch {
    /// Positions in the list of rows.
    pub(super) rows: Vec<usize>,
    /// Tokens that each of them is padded to.
    pub(super) length: usize,
}

/// Groups rows by their lengths, padded to a multiple of `step` (1: not at all), shortest first, so that `rows × length` of a batch stays
/// within `budget` tokens; a row that is longer than the budget is a batch of its own. Each row is in one batch.
///
/// What a row is padded to follows from its own length and the model's `window` alone: sums over more padding come out differently
/// in the last bit, so that its answer would depend on its neighbours.
pub(super) fn batches(lengths: &[usize], step: usize, window: usize, budget: usize) -> Vec<Batch> {
    let mut alike: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (row, length) in lengths.iter().enumerate() {
        let padded = length.next_multiple_of(step).min(window).max(*length);
        alike.entry(padded).or_default().push(row);
    }
    let cut = |(length, rows): (usize, Vec<usize>)| -> Vec<Batch> {
        rows.chunks((budget / length.max(1)).max(1)).map(|rows| Batch { rows: rows.to_vec(), length }).collect()
    };
    alike.into_iter().flat_map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_row_is_in_one_batch_and_batches_keep_the_budget(
            lengths in prop::collection::vec(1usize..=300, 0..200), budget in 1usize..5000, step in 1usize..20,
        ) {
            let batches = batches(&lengths, step, 300, budget);
            let mut rows = batches.iter().flat_map(|batch| batch.rows.clone()).collect::<Vec<_>>();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                prop_assert!(batch.rows.len() == 1 || batch.rows.len() * batch.length <= budget);
                for &row in &batch.rows {
                    prop_assert!((lengths[row]..=300).contains(&batch.length));
                    prop_assert_eq!(batch.length, super::batches(&lengths[row..=row], step, 300, 4096)[0].length);
                }
            }
        }
    }
}
