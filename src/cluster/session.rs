//! `foramen sql --workers`: a session that plans for workers, and statements that are whole or not at all.

use super::codec::{Codec, desired, shared_out};
use super::{Cluster, Error};
use crate::hl7;
use crate::sql::{self, Format, Runner, Runs};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, plan_err};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::dml::CopyTo;
use datafusion::logical_expr::{LogicalPlan, Statement};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_distributed::{DistributedExt, NetworkBoundaryExt, SessionStateBuilderExt};
use foramen_udfs::engine::ReportModel;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of an answer that are held back until it is whole; of a longer one the beginning is written before the end is known.
const HELD: usize = 64 << 20;

/// A session as [`sql::context`] makes it, whose queries run on a cluster's workers. The model is asked by the planner only.
///
/// # Errors
/// When the session cannot be set up.
pub fn context(
    cluster: &Cluster,
    model: Arc<dyn ReportModel>,
    messages: hl7::Options,
) -> Result<SessionContext, DataFusionError> {
    let config = config(cluster)?.with_extension(Arc::new(Runs(Box::new(OnWorkers(cluster.clone())))));
    let context = sql::context(model, messages, config)?;
    plan_for_workers(&context);
    Ok(context)
}

/// What a coordinator's session knows.
pub(super) fn config(cluster: &Cluster) -> Result<SessionConfig, DataFusionError> {
    SessionConfig::new()
        .with_distributed_worker_resolver(cluster.clone())
        .with_distributed_channel_resolver(cluster.channels.clone())
        .with_distributed_passthrough_headers(cluster.terms.headers()?)?
        .with_distributed_user_codec(Codec)
        .with_distributed_desired_task_count_handler(desired)
        .with_distributed_scale_up_leaf_node_handler(shared_out)
        .with_distributed_max_tasks_per_stage(cluster.tasks())?
        // Who names workers wants them to work, on few bytes too: a report takes a model longer than a disk.
        .with_distributed_file_scan_config_bytes_per_partition(1)
}

/// Gives the session the engine's planner. In place, since tables by file names know the session by its state.
pub(super) fn plan_for_workers(context: &SessionContext) {
    let state = context.state_ref();
    let mut state = state.write();
    let mut builder = SessionStateBuilder::new_from_existing(state.clone()).with_distributed_planner();
    if let Some(planner) = builder.query_planner().take() {
        builder = builder.with_query_planner(Arc::new(Sendable(planner)));
    }
    *state = builder.build();
}

/// A planner whose plans send nothing that would arrive as something else.
///
/// Arrow Flight 59 declares a list with offsets of 64 bits as one of 32, and sends the offsets as they are: it is read as other values, or as none.
#[derive(Debug)]
struct Sendable(Arc<dyn QueryPlanner + Send + Sync>);

