//! The loop of a stream: poll, judge, transform, commit. One thread does it all, so that between two polls nothing is in flight,
//! and a partition that is revoked (which happens in a poll) takes nothing with it but messages that were not begun.

use super::config::{Config, Sink};
use super::error::Error;
use super::group::{self, Event, Group};
use super::http::Health;
use super::metrics::Metrics;
use super::record::{Code, Partition, Reason, Record};
use super::sink::{KafkaSink, ParquetSink, Refusal};
use super::stop::Stop;
use super::transform::{Transform, texts};
use super::versions::Place;
use super::work::{States, Work, process};
use super::{changelog, client};
use crate::model::{MANIFEST, Model, Options, default_folder};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;

/// How long a poll waits where nothing comes.
const POLL: Duration = Duration::from_millis(100);
/// How often the model package is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often reports are forgotten that are older than is to be remembered.
const FORGET: Duration = Duration::from_secs(3600);

/// What outlives a session: configuration, model, and what is told to the outside.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) stop: Arc<Stop>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) runtime: Handle,
}

/// The model package in its folder, looked at again and again.
pub(crate) struct Package {
    folder: PathBuf,
    options: Options,
    seen: Option<SystemTime>,
    looked: Instant,
    told: bool,
}

impl Package {
    pub(crate) fn new(config: &Config) -> Package {
        let model = &config.model;
        let default = Options::default();
        let options = Options {
            device: model.device.unwrap_or(default.device),
            arithmetic: model.arithmetic,
            threads: model.threads.unwrap_or(default.threads),
            min_score: model.min_score,
            ..default
        };
        let folder = model.folder.clone().unwrap_or_else(default_folder);
        Package { folder, options, seen: None, looked: Instant::now(), told: false }
    }

    pub(crate) fn open(&mut self) -> Result<Arc<Model>, crate::model::Error> {
        self.seen = modified(&self.folder);
        Model::open(&self.folder, &self.options).map(Arc::new)
    }

    /// The model that has taken the place of the one that is open. One that is not whole yet is looked at again.
    fn newer(&mut self, current: &Model) -> Option<Arc<Model>> {
        if self.looked.elapsed() < LOOK {
            return None;
        }
        self.looked = Instant::now();
        let modified = modified(&self.folder);
        if modified == self.seen {
            return None;
        }
        match Model::open(&self.folder, &self.options) {
            Ok(model) => {
                self.seen = modified;
                self.told = false;
                (model.id() != current.id()).then(|| Arc::new(model))
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(%error, "the new model package can't be opened yet; the one before reads on");
                }
                None
            }
        }
    }
}

fn modified(folder: &Path) -> Option<SystemTime> {
    std::fs::metadata(folder.join(MANIFEST)).ok()?.modified().ok()
}

/// One membership of the consumer group, from its beginning to a fault or the end.
pub(crate) struct Session<'a> {
    shared: &'a Shared,
    consumer: BaseConsumer<Group>,
    /// None where the sink is a folder, which the consumer's context has.
    sink: Option<KafkaSink>,
    transform: Transform,
    states: States,
    pending: Vec<Record>,
    pending_bytes: usize,
    since: Option<Instant>,
    forgotten: Instant,
    committed: bool,
}

