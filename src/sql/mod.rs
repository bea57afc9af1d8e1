//! SQL over reports and messages: a DataFusion session with foramen's functions and tables, and what `foramen sql` does with it.
//!
//! [`context`] makes the session, [`register`] gives one that is there what foramen has. A [`SqlModel`] is opened by the first query that needs it, so that everything else works where
//! no model and no ONNX Runtime is. [`run`] runs statements, [`Console`] is the interactive shell without its terminal.

mod console;
mod engine;
mod findings;
mod output;

pub use console::{Console, Input};
#[cfg(feature = "distributed")]
pub(crate) use engine::segments;
pub use engine::{Hl7Reader, SqlModel};
pub use findings::finding_rows;
pub use output::Format;

use crate::hl7;
use datafusion::common::DataFusionError;
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::dialect::{GenericDialect, dialect_from_str};
use foramen_udfs::engine::{MessageReader, ReportModel};
use futures::future::LocalBoxFuture;
use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Why SQL could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement could not be read, planned or run.
    #[error("{}", .0.strip_backtrace())]
    Query(#[from] DataFusionError),
    /// Rows could not be brought into the format.
    #[error("the rows cannot be written: {0}")]
    Format(#[from] arrow::error::ArrowError),
    /// The output is gone.
    #[error("cannot write the rows: {0}")]
    Write(#[from] std::io::Error),
    /// A file of statements could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What runs the session's statements failed.
    #[error("{0}")]
    Runner(Box<dyn std::error::Error + Send + Sync>),
}

/// What runs the plans of statements where that is not the session alone: an extension of its configuration, as [`Runs`].
pub trait Runner: Send + Sync {
    /// Runs a plan and writes its rows.
    fn run<'a>(
        &'a self,
        context: &'a SessionContext,
        plan: LogicalPlan,
        format: Format,
        out: &'a mut dyn Write,
    ) -> LocalBoxFuture<'a, Result<(), Error>>;
}

/// The extension that holds a [`Runner`].
pub struct Runs(pub Box<dyn Runner>);

/// A session with every function of foramen, HL7 tables, the information schema, and files as tables by their names
/// (`SELECT … FROM 'reports.parquet'`). `messages` says how HL7 is read.
///
/// # Errors
/// When the session cannot be set up.
pub fn context(
    model: Arc<dyn ReportModel>,
    messages: hl7::Options,
    config: SessionConfig,
) -> Result<SessionContext, DataFusionError> {
    // No cache of listings: a table over a folder has the files that are there when it is queried.
    let caches = CacheManagerConfig::default().with_list_files_cache_limit(0);
    let runtime = RuntimeEnvBuilder::new().with_cache_manager(caches).build_arc()?;
    let mut config = config.with_information_schema(true);
    // A folder is read with the folders in it, as by `foramen label`.
    config.options_mut().execution.listing_table_ignore_subdirectory = false;
    let context = SessionContext::new_with_config_rt(config, runtime).enable_url_table();
    register(&context, model, messages)?;
    Ok(context)
}

/// Gives a session of any DataFusion application every function of foramen, and HL7 tables. `messages` says how HL7 is read.
///
/// # Errors
/// When the session has another file format of the name `hl7`.
pub fn register(
    context: &SessionContext,
    model: Arc<dyn ReportModel>,
    messages: hl7::Options,
) -> Result<(), DataFusionError> {
    let reader: Arc<dyn MessageReader> = Arc::new(Hl7Reader::new(messages));
    let state = context.state_ref();
    foramen_udfs::register_all(&mut *state.write(), &model, &reader)?;
    foramen_udfs::register_hl7_tables(&mut state.write(), &reader)?;
    foramen_udfs::register_sharing_tables(&mut state.write());
    Ok(())
}

/// Runs the statements of a text in order and writes their rows. Nothing is run unless all of it can be parsed.
///
/// # Errors
/// The first statement that fails ends it.
pub async fn run(context: &SessionContext, sql: &str, format: Format, out: &mut dyn Write) -> Result<(), Error> {
    for statement in parse(context, sql)? {
        let plan = context.state().statement_to_plan(statement).await?;
        match context.state().config().get_extension::<Runs>() {
            Some(runs) => runs.0.run(context, plan, format, out).await?,
            None => run_plan(context, plan, format, out).await?,
        }
    }
    Ok(())
}

/// Runs a plan in the session and writes its rows.
///
/// # Errors
/// When it fails, or its rows can't be written.
pub async fn run_plan(
    context: &SessionContext,
    plan: LogicalPlan,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Error> {
    output::write(context.execute_logical_plan(plan).await?, format, out).await
}

fn parse(context: &SessionContext, sql: &str) -> Result<VecDeque<Statement>, DataFusionError> {
    let name = context.state().config_options().sql_parser.dialect;
    let dialect = dialect_from_str(name).unwrap_or_else(|| Box::new(GenericDialect {}));
    DFParser::parse_sql_with_dialect(sql, dialect.as_ref())
}
