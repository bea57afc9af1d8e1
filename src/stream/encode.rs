//! The value of a record: a version of a report with its rows, as JSON, Avro or Arrow IPC.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{LineDelimited, WriterBuilder as JsonBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_avro::schema::{AVRO_NAME_METADATA_KEY, AVRO_NAMESPACE_METADATA_KEY, AvroSchema, FingerprintStrategy};
use arrow_avro::writer::format::AvroSoeFormat;
use arrow_avro::writer::{Encoder as AvroEncoder, WriterBuilder as AvroBuilder};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// The form of a record's value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object.
    #[default]
    Json,
    /// Avro's single-object encoding, or Confluent's form of it.
    Avro,
    /// A stream of Arrow IPC with one record batch.
    Arrow,
}

/// Why rows have no such form. The text never quotes a value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// A column's type.
    #[error("the column `{column}` is {data_type}, which has no form in the sink's records; CAST it in the query")]
    Type { column: String, data_type: DataType },
    /// A column's name.
    #[error("the column `{0}` has a name that Avro does not allow (letters, digits and _); name it anew with AS")]
    Name(String),
    /// The encoder refuses.
    #[error("rows can't be brought into the sink's format: {0}")]
    Format(&'static str),
}

/// What is said of a report: its columns, and the rows as a list. `rows` are the transform's columns.
pub(crate) fn envelope_schema(rows: &Schema) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let names = [(AVRO_NAME_METADATA_KEY, "Row"), (AVRO_NAMESPACE_METADATA_KEY, "foramen")];
    let item = Field::new_list_field(DataType::Struct(rows.fields().clone()), false).with_metadata(metadata(&names));
    let fields = vec![
        text("report_id"),
        text("report_status"),
        Field::new("version", DataType::Int32, false),
        Field::new("version_at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        text("change"),
        text("source"),
        Field::new("rows", DataType::List(Arc::new(item)), false),
    ];
    let names = [(AVRO_NAME_METADATA_KEY, "Report"), (AVRO_NAMESPACE_METADATA_KEY, "foramen")];
    Arc::new(Schema::new_with_metadata(fields, metadata(&names)))
}

fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Brings envelopes into a format. Made once for a query, so that what has no form is an error at the start.
pub(crate) struct Encoder {
    form: Form,
    /// The envelope with columns of types that every format has.
    plain: SchemaRef,
}

enum Form {
    Json,
    Avro(Box<AvroEncoder>),
    Arrow,
}

impl Encoder {
    pub(crate) fn new(format: Format, rows: &Schema, schema_id: Option<u32>) -> Result<Encoder, EncodeError> {
        let plain = envelope_schema(&Schema::new(plain_fields(rows.fields())?));
        let form = match format {
            Format::Json => Form::Json,
            Format::Arrow => Form::Arrow,
            Format::Avro => {
                check_names(rows.fields())?;
                let strategy = schema_id.map_or(FingerprintStrategy::Rabin, FingerprintStrategy::Id);
                let builder = AvroBuilder::new(plain.as_ref().clone()).with_fingerprint_strategy(strategy);
                let encoder = builder.build_encoder::<AvroSoeFormat>();
                Form::Avro(Box::new(encoder.map_err(|_| EncodeError::Format("Avro has no schema for them"))?))
            }
        };
        Ok(Encoder { form, plain })
    }

    /// One value a row of the envelope, in order.
    pub(crate) fn encode(&mut self, envelope: &RecordBatch) -> Result<Vec<Vec<u8>>, EncodeError> {
        let envelope = self.to_plain(envelope).map_err(|_| EncodeError::Format("a column can't be cast"))?;
        match &mut self.form {
            Form::Json => json(&envelope).map_err(|_| EncodeError::Format("JSON")),
            Form::Avro(encoder) => {
                encoder.encode(&envelope).map_err(|_| EncodeError::Format("Avro"))?;
                Ok(encoder.flush().iter().map(|row| row.to_vec()).collect())
            }
            Form::Arrow => ipc(&envelope).map_err(|_| EncodeError::Format("Arrow IPC")),
        }
    }

