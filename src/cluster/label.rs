//! `foramen label --workers`: an archive in shards, labelled where the workers are, and a folder that is there only once it is whole.

use super::session::{beside, config, plan_for_workers, remove};
use super::worker::Serving;
use super::{Cluster, Error};
use crate::archive::{self, Output, OutputFormat, Pending, Progress, Reading, Source, Summary, label_sources, sources};
use arrow::array::{Array, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as QueryResult, exec_datafusion_err, exec_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, PlanProperties};
use datafusion::prelude::SessionContext;
use encoding_rs::Encoding;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Shards for each worker, so that one with slow files does not keep the others waiting for long.
const SHARDS: usize = 4;
/// What a file costs beside its bytes.
const FILE_BYTES: u64 = 16 << 10;
/// How often it is asked whether to stop.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is labelled on workers. All processes see the same files at the same paths.
#[derive(Debug, Clone)]
pub struct Labelling {
    /// Files, folders, patterns.
    pub inputs: Vec<String>,
    /// The folder that the rows go to, as `part-00000.parquet` …: it is not there yet. In the order of names they hold the rows in the order of a
    /// run without workers.
    pub output: PathBuf,
    /// Where rejects go, as JSON lines.
    pub rejects: PathBuf,
    /// How inputs are read; HL7 by the cluster's terms.
    pub reading: Reading,
}

