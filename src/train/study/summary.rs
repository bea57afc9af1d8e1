//! What a study found: scores with intervals, alignment, and how well the one foretells the other.

use super::alignment::{Aligned, Alignment, Step};
use super::bootstrap::{self, Counts, Interval};
use super::network::{Affinity, Outcome};
use super::relation::{Pair, Rule, rule};
use super::store::{self, Gold, GoldSet};
use super::{ALL, Config, MULTI, SHUFFLED, STYLE, read_config};
use crate::train::fit::Error;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// Macro-F1 of one task on one test set, by the network that learnt it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskResult {
    /// Region of the spine.
    pub region: String,
    /// The test set.
    pub set: String,
    /// Its rows.
    pub rows: usize,
    /// The task.
    pub task: String,
    /// Whether it is a control.
    pub control: bool,
    /// By its own network.
    pub single: Interval,
    /// By the shared network of the tasks of findings; none for a control.
    pub multi: Option<Interval>,
    /// By the shared network that learns the controls too.
    pub all: Option<Interval>,
    /// The shared network (for a control the one of all) less its own one.
    pub gain: Option<Interval>,
    /// The shared network with the controls less the one without.
    pub cost: Option<Interval>,
}

impl TaskResult {
    /// Whether the shared network is within the interval of the task's own network, or above it.
    pub fn stands_in(&self) -> bool {
        self.multi.or(self.all).is_some_and(|shared| shared.estimate >= self.single.lower)
    }
}

/// A point of a learning curve, the mean over seeds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Region of the spine.
    pub region: String,
    /// `own` for the task's own network, `multi` or `all` for a shared one.
    pub network: String,
    /// The task.
    pub task: String,
    /// Steps taken.
    pub step: u64,
    /// Mean cross-entropy on held-out segments, in nats.
    pub loss: f64,
}

/// A region's tasks and what was learnt from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegionSummary {
    /// Region of the spine.
    pub region: String,
    /// Its tasks, the controls last.
    pub tasks: Vec<String>,
    /// Synthetic reports learnt from.
    pub reports: usize,
    /// Their motion segments.
    pub rows: usize,
}

/// Everything that the page shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// The settings.
    pub config: Config,
    /// Networks that were trained.
    pub networks: usize,
    /// Seconds of training, all networks together.
    pub seconds: f64,
    /// Seeds that are complete.
    pub seeds: Vec<u64>,
    /// Regions.
    pub regions: Vec<RegionSummary>,
    /// Scores.
    pub results: Vec<TaskResult>,
    /// Pairs of tasks.
    pub pairs: Vec<Pair>,
    /// What alignment foretells.
    pub rules: Vec<Rule>,
    /// Learning curves.
    pub curves: Vec<CurvePoint>,
    /// What SQL answered.
    pub alignment: Alignment,
}

/// Reads a study's folder. Where the study was stopped, it is a summary of what is there.
///
/// # Errors
/// [`Error`] where the folder holds no study, or none of its networks is finished.
pub fn summarise(folder: &Path) -> Result<Summary, Error> {
    let config = read_config(folder)?;
    let (regions, outcomes) = (store::regions(folder)?, store::outcomes(folder)?);
    if outcomes.is_empty() {
        return Err(Error::Invalid(format!("{} has no finished network", folder.display())));
    }
    let alignment = Alignment::of(folder)?;
    let mut results = Vec::new();
    for gold in &regions {
        for set in &gold.sets {
            let of_task = |(at, task): (usize, &crate::labels::Task)| {
                result(gold, set, at, &task.name, task.grades.len(), &outcomes)
            };
            results.extend(gold.tasks.iter().enumerate().filter_map(of_task));
        }
    }
    let pairs: Vec<Pair> = regions.iter().flat_map(|gold| pairs(gold, &outcomes, &alignment)).collect();
    let seeds = config.seeds.iter().copied().filter(|seed| outcomes.iter().any(|o| o.seed == *seed));
    Ok(Summary {
        networks: outcomes.len(),
        seconds: outcomes.iter().map(|o| o.seconds).sum(),
        seeds: seeds.collect(),
        regions: regions
            .iter()
            .map(|gold| RegionSummary {
                region: gold.region.clone(),
                tasks: gold.tasks.iter().map(|task| task.name.clone()).collect(),
                reports: gold.learnt.1,
                rows: gold.learnt.0,
            })
            .collect(),
        results,
        rules: rules(&regions, &pairs),
        pairs,
        curves: curves(&outcomes),
        alignment,
        config,
    })
}

