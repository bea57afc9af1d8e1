//! How a file of messages becomes batches: read once from front to back on a blocking thread, held to a few batches.

use crate::engine::{MessageReader, Piece, Pieces};
use arrow::array::{ArrayRef, BinaryBuilder, StringBuilder};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::object_store::{self, GetResultPayload, ObjectStore, ObjectStoreExt};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::projection::ProjectionExprs;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{PhysicalExpr, apply_expression_roots};
use futures::{Stream, StreamExt};
use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;

/// A batch ends with the message that brings it to this many bytes, if not at the session's batch size before.
const BATCH_BYTES: usize = 8 << 20;

/// Batches read ahead of the query.
const READ_AHEAD: usize = 2;

/// The scan of one table.
#[derive(Clone)]
pub(super) struct Hl7Source {
    reader: Arc<dyn MessageReader>,
    schema: TableSchema,
    projection: SplitProjection,
    batch_rows: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl Hl7Source {
    pub(super) fn new(schema: TableSchema, reader: Arc<dyn MessageReader>) -> Self {
        let projection = SplitProjection::unprojected(&schema);
        Self { reader, schema, projection, batch_rows: 8192, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl FileSource for Hl7Source {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        scan: &FileScanConfig,
        _partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let url = scan.object_store_url.as_str();
        let opener = Opener {
            reader: Arc::clone(&self.reader),
            store,
            // Local files are called by their path, others by their address.
            prefix: url.strip_prefix("file://").unwrap_or(url).to_owned(),
            columns: self.projection.file_indices.clone(),
            schema: Arc::new(self.schema.file_schema().project(&self.projection.file_indices)?),
            batch_rows: self.batch_rows,
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), self.schema.file_schema())
    }

    fn table_schema(&self) -> &TableSchema {
        &self.schema
    }

    fn with_batch_size(&self, batch_rows: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_rows, ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "hl7"
    }

    /// Where a message begins shows only by what stands before it: a file is one partition's.
    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.projection.source.iter(), visit)
    }
}

struct Opener {
    reader: Arc<dyn MessageReader>,
    store: Arc<dyn ObjectStore>,
    prefix: String,
    columns: Vec<usize>,
    schema: SchemaRef,
    batch_rows: usize,
}

impl FileOpener for Opener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let location = file.object_meta.location;
        let store = Arc::clone(&self.store);
        let reader = Arc::clone(&self.reader);
        let mut rows = Rows {
            path: format!("{}{location}", self.prefix),
            number: 0,
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
            batch_rows: self.batch_rows,
        };
        Ok(Box::pin(async move {
            let input: Box<dyn Read + Send> = match store.get(&location).await?.payload {
                GetResultPayload::File(file, _) => Box::new(BufReader::new(file)),
                GetResultPayload::Stream(chunks) => Box::new(Chunks { chunks, current: Cursor::default() }),
            };
            let mut batches = RecordBatchReceiverStreamBuilder::new(Arc::clone(&rows.schema), READ_AHEAD);
            let sender = batches.tx();
            batches.spawn_blocking(move || {
                let mut pieces = reader.split(input);
                // A send fails when the query has what it wants.
                while let Some(batch) = rows.next_batch(&mut pieces)? {
                    if sender.blocking_send(Ok(batch)).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            Ok(batches.build().boxed())
        }))
    }
}

/// Gathers the messages of one file into batches.
struct Rows {
    path: String,
    number: u64,
    /// Which of `source` (0) and `message` (1) are wanted, in order.
    columns: Vec<usize>,
    schema: SchemaRef,
    batch_rows: usize,
}

impl Rows {
    fn next_batch(&mut self, pieces: &mut Pieces) -> Result<Option<RecordBatch>> {
        let mut sources = StringBuilder::new();
        let mut messages = BinaryBuilder::new();
        let (mut rows, mut size) = (0, 0);
        while rows < self.batch_rows && size < BATCH_BYTES {
            let Some(piece) = pieces.next() else { break };
            let Piece { bytes, .. } = piece.map_err(|error| self.broken(error))?;
            self.number += 1;
            rows += 1;
            size += bytes.len();
            if self.columns.contains(&0) {
                sources.append_value(format!("{}#{}", self.path, self.number));
            }
            if self.columns.contains(&1) {
                messages.append_value(&bytes);
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        let (sources, messages): (ArrayRef, ArrayRef) = (Arc::new(sources.finish()), Arc::new(messages.finish()));
        let columns = self.columns.iter().map(|column| Arc::clone(if *column == 0 { &sources } else { &messages }));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect(), &options)?))
    }

    fn broken(&self, error: io::Error) -> DataFusionError {
        DataFusionError::from(error).context(format!("after {} messages of {}", self.number, self.path))
    }
}

/// An object store's chunks as a blocking reader.
struct Chunks<S, B> {
    chunks: S,
    current: Cursor<B>,
}

impl<S: Stream<Item = object_store::Result<B>> + Unpin, B: AsRef<[u8]>> Read for Chunks<S, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.current.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            match futures::executor::block_on(self.chunks.next()) {
                Some(chunk) => self.current = Cursor::new(chunk?),
                None => return Ok(0),
            }
        }
    }
}
