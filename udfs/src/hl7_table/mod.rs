//! Files of HL7 v2 messages as tables: `CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION '…'` and `SELECT … FROM 'file.hl7'`.
//!
//! Two columns: `source`, the file and the number of the message in it (`/in/a.hl7#3`), and `message`, its bytes. Bytes that
//! belong to no message have a row too, which `hl7_error` explains.

mod source;

use crate::engine::MessageReader;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::{GetExt, Result, Statistics, not_impl_err, plan_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::CreateExternalTable;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;

/// Extension of the files that are read without `CREATE EXTERNAL TABLE`.
const EXTENSION: &str = "hl7";

/// The columns of such a table.
pub fn hl7_table_schema() -> SchemaRef {
    let source = Field::new("source", DataType::Utf8, false);
    let message = Field::new("message", DataType::Binary, false);
    Arc::new(Schema::new(vec![source, message]))
}

/// What makes tables of `STORED AS HL7`, for sessions that take factories alone; others take [`register_hl7_tables`].
pub fn hl7_table_factory(reader: &Arc<dyn MessageReader>) -> Arc<dyn TableProviderFactory + Send> {
    Arc::new(Hl7Tables { reader: Arc::clone(reader) })
}

/// Makes a session read HL7 files.
///
/// # Errors
/// When the session has another format of that name.
pub fn register_hl7_tables(state: &mut SessionState, reader: &Arc<dyn MessageReader>) -> Result<()> {
    let tables = Arc::new(Hl7Tables { reader: Arc::clone(reader) });
    state.register_file_format(Arc::clone(&tables) as Arc<dyn FileFormatFactory>, false)?;
    state.table_factories_mut().insert("HL7".to_owned(), tables);
    Ok(())
}

/// How a scan of HL7 files reads them: for a scan that is put together elsewhere than in a table's plan.
pub fn hl7_source(schema: TableSchema, reader: &Arc<dyn MessageReader>) -> Arc<dyn FileSource> {
    Arc::new(source::Hl7Source::new(schema, Arc::clone(reader)))
}

/// Makes formats and tables that read with one message reader.
#[derive(Debug)]
struct Hl7Tables {
    reader: Arc<dyn MessageReader>,
}

#[async_trait]
impl TableProviderFactory for Hl7Tables {
    async fn create(&self, session: &dyn Session, command: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
        let name = &command.name;
        if !command.schema.fields().is_empty() || !command.table_partition_cols.is_empty() {
            return plan_err!("table {name}: STORED AS HL7 has the columns source and message and takes no others");
        }
        let format = FileFormatFactory::create(self, session, &command.options)?;
        let locations = command.locations.iter().map(ListingTableUrl::parse).collect::<Result<Vec<_>>>()?;
        for location in &locations {
            // A mistyped location would otherwise be a table without rows.
            let store = session.runtime_env().object_store(location)?;
            let first = location.list_all_files(session, store.as_ref(), "").await?.next().await.transpose()?;
            if first.is_none() {
                return plan_err!("table {name}: there is no file at {location}");
            }
        }
        // Files of messages are called .hl7, .txt, .dat or anything: in a folder all are read.
        let options = ListingOptions::new(format).with_file_extension("");
        let config = ListingTableConfig::new_with_multi_paths(locations)
            .with_listing_options(options)
            .with_schema(hl7_table_schema());
        Ok(Arc::new(ListingTable::try_new(config)?.with_definition(command.definition.clone())))
    }
}

impl GetExt for Hl7Tables {
    fn get_ext(&self) -> String {
        EXTENSION.to_owned()
    }
}

impl FileFormatFactory for Hl7Tables {
    fn create(&self, _: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        match options.keys().next() {
            Some(option) => plan_err!("HL7 tables have no option {option}"),
            None => Ok(FileFormatFactory::default(self)),
        }
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(Hl7Format { reader: Arc::clone(&self.reader) })
    }
}

#[derive(Debug)]
struct Hl7Format {
    reader: Arc<dyn MessageReader>,
}

#[async_trait]
impl FileFormat for Hl7Format {
    fn get_ext(&self) -> String {
        EXTENSION.to_owned()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        if compression.is_compressed() {
            return not_impl_err!("HL7 files are read uncompressed");
        }
        Ok(self.get_ext())
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(&self, _: &dyn Session, _: &Arc<dyn ObjectStore>, _: &[ObjectMeta]) -> Result<SchemaRef> {
        Ok(hl7_table_schema())
    }

    async fn infer_stats(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        _: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&schema))
    }

    async fn create_physical_plan(&self, _: &dyn Session, scan: FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(DataSourceExec::from_data_source(scan))
    }

    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        hl7_source(schema, &self.reader)
    }
}
