//! A trained network → a model package: the graph, tokenizer, labels, model card, and the manifest that vouches for them.

use super::behaviour::{self, Capability};
use super::calibration::{self, Answers, Scored, expected_calibration_error};
use super::data::Report;
use super::encoder::{Batch, Config};
use super::examples;
use super::fit::{self, Logits, Trained};
use super::graph::{Precision, rounded, to_int8_onnx, to_onnx};
use super::math::{Matrix, mix};
use super::network::Network;
use super::pretrained;
use super::scores::{Rows, Scores};
use crate::labels::LabelSchema;
use crate::model::{GRAPH, INT8_GRAPH, MANIFEST, Manifest, Package, sha256};
use std::collections::{BTreeMap, BTreeSet};
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

/// Writes the package of a training run to `folder`, scored on labelled files (name, reports) and a behavioural suite as its graph will answer.
///
/// # Errors
/// [`Error`] says which file, and why.
pub fn export(
    trained: &Trained,
    schema: &LabelSchema,
    about: &About,
    files: &[(String, Vec<Report>)],
    suite: &[Capability],
    folder: &Path,
) -> Result<Manifest, Error> {
    let network = rounded(&trained.network, about.precision);
    let tokenizer = &trained.tokenizer;
    let answers = |reports: &[Report]| -> Result<(Rows, Logits), Error> {
        let gold = fit::gold(schema, reports).map_err(fit::Error::Labels)?;
        Ok((gold, fit::logits(&network, tokenizer, reports)))
    };
    // Reports by other writers than those learnt from, where there are any, say best how sure the model may be.
    let judges = if trained.calibration.is_empty() { &trained.held_out } else { &trained.calibration };
    let (judged, judging) = answers(judges)?;
    let (temperatures, mut reliability) = match (&trained.config.from, judges.is_empty()) {
        (Some(folder), true) => {
            (Package::open(folder).map_err(fit::Error::from)?.manifest().calibration.clone(), toml::Table::new())
        }
        _ => calibrate(schema, &judged, &judging),
    };
    let mut scores = toml::Table::new();
    let own = [
        ("held-out written reports", &trained.held_out, false),
        ("reports by another writer", &trained.calibration, false),
    ];
    // What was given has set nothing, so that it can say how far the scores are to be trusted.
    let given = files.iter().map(|(name, reports)| (name.as_str(), reports, true));
    for (name, reports, apart) in own.into_iter().chain(given).filter(|(_, reports, _)| !reports.is_empty()) {
        let (gold, logits) = answers(reports)?;
        let found = Scores::new(schema, &gold, &fit::grades(&logits));
        let mut table = toml::Table::new();
        table.insert("reports".into(), toml::Value::Integer(reports.len() as i64));
        table.insert("rows".into(), toml::Value::Integer(gold.len() as i64));
        table.insert("level_f1".into(), figure(found.level_f1));
        table.insert("macro_f1".into(), figure(found.macro_f1));
        table.insert("row_accuracy".into(), figure(found.row_accuracy));
        scores.insert(name.into(), table.into());
        if apart {
            reliability.insert(name.into(), reliable(schema, &gold, &logits, &temperatures).into());
        }
    }
    let judged =
        behaviour::judge(suite, |reports| -> Result<Rows, Error> { Ok(fit::answer(&network, tokenizer, reports)) })?;
    if !judged.is_empty() {
        let share = |passed: &behaviour::Passed| format!("{}/{}", passed.passed, passed.cases);
        let table = judged.iter().map(|passed| (passed.capability.clone(), toml::Value::String(share(passed))));
        reliability.insert("behaviour".into(), toml::Value::Table(table.collect()));
    }
    let mut training = toml::Table::try_from(&trained.config).map_err(|e| Error::Form(e.to_string()))?;
    for (_, value) in training.iter_mut() {
        if let toml::Value::Float(value) = value {
            // As it was written, not as the nearest float32 looks in float64.
            *value = (*value as f32).to_string().parse().unwrap_or(*value);
        }
    }
    write(&network, tokenizer, schema, about, temperatures, reliability, training, scores, folder)
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
    write_untrained("untrained", &network, &tokenizer, schema, precision, folder)?;
    Ok((rounded(&network, precision), tokenizer))
}

