//! How to get there: hosts, name, password, encryption, from one line as libpq has it.

use core::fmt;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::tls::Tls;

/// One try to reach one host takes so long at most.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// What the server is told that we are.
const APPLICATION: &str = "tandem";

/// The address of a database, with all that is needed to open it.
#[derive(Clone)]
pub struct Access {
    /// One for each host: they are tried in this order.
    pub(crate) hosts: Vec<Config>,
    pub(crate) tls: Tls,
    shown: String,
}

/// Why a line is no address. It never says what stands in the line but names of keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessError(pub(crate) String);

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AccessError {}

impl Access {
    /// Reads `postgresql://user@host1,host2:5433/name?sslmode=verify-full&sslrootcert=FILE`.
    ///
    /// `sslmode` is `disable`, `require` (encrypted, whoever it is) or `verify-full` (a certificate of an
    /// authority in `sslrootcert`, for this host). Left out: `require`, and `disable` where every host is
    /// this machine. A standby is never taken, whatever `target_session_attrs` says.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn parse(line: &str, password: Option<&str>) -> Result<Self, AccessError> {
        let fault = |what: &str| Err(AccessError(what.to_owned()));
        if !line.starts_with("postgresql://") && !line.starts_with("postgres://") {
            return fault("expected postgresql://USER@HOST/NAME");
        }
        let (plain, wishes) = Wishes::read(line)?;
        // What its parser says may hold a part of the line.
        let Ok(config) = Config::from_str(&plain) else {
            return fault(
                "it cannot be read: expected postgresql://USER@HOST1,HOST2/NAME?KEY=VALUE",
            );
        };
        if config.get_password().is_some() {
            return fault("a password stands in it: put it into a file and name that one instead");
        }
        let (Some(user), Some(name)) = (config.get_user(), config.get_dbname()) else {
            return fault("a user and a database are needed: postgresql://USER@HOST/NAME");
        };
        if config.get_hosts().is_empty() {
            return fault("no host: postgresql://USER@HOST/NAME");
        }
        let is_local = config.get_hosts().iter().all(is_local);
        let tls = wishes.tls(is_local)?;
        let mut hosts = Vec::new();
        let mut named = Vec::new();
        for (at, host) in config.get_hosts().iter().enumerate() {
            let ports = config.get_ports();
            let port = ports.get(at).or_else(|| ports.first().filter(|_| ports.len() == 1));
            let port = port.copied().unwrap_or(5432);
            let mut one = Config::new();
            one.user(user).dbname(name).port(port).application_name(APPLICATION);
            one.target_session_attrs(TargetSessionAttrs::ReadWrite);
            one.connect_timeout(CONNECT_PATIENCE).tcp_user_timeout(CONNECT_PATIENCE * 2);
            one.keepalives_idle(CONNECT_PATIENCE * 3);
            one.ssl_mode(if tls.is_on() { SslMode::Require } else { SslMode::Disable });
            if let Some(password) = password {
                one.password(password);
            }
            match host {
                Host::Tcp(host) => {
                    one.host(host);
                    named.push(format!("{host}:{port}"));
                }
                Host::Unix(folder) => {
                    one.host_path(folder);
                    named.push(format!("{}:{port}", folder.display()));
                }
            }
            hosts.push(one);
        }
        let shown = format!("postgresql://{user}@{}/{name}", named.join(","));
        Ok(Self { hosts, tls, shown })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Without the password.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({})", self.shown)
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let loopback = name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
            loopback || name == "localhost"
        }
    }
}

/// What of the line we read ourselves.
#[derive(Default)]
struct Wishes {
    mode: Option<String>,
    authority: Option<String>,
}

impl Wishes {
    /// The line without it.
    fn read(line: &str) -> Result<(String, Self), AccessError> {
        let mut wishes = Self::default();
        let Some((address, keys)) = line.split_once('?') else {
            return Ok((line.to_owned(), wishes));
        };
        let mut others = Vec::new();
        for pair in keys.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "sslmode" => wishes.mode = Some(decode(value)?),
                "sslrootcert" => wishes.authority = Some(decode(value)?),
                _ => others.push(pair),
            }
        }
        Ok((format!("{address}?{}", others.join("&")), wishes))
    }

    fn tls(&self, is_local: bool) -> Result<Tls, AccessError> {
        let mode = self.mode.as_deref().unwrap_or(match (is_local, &self.authority) {
            (_, Some(_)) => "verify-full",
            (true, None) => "disable",
            (false, None) => "require",
        });
        match (mode, &self.authority) {
            ("disable", _) => Ok(Tls::off()),
            ("require", None) => Tls::unverified(),
            // As libpq has it: who names an authority wants it to be asked.
            ("require" | "verify-ca" | "verify-full", Some(file)) => Tls::verified(Path::new(file)),
            ("verify-ca" | "verify-full", None) => {
                Err(AccessError("sslmode=verify-full needs sslrootcert=FILE".to_owned()))
            }
            _ => Err(AccessError("sslmode: expected disable, require or verify-full".to_owned())),
        }
    }
}

/// `%41` is `A`.
fn decode(text: &str) -> Result<String, AccessError> {
    let fault = || AccessError("a % in it is not followed by two hexadecimal digits".to_owned());
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(fault());
        };
        bytes.push(u8::try_from(high << 4 | low).map_err(|_| fault())?);
    }
    String::from_utf8(bytes).map_err(|_| fault())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        Access::parse(line, Some("geheim")).map_or_else(|error| error.0, |access| access.shown)
    }

    #[test]
    fn hosts_are_tried_in_the_order_of_the_line() {
        assert_eq!(
            shown("postgresql://tandem@db1,db2:5433/calls?target_session_attrs=read-write"),
            "postgresql://tandem@db1:5432,db2:5433/calls",
        );
        assert_eq!(shown("postgresql://t@[::1]:9/c"), "postgresql://t@::1:9/c");
        assert_eq!(shown("postgresql://t@%2Frun%2Fpg:9/c"), "postgresql://t@/run/pg:9/c");
    }

    #[test]
    fn what_is_wrong_is_said_without_what_stands_there() {
        for (line, what) in [
            ("mysql://x", "expected postgresql://"),
            ("postgresql://u:geheim@h/d", "a password stands in it"),
            ("postgresql://h/d", "a user and a database"),
            ("postgresql://u@h", "a user and a database"),
            ("postgresql://u@/d", "no host"),
            ("postgresql://u@h/d?geheim=1", "it cannot be read"),
            ("postgresql://u@h/d?sslmode=geheim", "sslmode: expected"),
            ("postgresql://u@h/d?sslmode=verify-full", "needs sslrootcert"),
            ("postgresql://u@h/d?sslrootcert=%2", "a % in it"),
        ] {
            let said = shown(line);
            assert!(said.contains(what) && !said.contains("geheim"), "{line}: {said}");
        }
    }

    #[test]
    fn what_goes_over_a_network_is_encrypted_unless_it_may_not_be() {
        let on = |line: &str| Access::parse(line, None).unwrap().tls.is_on();
        assert!(on("postgresql://u@192.0.2.1/d") && on("postgresql://u@[::1],db/d"));
        assert!(!on("postgresql://u@127.0.0.1,localhost/d") && !on("postgresql://u@%2Frun/d"));
        assert!(!on("postgresql://u@db/d?sslmode=disable"));
        assert!(on("postgresql://u@localhost/d?sslmode=require"));
    }

    #[test]
    fn a_password_does_not_print() {
        let access = Access::parse("postgresql://u@h/d", Some("geheim")).unwrap();
        assert!(!format!("{access} {access:?}").contains("geheim"));
    }
}
