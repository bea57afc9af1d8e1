//! The study: when can one multi-task network stand in for the task-specific ones?
//!
//! After Sehanobish et al. (NAACL 2022 Industry), who found that it can where hidden representations and gradients are aligned. For each region of
//! the spine and each seed, from the same encoder, with the same examples in the same order and as many steps, networks are trained for
//! the tasks of findings together (`multi`), these and two controls that should not align ([`STYLE`], [`SHUFFLED`]) together (`all`), each
//! task alone, and pairs of tasks. The way through the folder: [`data`] → [`network`] (one [`Outcome`] a network, embeddings and
//! gradients as Parquet) → [`alignment`] (SQL over these) → [`summary`] (scores with intervals; what alignment foretells) → [`page`].

mod alignment;
mod bootstrap;
mod chart;
mod data;
mod network;
mod page;
mod relation;
mod store;
mod summary;

pub use alignment::{Aligned, Alignment, Grouped, Step, Verdict};
pub use bootstrap::Interval;
pub use data::{SHUFFLED, STYLE};
pub use network::{Affinity, Answers, Outcome, Point};
pub use page::page;
pub use relation::{Pair, Rule};
pub use summary::{CurvePoint, RegionSummary, Summary, TaskResult, summarise};

use super::corpus::Grammar;
use super::fit::Error;
use super::math::mix;
use super::{analysis, pretrained};
use crate::labels::LabelSchema;
use data::{Amount, RegionData};
use indicatif::{ProgressBar, ProgressStyle};
use network::Setting;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything that decides what a study gives; saved as `config.toml` before the first step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Regions of the spine, each with networks of its own.
    pub regions: Vec<String>,
    /// Seeds; each is a repetition.
    pub seeds: Vec<u64>,
    /// Synthetic reports to learn from, of each region.
    pub reports: usize,
    /// Synthetic reports held out, of each region.
    pub held_out: usize,
    /// Annotated reports to score beside, JSON lines.
    pub test: Vec<PathBuf>,
    /// Pairs of tasks that are trained to see whether sharing helps, of each region; chosen by chance where there are more.
    pub pairs: usize,
    /// Seeds that pairs are trained with, the first ones.
    pub pair_seeds: usize,
    /// Folder of the pretrained encoder.
    pub encoder: PathBuf,
    /// Layers kept of it.
    pub layers: usize,
    /// Word pieces kept of its vocabulary.
    pub vocabulary: usize,
    /// Longest input in tokens.
    pub max_tokens: usize,
    /// Steps of every network.
    pub steps: u64,
    /// Motion segments in a step.
    pub batch: usize,
    /// Peak learning rate of the encoder.
    pub rate: f32,
    /// Peak learning rate of the heads.
    pub head_rate: f32,
    /// Share of the steps in which the rate rises.
    pub warmup: f32,
    /// Dropout rate.
    pub dropout: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Label smoothing.
    pub smoothing: f32,
    /// Exponent of a grade's inverse frequency in its weight.
    pub balance: f32,
    /// Steps between two measurements: losses, gradients, look-ahead.
    pub every: u64,
    /// Motion segments that losses are taken over on the way.
    pub probe: usize,
    /// Motion segments that gradients and look-ahead are taken over, the first ones of the probe.
    pub examples: usize,
    /// Motion segments whose embeddings are stored.
    pub embedded: usize,
    /// Values that a layer's gradient is projected to.
    pub width: usize,
    /// Length of the look-ahead step in the space of the shared weights.
    pub look_ahead: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            regions: vec!["cervical".into(), "lumbar".into()],
            seeds: vec![1, 2, 3],
            reports: 200,
            held_out: 150,
            test: Vec::new(),
            pairs: 16,
            pair_seeds: 1,
            encoder: "native/encoder".into(),
            layers: 3,
            vocabulary: 6000,
            max_tokens: 96,
            steps: 160,
            batch: 16,
            rate: 3e-4,
            head_rate: 2e-3,
            warmup: 0.1,
            dropout: 0.1,
            weight_decay: 0.01,
            smoothing: 0.02,
            balance: 0.5,
            every: 40,
            probe: 96,
            embedded: 320,
            examples: 48,
            width: 1024,
            look_ahead: 0.1,
        }
    }
}

impl Config {
    /// The quick form: one seed, two layers, few steps, no trained pairs.
    pub fn quick() -> Self {
        Self {
            seeds: vec![1],
            pairs: 0,
            layers: 2,
            steps: 80,
            reports: 100,
            held_out: 80,
            every: 40,
            ..Self::default()
        }
    }

    fn check(&self) -> Result<(), Error> {
        let least = [
            ("regions", self.regions.len()),
            ("seeds", self.seeds.len()),
            ("reports", self.reports),
            ("held_out", self.held_out),
            ("layers", self.layers),
            ("max_tokens", self.max_tokens / 8),
            ("steps", self.steps as usize),
            ("batch", self.batch),
            ("every", self.every as usize),
            ("probe", self.probe),
            ("embedded", self.embedded),
            ("examples", self.examples),
            ("width", self.width),
        ];
        match least.into_iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(Error::Invalid(format!("{name} of the study is too small or empty"))),
            None => Ok(()),
        }
    }
}

/// The shared network of the tasks that speak of findings.
pub const MULTI: &str = analysis::MULTI;
/// The shared network of these and the controls.
pub const ALL: &str = "all";

/// Which network of the study.
#[derive(Debug, Clone)]
struct Name {
    /// Region and seed.
    run: String,
    region: usize,
    seed: u64,
    model: String,
    tasks: Vec<usize>,
}