/// Writes a package that reads as another does, with another number of layers, whose answers mean nothing: to measure what layers cost.
///
/// # Errors
/// [`Error`], where the other package can't be read or this one can't be written.
pub fn export_resized(
    from: &Path,
    schema: &LabelSchema,
    layers: usize,
    precision: Precision,
    folder: &Path,
) -> Result<(), Error> {
    let (mut network, tokenizer) = fit::from_package(from, schema)?;
    network.encoder.layers = network.encoder.layers.iter().cycle().take(layers).cloned().collect();
    network.encoder.config.layers = layers;
    write_untrained("resized", &network, &tokenizer, schema, precision, folder)
}

/// A package without scores, whose answers mean nothing.
fn write_untrained(
    name: &str,
    network: &Network,
    tokenizer: &Tokenizer,
    schema: &LabelSchema,
    precision: Precision,
    folder: &Path,
) -> Result<(), Error> {
    let about = About { name: name.into(), version: "0.0.0".into(), encoder: "none".into(), precision, note: None };
    let ones = schema.tasks().iter().map(|task| (task.name.clone(), 1.0)).collect();
    let none = toml::Table::new;
    write(network, tokenizer, schema, &about, ones, none(), none(), none(), folder)?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "each is one part of the package")]
fn write(
    network: &Network,
    tokenizer: &Tokenizer,
    schema: &LabelSchema,
    about: &About,
    calibration: BTreeMap<String, f32>,
    reliability: toml::Table,
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
        max_tokens: network.window(),
        precision: about.precision.to_string(),
        files: BTreeMap::new(),
        calibration,
        reliability,
        training,
        scores,
    };
    let json = tokenizer.to_string(false).map_err(|e| Error::Form(e.to_string()))?;
    let graph = to_onnx(network, schema, about.precision);
    let int8 = (about.precision == Precision::Int8Weights).then(|| to_int8_onnx(network, schema, &graph));
    let parts = [
        (GRAPH, graph),
        ("tokenizer.json", json.into_bytes()),
        ("labels.toml", schema.to_toml().into_bytes()),
        ("README.md", card(&manifest, schema, about.note.as_deref()).into_bytes()),
    ];
    for (name, content) in parts.into_iter().chain(int8.map(|graph| (INT8_GRAPH, graph))) {
        std::fs::write(folder.join(name), content).map_err(failed(name))?;
        let digest = sha256(&folder.join(name)).map_err(failed(name))?;
        manifest.files.insert(name.into(), digest);
    }
    // Last, so that a package is whole once it has its manifest.
    let text = toml::to_string(&manifest).map_err(|e| Error::Form(e.to_string()))?;
    std::fs::write(folder.join(MANIFEST), text).map_err(failed(MANIFEST))?;
    Ok(manifest)
}

fn figure(value: f64) -> toml::Value {
    toml::Value::Float((value * 10_000.0).round() / 10_000.0)
}

/// Each task's logits and right grades, over the annotated segments that were found; `keep` says of which reports.
fn by_task(schema: &LabelSchema, gold: &Rows, logits: &Logits, keep: impl Fn(&str) -> bool) -> Vec<Answers> {
    let mut tasks: Vec<Answers> = vec![Vec::new(); schema.tasks().len()];
    for (key, rows) in logits.iter().filter(|((report, _), _)| keep(report)) {
        let Some(grades) = gold.get(key) else { continue };
        for ((answers, logits), grade) in tasks.iter_mut().zip(rows).zip(grades) {
            answers.push((logits.clone(), *grade));
        }
    }
    tasks
}

