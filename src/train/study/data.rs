//! What the networks of a study learn from and are asked: examples of one region of the spine, with the tasks that occur in it and two controls.

use crate::labels::LabelSchema;
use crate::report;
use crate::train::corpus::{self, Grammar};
use crate::train::data::{self, Report};
use crate::train::examples::{self, Example};
use crate::train::fit::Error;
use crate::train::math::mix;
use crate::train::scores::MIN_SUPPORT;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use tokenizers::Tokenizer;

/// The control that can be learnt and has nothing to do with findings: does the writer use sentences, or note down nouns?
pub const STYLE: &str = "style";
/// The control that cannot be learnt: another task's grades, dealt out anew.
pub const SHUFFLED: &str = "shuffled";

/// One motion segment of a report, before it is tokens.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) report: String,
    pub(super) level: String,
    pub(super) input: String,
    /// Grade of each task of the region, the controls last.
    pub(super) grades: Vec<u8>,
}

/// Reports that are scored together.
#[derive(Debug, Clone)]
pub(super) struct TestSet {
    pub(super) name: String,
    pub(super) rows: Vec<Row>,
}

/// Everything of one region.
#[derive(Debug)]
pub(super) struct RegionData {
    pub(super) region: String,
    /// The tasks that occur in the region, then [`STYLE`] and [`SHUFFLED`].
    pub(super) tasks: LabelSchema,
    pub(super) learnt: Vec<Row>,
    /// Held-out synthetic reports first, then the annotated files.
    pub(super) tests: Vec<TestSet>,
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    /// Synthetic reports to learn from.
    pub(super) learnt: usize,
    /// Synthetic reports held out.
    pub(super) held_out: usize,
    pub(super) seed: u64,
}

impl RegionData {
    /// Draws synthetic reports of a region, and takes from `files` what they have of it.
    pub(super) fn new(
        region: &str,
        grammar: &Grammar,
        schema: &LabelSchema,
        amount: Amount,
        files: &[(String, Vec<Report>)],
    ) -> Result<Self, Error> {
        let drawn = |count: usize, seed: u64| -> Result<Vec<Row>, Error> {
            // Every report of another region is passed over, so more are drawn than are kept.
            let options = corpus::Options { count: usize::MAX, seed };
            let (mut rows, mut reports) = (Vec::new(), 0);
            for report in corpus::generate(grammar, schema, &options).take(count.saturating_mul(50)) {
                let of_report = rows_of(&report, region, schema)?;
                reports += usize::from(!of_report.is_empty());
                rows.extend(of_report);
                if reports == count {
                    break;
                }
            }
            Ok(rows)
        };
        let mut learnt = drawn(amount.learnt, mix(amount.seed))?;
        let mut tests = vec![TestSet { name: "synthetic".into(), rows: drawn(amount.held_out, mix(amount.seed ^ 1))? }];
        for (name, reports) in files {
            let rows: Result<Vec<Vec<Row>>, Error> = reports.iter().map(|r| rows_of(r, region, schema)).collect();
            tests.push(TestSet { name: name.clone(), rows: rows?.concat() });
        }
        if learnt.is_empty() {
            return Err(Error::Invalid(format!("no synthetic report has a motion segment of the region {region:?}")));
        }
        let occurring = occurring(schema, &learnt);
        for rows in std::iter::once(&mut learnt).chain(tests.iter_mut().map(|set| &mut set.rows)) {
            for row in rows.iter_mut() {
                row.grades = occurring.iter().map(|task| row.grades[*task]).collect();
            }
            add_controls(rows, amount.seed);
        }
        Ok(Self { region: region.to_owned(), tasks: with_controls(schema, &occurring)?, learnt, tests })
    }

    /// Positions of the tasks that speak of findings.
    pub(super) fn findings(&self) -> Vec<usize> {
        (0..self.tasks.tasks().len() - CONTROLS).collect()
    }

    /// Positions of the controls.
    pub(super) fn controls(&self) -> Vec<usize> {
        let count = self.tasks.tasks().len();
        (count - CONTROLS..count).collect()
    }

    /// Rows as the network takes them, equal ones once.
    pub(super) fn examples(rows: &[Row], tokenizer: &Tokenizer, longest: usize) -> Vec<Example> {
        let distinct: BTreeSet<Example> = rows.iter().map(|row| row.example(tokenizer, longest)).collect();
        distinct.into_iter().collect()
    }
}

const CONTROLS: usize = 2;

impl Row {
    pub(super) fn example(&self, tokenizer: &Tokenizer, longest: usize) -> Example {
        let ids = examples::encode(tokenizer, &self.input, longest);
        Example { ids, mirrored: Vec::new(), grades: self.grades.clone() }
    }
}

/// Reads the annotated reports of a file, named by its stem.
pub(super) fn read_set(path: &std::path::Path) -> Result<(String, Vec<Report>), Error> {
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok((name, data::read_jsonl(path)?))
}

