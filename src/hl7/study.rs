//! A message's segments to its reports.

use std::borrow::Cow;
use std::collections::HashSet;

use chrono::{DateTime, FixedOffset, Utc};

use super::reject::{Code, Reject, Stage};
use super::segments::{Line, Parsed, part};
use super::status::{self, Meaning};
use super::text::{Narrative, Section};
use super::{Kind, Message, Notices, Opened, Options, Phi, Status, document, time};

/// One report of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// The first identifier that is there of [`Options::report_id`].
    pub report_id: String,
    /// Identifiers of the exams that the same report is for.
    pub linked_ids: Vec<String>,
    /// TXA-13: the document that this one replaces, adds to or takes back.
    pub parent_id: Option<String>,
    /// MSH-10.
    pub message_control_id: Option<String>,
    /// The first PID-3 of type MR or PI, else the first PID-3, else PID-2.
    pub patient_id: Option<Phi<String>>,
    /// OBR-4.2, else OBR-4.1, else OBR-44.2.
    pub exam: Option<String>,
    /// What the sender says of the report.
    pub status: Status,
    /// OBR-22, else OBR-7, else MSH-7.
    pub reported_at: Option<DateTime<Utc>>,
    /// What versions of the report are ordered by: OBR-22, else MSH-7.
    pub version_at: Option<DateTime<Utc>>,
    /// MSH-3, first component.
    pub sending_application: Option<String>,
    /// MSH-4, first component.
    pub sending_facility: Option<String>,
    /// The narrative, ready to be split into sections. Empty in a retraction, and in a change of status without text (`Final`: the
    /// version sent before has become final).
    pub text: Phi<String>,
}

/// Reads the reports of an opened message.
pub(super) fn read(opened: Opened<'_>, options: &Options) -> Result<Message, Reject> {
    let kind = kind(&opened);
    let control_id = opened.control_id.clone();
    if !kind.is_report() {
        return Ok(Message { control_id, kind, is_report: false, studies: Vec::new(), notices: opened.notices });
    }
    if let Some(last) = opened.lines.lines.last()
        && opened.escapes.stops_inside(&last.text)
    {
        let mut reject = Reject::at_field(Code::Truncated, Stage::Parse, (last.name(), last.number), None);
        reject.position.byte = opened.same_offsets.then_some(last.offset);
        return Err(reject);
    }
    let notices = opened.notices.clone();
    let mut reader = Reader {
        opened: &opened,
        options,
        kind,
        segments: &opened.lines.lines,
        notices,
        header_time: None,
        zone: options.zone,
    };
    reader.header_time = reader.time(opened.header.component(7, 1));
    if let Some(offset) = time::parse(opened.header.component(7, 1)).and_then(|time| time.offset) {
        reader.zone = offset;
    }
    let studies = reader.studies()?;
    Ok(Message { control_id, kind: reader.kind, is_report: true, studies, notices: reader.notices })
}

fn kind(opened: &Opened<'_>) -> Kind {
    let coded = |component| opened.escapes.decoded(opened.header.component(9, component)).trim().to_ascii_uppercase();
    let (message, trigger) = (coded(1), coded(2));
    match message.split_once('_') {
        // `ORU_R01` in one.
        Some((message, rest)) if trigger.is_empty() => Kind { message: message.to_owned(), trigger: rest.to_owned() },
        _ => Kind { message, trigger },
    }
}

/// The segments of one order (or, in an MDM message, of the document).
#[derive(Clone, Copy)]
struct Group<'s> {
    segments: &'s [Line<'s>],
    /// Segments of the message that stand before every order.
    shared: &'s [Line<'s>],
    /// The last PID before the order: a message may hold the results of several patients.
    patient: Option<&'s Line<'s>>,
}

impl<'s> Group<'s> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'s Line<'s>> + use<'s> {
        self.segments.iter().filter(move |segment| segment.is(name))
    }
}

/// What the OBX of a group say.
#[derive(Default)]
struct Content {
    narrative: Narrative,
    /// The worst OBX-11 of narrative and documents.
    document: Option<Meaning>,
    /// The worst OBX-11 of anything else.
    other: Option<Meaning>,
    unknown_status: bool,
    /// The first part that could not be read.
    unreadable: Option<Reject>,
}

struct Reader<'s> {
    opened: &'s Opened<'s>,
    options: &'s Options,
    kind: Kind,
    segments: &'s [Line<'s>],
    notices: Notices,
    header_time: Option<DateTime<Utc>>,
    zone: FixedOffset,
}

