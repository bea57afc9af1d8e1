//! A DataFusion application that reads reports: `cargo run --example embed`.

use datafusion::prelude::{CsvReadOptions, SessionContext};
use foramen::model::{Options, default_folder};
use foramen::sql::{SqlModel, register};
use std::sync::Arc;

#[tokio::main]
async fn main() -> datafusion::error::Result<()> {
    let context = SessionContext::new();
    let model = SqlModel::lazy(default_folder(), Options::default());
    register(&context, Arc::new(model), Default::default())?;

    context.register_csv("reports", "examples/reports/reports.csv", CsvReadOptions::new()).await?;
    let findings = "SELECT report_id, unnest(extract_findings(report)) AS f FROM reports";
    let query = format!("SELECT report_id, f['level'] AS level, f['disc'] AS disc FROM ({findings})");
    context.sql(&query).await?.show().await
}
