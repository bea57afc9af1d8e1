//! What the tests of the stream share: topics, messages, and `foramen stream` as a process.
#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "each test binary uses a part of it, and a test says what it left out"
)]

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Waits until something is so, looking again and again; fails the test when it takes too long.
pub(crate) fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(180), "not in time: {what}");
        pause(Duration::from_millis(50));
    }
}

#[allow(clippy::disallowed_methods, reason = "another process is waited for; every wait has a bound")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A report message of an invented person.
pub(crate) struct Hl7<'a> {
    pub(crate) report: &'a str,
    pub(crate) control: &'a str,
    pub(crate) status: &'a str,
    pub(crate) text: &'a str,
    /// Day of March 2026.
    pub(crate) day: u32,
}

impl Default for Hl7<'_> {
    fn default() -> Self {
        Hl7 {
            report: "A1",
            control: "M1",
            status: "F",
            text: "L4-5: Broad-based disc bulge, mild canal stenosis.",
            day: 2,
        }
    }
}

impl Hl7<'_> {
    pub(crate) fn message(&self) -> String {
        let Hl7 { report, control, status, text, day } = self;
        let time = format!("202603{day:02}0815");
        let obx = match text.is_empty() {
            true => String::new(),
            false => format!("OBX|1|TX|&GDT||{text}||||||{status}\r"),
        };
        format!(
            "MSH|^~\\&|RIS|HOSPITAL|||{time}||ORU^R01|{control}|P|2.5\rPID|1||4711^^^H^MR\r\
             OBR|1||{report}|72148^MRI LUMBAR|||{time}|||||||||||||||{time}|||{status}\r{obx}"
        )
    }
}

/// Topics of one test, on a broker that others use too.
pub(crate) struct Topics {
    pub(crate) bootstrap: String,
    pub(crate) name: String,
}

impl Topics {
    /// Makes the topic of messages; the stream makes the others.
    pub(crate) fn create(bootstrap: &str, name: &str, partitions: i32) -> Topics {
        let unique = format!("{name}-{}", std::process::id());
        let topics = Topics { bootstrap: bootstrap.to_owned(), name: unique };
        topics.make(&topics.input(), partitions, &[]);
        topics
    }

    /// Makes another topic, of one partition, before the stream does.
    pub(crate) fn create_with(&self, topic: &str, properties: &[(&str, &str)]) {
        self.make(topic, 1, properties);
    }

    fn make(&self, topic: &str, partitions: i32, properties: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in properties {
            new = new.set(key, value);
        }
        let made = futures::executor::block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.bootstrap);
        client
    }

    pub(crate) fn input(&self) -> String {
        format!("{}-hl7", self.name)
    }

    pub(crate) fn output(&self) -> String {
        format!("{}-findings", self.name)
    }

    pub(crate) fn dead(&self) -> String {
        format!("{}-dead", self.name)
    }

    /// A configuration, with `more` at its end. Sessions are short, so that tests are.
    pub(crate) fn config(&self, instance: &str, sink: &str, more: &str) -> String {
        format!(
            "[kafka]\nbrokers = '{}'\ngroup = '{}'\ntopics = ['{}']\ninstance = '{instance}'\n\
             [kafka.properties]\n'session.timeout.ms' = 6000\n'heartbeat.interval.ms' = 500\n'group.instance.id' = '{instance}'\n\
             'statistics.interval.ms' = 500\n'reconnect.backoff.max.ms' = 500\n'transaction.timeout.ms' = 20000\n\
             [sink]\n{sink}\n[dead_letter]\ntopic = '{}'\n{more}",
            self.bootstrap,
            self.name,
            self.input(),
            self.dead()
        )
    }

    pub(crate) fn kafka_sink(&self) -> String {
        format!("kind = 'kafka'\ntopic = '{}'", self.output())
    }

    /// Sends messages, each keyed by its report.
    pub(crate) fn produce<'a>(&self, messages: impl IntoIterator<Item = (&'a str, Vec<u8>)>) {
        let producer: ThreadedProducer<_> = self.client().set("linger.ms", "5").create().unwrap();
        let topic = self.input();
        for (key, message) in messages {
            let mut record = BaseRecord::to(&topic).key(key).payload(&message);
            while let Err((error, back)) = producer.send(record) {
                assert!(
                    matches!(error, KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull)),
                    "{error}"
                );
                record = back;
                pause(Duration::from_millis(10));
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }

    pub(crate) fn send(&self, messages: &[Hl7<'_>]) {
        self.produce(messages.iter().map(|hl7| (hl7.report, hl7.message().into_bytes())));
    }

    /// All committed records of a topic, up to its end; none where there is no such topic.
    pub(crate) fn read(&self, topic: &str) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "reading")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let (mut left, mut records) = (assignment.count(), Vec::new());
        let started = Instant::now();
        while left > 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "{topic} has no end");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(record)) => records.push(record.detach()),
                Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
                _ => {}
            }
        }
        records
    }

    /// What a compacted topic comes to: the last value of each key, without those that were taken back.
    pub(crate) fn latest(&self, topic: &str) -> BTreeMap<String, serde_json::Value> {
        let mut latest = BTreeMap::new();
        for record in self.read(topic) {
            let key = text(record.key());
            match record.payload() {
                Some(value) => latest.insert(key, serde_json::from_slice(value).unwrap()),
                None => latest.remove(&key),
            };
        }
        latest
    }

    /// Where the group has come to, summed over partitions; 0 while brokers don't say.
    pub(crate) fn committed(&self) -> i64 {
        let consumer: BaseConsumer = self.client().set("group.id", &self.name).create().unwrap();
        let sum = || -> Result<i64, KafkaError> {
            let metadata = consumer.fetch_metadata(Some(&self.input()), Duration::from_secs(10))?;
            let mut list = TopicPartitionList::new();
            for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                list.add_partition(&self.input(), partition.id());
            }
            let committed = consumer.committed_offsets(list, Duration::from_secs(10))?;
            let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
            Ok(committed.elements().iter().map(|partition| offset(partition.offset())).sum())
        };
        sum().unwrap_or(0)
    }
}

pub(crate) fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
}

/// A record's header, as text.
pub(crate) fn header(record: &OwnedMessage, name: &str) -> Option<String> {
    let headers = record.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    Some(text(found.value))
}

/// `foramen stream`, running. It is killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a stream; its log goes on in the folder from one start to the next.
    pub(crate) fn start(folder: &Path, name: &str, config: &str, model: &Path) -> Running {
        Running::start_with(folder, name, config, model, "debug,librdkafka=error,rdkafka=off")
    }

    /// The same, with what its log is to hold.
    pub(crate) fn start_with(folder: &Path, name: &str, config: &str, model: &Path, log_filter: &str) -> Running {
        let path = folder.join(format!("{name}.toml"));
        let mut file = File::create(&path).unwrap();
        write!(file, "{config}\n[model]\nfolder = '{}'\n", model.display()).unwrap();
        let log = folder.join(format!("{name}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_foramen"))
            .args(["stream", "--config"])
            .arg(&path)
            .env("RUST_LOG", log_filter)
            .stderr(File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        Running { child, log }
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As a supervisor asks for an end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.ask();
        self.ended()
    }

    /// Asks for an end without waiting for it.
    pub(crate) fn ask(&self) {
        let asked = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(asked.success());
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait("the stream's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks a path of a stream's metrics: the status line's number, and the body. None while nobody listens.
pub(crate) fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The value of a line of metrics, by its beginning.
pub(crate) fn metric(metrics: &str, beginning: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with(beginning))?;
    line.rsplit(' ').next()?.parse().ok()
}