fn is_control(task: &str) -> bool {
    task == STYLE || task == SHUFFLED
}

/// Answers of the networks of a name to a task on a set, in the order of the seeds.
fn answers<'a>(outcomes: &'a [Outcome], region: &str, model: &str, set: &str, task: &str) -> BTreeMap<u64, &'a [u8]> {
    let of = outcomes.iter().filter(|o| o.region == region && o.model == model);
    of.filter_map(|o| {
        let found = o.answers.iter().find(|a| a.set == set && a.task == task)?;
        Some((o.seed, found.grades.as_slice()))
    })
    .collect()
}

fn result(
    gold: &Gold,
    set: &GoldSet,
    at: usize,
    task: &str,
    grades: usize,
    outcomes: &[Outcome],
) -> Option<TaskResult> {
    let of = |model: &str| answers(outcomes, &gold.region, model, &set.name, task);
    let (single, multi, all) = (of(task), of(MULTI), of(ALL));
    // Seeds of which every network is there, so that all are means over the same.
    let shared = if is_control(task) { &all } else { &multi };
    let seeds: Vec<u64> =
        single.keys().copied().filter(|seed| all.contains_key(seed) && shared.contains_key(seed)).collect();
    let counts = |answers: &BTreeMap<u64, &[u8]>| {
        let answers: Vec<&[u8]> = seeds.iter().filter_map(|seed| answers.get(seed).copied()).collect();
        Counts::new(set, at, grades, &answers)
    };
    let (single, multi, all) = (counts(&single)?, counts(&multi), counts(&all));
    let shared = multi.as_ref().or(all.as_ref());
    Some(TaskResult {
        region: gold.region.clone(),
        set: set.name.clone(),
        rows: set.reports.len(),
        task: task.into(),
        control: is_control(task),
        gain: shared.map(|shared| bootstrap::difference(shared, &single)),
        cost: multi.as_ref().zip(all.as_ref()).map(|(multi, all)| bootstrap::difference(all, multi)),
        single: bootstrap::score(&single),
        multi: multi.as_ref().map(bootstrap::score),
        all: all.as_ref().map(bootstrap::score),
    })
}

fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// The region of a run, whose name is region and seed.
fn region_of(run: &str) -> &str {
    run.rsplit_once('-').map_or(run, |(region, _)| region)
}

fn pairs(gold: &Gold, outcomes: &[Outcome], alignment: &Alignment) -> Vec<Pair> {
    let region = gold.region.as_str();
    let of_region: Vec<&Outcome> = outcomes.iter().filter(|o| o.region == region).collect();
    let aligned: Vec<&Aligned> = alignment.pairs.iter().filter(|p| region_of(&p.run) == region).collect();
    let tasks: Vec<&str> = gold.tasks.iter().map(|task| task.name.as_str()).collect();
    let mut pairs = Vec::new();
    for (at, task) in tasks.iter().enumerate() {
        for other in &tasks[at + 1..] {
            let rows = || aligned.iter().filter(|p| p.task == *task && p.other == *other);
            let effect = |a: &&Affinity| {
                a.step > 0 && ((a.from == *task && a.on == *other) || (a.from == *other && a.on == *task))
            };
            let look_ahead = of_region.iter().flat_map(|o| o.look_ahead.iter().filter(effect)).map(|a| a.effect);
            let (gain, gain_f1) = trained(gold, &of_region, outcomes, task, other);
            pairs.push(Pair {
                region: region.into(),
                task: (*task).into(),
                other: (*other).into(),
                control: is_control(task) || is_control(other),
                similarity: mean(rows().filter(|p| p.layer > 0).filter_map(|p| p.similarity)),
                cosine: mean(rows().filter_map(|p| p.cosine)),
                conflict_rate: mean(rows().filter_map(|p| p.conflict_rate)),
                look_ahead: mean(look_ahead),
                gain,
                gain_f1,
            });
        }
    }
    pairs
}

