//! `foramen worker`: a process that runs its part of queries, with a model of its own.

use super::codec::Codec;
use super::network::{ASK_AFTER, Channels, GIVE_UP_AFTER};
use super::{Error, PROGRAM, PackageName, Terms, Tls, causes};
use crate::hl7;
use crate::model::Model;
use crate::sql::{Hl7Reader, SqlModel, segments};
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion::execution::SessionState;
use datafusion_distributed::{DistributedExt, Worker, WorkerQueryContext};
use foramen_udfs::engine::{
    Embedding, Explanation, Finding, MessageReader, ModelError, ModelInfo, ReportModel, Segment,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// What a worker serves with, and where.
pub struct Serve {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it shows to coordinators and other workers, and asks of them.
    pub tls: Tls,
    /// Whether it may be reached from other machines by anybody who can.
    pub insecure: bool,
    /// The model, or why there is none: then what needs one is refused.
    pub model: Result<Model, String>,
    /// Shards that are labelled at once.
    pub threads: usize,
}

/// Serves until the future is dropped; `ready` is told the address.
///
/// # Errors
/// Where it can't listen, or may not.
pub async fn serve(serve: Serve, ready: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let address = serve.listen.to_string();
    let cannot = |reason: String| Error::Serve { address: address.clone(), reason };
    let tls = serve.tls.server()?;
    // Whoever reaches a worker has it read and write files.
    if !serve.listen.ip().is_loopback() && !serve.insecure && (tls.is_none() || serve.tls.ca.is_none()) {
        return Err(cannot(
            "other machines could have it read and write files, and see patients' data; give --tls-cert, --tls-key and --tls-ca, or --insecure in a network that is closed"
                .into(),
        ));
    }
    let incoming = TcpIncoming::bind(serve.listen).map_err(|error| cannot(error.to_string()))?.with_nodelay(Some(true));
    let shared = Arc::new(Shared {
        model: serve.model.map(|model| (PackageName::from(model.package()), model)),
        channels: Channels::new(&serve.tls)?,
        turns: Arc::new(Semaphore::new(serve.threads.max(1))),
    });
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let life = format!("{PROGRAM};{}-{}", std::process::id(), started.as_nanos());
    let worker = Worker::from_session_builder(move |query: WorkerQueryContext| {
        let shared = Arc::clone(&shared);
        async move { shared.session(query) }
    });
    let mut server =
        Server::builder().http2_keepalive_interval(Some(ASK_AFTER)).http2_keepalive_timeout(Some(GIVE_UP_AFTER));
    if let Some(tls) = tls {
        server = server.tls_config(tls).map_err(|error| Error::Tls(causes(&error)))?;
    }
    ready(incoming.local_addr().map_err(|error| cannot(error.to_string()))?);
    let service = worker.with_version(life).into_worker_server();
    server.add_service(service).serve_with_incoming(incoming).await.map_err(|error| cannot(causes(&error)))
}

/// What all queries of a worker share.
struct Shared {
    model: Result<(PackageName, Model), String>,
    channels: Channels,
    turns: Arc<Semaphore>,
}

/// What a query finds in its session on a worker: an extension of the configuration.
pub(super) struct Serving {
    /// The model on the query's terms, or why it may not be asked.
    pub(super) model: Result<Model, String>,
    pub(super) hl7: hl7::Options,
    pub(super) reader: Arc<dyn MessageReader>,
    pub(super) turns: Arc<Semaphore>,
}

impl Shared {
    /// The session of a query: functions as in [`crate::sql::context`], on the query's terms.
    fn session(&self, query: WorkerQueryContext) -> Result<SessionState, DataFusionError> {
        let terms = Terms::of_headers(&query.headers)?;
        let hl7: hl7::Options = toml::from_str(&terms.hl7).map_err(|error| exec_datafusion_err!("{error}"))?;
        let model = self.admitted(&terms);
        let asked: Arc<dyn ReportModel> = match &model {
            Ok(model) => Arc::new(SqlModel::open(Arc::new(model.clone()))),
            Err(reason) => Arc::new(Refused(reason.clone())),
        };
        let reader: Arc<dyn MessageReader> = Arc::new(Hl7Reader::new(hl7.clone()));
        let mut state = query
            .builder
            .with_distributed_user_codec(Codec)
            .with_distributed_channel_resolver(self.channels.clone())
            .build();
        foramen_udfs::register_all(&mut state, &asked, &reader)?;
        let serving = Serving { model, hl7, reader, turns: Arc::clone(&self.turns) };
        state.config_mut().set_extension(Arc::new(serving));
        Ok(state)
    }

    /// The model, where it is the one that the query was planned with.
    fn admitted(&self, terms: &Terms) -> Result<Model, String> {
        let (name, model) = self.model.as_ref().map_err(|why| format!("a worker has no model: {why}"))?;
        match &terms.model {
            Some(asked) if asked.digest == name.digest => Ok(model.with_min_score(terms.min_score)),
            Some(asked) => Err(format!(
                "a worker has another model than the query: {} (sha256 {}) and not {} (sha256 {}); give both the same package",
                name.id, name.digest, asked.id, asked.digest
            )),
            None => Err("the query was planned without a model".into()),
        }
    }
}

/// A model that may not be asked.
#[derive(Debug)]
struct Refused(String);

impl Refused {
    fn error<T>(&self) -> Result<T, ModelError> {
        Err(self.0.clone().into())
    }
}

impl ReportModel for Refused {
    fn info(&self) -> Result<&ModelInfo, ModelError> {
        self.error()
    }

    fn segments(&self, text: &str) -> Vec<Segment> {
        segments(text)
    }

    fn findings(&self, _: &[&str]) -> Result<Vec<Vec<Finding>>, ModelError> {
        self.error()
    }

    fn explain(&self, _: &str) -> Result<Vec<Explanation>, ModelError> {
        self.error()
    }

    fn embeddings(&self, _: &[&str], _: usize) -> Result<Vec<Vec<Embedding>>, ModelError> {
        self.error()
    }
}
