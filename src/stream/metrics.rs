//! What a stream counts and measures, for Prometheus. Every metric's name and labels are here, and nowhere else.
//!
//! No label's value comes out of a message as it is: they are from fixed sets, the configuration, or the label schema.
//! `docs/metrics.md` says what each metric means; a test holds it, the dashboard and the alerts to what is here.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What [`Metrics::render`] writes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The value of a label for what is not in its set.
const OTHER: &str = "other";
/// Types of messages without a report that are told apart.
const TYPES: usize = 64;
/// Grades of tasks that are told apart: more than any label schema has.
const GRADES: usize = 1024;

const STATUSES: [&str; 4] = ["preliminary", "final", "corrected", "retracted"];
const CHANGES: [&str; 3] = ["report", "status", "retraction"];
const REBALANCES: [&str; 2] = ["assigned", "revoked"];
/// Message types that a hospital's engine sends. MSH-9 of a broken message may hold anything, a name too.
const KINDS: &str = "ACK ADR ADT BAR CRM CSU DFT DSR EDR MCF MDM MFK MFN MFQ MFR OMB OMD OMG OMI OML OMN OMP OMS ORB \
    ORF ORG ORI ORL ORM ORN ORP ORR ORS ORU OSQ OSR OUL PEX PGL PIN PMU PPG PPP PPR PPT PPV PRR PTR \
    QBP QCK QCN QRY QSB QVR RAR RAS RCI RCL RDE RDR RDS REF RER RGR RGV ROR RPA RPI RPL RPR RQA RQC \
    RQI RQP RRA RRD RRE RRG RRI RSP RTB SIU SPQ SQM SQR SRM SRR SUR TBR UDM VXQ VXR VXU VXX";

/// From a fast answer of one message to a day of catching up.
const WAITS: [f64; 17] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0];
const WORK: [f64; 15] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
const MESSAGES: [f64; 14] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 50_000.0];