#[async_trait]
impl QueryPlanner for Sendable {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let plan = self.0.create_physical_plan(plan, session).await?;
        plan.apply(|node| {
            if node.is_network_boundary()
                && let Some(field) = node.schema().fields().iter().find(|field| has_large_list(field.data_type()))
            {
                return plan_err!(
                    "{} is of type {}, which does not go from process to process unchanged; cast it with arrow_cast({}, 'List(…)'), or run the query without --workers",
                    field.name(),
                    field.data_type(),
                    field.name()
                );
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }
}

fn has_large_list(kind: &DataType) -> bool {
    match kind {
        DataType::LargeList(_) => true,
        DataType::List(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _)
        | DataType::RunEndEncoded(_, field) => has_large_list(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_large_list(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_large_list(field.data_type())),
        DataType::Dictionary(_, values) => has_large_list(values),
        _ => false,
    }
}

struct OnWorkers(Cluster);

impl Runner for OnWorkers {
    fn run<'a>(
        &'a self,
        context: &'a SessionContext,
        plan: LogicalPlan,
        format: Format,
        out: &'a mut dyn Write,
    ) -> LocalBoxFuture<'a, Result<(), sql::Error>> {
        let done = async move {
            let run = async || {
                // Each attempt writes to a place of its own.
                let (plan, target) = whole(plan.clone())?;
                let mut held = Held { waiting: Vec::new(), begun: false, out: &mut *out };
                match sql::run_plan(context, plan, format, &mut held).await {
                    Err(error @ sql::Error::Write(_)) => Err(error.into()),
                    Err(error) if held.begun => Err(Error::Torn(error.to_string())),
                    Err(error) => Err(error.into()),
                    Ok(()) => {
                        if let Some(target) = &target {
                            target.finish()?;
                        }
                        held.release().map_err(|error| sql::Error::Write(error).into())
                    }
                }
            };
            self.0.persist(run).await
        };
        done.map(|done| {
            done.map_err(|error| match error {
                Error::Sql(error) => error,
                error => sql::Error::Runner(error.into()),
            })
        })
        .boxed_local()
    }
}

/// The plan with what it writes under a hidden name, or why it can't be had whole or not at all.
fn whole(plan: LogicalPlan) -> Result<(LogicalPlan, Option<Target>), Error> {
    let refused = |what: &str, why: &str| Err(Error::Refused { what: what.into(), why: why.into() });
    match plan {
        LogicalPlan::Copy(copy) => {
            let (copy, target) = hidden(copy)?;
            Ok((LogicalPlan::Copy(copy), Some(target)))
        }
        LogicalPlan::Dml(_) => refused(
            "INSERT",
            "a worker that is lost would leave half of the rows behind; COPY (SELECT …) TO a file, which is there only once it is whole",
        ),
        LogicalPlan::Statement(Statement::SetVariable(set))
            if set.variable.starts_with("datafusion.execution.")
                && set.variable != "datafusion.execution.target_partitions" =>
        {
            refused(
                &format!("SET {}", set.variable),
                "workers would not know of it; leave it out, or run without workers",
            )
        }
        plan => Ok((plan, None)),
    }
}

/// Where `COPY … TO` writes, and what that is called when it is whole.
#[derive(Debug)]
struct Target {
    partial: PathBuf,
    path: PathBuf,
}

impl Target {
    fn finish(&self) -> Result<(), Error> {
        // A query without rows may write no file.
        if !self.partial.exists() {
            return Ok(());
        }
        let failed = |source| crate::archive::Error::Write { path: self.path.clone(), source };
        Ok(std::fs::rename(&self.partial, &self.path).map_err(failed)?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        remove(&self.partial);
    }
}

/// Takes away what is left of an output, if anything is.
pub(super) fn remove(path: &Path) {
    // A worker that does not know yet that it writes for nobody may begin another file meanwhile.
    for _ in 0..3 {
        // There is nobody to tell, and what stays is hidden.
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

/// A hidden name beside a path that no other run has, with its extension.
pub(super) fn beside(path: &Path) -> Option<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name()?.to_string_lossy().into_owned();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Some(path.with_file_name(format!(".partial-{}-{number}-{name}", std::process::id())))
}

fn hidden(mut copy: CopyTo) -> Result<(CopyTo, Target), Error> {
    let url = copy.output_url.clone();
    let local = url.strip_prefix("file://").unwrap_or(&url);
    if local.contains("://") {
        let why = "what is not a file of this machine's can't be renamed when it is whole; COPY to a path".to_owned();
        return Err(Error::Refused { what: format!("COPY TO {url}"), why });
    }
    let path = PathBuf::from(local);
    let is_folder = local.ends_with('/') || path.extension().is_none() || !copy.partition_by.is_empty();
    if is_folder && path.exists() || path.is_dir() {
        return Err(Error::Exists(path));
    }
    let Some(partial) = beside(&path) else { return Err(Error::Exists(path)) };
    copy.output_url = partial.to_string_lossy().into_owned() + if local.ends_with('/') { "/" } else { "" };
    Ok((copy, Target { partial, path }))
}

/// An answer that is held back until it is whole, or too long for that.
struct Held<'a> {
    waiting: Vec<u8>,
    begun: bool,
    out: &'a mut dyn Write,
}

impl Held<'_> {
    fn release(&mut self) -> io::Result<()> {
        self.out.write_all(&std::mem::take(&mut self.waiting))?;
        self.out.flush()
    }
}

impl Write for Held<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() > HELD {
            self.begun = true;
            self.release()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.begun { self.release() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn plan(sql: &str) -> LogicalPlan {
        let context = SessionContext::new();
        context.sql("CREATE TABLE t AS SELECT 1 AS a").await.unwrap();
        context.state().create_logical_plan(sql).await.unwrap()
    }

    #[tokio::test]
    async fn what_can_not_be_whole_is_refused() {
        for (sql, word) in [
            ("INSERT INTO t SELECT 2", "COPY"),
            ("SET datafusion.execution.time_zone = '+02:00'", "time_zone"),
            ("COPY (SELECT 1) TO 's3://bucket/x.parquet'", "renamed"),
            ("COPY (SELECT 1) TO '/tmp/' STORED AS parquet", "there already"),
        ] {
            let error = whole(plan(sql).await).unwrap_err().to_string();
            assert!(error.contains(word), "{sql}: {error}");
        }
        for sql in ["SELECT 1", "SET datafusion.execution.target_partitions = 3", "CREATE TABLE u AS SELECT 1"] {
            assert!(whole(plan(sql).await).unwrap().1.is_none(), "{sql}");
        }
    }

    #[tokio::test]
    async fn a_copy_is_written_under_a_hidden_name() {
        for (to, end) in [("/in/x.parquet", "-x.parquet"), ("/in/x.csv", "-x.csv"), ("/in/folder/", "-folder/")] {
            let stored = if end.ends_with('/') { " STORED AS parquet" } else { "" };
            let (plan, target) = whole(plan(&format!("COPY t TO '{to}'{stored}")).await).unwrap();
            let LogicalPlan::Copy(copy) = plan else { panic!() };
            assert!(
                copy.output_url.starts_with("/in/.partial-") && copy.output_url.ends_with(end),
                "{}",
                copy.output_url
            );
            assert_eq!(target.unwrap().path, PathBuf::from(to));
        }
    }

    #[test]
    fn a_short_answer_is_held_back_and_a_long_one_begun() {
        let mut out = Vec::new();
        let mut held = Held { waiting: Vec::new(), begun: false, out: &mut out };
        held.write_all(b"a").unwrap();
        held.flush().unwrap();
        assert!(!held.begun);
        held.write_all(&vec![b'b'; HELD]).unwrap();
        assert!(held.begun && held.waiting.is_empty());
        held.write_all(b"c").unwrap();
        held.release().unwrap();
        assert_eq!(out.len(), HELD + 2);
    }
}