impl<'a> Session<'a> {
    /// Takes up the work: sees that topics are there, and joins the group.
    ///
    /// # Errors
    /// What keeps the stream from running; [`Error::passes`] says whether waiting may help.
    pub(crate) fn begin(shared: &'a Shared, model: &Arc<Model>) -> Result<Session<'a>, Error> {
        let config = &shared.config;
        shared.health.set_ready(Err("connecting to Kafka"));
        let transform =
            shared.runtime.block_on(Transform::plan(&config.transform.sql, Arc::clone(model), &config.hl7))?;
        shared.runtime.block_on(client::prepare(config))?;
        let (sink, folder) = match &config.sink {
            Sink::Kafka(settings) => (Some(KafkaSink::open(config, settings, transform.schema(), &shared.stop)?), None),
            Sink::Parquet(settings) => {
                let runtime = shared.runtime.clone();
                (None, Some(ParquetSink::open(config, settings, &transform, &shared.stop, runtime)?))
            }
        };
        let every_version = folder.is_some();
        let context = Group::new(folder, Arc::clone(&shared.metrics));
        let consumer: BaseConsumer<Group> =
            client::consumer(config).create_with_context(context).map_err(Error::Client)?;
        let topics: Vec<&str> = config.kafka.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(Error::Client)?;
        shared.metrics.set_model(model.id(), &model.provider());
        shared.health.set_ready(Err("joining the consumer group"));
        let window = config.state.duplicate_window;
        Ok(Session {
            shared,
            consumer,
            sink,
            transform,
            states: States { partitions: HashMap::new(), window, every_version },
            pending: Vec::new(),
            pending_bytes: 0,
            since: None,
            forgotten: Instant::now(),
            committed: false,
        })
    }

    /// Whether something was committed: what went wrong before is over.
    pub(crate) fn committed(&self) -> bool {
        self.committed
    }

    /// Runs until a stop is asked for, which finishes what is in flight.
    pub(crate) fn run(&mut self, package: &mut Package) -> Result<(), Error> {
        while !self.shared.stop.stopped() {
            self.shared.health.beat();
            let wait = self
                .since
                .map_or(POLL, |since| self.shared.config.batch.max_wait().saturating_sub(since.elapsed()).min(POLL));
            self.poll(wait)?;
            self.settle()?;
            if self.full() {
                self.work()?;
            }
            self.roll(false)?;
            self.keep(package)?;
        }
        self.shared.health.set_ready(Err("stopping"));
        self.work()?;
        self.roll(true)
    }

    fn poll(&mut self, wait: Duration) -> Result<(), Error> {
        let Some(polled) = self.consumer.poll(wait) else { return Ok(()) };
        match polled {
            Ok(message) => {
                let record = record(&message);
                self.pending_bytes += record.payload.len();
                self.pending.push(record);
                self.since.get_or_insert_with(Instant::now);
                Ok(())
            }
            Err(error) => poll_error(error),
        }
    }

    fn full(&self) -> bool {
        let batch = &self.shared.config.batch;
        self.pending.len() >= batch.max_messages
            || self.pending_bytes >= batch.max_bytes
            || self.since.is_some_and(|since| since.elapsed() >= batch.max_wait())
    }

    /// Sees to partitions that came and went.
    fn settle(&mut self) -> Result<(), Error> {
        let mut came = false;
        loop {
            let events = self.consumer.context().events();
            if events.is_empty() {
                break;
            }
            for event in events {
                match event {
                    Event::Failed(error) => return Err(error),
                    Event::Revoked(partitions) => self.revoked(&partitions),
                    Event::Assigned(partitions) => {
                        came = true;
                        self.assigned(&partitions)?;
                    }
                }
            }
        }
        if came {
            let assignment = self.consumer.assignment().map_err(assignment_error)?;
            self.consumer.resume(&assignment).map_err(assignment_error)?;
            self.shared.health.set_ready(Ok(()));
        }
        Ok(())
    }

    fn revoked(&mut self, partitions: &[Partition]) {
        tracing::info!(partitions = names(partitions), "partitions revoked");
        // The buffer holds nothing that was begun: who has them now reads them from the committed offset.
        self.pending.retain(|record| !partitions.contains(&record.partition));
        self.pending_bytes = self.pending.iter().map(|record| record.payload.len()).sum();
        if self.pending.is_empty() {
            self.since = None;
        }
        for partition in partitions {
            self.states.partitions.remove(partition);
            self.shared.metrics.remove_lag(&partition.topic, partition.number);
        }
        self.shared.metrics.rebalance("revoked", partitions.len());
        self.tell_state();
    }

    fn assigned(&mut self, partitions: &[Partition]) -> Result<(), Error> {
        tracing::info!(partitions = names(partitions), "partitions assigned");
        self.shared.health.set_ready(Err("restoring state"));
        for (partition, (committed, first)) in group::lost(&self.consumer, partitions) {
            tracing::error!(
                %partition, committed, first, messages = first - committed,
                "messages were deleted by the topic's retention before they were read; raise it, or read faster"
            );
        }
        let shared = self.shared;
        let consumer = &self.consumer;
        // Others wait too, so that nothing piles up while the state is read.
        let assignment = consumer.assignment().map_err(assignment_error)?;
        consumer.pause(&assignment).map_err(assignment_error)?;
        let started = Instant::now();
        let pending = &mut self.pending;
        let since = &mut self.since;
        let pending_bytes = &mut self.pending_bytes;
        let mut beat = || {
            shared.health.beat();
            match consumer.poll(Duration::ZERO) {
                None => Ok(()),
                Some(Ok(message)) => {
                    let record = record(&message);
                    *pending_bytes += record.payload.len();
                    pending.push(record);
                    since.get_or_insert_with(Instant::now);
                    Ok(())
                }
                Some(Err(error)) => poll_error(error),
            }
        };
        let states = match &self.consumer.context().folder {
            None => changelog::restore(&shared.config, partitions, &shared.stop, &mut beat)?,
            Some(folder) => {
                let retention = Duration::from_secs(u64::from(shared.config.state.retention_days) * 86_400);
                let mut states = HashMap::new();
                for partition in partitions {
                    beat()?;
                    // Not locked while polling: a revocation takes the lock.
                    let state = lock(folder).restore(partition, retention, self.states.window, &mut || {
                        shared.health.beat();
                        Ok(())
                    })?;
                    states.insert(partition.clone(), state);
                }
                states
            }
        };
        self.states.partitions.extend(states);
        let reports: usize = self.states.partitions.values().map(|state| state.size().0).sum();
        tracing::info!(reports, seconds = started.elapsed().as_secs_f32(), "state restored");
        self.shared.metrics.rebalance("assigned", partitions.len());
        self.tell_state();
        Ok(())
    }

    /// Reads, transforms and writes what is pending.
    fn work(&mut self) -> Result<(), Error> {
        let mut records = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        self.since = None;
        if records.is_empty() {
            return Ok(());
        }
        let began = now();
        let offsets = offsets(&records);
        let mut refused: HashMap<(Partition, Place), Reason> = HashMap::new();
        let before = self.transform.model().usage();
        let (work, written) = loop {
            let work = process(records, &self.states, &self.transform, &self.shared.config.hl7, &refused);
            let work = self.shared.runtime.block_on(work)?;
            let started = Instant::now();
            match self.write(&work, &offsets) {
                Ok(()) => break (work, started.elapsed()),
                Err(Refusal::Other(error)) => return Err(error),
                Err(Refusal::Statement(number, code)) => {
                    let Some(statement) = work.statements.get(number) else {
                        return Err(Error::Interrupted("a statement was refused that is not there".into()));
                    };
                    let place = (statement.partition.clone(), statement.place);
                    let message = format!(
                        "what is to be said of the report can't be written: {code}; raise max.message.bytes of the sink's topic"
                    );
                    let reason = Reason {
                        code: Code::Unwritable.name(),
                        stage: "sink",
                        position: None,
                        control_id: None,
                        message,
                    };
                    if refused.insert(place, reason).is_some() {
                        return Err(Error::Interrupted("a statement was refused twice".into()));
                    }
                    records = work.records;
                }
            }
        };
        self.committed = true;
        if self.sink.is_some() {
            for (partition, (_, next)) in &offsets {
                self.consumer.context().came_to(partition, *next);
            }
            self.shared.metrics.wrote(written);
            self.shared.metrics.committed(now() / 1000);
        }
        self.observe(&work, &before, began);
        for (partition, staged) in work.staged {
            if let Some(state) = self.states.partitions.get_mut(&partition) {
                state.apply(staged, self.states.window);
            }
        }
        self.tell_state();
        Ok(())
    }

    fn write(&mut self, work: &Work, offsets: &BTreeMap<Partition, (i64, i64)>) -> Result<(), Refusal> {
        let health = &self.shared.health;
        let mut beat = || health.beat();
        match (&mut self.sink, &self.consumer.context().folder) {
            (Some(sink), _) => {
                let failed = |source| Error::Kafka { doing: "committing offsets", source };
                let mut list = TopicPartitionList::new();
                for (partition, (_, next)) in offsets {
                    list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*next))
                        .map_err(failed)?;
                }
                let consumer = &self.consumer;
                let group = || consumer.group_metadata().filter(|_| !consumer.assignment_lost());
                sink.commit(work, &self.states, &list, &group, &mut beat)
            }
            (None, Some(folder)) => Ok(lock(folder).append(work, offsets, &mut beat)?),
            (None, None) => Ok(()),
        }
    }

    /// Completes files whose time has come; all of them at the end.
    fn roll(&mut self, all: bool) -> Result<(), Error> {
        let Some(folder) = &self.consumer.context().folder else { return Ok(()) };
        let mut folder = lock(folder);
        let due = if all { folder.filling() } else { folder.due() };
        for partition in due {
            let started = Instant::now();
            folder.complete(&partition, &mut |partition, offset| {
                group::commit(&self.consumer, partition, offset)?;
                self.consumer.context().came_to(partition, offset);
                Ok(())
            })?;
            self.shared.metrics.wrote(started.elapsed());
            self.shared.metrics.committed(now() / 1000);
        }
        Ok(())
    }

    /// Takes up a new model package, and forgets what is older than is to be remembered.
    fn keep(&mut self, package: &mut Package) -> Result<(), Error> {
        if let Some(model) = package.newer(self.transform.model()) {
            let config = &self.shared.config;
            let planned =
                self.shared.runtime.block_on(Transform::plan(&config.transform.sql, Arc::clone(&model), &config.hl7));
            match planned {
                Err(error) => {
                    tracing::warn!(%error, model = model.id(), "the query can't be planned with the new model; the one before reads on")
                }
                Ok(transform) => {
                    tracing::info!(
                        from = self.transform.model().id(),
                        to = model.id(),
                        "a new model reads from here on"
                    );
                    self.roll(true)?;
                    if let Some(sink) = &mut self.sink {
                        sink.reform(transform.schema())?;
                    }
                    if let Some(folder) = &self.consumer.context().folder {
                        lock(folder).shape(&transform)?;
                    }
                    self.shared.metrics.set_model(model.id(), &model.provider());
                    self.transform = transform;
                }
            }
        }
        if self.forgotten.elapsed() > FORGET {
            self.forgotten = Instant::now();
            let oldest = now() - i64::from(self.shared.config.state.retention_days) * 86_400_000;
            self.states.partitions.values_mut().for_each(|state| state.forget_before(oldest));
        }
        Ok(())
    }

    /// The model of the session that follows.
    pub(crate) fn model(&self) -> Arc<Model> {
        Arc::clone(self.transform.model())
    }

    /// What a committed batch was.
    fn observe(&self, work: &Work, before: &crate::model::Usage, began: i64) {
        let metrics = &self.shared.metrics;
        let ended = now();
        for record in &work.records {
            metrics.message(&record.partition.topic);
            if let Some(at) = record.timestamp {
                metrics.queued(milliseconds(began - at));
                metrics.end_to_end(milliseconds(ended - at));
            }
        }
        let counts = &work.counts;
        for (status, reports) in &counts.reports {
            metrics.reports(status, *reports);
        }
        for (change, corrections) in &counts.corrections {
            metrics.corrections(change, *corrections);
        }
        for kind in &counts.not_reports {
            metrics.not_report(kind);
        }
        for dead in &work.dead_letters {
            metrics.reject(dead.reason.stage, dead.reason.code);
        }
        metrics.late(counts.late);
        metrics.duplicates(counts.duplicates);
        metrics.reused_control_ids(counts.reused);
        let tasks = self.transform.model().package().labels().tasks();
        for statement in &work.statements {
            metrics.rows(statement.rows.num_rows() as u64);
            for task in tasks.iter().filter(|task| statement.rows.column_by_name(&task.name).is_some()) {
                for grade in texts(&statement.rows, &task.name) {
                    // A query may put anything into a column of that name.
                    if task.grades.contains(&grade) {
                        metrics.grade(&task.name, &grade);
                    }
                }
            }
        }
        let usage = self.transform.model().usage().since(before);
        metrics.tokens(usage.tokens, usage.padding);
        metrics.cache(usage.cache_hits, usage.cache_misses);
        metrics.batch(work.records.len(), counts.transform, usage.tokenise, usage.infer);
    }

    fn tell_state(&self) {
        let sizes = self.states.partitions.values().map(|state| state.size());
        let (reports, bytes) = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        self.shared.metrics.set_state(self.states.partitions.len(), reports, bytes);
    }
}

