//! `/metrics`, `/healthz` and `/readyz`. Nothing of a request is logged, and only its method and path are looked at.

use super::metrics::{CONTENT_TYPE, Metrics};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE as TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections at a time; others wait in the system's queue.
const CONNECTIONS: usize = 32;
/// What a client may take over its request.
const HEADERS: Duration = Duration::from_secs(5);
/// What a connection may last: one request, and its answer read.
const CONNECTION: Duration = Duration::from_secs(15);
/// Bytes of a request that are held.
const BUFFER: usize = 16 << 10;

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const LINKS: &str = "<!doctype html><title>foramen stream</title><p><a href=\"/metrics\">metrics</a> · \
    <a href=\"/healthz\">healthz</a> · <a href=\"/readyz\">readyz</a></p>\n";

/// How a stream is, as it says itself.
pub(crate) struct Health {
    begun: Instant,
    /// Milliseconds from `begun` to the last beat.
    beat: AtomicU64,
    /// What may lie between two beats.
    within: Duration,
    ready: Mutex<Result<(), &'static str>>,
}

impl Health {
    /// A stream that is alive as long as [`Health::beat`] is called within this time, and not ready yet.
    pub(crate) fn new(within: Duration) -> Self {
        Health { begun: Instant::now(), beat: AtomicU64::new(0), within, ready: Mutex::new(Err("starting")) }
    }

    /// The loop moves.
    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.fetch_max(now, Ordering::Relaxed);
    }

    /// Ready: partitions are assigned, their state is restored, and the model is loaded. Otherwise what it waits for.
    pub(crate) fn set_ready(&self, ready: Result<(), &'static str>) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
    }

    fn live(&self) -> Result<(), String> {
        let still = self.begun.elapsed().saturating_sub(Duration::from_millis(self.beat.load(Ordering::Relaxed)));
        if still <= self.within {
            return Ok(());
        }
        let within = self.within.as_secs_f32();
        Err(format!("the stream's loop has not moved for {:.0} s, and {within} s are allowed", still.as_secs_f32()))
    }

    fn ready(&self) -> Result<(), &'static str> {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers requests until it is dropped, which closes the connections too.
pub(crate) async fn serve(listener: TcpListener, metrics: Arc<Metrics>, health: Arc<Health>) {
    serve_within(listener, metrics, health, HEADERS).await;
}

async fn serve_within(listener: TcpListener, metrics: Arc<Metrics>, health: Arc<Health>, headers: Duration) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&metrics), Arc::clone(&health), headers));
            }
            // Of one connection, or for want of file descriptors: either passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One request and its answer. A client that is slow or gone is not waited for, and is no fault of the stream.
