//! What goes wrong, by who must act.

use core::fmt;
use std::error::Error as _;

use tokio_postgres::error::SqlState;

/// Why something was not done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// It does not answer, or not in time: it is asked again. Whether the last that it was told is done
    /// is not known.
    Away(String),
    /// It answers, and will not do until somebody changes something.
    Refused(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(what) | Self::Refused(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Trouble {}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let what = chain(&error);
            return if is_lasting(&error, &what) { Self::Refused(what) } else { Self::Away(what) };
        };
        let what = said.message().to_owned();
        // Classes 08, 40, 53, 55, 57 (https://www.postgresql.org/docs/18/errcodes-appendix.html): the
        // connection, a deadlock, no room, locked, shutting down. They pass.
        let class = said.code().code().get(..2).unwrap_or_default();
        let passes = matches!(class, "08" | "40" | "53" | "55" | "57")
            || *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION;
        if passes { Self::Away(what) } else { Self::Refused(what) }
    }
}

/// What `tokio_postgres` says of what does not pass by waiting; it has no names for it.
const LASTING: &[&str] =
    &["server does not support TLS", "password missing", "authentication error"];

/// Whether somebody has to change something: the other end is not who it should be, speaks in clear only, or
/// wants another proof.
fn is_lasting(error: &tokio_postgres::Error, what: &str) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        cause = error.source();
    }
    LASTING.iter().any(|lasting| what.contains(lasting))
}

/// An error with its causes.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text.replace("database does not allow writes", "it takes no writes: a standby")
}
