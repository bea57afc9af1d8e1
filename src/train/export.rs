//! A trained network → a model package: the graph, tokenizer, labels, model card, and the manifest that vouches for them.

use super::data::Report;
use super::encoder::{Batch, Config};
use super::examples;
use super::fit::{self, Trained};
use super::graph::{Precision, rounded, to_onnx};
use super::math::{Matrix, mix, softmax};
use super::network::Network;
use super::pretrained;
use super::scores::Scores;
use crate::labels::LabelSchema;
use crate::model::{MANIFEST, Manifest, sha256};
use crate::report;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Why a package could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The run, or a file to score, does not fit.
    #[error(transparent)]
    Fit(#[from] fit::Error),
    /// Something has no written form.
    #[error("{0}")]
    Form(String),
}

/// What a package says of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Name of the pretrained encoder.
    pub encoder: String,
    /// How weights are stored.
    pub precision: Precision,
    /// A remark for the model card, such as how the sets that it is scored on came to be.
    pub note: Option<String>,
}

/// Writes the package of a training run to `folder`, scored on labelled files (name, reports) as its graph will answer.
///
/// # Errors
/// [`Error`] says which file, and why.
pub fn export(
    trained: &Trained,
    schema: &LabelSchema,
    about: &About,
    files: &[(String, Vec<Report>)],
    folder: &Path,
) -> Result<Manifest, Error> {
    let network = rounded(&trained.network, about.precision);
    let (tokenizer, longest) = (&trained.tokenizer, trained.config.max_tokens);
    let mut scores = toml::Table::new();
    let held_out = [("held-out written reports".to_string(), trained.held_out.clone())];
    for (name, reports) in held_out.iter().chain(files).filter(|(_, reports)| !reports.is_empty()) {
        let gold = fit::gold(schema, reports).map_err(fit::Error::Labels)?;
        let found = Scores::new(schema, &gold, &fit::answer(&network, tokenizer, reports, longest));
        let figure = |value: f64| toml::Value::Float((value * 10_000.0).round() / 10_000.0);
        let mut table = toml::Table::new();
        table.insert("reports".into(), toml::Value::Integer(reports.len() as i64));
        table.insert("rows".into(), toml::Value::Integer(gold.len() as i64));
        table.insert("level_f1".into(), figure(found.level_f1));
        table.insert("macro_f1".into(), figure(found.macro_f1));
        table.insert("row_accuracy".into(), figure(found.row_accuracy));
        scores.insert(name.clone(), table.into());
    }
    let temperatures = temperatures(&network, tokenizer, schema, &trained.held_out, longest)?;
    let mut training = toml::Table::try_from(&trained.config).map_err(|e| Error::Form(e.to_string()))?;
    for (_, value) in training.iter_mut() {
        if let toml::Value::Float(value) = value {
            // As it was written, not as the nearest float32 looks in float64.
            *value = (*value as f32).to_string().parse().unwrap_or(*value);
        }
    }
    write(&network, tokenizer, schema, about, longest, temperatures, training, scores, folder)
}

/// Writes a small untrained package, whose answers mean nothing: for tests, and to measure what surrounds the model.
///
/// # Errors
/// [`Error::File`].
pub fn export_untrained(
    schema: &LabelSchema,
    precision: Precision,
    seed: u64,
    folder: &Path,
) -> Result<(Network, Tokenizer), Error> {
    let words = [
        "disc",
        "bulge",
        "protrusion",
        "extrusion",
        "mild",
        "moderate",
        "severe",
        "left",
        "right",
        "canal",
        "stenosis",
        "no",
    ];
    let tokenizer = pretrained::tokenizer_of(&words).map_err(Error::Form)?;
    let config =
        Config { vocabulary: tokenizer.get_vocab_size(true), positions: 64, width: 32, layers: 2, heads: 4, inner: 64 };
    let mut state = seed;
    let network = Network::random(&config, schema, || {
        state = mix(state);
        // Uniform with a standard deviation of one.
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 3.464
    });
    let about =
        About { name: "untrained".into(), version: "0.0.0".into(), encoder: "none".into(), precision, note: None };
    let ones = schema.tasks().iter().map(|task| (task.name.clone(), 1.0)).collect();
    let (training, scores) = (toml::Table::new(), toml::Table::new());
    write(&network, &tokenizer, schema, &about, config.positions, ones, training, scores, folder)?;
    Ok((rounded(&network, precision), tokenizer))
}

