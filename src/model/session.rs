//! The package's graph in an ONNX Runtime session: what it must look like, and one batch through it.

use super::runtime::on_device;
use super::{Device, Error, Options, Package, Runtime};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{OutputSelector, RunOptions, Session};
use ort::value::{Outlet, Tensor, TensorElementType, ValueType};
use std::sync::{Mutex, PoisonError};

/// Which of the graph's outputs are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Want {
    /// The logits of every task, one after the other.
    Logits,
    /// The pooled states, (layers + 1) × width.
    Hidden,
}

/// A session that many threads share, one batch at a time.
pub(super) struct Graph {
    session: Mutex<Session>,
    logits: Vec<(String, usize)>,
    hidden: usize,
}

impl Graph {
    pub(super) fn open(package: &Package, options: &Options) -> Result<Graph, Error> {
        let runtime = Runtime::load()?;
        let graph = |reason: String| Error::Graph { folder: package.folder().into(), reason };
        let run = |error: ort::Error| Error::Run(error.to_string());
        let builder = Session::builder(&runtime.environment).map_err(run)?;
        let failed = |error: ort::Error<SessionBuilder>| Error::Run(error.to_string());
        let builder = builder.with_intra_threads(options.threads).map_err(failed)?;
        // Higher levels gain nothing measurable at this size, and fuse 8-bit weights into operators that are slower without VNNI.
        let builder = builder.with_optimization_level(GraphOptimizationLevel::Level1).map_err(failed)?;
        // Measured on two cores: spinning threads take from DataFusion's, and a second session with half the threads gains
        // nothing that would pay for a second copy of the weights.
        let builder = builder.with_intra_op_spinning(false).map_err(failed)?;
        // What fails comes back as an error.
        let builder = builder.with_log_level(ort::logging::LogLevel::Fatal).map_err(failed)?;
        let mut builder = on_device(builder, options.device)?;
        let session =
            builder.commit_from_file(package.folder().join("model.onnx")).map_err(|error| match options.device {
                Device::Cpu => graph(error.to_string()),
                device => Error::Device { device, reason: error.to_string() },
            })?;
        let (manifest, tasks) = (package.manifest(), package.labels().tasks());
        let logits: Vec<_> = tasks.iter().map(|task| (format!("logits_{}", task.name), task.grades.len())).collect();
        for name in ["input_ids", "attention_mask"] {
            check(session.inputs(), "input", name, TensorElementType::Int64, &[-1, -1]).map_err(graph)?;
        }
        if session.inputs().len() != 2 {
            return Err(graph("it has other inputs than input_ids and attention_mask".into()));
        }
        for (name, grades) in &logits {
            check(session.outputs(), "output", name, TensorElementType::Float32, &[-1, *grades as i64])
                .map_err(graph)?;
        }
        let states = [-1, manifest.layers as i64 + 1, manifest.width as i64];
        check(session.outputs(), "output", "hidden_states", TensorElementType::Float32, &states).map_err(graph)?;
        let hidden = (manifest.layers + 1) * manifest.width;
        Ok(Graph { session: Mutex::new(session), logits, hidden })
    }

    /// The outputs of each row, in order, the rows being padded to `length` tokens; or why ONNX Runtime failed.
    pub(super) fn run(&self, rows: &[&[u32]], length: usize, want: Want) -> Result<Vec<Vec<f32>>, String> {
        let failed = |error: ort::Error| error.to_string();
        let (ids, mask) = tensors(rows, length).map_err(failed)?;
        let outputs: Vec<(&str, usize)> = match want {
            Want::Logits => self.logits.iter().map(|(name, width)| (name.as_str(), *width)).collect(),
            Want::Hidden => vec![("hidden_states", self.hidden)],
        };
        let selected = outputs.iter().fold(OutputSelector::no_default(), |selector, (name, _)| selector.with(*name));
        let options = RunOptions::new().map_err(failed)?.with_outputs(selected);
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = session
            .run_with_options(ort::inputs!["input_ids" => ids, "attention_mask" => mask], &options)
            .map_err(failed)?;
        let mut answers: Vec<Vec<f32>> = vec![Vec::new(); rows.len()];
        for (name, width) in outputs {
            let shape = || format!("the output {name} is missing, or of another shape than promised");
            let (_, values) = answer.get(name).ok_or_else(shape)?.try_extract_tensor::<f32>().map_err(failed)?;
            if values.len() != rows.len().max(2) * width {
                return Err(shape());
            }
            for (answer, values) in answers.iter_mut().zip(values.chunks_exact(width)) {
                answer.extend_from_slice(values);
            }
        }
        Ok(answers)
    }
}

/// Padded token numbers and their mask, int64 [batch, tokens]. A single row stands twice: one row alone goes through another kernel
/// of the matrix product, and its answer would differ in the last bits from that among others.
fn tensors(rows: &[&[u32]], length: usize) -> ort::Result<(Tensor<i64>, Tensor<i64>)> {
    let height = rows.len().max(2);
    let (mut ids, mut mask) = (vec![0i64; height * length], vec![0i64; height * length]);
    for (index, row) in rows.iter().cycle().take(height).enumerate() {
        let at = index * length..index * length + row.len();
        mask[at.clone()].fill(1);
        for (place, id) in ids[at].iter_mut().zip(row.iter()) {
            *place = i64::from(*id);
        }
    }
    Ok((Tensor::from_array(([height, length], ids))?, Tensor::from_array(([height, length], mask))?))
}

/// Checks one input or output by name, element type, rank and known sizes (-1: any).
fn check(outlets: &[Outlet], kind: &str, name: &str, element: TensorElementType, sizes: &[i64]) -> Result<(), String> {
    let Some(outlet) = outlets.iter().find(|outlet| outlet.name() == name) else {
        return Err(format!("it has no {kind} {name}"));
    };
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(format!("its {kind} {name} is not a tensor"));
    };
    // A size that the graph leaves open is checked when an answer comes.
    let fits = shape.len() == sizes.len()
        && shape.iter().zip(sizes).all(|(found, size)| *size < 0 || *found < 0 || found == size);
    if *ty != element || !fits {
        return Err(format!("its {kind} {name} is {ty:?} {:?}, and {element:?} {sizes:?} is expected", &shape[..]));
    }
    Ok(())
}
