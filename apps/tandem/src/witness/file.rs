//! The witness's file: where it listens, and the key of each pair.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;
use tandem_link::WitnessKey;

/// Where the file is when nobody says otherwise.
pub(crate) const DEFAULT_WITNESS_PATH: &str = "/etc/tandem/witness.toml";

/// The port of the witness.
pub(crate) const WITNESS_PORT: u16 = 5072;

/// Addresses that one witness listens at, at most.
const LISTEN_MAX: usize = 8;

/// Letters in the name of a pair, at most.
const NAME_MAX: usize = 64;

/// The file, read and checked.
#[derive(Debug)]
pub(crate) struct WitnessFile {
    /// Where requests come in.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where `tandem witness status` asks.
    pub(crate) socket: PathBuf,
    /// Name and key of each pair.
    pub(crate) pairs: Vec<(String, [u8; 32])>,
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default = "default_listen")]
    listen: Vec<SocketAddr>,
    #[serde(default = "default_socket")]
    socket: PathBuf,
    #[serde(default)]
    pairs: toml::Table,
}

fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), WITNESS_PORT)]
}

fn default_socket() -> PathBuf {
    PathBuf::from("/run/tandem-witness/witness.sock")
}

impl WitnessFile {
    /// Reads and checks `path`.
    ///
    /// # Errors
    ///
    /// What is wrong in it, or that it may be read by others: it holds keys.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let show = path.display();
        let what = || format!("cannot read {show}: `tandem witness add` makes it");
        let mode = std::fs::metadata(path).with_context(what)?.permissions().mode();
        ensure!(
            mode & 0o077 == 0,
            "{show} holds keys and may be read by others (mode {:03o}): run chmod 600 {show}",
            mode & 0o777
        );
        let text = std::fs::read_to_string(path).with_context(what)?;
        Self::parse(&text).with_context(|| format!("{show} is wrong"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let Text { listen, socket, pairs } = toml::from_str(text)?;
        ensure!(
            (1..=LISTEN_MAX).contains(&listen.len()),
            "listen: {} addresses: expected 1 to {LISTEN_MAX}, as in [\"192.0.2.9:{WITNESS_PORT}\"]",
            listen.len()
        );
        let pairs = pairs.into_iter().map(|(name, code)| {
            check_name(&name)?;
            let code = code.as_str().ok_or_else(|| {
                anyhow!(
                    "pairs.{name}: expected the code that `tandem witness key` prints, in quotes"
                )
            })?;
            let key = WitnessKey::from_code(code).map_err(|bad| anyhow!("pairs.{name}: {bad}"))?;
            Ok((name, *key.reveal()))
        });
        let pairs = pairs.collect::<anyhow::Result<_>>()?;
        Ok(Self { listen, socket, pairs })
    }
}

/// A name stands as a bare key in the file and in every log line.
fn check_name(name: &str) -> anyhow::Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    ensure!(
        (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain),
        "the name {name:?}: expected 1 to {NAME_MAX} letters, digits, dashes and underscores"
    );
    Ok(())
}

/// Adds a pair to the file, which is made where there is none.
///
/// # Errors
///
/// A wrong name or code, a name or key that is there already, a file that cannot be written.
pub(crate) fn add(path: &Path, name: &str, code: &str) -> anyhow::Result<()> {
    check_name(name)?;
    let key = WitnessKey::from_code(code)?;
    let mut text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => fresh(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let before =
        WitnessFile::parse(&text).with_context(|| format!("{} is wrong", path.display()))?;
    for (other, known) in &before.pairs {
        ensure!(other != name, "there is a pair {name} already: choose another name");
        ensure!(known != key.reveal(), "this key is there already, as {other}");
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name} = \"{}\"", key.to_code());
    let after = WitnessFile::parse(&text).map(|file| file.pairs.len());
    if after.ok() != Some(before.pairs.len() + 1) {
        bail!("{}: expected [pairs] as the last table: add the pair there by hand", path.display());
    }
    replace(path, &text).with_context(|| format!("cannot write {}", path.display()))
}

fn fresh() -> String {
    format!(
        "# The witness of Tandem pairs: see `tandem witness --help`. Holds keys: mode 600.\n\
         # On a machine with several addresses name the one that the pairs know.\n\
         listen = [\"[::]:{WITNESS_PORT}\"]\n\n\
         # NAME = \"what `tandem witness key` prints on a machine of that pair\"\n\
         [pairs]\n"
    )
}

/// The old file or the new one is there, never half of either. Its owner stays the same.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
    if let Ok(old) = std::fs::metadata(path) {
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_link::PairSecret;

    fn code(byte: u8) -> String {
        PairSecret::from_bytes([byte; 32]).witness_key().to_code()
    }

    fn place(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("tandem-witness-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn pairs_are_added_to_a_file_that_only_its_owner_reads() {
        let path = place("add");
        add(&path, "berlin", &code(1)).unwrap();
        add(&path, "bonn", &code(2).to_lowercase()).unwrap();
        let file = WitnessFile::load(&path).unwrap();
        let names: Vec<_> = file.pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["berlin", "bonn"]);
        assert_eq!(&file.pairs[0].1, PairSecret::from_bytes([1; 32]).witness_key().reveal());
        assert_eq!(file.listen, default_listen());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for (name, code, why) in [
            ("berlin", code(3), "choose another name"),
            ("third", code(2), "already, as bonn"),
            ("no good", code(3), "expected 1 to 64 letters"),
            ("third", PairSecret::from_bytes([3; 32]).to_code(), "witness key is wrong"),
        ] {
            let words = add(&path, name, &code).unwrap_err().to_string();
            assert!(words.contains(why), "{words}");
        }
        assert_eq!(WitnessFile::load(&path).unwrap().pairs.len(), 2);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let words = WitnessFile::load(&path).unwrap_err().to_string();
        assert!(words.contains("mode 640") && words.contains("chmod 600"), "{words}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("listen = []", "expected 1 to 8"),
            ("listen = [\"here\"]", "listen"),
            ("lisen = []", "unknown field `lisen`"),
            ("[pairs]\na = 1", "pairs.a: expected the code"),
            ("[pairs]\na = \"0\"", "pairs.a: a witness key has 56"),
        ] {
            let words = format!("{:#}", WitnessFile::parse(text).unwrap_err());
            assert!(words.contains(why), "{words}");
        }
    }

    #[test]
    fn a_file_with_another_table_at_its_end_is_left_alone() {
        let path = place("order");
        let text = "socket = \"/x\"\npairs = {}\n";
        std::fs::write(&path, text).unwrap();
        let words = add(&path, "bonn", &code(2)).unwrap_err().to_string();
        assert!(words.contains("by hand"), "{words}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        std::fs::remove_file(&path).unwrap();
    }
}