    /// What the header `content-type` says.
    pub(crate) fn content_type(&self) -> &'static str {
        match self.form {
            Form::Json => "application/json",
            Form::Avro(_) => "avro/binary",
            Form::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The schema of Avro values, as it is registered or given to readers; none where values are in another form.
    pub(crate) fn avro_schema(&self) -> Option<String> {
        let Form::Avro(_) = self.form else { return None };
        AvroSchema::try_from(self.plain.as_ref()).ok().map(|schema| schema.json_string)
    }

    fn to_plain(&self, envelope: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let cast_to = |(column, field): (&ArrayRef, &FieldRef)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        };
        let columns = envelope.columns().iter().zip(self.plain.fields()).map(cast_to).collect::<Result<_, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.plain), columns)
    }
}

fn plain_fields(fields: &Fields) -> Result<Vec<Field>, EncodeError> {
    let plain_field = |field: &FieldRef| {
        let data_type = plain(field.data_type());
        let data_type = data_type
            .ok_or_else(|| EncodeError::Type { column: field.name().clone(), data_type: field.data_type().clone() })?;
        Ok(Field::new(field.name(), data_type, field.is_nullable()))
    };
    fields.iter().map(plain_field).collect()
}

/// The type that stands for another in every format; `None` where there is none.
fn plain(data_type: &DataType) -> Option<DataType> {
    use DataType::*;
    let item = |field: &FieldRef| Some(Arc::new(Field::new_list_field(plain(field.data_type())?, field.is_nullable())));
    Some(match data_type {
        Utf8 | LargeUtf8 | Utf8View => Utf8,
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Boolean | Int32 | Int64 | Float32 | Float64 | Date32 | Null => data_type.clone(),
        Int8 | Int16 | UInt8 | UInt16 => Int32,
        UInt32 => Int64,
        Float16 => Float32,
        Decimal128(precision, scale) if *scale >= 0 => Decimal128(*precision, *scale),
        Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => {
            Timestamp(TimeUnit::Millisecond, zone.as_ref().map(|_| "UTC".into()))
        }
        Timestamp(_, zone) => Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into())),
        Date64 => Timestamp(TimeUnit::Millisecond, None),
        Dictionary(_, value) => plain(value)?,
        List(field) | LargeList(field) | FixedSizeList(field, _) | ListView(field) | LargeListView(field) => {
            List(item(field)?)
        }
        Struct(fields) => Struct(plain_fields(fields).ok()?.into()),
        _ => return None,
    })
}

