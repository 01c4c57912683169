//! The keys of the third vote: a witness, or an etcd cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Key;

/// Where the third vote is, if there is one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ThirdVote {
    /// `host:port` of a witness.
    pub witness: Option<String>,
    /// The endpoints of an etcd cluster.
    pub etcd: Vec<String>,
    /// The name for etcd.
    pub etcd_user: Option<String>,
    /// The file of the password for etcd.
    pub etcd_password: Option<PathBuf>,
    /// The file of who signed etcd's certificates.
    pub etcd_authority: Option<PathBuf>,
    /// The file of our certificate for etcd.
    pub etcd_certificate: Option<PathBuf>,
    /// The file of its key.
    pub etcd_key: Option<PathBuf>,
}

impl ThirdVote {
    /// Whether two of three votes are needed.
    pub fn is_configured(&self) -> bool {
        self.witness.is_some() || !self.etcd.is_empty()
    }

    /// Keys that do not go together, each with what was expected.
    pub(super) fn conflicts(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if self.witness.is_some() && !self.etcd.is_empty() {
            found.push(("etcd", String::from("there is a `witness` too: expected one of the two")));
        }
        let options = [
            ("etcd_user", self.etcd_user.is_some()),
            ("etcd_password_file", self.etcd_password.is_some()),
            ("etcd_authority", self.etcd_authority.is_some()),
            ("etcd_certificate", self.etcd_certificate.is_some()),
            ("etcd_key", self.etcd_key.is_some()),
        ];
        let unused = options.iter().filter(|(_, given)| *given && self.etcd.is_empty());
        found.extend(
            unused.map(|(key, _)| (*key, String::from("there is no `etcd` to use it with"))),
        );
        let together = [
            (
                self.etcd_user.is_some(),
                "etcd_user",
                self.etcd_password.is_some(),
                "etcd_password_file",
            ),
            (
                self.etcd_certificate.is_some(),
                "etcd_certificate",
                self.etcd_key.is_some(),
                "etcd_key",
            ),
        ];
        for (one, key, other, with) in together {
            let lone = match (one, other) {
                (true, false) => (key, with),
                (false, true) => (with, key),
                (true, true) | (false, false) => continue,
            };
            found.push((lone.0, format!("expected `{}` with it", lone.1)));
        }
        let secure = self.etcd.iter().any(|url| url.starts_with("https://"));
        if secure && self.etcd_authority.is_none() {
            let what =
                "https: expected `etcd_authority` too, the file of who signed the certificates";
            found.push(("etcd", what.to_owned()));
        }
        found
    }

    /// Relative paths are relative to this folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        let files = [
            &mut self.etcd_password,
            &mut self.etcd_authority,
            &mut self.etcd_certificate,
            &mut self.etcd_key,
        ];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}

