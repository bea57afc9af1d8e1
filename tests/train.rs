//! Training and export through the public surface: a real run on a tiny encoder, and the graph's answers in ONNX Runtime.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use arrow::util::pretty::pretty_format_batches;
use foramen::labels::LabelSchema;
use foramen::model::{Model, Options, Runtime};
use foramen::sql::{SqlModel, context};
use foramen::train::analysis::Analysis;
use foramen::train::data::read_jsonl;
use foramen::train::encoder::{Batch, Config as Shape};
use foramen::train::export::{About, export, export_untrained, hidden_states};
use foramen::train::fit::{Config, Error, fit, logits, read_run};
use foramen::train::network::Network;
use foramen::train::study;
use foramen::train::{Precision, behaviour, checkpoint, examples, pretrained};
use ort::session::Session;
use ort::value::Tensor;
use std::collections::HashMap;
use std::path::Path;

const INPUTS: [&str; 3] = [
    "[TARGET] : mild disc bulge, severe left canal stenosis.",
    "at [OTHER] and [TARGET] moderate right stenosis. [CARRIED] no extrusion",
    "[TARGET]",
];

/// Logits of every task and hidden states, as ONNX Runtime gives them for padded rows.
fn answers(folder: &Path, ids: &[Vec<u32>]) -> HashMap<String, Vec<f32>> {
    let environment = Runtime::load().unwrap().environment;
    let mut session = Session::builder(&environment).unwrap().commit_from_file(folder.join("model.onnx")).unwrap();
    let longest = ids.iter().map(Vec::len).max().unwrap();
    let padded = |value: &dyn Fn(&u32) -> i64| -> Vec<i64> {
        ids.iter().flat_map(|row| row.iter().map(value).chain(vec![0; longest - row.len()])).collect()
    };
    let shape = [ids.len(), longest];
    let tokens = Tensor::from_array((shape, padded(&|id| i64::from(*id)))).unwrap();
    let mask = Tensor::from_array((shape, padded(&|_| 1))).unwrap();
    let found = session.run(ort::inputs!["input_ids" => tokens, "attention_mask" => mask]).unwrap();
    found
        .iter()
        .map(|(name, value)| (name.to_string(), value.try_extract_tensor::<f32>().unwrap().1.to_vec()))
        .collect()
}

fn assert_near(name: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{name}");
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-4, "{name}: {a} by the graph, {b} by the network");
    }
}

#[test]
fn the_graph_answers_as_the_network_does() {
    let schema = LabelSchema::spine();
    for precision in [Precision::Float32, Precision::Int8Weights] {
        let folder = tempfile::tempdir().unwrap();
        let (network, tokenizer) = export_untrained(&schema, precision, 5, folder.path()).unwrap();
        let ids: Vec<Vec<u32>> = INPUTS.iter().map(|input| examples::encode(&tokenizer, input, 64)).collect();
        let pass = network.forward(Batch::new(ids.iter().map(Vec::as_slice)), 0.0, 0);
        let found = answers(folder.path(), &ids);
        for (task, logits) in schema.tasks().iter().zip(pass.logits()) {
            let name = format!("logits_{}", task.name);
            assert!(logits.data.iter().any(|v| v.abs() > 0.01), "{name} says nothing");
            assert_near(&name, &found[&name], &logits.data);
        }
        let states = hidden_states(&network, &tokenizer, &INPUTS);
        let by_row: Vec<f32> =
            (0..INPUTS.len()).flat_map(|row| states.iter().flat_map(move |s| s.row(row).to_vec())).collect();
        assert_near("hidden_states", &found["hidden_states"], &by_row);
    }
}