/// The temperature of each task, and the calibration errors before and after: measured on each half of the reports with the
/// temperatures of the other half, so that no report judges itself.
fn calibrate(schema: &LabelSchema, gold: &Rows, logits: &Logits) -> (BTreeMap<String, f32>, toml::Table) {
    let all = by_task(schema, gold, logits, |_| true);
    let names = schema.tasks().iter().map(|task| task.name.clone());
    let temperatures = names.clone().zip(all.iter().map(calibration::temperature)).collect();
    let reports: Vec<&String> = logits.keys().map(|(report, _)| report).collect::<BTreeSet<_>>().into_iter().collect();
    let half = |at: usize| {
        let own: BTreeSet<&str> = reports.iter().skip(at).step_by(2).map(|report| report.as_str()).collect();
        by_task(schema, gold, logits, |report| own.contains(report))
    };
    let (even, odd) = (half(0), half(1));
    let mut tasks = toml::Table::new();
    for (index, name) in names.enumerate() {
        let before = calibration::scored(&all[index], 1.0);
        let mut after = calibration::scored(&even[index], calibration::temperature(&odd[index]));
        after.extend(calibration::scored(&odd[index], calibration::temperature(&even[index])));
        let mut table = toml::Table::new();
        table.insert("error_before".into(), figure(expected_calibration_error(&before)));
        table.insert("error_after".into(), figure(expected_calibration_error(&after)));
        tasks.insert(name, table.into());
    }
    let mut table = toml::Table::new();
    if !gold.is_empty() {
        table.insert("tasks".into(), tasks.into());
    }
    (temperatures, table)
}

/// Calibration error and the gain of withholding on reports that set no temperature: over all grades, and over rows, a row's score being
/// its least one.
fn reliable(schema: &LabelSchema, gold: &Rows, logits: &Logits, temperatures: &BTreeMap<String, f32>) -> toml::Table {
    let tasks = by_task(schema, gold, logits, |_| true);
    let temperature = |index: usize| temperatures.get(&schema.tasks()[index].name).copied().unwrap_or(1.0);
    let at = |fitted: bool| -> Vec<Vec<Scored>> {
        let scored = |(index, answers)| calibration::scored(answers, if fitted { temperature(index) } else { 1.0 });
        tasks.iter().enumerate().map(scored).collect()
    };
    let (before, after) = (at(false), at(true));
    let rows = (0..after.first().map_or(0, Vec::len)).map(|row| {
        let of_row = after.iter().map(|task| task[row]);
        of_row.reduce(|a, b| Scored { score: a.score.min(b.score), right: a.right && b.right })
    });
    let rows: Vec<Scored> = rows.flatten().collect();
    let table_of = |answers: &[Scored]| {
        let lines = calibration::withheld(answers).into_iter().map(|kept| {
            let mut line = toml::Table::new();
            line.insert("min_score".into(), toml::Value::Float(kept.threshold));
            line.insert("kept".into(), figure(kept.coverage));
            line.extend(kept.accuracy.map(|accuracy| ("right".to_string(), figure(accuracy))));
            toml::Value::Table(line)
        });
        toml::Value::Array(lines.collect())
    };
    let mut table = toml::Table::new();
    table.insert("error_before".into(), figure(expected_calibration_error(&before.concat())));
    table.insert("error_after".into(), figure(expected_calibration_error(&after.concat())));
    table.insert("grades".into(), table_of(&after.concat()));
    table.insert("rows".into(), table_of(&rows));
    table
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
        if let Some(teacher) = manifest.training.get("teacher") {
            let _ = writeln!(
                out,
                "- A student of the package {teacher}: it began with some of its layers, and learnt its answers beside the grades."
            );
        }
        match manifest.training.get("from") {
            Some(package) => {
                let _ = writeln!(
                    out,
                    "- Trained on from the package {package} with the annotated reports {} and {} synthetic ones an epoch.",
                    count("data"),
                    count("synthetic")
                );
            }
            None => {
                let _ = writeln!(
                    out,
                    "- Trained on reports that were written and annotated for this project ({}; nobody's patients), and on {} synthetic reports an epoch from the seeded grammar in `corpus/grammar`. No real report was learnt from.",
                    count("data"),
                    count("synthetic")
                );
                let _ = writeln!(
                    out,
                    "- Train it again: `make model`. All settings are under `[training]` in `package.toml`."
                );
            }
        }
    }
    let _ = writeln!(
        out,
        "- Limits: English; MRI reports of the spine; one reading of each report. A score is the calibrated probability of the grade on text like that of the sets below; on other text it may be off.\n"
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
    reliability_of(&mut out, manifest);
    let _ = writeln!(out, "\n## Tasks\n");
    for task in schema.tasks() {
        let _ = writeln!(out, "- `{}`: {} ({})", task.name, task.description, task.grades.join(", "));
    }
    out
}