impl Name {
    fn is_all(&self) -> bool {
        self.model == ALL
    }

    fn is_pair(&self) -> bool {
        self.model.contains('+')
    }
}

const CONFIG: &str = "config.toml";
const OUTCOMES: &str = "outcomes";
const REGIONS: &str = "regions";

/// Runs a study into the folder `output`, or goes on with the one that was stopped there: networks that are finished are not trained again.
/// `report` hears a line a network.
///
/// # Errors
/// [`Error`] says which file or setting, and what is wrong with it.
pub fn study(
    config: &Config,
    schema: &LabelSchema,
    output: &Path,
    mut report: impl FnMut(&str),
) -> Result<Summary, Error> {
    config.check()?;
    settle(config, output)?;
    let grammar = Grammar::built_in(schema)?;
    let files = config.test.iter().map(|path| data::read_set(path)).collect::<Result<Vec<_>, _>>()?;
    let amount = Amount { learnt: config.reports, held_out: config.held_out, seed: 1 };
    let regions = config.regions.iter().map(|region| RegionData::new(region, &grammar, schema, amount, &files));
    let regions = regions.collect::<Result<Vec<_>, _>>()?;
    for region in &regions {
        store::write(&output.join(REGIONS).join(format!("{}.json", region.region)), &store::Gold::of(region))?;
    }
    let texts = regions.iter().flat_map(|region| &region.learnt).map(|row| row.input.as_str());
    let (encoder, tokenizer) =
        pretrained::load(&config.encoder, Some(config.layers), config.max_tokens, config.vocabulary, texts)?;
    let prepared = regions.iter().map(|region| {
        let learnt = RegionData::examples(&region.learnt, &tokenizer, encoder.config.positions);
        let mut probe = RegionData::examples(&region.tests[0].rows, &tokenizer, encoder.config.positions);
        // In an order that has nothing to do with the texts.
        probe.sort_by_cached_key(|example| example.ids.iter().fold(0, |hash, id| mix(hash ^ u64::from(*id))));
        probe.truncate(config.probe.max(config.examples));
        (learnt, probe)
    });
    let prepared: Vec<_> = prepared.collect();
    let names = plan(config, &regions);
    let bar = ProgressBar::new(names.len() as u64 * config.steps).with_style(bar_style());
    for (number, name) in names.iter().enumerate() {
        bar.set_prefix(format!("{} {}", name.run, name.model));
        let path = output.join(OUTCOMES).join(format!("{}.{}.json", name.run, name.model));
        if path.exists() {
            bar.inc(config.steps);
            continue;
        }
        let (data, (learnt, probe)) = (&regions[name.region], &prepared[name.region]);
        let setting = Setting { config, data, encoder: &encoder, tokenizer: &tokenizer, learnt, probe };
        let outcome = setting.train(name, output, || bar.inc(1))?;
        store::write(&path, &outcome)?;
        let (run, model, seconds) = (&name.run, &name.model, outcome.seconds);
        report(&format!("{}/{}: {run} {model} in {seconds:.0} s", number + 1, names.len()));
    }
    bar.finish_and_clear();
    summarise(output)
}

/// All networks, seed by seed, so that what there is of a stopped study is a study of fewer seeds.
fn plan(config: &Config, regions: &[RegionData]) -> Vec<Name> {
    let mut names = Vec::new();
    for (repetition, seed) in config.seeds.iter().enumerate() {
        for (index, data) in regions.iter().enumerate() {
            let every = [data.findings(), data.controls()].concat();
            let task = |task: usize| data.tasks.tasks()[task].name.as_str();
            let run = format!("{}-{seed}", data.region);
            let mut add = |model: String, tasks: Vec<usize>| {
                names.push(Name { run: run.clone(), region: index, seed: *seed, model, tasks });
            };
            // First, since every question about gradients is asked of it.
            add(ALL.into(), every.clone());
            add(MULTI.into(), data.findings());
            every.iter().for_each(|one| add(task(*one).into(), vec![*one]));
            if repetition < config.pair_seeds {
                let pairs = every.iter().flat_map(|a| every.iter().filter(move |b| a < b).map(move |b| (*a, *b)));
                let mut pairs: Vec<(usize, usize)> = pairs.collect();
                pairs.sort_by_key(|(a, b)| mix((*a as u64) << 32 | *b as u64));
                pairs.truncate(config.pairs);
                pairs.iter().for_each(|(a, b)| add(format!("{}+{}", task(*a), task(*b)), vec![*a, *b]));
            }
        }
    }
    names
}

/// Makes the folders and saves the configuration, or sees that the study there is of the same.
fn settle(config: &Config, output: &Path) -> Result<(), Error> {
    for folder in [OUTCOMES, REGIONS, analysis::EMBEDDINGS, analysis::GRADIENTS] {
        let path = output.join(folder);
        std::fs::create_dir_all(&path).map_err(|source| Error::File { path, source })?;
    }
    let path = output.join(CONFIG);
    if path.exists() {
        return if read_config(output)? == *config { Ok(()) } else { Err(Error::OtherRun(output.into())) };
    }
    let text = toml::to_string_pretty(config).map_err(|e| Error::Invalid(e.to_string()))?;
    std::fs::write(&path, text).map_err(|source| Error::File { path, source })
}

fn read_config(output: &Path) -> Result<Config, Error> {
    let path = output.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    toml::from_str(&text).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
}

fn bar_style() -> ProgressStyle {
    let style = "{prefix:32} [{bar:32}] {pos}/{len} steps, {eta} left";
    ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar())
}