impl<'s> Reader<'s> {
    fn studies(&mut self) -> Result<Vec<Study>, Reject> {
        let groups = self.groups();
        let mut read = Vec::with_capacity(groups.len());
        for group in &groups {
            let mut content = self.content(*group);
            let meaning = self.meaning(*group, &mut content);
            // What is taken back need not be readable; anything else must be, and whole.
            if let Some(reject) = content.unreadable.filter(|_| meaning != Meaning::Retracted) {
                return Err(reject);
            }
            self.notices.unknown_statuses += usize::from(content.unknown_status);
            self.notices.without_result += usize::from(meaning == Meaning::Nothing);
            read.push((*group, content.narrative, meaning));
        }
        let is_study = |narrative: &Narrative, meaning: Meaning| match meaning {
            Meaning::Nothing => false,
            Meaning::Retracted | Meaning::Finalised => true,
            _ => !narrative.is_empty(),
        };
        if !read.iter().any(|(_, narrative, meaning)| is_study(narrative, *meaning)) {
            if read.iter().all(|(_, _, meaning)| *meaning == Meaning::Nothing) {
                return Ok(Vec::new());
            }
            for (group, narrative, _) in &mut read {
                self.notes(*group, narrative);
            }
        }

        let mut studies: Vec<Study> = Vec::new();
        // Exams without a report of their own, before the first one that has it.
        let mut waiting = Vec::new();
        for (group, narrative, meaning) in read {
            if !is_study(&narrative, meaning) {
                let id = self.report_id(group);
                match studies.last_mut() {
                    Some(study) => study.linked_ids.extend(id),
                    None => waiting.extend(id),
                }
                continue;
            }
            let mut study = self.study(group, narrative, meaning)?;
            study.linked_ids.splice(0..0, waiting.drain(..));
            studies.push(study);
        }
        for study in &mut studies {
            let mut seen = HashSet::from([study.report_id.clone()]);
            study.linked_ids.retain(|id| seen.insert(id.clone()));
        }
        if studies.is_empty() {
            let order = self.segments.iter().find(|segment| segment.is("OBR")).or(self.segments.first());
            return Err(self.reject(Code::NoText, Stage::Text, order, None));
        }
        Ok(studies)
    }

