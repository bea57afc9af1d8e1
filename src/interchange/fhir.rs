//! A report's findings as FHIR R4 (4.0.1): a transaction of the model as a Device, an Observation a motion segment with a component a task, and a
//! DiagnosticReport that refers to them.
//!
//! A row is one reading by one device at one place, which is what components are for; IHE's Imaging Diagnostic Report would have an Observation a
//! task. Ids are hashes, so that a later version of a report takes the place of the earlier one. Everything is labelled as asserted by artificial
//! intelligence (HL7 v3 ObservationValue `AIAST`).

use super::codes::CodeMap;
use super::rows::{Grade, Report, Segment};
use crate::labels::LabelSchema;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Systems of this project's own identifiers and codes begin so.
pub const SYSTEM: &str = "urn:foramen";
/// Stands for the server that a transaction is sent to.
const BASE: &str = "http://localhost/fhir";
/// Probability that a value is right, on each component: HL7 AI Transparency on FHIR, from its build of July 2026 on.
pub const CONFIDENCE: &str = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition/AIconfidence";
const DEVICE_TYPE: &str = "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS";
const IDENTIFIER_TYPE: &str = "http://terminology.hl7.org/CodeSystem/v2-0203";

/// How resources are written.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Codes of other systems that stand beside the project's own.
    pub codes: Vec<CodeMap>,
    /// Leaves out the sentences that were read.
    pub no_evidence: bool,
}

/// The transaction of one report.
pub fn bundle(report: &Report, schema: &LabelSchema, options: &Options) -> Value {
    let device = device(report.model.as_deref());
    let device_id = device.as_ref().map(|device| device["id"].clone());
    let observations: Vec<Value> = report
        .segments
        .iter()
        .map(|segment| observation(report, segment, schema, options, device_id.as_ref()))
        .collect();
    let result: Vec<Value> = observations
        .iter()
        .zip(&report.segments)
        .map(|(observation, segment)| {
            let id = observation["id"].as_str().unwrap_or_default();
            json!({ "reference": format!("Observation/{id}"), "display": segment.level })
        })
        .collect();
    let entries = device.into_iter().chain(observations).chain([diagnostic_report(report, result)]);
    let entries: Vec<Value> = entries
        .map(|resource| {
            let kind = resource["resourceType"].as_str().unwrap_or_default();
            let url = format!("{kind}/{}", resource["id"].as_str().unwrap_or_default());
            // References are relative, and resolve against this base until the server puts its own in its place.
            json!({ "fullUrl": format!("{BASE}/{url}"), "resource": resource, "request": { "method": "PUT", "url": url } })
        })
        .collect();
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
}

/// An id of FHIR's alphabet that is the same for the same parts.
fn id(prefix: &str, parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\u{1f}"));
    let hex: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}-{hex}")
}

fn asserted() -> Value {
    json!({ "security": [{
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
        "code": "AIAST",
        "display": "Artificial Intelligence asserted",
    }] })
}

/// A resource without its empty members, which FHIR has none of.
fn resource(members: Value) -> Value {
    let Value::Object(members) = members else { return members };
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    };
    Value::Object(members.into_iter().filter(|(_, value)| !empty(value)).collect::<Map<_, _>>())
}

fn identified(kind: &str, code: &str, display: &str, value: &str) -> Value {
    let coding = json!([{ "system": IDENTIFIER_TYPE, "code": code, "display": display }]);
    json!({ "type": kind, "identifier": { "type": { "coding": coding }, "value": value } })
}

fn based_on(report: &Report) -> Value {
    json!([identified("ServiceRequest", "FILL", "Filler Identifier", &report.report_id)])
}

fn subject(report: &Report) -> Value {
    let id = report.patient_id.as_deref().filter(|id| !id.trim().is_empty());
    id.map_or(Value::Null, |id| identified("Patient", "MR", "Medical record number", id))
}

fn issued(report: &Report) -> Value {
    let time = report.reported_at.and_then(DateTime::from_timestamp_millis);
    time.map_or(Value::Null, |time| time.to_rfc3339_opts(SecondsFormat::Millis, true).into())
}

/// ObservationStatus and DiagnosticReportStatus have these in common.
fn status(report: &Report) -> &'static str {
    match report.status.as_deref() {
        Some("preliminary") => "preliminary",
        Some("final") => "final",
        Some("corrected") => "corrected",
        Some("retracted") => "entered-in-error",
        _ => "unknown",
    }
}

/// The model: `spine@1.2.0 0123456789ab`.
fn device(model: Option<&str>) -> Option<Value> {
    let model = model.filter(|model| !model.trim().is_empty())?;
    let (name, hash) = model.split_once(' ').unwrap_or((model, ""));
    let (name, version) = name.split_once('@').unwrap_or((name, ""));
    let versions = [(version, "version"), (hash, "sha256 of the package, first 12 hexadecimal digits")];
    let versions = versions.into_iter().filter(|(value, _)| !value.is_empty());
    let versions: Vec<Value> =
        versions.map(|(value, kind)| json!({ "type": { "text": kind }, "value": value })).collect();
    Some(resource(json!({
        "resourceType": "Device",
        "id": id("d", &[model]),
        "identifier": [{ "system": format!("{SYSTEM}:model"), "value": model }],
        "status": "active",
        "deviceName": [{ "name": format!("foramen {name}"), "type": "model-name" }],
        "type": {
            "coding": [{ "system": DEVICE_TYPE, "code": "Artificial-Intelligence" }],
            "text": "Text classification model; not a medical device",
        },
        "version": versions,
    })))
}

