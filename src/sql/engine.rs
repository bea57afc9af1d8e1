//! The bridges from [`Model`] and the HL7 reader to what the SQL functions ask for.

use crate::hl7::{self, FieldError, Kind, PieceReader, Study};
use crate::model::{self, Model, Options};
use crate::report;
use foramen_udfs::engine::{
    Embedding, Explanation, Finding, MessageError, MessageReader, ModelError, ModelInfo, Piece, Pieces, Report,
    ReportModel, Segment, Task,
};
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A model for SQL: open already, or a folder that the first query in need of it opens.
pub struct SqlModel {
    folder: PathBuf,
    options: Options,
    opening: Mutex<()>,
    opened: OnceLock<(Arc<Model>, ModelInfo)>,
}

impl SqlModel {
    /// The package in a folder, opened when a query first needs it. A failure is tried again by the next query.
    pub fn lazy(folder: impl Into<PathBuf>, options: Options) -> Self {
        Self { folder: folder.into(), options, opening: Mutex::new(()), opened: OnceLock::new() }
    }

    /// A model that is open, shared with others of its users.
    pub fn open(model: Arc<Model>) -> Self {
        let sql = Self::lazy(PathBuf::new(), Options::default());
        let info = info(&model);
        sql.opened.get_or_init(|| (model, info));
        sql
    }

    fn opened(&self) -> Result<&(Arc<Model>, ModelInfo), model::Error> {
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let model = Arc::new(Model::open(&self.folder, &self.options)?);
        let info = info(&model);
        Ok(self.opened.get_or_init(|| (model, info)))
    }
}

fn info(model: &Model) -> ModelInfo {
    let (manifest, labels) = (model.package().manifest(), model.package().labels());
    let task = |task: &crate::labels::Task| Task { name: task.name.clone(), grades: task.grades.clone() };
    ModelInfo {
        id: model.id().to_owned(),
        tasks: labels.tasks().iter().map(task).collect(),
        layers: manifest.layers,
        width: manifest.width,
    }
}

impl fmt::Debug for SqlModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.opened.get() {
            Some((_, info)) => write!(f, "SqlModel({})", info.id),
            None => write!(f, "SqlModel({}, not opened)", self.folder.display()),
        }
    }
}

impl ReportModel for SqlModel {
    fn info(&self) -> Result<&ModelInfo, ModelError> {
        Ok(&self.opened()?.1)
    }

    fn segments(&self, text: &str) -> Vec<Segment> {
        segments(text)
    }

    fn findings(&self, texts: &[&str]) -> Result<Vec<Vec<Finding>>, ModelError> {
        let finding = |found: model::Finding| Finding {
            segment: segment(found.segment),
            grades: found.grades.iter().map(|graded| (graded.grade, graded.score)).collect(),
        };
        let found = self.opened()?.0.findings(texts)?;
        Ok(found.into_iter().map(|list| list.into_iter().map(finding).collect()).collect())
    }

    fn explain(&self, text: &str) -> Result<Vec<Explanation>, ModelError> {
        let model = &self.opened()?.0;
        let mut out = Vec::new();
        for model::Explanation { segment: found, why } in model.explain(text)? {
            let (region, level) = (found.region.to_string(), found.level.to_string());
            out.extend(why.into_iter().map(|why| Explanation {
                region: region.clone(),
                level: level.clone(),
                task: why.task,
                grade: why.grade,
                score: why.score,
                sentences: why.sentences,
                without: why.without,
            }));
        }
        Ok(out)
    }

    fn embeddings(&self, texts: &[&str], layer: usize) -> Result<Vec<Vec<Embedding>>, ModelError> {
        let embedding = |found: model::Embedding| Embedding { segment: segment(found.segment), values: found.values };
        let found = self.opened()?.0.embeddings(texts, layer)?;
        Ok(found.into_iter().map(|list| list.into_iter().map(embedding).collect()).collect())
    }
}

/// The motion segments of a text, which no model is needed for.
pub(crate) fn segments(text: &str) -> Vec<Segment> {
    report::segments(text).into_iter().map(segment).collect()
}

fn segment(found: report::Segment) -> Segment {
    Segment { region: found.region.to_string(), level: found.level.to_string(), evidence: found.evidence }
}

/// The HL7 reader for SQL. A value that holds several messages (a batch) is read as all of them, and is unreadable where one
/// of them is.
#[derive(Debug, Default)]
pub struct Hl7Reader {
    options: hl7::Options,
}

impl Hl7Reader {
    /// A reader with options of its own.
    pub fn new(options: hl7::Options) -> Self {
        Self { options }
    }
}

impl MessageReader for Hl7Reader {
    fn split(&self, input: Box<dyn Read + Send>) -> Pieces {
        let pieces = PieceReader::new(input, self.options.clone());
        Box::new(pieces.map(|piece| piece.map(|hl7::Piece { offset, bytes, .. }| Piece { offset, bytes })))
    }

