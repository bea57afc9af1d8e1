//! The Parquet sink: a file for a range of offsets of a partition. The folder itself says how far it is.

use super::DeadLetters;
use crate::archive::{MODEL_KEY, SCHEMA_KEY};
use crate::hl7::Status;
use crate::stream::config::{Config, ParquetSink as Settings};
use crate::stream::error::Error;
use crate::stream::intake::report_digest;
use crate::stream::record::Partition;
use crate::stream::stop::Stop;
use crate::stream::transform::{Transform, texts};
use crate::stream::versions::{Arrival, Change, Digest, Kind, PartitionState, Place, Staged};
use crate::stream::work::{Statement, Work};
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::error::ArrowError;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, parse_url_opts};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::arrow::{ArrowWriter, ProjectionMask};
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::parquet::file::reader::ChunkReader;
use futures::TryStreamExt;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Handle;

/// Columns that follow the transform's: which version of its report a row belongs to.
fn version_fields() -> Vec<Field> {
    vec![
        Field::new("version", DataType::Int32, true),
        Field::new("version_at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        Field::new("change", DataType::Utf8, false),
        Field::new("row_index", DataType::Int32, true),
        Field::new("message_digest", DataType::FixedSizeBinary(32), false),
    ]
}

/// A file of a partition that is being filled.
struct Filling {
    writer: Option<ArrowWriter<Vec<u8>>>,
    rows: usize,
    first: i64,
    next: i64,
    since: Instant,
}

/// A range of offsets that a file holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: i64,
    last: i64,
}

/// A folder of files.
pub(crate) struct ParquetSink {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// Where it is on this machine, so that files can be made durable.
    local: Option<PathBuf>,
    settings: Settings,
    rows: SchemaRef,
    written: SchemaRef,
    origin: Vec<KeyValue>,
    filling: BTreeMap<Partition, Filling>,
    dead_letters: DeadLetters,
    runtime: Handle,
}

