//! `foramen doctor`: what works here, and what to do about the rest.

#[cfg(feature = "kafka")]
use anyhow::Context;
use foramen::labels::LabelSchema;
use foramen::model::{Error, Finding, Model, Package, Runtime};
#[cfg(feature = "kafka")]
use foramen::stream::Config;
use std::io::Write;
#[cfg(feature = "kafka")]
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
#[cfg(feature = "kafka")]
use std::sync::Arc;
use std::time::Instant;

/// Say what works here, and what to do about the rest.
///
/// Loads ONNX Runtime, checks the model package, and has the model read a sentence on the device; with --config, asks the brokers of a
/// stream too. The exit status is 1 where something does not work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    placed: crate::Placed,
    /// The configuration of a stream: its brokers, topics and query are looked at too
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

const SENTENCE: &str = "L4-L5: Disc extrusion with severe spinal canal stenosis.";

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (folder, options) = (args.placed.folder(), args.placed.options());
    let cuda = if cfg!(feature = "cuda") { "with" } else { "without" };
    let mut out = std::io::stdout().lock();
    writeln!(out, "foramen {}, built {cuda} CUDA, {} threads", env!("CARGO_PKG_VERSION"), options.threads)?;
    let model = Model::open(&folder, &options);
    let package = Package::open(&folder).map(|package| format!("{} in {}", package.id(), folder.display()));
    #[cfg_attr(not(feature = "kafka"), allow(unused_mut))]
    let mut checks = vec![
        ("ONNX Runtime", runtime().map_err(|error| error.to_string())),
        ("model package", package.map_err(|error| error.to_string())),
        (
            "reading a sentence",
            model
                .as_ref()
                .map_err(ToString::to_string)
                .and_then(|model| read(model).map_err(|error| error.to_string())),
        ),
    ];
    #[cfg(feature = "kafka")]
    if let Some(path) = &args.config {
        checks.extend(stream(path, model.ok())?);
    }
    let mut works = true;
    let mut told: Vec<String> = Vec::new();
    for (name, outcome) in checks {
        match outcome {
            Ok(what) => writeln!(out, "ok      {name}: {what}")?,
            Err(error) => {
                works = false;
                // A check may fail for the same reason as one before.
                let reason = if told.contains(&error) { "not tried, for the reason above" } else { &error };
                writeln!(out, "FAILED  {name}: {}", reason.replace('\n', "\n        "))?;
                told.push(error);
            }
        }
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What there is to say of a stream.
#[cfg(feature = "kafka")]
fn stream(path: &Path, model: Option<Model>) -> anyhow::Result<Vec<(&'static str, Result<String, String>)>> {
    let config = match Config::open(path) {
        Ok(config) => config,
        Err(error) => return Ok(vec![("configuration", Err(error.to_string()))]),
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let checks = runtime.block_on(foramen::stream::check(&config, model.map(Arc::new)));
    Ok(checks.into_iter().map(|(name, outcome)| (name, outcome.map_err(|error| error.to_string()))).collect())
}

fn runtime() -> Result<String, Error> {
    let runtime = Runtime::load()?;
    let version = runtime.version.unwrap_or_else(|| "version unknown".into());
    Ok(format!("{version}, {}\n        {}", runtime.path.display(), runtime.build))
}

fn read(model: &Model) -> Result<String, Error> {
    let started = Instant::now();
    let findings = model.findings(&[SENTENCE])?;
    let took = started.elapsed().as_secs_f64() * 1e3;
    let findings: Vec<String> =
        findings.iter().flatten().map(|finding| tell(finding, model.package().labels())).collect();
    Ok(format!("{took:.0} ms on {}\n        \"{SENTENCE}\"\n        {}", model.provider(), findings.join("\n        ")))
}

/// The grades above the lowest.
fn tell(finding: &Finding, labels: &LabelSchema) -> String {
    let graded = labels.tasks().iter().zip(&finding.grades);
    let grades: Vec<String> = graded
        .filter_map(|(task, graded)| {
            let grade = graded.grade.filter(|grade| *grade > 0)?;
            Some((task, task.grades.get(usize::from(grade))?, graded.score))
        })
        .map(|(task, grade, score)| format!("{} {grade} ({score:.2})", task.name))
        .collect();
    format!("{}: {}", finding.segment.level, if grades.is_empty() { "nothing".into() } else { grades.join(", ") })
}