async fn connection(stream: TcpStream, metrics: Arc<Metrics>, health: Arc<Health>, headers: Duration) {
    let service = service_fn(|request: Request<_>| {
        let response = respond(request.method(), request.uri().path(), &metrics, &health);
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(headers).keep_alive(false).max_buf_size(BUFFER);
    let _ended = tokio::time::timeout(CONNECTION, http.serve_connection(TokioIo::new(stream), service)).await;
}

fn respond(method: &Method, path: &str, metrics: &Metrics, health: &Health) -> Response<Full<Bytes>> {
    let because = |said: Result<(), String>| match said {
        Ok(()) => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
    };
    let asks = method == Method::GET || method == Method::HEAD;
    let (status, kind, text) = match path {
        _ if !asks => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned()),
        "/metrics" => {
            metrics.set_ready(health.ready().is_ok());
            (StatusCode::OK, CONTENT_TYPE, metrics.render())
        }
        "/healthz" => because(health.live()),
        "/readyz" => because(health.ready().map_err(str::to_owned)),
        "/" => (StatusCode::OK, HTML, LINKS.to_owned()),
        _ => (StatusCode::NOT_FOUND, PLAIN, "not found; see /\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !asks {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use tokio::task::JoinHandle;

    struct Server {
        address: SocketAddr,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        task: JoinHandle<()>,
    }

    async fn server(within: Duration) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::new(within)));
        let headers = Duration::from_millis(300);
        let task = tokio::spawn(serve_within(listener, Arc::clone(&metrics), Arc::clone(&health), headers));
        Server { address, metrics, health, task }
    }

    /// Sends bytes, and gives the answer's head and body.
    fn send(address: SocketAddr, bytes: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_ascii_lowercase(), body.to_owned())
    }

    fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String) {
        send(address, format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn metrics_are_what_is_rendered() {
        let server = server(Duration::from_secs(60)).await;
        server.metrics.message("hl7");
        let (head, body) = ask(server.address, "GET", "/metrics");
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        assert_eq!(body, server.metrics.render());
        assert!(body.contains("\nforamen_ready 0\n") && body.contains("\nforamen_messages_total{topic=\"hl7\"} 1\n"));
        server.health.set_ready(Ok(()));
        assert!(ask(server.address, "GET", "/metrics?debug=1").1.contains("\nforamen_ready 1\n"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn health_is_whether_the_loop_moves() {
        let server = server(Duration::from_millis(300)).await;
        let (head, body) = ask(server.address, "GET", "/healthz");
        assert!(head.starts_with("http/1.1 200 ") && body == "ok\n", "{head}");
        tokio::time::sleep(Duration::from_millis(400)).await;
        let (head, body) = ask(server.address, "GET", "/healthz");
        assert!(head.starts_with("http/1.1 503 "), "{head}");
        assert_eq!(body, "the stream's loop has not moved for 0 s, and 0.3 s are allowed\n");
        server.health.beat();
        assert!(ask(server.address, "GET", "/healthz").0.starts_with("http/1.1 200 "));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn readiness_says_what_is_waited_for() {
        let server = server(Duration::from_secs(60)).await;
        let (head, body) = ask(server.address, "GET", "/readyz");
        assert!(head.starts_with("http/1.1 503 ") && body == "starting\n", "{head}");
        server.health.set_ready(Ok(()));
        assert!(ask(server.address, "GET", "/readyz").0.starts_with("http/1.1 200 "));
        server.health.set_ready(Err("restoring state"));
        assert_eq!(ask(server.address, "GET", "/readyz").1, "restoring state\n");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_what_there_is_and_only_to_be_read() {
        let server = server(Duration::from_secs(60)).await;
        let (head, body) = ask(server.address, "GET", "/");
        assert!(head.starts_with("http/1.1 200 ") && body.contains("href=\"/metrics\""), "{head}");
        for path in ["/metrics/", "/favicon.ico", "//metrics", "/../metrics", "/%6detrics"] {
            assert!(ask(server.address, "GET", path).0.starts_with("http/1.1 404 "), "{path}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"] {
            let (head, _) = ask(server.address, method, "/metrics");
            assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: get, head"), "{method} {head}");
        }
        let (head, body) = ask(server.address, "HEAD", "/metrics");
        assert!(head.starts_with("http/1.1 200 ") && !head.contains("content-length: 0"), "{head}");
        assert_eq!(body, "");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_no_request_is_refused() {
        let server = server(Duration::from_secs(60)).await;
        assert!(send(server.address, b"MSH|^~\\&|\r\r\n\r\n").0.starts_with("http/1.1 400 "));
        let mut long = b"GET / HTTP/1.1\r\nX: ".to_vec();
        long.resize(4 * BUFFER, b'a');
        let mut stream = TcpStream::connect(server.address).unwrap();
        // The server may have closed while this is written.
        let _sent = stream.write_all(&long);
        let mut answer = Vec::new();
        let _read = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        assert!(ask(server.address, "GET", "/healthz").0.starts_with("http/1.1 200 "));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn those_who_say_nothing_are_cut_off() {
        let server = server(Duration::from_secs(600)).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS + 8 {
            silent.push(TcpStream::connect(server.address).unwrap());
        }
        // Waits until the others are cut off.
        assert!(ask(server.address, "GET", "/healthz").0.starts_with("http/1.1 200 "));
        let mut answer = Vec::new();
        let _read = silent[0].read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_ends_with_its_task() {
        let server = server(Duration::from_secs(60)).await;
        let mut open = TcpStream::connect(server.address).unwrap();
        assert!(ask(server.address, "GET", "/").0.starts_with("http/1.1 200 "));
        server.task.abort();
        assert!(server.task.await.unwrap_err().is_cancelled());
        assert!(matches!(open.read(&mut [0; 8]), Ok(0) | Err(_)));
        assert!(TcpStream::connect(server.address).is_err());
    }
}
