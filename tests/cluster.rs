//! `foramen worker`, and `sql` and `label` with `--workers`: processes that talk, and what is left when one is killed.
//!
//! `FORAMEN_SOAK=1` kills at as many moments as `docs/cluster.md` reports.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::json::LineDelimitedWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use foramen::labels::LabelSchema;
use foramen::train::{Precision, export::export_untrained};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A model that answers at once, and nothing sensible; each seed's is another.
fn exported(seed: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    export_untrained(&LabelSchema::spine(), Precision::Float32, seed, folder.path()).unwrap();
    folder
}

fn model() -> &'static Path {
    static MODEL: OnceLock<TempDir> = OnceLock::new();
    MODEL.get_or_init(|| exported(7)).path()
}

fn foramen(arguments: &[&str], model: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foramen"));
    command.args(arguments).env("FORAMEN_MODEL", model).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A worker's process, killed when it is dropped.
struct Worker {
    child: Child,
    url: String,
}

impl Worker {
    fn start(arguments: &[&str], model: &Path) -> Worker {
        let arguments = [&["worker", "--listen", "127.0.0.1:0", "--threads", "1"], arguments].concat();
        let mut child = foramen(&arguments, model).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(told.read_line(&mut line).unwrap() > 0, "it ended before it listened");
        }
        let address = line.split("listening on ").nth(1).unwrap().split(": ").next().unwrap();
        let url = format!("http://{address}");
        // What it says later has to go somewhere.
        std::thread::spawn(move || told.read_to_end(&mut Vec::new()));
        Worker { child, url }
    }

    fn two() -> [Worker; 2] {
        [(); 2].map(|()| Worker::start(&[], model()))
    }

    /// As `kill -9`.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn urls(workers: &[Worker]) -> String {
    workers.iter().map(|worker| worker.url.as_str()).collect::<Vec<_>>().join(",")
}

