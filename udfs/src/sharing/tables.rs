//! The answers, computed when they are asked for: one layer of one run at a time, so that memory is that of the pairs of one layer.

use super::groups::{self, Affinities};
use super::pairs::{self, Pair, Pairs};
use crate::all_aggregate;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use datafusion::common::{ParamValues, Result, ScalarValue, exec_err};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;

/// The vectors of one layer of one run, each task's one after the other: the task, what pairs of tasks are joined on, and the vector. Nothing
/// is paired with NULL.
const EMBEDDINGS: &str = "SELECT arrow_cast(task, 'Utf8') AS task, arrow_cast(report_id, 'Utf8') AS a, arrow_cast(level, 'Utf8') AS b, embedding
  FROM embeddings WHERE run = $run AND layer = $layer AND task IS NOT NULL AND report_id IS NOT NULL AND level IS NOT NULL ORDER BY task, a, b";
const GRADIENTS: &str = "SELECT arrow_cast(task, 'Utf8') AS task, arrow_cast(step, 'Utf8') AS a, '' AS b, gradient
  FROM gradients WHERE run = $run AND layer = $layer AND task IS NOT NULL AND step IS NOT NULL ORDER BY task, a";
const VERDICT: &str = include_str!("verdict.sql");
/// Where a folder has only one of the two tables, the other is there without rows.
const EMPTY: [(&str, &str); 2] = [
    (
        "embeddings",
        "SELECT '' AS run, '' AS task, arrow_cast(0, 'Int32') AS layer, '' AS report_id, '' AS level, [arrow_cast(0, 'Float32')] AS embedding WHERE false",
    ),
    (
        "gradients",
        "SELECT '' AS run, 0 AS step, '' AS task, arrow_cast(0, 'Int32') AS layer, [arrow_cast(0, 'Float32')] AS gradient WHERE false",
    ),
];

/// What is asked of a folder.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Pairs,
    Verdict { min_cosine: f64, min_similarity: f64 },
    Groups { models: usize },
}

#[derive(Debug, Clone)]
pub(super) struct Question {
    folder: String,
    answer: Answer,
    schema: SchemaRef,
}

impl Question {
    pub(super) fn new(folder: &str, answer: Answer) -> Self {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let whole = |name: &str| Field::new(name, DataType::Int32, true);
        let number = |name: &str| Field::new(name, DataType::Float64, true);
        let fields = match answer {
            Answer::Pairs => vec![
                text("run"),
                whole("layer"),
                text("task"),
                text("other"),
                number("similarity"),
                number("cosine"),
                number("conflict_rate"),
            ],
            Answer::Verdict { .. } => vec![
                text("run"),
                text("task"),
                whole("layer"),
                number("similarity"),
                number("to_shared"),
                number("cosine"),
                number("conflict_rate"),
                text("verdict"),
                text("reason"),
            ],
            Answer::Groups { .. } => vec![text("run"), whole("model"), text("task"), number("cohesion")],
        };
        Self { folder: folder.trim_end_matches('/').to_owned(), answer, schema: Arc::new(Schema::new(fields)) }
    }

