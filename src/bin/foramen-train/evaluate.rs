use anyhow::Context;
use foramen::labels::LabelSchema;
use foramen::model::{Model, Options, default_folder};
use foramen::train::data::read_jsonl;
use foramen::train::fit::gold;
use foramen::train::scores::{Rows, Scores};
use std::io::{self, Write};
use std::path::PathBuf;

/// Score a model package on labelled reports.
///
/// Prints F1 a grade, macro-F1 and linearly weighted kappa a task, each task's confusion matrix (rows: annotated, columns: answered), level F1 and
/// row accuracy.
///
/// Example: foramen-train evaluate my-reports.jsonl --model models/spine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Labelled reports, JSON lines of {"id", "text", "findings": {level: {task: grade}}}.
    #[arg(required = true, value_name = "FILE.jsonl")]
    files: Vec<PathBuf>,
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
        let texts: Vec<&str> = reports.iter().map(|report| report.text.as_str()).collect();
        let mut said = Rows::new();
        for (report, findings) in reports.iter().zip(model.findings(&texts)?) {
            for finding in findings {
                let grades = finding.grades.iter().map(|graded| graded.grade).collect();
                said.insert((report.id.clone(), finding.segment.level.to_string()), grades);
            }
        }
        let scores = Scores::new(schema, &gold, &said);
        if args.json {
            let line =
                serde_json::json!({ "file": path, "model": model.id(), "reports": reports.len(), "scores": scores });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{} ({} reports), model {}\n{}", path.display(), reports.len(), model.id(), scores.table())?;
        }
    }
    Ok(())
}