impl ParquetSink {
    /// Opens a folder, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub(crate) fn open(
        config: &Config,
        settings: &Settings,
        transform: &Transform,
        stop: &Arc<Stop>,
        runtime: Handle,
    ) -> Result<ParquetSink, Error> {
        let failed = |reason: String| Error::Folder { folder: settings.folder.clone(), reason };
        let (store, root, local) = place(&settings.folder).map_err(failed)?;
        let mut sink = ParquetSink {
            store,
            root,
            local,
            settings: settings.clone(),
            rows: Arc::new(Schema::empty()),
            written: Arc::new(Schema::empty()),
            origin: Vec::new(),
            filling: BTreeMap::new(),
            dead_letters: DeadLetters::open(config, stop)?,
            runtime,
        };
        sink.shape(transform)?;
        Ok(sink)
    }

    /// Takes rows of another form, or of another model, from now on; files that are being filled must be completed before.
    pub(crate) fn shape(&mut self, transform: &Transform) -> Result<(), Error> {
        let rows = transform.schema();
        let mut fields: Vec<Field> =
            rows.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        for own in version_fields().into_iter().chain([Field::new("report_status", DataType::Utf8, false)]) {
            let taken = fields.iter().any(|field| field.name() == own.name());
            match own.name().as_str() {
                "report_status" if taken => {}
                name if taken => {
                    return Err(Error::Transform(format!(
                        "the column `{name}` is one that the Parquet sink adds; name yours otherwise"
                    )));
                }
                _ => fields.push(own),
            }
        }
        let model = transform.model();
        self.rows = Arc::clone(rows);
        self.written = Arc::new(Schema::new(fields));
        self.origin = vec![
            KeyValue::new(MODEL_KEY.into(), model.id().to_owned()),
            KeyValue::new(SCHEMA_KEY.into(), model.package().labels().id()),
        ];
        Ok(())
    }

    fn failed(&self, reason: impl ToString) -> Error {
        Error::Folder { folder: self.settings.folder.clone(), reason: reason.to_string() }
    }

    /// Takes a batch in: its dead letters are written at once, its rows into the files of their partitions.
    pub(crate) fn append(
        &mut self,
        work: &Work,
        offsets: &BTreeMap<Partition, (i64, i64)>,
        beat: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        self.dead_letters.write(work, beat)?;
        for (partition, (first, next)) in offsets {
            let filling = self.filling.entry(partition.clone()).or_insert_with(|| Filling {
                writer: None,
                rows: 0,
                first: *first,
                next: *next,
                since: Instant::now(),
            });
            filling.next = *next;
        }
        for statement in &work.statements {
            let batch = self.versioned(statement).map_err(|error| self.failed(error))?;
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_max_row_group_row_count(Some(1 << 17))
                .set_key_value_metadata(Some(self.origin.clone()));
            let Some(filling) = self.filling.get_mut(&statement.partition) else { continue };
            let writer = match &mut filling.writer {
                Some(writer) => writer,
                none => {
                    let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&self.written), Some(properties.build()));
                    none.insert(writer.map_err(|error| Error::Folder {
                        folder: self.settings.folder.clone(),
                        reason: error.to_string(),
                    })?)
                }
            };
            filling.rows += batch.num_rows();
            writer
                .write(&batch)
                .map_err(|error| Error::Folder { folder: self.settings.folder.clone(), reason: error.to_string() })?;
        }
        Ok(())
    }

    /// A statement's rows with the columns of its version; one row without findings where it has none.
    fn versioned(&self, statement: &Statement) -> Result<RecordBatch, ArrowError> {
        let found = statement.rows.num_rows();
        let length = found.max(1);
        let digest = [statement.control_id.as_slice(), statement.message.as_slice()].concat();
        let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value; length])) };
        let columns = self.written.fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
            let value: ArrayRef = match field.name().as_str() {
                "version" => Arc::new(Int32Array::from(vec![
                    statement.version.map(
                        |version| i32::try_from(version).unwrap_or(i32::MAX)
                    );
                    length
                ])),
                "version_at" => {
                    Arc::new(TimestampMillisecondArray::from(vec![statement.version_at; length]).with_timezone("UTC"))
                }
                "change" => text(statement.change.name()),
                "row_index" => match found {
                    0 => new_null_array(&DataType::Int32, 1),
                    found => Arc::new(Int32Array::from_iter_values(0..i32::try_from(found).unwrap_or(i32::MAX))),
                },
                "message_digest" => {
                    Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::repeat_n(digest.as_slice(), length))?)
                }
                name => match statement.rows.column_by_name(name) {
                    Some(column) if found > 0 => Arc::clone(column),
                    _ => match name {
                        "report_id" => text(&statement.report_id),
                        "report_status" => text(statement.status.name()),
                        "source" => text(&statement.source),
                        _ => new_null_array(field.data_type(), length),
                    },
                },
            };
            if value.data_type() == field.data_type() { Ok(value) } else { cast(&value, field.data_type()) }
        });
        RecordBatch::try_new(Arc::clone(&self.written), columns.collect::<Result<_, _>>()?)
    }

    /// Partitions whose files are to be completed now.
    pub(crate) fn due(&self) -> Vec<Partition> {
        let age = Duration::from_millis(self.settings.roll_ms);
        let due = |filling: &Filling| filling.rows >= self.settings.roll_rows || filling.since.elapsed() >= age;
        self.filling.iter().filter(|(_, filling)| due(filling)).map(|(partition, _)| partition.clone()).collect()
    }

    /// Partitions that have something that is not committed.
    pub(crate) fn filling(&self) -> Vec<Partition> {
        self.filling.keys().cloned().collect()
    }

    /// Completes a partition's file. `commit` commits an offset to the group: once before, which fails where the partition is
    /// another's by now, and once after.
    pub(crate) fn complete(
        &mut self,
        partition: &Partition,
        commit: &mut dyn FnMut(&Partition, i64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(filling) = self.filling.remove(partition) else { return Ok(()) };
        commit(partition, filling.first)?;
        if let Some(writer) = filling.writer {
            let bytes = writer.into_inner().map_err(|error| self.failed(error))?;
            let path = self.path(partition, &Range { first: filling.first, last: filling.next - 1 });
            self.runtime.block_on(self.store.put(&path, bytes.into())).map_err(|error| self.failed(error))?;
            self.sync(&path)?;
        }
        commit(partition, filling.next)
    }

    /// Forgets what a partition's file was filled with: it is read again by whoever has the partition.
    pub(crate) fn discard(&mut self, partition: &Partition) {
        self.filling.remove(partition);
    }

    fn folder(&self, partition: &Partition) -> Path {
        self.root.clone().join(partition.topic.as_ref()).join(partition.number.to_string())
    }

    fn path(&self, partition: &Partition, range: &Range) -> Path {
        let Partition { topic, number } = partition;
        let Range { first, last } = range;
        self.folder(partition).join(format!("{topic}+{number}+{first:020}-{last:020}.parquet"))
    }

    /// A file that was renamed into its place is there after a power cut too.
    fn sync(&self, path: &Path) -> Result<(), Error> {
        let Some(local) = &self.local else { return Ok(()) };
        let file =
            local.join(path.as_ref().strip_prefix(self.root.as_ref()).unwrap_or(path.as_ref()).trim_start_matches('/'));
        let sync = |path: &std::path::Path| std::fs::File::open(path).and_then(|file| file.sync_all());
        sync(&file).and_then(|()| file.parent().map_or(Ok(()), sync)).map_err(|error| self.failed(error))
    }

    /// The offset after the last that the folder holds of a partition.
    ///
    /// # Errors
    /// [`Error::Folder`] where it can't be listed, or two files hold the same offset.
    pub(crate) fn position(&self, partition: &Partition) -> Result<Option<i64>, Error> {
        let files = self.files(partition)?;
        for ((before, one), (after, other)) in files.iter().zip(files.iter().skip(1)) {
            if after.first <= before.last {
                return Err(self.failed(format!(
                    "{} and {} hold the same offsets; something else writes here: move one of them away",
                    one.location, other.location
                )));
            }
        }
        Ok(files.last().map(|(range, _)| range.last + 1))
    }

    /// A partition's files, by their offsets. One that is damaged, as after a power cut, is put aside: its range is read again.
    fn files(&self, partition: &Partition) -> Result<Vec<(Range, ObjectMeta)>, Error> {
        let folder = self.folder(partition);
        let listed: Vec<ObjectMeta> =
            self.runtime.block_on(self.store.list(Some(&folder)).try_collect()).map_err(|error| self.failed(error))?;
        let start = format!("{}+{}+", partition.topic, partition.number);
        let mut files: Vec<(Range, ObjectMeta)> =
            listed.into_iter().filter_map(|meta| Some((range(meta.location.filename()?, &start)?, meta))).collect();
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        while let Some((_, meta)) = files.last()
            && self.local.is_some()
            && self.reader(meta).is_err()
        {
            let aside = Path::from(format!("{}.damaged", meta.location));
            tracing::warn!(file = %meta.location, "a file is damaged; it is put aside as *.damaged, and its messages are read again");
            self.runtime.block_on(self.store.rename(&meta.location, &aside)).map_err(|error| self.failed(error))?;
            files.pop();
        }
        Ok(files)
    }

    fn reader(&self, meta: &ObjectMeta) -> Result<ParquetRecordBatchReaderBuilder<impl ChunkReader + use<>>, Error> {
        let read = async { self.store.get(&meta.location).await?.bytes().await };
        let bytes = self.runtime.block_on(read).map_err(|error| self.failed(error))?;
        ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| self.failed(error))
    }

    /// What is remembered of a partition, read out of its files.
    pub(crate) fn restore(
        &self,
        partition: &Partition,
        retention: Duration,
        window: usize,
        beat: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<PartitionState, Error> {
        let mut state = PartitionState::default();
        let oldest = SystemTime::now().checked_sub(retention).unwrap_or(SystemTime::UNIX_EPOCH);
        for (_, meta) in self.files(partition)? {
            beat()?;
            let written = SystemTime::from(meta.last_modified);
            if written < oldest {
                continue;
            }
            let at = written.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
            let reader = self.reader(&meta)?;
            let names = [
                "report_id",
                "source",
                "report_status",
                "version",
                "version_at",
                "change",
                "row_index",
                "message_digest",
            ];
            let mask = ProjectionMask::columns(reader.parquet_schema(), names);
            for batch in reader.with_projection(mask).build().map_err(|error| self.failed(error))? {
                let batch = batch.map_err(|error| self.failed(error))?;
                replay(&mut state, partition, &batch, at, window)
                    .ok_or_else(|| self.failed(format!("{} has not the columns of this sink", meta.location)))?;
            }
        }
        Ok(state)
    }
}

