//! A small model and a small message reader for this crate's own tests: real ones, if simple. The model grades by key words,
//! counts its calls and keeps its answers as the product's does; the reader knows `MSH`, `OBR`, `OBX` and carriage returns.

use crate::engine::*;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Those of one segment.
type Grades = Vec<(Option<u8>, f32)>;

/// Grades by key words.
#[derive(Debug)]
pub(crate) struct KeyWords {
    info: ModelInfo,
    /// Texts that were graded afresh.
    pub(crate) graded: AtomicUsize,
    /// Calls of `findings`.
    pub(crate) calls: AtomicUsize,
    answers: Mutex<HashMap<String, Vec<Grades>>>,
}

pub(crate) fn engines() -> (Arc<KeyWords>, Arc<dyn MessageReader>) {
    let task = |name: &str, grades: &[&str]| Task {
        name: name.to_owned(),
        grades: grades.iter().map(|grade| (*grade).to_owned()).collect(),
    };
    let tasks = vec![task("disc", &["normal", "bulge", "extrusion"]), task("canal", &["none", "mild", "severe"])];
    let info = ModelInfo { id: "key-words@1 0123456789ab".to_owned(), tasks, layers: 2, width: 4 };
    let model = KeyWords { info, graded: AtomicUsize::new(0), calls: AtomicUsize::new(0), answers: Mutex::default() };
    (Arc::new(model), Arc::new(Lines))
}

impl KeyWords {
    fn grade(&self, text: &str) -> Vec<Grades> {
        self.graded.fetch_add(1, Ordering::SeqCst);
        let grade = |segment: &Segment, task: &Task| {
            let worst = task.grades.iter().rposition(|grade| segment.evidence.contains(grade.as_str()));
            (Some(worst.unwrap_or(0) as u8), 1.0 / segment.evidence.len() as f32)
        };
        self.segments(text).iter().map(|s| self.info.tasks.iter().map(|t| grade(s, t)).collect()).collect()
    }
}

impl ReportModel for KeyWords {
    fn info(&self) -> Result<&ModelInfo, ModelError> {
        Ok(&self.info)
    }

    /// A sentence `L4-L5: …` is a segment.
    fn segments(&self, text: &str) -> Vec<Segment> {
        let sentences = text.split_inclusive('.').map(str::trim);
        let segment = |sentence: &str| {
            let (level, _) = sentence.split_once(':')?;
            let region = if level.starts_with('L') { "lumbar" } else { "cervical" };
            Some(Segment { region: region.to_owned(), level: level.to_owned(), evidence: sentence.to_owned() })
        };
        sentences.filter_map(segment).collect()
    }

    fn findings(&self, texts: &[&str]) -> Result<Vec<Vec<Finding>>, ModelError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if texts.iter().any(|text| text.contains("fail")) {
            return Err("the session could not run".into());
        }
        let mut answers = self.answers.lock().expect("no test panics with it");
        let findings = |text: &&str| {
            let grades = answers.entry((*text).to_owned()).or_insert_with(|| self.grade(text)).clone();
            let both = self.segments(text).into_iter().zip(grades);
            both.map(|(segment, grades)| Finding { segment, grades }).collect()
        };
        Ok(texts.iter().map(findings).collect())
    }

    /// A segment is one sentence here, so each grade hangs on it.
    fn explain(&self, text: &str) -> Result<Vec<Explanation>, ModelError> {
        let mut out = Vec::new();
        for (segment, grades) in self.segments(text).into_iter().zip(self.grade(text)) {
            let start = text.find(&segment.evidence).ok_or("a segment's evidence is of its text")?;
            for (task, (grade, score)) in grades.into_iter().enumerate() {
                let Some(grade) = grade.filter(|grade| *grade > 0) else { continue };
                let sentences = std::iter::once(start..start + segment.evidence.len()).collect();
                let (region, level) = (segment.region.clone(), segment.level.clone());
                out.push(Explanation { region, level, task, grade, score, sentences, without: 0 });
            }
        }
        Ok(out)
    }

    fn embeddings(&self, texts: &[&str], layer: usize) -> Result<Vec<Vec<Embedding>>, ModelError> {
        let embed = |segment: Segment| {
            let values = vec![layer as f32, segment.evidence.len() as f32, 0.5, -1.0];
            Embedding { segment, values }
        };
        Ok(texts.iter().map(|text| self.segments(text).into_iter().map(embed).collect()).collect())
    }
}

/// Reads messages whose segments end with a carriage return; a line feed before `MSH` separates them.
#[derive(Debug)]
struct Lines;

impl MessageReader for Lines {
    fn split(&self, input: Box<dyn Read + Send>) -> Pieces {
        let mut input = BufReader::new(input);
        let mut offset = 0;
        Box::new(std::iter::from_fn(move || {
            let mut bytes = Vec::new();
            let start = offset;
            match input.read_until(b'\n', &mut bytes) {
                Ok(0) => None,
                Ok(length) => {
                    offset += length as u64;
                    bytes.truncate(bytes.trim_ascii_end().len());
                    Some(Ok(Piece { offset: start, bytes }))
                }
                Err(error) => Some(Err(error)),
            }
        }))
    }

    fn reports(&self, message: &[u8]) -> Result<Vec<Report>, MessageError> {
        let text = String::from_utf8_lossy(message).into_owned();
        if !text.starts_with("MSH|") {
            return Err(MessageError("no-msh at byte 0".to_owned()));
        }
        let field = |segment: &str, index: usize| segment.split('|').nth(index).unwrap_or_default().to_owned();
        let mut reports: Vec<Report> = Vec::new();
        for segment in text.split('\r') {
            if segment.starts_with("OBR|") {
                reports.push(Report {
                    report_id: field(segment, 3),
                    linked_ids: vec!["B1".to_owned(), "B2".to_owned()],
                    message_control_id: Some(field(&text, 9)),
                    patient_id: None,
                    report_status: Some("final".to_owned()),
                    reported_at: Some(1_700_000_000_000),
                    exam: Some(field(segment, 4)),
                    text: String::new(),
                });
            } else if let (true, Some(report)) = (segment.starts_with("OBX|"), reports.last_mut()) {
                report.text.push_str(&field(segment, 5));
            }
        }
        if reports.is_empty() { Err(MessageError("not-a-report".to_owned())) } else { Ok(reports) }
    }

    fn field(&self, message: &[u8], path: &str) -> Result<Option<String>, MessageError> {
        let place = path.split_once('-').and_then(|(segment, index)| Some((segment, index.parse::<usize>().ok()?)));
        let (segment, index) = place.ok_or_else(|| MessageError("not a path such as PID-3".to_owned()))?;
        let text = String::from_utf8_lossy(message);
        let found = text.split('\r').find(|line| line.split('|').next() == Some(segment));
        Ok(found.and_then(|line| line.split('|').nth(index)).map(str::to_owned))
    }
}
