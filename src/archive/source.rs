//! From what the command line names to the files that are read.

use super::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// One file, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file by the name that it was given, which another working folder may see at another path.
    File {
        name: PathBuf,
        path: PathBuf,
    },
    Stdin,
}

impl Source {
    pub(super) fn file(path: PathBuf) -> Source {
        Source::File { name: path.clone(), path }
    }

    /// The column `source`.
    pub(super) fn name(&self) -> String {
        match self {
            Source::File { name, .. } => name.display().to_string(),
            Source::Stdin => "stdin".into(),
        }
    }

    /// The id of a report that is a whole file.
    pub(super) fn stem(&self) -> String {
        match self {
            Source::File { name, .. } => name.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            Source::Stdin => self.name(),
        }
    }

    pub(super) fn extension(&self) -> String {
        match self {
            Source::File { name, .. } => name.extension().unwrap_or_default().to_string_lossy().to_lowercase(),
            Source::Stdin => String::new(),
        }
    }

    /// Bytes, where that is known.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Source::File { path, .. } => path.metadata().ok().map(|about| about.len()),
            Source::Stdin => None,
        }
    }

    pub(super) fn open(&self) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Source::File { path, .. } => Box::new(File::open(path)?),
            Source::Stdin => Box::new(io::stdin()),
        })
    }
}

/// The files that inputs name, each once: files as they are given, folders with all that is in them in the order of names,
/// patterns with what fits them, `-` for standard input. Hidden files in folders are left out, and so is what is written.
///
/// # Errors
/// An input that names nothing, a folder that can't be listed, and no file at all.
pub(crate) fn sources(inputs: &[String], written: &[&Path]) -> Result<Vec<Source>, Error> {
    let written: Vec<PathBuf> = written.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let is_written = |path: &Path| path.canonicalize().is_ok_and(|path| written.contains(&path));
    let mut sources: Vec<Source> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut add = |source: Source| {
        let key = match &source {
            Source::File { path, .. } => path.canonicalize().unwrap_or_else(|_| path.clone()),
            Source::Stdin => PathBuf::from("-"),
        };
        if seen.insert(key) {
            sources.push(source);
        }
    };
    for input in inputs {
        let path = Path::new(input);
        if input == "-" {
            add(Source::Stdin);
        } else if path.is_dir() {
            for file in files(path)?.into_iter().filter(|file| !is_written(file)) {
                add(Source::file(file));
            }
        } else if path.exists() {
            if is_written(path) {
                return Err(Error::OutputIsInput(path.into()));
            }
            add(Source::file(path.into()));
        } else {
            let fitting = glob::glob(input).map(|paths| paths.flatten().collect::<Vec<_>>()).unwrap_or_default();
            if fitting.is_empty() {
                return Err(Error::NoSuchInput { input: input.clone() });
            }
            for found in fitting {
                let found = if found.is_dir() { files(&found)? } else { vec![found] };
                found.into_iter().filter(|file| !is_written(file)).for_each(|file| add(Source::file(file)));
            }
        }
    }
    if sources.is_empty() { Err(Error::NoFiles) } else { Ok(sources) }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let visible =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.');
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name().follow_links(true).into_iter().filter_entry(visible)
    {
        match entry {
            Ok(entry) if entry.file_type().is_file() => files.push(entry.into_path()),
            Ok(_) => {}
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                if path.is_symlink() && !path.exists() {
                    // A link to nothing is a reject when it is opened, and the rest goes on.
                    files.extend((!hidden).then_some(path));
                    continue;
                }
                let source = error.into_io_error().unwrap_or_else(|| io::Error::other("links that lead in a circle"));
                return Err(Error::Folder { path, source });
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_patterns_and_files_name_each_file_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        for name in ["b.txt", "a.hl7", "sub/c.csv", ".hidden", "out.parquet"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let path = |name: &str| folder.path().join(name).display().to_string();
        let out = folder.path().join("out.parquet");
        let named = |inputs: &[String]| -> Vec<String> {
            let sources = sources(inputs, &[&out]).unwrap();
            sources.iter().map(|source| source.name().replace(&path(""), "")).collect()
        };
        assert_eq!(named(&[path("")]), ["a.hl7", "b.txt", "sub/c.csv"]);
        assert_eq!(named(&[path("b.txt"), path(""), path("*.txt")]), ["b.txt", "a.hl7", "sub/c.csv"]);
        assert_eq!(named(&[path("*/*.csv"), "-".into()]), ["sub/c.csv", "stdin"]);
        assert!(matches!(sources(&[path("out.parquet")], &[&out]), Err(Error::OutputIsInput(_))));
        for input in ["no.txt", "*.xml", "[", "sub/none/"] {
            let error = sources(&[path(input)], &[]).unwrap_err();
            assert!(error.to_string().contains(input), "{error}");
        }
        // A link to nothing is an input that can't be opened; the rest is read.
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.path().join("gone"), folder.path().join("sub/d.txt")).unwrap();
            assert_eq!(named(&[path("sub")]), ["sub/c.csv", "sub/d.txt"]);
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(sources(&[empty.path().display().to_string()], &[]), Err(Error::NoFiles)));
    }
}