/// Takes versions in again as their rows tell of them.
fn replay(state: &mut PartitionState, partition: &Partition, rows: &RecordBatch, at: i64, window: usize) -> Option<()> {
    let (reports, sources) = (texts(rows, "report_id"), texts(rows, "source"));
    let (statuses, changes) = (texts(rows, "report_status"), texts(rows, "change"));
    let times = cast(rows.column_by_name("version_at")?, &DataType::Timestamp(TimeUnit::Millisecond, None)).ok()?;
    let times = times.as_primitive_opt::<TimestampMillisecondType>()?;
    let indices = rows.column_by_name("row_index")?.as_primitive_opt::<arrow::datatypes::Int32Type>()?;
    let digests = rows.column_by_name("message_digest")?.as_fixed_size_binary_opt()?;
    let mut last: Option<Digest> = None;
    for row in 0..rows.num_rows() {
        // One row stands for the version.
        if indices.is_valid(row) && indices.value(row) > 0 {
            continue;
        }
        let (report, source) = (reports.get(row)?, sources.get(row)?);
        let status = match statuses.get(row)?.as_str() {
            "preliminary" => Status::Preliminary,
            "corrected" => Status::Corrected,
            "retracted" => Status::Retracted,
            _ => Status::Final,
        };
        let kind = match Change::named(changes.get(row)?)? {
            Change::Report => Kind::Report(status),
            Change::Status => Kind::Finalised,
            Change::Retraction => Kind::Retracted,
        };
        let (offset, nth) = source.rsplit('/').next()?.split_once('#').map_or_else(
            || Some((source.rsplit('/').next()?, 0)),
            |(offset, nth)| Some((offset, nth.parse::<u32>().ok()?.saturating_sub(1))),
        )?;
        let arrival = Arrival {
            kind,
            at: times.is_valid(row).then(|| times.value(row)),
            place: Place(offset.parse().ok()?, nth),
        };
        let report = report_digest(&partition.topic, report);
        let mut known = state.report(&Staged::default(), &report);
        known.observe(arrival, None);
        known.touched = at;
        state.put(report, known);
        let (control_id, message) = digests.value(row).split_at_checked(16)?;
        let (control_id, message) = (Digest::try_from(control_id).ok()?, Digest::try_from(message).ok()?);
        if last != Some(message) {
            state.restore_message(control_id, message, window);
            last = Some(message);
        }
    }
    Some(())
}

