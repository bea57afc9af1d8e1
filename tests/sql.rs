//! SQL as users write it: the files in `tests/slt`, each function's own example, the tours in `examples/sql`, the queries in
//! `docs/sql.md`, all over the default model and the project's example messages.
//!
//! `FORAMEN_UPDATE=1 cargo test --test sql` writes what comes out into the files, to be looked through before it is kept.

// A test fails by panicking, its helpers too, and says what it left out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use foramen::model::{Arithmetic, Options};
use foramen::sql::{SqlModel, context};
use sqllogictest::{DBOutput, DefaultColumnType, Runner};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const MODEL: &str = "models/spine";

/// One model for all tests of this file, as in a process of the product.
fn model() -> Arc<SqlModel> {
    static SHARED: OnceLock<Arc<SqlModel>> = OnceLock::new();
    // Scores are shown to two digits: they are to be the same on every machine.
    let options = Options { arithmetic: Arithmetic::Float32, ..Options::default() };
    Arc::clone(SHARED.get_or_init(|| Arc::new(SqlModel::lazy(MODEL, options))))
}

fn session(config: SessionConfig) -> SessionContext {
    context(model(), Default::default(), config).unwrap()
}

/// Whether the text asks for a model that is not there.
fn lacks_model(name: &str, text: &str) -> bool {
    let asks = ["extract_findings(", "explain_findings(", "embed_segments(", "foramen_model("]
        .iter()
        .any(|function| text.contains(function));
    let lacks = asks && !Path::new(MODEL).join("package.toml").exists();
    if lacks {
        println!("skipped: {MODEL} is absent, and {name} asks for it");
    }
    lacks
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} has no .{extension}");
    files
}

fn update() -> bool {
    std::env::var_os("FORAMEN_UPDATE").is_some()
}

struct Database(SessionContext);

#[derive(Debug, thiserror::Error)]
#[error("{}", .0.strip_backtrace())]
struct Failed(#[from] DataFusionError);

#[async_trait::async_trait]
impl sqllogictest::AsyncDB for Database {
    type Error = Failed;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failed> {
        let frame = self.0.sql(sql).await?;
        let fields = frame.schema().fields().clone();
        let batches = frame.collect().await?;
        if fields.is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let types = fields.iter().map(|field| letter(field.data_type())).collect();
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in &batches {
            let columns: Vec<_> =
                batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
            let cell = |column: &ArrayFormatter, row| match column.value(row).to_string() {
                empty if empty.is_empty() => "(empty)".to_owned(),
                text => text.replace(['\n', '\r'], " "),
            };
            rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| cell(column, row)).collect()));
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}
}

fn letter(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DefaultColumnType::Text,
        DataType::Dictionary(_, value) => letter(value),
        other if other.is_integer() => DefaultColumnType::Integer,
        other if other.is_floating() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Any,
    }
}

/// String literals and columns of either layout, one partition and several, batches of one row and of many.
fn sessions() -> Vec<SessionConfig> {
    let config = |views: bool, partitions: usize, rows: usize| {
        SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(rows)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", views)
            .set_bool("datafusion.execution.parquet.schema_force_view_types", views)
    };
    vec![config(true, 4, 8192), config(false, 1, 8192), config(true, 2, 1)]
}

#[tokio::test(flavor = "multi_thread")]
async fn slt_files_pass_in_every_kind_of_session() {
    for file in files("tests/slt", "slt") {
        let name = file.display().to_string();
        if lacks_model(&name, &std::fs::read_to_string(&file).unwrap()) {
            continue;
        }
        let runner = |config: SessionConfig| {
            Runner::new(move || {
                let database = Database(session(config.clone()));
                async { Ok(database) }
            })
        };
        if update() {
            let (valid, normal) = (sqllogictest::default_validator, sqllogictest::default_normalizer);
            let typed = sqllogictest::strict_column_validator;
            runner(SessionConfig::new()).update_test_file(&file, " ", valid, normal, typed).await.unwrap();
        }
        for config in sessions() {
            let mut runner = runner(config);
            runner.with_column_validator(sqllogictest::strict_column_validator);
            if let Err(error) = runner.run_file_async(&file).await {
                panic!("{}", error.display(false));
            }
        }
    }
}