/// Labels every report of the inputs on a cluster's workers. `progress` is called now and then; where it breaks, nothing of the output stays.
///
/// # Errors
/// Where it can't be done whole. An unreadable input is a reject and no error.
pub async fn label(
    cluster: &Cluster,
    job: &Labelling,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, Error> {
    if job.output.exists() {
        return Err(Error::Exists(job.output.clone()));
    }
    if job.inputs.iter().any(|input| input == "-") {
        let why = "workers can't read this process's; give files".to_owned();
        return Err(Error::Refused { what: "standard input".into(), why });
    }
    let sources = sources(&job.inputs, &[&job.rejects])?;
    let base = std::env::current_dir().map_err(|source| archive::Error::Folder { path: ".".into(), source })?;
    let mut summary = Summary::new(String::new());
    let (parts, partial) = cluster
        .persist(async || {
            let partial = Partial::create(&job.output)?;
            let work = Work::of(job, &base, partial.0.clone());
            let shards = shards(&sources, cluster.tasks() * SHARDS);
            let parts = run(cluster, LabelExec::new(work, shards.clone()), &sources, &mut progress).await?;
            check(&partial.0, &shards, &parts)?;
            Ok((parts, partial))
        })
        .await?;
    finish(job, &partial.0, parts.keys().copied())?;
    for part in parts.into_values() {
        if !part.provider.is_empty() {
            summary.provider.clone_from(&part.provider);
        }
        summary.add(part);
    }
    summary.finish();
    Ok(summary)
}

/// The hidden folder of one attempt, taken away unless it got its name.
struct Partial(PathBuf);

impl Partial {
    fn create(output: &Path) -> Result<Partial, Error> {
        let failed = |source| archive::Error::Write { path: output.into(), source };
        let partial = beside(output).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        std::fs::create_dir(&partial).map_err(failed)?;
        // Workers have other working folders.
        Ok(Partial(partial.canonicalize().map_err(failed)?))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Files in their order, in about as many parts of about equal bytes as are wanted; two at least, of which the second may be empty.
fn shards(sources: &[Source], wanted: usize) -> Vec<Shard> {
    let weight = |source: &Source| source.size().unwrap_or(0) + FILE_BYTES;
    let total = sources.iter().map(weight).sum::<u64>().max(1);
    let (mut before, mut last, mut shards) = (0, None, Vec::<Shard>::new());
    for source in sources {
        let place = u128::from(before) * wanted as u128 / u128::from(total);
        if last != Some(place) {
            shards.push(Shard { part: shards.len(), files: Vec::new() });
            last = Some(place);
        }
        if let (Some(shard), Source::File { name, .. }) = (shards.last_mut(), source) {
            shard.files.push((name.clone(), source.size()));
        }
        before += weight(source);
    }
    // The engine keeps what has one partition to the coordinator.
    if shards.len() < 2 {
        shards.push(Shard { part: shards.len(), files: Vec::new() });
    }
    shards
}

/// Runs the plan and gathers what the workers say they did, by part.
async fn run(
    cluster: &Cluster,
    plan: LabelExec,
    sources: &[Source],
    progress: &mut impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<BTreeMap<usize, Summary>, Error> {
    let context = SessionContext::new_with_config(config(cluster)?);
    plan_for_workers(&context);
    let sizes: Vec<u64> = plan.shards.iter().map(Shard::bytes).collect();
    let total = sources.iter().map(Source::size).sum();
    let mut rows = context.read_table(Arc::new(LabelTable(plan)))?.execute_stream().await?;
    let mut parts: BTreeMap<usize, Summary> = BTreeMap::new();
    let mut so_far = Progress { total, ..Progress::default() };
    loop {
        if progress(so_far).is_break() {
            return Err(archive::Error::Stopped.into());
        }
        let batch = match tokio::time::timeout(PATIENCE, rows.next()).await {
            Err(_) => continue,
            Ok(None) => return Ok(parts),
            Ok(Some(batch)) => batch?,
        };
        for row in 0..batch.num_rows() {
            let (part, summary) = told(&batch, row)?;
            so_far.bytes += sizes.get(part).copied().unwrap_or(0);
            so_far.reports += summary.reports;
            if parts.insert(part, summary).is_some() {
                return Err(Error::Counts(format!("part {part} was written twice")));
            }
        }
    }
}

/// Compares what was asked with what was told and with what is there.
fn check(folder: &Path, shards: &[Shard], parts: &BTreeMap<usize, Summary>) -> Result<(), Error> {
    let wrong = |reason: String| Err(Error::Counts(reason));
    if parts.len() != shards.len() {
        return wrong(format!("{} of {} parts came back", parts.len(), shards.len()));
    }
    for shard in shards {
        let part = shard.part;
        let Some(summary) = parts.get(&part) else { return wrong(format!("part {part} did not come back")) };
        if summary.files != shard.files.len() as u64 {
            return wrong(format!("part {part} is of {} files, and {} were read", shard.files.len(), summary.files));
        }
        if shard.files.is_empty() {
            continue;
        }
        let path = folder.join(rows_name(part));
        let rows = File::open(&path).ok().and_then(|file| {
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).ok()?;
            u64::try_from(reader.metadata().file_metadata().num_rows()).ok()
        });
        if rows != Some(summary.rows) {
            let found = rows.map_or("can't be read from here".to_owned(), |rows| format!("holds {rows}"));
            return wrong(format!(
                "part {part} has {} rows, and its file {found}; is the storage shared?",
                summary.rows
            ));
        }
    }
    // Scores of float32 and int8 differ in the third digit.
    let mut providers = parts.values().map(|summary| summary.provider.as_str()).filter(|provider| !provider.is_empty());
    let first = providers.next().unwrap_or_default();
    match providers.find(|provider| *provider != first) {
        Some(other) => wrong(format!(
            "one worker computed on {first} and another on {other}; give all the same --device and --arithmetic"
        )),
        None => Ok(()),
    }
}

/// Gives the folder its name, and the rejects theirs.
fn finish(job: &Labelling, partial: &Path, parts: impl Iterator<Item = usize>) -> Result<(), Error> {
    let unwritten = |path: &Path| {
        let path = path.to_path_buf();
        move |source| archive::Error::Write { path, source }
    };
    let mut rejects: Option<(Pending, File)> = None;
    for part in parts {
        let path = partial.join(rejects_name(part));
        let Ok(mut file) = File::open(&path) else { continue };
        if rejects.is_none() {
            rejects = Some(Pending::create(&job.rejects)?);
        }
        if let Some((_, all)) = &mut rejects {
            io::copy(&mut file, all).map_err(unwritten(&job.rejects))?;
        }
        std::fs::remove_file(&path).map_err(unwritten(&path))?;
    }
    std::fs::rename(partial, &job.output).map_err(unwritten(&job.output))?;
    match rejects {
        Some((pending, _)) => pending.finish()?,
        // Those of an earlier run.
        None => match std::fs::remove_file(&job.rejects) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritten(&job.rejects)(error).into()),
            _ => {}
        },
    }
    Ok(())
}

fn rows_name(part: usize) -> String {
    format!("part-{part:05}.parquet")
}

fn rejects_name(part: usize) -> String {
    format!("part-{part:05}.rejects.jsonl")
}

/// How files are read and where to: what every shard has in common.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Work {
    folder: PathBuf,
    base: PathBuf,
    format: Option<archive::InputFormat>,
    id_column: Option<String>,
    text_column: Option<String>,
    charset: Option<String>,
}

