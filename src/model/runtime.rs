//! Finding and loading ONNX Runtime, once in a process, and the devices it can run on.

use super::Error;
use ort::environment::Environment;
use ort::session::builder::SessionBuilder;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// Where a model runs. What was asked for is what runs: there is no silent fall-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA card of that number.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(card) => write!(f, "cuda:{card}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let card = match text.split_once(':') {
            None if text == "cpu" => return Ok(Device::Cpu),
            None if text == "cuda" => Some(0),
            Some(("cuda", card)) => card.parse().ok(),
            _ => None,
        };
        card.map(Device::Cuda).ok_or_else(|| Error::UnknownDevice(text.into()))
    }
}

/// What a graph's large products are computed in, on the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arithmetic {
    /// 8-bit integers where the processor has instructions for them (x86 with VNNI) and the package a graph for them, else float32.
    #[default]
    Auto,
    /// As the model was trained: the same answers, to the last bits of a sum, on every machine.
    Float32,
    /// Weights and each token's values in 8 bits, sums in 32: some logits differ by hundredths.
    Int8,
}

const ARITHMETICS: [(&str, Arithmetic); 3] =
    [("auto", Arithmetic::Auto), ("float32", Arithmetic::Float32), ("int8", Arithmetic::Int8)];

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ARITHMETICS.iter().find(|(_, arithmetic)| arithmetic == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl FromStr for Arithmetic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = ARITHMETICS.iter().find(|(name, _)| *name == text);
        found.map(|(_, arithmetic)| *arithmetic).ok_or_else(|| Error::Arithmetic(format!("{text:?} is unknown")))
    }
}

/// Whether the processor multiplies 8-bit integers into 32-bit sums. Without, ONNX Runtime sums them in 16 bits, which overflow.
pub(super) fn sums_bytes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The library that was loaded.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The library's file, or its bare name where the system's loader found it.
    pub path: PathBuf,
    /// Its version, where the name of the file tells it.
    pub version: Option<String>,
    /// What the library says of its build.
    pub build: String,
    /// What sessions are made in; there is one in a process.
    pub environment: Environment,
}

/// ONNX Runtime can be loaded once in a process: this is the one.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads ONNX Runtime, or gives what was loaded before.
    ///
    /// It is looked for in `ORT_DYLIB_PATH` (alone, where it is set); then as `native/libonnxruntime.so*` in the folder of the
    /// executable and those above it, and in the current folder and those above it; then by the system's loader.
    ///
    /// # Errors
    /// [`Error::Runtime`] says where it was looked for, and how to fetch it.
    pub fn load() -> Result<Runtime, Error> {
        Runtime::first_of(candidates())
    }

    /// Loads ONNX Runtime from this file, or gives what was loaded before: for programs that bring a library with them.
    ///
    /// # Errors
    /// [`Error::Runtime`] says why it could not be loaded.
    pub fn load_from(path: &Path) -> Result<Runtime, Error> {
        Runtime::first_of(vec![path.into()])
    }

    fn first_of(paths: Vec<PathBuf>) -> Result<Runtime, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let mut tried = Vec::new();
        for path in paths {
            match open(&path) {
                Ok(runtime) => return Ok(loaded.insert(runtime).clone()),
                Err(reason) => tried.push(format!("\n  {}: {reason}", path.display())),
            }
        }
        Err(Error::Runtime { reason: format!("it was looked for in{}", tried.concat()) })
    }
}

fn open(path: &Path) -> Result<Runtime, String> {
    let builder = ort::init_from(path).map_err(|error| error.to_string())?;
    let environment = builder.with_name("foramen").with_telemetry(false).build().map_err(|error| error.to_string())?;
    let file = path.canonicalize().unwrap_or_else(|_| path.into());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let version = name.split_once(".so.").map(|(_, version)| version.to_owned());
    Ok(Runtime { path: path.into(), version, build: ort::info().into(), environment })
}

fn candidates() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    let folders = around_executable().into_iter().chain(around_here());
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in folders.flat_map(|folder| libraries(&folder.join("native"))) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths.push(format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX).into());
    paths
}

/// The folder of the executable and those above it.
pub(super) fn around_executable() -> Vec<PathBuf> {
    let executable = std::env::current_exe().ok();
    executable.iter().flat_map(|path| path.ancestors().skip(1)).map(Path::to_path_buf).collect()
}

/// The current folder and those above it.
pub(super) fn around_here() -> Vec<PathBuf> {
    let current = std::env::current_dir().ok();
    current.iter().flat_map(|path| path.ancestors()).map(Path::to_path_buf).collect()
}

/// The files of a folder that are named as the library is, the newest version first.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("libonnxruntime.") && (name.contains(".so") || name.ends_with(".dylib"))
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(named).collect();
    paths.sort();
    paths.reverse();
    paths
}

/// Asks a session to run on a device, and to fail where it can't.
pub(super) fn on_device(builder: SessionBuilder, device: Device) -> Result<SessionBuilder, Error> {
    match device {
        Device::Cpu => Ok(builder),
        Device::Cuda(card) => on_card(builder, card),
    }
}

#[cfg(feature = "cuda")]
fn on_card(builder: SessionBuilder, card: u32) -> Result<SessionBuilder, Error> {
    let device = Device::Cuda(card);
    let refused = |reason: String| Error::Device { device, reason };
    let id = i32::try_from(card).map_err(|_| refused("there is no such card".into()))?;
    // TF32 rounds every product to 10 bits: grades near a boundary would differ from those of the CPU.
    let provider = ort::ep::CUDA::default().with_device_id(id).with_tf32(false).build().error_on_failure();
    builder.with_execution_providers([provider]).map_err(|error| {
        refused(format!(
            "{error}\nONNX Runtime's GPU build (the package onnxruntime-gpu, named by ORT_DYLIB_PATH) and CUDA's libraries (on \
             LD_LIBRARY_PATH) are needed; --device cpu runs without them"
        ))
    })
}

#[cfg(not(feature = "cuda"))]
fn on_card(_: SessionBuilder, card: u32) -> Result<SessionBuilder, Error> {
    let reason =
        "this foramen was built without CUDA; build it with `cargo build --features cuda`, or use --device cpu";
    Err(Error::Device { device: Device::Cuda(card), reason: reason.into() })
}
