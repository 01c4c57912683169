//! The keys of the database, for a pair that has grown beyond its files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tandem_postgres::Access;

use super::Key;

/// Where the database is, if there is one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DatabaseKeys {
    /// Its address, as libpq has it.
    pub address: Option<String>,
    /// The file of the password.
    pub password: Option<PathBuf>,
}

impl DatabaseKeys {
    /// How to get there; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The password cannot be read, or the address.
    pub fn access(&self) -> anyhow::Result<Option<Access>> {
        match &self.address {
            Some(address) => access(address, self.password.as_deref()).map(Some),
            None => Ok(None),
        }
    }

    /// Keys that do not go together, each with what was expected.
    pub(super) fn conflicts(&self) -> Vec<(&'static str, String)> {
        match (&self.address, &self.password) {
            (None, Some(_)) => {
                let what = "there is no `database` to use it with";
                vec![("database_password_file", what.to_owned())]
            }
            (Some(address), _) => match Access::parse(address, None) {
                Ok(_) => Vec::new(),
                Err(error) => vec![("database", error.to_string())],
            },
            (None, None) => Vec::new(),
        }
    }

    /// Relative paths are relative to this folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(file) = &mut self.password {
            *file = folder.join(&*file);
        }
    }
}

/// How to get to this address, with the first line of this file as password.
pub(crate) fn access(address: &str, password: Option<&Path>) -> anyhow::Result<Access> {
    let password = password.map(read_password).transpose()?;
    Ok(Access::parse(address, password.as_deref())?)
}

/// Only its owner may read it.
fn read_password(path: &Path) -> anyhow::Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let show = path.display();
    let what = || format!("cannot read the password of the database {show}");
    let mode = std::fs::metadata(path).with_context(what)?.permissions().mode();
    anyhow::ensure!(
        mode & 0o077 == 0,
        "the password of the database {show} may be read by others (mode {:03o}): run chmod 600 {show}",
        mode & 0o777
    );
    let text = std::fs::read_to_string(path).with_context(what)?;
    let password = text.lines().next().unwrap_or_default();
    anyhow::ensure!(
        !password.is_empty(),
        "database_password_file = \"{show}\" has no password in its first line"
    );
    Ok(password.to_owned())
}

pub(super) const DATABASE: Key = Key {
    name: "database",
    expected: "an address, as in \"postgresql://tandem@db1,db2/tandem\"",
    default: None,
    optional: true,
    doc: "A PostgreSQL (15 or newer) that keeps configuration and call records of a pair that has grown; of \
          several hosts the one that is writable is taken. `tandem store move` brings there what is here. \
          `?sslmode=verify-full&sslrootcert=FILE` has the server's certificate checked; without it what \
          goes over a network is encrypted only. Left out: everything is in files of the two machines. \
          The same on both machines.",
    set: |config, value| {
        let address = value.text().filter(|text| !text.is_empty());
        super::put(&mut config.database.address, address.map(|text| Some(text.to_owned())))
    },
};

pub(super) const PASSWORD: Key = Key {
    name: "database_password_file",
    expected: "a path",
    default: None,
    optional: true,
    doc: "The file (mode 600) of the password for `database`: its first line.",
    set: |config, value| {
        let path = value.text().and_then(super::path);
        super::put(&mut config.database.password, path.map(Some))
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const REST: &str = "seat = \"master\"\nrealm = \"r\"\naddress = [\"127.0.0.1\"]\n\
                        peer = [\"127.0.0.2\"]\nvirtual = [\"127.0.0.3/32\"]\n";

    fn database(text: &str) -> Result<DatabaseKeys, String> {
        let text = format!("{REST}{text}");
        let read = Config::parse(Path::new("/etc/tandem/tandem.toml"), &text);
        read.map(|config| config.database).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_database_is_read_and_left_out() {
        assert_eq!(database("").unwrap(), DatabaseKeys::default());
        let text = "database = \"postgresql://t@db1,db2/t\"\ndatabase_password_file = \"pw\"\n";
        let read = database(text).unwrap();
        assert_eq!(read.password, Some(PathBuf::from("/etc/tandem/pw")));
        let error = read.access().unwrap_err();
        assert!(error.to_string().contains("cannot read the password"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_named_without_a_password() {
        for (text, why) in [
            ("database = \"postgresql://t:geheim@db/t\"", "a password stands in it"),
            ("database = \"sqlite:x\"", "expected postgresql://USER@HOST/NAME"),
            ("database_password_file = \"x\"", "there is no `database`"),
        ] {
            let words = database(text).unwrap_err();
            assert!(words.contains(why) && !words.contains("geheim"), "{words}");
        }
    }
}