impl Work {
    fn of(job: &Labelling, base: &Path, folder: PathBuf) -> Work {
        let Reading { format, id_column, text_column, charset, .. } = job.reading.clone();
        let charset = charset.map(|charset| charset.name().to_owned());
        Work { folder, base: base.into(), format, id_column, text_column, charset }
    }
}

/// Files that become one part of the output, with their sizes as the coordinator sees them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Shard {
    part: usize,
    files: Vec<(PathBuf, Option<u64>)>,
}

impl Shard {
    fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|(_, size)| *size).sum()
    }
}

/// The leaf of the plan: a partition a shard, which yields one row when it is written. It runs on workers only.
#[derive(Debug, Clone)]
pub(super) struct LabelExec {
    work: Work,
    shards: Vec<Shard>,
    properties: Arc<PlanProperties>,
}

impl LabelExec {
    fn new(work: Work, shards: Vec<Shard>) -> Self {
        let partitions = Partitioning::UnknownPartitioning(shards.len());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema()),
            partitions,
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { work, shards, properties: Arc::new(properties) }
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The plans of a number of tasks. The engine wants all to have equally many partitions: some may be of no file and no part.
    pub(super) fn shared_out(&self, tasks: usize) -> Vec<Arc<dyn ExecutionPlan>> {
        let each = self.shards.len().div_ceil(tasks);
        let task = |task| {
            let mut shards: Vec<Shard> = self.shards.iter().skip(task).step_by(tasks).cloned().collect();
            shards.resize(each, Shard { part: usize::MAX, files: Vec::new() });
            Arc::new(LabelExec::new(self.work.clone(), shards)) as Arc<dyn ExecutionPlan>
        };
        (0..tasks).map(task).collect()
    }

    pub(super) fn to_json(&self) -> QueryResult<Vec<u8>> {
        serde_json::to_vec(&(&self.work, &self.shards)).map_err(|error| exec_datafusion_err!("{error}"))
    }

    pub(super) fn of_json(json: &[u8]) -> QueryResult<Self> {
        let (work, shards) = serde_json::from_slice(json).map_err(|error| exec_datafusion_err!("{error}"))?;
        Ok(Self::new(work, shards))
    }
}

/// What a shard tells: its part, and its summary as JSON.
fn schema() -> SchemaRef {
    let part = Field::new("part", DataType::UInt64, false);
    Arc::new(Schema::new(vec![part, Field::new("summary", DataType::Utf8, false)]))
}

fn tell(part: usize, summary: &Summary) -> QueryResult<RecordBatch> {
    let json = serde_json::to_string(summary).map_err(|error| exec_datafusion_err!("{error}"))?;
    let part = UInt64Array::from(vec![part as u64]);
    Ok(RecordBatch::try_new(schema(), vec![Arc::new(part), Arc::new(StringArray::from(vec![json]))])?)
}

fn told(batch: &RecordBatch, row: usize) -> Result<(usize, Summary), Error> {
    let unread = |reason: &str| Error::Counts(format!("a worker's summary can't be read: {reason}"));
    let part = batch.column(0).as_primitive_opt::<UInt64Type>().filter(|column| column.is_valid(row));
    let summary = batch.column(1).as_string_opt::<i32>().filter(|column| column.is_valid(row));
    let (Some(part), Some(summary)) = (part, summary) else { return Err(unread("it is of other columns")) };
    let summary = serde_json::from_str(summary.value(row)).map_err(|error| unread(&error.to_string()))?;
    Ok((part.value(row) as usize, summary))
}