/// What training a pair together did to held-out loss and macro-F1, against each task's own network of the same seed.
fn trained(
    gold: &Gold,
    of_region: &[&Outcome],
    outcomes: &[Outcome],
    task: &str,
    other: &str,
) -> (Option<f64>, Option<f64>) {
    let Some(set) = gold.sets.first() else { return (None, None) };
    let model = format!("{task}+{other}");
    let (mut losses, mut scores) = (Vec::new(), Vec::new());
    for pair in of_region.iter().filter(|o| o.model == model) {
        for one in [task, other] {
            let found = |o: &Outcome| o.answers.iter().find(|a| a.set == set.name && a.task == one).map(|a| a.loss);
            let own = of_region.iter().find(|o| o.model == one && o.seed == pair.seed);
            if let (Some(together), Some(alone)) = (found(pair), own.and_then(|o| found(o))) {
                losses.push(1.0 - together / alone.max(f64::MIN_POSITIVE));
            }
            let at = gold.tasks.iter().position(|t| t.name == one);
            let f1 = |model: &str| {
                let grades = gold.tasks.get(at?)?.grades.len();
                let said = answers(outcomes, &gold.region, model, &set.name, one);
                let counts = Counts::new(set, at?, grades, &[said.get(&pair.seed)?])?;
                Some(counts.whole())
            };
            scores.extend(f1(&model).zip(f1(one)).map(|(together, alone)| together - alone));
        }
    }
    (mean(losses), mean(scores))
}

fn rules(regions: &[Gold], pairs: &[Pair]) -> Vec<Rule> {
    let mut rules = Vec::new();
    type Of = fn(&Pair) -> Option<f64>;
    let measures: [(&str, Of); 3] = [
        ("cosine", |p| p.cosine),
        ("similarity", |p| p.similarity),
        ("1 − conflict rate", |p| p.conflict_rate.map(|rate| 1.0 - rate)),
    ];
    let truths: [(&str, Of); 3] =
        [("trained: loss", |p| p.gain), ("trained: macro-F1", |p| p.gain_f1), ("look-ahead", |p| p.look_ahead)];
    for (truth, helped) in truths {
        for (measure, measured) in measures {
            let point = |pair: &Pair| {
                let fold = regions.iter().position(|gold| gold.region == pair.region)?;
                Some((fold, measured(pair)?, helped(pair)?))
            };
            rules.extend(rule(measure, truth, &pairs.iter().filter_map(point).collect::<Vec<_>>()));
        }
    }
    rules
}

fn curves(outcomes: &[Outcome]) -> Vec<CurvePoint> {
    let mut sums: BTreeMap<(String, String, String, u64), Vec<f64>> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|o| !o.model.contains('+')) {
        let network = if outcome.tasks.len() == 1 { "own" } else { outcome.model.as_str() };
        for point in &outcome.curve {
            let key = (outcome.region.clone(), network.to_owned(), point.task.clone(), point.step);
            sums.entry(key).or_default().push(point.loss);
        }
    }
    let point = |((region, network, task, step), losses): (_, Vec<f64>)| {
        mean(losses).map(|loss| CurvePoint { region, network, task, step, loss })
    };
    sums.into_iter().filter_map(point).collect()
}

impl Summary {
    /// Tasks of a region, the controls last.
    pub fn tasks(&self, region: &str) -> &[String] {
        self.regions.iter().find(|r| r.region == region).map_or(&[], |r| &r.tasks)
    }