#[test]
fn a_run_goes_on_from_a_package() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), LabelSchema::spine());
    for precision in [Precision::Float32, Precision::Int8Weights] {
        let package = folder.path().join(precision.to_string());
        let (network, _) = export_untrained(&schema, precision, 3, &package).unwrap();
        // A step of no size leaves the network that the package holds.
        let config = Config { rate: 0.0, head_rate: 0.0, epochs: 1, ..tiny_config(folder.path()) };
        let config = Config { from: Some(package.clone()), ..config };
        let run = folder.path().join(format!("run-{precision}"));
        let trained = fit(&config, &schema, &run, |_| {}).unwrap();
        for ((name, a), (_, b)) in network.parameters().iter().zip(trained.network.parameters()) {
            assert_eq!(a.data, b.data, "{name}");
        }
        // Without reports of its own to set them by, the temperatures are those of the package.
        let about =
            About { name: "further".into(), version: "2".into(), encoder: "tiny".into(), precision, note: None };
        let manifest = export(&trained, &schema, &about, &[], &[], &folder.path().join("further")).unwrap();
        assert!(manifest.calibration.values().all(|temperature| *temperature == 1.0));
    }
    let config = Config { from: Some(folder.path().join("nothing")), ..tiny_config(folder.path()) };
    let error = fit(&config, &schema, &folder.path().join("none"), |_| {}).err().unwrap();
    assert!(matches!(error, Error::Package(_)) && error.to_string().contains("package.toml"), "{error}");
}

#[test]
fn a_student_begins_with_layers_of_its_teacher_and_learns_its_answers() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), LabelSchema::spine());
    let package = folder.path().join("package");
    let (teacher, _) = export_untrained(&schema, Precision::Int8Weights, 3, &package).unwrap();
    let config = Config { teacher: Some(package.clone()), layers: Some(1), epochs: 1, ..tiny_config(folder.path()) };
    let still = Config { rate: 0.0, head_rate: 0.0, ..config.clone() };
    let start = fit(&still, &schema, &folder.path().join("still"), |_| {}).unwrap().network;
    assert_eq!(start.encoder.layers, teacher.encoder.layers[..1]);
    assert_eq!((start.encoder.config.layers, &start.heads), (1, &teacher.heads));
    // Whatever the grades are: what is learnt is what the teacher says.
    let learns = Config { taught: 1.0, epochs: 20, patience: 20, rate: 3e-3, head_rate: 3e-3, ..config.clone() };
    let student = fit(&learns, &schema, &folder.path().join("learns"), |_| {}).unwrap();
    let away = |network: &Network| -> f32 {
        let of = |network: &Network| logits(network, &student.tokenizer, &read_jsonl(&config.data[0]).unwrap());
        let (wanted, found) = (of(&teacher), of(network));
        wanted
            .iter()
            .flat_map(|(key, tasks)| tasks.iter().flatten().zip(found[key].iter().flatten()))
            .map(|(a, b)| (a - b).abs())
            .sum()
    };
    let (before, after) = (away(&start), away(&student.network));
    assert!(after < 0.85 * before, "{after} from the teacher's logits, {before} at the start");
    let error = Config { from: Some(package), ..config };
    let error = fit(&error, &schema, &folder.path().join("both"), |_| {}).err().unwrap().to_string();
    assert!(error.contains("from and teacher"), "{error}");
}

/// What a site does: `fit --data` and `export`, from a package and from an encoder.
#[test]
fn a_sites_reports_go_on_from_a_package_by_the_command() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), LabelSchema::spine());
    tiny_encoder(folder.path());
    let data = tiny_config(folder.path()).data.remove(0);
    let package = folder.path().join("package");
    export_untrained(&schema, Precision::Int8Weights, 3, &package).unwrap();
    let train = |arguments: &[&std::ffi::OsStr]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_foramen-train")).args(arguments).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let run = folder.path().join("run");
    let fit = |more: &[&std::ffi::OsStr]| {
        let _ = std::fs::remove_dir_all(&run);
        let mut all: Vec<&std::ffi::OsStr> =
            ["fit", "--epochs", "1", "--synthetic", "4", "--data"].map(AsRef::as_ref).into();
        all.extend([data.as_os_str(), "--output".as_ref(), run.as_os_str()]);
        all.extend(more);
        train(&all)
    };
    let (status, told) = fit(&["--from".as_ref(), package.as_os_str()]);
    assert_eq!(status, Some(0), "{told}");
    let trained = read_run(&run, &schema).unwrap();
    let own = Config::adapting(package.clone());
    assert_eq!((trained.config.from, trained.config.rate), (Some(package), own.rate));
    assert!(trained.held_out.is_empty() && trained.calibration.is_empty());
    let further = folder.path().join("further");
    let (status, told) = train(&["export".as_ref(), run.as_os_str(), "--output".as_ref(), further.as_os_str()]);
    assert_eq!(status, Some(0), "{told}");
    assert!(Model::open(&further, &Options::default()).is_ok());

    let (status, told) = fit(&["--encoder".as_ref(), folder.path().as_os_str()]);
    assert_eq!(status, Some(0), "{told}");
    let anew = read_run(&run, &schema).unwrap().config;
    assert_eq!((anew.from, anew.rate, anew.calibration), (None, Config::default().rate, vec![]));
    let (status, told) = fit(&["--task".as_ref(), "discs".as_ref(), "--encoder".as_ref(), folder.path().as_os_str()]);
    assert!(status == Some(1) && told.contains("discs"), "{told}");
}

