//! A model package: a folder with the graph, the tokenizer, the labels, and the manifest that vouches for them.

use super::Error;
use super::runtime::{around_executable, around_here};
use crate::labels::LabelSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The manifest's name in a package.
pub const MANIFEST: &str = "package.toml";
/// The graph.
pub const GRAPH: &str = "model.onnx";
/// The same graph with its large products in 8-bit integers, in packages whose weights are in 8 bits; it reads them out of [`GRAPH`].
pub const INT8_GRAPH: &str = "model-int8.onnx";
/// Files that every package holds beside its manifest.
const REQUIRED: [&str; 3] = [GRAPH, "tokenizer.json", "labels.toml"];

/// `package.toml`: what a package is, what its files must be, how it was made and how good it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The package's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The label schema that it answers in, `spine/1`.
    pub schema: String,
    /// The pretrained encoder that it was trained from.
    pub encoder: String,
    /// Number of transformer layers.
    pub layers: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// The model's window in tokens, special tokens included.
    pub max_tokens: usize,
    /// How the weights are stored: `float32` or `int8-weights`.
    pub precision: String,
    /// sha256 of each other file of the package, in hexadecimal.
    pub files: BTreeMap<String, String>,
    /// Temperature of each task: its probabilities are softmax(logits / temperature).
    pub calibration: BTreeMap<String, f32>,
    /// How far the scores can be trusted, measured on reports that set no temperature: errors of the calibration before and after, and what
    /// withholding grades gains.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub reliability: toml::Table,
    /// Data, counts, seeds and command of the training run.
    #[serde(default)]
    pub training: toml::Table,
    /// Scores by data set.
    #[serde(default)]
    pub scores: toml::Table,
}

/// A package whose files are all there and are the ones its manifest names.
#[derive(Debug, Clone)]
pub struct Package {
    folder: PathBuf,
    manifest: Manifest,
    labels: LabelSchema,
    id: String,
    digest: String,
}

impl Package {
    /// Opens the package in a folder and checks each of its files.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Altered`], [`Error::Manifest`] or [`Error::Labels`], naming the file and what to do.
    pub fn open(folder: &Path) -> Result<Package, Error> {
        let bytes = std::fs::read(folder.join(MANIFEST)).map_err(|source| missing(folder, MANIFEST, source))?;
        let invalid = |reason: String| Error::Manifest { folder: folder.into(), reason };
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid("it is not UTF-8".into()))?;
        let manifest: Manifest = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if let Some(name) = REQUIRED.iter().find(|name| !manifest.files.contains_key(**name)) {
            return Err(invalid(format!("it names no sha256 of {name} under [files]")));
        }
        for (file, expected) in &manifest.files {
            if Path::new(file).file_name() != Some(file.as_ref()) {
                return Err(invalid(format!("{file:?} under [files] is not the name of a file in the package")));
            }
            let found = sha256(&folder.join(file)).map_err(|source| missing(folder, file, source))?;
            if !found.eq_ignore_ascii_case(expected) {
                let (folder, file, expected) = (folder.into(), file.clone(), expected.clone());
                return Err(Error::Altered { folder, file, expected, found });
            }
        }
        let labels = LabelSchema::read(&folder.join("labels.toml"))
            .map_err(|source| Error::Labels { folder: folder.into(), source })?;
        manifest.check(&labels).map_err(invalid)?;
        let digest = hex(&Sha256::digest(&bytes));
        let id = format!("{}@{} {}", manifest.name, manifest.version, &digest[..12]);
        Ok(Package { folder: folder.into(), manifest, labels, id, digest })
    }

    /// Where the package is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `package.toml` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The tasks and grades that the model answers in.
    pub fn labels(&self) -> &LabelSchema {
        &self.labels
    }

    /// `name@version` and the first 12 hexadecimal digits of the sha256 of `package.toml`, which holds the sha256 of the rest.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// sha256 of `package.toml` in hexadecimal: packages of the same digest are the same file for file.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Temperatures in the order of the schema's tasks.
    pub(super) fn temperatures(&self) -> Vec<f32> {
        let temperature = |name| self.manifest.calibration.get(name).copied().unwrap_or(1.0);
        self.labels.tasks().iter().map(|task| temperature(task.name.as_str())).collect()
    }
}

impl Manifest {
    /// The contradictions that checksums don't show.
    fn check(&self, labels: &LabelSchema) -> Result<(), String> {
        if self.schema != labels.id() {
            return Err(format!("it is of the label schema {}, and labels.toml holds {}", self.schema, labels.id()));
        }
        if self.max_tokens < 8 || self.layers == 0 || self.width == 0 {
            return Err("max_tokens is less than 8, or layers or width is 0".into());
        }
        if let Some(name) = self.calibration.keys().find(|name| labels.task(name).is_none()) {
            return Err(format!("[calibration] names {name}, which is no task of {}", self.schema));
        }
        for task in labels.tasks() {
            match self.calibration.get(&task.name) {
                Some(value) if value.is_finite() && *value > 0.0 => {}
                Some(value) => return Err(format!("[calibration] gives {} the temperature {value}", task.name)),
                None => return Err(format!("[calibration] has no temperature for {}", task.name)),
            }
        }
        Ok(())
    }
}

fn missing(folder: &Path, file: &str, source: std::io::Error) -> Error {
    Error::Missing { folder: folder.into(), file: file.into(), source }
}

/// The package that is used where none is named: `models/spine` in the current folder, in one above it, in the executable's or
/// in one above that. Where there is none, the first place, for the error to name.
pub fn default_folder() -> PathBuf {
    let place = Path::new("models/spine");
    let folders = around_here().into_iter().chain(around_executable());
    folders
        .map(|folder| folder.join(place))
        .find(|folder| folder.join(MANIFEST).is_file())
        .unwrap_or_else(|| place.into())
}

/// sha256 of a file's content in lower-case hexadecimal.
///
/// # Errors
/// What the system says when the file can't be read.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