/// An address and a port, or a name and a port.
fn is_host_and_port(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    (1..=253).contains(&host.len())
        && host.bytes().all(plain)
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_endpoint(url: &str) -> bool {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    host.is_some_and(|host| is_host_and_port(host.trim_end_matches('/')))
}

fn file(text: Option<&str>) -> Option<Option<PathBuf>> {
    text.and_then(super::path).map(Some)
}

pub(super) const WITNESS: Key = Key {
    name: "witness",
    expected: "a name or address and a port, as in \"witness.example.org:5072\"",
    default: None,
    optional: true,
    doc: "The third vote: a witness on a third machine (`tandem witness`). With it this machine \
          serves only while it has two of three votes, so that never two serve at once. The same on \
          both machines.",
    set: |config, value| {
        let at = value.text().filter(|text| is_host_and_port(text));
        super::put(&mut config.third.witness, at.map(|at| Some(at.to_owned())))
    },
};

pub(super) const ETCD: Key = Key {
    name: "etcd",
    expected: "1 to 4 endpoints, as in [\"http://192.0.2.8:2379\"]",
    default: None,
    optional: true,
    doc: "The third vote: a lease in an etcd cluster (3.4 or newer), instead of a witness. The \
          endpoints are tried in turn. A takeover from a machine that had the lease waits up to 3 s. \
          The same cluster on both machines.",
    set: |config, value| {
        let read = |text: &str| is_endpoint(text).then(|| text.to_owned());
        super::put(&mut config.third.etcd, value.list(read))
    },
};

pub(super) const ETCD_USER: Key = Key {
    name: "etcd_user",
    expected: "a name",
    default: None,
    optional: true,
    doc: "The name for an etcd that wants one. It must be allowed to read and write /tandem/.",
    set: |config, value| {
        let name = value.text().filter(|name| !name.is_empty());
        super::put(&mut config.third.etcd_user, name.map(|name| Some(name.to_owned())))
    },
};

pub(super) const ETCD_PASSWORD: Key = Key {
    name: "etcd_password_file",
    expected: "a path",
    default: None,
    optional: true,
    doc: "The file of the password for etcd_user: its first line.",
    set: |config, value| super::put(&mut config.third.etcd_password, file(value.text())),
};

pub(super) const ETCD_AUTHORITY: Key = Key {
    name: "etcd_authority",
    expected: "a path",
    default: None,
    optional: true,
    doc: "The file (PEM) of who signed etcd's certificates; needed for https.",
    set: |config, value| super::put(&mut config.third.etcd_authority, file(value.text())),
};

pub(super) const ETCD_CERTIFICATE: Key = Key {
    name: "etcd_certificate",
    expected: "a path",
    default: None,
    optional: true,
    doc: "The file (PEM) of our certificate, for an etcd that wants one.",
    set: |config, value| super::put(&mut config.third.etcd_certificate, file(value.text())),
};

pub(super) const ETCD_KEY: Key = Key {
    name: "etcd_key",
    expected: "a path",
    default: None,
    optional: true,
    doc: "The file (PEM) of the key of etcd_certificate.",
    set: |config, value| super::put(&mut config.third.etcd_key, file(value.text())),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const REST: &str = "seat = \"master\"\nrealm = \"r\"\naddress = [\"127.0.0.1\"]\n\
                        peer = [\"127.0.0.2\"]\nvirtual = [\"127.0.0.3/32\"]\n";

    fn third(text: &str) -> Result<ThirdVote, String> {
        let text = format!("{REST}{text}");
        let read = Config::parse(Path::new("/etc/tandem/tandem.toml"), &text);
        read.map(|config| config.third).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_witness_or_an_etcd_is_read() {
        assert!(!third("").unwrap().is_configured());
        for at in ["w.example.org:5072", "192.0.2.9:5072", "[2001:db8::9]:5072"] {
            let read = third(&format!("witness = {at:?}")).unwrap();
            assert_eq!((read.witness.as_deref(), read.is_configured()), (Some(at), true));
        }
        let read = third(
            "etcd = [\"https://e1:2379\", \"https://192.0.2.8:2379/\"]\netcd_authority = \"ca.pem\"\n",
        );
        let read = read.unwrap();
        assert_eq!((read.etcd.len(), read.is_configured()), (2, true));
        assert_eq!(read.etcd_authority, Some(PathBuf::from("/etc/tandem/ca.pem")));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (text, why) in [
            ("witness = \"w.example.org\"", "witness = \"w.example.org\": expected a name"),
            ("witness = \"w:0\"", "expected a name or address and a port"),
            ("etcd = [\"192.0.2.8:2379\"]", "expected 1 to 4 endpoints"),
            ("etcd = [\"https://e:2379\"]", "expected `etcd_authority` too"),
            ("witness = \"w:1\"\netcd = [\"http://e:1\"]", "expected one of the two"),
            ("etcd_key = \"x\"", "there is no `etcd`"),
            ("etcd = [\"http://e:1\"]\netcd_key = \"x\"", "expected `etcd_certificate` with it"),
            ("etcd = [\"http://e:1\"]\netcd_user = \"x\"", "expected `etcd_password_file` with it"),
        ] {
            let words = third(text).unwrap_err();
            assert!(words.contains(why), "{words}");
        }
    }
}