#[test]
fn heads_alone_and_single_tasks_can_be_trained() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), LabelSchema::spine());
    tiny_encoder(folder.path());
    let config = Config { epochs: 1, tasks: vec!["disc".into()], ..tiny_config(folder.path()) };
    let train = |config: &Config, name: &str| fit(config, &schema, &folder.path().join(name), |_| {}).unwrap().network;
    let whole = train(&config, "task");
    let frozen = train(&Config { rate: 0.0, ..config.clone() }, "frozen");
    let start = train(&Config { rate: 0.0, head_rate: 0.0, ..config.clone() }, "start");
    assert_eq!(frozen.encoder, start.encoder);
    assert_ne!(whole.encoder, start.encoder);
    for network in [&whole, &frozen] {
        assert_ne!(network.heads.classifiers[0], start.heads.classifiers[0]);
        // No gradient reaches the others, and weight decay is all that moves them.
        let moved = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let (own, other) = (&network.heads.classifiers[1].weight.data, &start.heads.classifiers[1].weight.data);
        assert!(moved(own, other) < 1e-3, "{}", moved(own, other));
    }
    let wrong = Config { tasks: vec!["discs".into()], ..config };
    assert!(fit(&wrong, &schema, &folder.path().join("wrong"), |_| {}).err().unwrap().to_string().contains("discs"));
}