/// The offsets in a file's name, where it is one of ours.
fn range(name: &str, start: &str) -> Option<Range> {
    let (first, last) = name.strip_prefix(start)?.strip_suffix(".parquet")?.split_once('-')?;
    Some(Range { first: first.parse().ok()?, last: last.parse().ok()? })
}

/// A store, the folder in it, and where that is on this machine.
type Opened = (Arc<dyn ObjectStore>, Path, Option<PathBuf>);

/// A folder of this machine, or a place in an object store by its URL.
fn place(folder: &str) -> Result<Opened, String> {
    if folder.contains("://") && !folder.starts_with("file://") {
        let url = ListingTableUrl::parse(folder).map_err(|error| error.strip_backtrace())?;
        let (store, root) = parse_url_opts(url.get_url(), std::env::vars()).map_err(|error| {
            format!("{error}; this build writes to folders: for object stores build with the feature `cloud`")
        })?;
        return Ok((store.into(), root, None));
    }
    let local = PathBuf::from(folder.strip_prefix("file://").unwrap_or(folder));
    std::fs::create_dir_all(&local).map_err(|error| format!("it can't be made: {error}"))?;
    let local = local.canonicalize().map_err(|error| error.to_string())?;
    let store =
        datafusion::object_store::local::LocalFileSystem::new_with_prefix(&local).map_err(|error| error.to_string())?;
    Ok((Arc::new(store), Path::default(), Some(local)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_offsets() {
        let ours = "hl7+3+";
        let named = range("hl7+3+00000000000000000040-00000000000000000099.parquet", ours);
        assert_eq!(named, Some(Range { first: 40, last: 99 }));
        for other in ["hl7+31+00-01.parquet", "hl7+3+00-01.parquet.damaged", "hl7+3+00-01.parquet#1", "notes.parquet"] {
            assert_eq!(range(other, ours), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_folder_or_a_url_names_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/rows");
        for (name, local) in [
            (path.display().to_string(), true),
            (format!("file://{}", path.display()), true),
            ("memory:///rows".to_owned(), false),
        ] {
            let (store, root, at) = place(&name).unwrap();
            let file = root.join("a.parquet");
            store.put(&file, "x".into()).await.unwrap();
            assert_eq!(store.get(&file).await.unwrap().bytes().await.unwrap(), "x");
            assert_eq!(at.is_some(), local, "{name}");
        }
        assert!(path.join("a.parquet").is_file());
        assert!(place("ftp://somewhere/rows").unwrap_err().contains("cloud"));
    }
}
