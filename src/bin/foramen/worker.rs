//! `foramen worker`, and how other commands come by workers.

use anyhow::Context;
use foramen::cluster::{self, Cluster, PackageName, Serve, Terms, Tls};
use foramen::model::{Model, Options, Package};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Run parts of other processes' queries, with a model of its own, until it is stopped.
///
/// foramen sql and foramen label send work here with --workers. The model package must be the same as theirs, file for file; what
/// needs no model runs without. A worker reads and writes files for whoever reaches it, so it listens beyond this machine only with
/// TLS on both sides. What is sent may hold reports.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  foramen worker --listen 127.0.0.1:50051 --threads 1
  foramen sql --workers http://127.0.0.1:50051,http://127.0.0.1:50052 -c \"SELECT …\"
  foramen worker --listen 0.0.0.0:50051 --tls-cert worker.pem --tls-key worker.key --tls-ca ca.pem

How it is set up and what happens when a worker dies: docs/cluster.md")]
pub(crate) struct Args {
    /// Address and port; port 0 takes a free one, and says which
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// Batches that its model computes at once [default: the processor's threads]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Listen beyond this machine without TLS on both sides: in a network that nobody else is in
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    tls: TlsFiles,
    #[command(flatten)]
    placed: crate::Placed,
}

/// TLS between processes. With a certificate on both sides, each is checked against --tls-ca.
#[derive(Debug, clap::Args)]
struct TlsFiles {
    /// This process's certificate, PEM
    #[arg(long, value_name = "FILE.pem", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate, PEM
    #[arg(long, value_name = "FILE.pem", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authority that the other side's certificate is checked against, PEM
    #[arg(long, value_name = "FILE.pem")]
    tls_ca: Option<PathBuf>,
}

impl TlsFiles {
    fn tls(&self) -> Tls {
        Tls { cert: self.tls_cert.clone(), key: self.tls_key.clone(), ca: self.tls_ca.clone() }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut options = args.placed.options();
    if let Some(threads) = args.threads {
        options = Options { threads: threads.into(), ..options };
    }
    let threads = options.threads;
    let model = Model::open(&args.placed.folder(), &options).map_err(|error| error.to_string());
    let about = match &model {
        Ok(model) => format!("{} on {}, {threads} at once", model.id(), model.provider()),
        Err(reason) => {
            tracing::warn!("without a model, and what needs one will be refused: {reason}");
            "no model".to_owned()
        }
    };
    let serve = Serve { listen: args.listen, tls: args.tls.tls(), insecure: args.insecure, model, threads };
    // A function of SQL holds the thread it runs on; others are left to answer whoever asks whether the worker lives.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4 * threads + 8)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let ready = |address| {
            // Whoever started it may not listen.
            let _ = writeln!(std::io::stderr(), "listening on {address}: {about}");
        };
        tokio::select! {
            served = cluster::serve(serve, ready) => Ok(served?),
            _ = terminate.recv() => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    // What is at work is lost to its coordinator, which does it elsewhere.
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

/// The workers of a command.
#[derive(Debug, clap::Args)]
pub(crate) struct Workers {
    /// Run on these workers, separated by commas (foramen worker): http://HOST:PORT, or https:// with --tls-ca
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    workers: Vec<String>,
    #[command(flatten)]
    tls: TlsFiles,
}

impl Workers {
    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        !self.workers.is_empty()
    }

    /// The workers, asked whether they are there, on the terms of the command.
    pub(crate) async fn join(&self, reading: &crate::Reading, package: Option<&Package>) -> anyhow::Result<Cluster> {
        let terms =
            Terms { model: package.map(PackageName::from), min_score: reading.min_score, hl7: reading.hl7_text()? };
        Ok(Cluster::join(&self.workers, &self.tls.tls(), terms).await?)
    }
}