/// A BERT of two layers in the published form, and a corpus of two reports.
fn tiny_encoder(folder: &Path) {
    let words =
        ["disc", "bulge", "canal", "stenosis", "severe", "mild", "normal", "this", "other", "also", "left", "right"];
    let tokenizer = pretrained::tokenizer_of(&words).unwrap();
    tokenizer.save(folder.join("tokenizer.json"), false).unwrap();
    let vocabulary = tokenizer.get_vocab_size(true);
    let config = serde_json::json!({ "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 64, "hidden_act": "gelu" });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let shape = Shape { vocabulary, positions: 64, width: 16, layers: 2, heads: 2, inner: 32 };
    let mut state = 1u32;
    let network = Network::random(&shape, &LabelSchema::spine(), || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    });
    let e = &network.encoder;
    let mut named = vec![
        ("embeddings.word_embeddings.weight".to_string(), e.words.clone()),
        ("embeddings.position_embeddings.weight".into(), e.positions.clone()),
        ("embeddings.token_type_embeddings.weight".into(), foramen::train::Matrix::zeros(2, 16)),
        ("embeddings.LayerNorm.weight".into(), e.norm.gain.clone()),
        ("embeddings.LayerNorm.bias".into(), e.norm.bias.clone()),
    ];
    for (i, layer) in e.layers.iter().enumerate() {
        let mut add = |name: &str, matrix| named.push((format!("encoder.layer.{i}.{name}"), matrix));
        for part in ["query", "key", "value"] {
            add(&format!("attention.self.{part}.weight"), layer.out.weight.clone());
            add(&format!("attention.self.{part}.bias"), layer.out.bias.clone());
        }
        for (name, linear) in
            [("attention.output.dense", &layer.out), ("intermediate.dense", &layer.up), ("output.dense", &layer.down)]
        {
            add(&format!("{name}.weight"), linear.weight.transposed());
            add(&format!("{name}.bias"), linear.bias.clone());
        }
        for (name, norm) in [("attention.output.LayerNorm", &layer.norm1), ("output.LayerNorm", &layer.norm2)] {
            add(&format!("{name}.weight"), norm.gain.clone());
            add(&format!("{name}.bias"), norm.bias.clone());
        }
    }
    let borrowed: Vec<_> = named.iter().map(|(name, matrix)| (name.clone(), matrix)).collect();
    checkpoint::write(&folder.join("model.safetensors"), &borrowed, HashMap::new()).unwrap();
}

/// Two tests, of which what the tiny run learns can pass one.
fn suite(folder: &Path) -> Vec<behaviour::Capability> {
    let suite = folder.join("suite");
    std::fs::create_dir(&suite).unwrap();
    let right = r#"{"id":"a","texts":["L4-5: severe canal stenosis.","L4/L5: severe canal stenosis."],"findings":{"L4-L5":{"canal_stenosis":"severe"}}}"#;
    let wrong = r#"{"id":"b","texts":["L4-5: severe canal stenosis."],"findings":{"L3-L4":{}}}"#;
    std::fs::write(suite.join("canal.jsonl"), format!("{right}\n\n{wrong}\n")).unwrap();
    let read = behaviour::read(&suite, &LabelSchema::spine()).unwrap();
    std::fs::write(suite.join("canal.jsonl"), right.replace("severe\"}", "grave\"}")).unwrap();
    let error = behaviour::read(&suite, &LabelSchema::spine()).unwrap_err().to_string();
    assert!(error.contains("canal.jsonl, line 1") && error.contains("grave"), "{error}");
    read
}

fn tiny_config(folder: &Path) -> Config {
    let data = folder.join("reports.jsonl");
    let severe = r#"{"id":"a","text":"L4-5: severe canal stenosis.","findings":{"L4-L5":{"canal_stenosis":"severe"}}}"#;
    let normal = r#"{"id":"b","text":"L4-5: normal disc.","findings":{"L4-L5":{}}}"#;
    std::fs::write(&data, format!("{severe}\n{normal}\n")).unwrap();
    Config {
        data: vec![data],
        synthetic: 12,
        held_out: 0.0,
        encoder: folder.into(),
        vocabulary: 120,
        max_tokens: 64,
        epochs: 3,
        batch: 8,
        checkpoint_steps: 2,
        calibration: Vec::new(),
        ..Config::default()
    }
}

#[test]
fn a_stopped_run_resumes_to_the_weights_of_one_that_ran_through() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), LabelSchema::spine());
    tiny_encoder(folder.path());
    let config = tiny_config(folder.path());
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    let through = fit(&config, &schema, &whole, |_| {}).unwrap();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let halted = std::panic::catch_unwind(|| {
        fit(&config, &schema, &stopped, |line| assert!(!line.starts_with("epoch 2:"), "stopped here")).is_ok()
    });
    std::panic::set_hook(hook);
    assert!(halted.is_err());
    let mut lines = Vec::new();
    let resumed = fit(&config, &schema, &stopped, |line| lines.push(line.to_string())).unwrap();
    assert!(lines.iter().any(|line| line.starts_with("resumed in epoch 2")), "{lines:?}");
    assert!(resumed.network == through.network);

    let other = Config { seed: 2, ..config };
    assert!(matches!(fit(&other, &schema, &stopped, |_| {}), Err(Error::OtherRun(_))));
}

#[test]
fn a_run_learns_and_its_package_opens() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), LabelSchema::spine());
    tiny_encoder(folder.path());
    let config = Config {
        synthetic: 0,
        epochs: 60,
        batch: 2,
        rate: 3e-3,
        head_rate: 3e-2,
        patience: 60,
        dropout: 0.0,
        ..tiny_config(folder.path())
    };
    let run = folder.path().join("run");
    let mut losses = Vec::new();
    let learnt = fit(&config, &schema, &run, |line| losses.push(line.to_string())).unwrap();
    let package = folder.path().join("package");
    let about = About {
        name: "tiny".into(),
        version: "1.0.0".into(),
        encoder: "tiny".into(),
        precision: Precision::Float32,
        note: None,
    };
    let reports = foramen::train::data::read_jsonl(&config.data[0]).unwrap();
    let manifest =
        export(&learnt, &schema, &about, &[("own".into(), reports)], &suite(folder.path()), &package).unwrap();
    assert_eq!(manifest.scores["own"]["row_accuracy"].as_float(), Some(1.0), "{losses:?}");
    let reliable = &manifest.reliability["own"];
    assert_eq!(reliable["grades"][0]["kept"].as_float(), Some(1.0));
    assert!(reliable["error_after"].as_float().is_some_and(|error| (0.0..0.5).contains(&error)), "{reliable}");
    assert_eq!(manifest.reliability["behaviour"]["canal"].as_str(), Some("1/2"));
    let card = std::fs::read_to_string(package.join("README.md")).unwrap();
    assert!(card.contains("| canal | 1/2 |") && card.contains("min-score"), "{card}");

    let model = Model::open(&package, &Options::default()).unwrap();
    let findings = model.findings(&["L3-4: severe canal stenosis."]).unwrap();
    assert_eq!(findings[0][0].grades[schema.task("canal_stenosis").unwrap()].grade, Some(3));
    assert!(std::fs::read_to_string(package.join("README.md")).unwrap().contains("Not a medical device"));
    assert!(read_run(&run, &schema).unwrap().network == learnt.network);
}