fn observation(
    report: &Report,
    segment: &Segment,
    schema: &LabelSchema,
    options: &Options,
    device: Option<&Value>,
) -> Value {
    let maps: Vec<&CodeMap> = options.codes.iter().filter(|map| map.speaks_of(&segment.level)).collect();
    let own = json!({ "system": format!("{SYSTEM}:schema:{}", schema.id()), "code": "motion-segment-findings" });
    let sets = maps.iter().filter_map(|map| coding(map, map.set.as_ref().map(|set| (&set.code, &set.display))));
    let sites: Vec<Value> = maps
        .iter()
        .filter_map(|map| coding(map, map.segments.get(&segment.level).map(|site| (&site.code, &site.display))))
        .collect();
    let region = segment.region.as_deref().map(|region| format!(" ({region})")).unwrap_or_default();
    let mut site = json!({ "text": format!("{} motion segment{region}", segment.level) });
    if !sites.is_empty() {
        site["coding"] = sites.into();
    }
    let note = segment.evidence.as_deref().filter(|text| !options.no_evidence && !text.trim().is_empty());
    let components: Vec<Value> = segment.grades.iter().map(|grade| component(grade, schema, &maps)).collect();
    resource(json!({
        "resourceType": "Observation",
        "id": id("f", &[&report.report_id, &segment.level]),
        "meta": asserted(),
        "identifier": [{ "system": format!("{SYSTEM}:finding"), "value": format!("{}|{}", report.report_id, segment.level) }],
        "basedOn": based_on(report),
        "status": status(report),
        "category": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging", "display": "Imaging",
        }] }],
        "code": {
            "coding": std::iter::once(own).chain(sets).collect::<Vec<_>>(),
            "text": "Degenerative findings of a motion segment",
        },
        "subject": subject(report),
        "issued": issued(report),
        "note": note.map(|text| json!([{ "text": text }])),
        "bodySite": site,
        "method": { "text": "read off the text of the radiology report by a text classifier" },
        "device": device.and_then(Value::as_str).map(|id| json!({ "reference": format!("Device/{id}") })),
        "derivedFrom": [{
            "type": "DocumentReference",
            "identifier": { "system": format!("{SYSTEM}:report"), "value": report.report_id },
            "display": "text of the radiology report",
        }],
        "component": components,
    }))
}

fn coding(map: &CodeMap, code: Option<(&String, &String)>) -> Option<Value> {
    let (code, display) = code?;
    Some(json!({ "system": map.system, "code": code, "display": display }))
}

/// A task with its grade; where that was withheld, with the reason that there is none.
fn component(grade: &Grade, schema: &LabelSchema, maps: &[&CodeMap]) -> Value {
    let task = schema.task(&grade.task).map(|index| &schema.tasks()[index]);
    let about = task.map_or("", |task| task.description.as_str());
    let words = if about.is_empty() { grade.task.as_str() } else { about };
    let system = format!("{SYSTEM}:schema:{}", schema.id());
    let codes = maps.iter().filter_map(|map| Some((*map, map.task(&grade.task)?)));
    let others = codes.clone().filter_map(|(map, task)| coding(map, Some((&task.code, &task.display))));
    let own = json!({ "system": system, "code": grade.task, "display": words });
    let mut out =
        json!({ "code": { "coding": std::iter::once(own).chain(others).collect::<Vec<_>>(), "text": words } });
    match &grade.grade {
        Some(name) => {
            let others =
                codes.filter_map(|(map, task)| coding(map, task.grades.get(name).map(|c| (&c.code, &c.display))));
            let own = json!({ "system": format!("{system}:{}", grade.task), "code": name });
            let coded: Vec<Value> = std::iter::once(own).chain(others).collect();
            out["valueCodeableConcept"] = json!({ "coding": coded, "text": name });
        }
        None => {
            out["dataAbsentReason"] = json!({ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown", "display": "Unknown",
            }], "text": "the score is below the least that was asked for" });
        }
    }
    if let Some(score) = grade.score.filter(|score| score.is_finite()) {
        // The shortest number that is this float32: 0.91 rather than 0.9100000262451172.
        let shortest = score.to_string().parse::<f64>().unwrap_or(f64::from(score));
        out["extension"] = json!([{ "url": CONFIDENCE, "valueDecimal": shortest }]);
    }
    out
}

fn diagnostic_report(report: &Report, result: Vec<Value>) -> Value {
    let filler = identified("ServiceRequest", "FILL", "Filler Identifier", &report.report_id);
    let exam = report.exam.as_deref().filter(|exam| !exam.trim().is_empty());
    resource(json!({
        "resourceType": "DiagnosticReport",
        // Not the hospital's own report's, which this one must never take the place of.
        "id": id("r", &[&report.report_id]),
        "meta": asserted(),
        "identifier": [{ "system": format!("{SYSTEM}:report"), "value": report.report_id }, filler["identifier"].clone()],
        "basedOn": based_on(report),
        "status": status(report),
        "category": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology",
        }] }],
        "code": { "text": exam.unwrap_or("MRI of the spine") },
        "subject": subject(report),
        "issued": issued(report),
        "result": result,
    }))
}