/// A folder to work in.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), content).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = foramen(arguments, model());
        command.current_dir(self.0.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    /// The answer of a statement as CSV, its lines in order.
    fn sql(&self, statement: &str, workers: Option<&str>) -> Vec<String> {
        let mut arguments = vec!["sql", "--format", "csv", "-c", statement];
        arguments.extend(workers.iter().flat_map(|urls| ["--workers", urls]));
        let done = self.run(&arguments);
        assert_eq!(done.status, 0, "{statement}: {}", done.screen);
        let mut lines: Vec<String> = done.out.lines().map(str::to_owned).collect();
        lines[1..].sort();
        lines
    }

    /// Names of what is in the folder, hidden ones too.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The rows of Parquet files as JSON lines, file after file in the order of names.
    fn rows(&self, name: &str) -> String {
        let path = self.path(name);
        let mut files = vec![path.clone()];
        if path.is_dir() {
            files = self.names(name).iter().map(|file| path.join(file)).collect();
        }
        let batches: Vec<RecordBatch> = files
            .iter()
            .flat_map(|file| {
                let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
                reader.build().unwrap().map(Result::unwrap)
            })
            .collect();
        let mut writer = LineDelimitedWriter::new(Vec::new());
        if let Some(first) = batches.first() {
            writer.write(&concat_batches(&first.schema(), &batches).unwrap()).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(writer.into_inner()).unwrap()
    }
}

/// What a command did.
struct Done {
    status: i32,
    out: String,
    screen: String,
}

impl Done {
    fn of(output: Output) -> Done {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { status: output.status.code().unwrap_or(-1), out: text(output.stdout), screen: text(output.stderr) }
    }
}

const LEVELS: [&str; 5] = ["L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1"];

/// Texts that differ, so that no answer is known before.
fn report(number: usize) -> String {
    let (one, two) = (LEVELS[number % 5], LEVELS[(number + 1 + number % 3) % 5]);
    format!("{one}: disc bulge of {} mm, mild canal stenosis. {two}: extrusion of {number} mm to the left.", number % 7)
}

fn message(number: usize) -> String {
    format!(
        "MSH|^~\\&|RIS|HOSPITAL|||20260102030405||ORU^R01|C{number}|P|2.5\rPID|1||P{number}^^^^MR||DOE^JANE\r\
         OBR|1||A{number}|72148^MRI LUMBAR SPINE||||||||||||||||||20260102040506|||F\rOBX|1|TX|||{}||||||F\r",
        report(number)
    )
}

/// Folders of files of every kind, some of them broken.
fn archive(place: &Place, files: usize, each: usize) {
    for file in 0..files {
        let numbers = file * each..(file + 1) * each;
        let (name, content): (_, String) = match file % 3 {
            0 => ("hl7", numbers.map(message).collect()),
            1 => ("jsonl", numbers.map(|n| format!("{{\"id\": \"J{n}\", \"text\": \"{}\"}}\n", report(n))).collect()),
            _ => ("csv", numbers.fold("id,text\n".into(), |all, n| format!("{all}K{n},\"{}\"\n", report(n)))),
        };
        place.write(&format!("in/{}/{file:04}.{name}", file % 2), content);
    }
}

#[test]
fn labelled_rows_are_those_of_one_process_in_their_order() {
    let place = Place::new();
    archive(&place, 23, 9);
    place.write("in/0/broken.jsonl", "{\"text\": \"L4-5: bulge.\"}\nnot JSON\n");
    place.write("in/1/broken.hl7", "MSH|^~\\&|||||||ORU^R01|1|P|2.5\rOBX|1|TX|||L4-5\r");
    place.write("in/1/empty.txt", "");
    let workers = Worker::two();
    let alone = place.run(&["label", "in", "--output", "alone.parquet", "--min-score", "0.3"]);
    let urls = urls(&workers);
    let together = place.run(&["label", "in", "--output", "together/", "--min-score", "0.3", "--workers", &urls]);
    assert_eq!((alone.status, together.status), (3, 3), "{}\n{}", alone.screen, together.screen);
    assert!(place.rows("alone.parquet").lines().count() > 300);
    assert_eq!(place.rows("together"), place.rows("alone.parquet"));
    assert!(place.names("together").len() > 4, "{:?}", place.names("together"));
    let rejects = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(rejects("together.rejects.jsonl"), rejects("alone.parquet.rejects.jsonl"));
    // What is told is the same but for the time and the name of the file of rejects.
    let told = |done: &Done| -> Vec<String> {
        let lines = done.screen.lines().filter(|line| !line.starts_with("rejects are in"));
        lines.map(|line| line.split(" in ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(told(&together), told(&alone));
    assert_eq!(
        place.names(""),
        ["alone.parquet", "alone.parquet.rejects.jsonl", "in", "together", "together.rejects.jsonl"]
    );

    let again = place.run(&["label", "in", "--output", "together/", "--workers", &urls]);
    assert_eq!(again.status, 1);
    assert!(again.screen.contains("together/ is there already"), "{}", again.screen);
    // One worker and one file will do.
    let one = place.run(&["label", "in/0/0000.hl7", "--output", "one/", "--workers", &workers[0].url]);
    assert_eq!(one.status, 0, "{}", one.screen);
    assert_eq!(place.rows("one").lines().count(), 18);
}

/// Embeddings of two networks in four files, three tasks in each.
fn embeddings(place: &Place, rows: usize) {
    std::fs::create_dir(place.path("e")).unwrap();
    for file in 0..4 {
        let rows = format!("generate_series({}, {}) AS s(n)", file * rows + 1, (file + 1) * rows);
        let copy = format!(
            "COPY (SELECT concat('t', n % 3) AS task, [sin(n), cos(n * 1.7), sin(n * 0.3)] AS x,
                    [sin(n) + 0.2 * cos(n * n), cos(n * 1.7), sin(n * 0.4)] AS y
             FROM {rows}) TO 'e/{file}.parquet';"
        );
        assert_eq!(place.run(&["sql", "-c", &copy]).status, 0);
    }
}

#[test]
fn alignment_over_stored_embeddings_is_that_of_one_process() {
    let place = Place::new();
    embeddings(&place, 700);
    let workers = Worker::two();
    let urls = urls(&workers);
    let query = "SELECT task, count(*) AS n, linear_cka(x, y) AS cka, linear_cka_debiased(x, y) AS debiased, gradient_cosine(x, y) AS cosine
                 FROM 'e/' GROUP BY task";
    let plan = place.sql(&format!("EXPLAIN ANALYZE {query}"), Some(&urls)).join("\n");
    for part in ["DistributedExec", "NetworkShuffleExec", "mode=Partial", "mode=FinalPartitioned"] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    let (alone, together) = (place.sql(query, None), place.sql(query, Some(&urls)));
    assert_eq!((alone.len(), together.len()), (4, 4));
    for (alone, together) in alone.iter().zip(&together).skip(1) {
        for (one, other) in alone.split(',').zip(together.split(',')) {
            // Sums over parts are added in another order.
            let same =
                one == other || one.parse::<f64>().is_ok_and(|one| (one - other.parse::<f64>().unwrap()).abs() < 1e-12);
            assert!(same, "{alone} {together}");
        }
    }
}

#[test]
fn a_type_that_would_arrive_as_another_is_not_sent() {
    let place = Place::new();
    embeddings(&place, 200);
    let workers = Worker::two();
    let urls = urls(&workers);
    let large = "(SELECT task, arrow_cast(x, 'LargeList(Float64)') AS l, y FROM 'e/')";
    for column in ["l", "named_struct('inner', l) AS s"] {
        let done = place.run(&["sql", "--workers", &urls, "-c", &format!("SELECT {column} FROM {large}")]);
        assert_eq!((done.status, done.out.as_str()), (1, ""), "{}", done.screen);
        assert!(done.screen.contains("LargeList") && done.screen.contains("arrow_cast"), "{}", done.screen);
    }
    // Where it stays with the worker that made it, all is well.
    let query = format!("SELECT task, sum(l[1]) AS s, count(*) AS n FROM {large} GROUP BY task");
    let rounded =
        |workers| -> Vec<String> { place.sql(&format!("SELECT task, round(s, 9) AS s, n FROM ({query})"), workers) };
    assert_eq!(rounded(Some(&urls)), rounded(None));
}

#[test]
fn what_the_model_says_in_sql_is_what_it_says_in_one_process() {
    let place = Place::new();
    let rows: Vec<String> = (0..300).map(|n| format!("({n}, '{}')", report(n))).collect();
    let values = rows.join(", ");
    let copy = format!("COPY (SELECT * FROM (VALUES {values}) AS t(id, text)) TO 'r/{{}}.parquet'");
    std::fs::create_dir(place.path("r")).unwrap();
    for name in ["a", "b"] {
        assert_eq!(place.run(&["sql", "-c", &copy.replace("{}", name)]).status, 0);
    }
    let workers = Worker::two();
    let urls = urls(&workers);
    for query in [
        "SELECT id, extract_findings(text) AS f, foramen_model() AS m FROM 'r/'",
        "SELECT f['level'] AS level, f['disc'] AS disc, count(*) AS n FROM (SELECT unnest(extract_findings(text)) AS f FROM 'r/') GROUP BY 1, 2",
        "SELECT id, embed_segments(text) AS e FROM 'r/' WHERE id % 7 = 0",
        "SELECT a.id, report_segments(b.text) AS s FROM 'r/a.parquet' AS a JOIN 'r/b.parquet' AS b ON a.id = b.id",
        "WITH t AS (SELECT sum(id) AS n FROM 'r/') SELECT n, (SELECT max(length(text)) FROM 'r/') AS most FROM t",
    ] {
        let (alone, together) = (place.sql(query, None), place.sql(query, Some(&urls)));
        assert_eq!(together, alone, "{query}");
        let plan = place.sql(&format!("EXPLAIN ANALYZE {query}"), Some(&urls)).join("\n");
        assert!(plan.contains("DistributedExec"), "{query}: {plan}");
    }
    let withheld =
        "SELECT count(*) AS n FROM (SELECT unnest(extract_findings(text)) AS f FROM 'r/') WHERE f['disc'] IS NULL";
    let counted = |extra: &[&str]| {
        let done = place.run(&[&["sql", "--format", "csv", "-c", withheld, "--min-score", "0.4"], extra].concat());
        assert_eq!(done.status, 0, "{}", done.screen);
        done.out
    };
    assert_ne!(counted(&[]), "n\n0\n");
    assert_eq!(counted(&["--workers", &urls]), counted(&[]), "the threshold goes with the query");
    // A table in memory and what is made of one.
    let statements = "CREATE TABLE t AS SELECT id % 5 AS k, text FROM 'r/'; SELECT k, count(*) AS n FROM t GROUP BY k";
    assert_eq!(place.sql(statements, Some(&urls)), place.sql(statements, None));
}

#[test]
fn hl7_files_are_read_once_by_somebody_on_the_terms_of_the_query() {
    let place = Place::new();
    for file in 0..5 {
        place.write(&format!("in/{file}.hl7"), (file * 40..(file + 1) * 40).map(message).collect::<String>());
    }
    place.write("site.toml", "report_id = [\"MSH-10\"]\n");
    let workers = Worker::two();
    let urls = urls(&workers);
    let table = "CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION 'in/';";
    for query in [
        "SELECT source, hl7_reports(message) AS r FROM m",
        "SELECT r['report_id'] AS id, f['level'] AS level FROM (SELECT r, unnest(extract_findings(r['text'])) AS f FROM (SELECT unnest(hl7_reports(message)) AS r FROM m))",
        "SELECT count(*) AS n, count(DISTINCT source) AS d FROM m",
        "SELECT source FROM m WHERE hl7_field(message, 'MSH-10') LIKE 'C1%'",
        "SELECT count(*) AS n FROM 'in/3.hl7'",
    ] {
        let script = format!("{table} {query}");
        assert_eq!(place.sql(&script, Some(&urls)), place.sql(&script, None), "{query}");
    }
    let plan =
        place.sql(&format!("{table} EXPLAIN ANALYZE SELECT hl7_reports(message) AS r FROM m"), Some(&urls)).join("\n");
    assert!(plan.contains("DistributedLeafExec"), "{plan}");
    let ids = |extra: &[&str]| {
        let query =
            format!("{table} SELECT r['report_id'] AS id FROM (SELECT unnest(hl7_reports(message)) AS r FROM m)");
        let done =
            place.run(&[&["sql", "--format", "csv", "--hl7-options", "site.toml", "-c", &query], extra].concat());
        assert_eq!(done.status, 0, "{}", done.screen);
        let mut ids: Vec<String> = done.out.lines().map(str::to_owned).collect();
        ids.sort();
        ids
    };
    assert!(ids(&[]).contains(&"C17".to_owned()));
    assert_eq!(ids(&["--workers", &urls]), ids(&[]));
}

#[test]
fn files_that_may_not_be_cut_are_not() {
    let place = Place::new();
    // With line ends in values, a row begins where only a reader from the front can tell.
    let rows = (0..4000).map(|n| format!("{n},\"{}\n{n},not a row\n\"\n", report(n)));
    place.write("c/a.csv", "id,text\n".to_owned() + &rows.collect::<String>());
    let workers = Worker::two();
    let script = "CREATE EXTERNAL TABLE t (id BIGINT, text VARCHAR) STORED AS CSV LOCATION 'c/' OPTIONS ('format.has_header' 'true', 'format.newlines_in_values' 'true'); SELECT count(*) AS n, sum(id) AS s, sum(length(text)) AS l FROM t";
    let alone = place.sql(script, None);
    assert!(alone[1].starts_with("4000,7998000,"), "{alone:?}");
    assert_eq!(place.sql(script, Some(&urls(&workers))), alone);
}

#[test]
fn a_worker_with_another_model_refuses_what_needs_one() {
    let place = Place::new();
    let other = exported(8);
    let workers = [Worker::start(&[], model()), Worker::start(&[], other.path())];
    let urls = urls(&workers);
    place.write("in/a.hl7", (0..50).map(message).collect::<String>());
    place.write("in/b.hl7", (50..99).map(message).collect::<String>());
    let digest = |folder: &Path| foramen::model::Package::open(folder).unwrap().digest().to_owned();
    let (ours, theirs) = (digest(model()), digest(other.path()));
    assert_ne!(ours, theirs);
    let table = "CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION 'in/';";
    let texts = "(SELECT r['text'] AS text FROM (SELECT unnest(hl7_reports(message)) AS r FROM m))";
    for arguments in [
        vec!["label", "in", "--output", "out/", "--workers", &urls],
        vec!["sql", "-c", &format!("{table} SELECT extract_findings(text) AS f FROM {texts}"), "--workers", &urls],
    ] {
        let done = place.run(&arguments);
        assert_eq!((done.status, done.out.as_str()), (1, ""), "{}", done.screen);
        assert!(done.screen.contains(&ours) && done.screen.contains(&theirs), "{}", done.screen);
        assert_eq!(place.names(""), ["in"]);
    }
    // What needs no model runs.
    let script = format!("{table} SELECT count(*) AS n, sum(cardinality(report_segments(text))) AS s FROM {texts}");
    assert_eq!(place.sql(&script, Some(&urls)), place.sql(&script, None));
}

#[test]
fn what_cannot_be_is_said() {
    let place = Place::new();
    place.write("a.txt", report(1));
    let mut worker = Worker::start(&[], model());
    let url = worker.url.clone();
    for (arguments, words) in [
        (&["label", "a.txt", "--output", "a.parquet", "--workers", &url][..], "slash at its end"),
        (&["label", "a.txt", "--output", "a/"], "--workers"),
        (&["label", "-", "--output", "a/", "--workers", &url], "standard input"),
        (&["sql", "-c", "SELECT 1", "--workers", "127.0.0.1:1"], "http://HOST:PORT"),
        (&["sql", "-c", "SELECT 1", "--workers", "https://127.0.0.1:1"], "--tls-ca"),
        (&["sql", "-c", "SET datafusion.execution.time_zone = '+02:00'", "--workers", &url], "time_zone"),
        (&["worker", "--listen", "0.0.0.0:0"], "--insecure"),
    ] {
        let done = place.run(arguments);
        assert_eq!(done.status, 1, "{arguments:?}: {}", done.screen);
        assert!(done.screen.contains(words), "{arguments:?}: {}", done.screen);
    }
    worker.kill();
    let done = place.run(&["sql", "-c", "SELECT 1", "--workers", &url]);
    assert!(done.status == 1 && done.screen.contains(&url) && done.screen.contains("start it"), "{}", done.screen);
    assert_eq!(place.names(""), ["a.txt"]);
}

/// An authority's certificate, and one of it for this machine.
fn certificates(place: &Place) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    place.write("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
    let issuer = Issuer::new(ca, ca_key);
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    place.write("own.pem", own.signed_by(&key, &issuer).unwrap().pem());
    place.write("own.key", key.serialize_pem());
}

#[test]
fn with_tls_only_those_of_the_authority_talk() {
    let (place, others) = (Place::new(), Place::new());
    certificates(&place);
    certificates(&others);
    let files = |place: &Place| -> Vec<String> {
        [("--tls-cert", "own.pem"), ("--tls-key", "own.key"), ("--tls-ca", "ca.pem")]
            .iter()
            .flat_map(|(option, name)| [(*option).to_owned(), place.path(name).display().to_string()])
            .collect()
    };
    let (ours, theirs) = (files(&place), files(&others));
    fn borrowed(strings: &[String]) -> Vec<&str> {
        strings.iter().map(String::as_str).collect()
    }
    let workers = [(); 2].map(|()| Worker::start(&borrowed(&ours), model()));
    let plain = urls(&workers);
    let urls = plain.replace("http://", "https://");
    embeddings(&place, 100);
    // A stage that goes from worker to worker.
    let query = [
        "sql",
        "--format",
        "csv",
        "-c",
        "SELECT task, count(*) AS n FROM 'e/' GROUP BY task ORDER BY task",
        "--workers",
    ];
    let done = place.run(&[&query[..], &[&urls], &borrowed(&ours)].concat());
    assert_eq!((done.status, done.out.as_str()), (0, "task,n\nt0,133\nt1,134\nt2,133\n"), "{}", done.screen);
    let without_certificate = [&ours[4..]].concat();
    for (urls, files) in [(&urls, theirs), (&urls, without_certificate), (&plain, ours), (&plain, Vec::new())] {
        let done = place.run(&[&query[..], &[urls], &borrowed(&files)].concat());
        assert_eq!((done.status, done.out.as_str()), (1, ""), "{urls} {files:?}");
        assert!(done.screen.contains("does not answer"), "{}", done.screen);
    }
}

/// How much is asked of the long tests: `FORAMEN_SOAK=1` asks for what the documentation reports.
fn size(usual: usize, soak: usize) -> usize {
    if std::env::var_os("FORAMEN_SOAK").is_some() { soak } else { usual }
}

/// Numbers below a bound, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[allow(clippy::disallowed_methods, reason = "the moment at which a process is killed is a matter of time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Runs a command with two workers of which one, or both, are killed a while after it has begun.
fn killed(place: &Place, arguments: &[&str], begun: impl Fn() -> bool, after: Duration, both: bool) -> Done {
    let mut workers = Worker::two();
    let urls = urls(&workers);
    let mut command = place.command(&[arguments, &["--workers", &urls]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waiting = std::thread::spawn(move || child.wait_with_output().unwrap());
    while !begun() && !waiting.is_finished() {
        pause(Duration::from_millis(2));
    }
    pause(after);
    workers[0].kill();
    if both {
        workers[1].kill();
    }
    Done::of(waiting.join().unwrap())
}

/// How a run ended, for people.
fn ended(done: &Done) -> &str {
    match (done.status, done.screen.contains("once more")) {
        (0, false) => "done before",
        (0, true) => "done again",
        _ => done.screen.trim_end().lines().last().unwrap_or_default(),
    }
}

#[test]
fn a_worker_that_is_killed_costs_time_and_never_a_row() {
    let place = Place::new();
    archive(&place, 60, size(40, 200));
    assert_eq!(place.run(&["label", "in", "--output", "alone.parquet"]).status, 0);
    let alone = place.rows("alone.parquet");
    let workers = Worker::two();
    let started = Instant::now();
    let done = place.run(&["label", "in", "--output", "whole/", "--workers", &urls(&workers)]);
    let took = started.elapsed();
    drop(workers);
    assert_eq!(done.status, 0, "{}", done.screen);
    assert_eq!(place.rows("whole"), alone);
    std::fs::remove_dir_all(place.path("whole")).unwrap();

    let mut random = Random(5);
    for kill in 0..size(3, 20) {
        let after = took.mul_f64(random.below(700) as f64 / 1000.0);
        let both = kill % 5 == 2;
        // It has begun when a worker has begun to write.
        let begun = || {
            let hidden = place.names("").into_iter().find(|name| name.starts_with(".partial-"));
            hidden
                .is_some_and(|name| std::fs::read_dir(place.path(&name)).is_ok_and(|mut files| files.next().is_some()))
        };
        let done = killed(&place, &["label", "in", "--output", "out/"], begun, after, both);
        println!("label: killed {} after {after:?} of {took:?}: {}", if both { "both" } else { "one" }, ended(&done));
        if done.status == 0 {
            assert_eq!(place.rows("out"), alone);
            std::fs::remove_dir_all(place.path("out")).unwrap();
        } else {
            assert_eq!(done.status, 1, "{}", done.screen);
            assert!(done.screen.contains("foramen: "), "{}", done.screen);
        }
        assert_eq!(place.names(""), ["alone.parquet", "in"], "{}", done.screen);
        assert!(both || done.status == 0, "one worker is left: {}", done.screen);
    }
}

#[test]
fn a_query_that_loses_a_worker_answers_rightly_or_not_at_all() {
    let place = Place::new();
    archive(&place, 60, size(20, 100));
    let table = "CREATE EXTERNAL TABLE t STORED AS HL7 LOCATION 'in/0/*.hl7';";
    let query = "SELECT r['report_id'] AS id, f FROM (SELECT r, unnest(extract_findings(r['text'])) AS f FROM (SELECT unnest(hl7_reports(message)) AS r FROM t)) ORDER BY id, f['level']";
    let select = format!("{table} {query}");
    let copy = format!("{table} COPY ({query}) TO 'out.parquet'");
    let alone = place.run(&["sql", "--format", "csv", "-c", &select]);
    assert_eq!(alone.status, 0, "{}", alone.screen);
    assert_eq!(place.run(&["sql", "-c", &copy.replace("out.parquet", "alone.parquet")]).status, 0);
    let rows = place.rows("alone.parquet");
    let workers = Worker::two();
    let started = Instant::now();
    assert_eq!(place.run(&["sql", "--format", "csv", "-c", &select, "--workers", &urls(&workers)]).out, alone.out);
    let took = started.elapsed();
    drop(workers);

    let mut random = Random(6);
    for kill in 0..size(4, 20) {
        let after = took.mul_f64(random.below(1000) as f64 / 1000.0);
        let (both, copies) = (kill % 5 == 2, kill % 2 == 1);
        let statement = if copies { &copy } else { &select };
        let done = killed(&place, &["sql", "--format", "csv", "-c", statement], || true, after, both);
        let what = if copies { "COPY" } else { "SELECT" };
        println!("{what}: killed {} after {after:?} of {took:?}: {}", if both { "both" } else { "one" }, ended(&done));
        let mut left = vec!["alone.parquet", "in"];
        if done.status == 0 && copies {
            assert_eq!(place.rows("out.parquet"), rows);
            left.push("out.parquet");
        } else if done.status == 0 {
            assert_eq!(done.out, alone.out);
        } else {
            assert_eq!((done.status, done.out.as_str()), (1, ""), "{}", done.screen);
        }
        assert_eq!(place.names(""), left, "{}", done.screen);
        let _ = std::fs::remove_file(place.path("out.parquet"));
    }
}