type Labels<const N: usize> = [(&'static str, String); N];

/// A metric with labels.
struct Labelled<M, const N: usize> {
    names: [&'static str; N],
    family: Family<Labels<N>, M>,
    /// Sets of values that [`Labelled::bounded`] has let in.
    distinct: AtomicUsize,
}

impl<M: Clone + Default, const N: usize> Labelled<M, N> {
    fn labels(&self, values: [&str; N]) -> Labels<N> {
        let mut values = values.into_iter();
        self.names.map(|name| (name, values.next().unwrap_or(OTHER).to_owned()))
    }

    fn at(&self, values: [&str; N]) -> M {
        self.family.get_or_create_owned(&self.labels(values))
    }

    /// As [`Labelled::at`] for the first `most` values, and [`OTHER`] for those that come after.
    fn bounded(&self, values: [&str; N], most: usize) -> M {
        // What `get` gives holds a lock, and is dropped before anything is added.
        let there = self.family.get(&self.labels(values)).is_some();
        let room = there || self.distinct.fetch_add(1, Ordering::Relaxed) < most;
        self.at(if room { values } else { [OTHER; N] })
    }

    fn remove(&self, values: [&str; N]) {
        self.family.remove(&self.labels(values));
    }
}

/// Registers under `foramen_NAME`; the unit, and `_total` of a counter, are put behind it.
struct Register(Registry);

impl Register {
    fn metric<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.metric(name, help, Counter::default())
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.metric(name, help, Gauge::default())
    }

    fn gauge_in(&mut self, unit: Unit, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.0.register_with_unit(name, help, unit, gauge.clone());
        gauge
    }

    fn labelled<M, const N: usize>(&mut self, name: &str, names: [&'static str; N], help: &str) -> Labelled<M, N>
    where
        M: Clone + Default,
        Family<Labels<N>, M>: Metric,
    {
        Labelled { names, family: self.metric(name, help, Family::default()), distinct: AtomicUsize::new(0) }
    }

    fn seconds<const N: usize>(&mut self, name: &str, buckets: [f64; N], help: &str) -> Histogram {
        let histogram = Histogram::new(buckets);
        self.0.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        histogram
    }
}

/// The metrics of a stream.
pub(crate) struct Metrics {
    registry: Registry,
    messages: Labelled<Counter, 1>,
    reports: Labelled<Counter, 1>,
    rows: Counter,
    not_reports: Labelled<Counter, 1>,
    rejects: Labelled<Counter, 2>,
    dead_letters: Counter,
    corrections: Labelled<Counter, 1>,
    late: Counter,
    duplicates: Counter,
    reused_control_ids: Counter,
    tokens: Labelled<Counter, 1>,
    cache_hits: Counter,
    cache_misses: Counter,
    batches: Counter,
    sessions: Counter,
    rebalances: Labelled<Counter, 1>,
    grades: Labelled<Counter, 2>,
    queue: Histogram,
    transform: Histogram,
    tokenise: Histogram,
    infer: Histogram,
    write: Histogram,
    batch_messages: Histogram,
    end_to_end: Histogram,
    consumer_lag: Labelled<Gauge, 2>,
    assigned_partitions: Gauge,
    state_reports: Gauge,
    state: Gauge,
    last_commit: Gauge,
    ready: Gauge,
    model_info: Labelled<Gauge, 2>,
}

impl Metrics {
    /// All at nought. Those whose labels are known beforehand are there from the start: a first event is an increase.
    pub(crate) fn new() -> Self {
        let mut register = Register(Registry::with_prefix("foramen"));
        let to = &mut register;
        let build_info: Labelled<Gauge, 1> = to.labelled("build_info", ["version"], "Always 1: which foramen this is");
        build_info.at([env!("CARGO_PKG_VERSION")]).set(1);
        let messages = to.labelled("messages", ["topic"], "Records that were read and committed");
        let reports = to.labelled("reports", ["status"], "Reports in messages, by the status they are sent with");
        let rows = to.counter("rows", "Rows of statements that were written");
        let not_reports = to.labelled("not_reports", ["type"], "Messages of types that carry no report");
        let rejects = to.labelled("rejects", ["stage", "code"], "What could not be read, by where and why");
        let dead_letters = to.counter("dead_letters", "Messages that went to the dead-letter topic");
        let corrections = to.labelled("corrections", ["change"], "Later versions of reports, by what they changed");
        let late = to.counter("late", "Versions that came after one that stands above them, and changed nothing");
        let duplicates = to.counter("duplicates", "Messages that were sent before and were left out");
        let reused_control_ids =
            to.counter("reused_control_ids", "Messages with the control id of an earlier one and other content");
        let tokens =
            to.labelled("tokens", ["kind"], "Tokens the model ran on: of texts, and filled up to a batch's shape");
        let cache_hits = to.counter("cache_hits", "Inputs of the model whose answer was remembered");
        let cache_misses = to.counter("cache_misses", "Inputs that the model was run on");
        let batches = to.counter("batches", "Batches that were committed");
        let sessions = to.counter("sessions", "Times that the stream began anew after a fault");
        let rebalances =
            to.labelled("rebalances", ["kind"], "Times that partitions were given to this instance or taken");
        let grades = to.labelled("grades", ["task", "grade"], "Grades in rows that were written");
        let queue = to.seconds("queue", WAITS, "A message's time on the broker until its batch began");
        let transform = to.seconds("transform", WORK, "The query over a batch, the model's work in it");
        let tokenise = to.seconds("tokenise", WORK, "Texts of a batch to tokens");
        let infer = to.seconds("infer", WORK, "The model's network on a batch");
        let write = to.seconds("write", WORK, "The commit of a batch, or the completion of a file");
        let batch_messages = to.metric("batch_messages", "Records in a batch", Histogram::new(MESSAGES));
        let end_to_end = to.seconds("end_to_end", WAITS, "A message's arrival on the broker until it was committed");
        let consumer_lag =
            to.labelled("consumer_lag", ["topic", "partition"], "Messages of a partition that are still to be read");
        let assigned_partitions = to.gauge("assigned_partitions", "Partitions that this instance reads");
        let state_reports = to.gauge("state_reports", "Reports whose versions are remembered");
        let state = to.gauge_in(Unit::Bytes, "state", "Memory of what is remembered");
        let last_commit =
            to.gauge_in(Unit::Seconds, "last_commit_timestamp", "When a batch was last committed; 0 before");
        let ready = to.gauge("ready", "1 where /readyz says so");
        let model_info = to.labelled("model_info", ["model", "provider"], "Always 1: which model reads, and on what");
        let metrics = Metrics {
            registry: register.0,
            messages,
            reports,
            rows,
            not_reports,
            rejects,
            dead_letters,
            corrections,
            late,
            duplicates,
            reused_control_ids,
            tokens,
            cache_hits,
            cache_misses,
            batches,
            sessions,
            rebalances,
            grades,
            queue,
            transform,
            tokenise,
            infer,
            write,
            batch_messages,
            end_to_end,
            consumer_lag,
            assigned_partitions,
            state_reports,
            state,
            last_commit,
            ready,
            model_info,
        };
        STATUSES.iter().for_each(|status| metrics.reports(status, 0));
        CHANGES.iter().for_each(|change| metrics.corrections(change, 0));
        REBALANCES.iter().for_each(|kind| drop(metrics.rebalances.at([kind])));
        metrics.tokens(0, 0);
        metrics
    }

    /// A record that was committed.
    pub(crate) fn message(&self, topic: &str) {
        self.messages.at([topic]).inc();
    }

    /// Reports that came with a status.
    pub(crate) fn reports(&self, status: &str, reports: u64) {
        self.reports.at([known(status, &STATUSES)]).inc_by(reports);
    }

    /// Rows that were written.
    pub(crate) fn rows(&self, rows: u64) {
        self.rows.inc_by(rows);
    }

    /// A message that carries no report, such as `ADT^A01`.
    pub(crate) fn not_report(&self, kind: &str) {
        self.not_reports.bounded([message_type(kind)], TYPES).inc();
    }

    /// A dead letter. Names that are in the program, and so hold nothing of a message.
    pub(crate) fn reject(&self, stage: &'static str, code: &'static str) {
        self.rejects.at([stage, code]).inc();
        self.dead_letters.inc();
    }

    /// Later versions of reports that made a change.
    pub(crate) fn corrections(&self, change: &str, reports: u64) {
        self.corrections.at([known(change, &CHANGES)]).inc_by(reports);
    }

    /// Versions that came too late.
    pub(crate) fn late(&self, reports: u64) {
        self.late.inc_by(reports);
    }

    /// Messages that were sent before.
    pub(crate) fn duplicates(&self, messages: u64) {
        self.duplicates.inc_by(messages);
    }

    /// Messages under a control id that another had.
    pub(crate) fn reused_control_ids(&self, messages: u64) {
        self.reused_control_ids.inc_by(messages);
    }

    /// Tokens the model ran on.
    pub(crate) fn tokens(&self, real: u64, padding: u64) {
        self.tokens.at(["real"]).inc_by(real);
        self.tokens.at(["padding"]).inc_by(padding);
    }

    /// Inputs of the model that its cache had, and had not.
    pub(crate) fn cache(&self, hits: u64, misses: u64) {
        self.cache_hits.inc_by(hits);
        self.cache_misses.inc_by(misses);
    }

    /// A grade of the label schema, in a row that was written.
    pub(crate) fn grade(&self, task: &str, grade: &str) {
        self.grades.bounded([task, grade], GRADES).inc();
    }

    /// A batch that was committed, and what was spent on it. `tokenise` and `infer` are parts of `transform`.
    pub(crate) fn batch(&self, messages: usize, transform: Duration, tokenise: Duration, infer: Duration) {
        self.batches.inc();
        self.batch_messages.observe(messages as f64);
        self.transform.observe(transform.as_secs_f64());
        self.tokenise.observe(tokenise.as_secs_f64());
        self.infer.observe(infer.as_secs_f64());
    }

    /// What a commit took, or the completion of a file.
    pub(crate) fn wrote(&self, took: Duration) {
        self.write.observe(took.as_secs_f64());
    }

    /// What a message waited on the broker until its batch began.
    pub(crate) fn queued(&self, waited: Duration) {
        self.queue.observe(waited.as_secs_f64());
    }

    /// What passed between a message's arrival on the broker and its commit.
    pub(crate) fn end_to_end(&self, passed: Duration) {
        self.end_to_end.observe(passed.as_secs_f64());
    }

    /// When the last commit was, in seconds since 1970.
    pub(crate) fn committed(&self, at: i64) {
        self.last_commit.set(at);
    }

    /// Messages of a partition that are still to be read.
    pub(crate) fn set_lag(&self, topic: &str, partition: i32, messages: i64) {
        self.consumer_lag.at([topic, &partition.to_string()]).set(messages);
    }

    /// Forgets a partition that is another instance's now.
    pub(crate) fn remove_lag(&self, topic: &str, partition: i32) {
        self.consumer_lag.remove([topic, &partition.to_string()]);
    }

    /// What is held: partitions, reports whose versions are remembered, and the memory for them.
    pub(crate) fn set_state(&self, partitions: usize, reports: usize, bytes: usize) {
        self.assigned_partitions.set(signed(partitions));
        self.state_reports.set(signed(reports));
        self.state.set(signed(bytes));
    }

    /// Partitions were `assigned` or `revoked`. A rebalance that moves none is none.
    pub(crate) fn rebalance(&self, kind: &str, partitions: usize) {
        if partitions > 0 {
            self.rebalances.at([known(kind, &REBALANCES)]).inc();
        }
    }

    /// The stream begins anew after a fault.
    pub(crate) fn session(&self) {
        self.sessions.inc();
    }

    /// The model that reads from now on, in place of the one before.
    pub(crate) fn set_model(&self, model: &str, provider: &str) {
        self.model_info.family.clear();
        self.model_info.at([model, provider]).set(1);
    }

    /// Whether the stream is ready.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// All of it as OpenMetrics text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail; and half of it is not to be taken for all.
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => "# EOF\n".into(),
        }
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn known<'a>(value: &'a str, set: &[&str]) -> &'a str {
    if set.contains(&value) { value } else { OTHER }
}

/// A type of the list, with a trigger event that looks like one or with none.
fn message_type(kind: &str) -> &str {
    let kind = kind.strip_suffix('^').unwrap_or(kind);
    let (message, trigger) = kind.split_once('^').unwrap_or((kind, "A00"));
    let event = matches!(trigger.as_bytes(), [b'A'..=b'Z', b'0'..=b'9', b'0'..=b'9']);
    let listed = KINDS.split_ascii_whitespace().any(|known| known == message);
    if listed && event { kind } else { OTHER }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Metrics in which everything has happened once.
    fn busy() -> Metrics {
        let metrics = Metrics::new();
        metrics.message("hl7");
        metrics.reports("final", 3);
        metrics.rows(12);
        metrics.not_report("ADT^A08");
        metrics.reject("parse", "no-msh");
        metrics.corrections("status", 2);
        metrics.late(1);
        metrics.duplicates(4);
        metrics.reused_control_ids(1);
        metrics.tokens(900, 124);
        metrics.cache(5, 7);
        metrics.grade("disc", "bulge");
        metrics.batch(3, Duration::from_millis(70), Duration::from_millis(4), Duration::from_millis(60));
        metrics.wrote(Duration::from_millis(12));
        metrics.queued(Duration::from_millis(40));
        metrics.end_to_end(Duration::from_millis(130));
        metrics.committed(1_700_000_000);
        metrics.set_lag("hl7", 0, 17);
        metrics.set_lag("hl7", 1, 5);
        metrics.set_state(2, 1_000, 80_000);
        metrics.rebalance("assigned", 2);
        metrics.session();
        metrics.set_model("spine@1", "cpu");
        metrics.set_ready(true);
        metrics
    }

    /// `name{labels}` with its value.
    fn samples(text: &str) -> BTreeMap<&str, f64> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name, value.parse().unwrap())
            })
            .collect()
    }

    /// Names of metrics with their types.
    fn types(text: &str) -> BTreeMap<&str, &str> {
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
    }

    /// Words that begin with `foramen_`.
    fn words(text: &str) -> BTreeSet<&str> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        text.split(|c| !word(c)).filter(|word| word.starts_with("foramen_")).collect()
    }

    fn count(metrics: &Metrics, prefix: &str) -> usize {
        samples(&metrics.render()).keys().filter(|name| name.starts_with(prefix)).count()
    }

    #[test]
    fn every_metric_is_written_with_its_value() {
        let text = busy().render();
        assert!(text.ends_with("# EOF\n"));
        let samples = samples(&text);
        let expected: &[(&str, f64)] = &[
            (concat!("foramen_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
            ("foramen_messages_total{topic=\"hl7\"}", 1.0),
            ("foramen_reports_total{status=\"final\"}", 3.0),
            ("foramen_reports_total{status=\"retracted\"}", 0.0),
            ("foramen_rows_total", 12.0),
            ("foramen_not_reports_total{type=\"ADT^A08\"}", 1.0),
            ("foramen_rejects_total{stage=\"parse\",code=\"no-msh\"}", 1.0),
            ("foramen_dead_letters_total", 1.0),
            ("foramen_corrections_total{change=\"status\"}", 2.0),
            ("foramen_corrections_total{change=\"retraction\"}", 0.0),
            ("foramen_late_total", 1.0),
            ("foramen_duplicates_total", 4.0),
            ("foramen_reused_control_ids_total", 1.0),
            ("foramen_tokens_total{kind=\"real\"}", 900.0),
            ("foramen_tokens_total{kind=\"padding\"}", 124.0),
            ("foramen_cache_hits_total", 5.0),
            ("foramen_cache_misses_total", 7.0),
            ("foramen_batches_total", 1.0),
            ("foramen_sessions_total", 1.0),
            ("foramen_rebalances_total{kind=\"assigned\"}", 1.0),
            ("foramen_rebalances_total{kind=\"revoked\"}", 0.0),
            ("foramen_grades_total{task=\"disc\",grade=\"bulge\"}", 1.0),
            ("foramen_queue_seconds_sum", 0.04),
            ("foramen_queue_seconds_bucket{le=\"0.025\"}", 0.0),
            ("foramen_queue_seconds_bucket{le=\"0.05\"}", 1.0),
            ("foramen_transform_seconds_sum", 0.07),
            ("foramen_tokenise_seconds_sum", 0.004),
            ("foramen_infer_seconds_sum", 0.06),
            ("foramen_write_seconds_count", 1.0),
            ("foramen_batch_messages_sum", 3.0),
            ("foramen_batch_messages_bucket{le=\"+Inf\"}", 1.0),
            ("foramen_end_to_end_seconds_sum", 0.13),
            ("foramen_consumer_lag{topic=\"hl7\",partition=\"0\"}", 17.0),
            ("foramen_consumer_lag{topic=\"hl7\",partition=\"1\"}", 5.0),
            ("foramen_assigned_partitions", 2.0),
            ("foramen_state_reports", 1_000.0),
            ("foramen_state_bytes", 80_000.0),
            ("foramen_last_commit_timestamp_seconds", 1_700_000_000.0),
            ("foramen_ready", 1.0),
            ("foramen_model_info{model=\"spine@1\",provider=\"cpu\"}", 1.0),
        ];
        for (name, value) in expected {
            assert_eq!(samples.get(name), Some(value), "{name}\n{text}");
        }
        for name in types(&text).keys() {
            assert!(expected.iter().any(|(sample, _)| sample.starts_with(name)), "{name} is not tested");
            assert!(samples.keys().any(|sample| sample.starts_with(name)), "{name} has no value");
        }
    }

    #[test]
    fn what_was_assigned_and_loaded_before_is_gone() {
        let metrics = busy();
        metrics.remove_lag("hl7", 0);
        metrics.remove_lag("hl7", 9);
        metrics.rebalance("revoked", 1);
        metrics.rebalance("revoked", 0);
        metrics.set_model("spine@2", "cuda:0");
        metrics.set_ready(false);
        let text = metrics.render();
        let samples = samples(&text);
        assert_eq!(count(&metrics, "foramen_consumer_lag"), 1);
        assert_eq!(count(&metrics, "foramen_model_info"), 1);
        assert_eq!(samples["foramen_model_info{model=\"spine@2\",provider=\"cuda:0\"}"], 1.0);
        assert_eq!(samples["foramen_rebalances_total{kind=\"revoked\"}"], 1.0);
        assert_eq!(samples["foramen_ready"], 0.0);
    }

    #[test]
    fn labels_have_bounded_sets_of_values() {
        let metrics = Metrics::new();
        for trigger in 0..100 {
            metrics.not_report(&format!("ADT^A{trigger:02}"));
        }
        assert_eq!(count(&metrics, "foramen_not_reports_total"), TYPES + 1);
        metrics.not_report("ADT^A07");
        let text = metrics.render();
        assert_eq!(samples(&text)["foramen_not_reports_total{type=\"ADT^A07\"}"], 2.0);
        assert_eq!(samples(&text)["foramen_not_reports_total{type=\"other\"}"], 36.0);

        for grade in 0..3 * GRADES {
            metrics.grade("disc", &format!("grade {grade}"));
        }
        assert_eq!(count(&metrics, "foramen_grades_total"), GRADES + 1);

        metrics.reports("amended", 1);
        metrics.corrections("text", 1);
        metrics.rebalance("lost", 1);
        assert_eq!(count(&metrics, "foramen_reports_total"), STATUSES.len() + 1);
        assert_eq!(count(&metrics, "foramen_corrections_total"), CHANGES.len() + 1);
        assert_eq!(count(&metrics, "foramen_rebalances_total"), REBALANCES.len() + 1);
    }

    #[test]
    fn a_message_type_that_is_none_is_not_shown() {
        let shown = ["ADT^A01", "ORM^O01", "SIU^S12", "ACK^", "ACK"];
        assert_eq!(shown.map(message_type), ["ADT^A01", "ORM^O01", "SIU^S12", "ACK", "ACK"]);
        for hidden in [
            "",
            "^",
            "DOE^J01",
            "ADT^JOHN",
            "ADT^A1",
            "ADT^a01",
            "ADT^A01^ADT_A01",
            "unknown type",
            "ZOE^Z01",
            "ÄDT^A01",
        ] {
            assert_eq!(message_type(hidden), OTHER, "{hidden}");
        }
    }

    #[test]
    fn text_in_a_label_can_not_end_it() {
        let metrics = Metrics::new();
        metrics.message("a\"} 9\nforamen_rows_total 7\\");
        let text = metrics.render();
        assert!(text.contains("foramen_messages_total{topic=\"a\\\"} 9\\nforamen_rows_total 7\\\\\"} 1\n"), "{text}");
    }

    #[test]
    fn the_dashboard_and_the_alerts_name_what_there_is() {
        let text = busy().render();
        let given = words(&text);
        let (dashboard, alerts) =
            (include_str!("../../examples/stream/grafana.json"), include_str!("../../examples/stream/alerts.yaml"));
        serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
        for (file, text) in [("grafana.json", dashboard), ("alerts.yaml", alerts)] {
            let used = words(text);
            assert!(used.len() > 4, "{file}");
            let unknown: Vec<_> = used.difference(&given).collect();
            assert!(unknown.is_empty(), "{file} names what is not there: {unknown:?}");
        }
        let shown = words(dashboard);
        for name in types(&text).keys() {
            assert!(shown.iter().any(|shown| shown.starts_with(name)), "the dashboard does not show {name}");
        }
    }

    #[test]
    fn the_documentation_has_a_row_for_each() {
        let text = busy().render();
        let rows: BTreeMap<String, &str> = include_str!("../../docs/metrics.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `foramen_")?.split_once("` | "))
            .map(|(name, rest)| (format!("foramen_{name}"), rest.split(" | ").next().unwrap()))
            .collect();
        let expected: BTreeMap<String, &str> = types(&text)
            .into_iter()
            .map(|(name, kind)| (format!("{name}{}", if kind == "counter" { "_total" } else { "" }), kind))
            .collect();
        assert_eq!(rows, expected);
    }
}