fn lock(folder: &std::sync::Mutex<ParquetSink>) -> MutexGuard<'_, ParquetSink> {
    folder.lock().unwrap_or_else(PoisonError::into_inner)
}

fn assignment_error(source: KafkaError) -> Error {
    Error::Interrupted(format!("the assignment: {source}"))
}

fn poll_error(error: KafkaError) -> Result<(), Error> {
    if changelog::transient(&error) {
        tracing::debug!(%error, "polling");
        return Ok(());
    }
    match error {
        KafkaError::MessageConsumptionFatal(_) => Err(Error::Interrupted(format!("polling: {error}"))),
        source if !super::error::passes(&source) => Err(Error::Kafka { doing: "polling", source }),
        error => {
            tracing::warn!(%error, "polling");
            Ok(())
        }
    }
}

fn names(partitions: &[Partition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn milliseconds(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

/// For each partition of a batch, its first offset and the one after its last.
fn offsets(records: &[Record]) -> BTreeMap<Partition, (i64, i64)> {
    let mut offsets: BTreeMap<Partition, (i64, i64)> = BTreeMap::new();
    for record in records {
        let (_, next) = offsets.entry(record.partition.clone()).or_insert((record.offset, record.offset));
        *next = record.offset + 1;
    }
    offsets
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Record {
        partition: Partition { topic: message.topic().into(), number: message.partition() },
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        payload: message.payload().unwrap_or_default().to_vec(),
    }
}
