//! Networks and optimiser states on disk, as `safetensors`; written to a temporary name and renamed, so that a stopped run leaves no
//! half file.

use super::math::Matrix;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("checkpoint {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a checkpoint of a network of this form.
    #[error("checkpoint {path} does not fit: {reason}; start again with another --output, or delete it")]
    Form {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

/// Writes matrices under their names, with a few words of metadata.
///
/// # Errors
/// [`Error::File`].
pub fn write(path: &Path, matrices: &[(String, &Matrix)], metadata: HashMap<String, String>) -> Result<(), Error> {
    let fail = |source| Error::File { path: path.into(), source };
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = matrices
        .iter()
        .map(|(name, m)| (name.clone(), vec![m.rows, m.cols], m.data.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes
        .iter()
        .filter_map(|(name, shape, data)| Some((name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).ok()?)));
    let form = |e: safetensors::SafeTensorError| Error::Form { path: path.into(), reason: e.to_string() };
    let content = safetensors::serialize(views, Some(metadata)).map_err(form)?;
    let part = path.with_extension("part");
    std::fs::write(&part, content).map_err(fail)?;
    std::fs::rename(&part, path).map_err(fail)
}

/// Reads matrices into place by their names, and answers the metadata.
///
/// # Errors
/// [`Error::File`], or [`Error::Form`] where a name or a shape differs.
pub fn read(path: &Path, matrices: Vec<(String, &mut Matrix)>) -> Result<HashMap<String, String>, Error> {
    let form = |reason: String| Error::Form { path: path.into(), reason };
    let content = std::fs::read(path).map_err(|source| Error::File { path: path.into(), source })?;
    let (_, header) = SafeTensors::read_metadata(&content).map_err(|e| form(e.to_string()))?;
    let tensors = SafeTensors::deserialize(&content).map_err(|e| form(e.to_string()))?;
    for (name, matrix) in matrices {
        let tensor = tensors.tensor(&name).map_err(|e| form(format!("{name}: {e}")))?;
        if tensor.shape() != [matrix.rows, matrix.cols] || tensor.dtype() != Dtype::F32 {
            return Err(form(format!("{name} is {:?}, not [{}, {}]", tensor.shape(), matrix.rows, matrix.cols)));
        }
        for (value, bytes) in matrix.data.iter_mut().zip(tensor.data().chunks_exact(4)) {
            *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }
    Ok(header.metadata().clone().unwrap_or_default())
}
