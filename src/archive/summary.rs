//! What a run of `foramen label` did, in figures.

use super::item::Rejection;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Rejects that are told one by one.
const TOLD: usize = 10;

/// Counts of a run. Nothing of it, Display included, holds content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Files that were opened.
    pub files: u64,
    /// Reports that the model read.
    pub reports: u64,
    /// Rows that were written, one a motion segment.
    pub rows: u64,
    /// Reports that speak of no motion segment.
    pub without_segment: u64,
    /// Reports that were taken back by their sender, and yield no rows.
    pub retracted: u64,
    /// What was odd and lost nothing, and how often.
    pub odd: BTreeMap<Cow<'static, str>, u64>,
    /// Messages that are no reports, by type.
    pub not_reports: BTreeMap<String, u64>,
    /// Rejects by code.
    pub rejects: BTreeMap<Cow<'static, str>, u64>,
    /// Where the model ran, and in what arithmetic.
    pub provider: String,
    /// How long it took, without opening the model.
    pub took: Duration,
    /// The first reject of a file and code: where, and what to do.
    told: Vec<(String, Cow<'static, str>, String)>,
    #[serde(skip, default = "Instant::now")]
    started: Instant,
}

impl Summary {
    pub(crate) fn new(provider: String) -> Self {
        Summary {
            files: 0,
            reports: 0,
            rows: 0,
            without_segment: 0,
            retracted: 0,
            odd: BTreeMap::new(),
            not_reports: BTreeMap::new(),
            rejects: BTreeMap::new(),
            provider,
            took: Duration::ZERO,
            told: Vec::new(),
            started: Instant::now(),
        }
    }

    pub(super) fn reject(&mut self, reject: &Rejection) {
        *self.rejects.entry(reject.code.into()).or_default() += 1;
        let known = self.told.iter().any(|(source, code, _)| *source == reject.source && *code == reject.code);
        if self.told.len() < TOLD && !known {
            let place = match (&reject.position, reject.offset) {
                (Some(position), None | Some(0)) => format!(" ({position})"),
                (Some(position), Some(offset)) => format!(" (from byte {offset}, {position})"),
                (None, Some(offset)) if offset > 0 => format!(" (from byte {offset})"),
                (None, _) => String::new(),
            };
            self.told.push((
                reject.source.clone(),
                reject.code.into(),
                format!("{}{place}: {}", reject.source, reject.message),
            ));
        }
    }

    pub(crate) fn finish(&mut self) {
        self.took = self.started.elapsed();
    }

    /// Adds what another run did with other files, which come after those of this one.
    #[cfg(feature = "distributed")]
    pub(crate) fn add(&mut self, other: Summary) {
        fn all<K: Ord>(sums: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
            more.into_iter().for_each(|(key, number)| *sums.entry(key).or_default() += number);
        }
        self.files += other.files;
        self.reports += other.reports;
        self.rows += other.rows;
        self.without_segment += other.without_segment;
        self.retracted += other.retracted;
        all(&mut self.odd, other.odd);
        all(&mut self.not_reports, other.not_reports);
        all(&mut self.rejects, other.rejects);
        self.told.extend(other.told);
        self.told.truncate(TOLD);
    }

    /// All rejects together.
    pub fn rejected(&self) -> u64 {
        self.rejects.values().sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        writeln!(
            f,
            "{} and {} from {} in {seconds:.1} s ({:.0} reports/s on {})",
            count(self.reports, "report"),
            count(self.rows, "row"),
            count(self.files, "file"),
            self.reports as f64 / seconds.max(1e-3),
            self.provider
        )?;
        if self.without_segment > 0 {
            writeln!(f, "{} of no motion segment", count(self.without_segment, "report"))?;
        }
        if self.retracted > 0 {
            writeln!(f, "{} taken back by the sender", count(self.retracted, "report"))?;
        }
        for (what, number) in &self.odd {
            writeln!(f, "{number} x {what}")?;
        }
        let others: u64 = self.not_reports.values().sum();
        if others > 0 {
            writeln!(f, "{} of other kinds: {}", count(others, "message"), most(&self.not_reports))?;
        }
        if !self.rejects.is_empty() {
            writeln!(f, "{}: {}", count(self.rejected(), "reject"), most(&self.rejects))?;
        }
        for (_, _, told) in &self.told {
            writeln!(f, "  {told}")?;
        }
        match self.rejected().saturating_sub(self.told.len() as u64) {
            0 => Ok(()),
            more => writeln!(f, "  … and {more} more in the file of rejects"),
        }
    }
}

/// Names with their counts, the most frequent first.
fn most<N: fmt::Display>(counts: &BTreeMap<N, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    let told: Vec<String> = counts.iter().take(TOLD).map(|(name, number)| format!("{name} {number}")).collect();
    if counts.len() > TOLD { format!("{}, …", told.join(", ")) } else { told.join(", ") }
}

fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