/// How far the scores can be trusted, for the card.
fn reliability_of(out: &mut String, manifest: &Manifest) {
    let cell = |table: &toml::Table, key: &str| table.get(key).map_or("–".into(), toml::Value::to_string);
    let tables = manifest.reliability.iter().filter_map(|(name, value)| Some((name, value.as_table()?)));
    for (name, table) in tables {
        if name == "tasks" {
            let _ = writeln!(
                out,
                "\n## Calibration\n\nExpected calibration error (15 bins) on the reports that set the temperatures, each half judged with the other half's.\n\n| task | temperature | error before | error after |\n| --- | --- | --- | --- |"
            );
            for (task, errors) in table.iter().filter_map(|(task, value)| Some((task, value.as_table()?))) {
                let temperature = manifest.calibration.get(task).copied().unwrap_or(1.0);
                let _ = writeln!(
                    out,
                    "| {task} | {temperature:.2} | {} | {} |",
                    cell(errors, "error_before"),
                    cell(errors, "error_after")
                );
            }
            continue;
        }
        if name == "behaviour" {
            let _ = writeln!(
                out,
                "\n## Behaviour\n\nThe tests in `corpus/behaviour` (written for this project): a test passes when all of its texts give exactly the right levels and grades.\n\n| capability | passed |\n| --- | --- |"
            );
            for (capability, passed) in table.iter().filter_map(|(name, value)| Some((name, value.as_str()?))) {
                let _ = writeln!(out, "| {capability} | {passed} |");
            }
            continue;
        }
        let _ = writeln!(
            out,
            "\nOn {name}: expected calibration error {} before, {} after. What `--min-score` keeps there, and how much of it is right:\n\n| min-score | grades kept | right | rows kept whole | right |\n| --- | --- | --- | --- | --- |",
            cell(table, "error_before"),
            cell(table, "error_after")
        );
        let lines = |key: &str| table.get(key).and_then(toml::Value::as_array).cloned().unwrap_or_default();
        for (grades, rows) in lines("grades").iter().zip(lines("rows")) {
            let (Some(grades), Some(rows)) = (grades.as_table(), rows.as_table()) else { continue };
            let cells = [
                cell(grades, "min_score"),
                cell(grades, "kept"),
                cell(grades, "right"),
                cell(rows, "kept"),
                cell(rows, "right"),
            ];
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }
}

/// The mean token state of each input after the embeddings and each layer, `layers + 1` matrices `[inputs, width]`, as the package's
/// output `hidden_states` gives them.
pub fn hidden_states(network: &Network, tokenizer: &Tokenizer, inputs: &[&str]) -> Vec<Matrix> {
    let ids: Vec<Vec<u32>> =
        inputs.iter().map(|input| examples::encode(tokenizer, input, network.encoder.config.positions)).collect();
    network.forward(Batch::new(ids.iter().map(Vec::as_slice)), 0.0, 0).pooled()
}
