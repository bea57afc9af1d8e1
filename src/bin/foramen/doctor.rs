//! `foramen doctor`: what works here, and what to do about the rest.

use foramen::labels::LabelSchema;
use foramen::model::{Device, Error, Finding, Model, Options, Package, Runtime, default_folder};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Say what works here, and what to do about the rest.
///
/// Loads ONNX Runtime, checks the model package, and has the model read a sentence on the device. The exit status is 1 where
/// `foramen label` could not run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model package [default: models/spine here or above, or beside the program]
    #[arg(long, value_name = "DIR", env = "FORAMEN_MODEL")]
    model: Option<PathBuf>,
    /// Where the model is to run: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
}

const SENTENCE: &str = "L4-L5: Disc extrusion with severe spinal canal stenosis.";

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let folder = args.model.unwrap_or_else(default_folder);
    let options = Options { device: args.device, ..Options::default() };
    let cuda = if cfg!(feature = "cuda") { "with" } else { "without" };
    let mut out = std::io::stdout().lock();
    writeln!(out, "foramen {}, built {cuda} CUDA, {} threads", env!("CARGO_PKG_VERSION"), options.threads)?;
    let checks = [
        ("ONNX Runtime", runtime()),
        ("model package", Package::open(&folder).map(|package| format!("{} in {}", package.id(), folder.display()))),
        ("reading a sentence", Model::open(&folder, &options).and_then(|model| read(&model))),
    ];
    let mut works = true;
    let mut told: Vec<String> = Vec::new();
    for (name, outcome) in checks {
        match outcome {
            Ok(what) => writeln!(out, "ok      {name}: {what}")?,
            Err(error) => {
                works = false;
                let error = error.to_string();
                // The last check fails for the same reason as the one before.
                let reason = if told.contains(&error) { "not tried, for the reason above" } else { &error };
                writeln!(out, "FAILED  {name}: {}", reason.replace('\n', "\n        "))?;
                told.push(error);
            }
        }
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
    Ok(format!("{took:.0} ms on {}\n        \"{SENTENCE}\"\n        {}", model.device(), findings.join("\n        ")))
}

/// The grades above the lowest.
fn tell(finding: &Finding, labels: &LabelSchema) -> String {
    let graded = labels.tasks().iter().zip(&finding.grades).filter(|(_, graded)| graded.grade > 0);
    let grades: Vec<String> = graded
        .filter_map(|(task, graded)| Some((task, task.grades.get(usize::from(graded.grade))?, graded.score)))
        .map(|(task, grade, score)| format!("{} {grade} ({score:.2})", task.name))
        .collect();
    format!("{}: {}", finding.segment.level, if grades.is_empty() { "nothing".into() } else { grades.join(", ") })
}