    async fn batches(self, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let session = session(&context);
        self.open(&session).await?;
        let pairs = Self::new(&self.folder, Answer::Pairs);
        let schema = pairs.schema();
        let pairs = pairs.pairs(&session).await?;
        let answer = match self.answer {
            Answer::Pairs => return Ok(pairs),
            Answer::Verdict { min_cosine, min_similarity } => {
                session.register_batch("pairs", whole(pairs, &schema).await?)?;
                let parameters = parameters([
                    ("min_cosine", ScalarValue::from(min_cosine)),
                    ("min_similarity", ScalarValue::from(min_similarity)),
                ]);
                session.sql(VERDICT).await?.with_param_values(parameters)?.collect().await?
            }
            Answer::Groups { models } => vec![grouped(&whole(pairs, &schema).await?, models, &self.schema)?],
        };
        let answer = answer.into_iter().map(|batch| conform(&batch, &self.schema)).collect::<Vec<_>>();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema, futures::stream::iter(answer))))
    }

    /// The pairs of each run and layer, one after the other.
    async fn pairs(self, session: &SessionContext) -> Result<SendableRecordBatchStream> {
        let keys = "SELECT DISTINCT run, layer FROM embeddings UNION SELECT DISTINCT run, layer FROM gradients ORDER BY run, layer";
        let mut places = Vec::new();
        for batch in session.sql(keys).await?.collect().await? {
            for row in 0..batch.num_rows() {
                let value = |column: usize| ScalarValue::try_from_array(batch.column(column), row);
                places.push((value(0)?, value(1)?));
            }
        }
        let (session, schema) = (session.clone(), Arc::clone(&self.schema));
        let of_place = move |(run, layer): (ScalarValue, ScalarValue)| {
            let (session, schema) = (session.clone(), Arc::clone(&schema));
            async move {
                let mut pairs = Pairs::new();
                let place = || parameters([("run", run.clone()), ("layer", layer.clone())]);
                let embeddings = session.sql(EMBEDDINGS).await?.with_param_values(place())?.collect().await?;
                pairs::similarities(&pairs::tables(&embeddings, "embeddings")?, &mut pairs);
                let gradients = session.sql(GRADIENTS).await?.with_param_values(place())?.collect().await?;
                pairs::cosines(&pairs::tables(&gradients, "gradients")?, &mut pairs)?;
                written(&run, &layer, &pairs, &schema)
            }
        };
        let stream = futures::stream::iter(places).then(of_place);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema, stream)))
    }

    /// Registers the two tables of the folder.
    async fn open(&self, session: &SessionContext) -> Result<()> {
        let mut found = false;
        for (table, empty) in EMPTY {
            let location = format!("{}/{table}/", self.folder);
            let url = ListingTableUrl::parse(&location)?;
            let store = session.runtime_env().object_store(&url)?;
            let state = session.state();
            let mut files = url.list_all_files(&state, store.as_ref(), ".parquet").await?;
            // A folder that is not there is one without files.
            if let Some(Ok(_)) = files.next().await {
                session.register_parquet(table, location, ParquetReadOptions::default()).await?;
                found = true;
            } else {
                session.register_table(table, session.sql(empty).await?.into_view())?;
            }
        }
        if !found {
            return exec_err!(
                "{} has neither embeddings/ nor gradients/ with Parquet files; `foramen-train study` and `foramen-train fit --analysis` write them",
                self.folder
            );
        }
        Ok(())
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl PartitionStream for Question {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = futures::stream::once(self.clone().batches(context)).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// All rows of a stream as one batch.
async fn whole(rows: SendableRecordBatchStream, schema: &SchemaRef) -> Result<RecordBatch> {
    Ok(concat_batches(schema, &rows.try_collect::<Vec<_>>().await?)?)
}

/// A session of its own, so that no table of the asking one is seen or hidden, in its runtime: stores and memory are shared.
fn session(context: &TaskContext) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().execution.listing_table_ignore_subdirectory = false;
    let session = SessionContext::new_with_config_rt(config, context.runtime_env());
    all_aggregate().into_iter().for_each(|function| session.register_udaf(function));
    session
}

fn parameters<const N: usize>(values: [(&str, ScalarValue); N]) -> ParamValues {
    ParamValues::from(values.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

/// The batch with the types of the schema: strings are views in some places and not in others.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// The pairs of a layer as rows, each in both orders.
fn written(run: &ScalarValue, layer: &ScalarValue, pairs: &Pairs, schema: &SchemaRef) -> Result<RecordBatch> {
    let both = pairs.iter().flat_map(|((task, other), pair)| [(task, other, pair), (other, task, pair)]);
    let mut rows: Vec<_> = both.collect();
    rows.sort_by_key(|(task, other, _)| (*task, *other));
    let text = |of: fn(&(&String, &String, &Pair)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    };
    let number = |of: fn(&Pair) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, _, pair)| of(pair)).collect::<Float64Array>())
    };
    let columns = [
        run.to_array_of_size(rows.len())?,
        layer.to_array_of_size(rows.len())?,
        text(|row| row.0.clone()),
        text(|row| row.1.clone()),
        number(|pair| pair.similarity),
        number(|pair| pair.cosine),
        number(|pair| pair.conflict_rate),
    ];
    let columns = columns.iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)?)
}

/// Groups of tasks of each run, out of its pairs.
fn grouped(pairs: &RecordBatch, models: usize, schema: &SchemaRef) -> Result<RecordBatch> {
    let (run, task, other) =
        (pairs.column(0).as_string::<i32>(), pairs.column(2).as_string::<i32>(), pairs.column(3).as_string::<i32>());
    let cosine = pairs.column(5).as_primitive::<Float64Type>();
    let mut affinities = Affinities::new();
    for row in (0..pairs.num_rows()).filter(|row| cosine.is_valid(*row)) {
        affinities.add(run.value(row), task.value(row), other.value(row), cosine.value(row));
    }
    let rows = groups::groups(&affinities, models);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.run))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.model))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.task))),
        Arc::new(rows.iter().map(|row| row.cohesion).collect::<Float64Array>()),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
