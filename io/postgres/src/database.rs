//! One connection to whichever host is writable.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Row};

use crate::access::{Access, CONNECT_PATIENCE};
use crate::schema::{Setup, prepare};
use crate::trouble::Trouble;

/// So long an edit waits for the database; beyond that it counts as away.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// And so long more for each byte of it: one edit may be an import of 10,000 users, 2 MB and 30,000 rows, which
/// a busy PostgreSQL on the same machine took 1 to 3 s for.
const BYTE_PATIENCE: Duration = Duration::from_micros(2);

/// How much longer than others these may take.
pub(crate) fn more_patience(ops: &[Vec<u8>]) -> Duration {
    let bytes: usize = ops.iter().map(Vec::len).sum();
    BYTE_PATIENCE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// A connection. After [`Trouble::Away`] it is of no use any more: make another one.
#[derive(Debug)]
pub struct Database {
    pub(crate) client: Client,
    pub(crate) setup: Arc<Setup>,
    pub(crate) patience: Duration,
    bell: Arc<Notify>,
    host: String,
}

impl Database {
    /// Connects to the first host that is writable, and makes its tables ready. Needs a runtime of tokio, on
    /// which the connection lives.
    ///
    /// # Errors
    ///
    /// No host answers or is writable; or the database is not ours, or newer than this program.
    pub async fn connect(access: &Access, setup: Setup) -> Result<Self, Trouble> {
        let setup = Arc::new(setup);
        let mut away = Vec::new();
        let mut refused = Vec::new();
        for config in &access.hosts {
            let host = name_of(config);
            match within(CONNECT_PATIENCE * 2, one(access, config, &setup, &host)).await {
                Ok(database) => return Ok(database),
                Err(Trouble::Away(what)) => away.push(format!("{host}: {what}")),
                Err(Trouble::Refused(what)) => refused.push(format!("{host}: {what}")),
            }
        }
        // A password that is wrong, a database that is another's: that does not pass by waiting.
        if refused.is_empty() {
            Err(Trouble::Away(away.join("; ")))
        } else {
            Err(Trouble::Refused(refused.into_iter().chain(away).collect::<Vec<_>>().join("; ")))
        }
    }

    /// For commands, which have time: every step may take so long.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The host that answered.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Rings when somebody has written an op, and when the connection is gone.
    pub(crate) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Whether the connection is known to be gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(crate) async fn query(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Trouble> {
        self.timed(async { Ok(self.client.query(sql, values).await?) }).await
    }

    pub(crate) async fn query_one(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Trouble> {
        self.timed(async { Ok(self.client.query_one(sql, values).await?) }).await
    }

    pub(crate) async fn timed<T>(
        &self,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        within(self.patience, work).await
    }
}

/// `work`, or that it took too long.
pub(crate) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let late = || format!("no answer within {} s", patience.as_secs());
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(Trouble::Away(late())))
}

fn name_of(config: &Config) -> String {
    use tokio_postgres::config::Host;
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match config.get_hosts().first() {
        Some(Host::Tcp(name)) => format!("{name}:{port}"),
        Some(Host::Unix(folder)) => format!("{}:{port}", folder.display()),
        None => String::new(),
    }
}

async fn one(
    access: &Access,
    config: &Config,
    setup: &Arc<Setup>,
    host: &str,
) -> Result<Database, Trouble> {
    let (mut client, mut connection) = config.connect(access.tls.clone()).await?;
    let bell = Arc::new(Notify::new());
    let ringing = Arc::clone(&bell);
    tokio::spawn(async move {
        // Ends when the client is dropped, or the connection.
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if matches!(message, AsyncMessage::Notification(_)) {
                ringing.notify_one();
            }
        }
        ringing.notify_one();
    });
    prepare(&mut client, setup).await?;
    let (setup, host) = (Arc::clone(setup), host.to_owned());
    Ok(Database { client, setup, patience: PATIENCE, bell, host })
}
