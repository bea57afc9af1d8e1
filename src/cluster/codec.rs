//! What the engine can't know of our plans: how they are written down for a worker, and how they are shared out.

use super::label::LabelExec;
use super::worker::Serving;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedLeafExec, ScaleUpLeafNodeEvent,
    ScaleUpLeafNodeEventResponse,
};
use datafusion_proto::physical_plan::from_proto::{parse_protobuf_file_scan_config, parse_table_schema_from_proto};
use datafusion_proto::physical_plan::to_proto::serialize_file_scan_config;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::FileScanExecConf;
use prost::Message;
use std::sync::Arc;

/// Labelling, as JSON.
const LABEL: u8 = b'L';
/// A scan of HL7 files, as DataFusion writes the scan of any file.
const HL7: u8 = b'H';

/// Writes and reads the two leaves that are ours.
#[derive(Debug)]
pub(super) struct Codec;

impl PhysicalExtensionCodec for Codec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if let Some(label) = node.downcast_ref::<LabelExec>() {
            bytes.push(LABEL);
            bytes.extend(label.to_json()?);
            return Ok(());
        }
        match file_scan(&node).filter(|scan| scan.file_source().file_type() == "hl7") {
            Some(scan) => {
                bytes.push(HL7);
                serialize_file_scan_config(scan, self, converter)?.encode(bytes).map_err(unreadable)
            }
            None => exec_err!(
                "{} can't be sent to workers; run the query without --workers, or COPY its table to Parquet first",
                node.name()
            ),
        }
    }

    fn try_decode(
        &self,
        bytes: &[u8],
        _inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match bytes.split_first() {
            Some((&LABEL, json)) => Ok(Arc::new(LabelExec::of_json(json)?)),
            Some((&HL7, bytes)) => {
                let Some(serving) = context.session_config().get_extension::<Serving>() else {
                    return exec_err!("HL7 files are read by workers");
                };
                let scan = FileScanExecConf::decode(bytes).map_err(unreadable)?;
                let source = foramen_udfs::hl7_source(parse_table_schema_from_proto(&scan)?, &serving.reader);
                let decoding = PhysicalPlanDecodeContext::new(context, self);
                let scan = parse_protobuf_file_scan_config(&scan, &decoding, converter, source)?;
                Ok(DataSourceExec::from_data_source(scan))
            }
            _ => exec_err!("a part of the plan is of no kind that is known here"),
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> DataFusionError {
    exec_datafusion_err!("the plan can't be written down or read back: {error}")
}

fn file_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}

/// Into how many tasks our leaf is cut, if it is ours: as many as the engine allows.
pub(super) fn desired(event: DesiredTaskCountEvent) -> Option<Result<DesiredTaskCountEventResponse>> {
    let label = event.plan.downcast_ref::<LabelExec>()?;
    Some(Ok(DesiredTaskCountEventResponse::desired(label.shards())))
}

/// The parts of a leaf, one a task, where it is ours or a scan that the engine would cut wrongly.
///
/// The engine cuts every file scan into ranges of bytes, whatever its format says: HL7 files would be read whole by everyone who gets a
/// range. Such files, compressed ones and those in an order are dealt out whole.
pub(super) fn shared_out(event: ScaleUpLeafNodeEvent) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let parts = match event.plan.downcast_ref::<LabelExec>() {
        Some(label) => label.shared_out(event.task_count),
        None => whole_files(file_scan(event.plan)?, event.task_count)?,
    };
    let leaf = DistributedLeafExec::try_new(Arc::clone(event.plan), parts);
    Some(leaf.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
}

/// A scan for each task with a part of the files of each group, in their order; `None` where files may be cut.
fn whole_files(scan: &FileScanConfig, tasks: usize) -> Option<Vec<Arc<dyn ExecutionPlan>>> {
    let can_be_cut = scan.file_source().supports_repartitioning()
        && !scan.file_compression_type.is_compressed()
        && scan.output_ordering.is_empty();
    if can_be_cut {
        return None;
    }
    let scan_of = |task: usize| {
        let mut part = scan.clone();
        for (number, group) in part.file_groups.iter_mut().enumerate() {
            // Where each group is one file, the tasks take turns.
            let files = group.iter().enumerate().filter(|(place, _)| (number + place) % tasks == task);
            *group = FileGroup::new(files.map(|(_, file)| file.clone()).collect());
        }
        DataSourceExec::from_data_source(part) as Arc<dyn ExecutionPlan>
    };
    Some((0..tasks).map(scan_of).collect())
}