    /// An order is its OBR, with the ORC (and another patient's PID) before it, up to the next order. An MDM message is one document.
    fn groups(&self) -> Vec<Group<'s>> {
        let first = self.segments.iter().find(|segment| segment.is("PID"));
        let mut starts = Vec::new();
        let (mut order, mut patient) = (None, first);
        for (at, segment) in self.segments.iter().enumerate() {
            if segment.is("PID") {
                patient = Some(segment);
                if !starts.is_empty() {
                    order = Some(at);
                }
            } else if segment.is("ORC") {
                order = order.or(Some(at));
            } else if segment.is("OBR") {
                starts.push((order.take().unwrap_or(at), patient));
            } else if segment.is("OBX") {
                order = None;
            }
        }
        if self.kind.message == "MDM" || starts.is_empty() {
            return vec![Group { segments: self.segments, shared: &[], patient: first }];
        }
        let shared = starts.first().and_then(|(first, _)| self.segments.get(..*first)).unwrap_or_default();
        let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([self.segments.len()]);
        let groups = starts.iter().zip(ends).filter_map(|((start, patient), end)| {
            Some(Group { segments: self.segments.get(*start..end)?, shared, patient: *patient })
        });
        groups.collect()
    }

    fn content(&mut self, group: Group<'s>) -> Content {
        let mut content = Content::default();
        // OBX-3 of the line before: a report's lines have one, or few.
        let mut before = None;
        for line in group.all("OBX") {
            let obx = self.parsed(line);
            let code = self.code(obx.component(11, 1));
            let meaning = (!code.is_empty()).then(|| {
                status::obx_11(&code, &self.options.status).unwrap_or_else(|| {
                    content.unknown_status = true;
                    Meaning::Preliminary
                })
            });
            let value_type = match self.code(obx.raw(2)) {
                empty if empty.is_empty() && !obx.raw(5).is_empty() => Cow::Borrowed("TX"),
                given => given,
            };
            if !matches!(&*value_type, "TX" | "FT" | "ST" | "CWE" | "CE" | "ED" | "RP") {
                content.other = content.other.max(meaning);
                continue;
            }
            content.document = content.document.max(meaning);
            let identifier = obx.raw(3);
            let section = match before {
                Some((same, section)) if same == identifier => section,
                _ => self.section(&obx),
            };
            before = Some((identifier, section));
            if meaning != Some(Meaning::Nothing)
                && let Err(reject) = self.narrative(line, &obx, &value_type, section, &mut content.narrative)
            {
                content.unreadable = content.unreadable.or(Some(reject));
            }
        }
        content
    }

    /// The part of the report that OBX-3 says.
    fn section(&self, obx: &Parsed<'_>) -> Section {
        let escapes = &self.opened.escapes;
        let identifier = escapes.decoded(obx.component(3, 1));
        let (code, suffix) = identifier.split_once(['&', escapes.separators.subcomponent]).unwrap_or((&identifier, ""));
        let said = Section::of_suffix(suffix).or_else(|| Section::of_code(code)).or_else(|| Section::of_name(code));
        said.or_else(|| Section::of_name(&escapes.decoded(obx.component(3, 2)))).unwrap_or(Section::Narrative)
    }

    fn narrative(
        &mut self,
        line: &Line<'_>,
        obx: &Parsed<'_>,
        value_type: &str,
        section: Section,
        narrative: &mut Narrative,
    ) -> Result<(), Reject> {
        let escapes = &self.opened.escapes;
        match value_type {
            "RP" => self.notices.attachments += 1,
            "ED" => {
                let document = document::read(obx.raw(5), escapes);
                let document = document.map_err(|code| self.reject(code, Stage::Decode, Some(line), Some(5)))?;
                self.notices.attachments += document.attachments;
                for (own, text) in document.text {
                    narrative.push(own.unwrap_or(section), &text);
                }
            }
            "CE" | "CWE" => {
                let Some(field) = obx.field(5) else { return Ok(()) };
                for repetition in 1..=field.repeats.len() {
                    // The text, else the original text.
                    let texts = [2, 9].map(|component| part(&field, repetition, component));
                    if let Some(text) = texts.iter().find(|text| !text.is_empty()) {
                        narrative.push(section, &escapes.decoded(text));
                    }
                }
            }
            _ => {
                let unescaped = obx.tail(6);
                if matches!(value_type, "TX" | "FT") && obx.len() < 11 && unescaped.trim().contains(' ') {
                    // A field separator within the text, which ends the segment: it should have been escaped.
                    narrative.push(section, &escapes.decoded(obx.tail(5)));
                    return Ok(());
                }
                for line in obx.raw(5).split(escapes.separators.repetition) {
                    let line = if line == "\"\"" { "" } else { line };
                    narrative.push(section, &escapes.decoded(line));
                }
            }
        }
        Ok(())
    }

    /// NTE-3 between the OBR and the first OBX.
    fn notes(&self, group: Group<'s>, narrative: &mut Narrative) {
        let after_obr = group.segments.iter().skip_while(|segment| !segment.is("OBR")).skip(1);
        for note in after_obr.take_while(|segment| !segment.is("OBX")).filter(|segment| segment.is("NTE")) {
            for line in self.parsed(note).raw(3).split(self.opened.escapes.separators.repetition) {
                narrative.push(Section::Narrative, &self.opened.escapes.decoded(line));
            }
        }
    }

    fn meaning(&self, group: Group<'s>, content: &mut Content) -> Meaning {
        let table = &self.options.status;
        let mut known = |code: &str, meaning: Option<Meaning>| {
            let unknown = !code.is_empty() && meaning.is_none();
            content.unknown_status |= unknown;
            meaning.or(unknown.then_some(Meaning::Preliminary))
        };
        let of_order = {
            let code = self.code(self.first(group, "OBR").map_or("", |obr| obr.component(25, 1)));
            known(&code, status::obr_25(&code, table))
        };
        let Some(txa) = self.first(group, "TXA").filter(|_| self.kind.message == "MDM") else {
            let withdrawn = (self.kind.trigger == "T11").then_some(Meaning::Retracted);
            return withdrawn.or(content.document).or(of_order).or(content.other).unwrap_or(Meaning::Final);
        };
        let completion = self.code(txa.component(17, 1));
        let completion = known(&completion, status::txa_17(&completion, table));
        let unavailable = matches!(&*self.code(txa.component(19, 1)), "CA" | "UN");
        if unavailable || self.kind.trigger == "T11" {
            return Meaning::Retracted;
        }
        let meaning = content.document.max(completion).or(of_order).unwrap_or(Meaning::Final);
        let replaces = matches!(self.kind.trigger.as_str(), "T06" | "T08" | "T10");
        if replaces && meaning == Meaning::Final { Meaning::Corrected } else { meaning }
    }

    fn study(&mut self, group: Group<'s>, narrative: Narrative, meaning: Meaning) -> Result<Study, Reject> {
        let header = &self.opened.header;
        let obr = self.first(group, "OBR");
        let Some(report_id) = self.report_id(group) else {
            let order = group.all("OBR").next().or(self.segments.first());
            return Err(self.reject(Code::NoId, Stage::Parse, order, None));
        };
        let of_obr = |field, component| obr.as_ref().map_or("", |obr| obr.component(field, component));
        let reported = self.time(of_obr(22, 1));
        let observed = if reported.is_none() { self.time(of_obr(7, 1)) } else { None };
        let is_document = self.kind.message == "MDM";
        let linked = group.all("OBR").skip(1).filter(|_| is_document).map(|line| self.parsed(line));
        Ok(Study {
            report_id,
            linked_ids: linked
                .filter_map(|obr| self.value(obr.component(3, 1)).or_else(|| self.value(obr.component(2, 1))))
                .collect(),
            parent_id: self.first(group, "TXA").and_then(|txa| self.value(txa.component(13, 1))),
            message_control_id: self.opened.control_id.clone(),
            patient_id: self.patient_id(group).map(Phi::new),
            exam: [(4, 2), (4, 1), (44, 2)]
                .iter()
                .find_map(|(field, component)| self.value(of_obr(*field, *component))),
            status: match meaning {
                Meaning::Retracted => Status::Retracted,
                Meaning::Corrected => Status::Corrected,
                Meaning::Preliminary => Status::Preliminary,
                Meaning::Final | Meaning::Finalised | Meaning::Nothing => Status::Final,
            },
            reported_at: reported.or(observed).or(self.header_time),
            version_at: reported.or(self.header_time),
            sending_application: self.value(header.component(3, 1)),
            sending_facility: self.value(header.component(4, 1)),
            text: Phi::new(narrative.into_text()),
        })
    }

    fn report_id(&self, group: Group<'s>) -> Option<String> {
        self.options.report_id.iter().find_map(|path| {
            if path.segment == "MSH" {
                return self.opened.header.resolve(path, &self.opened.escapes).and_then(|id| present(&id));
            }
            // The order's own first; never another order's.
            let mut own = group.segments.iter().chain(group.shared).filter(|segment| segment.is(&path.segment));
            let segment = self.parsed(own.nth(path.index.checked_sub(1)?)?);
            segment.resolve(path, &self.opened.escapes).and_then(|id| present(&id))
        })
    }

    fn patient_id(&self, group: Group<'s>) -> Option<String> {
        let pid = self.parsed(group.patient?);
        let field = pid.field(3);
        let value = |repetition, component| field.as_ref().map_or("", |field| part(field, repetition, component));
        let repetitions = 1..=field.as_ref().map_or(0, |field| field.repeats.len());
        let is_record = |repetition: &usize| matches!(&*self.code(value(*repetition, 5)), "MR" | "PI");
        let id = |repetition| self.value(value(repetition, 1));
        let record = repetitions.clone().filter(is_record).find_map(id);
        record.or_else(|| repetitions.clone().find_map(id)).or_else(|| self.value(pid.component(2, 1)))
    }

    fn parsed<'l>(&self, line: &'l Line<'_>) -> Parsed<'l> {
        Parsed::new(line, self.opened.lines.separators)
    }

    fn first(&self, group: Group<'s>, name: &'static str) -> Option<Parsed<'s>> {
        group.all(name).next().map(|line| self.parsed(line))
    }

    /// A time; one that is none is counted.
    fn time(&mut self, raw: &str) -> Option<DateTime<Utc>> {
        let raw = raw.trim();
        if raw.is_empty() || raw == "\"\"" {
            return None;
        }
        let instant = time::parse(raw).and_then(|time| time.utc(self.zone));
        self.notices.bad_times += usize::from(instant.is_none());
        instant
    }

    /// A coded value in capitals.
    fn code<'t>(&self, raw: &'t str) -> Cow<'t, str> {
        match self.opened.escapes.decoded(raw) {
            Cow::Borrowed(code) if code.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_lowercase()) => {
                Cow::Borrowed(code.trim())
            }
            code => Cow::Owned(code.trim().to_uppercase()),
        }
    }

    /// A value that is there.
    fn value(&self, raw: &str) -> Option<String> {
        present(&self.opened.escapes.decoded(raw))
    }

    fn reject(&self, code: Code, stage: Stage, line: Option<&Line<'_>>, field: Option<usize>) -> Reject {
        let Some(line) = line else { return Reject::at_byte(code, stage, 0) };
        let mut reject = Reject::at_field(code, stage, (line.name(), line.number), field);
        let in_segment = field.and_then(|field| self.parsed(line).start(field)).unwrap_or(0);
        reject.position.byte = self.opened.same_offsets.then_some(line.offset + in_segment);
        reject
    }
}

/// A value that is neither empty nor HL7's explicit null.
fn present(value: &str) -> Option<String> {
    let value = value.trim();
    (!value.is_empty() && value != "\"\"").then(|| value.to_owned())
}