#[expect(clippy::too_many_arguments, reason = "each is one part of the package")]
fn write(
    network: &Network,
    tokenizer: &Tokenizer,
    schema: &LabelSchema,
    about: &About,
    max_tokens: usize,
    calibration: BTreeMap<String, f32>,
    training: toml::Table,
    scores: toml::Table,
    folder: &Path,
) -> Result<Manifest, Error> {
    let failed = |name: &str| {
        let path = folder.join(name);
        move |source| Error::File { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(""))?;
    let mut manifest = Manifest {
        name: about.name.clone(),
        version: about.version.clone(),
        schema: schema.id(),
        encoder: about.encoder.clone(),
        layers: network.encoder.config.layers,
        width: network.encoder.config.width,
        max_tokens,
        precision: about.precision.to_string(),
        files: BTreeMap::new(),
        calibration,
        training,
        scores,
    };
    let json = tokenizer.to_string(false).map_err(|e| Error::Form(e.to_string()))?;
    let parts = [
        ("model.onnx", to_onnx(network, schema, about.precision)),
        ("tokenizer.json", json.into_bytes()),
        ("labels.toml", schema.to_toml().into_bytes()),
        ("README.md", card(&manifest, schema, about.note.as_deref()).into_bytes()),
    ];
    for (name, content) in parts {
        std::fs::write(folder.join(name), content).map_err(failed(name))?;
        let digest = sha256(&folder.join(name)).map_err(failed(name))?;
        manifest.files.insert(name.into(), digest);
    }
    // Last, so that a package is whole once it has its manifest.
    let text = toml::to_string(&manifest).map_err(|e| Error::Form(e.to_string()))?;
    std::fs::write(folder.join(MANIFEST), text).map_err(failed(MANIFEST))?;
    Ok(manifest)
}

/// Temperature of each task by which the held-out logits are best calibrated: the least negative log-likelihood (Guo et al., 2017).
fn temperatures(
    network: &Network,
    tokenizer: &Tokenizer,
    schema: &LabelSchema,
    held_out: &[Report],
    longest: usize,
) -> Result<BTreeMap<String, f32>, Error> {
    let gold = fit::gold(schema, held_out).map_err(fit::Error::Labels)?;
    let mut rows: Vec<Vec<(Vec<f32>, u8)>> = vec![Vec::new(); schema.tasks().len()];
    for report in held_out {
        for segment in report::segments(&report.text) {
            let Some(grades) = gold.get(&(report.id.clone(), segment.level.to_string())) else { continue };
            let ids = examples::encode(tokenizer, &segment.input, longest);
            let pass = network.forward(Batch::new([ids.as_slice()]), 0.0, 0);
            for ((rows, logits), grade) in rows.iter_mut().zip(pass.logits()).zip(grades) {
                rows.push((logits.row(0).to_vec(), *grade));
            }
        }
    }
    let loss = |rows: &[(Vec<f32>, u8)], temperature: f32| -> f64 {
        let one = |(logits, grade): &(Vec<f32>, u8)| {
            let mut p: Vec<f32> = logits.iter().map(|l| l / temperature).collect();
            softmax(&mut p);
            -f64::from(p[*grade as usize].max(1e-9)).ln()
        };
        rows.iter().map(one).sum()
    };
    let best = |rows: &[(Vec<f32>, u8)]| {
        // From 0.5 on: a task that the held-out rows never get wrong would otherwise be made certain of everything.
        let grid = (0..=60).map(|step| 0.5 * 1.035f32.powi(step));
        let losses = grid.map(|t| (t, loss(rows, t)));
        // Without held-out rows the logits stay as they are.
        if rows.is_empty() { 1.0 } else { losses.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(1.0, |(t, _)| t) }
    };
    Ok(schema.tasks().iter().zip(&rows).map(|(task, rows)| (task.name.clone(), best(rows))).collect())
}

fn card(manifest: &Manifest, schema: &LabelSchema, note: Option<&str>) -> String {
    let mut out = String::new();
    let Manifest { name, version, encoder, layers, width, precision, max_tokens, .. } = manifest;
    let _ = writeln!(out, "# {name} {version}\n");
    let _ = writeln!(
        out,
        "**Not a medical device.** The grades are a machine's reading of a report's text, for research and data processing. They are not for the care of a patient.\n"
    );
    let _ = writeln!(
        out,
        "A multi-task transformer that reads the evidence of one motion segment in a spine MRI report in English and gives one grade for each task of the label schema `{}`.\n",
        schema.id()
    );
    let _ = writeln!(
        out,
        "- Encoder: {encoder}, {layers} layers of width {width}, shared by all tasks; a head for each task; window {max_tokens} tokens; weights {precision}."
    );
    let count = |key: &str| manifest.training.get(key).map_or("none".into(), toml::Value::to_string);
    if manifest.training.is_empty() {
        let _ = writeln!(out, "- Untrained: its answers mean nothing.");
    } else {
        let _ = writeln!(
            out,
            "- Trained on reports that were written and annotated for this project ({}; nobody's patients), and on {} synthetic reports an epoch from the seeded grammar in `corpus/grammar`. No real report was learnt from.",
            count("data"),
            count("synthetic")
        );
        let _ = writeln!(out, "- Train it again: `make model`. All settings are under `[training]` in `package.toml`.");
    }
    let _ = writeln!(
        out,
        "- Limits: English; MRI reports of the spine; one reading of each report. A score is the calibrated probability of the grade on text like the held-out reports; on other text it may be off.\n"
    );
    if !manifest.scores.is_empty() {
        let _ = writeln!(
            out,
            "| scored on | reports | rows | level F1 | macro-F1 | row accuracy |\n| --- | --- | --- | --- | --- | --- |"
        );
        for (name, table) in &manifest.scores {
            let cell = |key: &str| table.get(key).map_or("–".into(), toml::Value::to_string);
            let cells = ["reports", "rows", "level_f1", "macro_f1", "row_accuracy"].map(cell).join(" | ");
            let _ = writeln!(out, "| {name} | {cells} |");
        }
        let _ = writeln!(
            out,
            "\nLevel F1: were the right motion segments found. Macro-F1: the mean over tasks of the mean F1 over grades that occur five times or more. Row accuracy: share of rows of which every grade is right."
        );
    }
    if let Some(note) = note {
        let _ = writeln!(out, "\n{note}");
    }
    let _ = writeln!(out, "\n## Tasks\n");
    for task in schema.tasks() {
        let _ = writeln!(out, "- `{}`: {} ({})", task.name, task.description, task.grades.join(", "));
    }
    out
}

/// The mean token state of each input after the embeddings and each layer, `layers + 1` matrices `[inputs, width]`, as the package's
/// output `hidden_states` gives them.
pub fn hidden_states(network: &Network, tokenizer: &Tokenizer, inputs: &[&str]) -> Vec<Matrix> {
    let ids: Vec<Vec<u32>> =
        inputs.iter().map(|input| examples::encode(tokenizer, input, network.encoder.config.positions)).collect();
    network.forward(Batch::new(ids.iter().map(Vec::as_slice)), 0.0, 0).pooled()
}
