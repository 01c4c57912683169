//! The tables. Numbers of tables and columns, and the text of a migration, never change once released.

use tandem_oplog::{Column, Schema, Table};

/// Somebody who can log in: key is a UUID (version 7).
pub(crate) const USERS: Table = Table {
    id: 1,
    name: "users",
    key: &["id"],
    columns: &[
        Column::new(1, "display"),
        Column::new(2, "enabled"),
        Column::secret(3, "md_five"),
        Column::secret(4, "sha_two"),
    ],
};

/// A name to log in with: of two that claim it, the later claim has it.
pub(crate) const LOGINS: Table =
    Table { id: 2, name: "logins", key: &["name"], columns: &[Column::new(1, "user_id")] };

/// An internal number: as [`LOGINS`]. The lowest place is the number that others see.
pub(crate) const NUMBERS: Table = Table {
    id: 3,
    name: "numbers",
    key: &["number"],
    columns: &[Column::new(1, "user_id"), Column::new(2, "place")],
};

/// What there is one of.
pub(crate) const SETTINGS: Table =
    Table { id: 4, name: "settings", key: &["name"], columns: &[Column::new(1, "value")] };

/// What nobody may begin for a while. Times are microseconds since 1970.
pub(crate) const BLOCKS: Table = Table {
    id: 5,
    name: "blocks",
    key: &["what"],
    columns: &[Column::new(1, "since"), Column::new(2, "reason"), Column::new(3, "until")],
};

/// What is counted: a row for each server that counts, which nobody else writes. Their sum is the view
/// `counter`.
pub(crate) const COUNTERS: Table =
    Table { id: 7, name: "counters", key: &["name", "node"], columns: &[Column::new(1, "count")] };

/// A version of a file: key is a UUID (version 7), written once and never changed but to be deleted. Its
/// content lies elsewhere, under its BLAKE3. It replaces the versions whose keys stand in `replaces`.
pub(crate) const FILES: Table = Table {
    id: 6,
    name: "files",
    key: &["id"],
    columns: &[
        Column::new(1, "class"),
        Column::new(2, "name"),
        Column::new(3, "media_type"),
        Column::new(4, "content"),
        Column::new(5, "bytes"),
        Column::new(6, "added"),
        Column::new(7, "replaces"),
    ],
};

/// All replicated tables of this version.
pub static SCHEMA: Schema =
    Schema { version: 3, tables: &[USERS, LOGINS, NUMBERS, SETTINGS, BLOCKS, COUNTERS, FILES] };

/// What makes them.
pub static MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE users (
        id BLOB NOT NULL PRIMARY KEY, display TEXT NOT NULL, enabled INTEGER NOT NULL,
        md_five BLOB NOT NULL, sha_two BLOB NOT NULL, deleted INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE logins (
        name TEXT NOT NULL PRIMARY KEY, user_id BLOB NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE INDEX logins_user ON logins (user_id);
    CREATE TABLE numbers (
        number TEXT NOT NULL PRIMARY KEY, user_id BLOB NOT NULL, place INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE INDEX numbers_user ON numbers (user_id);
    CREATE TABLE settings (
        name TEXT NOT NULL PRIMARY KEY, value TEXT, deleted INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE blocks (
        what TEXT NOT NULL PRIMARY KEY, since INTEGER NOT NULL, reason TEXT NOT NULL, until INTEGER,
        deleted INTEGER NOT NULL DEFAULT 0) STRICT;
",
    "
    CREATE TABLE counters (
        name TEXT NOT NULL, node INTEGER NOT NULL, count INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (name, node)) STRICT;
    CREATE VIEW counter AS
        SELECT name, sum(count) AS count FROM counters WHERE deleted = 0 GROUP BY name;
",
    "
    CREATE TABLE files (
        id BLOB NOT NULL PRIMARY KEY, class TEXT NOT NULL, name TEXT NOT NULL,
        media_type TEXT NOT NULL, content BLOB NOT NULL, bytes INTEGER NOT NULL,
        added INTEGER NOT NULL, replaces BLOB NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE INDEX files_name ON files (class, name);
",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_sound() {
        assert_eq!(SCHEMA.check(), Ok(()));
    }
}
