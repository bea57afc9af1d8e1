//! `foramen export`: finding rows in the forms of others.

use anyhow::Context;
use datafusion::prelude::SessionContext;
use foramen::archive::Pending;
use foramen::interchange::{CodeMap, FlatMap, Report, fhir, read};
use foramen::labels::LabelSchema;
use foramen::model::Options;
use foramen::sql::{self, SqlModel};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Write finding rows as the labels, codes and resources of others.
///
/// Reads what `foramen label` writes (Parquet, JSON lines, CSV, Arrow).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Forms:
  rsna2024   the label set of the RSNA 2024 Lumbar Spine Degenerative Classification: a CSV with its train.csv's columns, a row a report
             (the last version of each); a segment that the report does not name is an empty cell
  fhir       FHIR R4: a line of JSON a report, a transaction Bundle of the model (Device), an Observation a motion segment and a
             DiagnosticReport, labelled as asserted by artificial intelligence; with RadElement codes where they exist
  FILE.toml  a label table of your own, in the form of schemas/maps/rsna2024.toml

Examples:
  foramen export findings.parquet --to rsna2024 --output labels.csv
  foramen export findings.parquet --to fhir --output bundles.ndjson
  foramen export findings.parquet --to fhir --codes our-codes.toml --no-evidence --output bundles.ndjson

Code maps have the form of schemas/maps/radelement.toml; docs/export.md says more. Grades are a machine's reading of a report's text.")]
pub(crate) struct Args {
    /// Finding rows: Parquet, JSON lines, CSV or Arrow
    #[arg(required = true, value_name = "FINDINGS")]
    inputs: Vec<String>,
    /// The form: rsna2024, fhir, or a label table of your own
    #[arg(long, value_name = "FORM")]
    to: String,
    /// Where it goes; - for the screen
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Codes that stand beside foramen's own in FHIR; repeatable [default: RadElement]
    #[arg(long, value_name = "FILE.toml")]
    codes: Vec<PathBuf>,
    /// Leave the sentences that were read out of FHIR
    #[arg(long)]
    no_evidence: bool,
    /// A label schema instead of the built-in one
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
}

enum Form {
    Flat(FlatMap),
    Fhir(fhir::Options),
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let schema = args.schema.as_deref().map_or_else(|| Ok(LabelSchema::spine()), LabelSchema::read)?;
    let form = match args.to.as_str() {
        "fhir" => {
            let own = args.codes.iter().map(|path| CodeMap::open(path, &schema));
            let codes =
                if args.codes.is_empty() { vec![CodeMap::radelement()?] } else { own.collect::<Result<_, _>>()? };
            Form::Fhir(fhir::Options { codes, no_evidence: args.no_evidence })
        }
        "rsna2024" => Form::Flat(FlatMap::rsna2024(&schema)?),
        own if own.ends_with(".toml") => Form::Flat(FlatMap::open(Path::new(own), &schema)?),
        other => anyhow::bail!("{other:?} is no form; write rsna2024, fhir, or the name of a map ending in .toml"),
    };
    let model = SqlModel::lazy(PathBuf::new(), Options::default());
    let context = sql::context(Arc::new(model), Default::default(), Default::default())?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let stopped = crate::stopped()?;
    if args.output == Path::new("-") {
        let out = io::stdout().lock();
        runtime.block_on(write(&args.inputs, &schema, &form, &context, &stopped, out))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (pending, file) = Pending::create(&args.output)?;
    let written = write(&args.inputs, &schema, &form, &context, &stopped, BufWriter::new(file));
    let reports = runtime.block_on(written)?;
    pending.finish()?;
    writeln!(io::stderr(), "{reports} reports in {}", args.output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes all reports; says how many.
async fn write(
    inputs: &[String],
    schema: &LabelSchema,
    form: &Form,
    context: &SessionContext,
    stopped: &AtomicBool,
    mut out: impl Write,
) -> anyhow::Result<usize> {
    let mut reports = 0;
    let go_on = || {
        anyhow::ensure!(!stopped.load(Ordering::Relaxed), "it was stopped, and wrote nothing");
        Ok(())
    };
    match form {
        Form::Fhir(options) => {
            for input in inputs {
                let each = |report: Report| -> anyhow::Result<()> {
                    go_on()?;
                    reports += 1;
                    Ok(writeln!(out, "{}", fhir::bundle(&report, schema, options))?)
                };
                read(context, input, schema, each).await?;
            }
        }
        Form::Flat(map) => {
            let mut table = csv::Writer::from_writer(&mut out);
            table.write_record(map.header())?;
            for input in inputs {
                // The last version of a report counts; its versions come one after the other.
                let mut last: Option<Report> = None;
                let each = |report: Report| -> anyhow::Result<()> {
                    go_on()?;
                    let id = report.report_id.clone();
                    if let Some(earlier) = last.replace(report).filter(|earlier| earlier.report_id != id) {
                        reports += 1;
                        table.write_record(map.row(&earlier))?;
                    }
                    Ok(())
                };
                read(context, input, schema, each).await?;
                if let Some(report) = last {
                    reports += 1;
                    table.write_record(map.row(&report))?;
                }
            }
            table.flush()?;
        }
    }
    out.flush()?;
    Ok(reports)
}
