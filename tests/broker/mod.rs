//! A real Apache Kafka for tests: the broker that `KAFKA_BOOTSTRAP` names, or one that is started here, in KRaft mode, from the libraries
//! that `scripts/fetch.py kafka` brought into `native/kafka`.
#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "each test binary uses a part of it, and a test says what it left out"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A broker. One that was started here goes when it is dropped, and when the test process ends in whatever way.
pub(crate) struct Broker {
    bootstrap: String,
    own: Option<Own>,
}

struct Own {
    folder: TempDir,
    libraries: PathBuf,
    port: u16,
    /// The shell that watches over the JVM, and its input: at the end of that it kills the JVM.
    running: Option<(Child, ChildStdin)>,
}

impl Broker {
    /// One that all tests of the process share; none, said loudly, where it can't be had. In CI that is a failure.
    pub(crate) fn shared() -> Option<&'static Broker> {
        static BROKER: OnceLock<Option<Broker>> = OnceLock::new();
        let shared = BROKER.get_or_init(|| match std::env::var("KAFKA_BOOTSTRAP") {
            Ok(bootstrap) => Some(Broker { bootstrap, own: None }),
            Err(_) => Broker::start(),
        });
        shared.as_ref()
    }

    /// One of its own, which can be stopped.
    pub(crate) fn start() -> Option<Broker> {
        let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("native/kafka/libs");
        let java = Command::new("java").arg("-version").stderr(Stdio::null()).status();
        if !libraries.is_dir() || !java.is_ok_and(|status| status.success()) {
            let missing = "LEFT OUT: this test of the stream needs Apache Kafka. `python3 scripts/fetch.py kafka` fetches it (with Maven \
                           and Java 17), or KAFKA_BOOTSTRAP names a broker";
            assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{missing}");
            println!("{missing}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (port, controller) = (free_port(), free_port());
        std::fs::write(folder.path().join("server.properties"), properties(folder.path(), port, controller)).unwrap();
        let mut broker = Broker {
            bootstrap: format!("127.0.0.1:{port}"),
            own: Some(Own { folder, libraries, port, running: None }),
        };
        let own = broker.own.as_ref().unwrap();
        let mut format = own.java();
        format.args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(own.properties());
        let formatted = own.log_of(&mut format).status().unwrap();
        assert!(formatted.success(), "{}", own.log());
        broker.restart();
        Some(broker)
    }

    /// Where clients find it.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Takes it away at once.
    pub(crate) fn stop(&mut self) {
        let own = self.own.as_mut().unwrap();
        if let Some((mut shell, input)) = own.running.take() {
            drop(input);
            shell.wait().unwrap();
        }
    }

    /// Starts it again, with its data and on its port.
    pub(crate) fn restart(&mut self) {
        let own = self.own.as_mut().unwrap();
        // The shell lives as long as this process holds its input open, which ends with the process, however it ends.
        let script = "\"$@\" <&- & jvm=$!; read -r _; kill -9 $jvm; wait $jvm";
        let java = own.java();
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(java.get_program()).args(java.get_args());
        shell.arg("kafka.Kafka").arg(own.properties()).stdin(Stdio::piped());
        let mut child = own.log_of(&mut shell).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        own.running = Some((child, input));
        let started = Instant::now();
        while !answers(own.port) {
            assert!(started.elapsed() < Duration::from_secs(90), "Kafka does not come up:\n{}", own.log());
            pause();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.own.is_some() {
            self.stop();
        }
    }
}

impl Own {
    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN", "-cp"]);
        java.arg(self.libraries.join("*"));
        java
    }

    fn properties(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    fn log_of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

/// Topics are small here, groups quick, and nothing is made by asking for it.
fn properties(folder: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\nlog.cleaner.backoff.ms=500\n\
         auto.create.topics.enable=false\n",
        folder.join("data").display()
    )
}

/// Whether a broker speaks Kafka on a port: asked for the versions that it knows (ApiVersions 0).
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        connection.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xFF, 0xFF])?;
        let mut answer = [0; 10];
        connection.read_exact(&mut answer)?;
        Ok(answer[4..8] == [0, 0, 0, 7] && answer[8..10] == [0, 0])
    };
    ask().unwrap_or(false)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[allow(clippy::disallowed_methods, reason = "another process is waited for, within a bound")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}
