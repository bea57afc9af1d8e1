//! Between processes: TLS, channels that notice when the other side is gone, and what a worker says of itself.

use super::Error;
use async_trait::async_trait;
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{ChannelResolver, GetWorkerInfoRequest, WorkerChannel};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};
use url::Url;

/// A connection that is quiet for so long is asked whether it lives …
pub(super) const ASK_AFTER: Duration = Duration::from_secs(20);
/// … and is given up when no answer came for so long: a process under load answers late, a lost machine never.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// How long a worker has to say what it is.
const ANSWER: Duration = Duration::from_secs(5);

/// Files in PEM for talk between coordinator and workers.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// This side's certificate, shown to the other.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The authority that the other side's certificate is checked against.
    pub ca: Option<PathBuf>,
}

impl Tls {
    fn identity(&self) -> Result<Option<Identity>, Error> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Ok(Some(Identity::from_pem(read(cert)?, read(key)?))),
            (None, None) => Ok(None),
            _ => Err(Error::Tls("--tls-cert and --tls-key go together".into())),
        }
    }

    fn authority(&self) -> Result<Option<Certificate>, Error> {
        self.ca.as_deref().map(|ca| Ok(Certificate::from_pem(read(ca)?))).transpose()
    }

    /// What a worker shows and asks for; `None` where it has no certificate. With an authority, only who has a certificate of it gets in.
    pub(super) fn server(&self) -> Result<Option<ServerTlsConfig>, Error> {
        let Some(identity) = self.identity()? else { return Ok(None) };
        let tls = ServerTlsConfig::new().identity(identity);
        Ok(Some(match self.authority()? {
            Some(ca) => tls.client_ca_root(ca),
            None => tls,
        }))
    }

    fn client(&self) -> Result<Option<ClientTlsConfig>, Error> {
        let Some(ca) = self.authority()? else { return Ok(None) };
        let tls = ClientTlsConfig::new().ca_certificate(ca);
        Ok(Some(match self.identity()? {
            Some(identity) => tls.identity(identity),
            None => tls,
        }))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::TlsFile { path: path.into(), source })
}

/// The address of a worker.
///
/// # Errors
/// [`Error::Address`].
pub(super) fn address(text: &str) -> Result<Url, Error> {
    let bad = |reason: &str| Error::Address { address: text.into(), reason: reason.into() };
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.host().is_some() && url.path() == "/" => Ok(url),
        "http" | "https" => Err(bad("there is no host, or more than host and port")),
        _ => Err(bad("it begins with neither http:// nor https://")),
    }
}

/// One channel a worker, shared by all that is asked of it.
#[derive(Clone)]
pub(super) struct Channels {
    tls: Option<ClientTlsConfig>,
    open: Arc<Mutex<HashMap<Url, Channel>>>,
}

impl Channels {
    pub(super) fn new(tls: &Tls) -> Result<Self, Error> {
        Ok(Self { tls: tls.client()?, open: Arc::default() })
    }

    /// The channel to a worker, which connects when something is asked.
    fn channel(&self, url: &Url) -> Result<Channel, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = open.get(url) {
            return Ok(channel.clone());
        }
        let bad = |error: tonic::transport::Error| Error::Tls(super::causes(&error));
        let mut endpoint = Endpoint::from_shared(url.to_string())
            .map_err(bad)?
            .connect_timeout(ANSWER)
            .http2_keep_alive_interval(ASK_AFTER)
            .keep_alive_timeout(GIVE_UP_AFTER)
            .keep_alive_while_idle(true);
        if url.scheme() == "https" {
            let Some(tls) = &self.tls else {
                return Err(Error::Tls(format!(
                    "{url} wants --tls-ca, the authority that its certificate is checked against"
                )));
            };
            endpoint = endpoint.tls_config(tls.clone()).map_err(bad)?;
        }
        let channel = endpoint.connect_lazy();
        open.insert(url.clone(), channel.clone());
        Ok(channel)
    }

    /// What a worker says of itself: its program, and which of its lives this is.
    pub(super) async fn ask(&self, url: &Url) -> Result<String, Error> {
        let mut client = create_worker_client(BoxCloneSyncChannel::new(self.channel(url)?));
        let unreachable = |reason: String| Error::Unreachable { url: url.clone().into(), reason };
        match tokio::time::timeout(ANSWER, client.get_worker_info(GetWorkerInfoRequest {})).await {
            Err(_) => Err(unreachable(format!("no answer within {} s", ANSWER.as_secs()))),
            Ok(Err(error)) => Err(unreachable(super::causes(&error))),
            Ok(Ok(info)) => Ok(info.version),
        }
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        let channel = self.channel(url).map_err(|error| exec_datafusion_err!("{error}"))?;
        Ok(create_worker_client(BoxCloneSyncChannel::new(channel)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for good in ["http://127.0.0.1:50051", "https://worker-7.example:443/"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["127.0.0.1:50051", "worker:50051", "ftp://worker:1", "http://worker:1/path", "http://", ""] {
            let error = address(bad).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn files_of_tls_go_together() {
        let tls = Tls { cert: Some("no/such.pem".into()), ..Tls::default() };
        assert!(tls.server().unwrap_err().to_string().contains("go together"));
        let tls = Tls { ca: Some("no/such.pem".into()), ..Tls::default() };
        assert!(Channels::new(&tls).err().unwrap().to_string().contains("no/such.pem"));
        assert!(Tls::default().server().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_worker_that_is_not_there_is_told_and_https_wants_an_authority() {
        let channels = Channels::new(&Tls::default()).unwrap();
        let error = channels.ask(&address("http://127.0.0.1:1").unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("http://127.0.0.1:1") && error.contains("start it"), "{error}");
        let error = channels.ask(&address("https://127.0.0.1:1").unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("--tls-ca"), "{error}");
    }
}
