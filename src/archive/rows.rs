//! Finding rows: one a motion segment, as Arrow.

use super::item::Report;
use crate::labels::LabelSchema;
use crate::model::{Finding, Graded};
use arrow::array::{
    ArrayRef, DictionaryArray, Float32Builder, Int8Builder, RecordBatch, StringArray, StringBuilder,
    TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use std::collections::HashMap;
use std::sync::Arc;

/// Key of the model's id in the metadata of what is written.
pub const MODEL_KEY: &str = "foramen.model";
/// Key of the label schema's id in the metadata of what is written.
pub const SCHEMA_KEY: &str = "foramen.schema";

/// The columns of finding rows for a label schema: those of the report, `region` and `level`, two a task, `evidence` and `model`.
pub fn finding_schema(labels: &LabelSchema) -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let grade = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let mut fields = vec![
        text("report_id", false),
        text("message_control_id", true),
        text("patient_id", true),
        text("exam", true),
        text("report_status", true),
        Field::new("reported_at", time, true),
        text("source", false),
        text("region", false),
        text("level", false),
    ];
    for task in labels.tasks() {
        // NULL where the score is below the least that was asked for.
        fields.push(Field::new(&task.name, grade.clone(), true));
        fields.push(Field::new(format!("{}_score", task.name), DataType::Float32, false));
    }
    fields.extend([text("evidence", false), text("model", false)]);
    Arc::new(Schema::new(fields))
}

/// The same schema with the model's and the label schema's ids in its metadata.
pub fn with_origin(schema: &Schema, model: &str, labels: &LabelSchema) -> SchemaRef {
    let metadata = [(MODEL_KEY.to_owned(), model.to_owned()), (SCHEMA_KEY.to_owned(), labels.id())];
    Arc::new(schema.clone().with_metadata(HashMap::from(metadata)))
}

/// Collects findings of reports into batches of rows.
pub struct FindingRows {
    schema: SchemaRef,
    model: String,
    texts: [StringBuilder; 9],
    reported_at: TimestampMillisecondBuilder,
    tasks: Vec<(ArrayRef, Int8Builder, Float32Builder)>,
    rows: usize,
}

/// Places in [`FindingRows::texts`], in the order of the columns.
const BEFORE_TIME: std::ops::Range<usize> = 0..5;
const AFTER_TIME: std::ops::Range<usize> = 5..8;
const EVIDENCE: usize = 8;

impl FindingRows {
    /// No rows yet, of a model with this id and these labels.
    pub fn new(labels: &LabelSchema, model: &str) -> Self {
        let grades = |task: &crate::labels::Task| Arc::new(StringArray::from_iter_values(&task.grades)) as ArrayRef;
        let tasks =
            labels.tasks().iter().map(|task| (grades(task), Int8Builder::new(), Float32Builder::new())).collect();
        FindingRows {
            schema: finding_schema(labels),
            model: model.into(),
            texts: Default::default(),
            reported_at: TimestampMillisecondBuilder::new(),
            tasks,
            rows: 0,
        }
    }

    /// Adds a row for each finding of a report.
    pub fn push(&mut self, report: &Report, findings: &[Finding]) {
        for Finding { segment, grades } in findings {
            let (region, level) = (segment.region.to_string(), segment.level.to_string());
            let values = [
                Some(report.report_id.as_str()),
                report.message_control_id.as_deref(),
                report.patient_id.as_ref().map(|id| id.expose().as_str()),
                report.exam.as_deref(),
                report.report_status,
                Some(&report.source),
                Some(&region),
                Some(&level),
                Some(&segment.evidence),
            ];
            self.texts.iter_mut().zip(values).for_each(|(column, value)| column.append_option(value));
            self.reported_at.append_option(report.reported_at);
            for ((_, keys, scores), Graded { grade, score }) in self.tasks.iter_mut().zip(grades) {
                keys.append_option(grade.map(|grade| grade as i8));
                scores.append_value(*score);
            }
            self.rows += 1;
        }
    }

    /// The rows so far; none are left here.
    ///
    /// # Errors
    /// When findings do not fit the labels that this was made for.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let texts: Vec<ArrayRef> = self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        let time = Arc::new(self.reported_at.finish().with_timezone("UTC"));
        let mut columns: Vec<ArrayRef> = texts[BEFORE_TIME].to_vec();
        columns.push(time);
        columns.extend_from_slice(&texts[AFTER_TIME]);
        for (grades, keys, scores) in &mut self.tasks {
            columns.push(Arc::new(DictionaryArray::<Int8Type>::try_new(keys.finish(), Arc::clone(grades))?));
            columns.push(Arc::new(scores.finish()));
        }
        columns.push(Arc::clone(&texts[EVIDENCE]));
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.model, self.rows))));
        self.rows = 0;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}
