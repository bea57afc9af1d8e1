//! A streaming engine built on DataFusion: a source that never ends, and one query that goes on for as long.
//! `cargo run --example embed_stream`.

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use foramen::model::{Options, default_folder};
use foramen::sql::{SqlModel, register};
use futures::StreamExt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::{Receiver, channel};

/// The source: batches of reports out of a channel, which holds few, so that whoever sends waits for the query.
#[derive(Debug)]
struct Reports {
    schema: SchemaRef,
    batches: Mutex<Option<Receiver<RecordBatch>>>,
}

impl PartitionStream for Reports {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        // A channel is read once: a second reader finds nothing.
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner).take();
        let batches = futures::stream::unfold(batches, |batches| async {
            let mut batches = batches?;
            Some((Ok(batches.recv().await?), Some(batches)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // One partition: rows come in the order of their reports, and the model has the threads.
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let model = SqlModel::lazy(default_folder(), Options::default());
    register(&context, Arc::new(model), Default::default())?;

    let schema = Arc::new(Schema::new(vec![Field::new("report", DataType::Utf8, false)]));
    let (sender, receiver) = channel(2);
    let source = Reports { schema: Arc::clone(&schema), batches: Mutex::new(Some(receiver)) };
    let table = StreamingTable::try_new(Arc::clone(&schema), vec![Arc::new(source)])?.with_infinite_table(true);
    context.register_table("reports", Arc::new(table))?;
    let findings = "SELECT unnest(extract_findings(report)) AS f FROM reports";
    let query = format!("SELECT f['level'] AS level, f['canal_stenosis'] AS canal FROM ({findings})");
    let mut rows = context.sql(&query).await?.execute_stream().await?;

    // Rows are there while the source is still open.
    for report in ["L4-5: severe canal stenosis. L5-S1: normal.", "C5-6: mild canal narrowing."] {
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(vec![report]))])?;
        sender.send(batch).await.map_err(|error| DataFusionError::External(error.into()))?;
        if let Some(batch) = rows.next().await.transpose()? {
            writeln!(std::io::stdout(), "{}", pretty_format_batches(&[batch])?)?;
        }
    }
    Ok(())
}