#[test]
fn another_label_schema_gives_other_columns() {
    let folder = tempfile::tempdir().unwrap();
    tiny_encoder(folder.path());
    let text = "[schema]\nname = \"trauma\"\nversion = 1\n[[task]]\nname = \"fracture\"\ngrades = [\"none\", \"old\", \"new\"]\n";
    let schema = LabelSchema::parse(text).unwrap();
    let config = Config { synthetic: 0, epochs: 1, ..tiny_config(folder.path()) };
    let line = r#"{"id":"a","text":"L1-2: new fracture.","findings":{"L1-L2":{"fracture":"new"}}}"#;
    std::fs::write(&config.data[0], format!("{line}\n")).unwrap();
    let trained = fit(&config, &schema, &folder.path().join("run"), |_| {}).unwrap();
    let package = folder.path().join("package");
    let about = About {
        name: "trauma".into(),
        version: "1.0.0".into(),
        encoder: "tiny".into(),
        precision: Precision::Int8Weights,
        note: None,
    };
    export(&trained, &schema, &about, &[], &[], &package).unwrap();
    let model = Model::open(&package, &Options::default()).unwrap();
    assert_eq!(model.findings(&["L1-2: new fracture."]).unwrap()[0][0].grades.len(), 1);
}

#[test]
fn a_missing_encoder_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { encoder: folder.path().join("nothing"), ..tiny_config(folder.path()) };
    let error = fit(&config, &LabelSchema::spine(), &folder.path().join("run"), |_| {}).err().unwrap().to_string();
    assert!(error.contains("config.json") && error.contains("scripts/fetch.py encoder"), "{error}");
}

#[test]
fn a_run_stores_what_the_alignment_functions_ask() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), LabelSchema::spine());
    tiny_encoder(folder.path());
    let analysis = Analysis { every: 3, examples: 8, width: 64 };
    let config = Config { analysis: Some(analysis), ..tiny_config(folder.path()) };
    let run = folder.path().join("first-run");
    fit(&config, &schema, &run, |_| {}).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let model = std::sync::Arc::new(SqlModel::lazy("none", Options::default()));
    let context = context(model, Default::default(), Default::default()).unwrap();
    let asked = |sql: &str| {
        let sql = sql.replace("RUN", &run.display().to_string());
        let rows = runtime.block_on(async { context.sql(&sql).await.unwrap().collect().await.unwrap() });
        pretty_format_batches(&rows).unwrap().to_string()
    };
    // Two reports of one segment each, after the embeddings and after each of two layers.
    let embeddings = asked(
        "SELECT run, model, task, layer, count(*) AS rows, count(DISTINCT report_id) AS reports, min(array_length(embedding)) AS width
         FROM 'RUN/embeddings/' GROUP BY run, model, task, layer ORDER BY layer",
    );
    let line = |layer: usize| format!("| first-run | multi | multi | {layer}     | 2    | 2       | 16    |");
    assert_eq!(
        embeddings.lines().filter(|l| l.starts_with("| first")).collect::<Vec<_>>(),
        [line(0), line(1), line(2)]
    );
    // A gradient of every task and layer, every third step from the first on.
    let gradients = asked(
        "SELECT count(DISTINCT task) AS tasks, count(DISTINCT layer) AS layers, min(step) AS first, max(step) % 3 AS rest,
                count(*) = count(DISTINCT step) * 9 * 3 AS whole, count(DISTINCT step) > 1 AS several FROM 'RUN/gradients/'",
    );
    assert!(gradients.contains("| 9     | 3      | 0     | 0    | true  | true    |"), "{gradients}");
    // The question they are stored for.
    let cosines = asked(
        "SELECT a.layer, gradient_cosine(a.gradient, b.gradient) BETWEEN -1 AND 1 AS cosine, gradient_cosine(a.gradient, a.gradient) > 0.999 AS own
         FROM 'RUN/gradients/' AS a JOIN 'RUN/gradients/' AS b ON a.step = b.step AND a.layer = b.layer
         WHERE a.task = 'disc' AND b.task = 'canal_stenosis' GROUP BY a.layer ORDER BY a.layer",
    );
    assert_eq!(cosines.matches("| true   | true |").count(), 3, "{cosines}");
}

