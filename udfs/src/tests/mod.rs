//! The functions and tables in real sessions.

mod alignment;
mod findings;
mod functions;
mod sharing;
mod table;

use crate::engine::ReportModel;
use crate::testing::{self, KeyWords};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

/// A session with everything registered, and the model behind it.
fn session(config: SessionConfig) -> (SessionContext, Arc<KeyWords>) {
    let (model, reader) = testing::engines();
    let context = SessionContext::new_with_config(config);
    let state = context.state_ref();
    let shared: Arc<dyn ReportModel> = model.clone();
    crate::register_all(&mut *state.write(), &shared, &reader).unwrap();
    crate::register_hl7_tables(&mut state.write(), &reader).unwrap();
    (context, model)
}

/// One text column `t` of a given type, in batches of the given number of rows.
fn texts(context: &SessionContext, values: &[Option<&str>], data_type: &DataType, batch: usize) {
    let column = cast(&StringArray::from(values.to_vec()), data_type).unwrap();
    columns(context, column, batch);
}

fn columns(context: &SessionContext, column: ArrayRef, batch: usize) {
    let schema = Arc::new(Schema::new(vec![Field::new("t", column.data_type().clone(), true)]));
    let whole = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
    let starts = (0..whole.num_rows()).step_by(batch);
    let batches: Vec<_> = starts.map(|start| whole.slice(start, batch.min(whole.num_rows() - start))).collect();
    let table = MemTable::try_new(schema, vec![batches]).unwrap();
    context.deregister_table("r").unwrap();
    context.register_table("r", Arc::new(table)).unwrap();
}

async fn rows(context: &SessionContext, sql: &str) -> String {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// What planning says against a query.
async fn refusal(context: &SessionContext, sql: &str) -> String {
    context.sql(sql).await.map(|_| ()).unwrap_err().strip_backtrace()
}

/// What running says against a query that planning let through.
async fn failure(context: &SessionContext, sql: &str) -> String {
    context.sql(sql).await.unwrap().collect().await.unwrap_err().strip_backtrace()
}

fn dictionary(value: DataType) -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(value))
}