/// The segments of a report that lie in the region, are annotated, and are found by the report grammar.
fn rows_of(report: &Report, region: &str, schema: &LabelSchema) -> Result<Vec<Row>, Error> {
    if !report.findings.keys().any(|level| level.parse::<report::Level>().is_ok_and(|l| is_of(l, region))) {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    for segment in report::segments(&report.text) {
        let level = segment.level.to_string();
        let Some(finding) = report.findings.get(&level).filter(|_| is_of(segment.level, region)) else { continue };
        rows.push(Row { report: report.id.clone(), level, input: segment.input, grades: schema.grades(finding)? });
    }
    Ok(rows)
}

fn is_of(level: report::Level, region: &str) -> bool {
    level.region().to_string() == region
}

/// The tasks with at least two grades that can be scored: those that the region's reports have ten times as often as a score asks for.
fn occurring(schema: &LabelSchema, rows: &[Row]) -> Vec<usize> {
    let occurs = |task: &usize| {
        let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *counts.entry(row.grades[*task]).or_default() += 1);
        counts.values().filter(|count| **count >= 10 * MIN_SUPPORT).count() >= 2
    };
    (0..schema.tasks().len()).filter(occurs).collect()
}

/// Gives every row its grade of style, then a grade of the first task that was dealt out by chance.
fn add_controls(rows: &mut [Row], seed: u64) {
    let mut dealt: Vec<u8> = rows.iter().map(|row| row.grades[0]).collect();
    dealt.shuffle(&mut ChaCha8Rng::seed_from_u64(mix(seed ^ 2)));
    for (row, dealt) in rows.iter_mut().zip(dealt) {
        row.grades.extend([u8::from(is_in_sentences(&row.input)), dealt]);
    }
}

/// Whether a text has a finite verb of those that reports use.
fn is_in_sentences(input: &str) -> bool {
    static VERBS: LazyLock<Regex> = LazyLock::new(|| {
        let verbs = r"(?i)\b(is|are|was|were|has|have|shows?|demonstrates?|causes?|results?|abuts?|indents?|effaces?|narrows?|compress(es)?|contacts?|remains?|appears?|measures?|extends?|contributes?|produces?)\b";
        Regex::new(verbs).unwrap_or_else(|_| unreachable!("a constant pattern"))
    });
    VERBS.is_match(input)
}

fn with_controls(schema: &LabelSchema, occurring: &[usize]) -> Result<LabelSchema, Error> {
    let mut text = String::from("[schema]\nname = \"study\"\nversion = 1\n");
    let mut add = |name: &str, grades: &[String]| {
        text.push_str(&format!("[[task]]\nname = {name:?}\ngrades = {grades:?}\n"));
    };
    for task in occurring.iter().map(|task| &schema.tasks()[*task]) {
        add(&task.name, &task.grades);
    }
    add(STYLE, &["notes".into(), "sentences".into()]);
    add(SHUFFLED, &occurring.first().map(|task| schema.tasks()[*task].grades.clone()).unwrap_or_default());
    Ok(LabelSchema::parse(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cervical() -> RegionData {
        let schema = LabelSchema::spine();
        let grammar = Grammar::built_in(&schema).unwrap();
        let amount = Amount { learnt: 150, held_out: 20, seed: 3 };
        let text = "C5-6: severe canal stenosis. L4-5: bulge.";
        let findings = [("C5-C6", "canal_stenosis", "severe"), ("L4-L5", "disc", "bulge")];
        let findings = findings.map(|(level, task, grade)| (level.into(), [(task.into(), grade.into())].into()));
        let file = vec![Report { id: "a".into(), text: text.into(), findings: findings.into() }];
        RegionData::new("cervical", &grammar, &schema, amount, &[("own".into(), file)]).unwrap()
    }

    #[test]
    fn a_region_has_its_own_rows_its_tasks_and_the_controls() {
        let data = cervical();
        let names: Vec<&str> = data.tasks.tasks().iter().map(|task| task.name.as_str()).collect();
        assert!(names.contains(&"cord") && names.contains(&"disc"), "{names:?}");
        assert_eq!(names[names.len() - CONTROLS..], [STYLE, SHUFFLED]);
        assert_eq!(data.findings().len() + data.controls().len(), names.len());
        let of_region = |row: &Row| row.level.starts_with('C') && row.grades.len() == names.len();
        assert!(data.learnt.iter().all(of_region));
        let own = &data.tests[1];
        assert_eq!((own.rows.len(), own.rows[0].level.as_str(), own.rows[0].grades[1]), (1, "C5-C6", 3));
        // None of what is held out was learnt.
        let learnt: BTreeSet<&str> = data.learnt.iter().map(|row| row.report.as_str()).collect();
        assert!(data.tests[0].rows.iter().all(|row| !learnt.contains(row.report.as_str())));
    }

    #[test]
    fn the_shuffled_control_has_the_grades_of_its_task_in_another_order() {
        let data = cervical();
        let last = data.tasks.tasks().len() - 1;
        let of = |task: usize| -> Vec<u8> { data.learnt.iter().map(|row| row.grades[task]).collect() };
        let (mut disc, mut dealt) = (of(0), of(last));
        let same = disc.iter().zip(&dealt).filter(|(a, b)| a == b).count();
        assert!(same < disc.len());
        disc.sort_unstable();
        dealt.sort_unstable();
        assert_eq!(disc, dealt);
    }

    #[test]
    fn style_tells_sentences_from_notes() {
        assert!(is_in_sentences("[TARGET] : There is a mild bulge."));
        assert!(!is_in_sentences("[TARGET] : mild bulge, canal patent."));
    }
}
