//! A real etcd of one member, on loopback, that ends with the test.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tandem_os::child::{Child, Output, Stop};
use tandem_os::clock;
use tandem_os::poll::{Want, poll};
use tandem_types::Duration;

use std::os::fd::AsFd as _;

/// An etcd that is not there after so long will not come.
const START: Duration = Duration::from_secs(30);
/// Ports are free when they are chosen and may be taken a moment later.
const TRIES: usize = 5;

/// A new folder for one test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tandem-etcd-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A running etcd.
pub(crate) struct Etcd {
    pub(crate) url: String,
    folder: PathBuf,
    ports: [u16; 2],
    papers: Vec<String>,
    child: Option<Child>,
}

impl Etcd {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, None)
    }

    /// With TLS where there are papers.
    pub(crate) fn start_with(name: &str, papers: Option<&Papers>) -> Self {
        let scheme = if papers.is_some() { "https" } else { "http" };
        let papers = papers.map(Papers::options).unwrap_or_default();
        for _ in 0..TRIES {
            let ports = [free_port(), free_port()];
            let url = format!("{scheme}://127.0.0.1:{}", ports[0]);
            let papers = papers.clone();
            let mut etcd = Self { url, folder: folder(name), ports, papers, child: None };
            if etcd.run() {
                return etcd;
            }
        }
        panic!("etcd does not start: see {}", folder(name).display());
    }

    pub(crate) fn start_again(&mut self) {
        assert!(self.run(), "the ports were free a moment ago");
    }

    /// Whether it serves.
    fn run(&mut self) -> bool {
        let peer = format!("http://127.0.0.1:{}", self.ports[1]);
        let cluster = format!("default={peer}");
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.folder.join("data"));
        for (option, value) in [
            ("--listen-client-urls", &self.url),
            ("--advertise-client-urls", &self.url),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &cluster),
        ] {
            command.args([option, value]);
        }
        command.args(&self.papers).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = Child::spawn(&mut command, Output::Inherit);
        self.child = Some(child.unwrap_or_else(|why| panic!("{why}: run ./setup")));
        self.wait_until_it_serves()
    }

    fn wait_until_it_serves(&self) -> bool {
        let until = clock::now() + START;
        let child = self.child.as_ref().unwrap();
        while clock::now() < until {
            let text = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            if text.contains("ready to serve client requests") && self.accepts() {
                return true;
            }
            // Readable once it has ended.
            let next = clock::now() + Duration::from_millis(20);
            if poll(&[(child.as_fd(), Want::Read)], Some(next)).unwrap().has(0) {
                return false;
            }
        }
        false
    }

    fn accepts(&self) -> bool {
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.ports[0]))).is_ok()
    }

    fn pid(&self) -> Pid {
        let child = self.child.as_ref().unwrap();
        Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        let child = self.child.take().unwrap();
        child.stop(Stop::Kill).unwrap();
        while poll(&[(child.as_fd(), Want::Read)], None).unwrap().is_empty() {}
    }

    /// It stands still.
    pub(crate) fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(crate) fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// From now on it wants a name and a password.
    pub(crate) fn set_password(&self, user: &str, password: &str) {
        let user = format!("{{\"name\":\"{user}\",\"password\":\"{password}\"}}");
        self.post("/v3/auth/user/add", &user);
        self.post("/v3/auth/role/add", "{\"name\":\"root\"}");
        self.post("/v3/auth/user/grant", "{\"user\":\"root\",\"role\":\"root\"}");
        self.post("/v3/auth/enable", "{}");
    }

    fn post(&self, path: &str, body: &str) {
        let mut stream =
            TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.ports[0]))).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            Ok(_) | Err(_) => assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}"),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.child = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port()
}

/// Certificates of a cluster and of one who may speak with it.
pub(crate) struct Papers {
    folder: PathBuf,
    pub(crate) authority: PathBuf,
    pub(crate) client: PathBuf,
    pub(crate) client_key: PathBuf,
}

impl Papers {
    pub(crate) fn make(folder: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let put = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let of_authority = put("authority.pem", authority.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(authority, key);
        let make = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let names = vec![String::from("127.0.0.1"), name.to_owned()];
            let signed = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
            let certificate = put(&format!("{name}.pem"), signed.pem());
            (certificate, put(&format!("{name}.key"), key.serialize_pem()))
        };
        make("server");
        let (client, client_key) = make("client");
        Self { folder: folder.to_owned(), authority: of_authority, client, client_key }
    }

    fn options(&self) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        vec![
            String::from("--client-cert-auth"),
            format!("--trusted-ca-file={}", file("authority.pem")),
            format!("--cert-file={}", file("server.pem")),
            format!("--key-file={}", file("server.key")),
        ]
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
