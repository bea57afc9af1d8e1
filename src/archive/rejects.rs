//! The file of rejects: one JSON object a line, there only where something was rejected.

use super::Error;
use super::item::Rejection;
use super::sink::Pending;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Rejects on their way to a file.
pub(super) struct Rejects {
    path: PathBuf,
    open: Option<(Pending, BufWriter<File>)>,
}

impl Rejects {
    pub(super) fn new(path: &Path) -> Self {
        Rejects { path: path.into(), open: None }
    }

    pub(super) fn write(&mut self, reject: &Rejection) -> Result<(), Error> {
        if self.open.is_none() {
            let (pending, file) = Pending::create(&self.path)?;
            self.open = Some((pending, BufWriter::new(file)));
        }
        let Some((_, file)) = &mut self.open else { return Ok(()) };
        let written =
            serde_json::to_writer(&mut *file, reject).map_err(io::Error::from).and_then(|()| file.write_all(b"\n"));
        written.map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    /// Completes the file; a file of an earlier run is taken away where this one rejected nothing.
    pub(super) fn finish(self) -> Result<(), Error> {
        let failed = |source| Error::Write { path: self.path.clone(), source };
        match self.open {
            Some((pending, mut file)) => {
                file.flush().map_err(failed)?;
                pending.finish()
            }
            None => match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            },
        }
    }
}
