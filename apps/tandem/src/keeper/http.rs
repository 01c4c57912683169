//! `/metrics`, `/healthz`, `/readyz`: a thread with a listener of its own, so that no stranger's
//! connection is the business of the loop. It shows what the loop laid down about a second ago.
//!
//! What a stranger can do: hold [`CONNECTIONS_MAX`] connections (the oldest makes room), for
//! [`PATIENCE`] each, with [`REQUEST_MAX`] bytes each. Only the first line of a request is looked at.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, Weak};

use anyhow::Context as _;
use tandem_os::clock;
use tandem_os::poll::{Want, poll};
use tandem_types::{Duration, Instant};

use super::metrics::Snapshot;
use crate::logging::Log;

/// Connections at a time; the oldest makes room for a new one.
const CONNECTIONS_MAX: usize = 16;
/// Bytes of a request, at most; a longer one is refused.
const REQUEST_MAX: usize = 4096;
/// From the beginning of a connection to its end, at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before an address that is not free is tried again.
const BIND_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// What the loop lays down and the thread shows.
pub(super) type Shared = Arc<Mutex<Option<Snapshot>>>;

/// Starts the thread. An address that is not free is told and tried again: nobody's telephone may
/// depend on it.
pub(super) fn start(address: SocketAddr, shown: Shared, log: &Arc<Log>) -> anyhow::Result<()> {
    // The thread ends with the process; what it held would keep the log from being written to its end.
    let log = Arc::downgrade(log);
    let thread = std::thread::Builder::new().name(String::from("metrics"));
    let work = move || {
        let listener = listen(address, &log);
        Server { listener, shown, open: BTreeMap::new(), last: 0 }.run();
    };
    thread.spawn(work).context("cannot start a thread")?;
    Ok(())
}

fn listen(address: SocketAddr, log: &Weak<Log>) -> TcpListener {
    let mut told = false;
    loop {
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match listener {
            Ok(listener) => return listener,
            Err(error) if !told => {
                told = true;
                if let Some(log) = log.upgrade() {
                    log.say(&format!(
                        "metrics = \"{address}\" cannot be used: {error}; tried again"
                    ));
                }
            }
            Err(_) => {}
        }
        std::thread::sleep(BIND_AGAIN);
    }
}

/// One connection: first a request is read, then the answer is written.
struct Connection {
    stream: TcpStream,
    until: Instant,
    request: Vec<u8>,
    answer: Vec<u8>,
}

struct Server {
    listener: TcpListener,
    shown: Shared,
    open: BTreeMap<u64, Connection>,
    last: u64,
}

impl Server {
    fn run(mut self) {
        loop {
            let ids: Vec<u64> = self.open.keys().copied().collect();
            let mut wants = vec![(self.listener.as_fd(), Want::Read)];
            wants.extend(self.open.values().map(|connection| {
                let want = if connection.answer.is_empty() { Want::Read } else { Want::Write };
                (connection.stream.as_fd(), want)
            }));
            let until = self.open.values().map(|connection| connection.until).min();
            // Fails only where the kernel has no memory: then nobody is served this time.
            let ready = poll(&wants, until).unwrap_or_default();
            if ready.has(0) {
                self.accept();
            }
            for (index, id) in ids.into_iter().enumerate() {
                if ready.has(index + 1) {
                    self.go_on(id);
                }
            }
            let now = clock::now();
            self.open.retain(|_, connection| now < connection.until);
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.open.len() >= CONNECTIONS_MAX {
                self.open.pop_first();
            }
            self.last += 1;
            let until = clock::now() + PATIENCE;
            let (request, answer) = (Vec::new(), Vec::new());
            self.open.insert(self.last, Connection { stream, until, request, answer });
        }
    }

    fn go_on(&mut self, id: u64) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        let over = if connection.answer.is_empty() {
            connection.read(&self.shown)
        } else {
            connection.write()
        };
        if over {
            self.open.remove(&id);
        }
    }
}