    /// Names of the test sets that have a score in a region.
    pub fn sets(&self, region: &str) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let of_region = self.results.iter().filter(|r| r.region == region).map(|r| r.set.as_str());
        of_region.filter(|set| seen.insert(*set)).collect()
    }

    /// Mean over seeds of a value of the pairs at a layer.
    pub fn at_layer(
        &self,
        region: &str,
        layer: i64,
        task: &str,
        other: &str,
        value: fn(&Aligned) -> Option<f64>,
    ) -> Option<f64> {
        let of = self
            .alignment
            .pairs
            .iter()
            .filter(|p| p.layer == layer && p.task == task && p.other == other && region_of(&p.run) == region);
        mean(of.filter_map(value))
    }

    /// Mean over seeds and over the other tasks of findings of the gradient cosine at each step.
    pub fn cosine_at_steps(&self, region: &str, task: &str) -> Vec<(i64, f64)> {
        let other = |s: &Step| {
            let other = if s.task == task { &s.other } else { &s.task };
            (s.task == task || s.other == task) && !is_control(other) && region_of(&s.run) == region
        };
        let mut steps: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        self.alignment.steps.iter().filter(|s| other(s)).for_each(|s| steps.entry(s.step).or_default().push(s.cosine));
        steps.into_iter().filter_map(|(step, cosines)| Some((step, mean(cosines)?))).collect()
    }

    /// The verdict on a task that most seeds gave, how many of how many, and the reason of the first of these.
    pub fn verdict(&self, region: &str, task: &str) -> Option<(String, usize, usize, String)> {
        let of: Vec<_> =
            self.alignment.verdicts.iter().filter(|v| v.task == task && region_of(&v.run) == region).collect();
        let votes = |verdict: &str| of.iter().filter(|v| v.verdict == verdict).count();
        let best = of.iter().max_by_key(|v| (votes(&v.verdict), std::cmp::Reverse(&v.run)))?;
        Some((best.verdict.clone(), votes(&best.verdict), of.len(), best.reason.clone()))
    }

    /// Tables for people: scores, what alignment foretells, verdicts.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let interval = |i: Interval| format!("{:.3} ({:.3} to {:.3})", i.estimate, i.lower, i.upper);
        let maybe = |i: Option<Interval>| i.map_or("–".to_string(), interval);
        let _ = writeln!(
            out,
            "{} networks of {} layers and {} steps, seeds {:?}; macro-F1 with 95 % intervals",
            self.networks, self.config.layers, self.config.steps, self.seeds
        );
        let mut last = ("", "");
        for r in &self.results {
            if last != (r.region.as_str(), r.set.as_str()) {
                last = (&r.region, &r.set);
                let _ = writeln!(
                    out,
                    "\n{}, {} ({} rows)\n{:<28}{:<27}{:<27}{:<27}",
                    r.region, r.set, r.rows, "", "own network", "shared", "shared less own"
                );
            }
            let shared = if r.control { r.all } else { r.multi };
            let (own, shared, gain) = (interval(r.single), maybe(shared), maybe(r.gain));
            let mark = if r.stands_in() { "" } else { "below" };
            let _ = writeln!(out, "{:<28}{own:<27}{shared:<27}{gain:<27}{mark}", r.task);
        }
        let _ = writeln!(out, "\nwhat alignment foretells, by a threshold chosen on other pairs");
        for rule in &self.rules {
            let correlation = rule.correlation.map_or("–".into(), |r| format!("{r:.2}"));
            let _ = writeln!(
                out,
                "{:<18} {:<18} {} pairs  rank correlation {correlation}  right {:.2}  by majority {:.2}  threshold {:.3}",
                rule.measure, rule.truth, rule.pairs, rule.accuracy, rule.baseline, rule.threshold
            );
        }
        for region in &self.regions {
            let _ = writeln!(out, "\n{}", region.region);
            for task in &region.tasks {
                if let Some((verdict, votes, of, reason)) = self.verdict(&region.region, task) {
                    let _ = writeln!(out, "{task:<28}{verdict:<30}{votes} of {of} seeds; {reason}");
                }
            }
        }
        out
    }
}
