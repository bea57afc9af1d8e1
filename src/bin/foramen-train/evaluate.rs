use anyhow::Context;
use foramen::labels::LabelSchema;
use foramen::model::{Error, Finding, Graded, Model, Options, default_folder};
use foramen::train::behaviour::{self, Passed};
use foramen::train::calibration::{Scored, expected_calibration_error, withheld};
use foramen::train::data::{Report, read_jsonl};
use foramen::train::fit::gold;
use foramen::train::scores::{Rows, Scores};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// Score a model package on labelled reports.
///
/// Prints F1 a grade, macro-F1 and linearly weighted kappa a task, each task's confusion matrix (rows: annotated, columns: answered), level F1 and
/// row accuracy; how well scores are calibrated; and what withholding grades below a score (--min-score of `foramen label`) costs and gains.
///
/// Example: foramen-train evaluate my-reports.jsonl --model models/spine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Labelled reports, JSON lines of {"id", "text", "findings": {level: {task: grade}}}.
    #[arg(required_unless_present = "behaviour", value_name = "FILE.jsonl")]
    files: Vec<PathBuf>,
    /// A folder of behavioural tests, a file a capability (corpus/behaviour): prints how many pass.
    #[arg(long, value_name = "DIR")]
    behaviour: Option<PathBuf>,
    /// The model package [default: models/spine]
    #[arg(long, env = "FORAMEN_MODEL", value_name = "DIR")]
    model: Option<PathBuf>,
    /// One JSON object a file instead of tables.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let folder = args.model.unwrap_or_else(default_folder);
    let model = Model::open(&folder, &Options::default())?;
    let schema: &LabelSchema = model.package().labels();
    let mut out = io::stdout().lock();
    for path in &args.files {
        let reports = read_jsonl(path)?;
        let gold = gold(schema, &reports).with_context(|| path.display().to_string())?;
        let answers = answers(&model, &reports)?;
        let scores = Scores::new(schema, &gold, &rows(&answers));
        // Where the segment is annotated.
        let annotated = answers.iter().filter_map(|(key, graded)| Some(gold.get(key)?.iter().zip(graded)));
        let scored = |(right, graded): (&u8, &Graded)| Scored {
            score: f64::from(graded.score),
            right: graded.grade == Some(*right),
        };
        let scored: Vec<Scored> = annotated.flatten().map(scored).collect();
        let (error, withheld) = (expected_calibration_error(&scored), withheld(&scored));
        if args.json {
            let kept = withheld.iter().map(|kept| [Some(kept.threshold), Some(kept.coverage), kept.accuracy]);
            let line = serde_json::json!({ "file": path, "model": model.id(), "reports": reports.len(), "scores": scores,
                "calibration_error": error, "withheld": kept.collect::<Vec<_>>() });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{} ({} reports), model {}\n{}", path.display(), reports.len(), model.id(), scores.table())?;
            writeln!(
                out,
                "expected calibration error of the grades: {error:.4}\nmin-score  grades kept  of them right"
            )?;
            for kept in withheld {
                let accuracy = kept.accuracy.map_or("–".into(), |accuracy| format!("{accuracy:.4}"));
                writeln!(out, "{:>9.2}  {:>11.4}  {accuracy:>13}", kept.threshold, kept.coverage)?;
            }
        }
    }
    if let Some(folder) = &args.behaviour {
        let suite = behaviour::read(folder, schema)?;
        let passed = behaviour::judge(&suite, |reports| answers(&model, reports).map(|answers| rows(&answers)))?;
        for Passed { capability, passed, cases, failed } in &passed {
            if args.json {
                let line =
                    serde_json::json!({ "capability": capability, "passed": passed, "cases": cases, "failed": failed });
                writeln!(out, "{line}")?;
            } else {
                writeln!(out, "{capability:<14} {passed:>3} of {cases:>3}  {}", failed.join(" "))?;
            }
        }
        if !args.json {
            let sum = |of: fn(&Passed) -> usize| passed.iter().map(of).sum::<usize>();
            writeln!(out, "{:<14} {:>3} of {:>3}", "all", sum(|p| p.passed), sum(|p| p.cases))?;
        }
    }
    Ok(())
}

/// What the model says of each motion segment, by report id and level.
fn answers(model: &Model, reports: &[Report]) -> Result<BTreeMap<(String, String), Vec<Graded>>, Error> {
    let texts: Vec<&str> = reports.iter().map(|report| report.text.as_str()).collect();
    let found = model.findings(&texts)?;
    let of_report = |(report, findings): (&Report, Vec<Finding>)| {
        let id = report.id.clone();
        findings.into_iter().map(move |found| ((id.clone(), found.segment.level.to_string()), found.grades))
    };
    Ok(reports.iter().zip(found).flat_map(of_report).collect())
}

fn rows(answers: &BTreeMap<(String, String), Vec<Graded>>) -> Rows {
    let grades = |graded: &Vec<Graded>| graded.iter().map(|graded| graded.grade.unwrap_or(0)).collect();
    answers.iter().map(|(key, graded)| (key.clone(), grades(graded))).collect()
}
