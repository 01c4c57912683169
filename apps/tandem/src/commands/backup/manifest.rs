//! The list of what is in a backup. It is written last: a folder without it is no backup.

use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tandem_types::Seat;

use crate::config::Config;

/// Its name in the folder.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Version of the list.
const VERSION: u32 = 1;
/// Bytes of a list, at most: that of two million files. A backup of more is not made.
const BYTES_MAX: usize = 512 * 1024 * 1024;
/// Faults that are told of one backup, at most.
const FAULTS_MAX: usize = 50;

/// What is in a backup.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Manifest {
    /// Version of this list.
    tandem_backup: u32,
    /// Version of the program that made it.
    pub(crate) program: String,
    /// When it was begun, for people.
    pub(crate) made: String,
    /// The same: microseconds since 1970 UTC.
    pub(crate) made_micros: i64,
    /// Whose.
    pub(crate) seat: Seat,
    /// Which pair's; tells nothing of its secret.
    pub(crate) pair: String,
    /// The files, in the order in which they were copied.
    pub(crate) files: Vec<Entry>,
}

/// One file of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Entry {
    /// Relative to the folder.
    pub(crate) name: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// As `sha256sum` prints it.
    pub(crate) sha256: String,
}

impl Manifest {
    /// Of a backup that is begun now.
    pub(super) fn begin(config: &Config, made: crate::logging::Time) -> anyhow::Result<Self> {
        Ok(Self {
            tandem_backup: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            made: made.to_string(),
            made_micros: made.micros(),
            seat: config.seat,
            pair: pair_name(config)?,
            files: Vec::new(),
        })
    }

    /// Nothing.
    pub(crate) const fn none() -> Self {
        Self {
            tandem_backup: VERSION,
            program: String::new(),
            made: String::new(),
            made_micros: 0,
            seat: Seat::Master,
            pair: String::new(),
            files: Vec::new(),
        }
    }

    /// Whether it is of the pair of this machine.
    pub(crate) fn is_of(&self, config: &Config) -> anyhow::Result<bool> {
        Ok(self.pair == pair_name(config)?)
    }

    /// Reads that of a folder.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read: then it is no backup.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(MANIFEST);
        let what = || {
            let folder = folder.display();
            format!("{folder} is no complete backup: its {MANIFEST} cannot be read")
        };
        let file = File::open(&path).with_context(what)?;
        let mut text = String::new();
        file.take(BYTES_MAX as u64).read_to_string(&mut text).with_context(what)?;
        let manifest: Self = serde_json::from_str(&text).with_context(what)?;
        let version = manifest.tandem_backup;
        ensure!(
            version == VERSION,
            "{}: it has version {version}; this program knows {VERSION}",
            path.display()
        );
        for entry in &manifest.files {
            // Whoever wrote the list does not choose where files are put.
            let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
            let inside = Path::new(&entry.name).components().all(plain) && !entry.name.is_empty();
            if !inside || entry.name == MANIFEST {
                bail!("{}: {:?} is no name of a file in a backup", path.display(), entry.name);
            }
        }
        Ok(manifest)
    }

    /// As it is written.
    pub(super) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let text = serde_json::to_vec_pretty(self)?;
        ensure!(
            text.len() <= BYTES_MAX,
            "the list of {} files has more than {BYTES_MAX} bytes",
            self.files.len()
        );
        Ok(text)
    }

    /// Reads every file and compares; sentences for an administrator, none where all is as it was written.
    pub(crate) fn faults(&self, folder: &Path) -> Vec<String> {
        let mut faults = Vec::new();
        for entry in &self.files {
            let path = folder.join(&entry.name);
            let fault = match hash(&path) {
                Err(error) => format!("{}: {error}", path.display()),
                Ok((bytes, _)) if bytes != entry.bytes => {
                    format!("{}: {bytes} bytes instead of {}", path.display(), entry.bytes)
                }
                Ok((_, sha256)) if sha256 != entry.sha256 => {
                    format!("{}: its content is not what was written", path.display())
                }
                Ok(_) => continue,
            };
            if faults.len() == FAULTS_MAX {
                faults.push(String::from("and more"));
                break;
            }
            faults.push(fault);
        }
        faults
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|entry| entry.name == name)
    }

    /// The length of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }
}

/// What a pair is called in its backups: says that two are of the same pair, and nothing else.
fn pair_name(config: &Config) -> anyhow::Result<String> {
    let mut digest = Sha256::new();
    digest.update(b"tandem backup");
    digest.update(config.pair_secret()?.nonce_key());
    Ok(hex(&digest.finalize()[..8]))
}

/// Length and SHA-256 of a file.
pub(crate) fn hash(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut part = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut part)?;
        if length == 0 {
            return Ok((bytes, hex(&digest.finalize())));
        }
        bytes += length as u64;
        digest.update(&part[..length]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