impl DisplayAs for LabelExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LabelExec: {} shards", self.shards.len())
    }
}

impl ExecutionPlan for LabelExec {
    fn name(&self) -> &str {
        "LabelExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> QueryResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> QueryResult<TreeNodeRecursion>,
    ) -> QueryResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> QueryResult<SendableRecordBatchStream> {
        let Some(serving) = context.session_config().get_extension::<Serving>() else {
            return exec_err!("labelling runs on workers");
        };
        let Some(shard) = self.shards.get(partition).filter(|shard| shard.part != usize::MAX).cloned() else {
            return Ok(Box::pin(EmptyRecordBatchStream::new(schema())));
        };
        let work = self.work.clone();
        let mut rows = RecordBatchReceiverStreamBuilder::new(schema(), 1);
        let out = rows.tx();
        rows.spawn(async move {
            // A shard a turn: what waits holds no file open and no rows in memory.
            let turn = Arc::clone(&serving.turns).acquire_owned().await.map_err(external)?;
            let gone = out.clone();
            let labelled = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                // Whoever asked may be gone: then nobody wants the rest.
                label_shard(&work, &shard, &serving, || gone.is_closed()).map(|summary| (shard.part, summary))
            });
            let (part, summary) = labelled.await.map_err(external)??;
            // A send fails when nobody waits for it any more.
            let _ = out.send(tell(part, &summary)).await;
            Ok(())
        });
        Ok(rows.build())
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn label_shard(work: &Work, shard: &Shard, serving: &Serving, gone: impl Fn() -> bool) -> QueryResult<Summary> {
    if shard.files.is_empty() {
        return Ok(Summary::new(String::new()));
    }
    let model = serving.model.as_ref().map_err(|reason| exec_datafusion_err!("{reason}"))?;
    let mut sources = Vec::new();
    for (name, size) in &shard.files {
        let source = Source::File { name: name.clone(), path: work.base.join(name) };
        // What can't be read is a reject, which is for what nobody can read.
        if source.size() != *size {
            return exec_err!(
                "{} is another file here than where the command was given, or none; workers must see the same files at the same paths",
                work.base.join(name).display()
            );
        }
        sources.push(source);
    }
    let reading = Reading {
        format: work.format,
        id_column: work.id_column.clone(),
        text_column: work.text_column.clone(),
        charset: work.charset.as_deref().and_then(|name| Encoding::for_label(name.as_bytes())),
        hl7: serving.hl7.clone(),
    };
    let output = Output::File(work.folder.join(rows_name(shard.part)), OutputFormat::Parquet);
    let rejects = work.folder.join(rejects_name(shard.part));
    let mut go_on = |_| if gone() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    label_sources(&sources, &output, &rejects, &reading, model, &mut go_on).map_err(external)
}

/// The table that is the leaf.
#[derive(Debug)]
struct LabelTable(LabelExec);

#[async_trait]
impl TableProvider for LabelTable {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::LabelSchema;

    fn files(sizes: &[usize]) -> (tempfile::TempDir, Vec<Source>) {
        let folder = tempfile::tempdir().unwrap();
        let source = |(number, size): (usize, &usize)| {
            let path = folder.path().join(format!("{number}.txt"));
            std::fs::write(&path, vec![b'x'; *size]).unwrap();
            Source::File { name: format!("{number}.txt").into(), path }
        };
        let sources = sizes.iter().enumerate().map(source).collect();
        (folder, sources)
    }

