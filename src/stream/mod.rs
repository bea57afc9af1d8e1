//! Messages of a hospital's stream to rows: the engine of `foramen stream`.
//!
//! The way of a record: [`Config`] says where from; `group.rs` is the consumer group's member, `session.rs` the loop. `intake.rs` reads
//! records to messages, `work.rs` judges what each says of which report (`versions.rs`) and has `transform.rs` run the query on
//! those that count. `sink/` writes rows, dead letters, state and offsets, all or nothing. What is remembered comes back by
//! `changelog.rs`. `replay.rs` feeds dead letters back.

mod changelog;
mod check;
mod client;
mod config;
mod dead_letter;
mod encode;
mod error;
mod group;
mod http;
mod intake;
mod metrics;
mod record;
mod replay;
mod session;
mod sink;
mod stop;
mod transform;
mod versions;
mod work;

pub use check::{Check, check};
pub use config::Config;
pub use encode::Format;
pub use error::Error;
pub use record::Code;
pub use replay::{Replay, Replayed, replay};
pub use stop::Stop;
pub use transform::messages_schema;

use http::Health;
use metrics::Metrics;
use session::{Package, Session, Shared};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long the loop may take for one turn and still be alive: as long as the group waits for a member (max.poll.interval.ms).
const ALIVE: Duration = Duration::from_secs(300);
/// The longest pause before a stream begins anew.
const LONGEST: Duration = Duration::from_secs(30);
/// Times that another instance may take over before this one gives up.
const FENCED: usize = 3;
/// The time within which they count.
const FENCED_WITHIN: Duration = Duration::from_secs(600);

/// Runs a stream on the calling thread until a stop is asked for. Faults that may pass are waited for, for as long as it takes: the
/// stream begins anew where it had come to.
///
/// # Errors
/// What no waiting mends: see [`Error`].
pub fn run(config: Config, stop: Arc<Stop>, runtime: Handle) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::new());
    let health = Arc::new(Health::new(ALIVE));
    let server = match config.metrics.listen {
        None => None,
        Some(address) => {
            let listener = runtime.block_on(tokio::net::TcpListener::bind(address));
            let listener = listener.map_err(|source| Error::Listen { address, source })?;
            tracing::info!(address = %listener.local_addr().unwrap_or(address), "metrics and health");
            Some(runtime.spawn(http::serve(listener, Arc::clone(&metrics), Arc::clone(&health))))
        }
    };
    let shared = Shared { config, stop, metrics, health, runtime };
    let ended = sessions(&shared);
    if let Some(server) = server {
        server.abort();
    }
    ended
}

fn sessions(shared: &Shared) -> Result<(), Error> {
    let mut package = Package::new(&shared.config);
    let mut model = package.open()?;
    let mut pause = Duration::from_secs(1);
    let mut fenced: Vec<Instant> = Vec::new();
    loop {
        let begun = Session::begin(shared, &model);
        let (ended, committed) = match begun {
            Err(error) => (Err(error), false),
            Ok(mut session) => {
                let ended = session.run(&mut package);
                model = session.model();
                (ended, session.committed())
            }
        };
        let Err(error) = ended else { return Ok(()) };
        if !error.passes() {
            return Err(error);
        }
        if matches!(error, Error::Fenced { .. }) {
            fenced.retain(|at| at.elapsed() < FENCED_WITHIN);
            fenced.push(Instant::now());
            if fenced.len() >= FENCED {
                return Err(error);
            }
        }
        if shared.stop.stopped() {
            tracing::warn!(%error, "stopped; what was in flight is not committed, and is read again");
            return Ok(());
        }
        pause = if committed { Duration::from_secs(1) } else { (pause * 2).min(LONGEST) };
        tracing::warn!(%error, pause = pause.as_secs(), "the stream begins anew");
        shared.health.set_ready(Err("beginning anew after a fault"));
        shared.metrics.session();
        let until = Instant::now() + pause;
        while !shared.stop.stopped() && Instant::now() < until {
            shared.health.beat();
            shared.stop.wait(Duration::from_millis(500));
        }
        if shared.stop.stopped() {
            return Ok(());
        }
    }
}
