//! The checksum of each record in the file: what was changed on the disk is noticed when it is read.
//!
//! One number of 64 bits. Its upper half is of the record's name (class, key, stamp): where that is right,
//! it is known which record is damaged, and the next catch-up fetches that one again. The lower half is of
//! everything.

use rusqlite::{Connection, Row, params};
use sha2::{Digest as _, Sha256};
use tandem_journal::Class;
use tandem_types::Stamp;

use crate::file::{CLASSES, stamp_of, table_of};

/// A record that is not as it was written. It is set aside in the file and no longer read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damaged {
    /// How it was kept.
    pub class: Class,
    /// Its key, as the file has it.
    pub key: Vec<u8>,
    /// Its stamp; `None` where that may be what is damaged.
    pub stamp: Option<Stamp>,
    /// Its row in the table of its class.
    pub(crate) row: i64,
}

/// All that the checksum is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed<'a> {
    pub(crate) class: Class,
    pub(crate) key: &'a [u8],
    pub(crate) reign: i64,
    pub(crate) seq: i64,
    pub(crate) written: i64,
    /// When what is told ended; log records have it.
    pub(crate) ends: Option<i64>,
    pub(crate) body: Option<&'a [u8]>,
}

impl Sealed<'_> {
    fn halves(&self) -> (u32, u32) {
        let class = match self.class {
            Class::Hot => 0_u8,
            Class::Table => 1,
            Class::Log => 2,
        };
        let mut name = Sha256::new();
        name.update([class]);
        name.update(self.reign.to_be_bytes());
        name.update(self.seq.to_be_bytes());
        name.update(self.key);
        let name = name.finalize();
        let mut all = Sha256::new();
        all.update(name);
        all.update(self.written.to_be_bytes());
        all.update([u8::from(self.ends.is_some())]);
        all.update(self.ends.unwrap_or(0).to_be_bytes());
        all.update([u8::from(self.body.is_some())]);
        all.update(self.body.unwrap_or_default());
        (beginning(&name), beginning(&all.finalize()))
    }

    /// The number for the column `sum`.
    pub(crate) fn sum(&self) -> i64 {
        let (name, all) = self.halves();
        (u64::from(name) << 32 | u64::from(all)).cast_signed()
    }

    /// Whether this is what was written; otherwise whether its name is.
    pub(crate) fn check(&self, sum: Option<i64>) -> Seal {
        let (name, all) = self.halves();
        let sum = sum.map_or(0, i64::cast_unsigned);
        match (sum >> 32 == u64::from(name), sum & u64::from(u32::MAX) == u64::from(all)) {
            (true, true) => Seal::Whole,
            (true, false) => Seal::Named,
            (false, true | false) => Seal::Broken,
        }
    }
}

/// What the checksum says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Seal {
    /// It is as it was written.
    Whole,
    /// Only its name is.
    Named,
    /// Nothing of it can be relied on.
    Broken,
}

fn beginning(digest: &[u8]) -> u32 {
    digest.iter().take(4).fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// The columns of a row in the order in which [`take`] takes them.
pub(crate) fn columns(class: Class) -> &'static str {
    match class {
        Class::Hot | Class::Table => "key, reign, seq, written, body, sum, rowid, NULL",
        Class::Log => "key, reign, seq, written, body, sum, rowid, ends",
    }
}

/// One row, whole or not.
pub(crate) struct Taken {
    pub(crate) key: Vec<u8>,
    pub(crate) reign: i64,
    pub(crate) seq: i64,
    pub(crate) written: i64,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) row: i64,
    /// `None`: it is whole.
    pub(crate) damaged: Option<Damaged>,
}

/// Reads a row of [`columns`]. Damage in it is no error: what is no value of its column counts as none.
pub(crate) fn take(class: Class, row: &Row<'_>) -> rusqlite::Result<Taken> {
    let number = |at: usize| row.get_ref(at).map(|value| value.as_i64().ok());
    let bytes = |at: usize| row.get_ref(at).map(|value| value.as_blob().ok().map(<[u8]>::to_vec));
    let (key, reign, seq, written) = (bytes(0)?, number(1)?, number(2)?, number(3)?);
    let (body, sum, place, ends) = (bytes(4)?, number(5)?, number(6)?.unwrap_or(0), number(7)?);
    let key = key.unwrap_or_default();
    let (reign, seq, written) = (reign.unwrap_or(-1), seq.unwrap_or(-1), written.unwrap_or(-1));
    let body_ref = body.as_deref();
    let seal = Sealed { class, key: &key, reign, seq, written, ends, body: body_ref }.check(sum);
    let damaged = match (seal, stamp_of(reign, seq)) {
        (Seal::Whole, Some(_)) => None,
        (Seal::Named, stamp) => Some(Damaged { class, key: key.clone(), stamp, row: place }),
        (Seal::Whole, None) | (Seal::Broken, _) => {
            Some(Damaged { class, key: key.clone(), stamp: None, row: place })
        }
    };
    Ok(Taken { key, reign, seq, written, body, row: place, damaged })
}

/// Gives a checksum to every record that the version before wrote, and its end to those that have one.
pub(crate) fn seal_all(connection: &Connection, end_of: EndOf) -> rusqlite::Result<()> {
    for class in CLASSES {
        let table = table_of(class);
        let select = format!(
            "SELECT rowid, key, reign, seq, written, body FROM {table} WHERE rowid > ?
            ORDER BY rowid LIMIT 1000"
        );
        let update = match class {
            Class::Log => "UPDATE log_record SET sum = ?1, ends = ?2 WHERE rowid = ?3".to_owned(),
            Class::Hot | Class::Table => {
                format!("UPDATE {table} SET sum = ?1 WHERE rowid = ?3 AND ?2 IS ?2")
            }
        };
        let (mut select, mut update) = (connection.prepare(&select)?, connection.prepare(&update)?);
        let mut after = i64::MIN;
        loop {
            let before = after;
            let mut sums = Vec::new();
            let mut rows = select.query([after])?;
            while let Some(row) = rows.next()? {
                after = row.get(0)?;
                let (key, body): (Vec<u8>, Option<Vec<u8>>) = (row.get(1)?, row.get(5)?);
                let (reign, seq, written) = (row.get(2)?, row.get(3)?, row.get(4)?);
                let ends = end_of_row(class, end_of, &key, body.as_deref(), written);
                let body = body.as_deref();
                let sealed = Sealed { class, key: &key, reign, seq, written, ends, body };
                sums.push((sealed.sum(), ends, after));
            }
            for (sum, ends, place) in sums {
                update.execute(params![sum, ends, place])?;
            }
            if after == before {
                break;
            }
        }
    }
    Ok(())
}

/// When what a record tells ended, in microseconds since 1970; `None` where it does not say so.
pub type EndOf = fn(key: &[u8], body: &[u8]) -> Option<i64>;

/// The column `ends` of a log record: where it does not say so itself, when it was written.
pub(crate) fn end_of_row(
    class: Class,
    end_of: EndOf,
    key: &[u8],
    body: Option<&[u8]>,
    written: i64,
) -> Option<i64> {
    match class {
        Class::Hot | Class::Table => None,
        Class::Log => Some(body.and_then(|body| end_of(key, body)).unwrap_or(written)),
    }
}
