//! The SQL of a stream: planned once, run on each batch.

use super::error::Error;
use super::record::Record;
use crate::hl7;
use crate::model::Model;
use crate::sql::{SqlModel, context, finding_rows};
use arrow::array::{
    ArrayRef, AsArray, BinaryBuilder, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    StructBuilder, TimestampMillisecondArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::{Arc, Mutex, PoisonError};

/// A message on its way into the query.
pub(crate) struct Input<'a> {
    pub(crate) source: &'a str,
    pub(crate) record: &'a Record,
    pub(crate) message: &'a [u8],
}

/// Why a batch could not be transformed. The text of what failed may quote a value of the query, and is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) String);

/// The query of a stream, ready to run.
pub(crate) struct Transform {
    context: SessionContext,
    plan: Arc<dyn ExecutionPlan>,
    current: Arc<Current>,
    schema: SchemaRef,
    model: Arc<Model>,
}

/// The table `messages`: the batch that is being transformed.
#[derive(Debug)]
struct Current {
    schema: SchemaRef,
    batch: Mutex<Option<RecordBatch>>,
}

impl PartitionStream for Current {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        // A query may read the table twice.
        let batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let batches = vec![batch.unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone()))];
        match MemoryStream::try_new(batches, self.schema.clone(), None) {
            Ok(stream) => Box::pin(stream),
            Err(error) => Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
                self.schema.clone(),
                futures::stream::once(async { Err(error) }),
            )),
        }
    }
}

/// Columns of the table `messages`.
pub fn messages_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("topic"),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        Field::new("key", DataType::Binary, true),
        Field::new("headers", DataType::List(Arc::new(Field::new_list_field(header_type(), true))), false),
        text("source"),
        Field::new("message", DataType::Binary, false),
    ]))
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
}

fn header_type() -> DataType {
    DataType::Struct(header_fields())
}

impl Transform {
    /// Plans a query over `messages`.
    ///
    /// # Errors
    /// [`Error::Transform`] where it can't be planned, or lacks the columns by which its rows are known.
    pub(crate) async fn plan(sql: &str, model: Arc<Model>, hl7: &hl7::Options) -> Result<Transform, Error> {
        let failed = |error: DataFusionError| Error::Transform(error.strip_backtrace());
        // One partition: rows stay in the order of their messages, and the model has the threads.
        let config = SessionConfig::new().with_target_partitions(1);
        let tasks = model.package().labels().tasks().to_vec();
        let context = context(Arc::new(SqlModel::open(Arc::clone(&model))), hl7.clone(), config).map_err(failed)?;
        let current = Arc::new(Current { schema: messages_schema(), batch: Mutex::new(None) });
        let table = StreamingTable::try_new(messages_schema(), vec![Arc::clone(&current) as Arc<dyn PartitionStream>]);
        context.register_table("messages", Arc::new(table.map_err(failed)?)).map_err(failed)?;
        let view = format!("CREATE VIEW findings AS {}", finding_rows("messages", &tasks));
        context.sql(&view).await.map_err(failed)?;
        let plan = context.sql(sql).await.map_err(failed)?.create_physical_plan().await.map_err(failed)?;
        let schema = plan.schema();
        for column in ["report_id", "source"] {
            let found = schema.field_with_name(column);
            let text = found.is_ok_and(|field| arrow::compute::can_cast_types(field.data_type(), &DataType::Utf8));
            if !text {
                return Err(Error::Transform(format!(
                    "its rows have no text column `{column}`, by which they are known to belong to a version of a report; \
                     select it from `findings`, or from `messages` and hl7_reports(message)"
                )));
            }
        }
        let mut names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        names.sort();
        if let Some([twice, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(Error::Transform(format!(
                "its rows have two columns `{twice}`; name one of them anew with AS"
            )));
        }
        Ok(Transform { context, plan, current, schema, model })
    }

    /// Columns of the rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The model that reads.
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Runs the query over messages. Its rows are in the order of the messages, unless the query orders them otherwise.
    pub(crate) async fn run(&self, inputs: &[Input<'_>]) -> Result<RecordBatch, Failed> {
        let batch = batch(inputs).map_err(|error| Failed(kind(&error.into())))?;
        *self.current.batch.lock().unwrap_or_else(PoisonError::into_inner) = Some(batch);
        let plan = reset_plan_states(Arc::clone(&self.plan)).map_err(|error| Failed(kind(&error)))?;
        let task = self.context.task_ctx();
        // In a task of its own, so that a panic in a dependency is a failure of this batch.
        let rows = tokio::spawn(async move { collect(plan, task).await }).await;
        *self.current.batch.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let rows = match rows {
            Ok(rows) => rows.map_err(|error| Failed(kind(&error)))?,
            Err(_) => return Err(Failed("a panic".into())),
        };
        concat_batches(&self.schema, &rows).map_err(|error| Failed(kind(&error.into())))
    }
}

/// Beginnings of errors of functions that ask the model.
const OURS: [&str; 2] = ["extract_findings: ", "embed_segments: "];

/// What kind of error it is, without its text, which may quote a value.
fn kind(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(_, _) => "an error of Arrow, such as a cast or an overflow".into(),
        // What the model's functions say of themselves holds no content.
        DataFusionError::Execution(text) if OURS.iter().any(|name| text.starts_with(name)) => text.clone(),
        DataFusionError::Execution(_) => "an execution error".into(),
        DataFusionError::ResourcesExhausted(_) => "memory exhausted".into(),
        _ => "an error of DataFusion".into(),
    }
}

fn batch(inputs: &[Input<'_>]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let records = || inputs.iter().map(|input| input.record);
    let mut headers = ListBuilder::new(StructBuilder::from_fields(header_fields(), inputs.len()));
    for record in records() {
        let rows = headers.values();
        for (key, value) in &record.headers {
            if let Some(keys) = rows.field_builder::<StringBuilder>(0) {
                keys.append_value(key);
            }
            if let Some(values) = rows.field_builder::<BinaryBuilder>(1) {
                values.append_option(value.as_ref());
            }
            rows.append(true);
        }
        headers.append(true);
    }
    let timestamps: TimestampMillisecondArray = records().map(|record| record.timestamp).collect();
    let mut keys = BinaryBuilder::new();
    let mut messages = BinaryBuilder::new();
    for input in inputs {
        keys.append_option(input.record.key.as_ref());
        messages.append_value(input.message);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(records().map(|record| Some(record.partition.topic.as_ref())).collect::<StringArray>()),
        Arc::new(records().map(|record| record.partition.number).collect::<Int32Array>()),
        Arc::new(records().map(|record| record.offset).collect::<Int64Array>()),
        Arc::new(timestamps.with_timezone("UTC")),
        Arc::new(keys.finish()),
        Arc::new(headers.finish()),
        Arc::new(inputs.iter().map(|input| Some(input.source)).collect::<StringArray>()),
        Arc::new(messages.finish()),
    ];
    RecordBatch::try_new(messages_schema(), columns)
}

/// A column of rows as text, one value a row; empty where it is NULL or not there.
pub(crate) fn texts(rows: &RecordBatch, column: &str) -> Vec<String> {
    let text = rows.column_by_name(column).and_then(|column| cast(column, &DataType::Utf8).ok());
    match text {
        Some(text) => text.as_string::<i32>().iter().map(|value| value.unwrap_or_default().to_owned()).collect(),
        None => vec![String::new(); rows.num_rows()],
    }
}
