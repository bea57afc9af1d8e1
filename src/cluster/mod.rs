//! One query on many machines: `foramen worker`, and `--workers` of `foramen sql` and `foramen label`.
//!
//! The engine is `datafusion-distributed`: the coordinator plans, cuts the plan into stages and sends each worker its part; rows come
//! back over gRPC. Here is what foramen adds. [`Terms`] travel with every query, so that a worker with another model refuses
//! it. A query that fails when a worker was lost is run once more on those left ([`Cluster`]). Labelling an archive is a leaf of the plan
//! ([`label()`]), and nothing that is written has its name before all of it is whole.

mod codec;
mod error;
mod label;
mod network;
mod session;
mod worker;

pub use error::Error;
pub use label::{Labelling, label};
pub use network::Tls;
pub use session::context;
pub use worker::{Serve, serve};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion_distributed::WorkerResolver;
use futures::future::{join_all, try_join_all};
use http::{HeaderMap, HeaderValue};
use network::Channels;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, PoisonError, RwLock};
use url::Url;

/// The program that must be the same everywhere: functions and plans are those of a version.
const PROGRAM: &str = concat!("foramen ", env!("CARGO_PKG_VERSION"));

/// The header in which [`Terms`] travel.
const TERMS: &str = "x-foramen-terms";

/// What must be the same in all processes for the rows to be the same. It goes with every query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The model package; `None` where the coordinator has none, and its queries can't need one.
    pub model: Option<PackageName>,
    /// Score below which a grade is NULL.
    pub min_score: f32,
    /// A site's ways with HL7 messages: the text of the file, as TOML.
    pub hl7: String,
}

/// Which package, for people and exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackageName {
    /// [`crate::model::Package::id`].
    pub id: String,
    /// [`crate::model::Package::digest`].
    pub digest: String,
}

impl From<&crate::model::Package> for PackageName {
    fn from(package: &crate::model::Package) -> Self {
        Self { id: package.id().into(), digest: package.digest().into() }
    }
}

impl Terms {
    /// As base64 of JSON, since a header takes neither line ends nor umlauts.
    fn headers(&self) -> Result<HeaderMap, DataFusionError> {
        let json = serde_json::to_vec(self).map_err(|error| exec_datafusion_err!("{error}"))?;
        let value = HeaderValue::try_from(STANDARD.encode(json)).map_err(|error| exec_datafusion_err!("{error}"))?;
        Ok(HeaderMap::from_iter([(http::HeaderName::from_static(TERMS), value)]))
    }

    fn of_headers(headers: &HeaderMap) -> Result<Terms, DataFusionError> {
        let value = headers.get(TERMS).and_then(|value| STANDARD.decode(value).ok());
        value.and_then(|json| serde_json::from_slice(&json).ok()).ok_or_else(|| {
            exec_datafusion_err!("the query does not say on which terms it is; it is not one of {PROGRAM}")
        })
    }
}

/// A worker in one of its lives: a process that was started again is another.
#[derive(Debug, Clone, PartialEq)]
struct Peer {
    url: Url,
    life: String,
}

/// The workers of a command, and the terms on which they work.
#[derive(Clone)]
pub struct Cluster {
    channels: Channels,
    peers: Arc<RwLock<Vec<Peer>>>,
    terms: Terms,
}

impl Cluster {
    /// Asks every worker what it is.
    ///
    /// # Errors
    /// The first that has no address, does not answer or is another version.
    pub async fn join(addresses: &[String], tls: &Tls, terms: Terms) -> Result<Cluster, Error> {
        let channels = Channels::new(tls)?;
        let mut urls = addresses.iter().map(|address| network::address(address)).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        urls.dedup();
        let said = try_join_all(urls.iter().map(|url| channels.ask(url))).await?;
        let mut peers: Vec<Peer> = Vec::new();
        for (url, said) in urls.into_iter().zip(said) {
            match said.split_once(';') {
                Some((PROGRAM, life)) => peers.push(Peer { url, life: life.into() }),
                Some((theirs, _)) => {
                    return Err(Error::Version { url: url.into(), theirs: theirs.into(), ours: PROGRAM.into() });
                }
                None => {
                    return Err(Error::Version { url: url.into(), theirs: "no foramen".into(), ours: PROGRAM.into() });
                }
            }
        }
        Ok(Cluster { channels, peers: Arc::new(RwLock::new(peers)), terms })
    }

    /// Tasks of a stage: one a worker, and two at least, because the engine keeps a stage of one task to the coordinator.
    fn tasks(&self) -> usize {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).len().max(2)
    }

    /// Does something, and does it once more on the workers that are left where it failed and one is gone.
    async fn persist<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if matches!(error, Error::Torn(_)) {
            return Err(error);
        }
        match (self.lost().await, self.urls().len()) {
            (None, _) => Err(error),
            (Some(lost), 0) => Err(Error::Lost { lost, reason: error.to_string() }),
            (Some(lost), left) => {
                tracing::warn!(%error, "lost {lost}: once more on the {left} left");
                attempt().await.map_err(|again| Error::Lost { lost, reason: again.to_string() })
            }
        }
    }

    /// Which workers are gone since they were last asked, for people; those that answer are the workers from now on.
    async fn lost(&self) -> Option<String> {
        let before = self.peers.read().unwrap_or_else(PoisonError::into_inner).clone();
        let answers = join_all(before.iter().map(|peer| self.channels.ask(&peer.url))).await;
        let (mut left, mut lost) = (Vec::new(), Vec::new());
        for (peer, answer) in before.into_iter().zip(answers) {
            let said = answer.unwrap_or_default();
            let life = said.split_once(';').filter(|(program, _)| *program == PROGRAM).map(|(_, life)| life.to_owned());
            if life.as_deref() != Some(&peer.life) {
                lost.push(peer.url.to_string());
            }
            left.extend(life.map(|life| Peer { url: peer.url, life }));
        }
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = left;
        (!lost.is_empty()).then(|| lost.join(", "))
    }

    fn urls(&self) -> Vec<Url> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.iter().map(|peer| peer.url.clone()).collect()
    }
}

impl WorkerResolver for Cluster {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.urls())
    }
}

/// An error with what is behind it: connections hide the reason there.
fn causes(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_go_through_a_header_unchanged() {
        let model = Some(PackageName { id: "spine@1 abc".into(), digest: "abc".into() });
        let terms = Terms { model, min_score: 0.8, hl7: "zone = \"+01:00\"\n# Zürich\n".into() };
        assert_eq!(Terms::of_headers(&terms.headers().unwrap()).unwrap(), terms);
        for bad in ["", "e30=", "%%%"] {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(TERMS), bad.parse().unwrap())]);
            assert!(Terms::of_headers(&headers).unwrap_err().to_string().contains("terms"));
        }
        assert!(Terms::of_headers(&HeaderMap::new()).is_err());
    }
}
