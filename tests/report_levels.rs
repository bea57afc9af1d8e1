//! Which motion segments are found, measured against annotated reports, and what no text may do.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says what it skips")]

use foramen::report::{CARRIED, OTHER, Segment, TARGET, segments};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

struct Report {
    id: String,
    text: String,
    levels: BTreeSet<String>,
}

fn reports(path: &Path) -> Vec<Report> {
    let lines = std::fs::read_to_string(path).unwrap();
    lines
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            Report {
                id: row["id"].as_str().unwrap().to_owned(),
                text: row["text"].as_str().unwrap().to_owned(),
                levels: row["findings"].as_object().unwrap().keys().cloned().collect(),
            }
        })
        .collect()
}

fn written() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/written.jsonl")
}

/// A file of the data that is shared between checkouts, if this machine has it.
fn shared(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let path = std::env::var_os("FORAMEN_SHARED").map_or_else(beside, PathBuf::from).join(name);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
    }
    path.exists().then_some(path)
}

/// F1 over (report, level), and the reports that are wrong.
fn level_f1(reports: &[Report]) -> (f64, Vec<String>) {
    let (mut hit, mut wrong, mut missed, mut errors) = (0, 0, 0, Vec::new());
    for report in reports {
        let found: BTreeSet<String> = segments(&report.text).iter().map(|segment| segment.level.to_string()).collect();
        hit += found.intersection(&report.levels).count();
        wrong += found.difference(&report.levels).count();
        missed += report.levels.difference(&found).count();
        if found != report.levels {
            errors.push(report.id.clone());
        }
    }
    (2.0 * f64::from(hit as u32) / (2 * hit + wrong + missed) as f64, errors)
}

#[test]
fn the_written_reports_levels_are_found() {
    let reports = reports(&written());
    assert_eq!(reports.len(), 1602);
    let (f1, errors) = level_f1(&reports);
    assert!(f1 >= 0.99, "level F1 {f1:.4}; wrong: {errors:?}");
}

#[test]
fn the_gold_reports_levels_are_found() {
    for (name, bar) in [("data/reports/gold-notes.jsonl", 0.995), ("data/reports/gold-graded.jsonl", 0.985)] {
        if let Some(path) = shared(name) {
            let (f1, errors) = level_f1(&reports(&path));
            assert!(f1 >= bar, "{name}: level F1 {f1:.4}; wrong: {errors:?}");
        }
    }
}

/// What holds for the segments of any text.
fn check(text: &str, found: &[Segment]) {
    assert!(found.windows(2).all(|pair| pair[0].level < pair[1].level), "one a level, top to bottom");
    for segment in found {
        assert_eq!(segment.region, segment.level.region());
        assert_eq!(segment.level.to_string().parse(), Ok(segment.level));
        assert!(!segment.spans.is_empty() && !segment.evidence.is_empty());
        assert!(segment.spans.iter().all(|span| text.get(span.clone()).is_some_and(|sentence| !sentence.is_empty())));
        assert!(segment.spans.windows(2).all(|pair| (pair[0].start, pair[0].end) < (pair[1].start, pair[1].end)));
        assert!(segment.input.contains(TARGET), "a segment with a row is named somewhere");
        assert!(!segment.input.contains("  ") && segment.input.trim() == segment.input);
    }
}

#[test]
fn what_holds_for_any_text_holds_for_the_written_reports() {
    for report in reports(&written()) {
        check(&report.text, &segments(&report.text));
    }
}

#[test]
fn evidence_does_not_depend_on_the_level() {
    let at = |level: &str| segments(&format!("MRI. At {level}: bulge. Canal is narrow.")).pop().unwrap();
    let (upper, lower) = (at("L3-4"), at("L4/L5"));
    assert_eq!(upper.input, lower.input);
    assert_eq!(upper.input, format!("At {TARGET}: bulge. {CARRIED} Canal is narrow."));
    assert_eq!(lower.evidence, "At L4/L5: bulge. Canal is narrow.");
}

#[test]
fn other_segments_are_other() {
    let found = segments("Protrusions at L3-4 and L4-5 compress the sac.");
    let inputs: Vec<&str> = found.iter().map(|segment| segment.input.as_str()).collect();
    let expected = [
        format!("Protrusions at {TARGET} and {OTHER} compress the sac."),
        format!("Protrusions at {OTHER} and {TARGET} compress the sac."),
    ];
    assert_eq!(inputs, expected);
}

#[test]
fn long_texts_are_read() {
    let pieces = [
        "L4-5 ",
        "L4-5: ",
        "L4-5; ",
        "L4-5, ",
        "\n",
        "a",
        "L4",
        ".",
        "/",
        ";",
        "|",
        "L4-5\tx\n",
        "remaining levels ",
        "L4-5: ditto. ",
        "both levels ",
        "L4-5 bulge, ",
        "C3-4 to ",
        "(",
        "HISTORY: ",
        "Disc: ",
        "L4-5 than L3-4 ",
        "- ",
        " ",
        "\u{a0}",
        "é",
        "except ",
        "all levels except L4-5, ",
        "while L4-5 disc; ",
        "x: ",
        "1) ",
        "[ ] mild ",
        "A B C ",
        "Lt ",
        "\r",
        "others ",
    ];
    for piece in pieces {
        let text = piece.repeat(60_000 / piece.len());
        check(&text, &segments(&text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_read(text in any::<String>()) {
        check(&text, &segments(&text));
    }

    #[test]
    fn any_text_of_the_right_alphabet_is_read(text in "([CTDLS]-?[0-9]{1,2}|[-/,;:.&()|\n\t ]|and|to|levels?|all|other|both|disc|bulge|mild|é|\u{2013}|[a-z]){0,60}") {
        check(&text, &segments(&text));
    }

    #[test]
    fn mutated_reports_are_read(report in 0usize..785, cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..12)) {
        let mut chars: Vec<char> = reports(&written())[report].text.chars().collect();
        for (at, new) in cuts {
            if chars.is_empty() {
                break;
            }
            let at = at.index(chars.len());
            match u32::from(new) % 3 {
                0 => drop(chars.remove(at)),
                1 => chars.insert(at, new),
                _ => chars.truncate(at.max(20)),
            }
        }
        let text: String = chars.into_iter().collect();
        check(&text, &segments(&text));
    }
}