/// What a query shows, as `foramen sql` draws it.
async fn shown(context: &SessionContext, sql: &str) -> Result<Option<String>, DataFusionError> {
    let frame = context.sql(sql).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await?;
    let drawn = pretty_format_batches_with_schema(Arc::clone(&schema), &batches)?.to_string();
    Ok((!schema.fields().is_empty()).then_some(drawn))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_in_the_functions_documentation_are_true() {
    let context = session(SessionConfig::new().with_target_partitions(1));
    let state = context.state();
    let mut tried = 0;
    let scalar = state.scalar_functions().values().filter_map(|function| function.documentation());
    let aggregate = state.aggregate_functions().values().filter_map(|function| function.documentation());
    for about in scalar.chain(aggregate) {
        if ![foramen_udfs::SECTION, foramen_udfs::ALIGNMENT].contains(&about.doc_section) {
            continue;
        }
        let name = &about.syntax_example;
        let example = about.sql_example.clone().unwrap();
        let example = example.trim_start_matches("```sql\n> ").trim_end_matches("\n```");
        if lacks_model(name, example) {
            continue;
        }
        let (query, answer) = example.split_once(";\n").unwrap();
        let answered = shown(&context, query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(answered.as_deref(), Some(answer), "{name}");
        tried += 1;
    }
    assert!(tried >= 5, "{tried}");
}

/// A tour is statements, each followed by what it shows as lines of `--> `.
#[tokio::test(flavor = "multi_thread")]
async fn the_tours_show_what_they_say() {
    for file in files("examples/sql", "sql") {
        let text = std::fs::read_to_string(&file).unwrap();
        if lacks_model(&file.display().to_string(), &text) {
            continue;
        }
        let context = session(SessionConfig::new().with_target_partitions(1));
        let mut written = String::new();
        let mut statement = String::new();
        for line in text.lines().filter(|line| !line.starts_with("-->")) {
            written += &format!("{line}\n");
            let code = line.split("--").next().unwrap_or_default();
            statement += &format!("{code}\n");
            if code.trim_end().ends_with(';') {
                let answer = shown(&context, &statement).await;
                let answer = answer.unwrap_or_else(|error| panic!("{}: {statement}: {error}", file.display()));
                written.extend(answer.iter().flat_map(|drawn| drawn.lines()).map(|row| format!("--> {row}\n")));
                statement.clear();
            }
        }
        assert_eq!(statement.trim(), "", "{} ends within a statement", file.display());
        match update() {
            true => std::fs::write(&file, &written).unwrap(),
            false => assert_eq!(text, written, "{}", file.display()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queries_in_the_documentation_run() {
    let text = std::fs::read_to_string("docs/sql.md").unwrap();
    let blocks: Vec<&str> = text.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 5);
    let context = session(SessionConfig::new());
    for statement in blocks.iter().flat_map(|block| block.split_inclusive(";\n")).filter(|text| text.contains(';')) {
        if !lacks_model("docs/sql.md", statement) {
            shown(&context, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }
}

/// The query for finding rows is written out in the tour and made for any model; both are one.
#[tokio::test(flavor = "multi_thread")]
async fn finding_rows_have_the_columns_of_the_contract() {
    let tasks = foramen::labels::LabelSchema::spine();
    let query = foramen::sql::finding_rows("m", tasks.tasks());
    let tour = std::fs::read_to_string("examples/sql/findings.sql").unwrap();
    assert!(tour.contains(&query), "the tour has another query than\n{query}");
    if lacks_model("finding rows", &query) {
        return;
    }
    let context = session(SessionConfig::new());
    context.sql("CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION 'examples/messages/sql-day.hl7'").await.unwrap();
    let frame = context.sql(&query).await.unwrap();
    let fields = frame.schema().fields();
    assert_eq!(fields.len(), 11 + 2 * tasks.tasks().len());
    for (name, wanted) in [
        ("report_id", "Utf8"),
        ("reported_at", "Timestamp(ms, \"UTC\")"),
        ("source", "Utf8"),
        ("disc", "Utf8"),
        ("disc_score", "Float32"),
        ("model", "Utf8"),
    ] {
        let field = fields.iter().find(|field| field.name() == name).unwrap();
        assert_eq!(field.data_type().to_string(), wanted, "{name}");
    }
    assert!(frame.count().await.unwrap() > 0);
}

/// With a model of any quality: here one that was never trained.
#[cfg(feature = "train")]
mod untrained {
    use super::*;
    use arrow::array::Array;
    use foramen::archive::{Job, Output, label};
    use foramen::labels::LabelSchema;
    use foramen::model::Model;
    use foramen::train::{Precision, export::export_untrained};

    const INPUTS: [&str; 2] = ["examples/messages/sql-day.hl7", "examples/messages/sql-night.mllp"];

    fn model(folder: &Path) -> Arc<Model> {
        let package = folder.join("model");
        export_untrained(&LabelSchema::spine(), Precision::Float32, 7, &package).unwrap();
        Arc::new(Model::open(&package, &Options::default()).unwrap())
    }

    async fn drawn(context: &SessionContext, sql: &str) -> String {
        shown(context, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sql_has_the_rows_of_label() {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let file = folder.path().join("findings.parquet");
        let job = Job {
            inputs: INPUTS.map(str::to_owned).into(),
            output: Output::named(&file).unwrap(),
            rejects: folder.path().join("rejects.jsonl"),
            reading: Default::default(),
        };
        label(&job, &model, &mut |_| ControlFlow::Continue(())).unwrap();
        let query = foramen::sql::finding_rows("m", model.package().labels().tasks());
        for config in sessions() {
            let context = context(Arc::new(SqlModel::open(Arc::clone(&model))), Default::default(), config).unwrap();
            context.sql("CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION 'examples/messages/sql-*'").await.unwrap();
            // The source names the message, where label names the file.
            let order = "ORDER BY report_id, report_status, level";
            let source = "regexp_replace(source, '.*(examples/.*)#[0-9]+', '\\1')";
            let ours = drawn(&context, &format!("SELECT * REPLACE ({source} AS source) FROM ({query}) {order}")).await;
            let theirs = drawn(&context, &format!("SELECT * FROM '{}' {order}", file.display())).await;
            assert!(ours.lines().count() > 12, "{ours}");
            assert_eq!(ours, theirs);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn embeddings_are_those_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let context =
            context(Arc::new(SqlModel::open(Arc::clone(&model))), Default::default(), SessionConfig::new()).unwrap();
        let text = "L4-5: disc bulge. L5-S1: mild canal stenosis.";
        let query = format!("SELECT e['embedding'] AS v FROM (SELECT unnest(embed_segments('{text}', 1)) AS e)");
        let batches = context.sql(&query).await.unwrap().collect().await.unwrap();
        let column = batches[0].column(0).as_any().downcast_ref::<arrow::array::FixedSizeListArray>().unwrap();
        for (row, expected) in model.embeddings(&[text], 1).unwrap()[0].iter().enumerate() {
            let values = column.value(row);
            let values = values.as_any().downcast_ref::<arrow::array::Float32Array>().unwrap();
            assert_eq!(values.values().as_ref(), expected.values.as_slice());
        }
        assert_eq!(column.len(), 2);
        let said = context.sql("SELECT embed_segments('L4-5', 3)").await.unwrap_err().to_string();
        assert!(said.contains("layers 0 to 2"), "{said}");
    }

    /// Enough groups that dictionaries of grades with Int8 keys would overflow in some of these.
    #[tokio::test(flavor = "multi_thread")]
    async fn partitions_and_batches_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let mut answers = Vec::new();
        for config in sessions() {
            let context = context(Arc::new(SqlModel::open(Arc::clone(&model))), Default::default(), config).unwrap();
            let reports = "CREATE TABLE r AS SELECT value AS id, CASE WHEN value % 7 = 0 THEN NULL ELSE \
                           'L4-5: bulge, case ' || value || '. L5-S1: severe stenosis.' END AS text FROM generate_series(1, 150)";
            context.sql(reports).await.unwrap().collect().await.unwrap();
            let findings = "(SELECT id, unnest(extract_findings(text)) AS f FROM r)";
            let mut answer = String::new();
            for query in [
                format!("SELECT id, f FROM {findings} ORDER BY id, f['level']"),
                format!("SELECT f['disc'] AS d, f['cord'] AS c, count(*) AS n FROM {findings} GROUP BY 1, 2 ORDER BY 1, 2"),
                format!("SELECT id, first_value(f['disc'] ORDER BY f['level']) AS d FROM {findings} GROUP BY id ORDER BY id"),
                "SELECT id, extract_findings(text) IS NULL AS none FROM r WHERE cardinality(extract_findings(text)) IS NULL ORDER BY id".into(),
            ] {
                answer += &drawn(&context, &query).await;
            }
            answers.push(answer);
        }
        assert!(answers[0].contains("| 147 | true |"), "{}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }
}