impl Connection {
    /// True once the connection is over.
    fn read(&mut self, shown: &Shared) -> bool {
        let mut bytes = [0; 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(length) => self.request.extend_from_slice(&bytes[..length]),
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
        if self.request.windows(4).any(|four| four == b"\r\n\r\n") {
            // The loop holds it for a moment only, and never while it waits.
            let snapshot = shown.lock().ok().and_then(|shown| shown.clone());
            self.answer = answer(&self.request, snapshot.as_ref(), clock::now());
        } else if self.request.len() > REQUEST_MAX {
            self.answer = response("431 Request Header Fields Too Large", "too long\n", true);
        } else {
            return false;
        }
        self.write()
    }

    /// True once the connection is over.
    fn write(&mut self) -> bool {
        match self.stream.write(&self.answer) {
            Ok(length) => drop(self.answer.drain(..length)),
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
        if self.answer.is_empty() {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        self.answer.is_empty()
    }
}

/// The answer to a whole request.
fn answer(request: &[u8], shown: Option<&Snapshot>, now: Instant) -> Vec<u8> {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return response("405 Method Not Allowed", "only GET and HEAD\n", true),
    };
    let fresh = shown.filter(|shown| shown.is_fresh(now));
    let path = target.split('?').next().unwrap_or_default();
    match (path, shown) {
        ("/metrics", Some(shown)) => response("200 OK", &shown.page(now), body),
        ("/healthz", _) if fresh.is_some() => response("200 OK", "the keeper turns\n", body),
        ("/readyz", _) if fresh.is_some_and(Snapshot::is_serving) => {
            response("200 OK", "active\n", body)
        }
        ("/readyz", _) if fresh.is_some() => {
            response("503 Service Unavailable", "not active\n", body)
        }
        ("/metrics" | "/healthz" | "/readyz", _) => {
            response("503 Service Unavailable", "the keeper stands still\n", body)
        }
        _ => response("404 Not Found", "there are /metrics, /healthz and /readyz\n", body),
    }
}

fn response(status: &str, text: &str, body: bool) -> Vec<u8> {
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n"
    );
    (head + if body { text } else { "" }).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::metrics::Tally;
    use crate::keeper::metrics::tests::{at, snapshot};

    fn status(request: &str, shown: Option<&Snapshot>, now: Instant) -> String {
        let answer = answer(request.as_bytes(), shown, now);
        String::from_utf8(answer).unwrap().lines().next().unwrap().to_owned()
    }

    #[test]
    fn a_machine_that_does_not_serve_is_healthy_and_not_ready() {
        let shown = snapshot(Tally::default());
        let ask =
            |path: &str, now| status(&format!("GET {path} HTTP/1.1\r\n\r\n"), Some(&shown), now);
        assert_eq!(ask("/healthz", at(1_500)), "HTTP/1.1 200 OK");
        assert_eq!(ask("/readyz", at(1_500)), "HTTP/1.1 503 Service Unavailable");
        assert_eq!(ask("/metrics?x=1", at(1_500)), "HTTP/1.1 200 OK");
        assert_eq!(ask("/etc/passwd", at(1_500)), "HTTP/1.1 404 Not Found");
        assert_eq!(ask("/healthz", at(6_001)), "HTTP/1.1 503 Service Unavailable", "stands still");
        assert_eq!(status("POST / HTTP/1.1\r\n", None, at(0)), "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(status("GET /metrics\r\n", None, at(0)), "HTTP/1.1 503 Service Unavailable");
    }

    /// A server on loopback that shows a snapshot. Its thread ends with the tests.
    fn serve() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut shown = snapshot(Tally::default());
        shown.at = clock::now();
        let shown = Arc::new(Mutex::new(Some(shown)));
        std::thread::spawn(move || {
            Server { listener, shown, open: BTreeMap::new(), last: 0 }.run();
        });
        address
    }

    fn exchange(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn whoever_says_nothing_or_too_much_does_not_keep_others_from_their_answer() {
        let address = serve();
        let idle: Vec<_> =
            (0..CONNECTIONS_MAX * 2).map(|_| TcpStream::connect(address).unwrap()).collect();
        let flood = exchange(address, &[b'x'; REQUEST_MAX + 1]);
        assert!(flood.is_empty() || flood.starts_with("HTTP/1.1 431 "), "{flood}");
        let page = exchange(address, b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("\ntandem_role 0\n"));
        let head = exchange(address, b"HEAD /metrics HTTP/1.0\r\n\r\n");
        assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: "), "{head}");
        drop(idle);
    }
}