fn check_names(fields: &Fields) -> Result<(), EncodeError> {
    for field in fields {
        let name = field.name();
        let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        if !starts || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(EncodeError::Name(name.clone()));
        }
        match field.data_type() {
            DataType::Struct(inner) => check_names(inner)?,
            DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)) => {
                check_names(&Fields::from(vec![Arc::clone(item)]))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn json(envelope: &RecordBatch) -> Result<Vec<Vec<u8>>, ArrowError> {
    let mut writer = JsonBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(envelope)?;
    writer.finish()?;
    // Line ends within texts are escaped.
    let lines = writer.into_inner();
    Ok(lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

fn ipc(envelope: &RecordBatch) -> Result<Vec<Vec<u8>>, ArrowError> {
    let (rows, about): (Vec<_>, Vec<_>) = envelope
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .zip(envelope.columns())
        .partition(|(name, _)| name == "rows");
    let Some((_, rows)) = rows.first() else { return Err(ArrowError::SchemaError("no rows".into())) };
    let options = FormatOptions::default();
    let about = about.iter().map(|(name, column)| Ok((name, ArrayFormatter::try_new(column.as_ref(), &options)?)));
    let about = about.collect::<Result<Vec<_>, ArrowError>>()?;
    let rows = rows.as_list::<i32>();
    let mut values = Vec::with_capacity(envelope.num_rows());
    for at in 0..envelope.num_rows() {
        let own: StructArray = rows.value(at).as_struct().clone();
        let metadata = about.iter().map(|(name, column)| (format!("foramen.{name}"), column.value(at).to_string()));
        let schema = Arc::new(Schema::new_with_metadata(own.fields().clone(), metadata.collect::<HashMap<_, _>>()));
        let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(own.len()));
        writer.write(&RecordBatch::try_new_with_options(Arc::clone(&schema), own.columns().to_vec(), &options)?)?;
        values.push(writer.into_inner()?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        DictionaryArray, Float32Array, Int8Array, Int32Array, ListArray, StringArray, StringViewArray,
        TimestampMillisecondArray, UInt64Array,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Int8Type;
    use arrow::ipc::reader::StreamReader;
    use arrow_avro::reader::ReaderBuilder;
    use arrow_avro::schema::{Fingerprint, SchemaStore};

    /// Two reports: one of two rows, one of none.
    fn envelope() -> (Schema, RecordBatch) {
        let grades = DictionaryArray::<Int8Type>::try_new(
            Int8Array::from(vec![Some(1), None]),
            Arc::new(StringArray::from(vec!["normal", "bulge"])),
        );
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("level", Arc::new(StringViewArray::from(vec!["L4-L5", "L5-S1, with \"quotes\"\nand é"])), false),
            ("disc", Arc::new(grades.unwrap()), true),
            ("disc_score", Arc::new(Float32Array::from(vec![0.5, 1.0])), false),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(name, column, null)| Field::new(*name, column.data_type().clone(), *null)).collect();
        let rows = Schema::new(fields);
        let schema = envelope_schema(&rows);
        let DataType::List(item) = schema.field(6).data_type() else { panic!() };
        let all = StructArray::new(rows.fields().clone(), columns.into_iter().map(|(_, c, _)| c).collect(), None);
        let text = |values: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
        let times = TimestampMillisecondArray::from(vec![Some(1_772_409_600_000), None]).with_timezone("UTC");
        let lists = ListArray::new(Arc::clone(item), OffsetBuffer::from_lengths([2, 0]), Arc::new(all), None);
        let columns: Vec<ArrayRef> = vec![
            text(["A", "B"]),
            text(["final", "corrected"]),
            Arc::new(Int32Array::from(vec![1, 3])),
            Arc::new(times),
            text(["report", "status"]),
            text(["hl7/0/1", "hl7/0/2"]),
            Arc::new(lists),
        ];
        (rows, RecordBatch::try_new(schema, columns).unwrap())
    }

    fn encoded(format: Format, id: Option<u32>) -> (Encoder, Vec<Vec<u8>>) {
        let (rows, envelope) = envelope();
        let mut encoder = Encoder::new(format, &rows, id).unwrap();
        let values = encoder.encode(&envelope).unwrap();
        assert_eq!(values.len(), 2);
        assert_eq!(encoder.encode(&envelope.slice(1, 1)).unwrap(), values[1..], "a value depends on its row alone");
        (encoder, values)
    }

    const ONE: &str = r#"{"report_id":"A","report_status":"final","version":1,"version_at":"2026-03-02T00:00:00Z","change":"report","source":"hl7/0/1","rows":[{"level":"L4-L5","disc":"bulge","disc_score":0.5},{"level":"L5-S1, with \"quotes\"\nand é","disc":null,"disc_score":1.0}]}"#;
    const TWO: &str = r#"{"report_id":"B","report_status":"corrected","version":3,"version_at":null,"change":"status","source":"hl7/0/2","rows":[]}"#;

    #[test]
    fn json_is_an_object_a_report() {
        let (encoder, values) = encoded(Format::Json, None);
        let texts: Vec<&str> = values.iter().map(|value| std::str::from_utf8(value).unwrap()).collect();
        assert_eq!(texts, [ONE, TWO]);
        assert_eq!(encoder.content_type(), "application/json");
    }

    #[test]
    fn avro_is_read_back_by_its_fingerprint_or_its_number() {
        for id in [None, Some(258)] {
            let (encoder, values) = encoded(Format::Avro, id);
            let schema = AvroSchema::new(encoder.avro_schema().unwrap());
            let mut store = match id {
                None => SchemaStore::new(),
                Some(_) => SchemaStore::new_with_type(arrow_avro::schema::FingerprintAlgorithm::Id),
            };
            match id {
                None => store.register(schema).unwrap(),
                Some(id) => store.set(Fingerprint::Id(id), schema).unwrap(),
            };
            let mut decoder = ReaderBuilder::new().with_writer_schema_store(store).build_decoder().unwrap();
            let start: &[u8] = if id.is_some() { &[0, 0, 0, 1, 2] } else { &[0xC3, 0x01] };
            for value in &values {
                assert!(value.starts_with(start), "{value:?}");
                decoder.decode(value).unwrap();
            }
            let read = decoder.flush().unwrap().unwrap();
            let again = json(&read).unwrap();
            assert_eq!(again.iter().map(|v| std::str::from_utf8(v).unwrap()).collect::<Vec<_>>(), [ONE, TWO]);
        }
    }

    #[test]
    fn arrow_is_a_stream_with_the_report_in_its_metadata() {
        let (_, values) = encoded(Format::Arrow, None);
        let read = |value: &[u8]| {
            let reader = StreamReader::try_new(value, None).unwrap();
            let about = reader.schema().metadata().clone();
            (about, reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>())
        };
        let (about, rows) = read(&values[0]);
        assert_eq!((about["foramen.report_id"].as_str(), rows), ("A", 2));
        assert_eq!(about["foramen.version_at"], "2026-03-02T00:00:00Z");
        let (about, rows) = read(&values[1]);
        assert_eq!((about["foramen.version"].as_str(), about["foramen.version_at"].as_str(), rows), ("3", "", 0));
    }

    #[test]
    fn what_has_no_form_is_an_error_that_names_its_column() {
        let one = |name: &str, data_type| Schema::new(vec![Field::new(name, data_type, true)]);
        let error = |format, schema: &Schema| Encoder::new(format, schema, None).map(|_| ()).unwrap_err().to_string();
        let count = one("n", UInt64Array::from(vec![1]).data_type().clone());
        for format in [Format::Json, Format::Avro, Format::Arrow] {
            assert!(error(format, &count).contains("`n` is UInt64") && error(format, &count).contains("CAST"));
        }
        assert!(error(Format::Avro, &one("a b", DataType::Utf8)).contains("`a b`"));
        assert!(Encoder::new(Format::Json, &one("a b", DataType::Utf8), None).is_ok());
        let nested = DataType::List(Arc::new(Field::new_list_field(
            DataType::Struct(one("x", DataType::Utf8View).fields),
            true,
        )));
        for format in [Format::Json, Format::Avro, Format::Arrow] {
            assert!(Encoder::new(format, &one("l", nested.clone()), None).is_ok());
        }
    }

    /// The schemas of the default query's records, as files for those who read them.
    #[tokio::test]
    async fn schemas_of_the_default_rows_are_written_down() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let model = crate::model::Model::open(&root.join("models/spine"), &Default::default()).unwrap();
        let labels = model.package().labels().clone();
        let hl7 = crate::hl7::Options::default();
        let transform = super::super::transform::Transform::plan("SELECT * FROM findings", Arc::new(model), &hl7);
        let transform = transform.await.unwrap();
        let encoder = Encoder::new(Format::Avro, transform.schema(), None).unwrap();
        let avro: serde_json::Value = serde_json::from_str(&encoder.avro_schema().unwrap()).unwrap();
        for (file, schema) in [("findings.avsc", avro), ("findings.schema.json", json_schema(&encoder.plain, &labels))]
        {
            let (path, text) = (root.join("schemas").join(file), serde_json::to_string_pretty(&schema).unwrap() + "\n");
            if std::env::var_os("FORAMEN_UPDATE").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(written == text, "schemas/{file} is not what is written: FORAMEN_UPDATE=1 writes it anew");
        }
    }

    /// JSON Schema of an envelope's JSON value.
    fn json_schema(envelope: &Schema, labels: &crate::labels::LabelSchema) -> serde_json::Value {
        use serde_json::json;
        let DataType::List(item) = envelope.field(6).data_type() else { panic!() };
        let DataType::Struct(rows) = item.data_type() else { panic!() };
        let column = |field: &FieldRef| {
            let kind = match field.data_type() {
                DataType::Utf8 => "string",
                DataType::Int32 => "integer",
                DataType::Float32 => "number",
                DataType::Timestamp(..) => return json!({"type": ["string", "null"], "format": "date-time"}),
                DataType::List(_) => "array",
                other => panic!("{other}"),
            };
            match labels.tasks().iter().find(|task| task.name == *field.name()) {
                Some(task) => json!({"enum": task.grades}),
                None if field.is_nullable() => json!({"type": [kind, "null"]}),
                None => json!({"type": kind}),
            }
        };
        let object = |fields: &Fields| {
            let names: Vec<&String> = fields.iter().map(|field| field.name()).collect();
            let properties: serde_json::Map<_, _> = fields.iter().map(|f| (f.name().clone(), column(f))).collect();
            json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
        };
        let mut schema = object(envelope.fields());
        schema["properties"]["rows"]["items"] = object(rows);
        schema["properties"]["report_status"] = json!({"enum": ["preliminary", "final", "corrected"]});
        schema["properties"]["change"] = json!({"enum": ["report", "status"]});
        let (id, title) = ("https://json-schema.org/draft/2020-12/schema", "A version of a report, with its findings");
        schema["$schema"] = json!(id);
        schema["title"] = json!(title);
        schema
    }
}
