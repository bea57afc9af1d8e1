//! What keeps a stream from running. What one message does wrong is a dead letter, not an error. No variant holds content of a message.

use rdkafka::error::KafkaError;
use std::path::PathBuf;

/// Why a stream could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't be used.
    #[error("the configuration {path} can't be used: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// The transform can't be planned, or its rows can't be delivered.
    #[error("[transform] sql can't be used: {0}")]
    Transform(String),
    /// The transform fails on every message, a sound one included.
    #[error(
        "the transform fails on every message ({0}); nothing was skipped: mend the query or the model, and start the stream again"
    )]
    TransformFails(String),
    /// The model can't be opened.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// A client of Kafka can't be made.
    #[error("[kafka] can't be used: {0}")]
    Client(KafkaError),
    /// Brokers don't answer, or refuse.
    #[error("Kafka, while {doing}: {source}")]
    Kafka {
        /// What was to be done.
        doing: &'static str,
        /// What the client said.
        source: KafkaError,
    },
    /// A topic is missing, or is not as it has to be.
    #[error("topic {topic}: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A dead letter can't be written.
    #[error(
        "the dead-letter topic {topic} can't be written ({reason}); the stream stops, since nothing is skipped: see that the topic exists, \
         may be written by this user, and takes messages as large as those that are read (max.message.bytes)"
    )]
    DeadLetter {
        /// The topic.
        topic: String,
        /// What the broker said.
        reason: String,
    },
    /// Another instance goes by the same name.
    #[error(
        "another instance of the group {group} goes by the name {instance} and took over; give each instance a name of its own in [kafka] instance"
    )]
    Fenced {
        /// The consumer group.
        group: String,
        /// The instance's name.
        instance: String,
    },
    /// The folder of Parquet files can't be used.
    #[error("the folder {folder} can't be used: {reason}")]
    Folder {
        /// The folder or URL.
        folder: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The address of metrics can't be listened on.
    #[error("[metrics] listen = \"{address}\" can't be used: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something went wrong that starting anew may mend.
    #[error("{0}")]
    Interrupted(String),
}

impl Error {
    /// Whether the stream begins anew after a pause, rather than stopping.
    pub(super) fn passes(&self) -> bool {
        match self {
            Error::Interrupted(_) | Error::Fenced { .. } => true,
            Error::Kafka { source, .. } => passes(source),
            _ => false,
        }
    }
}

/// Faults that no waiting mends.
pub(super) fn passes(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::*;
    !matches!(
        error.rdkafka_error_code(),
        Some(
            TopicAuthorizationFailed
                | GroupAuthorizationFailed
                | ClusterAuthorizationFailed
                | TransactionalIdAuthorizationFailed
                | SaslAuthenticationFailed
                | UnsupportedSASLMechanism
                | Authentication
                | InvalidTopic
                | UnsupportedFeature
        )
    )
}
