//! Annotated reports → examples, one a motion segment, as token ids with their grades.

use super::data::Report;
use crate::labels::{self, LabelSchema};
use crate::report;
use regex::{Captures, Regex};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use tokenizers::Tokenizer;

/// What the network learns from: one motion segment's input and its grades.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Example {
    /// Token ids of the segment's input.
    pub ids: Vec<u32>,
    /// Token ids of the input with left and right swapped; empty where it speaks of no side.
    pub mirrored: Vec<u32>,
    /// Grade of each task.
    pub grades: Vec<u8>,
}

/// Examples, and the levels on which the annotation and the report grammar do not agree.
#[derive(Debug, Default)]
pub struct Examples {
    /// One for each distinct (input, grades).
    pub all: Vec<Example>,
    /// Annotated levels that the grammar does not find (report id, level): not learnt from.
    pub missed: Vec<(String, String)>,
    /// Levels that the grammar finds and the annotation lacks: not learnt from.
    pub invented: Vec<(String, String)>,
}

/// Swaps left and right in a segment's input.
pub fn mirror(input: &str) -> String {
    static SIDES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\b(left|right|lt|rt)").unwrap_or_else(|_| unreachable!("a constant pattern"))
    });
    let swap = |side: &Captures<'_>| match side[0].to_ascii_lowercase().as_str() {
        "left" => "right",
        "right" => "left",
        "lt" => "rt",
        _ => "lt",
    };
    SIDES.replace_all(input, swap).into_owned()
}

/// Token ids of an input, `[CLS]` and `[SEP]` included, cut to `longest`.
pub fn encode(tokenizer: &Tokenizer, input: &str, longest: usize) -> Vec<u32> {
    // Encoding text fails on no input with this pipeline; an empty answer would be [CLS] [SEP].
    let encoding = tokenizer.encode_fast(input, true);
    let mut ids = encoding.map(|e| e.get_ids().to_vec()).unwrap_or_default();
    if ids.len() > longest {
        let end = ids.last().copied();
        ids.truncate(longest - 1);
        ids.extend(end);
    }
    ids
}

/// Makes the examples of annotated reports, equal ones once.
///
/// # Errors
/// A grade or a task that is not of the schema.
pub fn build(
    reports: &[Report],
    schema: &LabelSchema,
    tokenizer: &Tokenizer,
    longest: usize,
) -> Result<Examples, labels::Error> {
    let (mut examples, mut seen) = (Examples::default(), BTreeSet::new());
    for report in reports {
        let segments = report::segments(&report.text);
        for (level, finding) in &report.findings {
            let grades = schema.grades(finding)?;
            let Some(segment) = segments.iter().find(|s| s.level.to_string() == *level) else {
                examples.missed.push((report.id.clone(), level.clone()));
                continue;
            };
            let ids = encode(tokenizer, &segment.input, longest);
            let swapped = mirror(&segment.input);
            let mirrored = if swapped == segment.input { Vec::new() } else { encode(tokenizer, &swapped, longest) };
            seen.insert(Example { ids, mirrored, grades });
        }
        let unnamed = segments.iter().map(|s| s.level.to_string()).filter(|level| !report.findings.contains_key(level));
        examples.invented.extend(unnamed.map(|level| (report.id.clone(), level)));
    }
    examples.all = seen.into_iter().collect();
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrored_input_swaps_its_sides_alone() {
        let input = "[TARGET] : severe left and mild right narrowing, leftward of lt root";
        let mirrored = mirror(input);
        assert_eq!(mirrored, "[TARGET] : severe right and mild left narrowing, rightward of rt root");
        assert_eq!(mirror(&mirrored), input);
        assert_eq!(mirror("bright signal"), "bright signal");
    }
}
