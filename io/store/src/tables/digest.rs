//! Whether two servers hold the same: a digest of each table.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use tandem_oplog::TableId;

use super::Tables;

/// Stands for all rows of a table, with everything that is kept of them.
pub type Digest = [u8; 32];

impl Tables {
    /// The digest of every table that has rows. Two servers that have taken the same ops have the same.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn digests(&self) -> rusqlite::Result<BTreeMap<TableId, Digest>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT tab, key, body FROM row_version ORDER BY tab, key")?;
        let mut rows = statement.query([])?;
        let mut digests: BTreeMap<TableId, Sha256> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let digest = digests.entry(row.get(0)?).or_default();
            for part in [row.get_ref(1)?.as_blob()?, row.get_ref(2)?.as_blob()?] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
        Ok(digests.into_iter().map(|(table, digest)| (table, digest.finalize().into())).collect())
    }
}