    #[test]
    fn shards_hold_each_file_once_in_order_and_about_equal_bytes() {
        let sizes: Vec<usize> = (0..200).map(|number| (number * 7919) % 50_000).collect();
        let (_folder, sources) = files(&sizes);
        let shards = shards(&sources, 8);
        assert_eq!(shards.len(), 8);
        let names: Vec<_> = shards.iter().flat_map(|shard| shard.files.iter().map(|(name, _)| name.clone())).collect();
        assert_eq!(names, (0..200).map(|number| PathBuf::from(format!("{number}.txt"))).collect::<Vec<_>>());
        let bytes: Vec<u64> = shards.iter().map(Shard::bytes).collect();
        assert!(bytes.iter().max().unwrap() < &(2 * bytes.iter().min().unwrap()), "{bytes:?}");
        let parts: Vec<usize> = shards.iter().map(|shard| shard.part).collect();
        assert_eq!(parts, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn few_files_are_few_shards_and_two_at_least() {
        for (sizes, expected) in [(&[10][..], 2), (&[0, 0, 0], 3), (&[900_000, 1, 1], 2)] {
            let (_folder, sources) = files(sizes);
            let shards = shards(&sources, 8);
            assert_eq!(shards.len(), expected, "{sizes:?}");
            assert_eq!(shards.iter().map(|shard| shard.files.len()).sum::<usize>(), sizes.len());
        }
    }

    #[test]
    fn tasks_share_the_shards_and_come_through_json() {
        let (_folder, sources) = files(&[1; 7]);
        let work = Work {
            folder: "/out".into(),
            base: "/in".into(),
            format: Some(archive::InputFormat::Text),
            id_column: None,
            text_column: Some("text".into()),
            charset: Some("windows-1252".into()),
        };
        let plan = LabelExec::new(work, shards(&sources, 7));
        for tasks in 1..9 {
            let mut parts = Vec::new();
            for task in plan.shared_out(tasks) {
                let task = task.downcast_ref::<LabelExec>().unwrap();
                assert_eq!(task.properties.partitioning.partition_count(), 7_usize.div_ceil(tasks));
                let read = LabelExec::of_json(&task.to_json().unwrap()).unwrap();
                assert_eq!(read.to_json().unwrap(), task.to_json().unwrap());
                parts.extend(read.shards.iter().map(|shard| shard.part).filter(|part| *part != usize::MAX));
            }
            parts.sort_unstable();
            assert_eq!(parts, (0..7).collect::<Vec<_>>(), "{tasks} tasks");
        }
    }

    #[test]
    fn what_does_not_add_up_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let labels = LabelSchema::spine();
        let rows = archive::finding_schema(&labels);
        // Two parts of no rows, as their workers tell.
        let shard = |part| Shard { part, files: vec![(format!("{part}.txt").into(), Some(1))] };
        let told = |files, rows, provider: &str| {
            let mut summary = Summary::new(provider.into());
            (summary.files, summary.rows) = (files, rows);
            summary
        };
        for part in 0..2 {
            let file = File::create(folder.path().join(rows_name(part))).unwrap();
            datafusion::parquet::arrow::ArrowWriter::try_new(file, rows.clone(), None).unwrap().close().unwrap();
        }
        let found = |parts: Vec<(usize, Summary)>, shards: usize| {
            let shards: Vec<Shard> = (0..shards).map(shard).collect();
            check(folder.path(), &shards, &parts.into_iter().collect()).map_err(|error| error.to_string())
        };
        assert_eq!(found(vec![(0, told(1, 0, "cpu, int8")), (1, told(1, 0, "cpu, int8"))], 2), Ok(()));
        for (parts, shards, word) in [
            (vec![(0, told(1, 0, "a"))], 2, "1 of 2 parts"),
            (vec![(0, told(1, 0, "a")), (2, told(1, 0, "a"))], 2, "part 1 did not come back"),
            (vec![(0, told(1, 0, "a")), (1, told(0, 0, "a"))], 2, "0 were read"),
            (vec![(0, told(1, 0, "a")), (1, told(1, 5, "a"))], 2, "has 5 rows, and its file holds 0"),
            (vec![(0, told(1, 0, "a")), (1, told(1, 0, "b"))], 2, "--arithmetic"),
            (vec![(0, told(1, 0, "a")), (1, told(1, 0, "a")), (2, told(1, 0, "a"))], 3, "can't be read from here"),
        ] {
            let error = found(parts, shards).unwrap_err();
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