    fn reports(&self, message: &[u8]) -> Result<Vec<Report>, MessageError> {
        let mut reports = Vec::new();
        let mut why_none = None;
        for frame in hl7::split(message, &self.options) {
            let read = match frame.reject {
                Some(reject) => Err(reject),
                None => hl7::read(frame.bytes, &self.options),
            };
            let read = read.map_err(|reject| MessageError(reject.to_string()))?;
            why_none.get_or_insert_with(|| none(read.is_report, &read.kind));
            reports.extend(read.studies.into_iter().map(report));
        }
        match why_none.filter(|_| reports.is_empty()) {
            Some(reason) => Err(MessageError(reason)),
            None => Ok(reports),
        }
    }

    fn field(&self, message: &[u8], path: &str) -> Result<Option<String>, MessageError> {
        match hl7::field(message, path, &self.options) {
            Ok(value) => Ok(value),
            Err(FieldError::Path(error)) => Err(MessageError(error.to_string())),
            Err(FieldError::Message(_)) => Ok(None),
        }
    }
}

/// Why a message that can be read has no report.
fn none(is_report: bool, kind: &Kind) -> String {
    if is_report {
        return "no-result at OBR-25: every order of the message has no result yet".to_owned();
    }
    format!("not-a-report at MSH-9: messages of {kind} carry no report")
}

fn report(study: Study) -> Report {
    Report {
        report_id: study.report_id,
        linked_ids: study.linked_ids,
        message_control_id: study.message_control_id,
        patient_id: study.patient_id.map(|id| id.into_exposed()),
        report_status: Some(study.status.name().to_owned()),
        reported_at: study.reported_at.map(|time| time.timestamp_millis()),
        exam: study.exam,
        text: study.text.into_exposed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "MSH|^~\\&|a|b|c|d|20260302||ORU^R01|1|P|2.5\rPID|1||77^^^H^MR\rOBR|1||A1|72148^MRI\rOBX|1|TX|&GDT||L4-5: bulge.||||||F\r";

    fn reasons(messages: &[&str]) -> Vec<String> {
        let reader = Hl7Reader::default();
        messages.iter().map(|m| reader.reports(m.as_bytes()).map(|r| r.len()).unwrap_err().to_string()).collect()
    }

    #[test]
    fn a_study_is_a_report() {
        let reports = Hl7Reader::default().reports(ONE.as_bytes()).unwrap();
        let [report] = reports.as_slice() else { panic!("{} reports", reports.len()) };
        assert_eq!((report.report_id.as_str(), report.text.as_str()), ("A1", "L4-5: bulge."));
        assert_eq!((report.patient_id.as_deref(), report.report_status.as_deref()), (Some("77"), Some("final")));
        assert_eq!(report.reported_at, Some(1_772_409_600_000));
    }

    #[test]
    fn a_batch_in_one_value_is_all_its_messages_or_none() {
        let two = format!("BHS|^~\\&\r{ONE}{}BTS|2\r", ONE.replace("A1", "A2"));
        assert_eq!(Hl7Reader::default().reports(two.as_bytes()).unwrap().len(), 2);
        let adt = "MSH|^~\\&|||||||ADT^A01|2|P|2.5\r";
        assert_eq!(Hl7Reader::default().reports(format!("{ONE}{adt}").as_bytes()).unwrap().len(), 1);
        let reasons =
            reasons(&[&format!("stray\r{ONE}"), adt, "MSH|^~\\&|||||||Jane Doe|2|P|2.5\r", "", &format!("\u{b}{ONE}")]);
        assert!(reasons[0].starts_with("no-msh at byte 0"), "{reasons:?}");
        assert!(reasons[1].starts_with("not-a-report at MSH-9: messages of ADT^A01 "), "{reasons:?}");
        assert!(reasons[2].starts_with("not-a-report") && !reasons[2].contains("JANE"), "{reasons:?}");
        assert!(reasons[3].starts_with("no-msh"), "{reasons:?}");
        assert!(reasons[4].starts_with("truncated"), "{reasons:?}");
    }

    #[test]
    fn a_path_that_is_none_is_an_error_and_a_message_that_is_none_is_not() {
        let reader = Hl7Reader::default();
        assert_eq!(reader.field(ONE.as_bytes(), "OBR-4.2"), Ok(Some("MRI".to_owned())));
        assert_eq!(reader.field(b"", "OBR-4"), Ok(None));
        assert!(reader.field(b"", "OBR").unwrap_err().to_string().contains("OBX-5"));
    }

    #[test]
    fn a_model_that_is_not_there_is_no_panic_and_no_lock() {
        let model = SqlModel::lazy("no/such/model", Options::default());
        assert_eq!(model.segments("L4-5").len(), 1);
        for _ in 0..2 {
            assert!(model.info().unwrap_err().to_string().contains("no/such/model"));
            assert!(model.findings(&["L4-5"]).is_err());
        }
        assert_eq!(format!("{model:?}"), "SqlModel(no/such/model, not opened)");
    }
}
