//! What keeps a cluster from doing what is asked.

use crate::{archive, sql};
use datafusion::common::DataFusionError;
use std::path::PathBuf;
use url::Url;

/// Why something could not be done on workers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of a worker is none.
    #[error("{address:?} is no address of a worker: {reason}; write http://HOST:PORT, or https://HOST:PORT with TLS")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of TLS can't be read.
    #[error("{path} can't be read: {source}")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The files of TLS don't fit together, or with the addresses.
    #[error("TLS: {0}")]
    Tls(String),
    /// A worker does not answer when a command begins.
    #[error("the worker {url} does not answer: {reason}; start it, or leave it out of --workers")]
    Unreachable {
        /// The worker.
        url: Box<Url>,
        /// What was tried.
        reason: String,
    },
    /// A worker is of another version.
    #[error("the worker {url} is {theirs} and this is {ours}; run the same version everywhere")]
    Version {
        /// The worker.
        url: Box<Url>,
        /// Its program.
        theirs: String,
        /// This program.
        ours: String,
    },
    /// A worker can't listen, or not there.
    #[error("cannot serve on {address}: {reason}")]
    Serve {
        /// The address.
        address: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A worker was lost, and so is what it did; what came second failed too.
    #[error("lost {lost}, and it could not be done on the workers left: {reason}; nothing was written")]
    Lost {
        /// The workers that are gone.
        lost: String,
        /// Why it could not be done without them.
        reason: String,
    },
    /// A query failed when the beginning of its long answer was written already.
    #[error("the query failed in the middle of its answer, and what was written of it is NOT whole: {0}")]
    Torn(String),
    /// What the workers say they did is not what they were asked, or not what is there.
    #[error("the workers' work does not add up, and was thrown away: {0}")]
    Counts(String),
    /// Something is at the output's place.
    #[error("{0} is there already; name another folder, or take it away")]
    Exists(PathBuf),
    /// What can't be done whole or not at all on a cluster.
    #[error("{what} is not for --workers: {why}")]
    Refused {
        /// The statement.
        what: String,
        /// Why, and what to do instead.
        why: String,
    },
    /// What labelling says.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// What the query says.
    #[error(transparent)]
    Sql(#[from] sql::Error),
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Error::Sql(error.into())
    }
}
