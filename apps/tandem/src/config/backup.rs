//! `[backup]`: when and where this machine makes a backup by itself.
//!
//! Its keys stand in [`BACKUP_KEYS`], as those of the file in [`KEYS`](super::KEYS).

use std::path::PathBuf;

use toml::de::DeValue;

use super::put;
use super::read::{Reader, Value, set_default, shorten, suggest};

/// Backups that are kept, at most.
const KEEP_MAX: u64 = 10_000;

/// The table of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackupTable {
    /// The folder in which folders are made.
    pub folder: PathBuf,
    /// The time of the day: minutes since midnight, in the time zone of the file.
    pub at_minutes: u16,
    /// How many stay.
    pub keep: usize,
    /// The pair secret too.
    pub with_secret: bool,
}

/// One key of `[backup]`.
pub(super) struct BackupKey {
    pub(super) name: &'static str,
    pub(super) expected: &'static str,
    /// As in [`Key`](super::Key).
    pub(super) default: Option<&'static str>,
    pub(super) doc: &'static str,
    set: fn(&mut BackupTable, &Value<'_>) -> bool,
}

/// Every key of `[backup]`.
pub(super) const BACKUP_KEYS: &[BackupKey] = &[
    BackupKey {
        name: "folder",
        expected: "a path from /",
        default: None,
        doc: "Where a new folder is made every day. Best on another disk, or on another machine.",
        set: |backup, value| {
            let path = value.text().filter(|text| text.starts_with('/'));
            put(&mut backup.folder, path.map(PathBuf::from))
        },
    },
    BackupKey {
        name: "at",
        expected: "a time of the day, as in \"03:15\"",
        default: Some("\"03:15\""),
        doc: "When, in `time_zone`. What was missed because the machine was off is made up for at its start.",
        set: |backup, value| put(&mut backup.at_minutes, value.text().and_then(minutes)),
    },
    BackupKey {
        name: "keep",
        expected: "a whole number from 1 to 10000",
        default: Some("14"),
        doc: "So many backups of this machine stay in `folder`; nothing else is ever removed there.",
        set: |backup, value| {
            let number = value.number(1..=KEEP_MAX);
            put(&mut backup.keep, number.and_then(|number| usize::try_from(number).ok()))
        },
    },
    BackupKey {
        name: "with_secret",
        expected: "true or false",
        default: Some("false"),
        doc: "Whether the pair secret is in it: with it a lost machine is set up from the backup alone; whoever \
              can read it can pretend to be one.",
        set: |backup, value| put(&mut backup.with_secret, value.flag()),
    },
];

fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// Reads the value of `backup`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    line: usize,
    value: &DeValue<'_>,
) -> Option<BackupTable> {
    let Some(table) = value.as_table() else {
        let what = String::from("backup: expected a table that begins with [backup]");
        reader.problem(Some(line), Some("backup"), what);
        return None;
    };
    let mut backup =
        BackupTable { folder: PathBuf::new(), at_minutes: 0, keep: 1, with_secret: false };
    for key in BACKUP_KEYS {
        let taken =
            key.default.is_none_or(|d| set_default(d, |value| (key.set)(&mut backup, value)));
        debug_assert!(taken, "the default of {} is not what it expects", key.name);
    }
    for (name, value) in table {
        let (at, name) = (reader.line_of(name.span().start), name.get_ref().as_ref());
        let Some(key) = BACKUP_KEYS.iter().find(|key| key.name == name) else {
            let names: Vec<_> = BACKUP_KEYS.iter().map(|key| key.name).collect();
            let what = format!("unknown key `{name}` of [backup]: {}", suggest(name, &names));
            reader.problem(Some(at), Some(name), what);
            continue;
        };
        if !(key.set)(&mut backup, &Value::new(value.get_ref())) {
            let found = reader.found(value.span());
            let what = format!("{name} = {}: expected {}", shorten(found), key.expected);
            reader.problem(Some(reader.line_of(value.span().start)), Some(name), what);
        }
    }
    if !table.keys().any(|name| name.get_ref().as_ref() == "folder") {
        let what = format!("folder of [backup] is missing: expected {}", BACKUP_KEYS[0].expected);
        reader.problem(Some(line), Some("folder"), what);
    }
    Some(backup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_day_is_two_numbers_of_two_digits() {
        for (text, wanted) in [("00:00", 0), ("03:15", 195), ("23:59", 1_439)] {
            assert_eq!(minutes(text), Some(wanted));
        }
        for text in ["", "3:15", "24:00", "03:60", "03.15", "+3:15", "03:1"] {
            assert_eq!(minutes(text), None, "{text}");
        }
    }
}