#[test]
fn a_study_trains_compares_resumes_and_draws() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), LabelSchema::spine());
    tiny_encoder(folder.path());
    let own = folder.path().join("own.jsonl");
    let line = r#"{"id":"a","text":"L4-5: severe canal stenosis.","findings":{"L4-L5":{"canal_stenosis":"severe"}}}"#;
    std::fs::write(&own, format!("{line}\n")).unwrap();
    let config = study::Config {
        regions: vec!["lumbar".into()],
        seeds: vec![1, 2],
        reports: 90,
        held_out: 40,
        test: vec![own],
        pairs: 7,
        encoder: folder.path().into(),
        layers: 2,
        vocabulary: 120,
        max_tokens: 64,
        steps: 4,
        every: 2,
        width: 64,
        embedded: 40,
        examples: 16,
        ..study::Config::default()
    };
    let output = folder.path().join("study");
    let mut lines = Vec::new();
    let whole = study::study(&config, &schema, &output, |line| lines.push(line.to_string())).unwrap();
    let tasks = whole.tasks("lumbar").to_vec();
    assert!(tasks.len() >= 6 && tasks.ends_with(&[study::STYLE.into(), study::SHUFFLED.into()]), "{tasks:?}");
    // For each seed two shared networks and one of each task; pairs of the first seed.
    assert_eq!((whole.networks, lines.len()), (2 * (2 + tasks.len()) + 7, 2 * (2 + tasks.len()) + 7));
    let disc = whole.results.iter().find(|r| r.task == "disc" && r.set == "synthetic").unwrap();
    let multi = disc.multi.unwrap();
    assert!((0.0..=1.0).contains(&multi.estimate) && multi.lower <= multi.estimate && multi.estimate <= multi.upper);
    assert!((disc.gain.unwrap().estimate - (multi.estimate - disc.single.estimate)).abs() < 1e-9);
    assert!(whole.results.iter().filter(|r| r.control).all(|r| r.multi.is_none() && r.all.is_some()));
    let pairs = tasks.len() * (tasks.len() - 1) / 2;
    let measured = |p: &&study::Pair| p.cosine.is_some() && p.similarity.is_some() && p.look_ahead.is_some();
    assert_eq!(whole.pairs.iter().filter(measured).count(), pairs);
    assert_eq!(whole.pairs.iter().filter(|p| p.gain.is_some()).count(), 7);
    assert!(whole.rules.iter().any(|r| r.measure == "cosine" && r.truth == "look-ahead" && r.pairs == pairs));

    // Stopped before some networks were finished: only these are trained again, to the same answers.
    for name in ["lumbar-2.multi.json", "lumbar-1.disc.json"] {
        std::fs::remove_file(output.join("outcomes").join(name)).unwrap();
    }
    lines.clear();
    let resumed = study::study(&config, &schema, &output, |line| lines.push(line.to_string())).unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let scores = |s: &study::Summary| serde_json::to_string(&(&s.results, &s.pairs, &s.rules)).unwrap();
    assert_eq!(scores(&resumed), scores(&whole));
    let other = study::Config { steps: 5, ..config };
    assert!(matches!(study::study(&other, &schema, &output, |_| {}), Err(Error::OtherRun(_))));

    let page = study::page(&whole).unwrap();
    assert!(page.matches("<svg").count() >= 8 && !page.contains("NaN") && !page.contains("http-equiv"));
    assert!(!page.contains("src=") && !page.contains("<script"), "the page needs nothing else");
    assert!(
        whole.table().contains("what alignment foretells")
            && whole.table().contains("keep apart") | whole.table().contains("share")
    );
    let missing = study::summarise(folder.path()).err().unwrap().to_string();
    assert!(missing.contains("config.toml"), "{missing}");
}
