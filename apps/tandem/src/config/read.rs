//! From text to [`Config`]: every problem at once, each with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{ADDRESSES_MAX, Config, KEYS, Key, backup, blank, service};

/// One thing that is wrong with a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where, counted from 1; `None`: nowhere in particular (a missing key).
    pub line: Option<usize>,
    /// The key it is about; `None`: the text is no TOML.
    pub key: Option<String>,
    /// One sentence: what was found, what was expected.
    pub what: String,
}

/// Everything that is wrong with a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problems {
    /// The file.
    pub path: PathBuf,
    /// At least one, by line.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.path.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": {}", problem.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A value of the file.
pub(super) struct Value<'a>(&'a DeValue<'a>);

impl<'a> Value<'a> {
    /// Of the parser's.
    pub(super) fn new(value: &'a DeValue<'a>) -> Self {
        Self(value)
    }

    /// Yes or no, where it is one.
    pub(super) fn flag(&self) -> Option<bool> {
        self.0.as_bool()
    }

    /// A list of texts of such a length.
    pub(super) fn texts(&self, least: usize, most: usize) -> Option<Vec<String>> {
        let items = self.0.as_array()?.iter();
        let texts: Option<Vec<_>> =
            items.map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
        texts.filter(|texts| (least..=most).contains(&texts.len()))
    }

    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        self.0.as_str()
    }

    /// The whole number, where it is one of these.
    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let integer = self.0.as_integer()?;
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
        range.contains(&number).then_some(number)
    }

    /// One to four texts, all different, that `read` understands.
    pub(super) fn list<T: PartialEq>(&self, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        let mut list = Vec::new();
        for item in self.0.as_array()? {
            let item = read(item.get_ref().as_str()?)?;
            if list.contains(&item) {
                return None;
            }
            list.push(item);
        }
        (1..=ADDRESSES_MAX).contains(&list.len()).then_some(list)
    }
}

/// Collects problems while reading one file.
pub(super) struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
    /// Where each key stands.
    lines: BTreeMap<&'static str, usize>,
}

impl Reader<'_> {
    /// The text of a value.
    pub(super) fn found(&self, span: std::ops::Range<usize>) -> &str {
        self.text.get(span).unwrap_or_default()
    }

    pub(super) fn line_of(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    pub(super) fn problem(&mut self, line: Option<usize>, key: Option<&str>, what: String) {
        self.problems.push(Problem { line, key: key.map(str::to_owned), what });
    }

    /// A problem with a key whose value is well formed.
    fn conflict(&mut self, key: &'static str, what: String) {
        let line = self.lines.get(key).copied();
        self.problem(line, Some(key), format!("{key}: {what}"));
    }

    fn set_all(&mut self, config: &mut Config, table: &DeTable<'_>) {
        for (name, value) in table {
            let line = self.line_of(name.span().start);
            let name = name.get_ref().as_ref();
            if name == "service" {
                config.services = service::read(self, line, value.get_ref());
                continue;
            }
            if name == "backup" {
                config.backup = backup::read(self, line, value.get_ref());
                continue;
            }
            let Some(key) = KEYS.iter().find(|key| key.name == name) else {
                let what = format!("unknown key `{name}`: {}", suggestion(name));
                self.problem(Some(line), Some(name), what);
                continue;
            };
            self.lines.insert(key.name, line);
            if !(key.set)(config, &Value(value.get_ref())) {
                let found = self.text.get(value.span()).unwrap_or_default();
                let what = format!("{name} = {}: expected {}", shorten(found), key.expected);
                self.problem(Some(self.line_of(value.span().start)), Some(name), what);
            }
        }
    }

    fn require(&mut self) {
        let required = |key: &&Key| key.default.is_none() && !key.optional;
        for key in KEYS.iter().filter(required) {
            if !self.lines.contains_key(key.name) {
                let what = format!("{} is missing: expected {}", key.name, key.expected);
                self.problem(None, Some(key.name), what);
            }
        }
    }

    /// What one key cannot know of another.
    fn compare(&mut self, config: &Config) {
        if config.peer.len() > config.address.len() {
            let what = format!(
                "{} addresses, but `address` has {}: expected at most one for each own address, \
                 since path n of the heartbeats runs from the n-th `address` to the n-th `peer`",
                config.peer.len(),
                config.address.len()
            );
            self.conflict("peer", what);
        }
        for (own, peer) in config.address.iter().zip(&config.peer) {
            if own.is_ipv4() != peer.is_ipv4() {
                let what = format!("{peer}: expected an address of the same kind as {own}");
                self.conflict("peer", what);
            }
        }
        if let Some(both) = config.peer.iter().find(|ip| config.address.contains(ip)) {
            let what = format!("{both} is also in `address`: expected the other machine's");
            self.conflict("peer", what);
        }
        for prefix in &config.virtual_addresses {
            let taken: [(&str, &[IpAddr]); 2] =
                [("address", &config.address), ("peer", &config.peer)];
            if let Some((key, _)) = taken.iter().find(|(_, list)| list.contains(&prefix.ip)) {
                let what =
                    format!("{} is also in `{key}`: expected an address of its own", prefix.ip);
                self.conflict("virtual", what);
            }
        }
        let on_network = config.virtual_addresses.iter().find(|p| !p.ip.is_loopback());
        if let (Some(prefix), None) = (on_network, &config.interface) {
            let what = format!(
                "interface is missing: expected the name of the interface that carries {prefix} \
                 (see `ip address`)"
            );
            self.problem(self.lines.get("virtual").copied(), Some("interface"), what);
        }
        for (key, what) in config.third.conflicts().into_iter().chain(config.database.conflicts()) {
            self.conflict(key, what);
        }
        let ports = [("heartbeat_port", config.heartbeat_port), ("link_port", config.link_port)];
        for (key, port) in ports {
            let same = port == config.port
                || (key == "link_port" && config.link_port == config.heartbeat_port);
            if same {
                self.conflict(key, format!("{port} is taken: expected three different ports"));
            }
        }
    }
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Config, Problems> {
    let mut reader = Reader { text, problems: Vec::new(), lines: BTreeMap::new() };
    let mut config = blank();
    set_defaults(&mut config);
    match DeTable::parse(text) {
        Ok(table) => {
            reader.set_all(&mut config, table.get_ref());
            reader.require();
        }
        Err(error) => {
            let line = error.span().map(|span| reader.line_of(span.start));
            reader.problem(line, None, format!("this is no TOML: {}", error.message()));
        }
    }
    if reader.problems.is_empty() {
        reader.compare(&config);
    }
    if !reader.problems.is_empty() {
        reader.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        return Err(Problems { path: path.to_owned(), problems: reader.problems });
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    config.state = folder.join(&config.state);
    config.secret = folder.join(&config.secret);
    config.third.resolve(folder);
    config.database.resolve(folder);
    Ok(config)
}

/// Defaults are read like the file, so that what the reference page prints is what holds.
fn set_defaults(config: &mut Config) {
    for key in KEYS {
        let Some(default) = key.default else { continue };
        let taken = set_default(default, |value| (key.set)(config, value));
        debug_assert!(taken, "the default of {} is not what it expects", key.name);
    }
}

/// Reads a default, which is TOML.
pub(super) fn set_default(default: &str, set: impl FnOnce(&Value<'_>) -> bool) -> bool {
    let text = format!("default = {default}");
    let (table, _) = DeTable::parse_recoverable(&text);
    let value = table.get_ref().iter().next();
    value.is_some_and(|(_, value)| set(&Value(value.get_ref())))
}

/// The key that was probably meant, or all of them.
fn suggestion(name: &str) -> String {
    let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    suggest(name, &names)
}

/// As [`suggestion`], of these names.
pub(super) fn suggest(name: &str, names: &[&str]) -> String {
    let near = names.iter().map(|known| (distance(name, known), *known)).min();
    match near {
        Some((steps, meant)) if steps <= 2 => format!("did you mean `{meant}`?"),
        Some(_) | None => {
            format!("expected one of {}", names.join(", "))
        }
    }
}

/// Letters to add, drop or replace to come from one word to the other (Levenshtein).
fn distance(one: &str, two: &str) -> usize {
    let mut row: Vec<usize> = (0..=two.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in two.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A value as the error shows it: on one line, not too long.
pub(super) fn shorten(found: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let line = found.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SHOWN_MAX {
        return line;
    }
    line.chars().take(SHOWN_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Prefix, Profile, reference};
    use tandem_types::Seat;

    const GOOD: &str = "seat = \"master\"\nrealm = \"example.org\"\naddress = [\"127.1.2.1\"]\n\
                        peer = [\"127.1.2.2\"]\nvirtual = [\"127.1.2.10/24\"]\n";

    fn read(text: &str) -> Result<Config, Problems> {
        Config::parse(Path::new("/etc/t/tandem.toml"), text)
    }

    #[test]
    fn a_short_file_gets_the_defaults() {
        let config = read(GOOD).unwrap();
        assert_eq!(
            (config.seat, config.port, config.profile),
            (Seat::Master, 5060, Profile::Default)
        );
        assert_eq!((config.heartbeat_port, config.link_port), (5070, 5071));
        assert_eq!(config.devices_per_user, 4);
        assert_eq!(config.state, Path::new("/var/lib/tandem"));
        assert_eq!(config.secret, Path::new("/etc/t/pair.secret"));
        assert_eq!(config.virtual_addresses, [Prefix::parse("127.1.2.10/24").unwrap()]);
        assert_eq!(config.link_ends().1.to_string(), "127.1.2.2:5071");
    }

    /// What is changed in the good file, and the one line that comes out.
    const WRONG: &[(&str, &str, &str)] = &[
        (
            "seat = \"master\"",
            "seat = \"boss\"",
            ":1: seat = \"boss\": expected \"master\" or \"standby\"",
        ),
        ("seat = \"master\"", "seat = 1", ":1: seat = 1: expected \"master\" or \"standby\""),
        ("seat = \"master\"", "", ": seat is missing: expected \"master\" or \"standby\""),
        ("realm", "raelm = 1\nrealm", ":2: unknown key `raelm`: did you mean `realm`?"),
        (
            "realm",
            "colour = 1\nrealm",
            ":2: unknown key `colour`: expected one of seat, realm, address, peer, virtual, interface, \
             virtual_mac, gateway, port, heartbeat_port, link_port, state, secret, profile, healing, witness, etcd, etcd_user, \
             etcd_password_file, etcd_authority, etcd_certificate, etcd_key, database, database_password_file, digest, \
             devices_per_user, metrics, retry_after_seconds, time_zone",
        ),
        (
            "example.org",
            "Gärten",
            ":2: realm = \"Gärten\": expected a domain name: letters, digits, dots and dashes, at most 253",
        ),
        (
            "[\"127.1.2.1\"]",
            "[]",
            ":3: address = []: expected 1 to 4 addresses of this machine, as in [\"192.0.2.2\", \"2001:db8::2\"]",
        ),
        (
            "[\"127.1.2.1\"]",
            "[\n\"0.0.0.0\"]",
            ":3: address = [ \"0.0.0.0\"]: expected 1 to 4 addresses of this machine, as in [\"192.0.2.2\", \"2001:db8::2\"]",
        ),
        ("127.1.2.2", "::2", ":4: peer: ::2: expected an address of the same kind as 127.1.2.1"),
        (
            "127.1.2.2",
            "127.1.2.1",
            ":4: peer: 127.1.2.1 is also in `address`: expected the other machine's",
        ),
        (
            "\"127.1.2.2\"",
            "\"127.1.2.2\", \"127.1.2.3\"",
            ":4: peer: 2 addresses, but `address` has 1: expected at most one for each own address, \
             since path n of the heartbeats runs from the n-th `address` to the n-th `peer`",
        ),
        (
            "127.1.2.10/24",
            "127.1.2.2/24",
            ":5: virtual: 127.1.2.2 is also in `peer`: expected an address of its own",
        ),
        (
            "127.1.2.10/24",
            "127.1.2.10/33",
            ":5: virtual = [\"127.1.2.10/33\"]: expected 1 to 4 addresses with their prefix, as in \
             [\"192.0.2.10/24\"]",
        ),
        (
            "127.1.2.10/24",
            "192.0.2.10/24",
            ":5: interface is missing: expected the name of the interface that carries \
             192.0.2.10/24 (see `ip address`)",
        ),
        ("virtual", "port = 0\nvirtual", ":5: port = 0: expected a whole number from 1 to 65535"),
        (
            "virtual",
            "port = 65536\nvirtual",
            ":5: port = 65536: expected a whole number from 1 to 65535",
        ),
        (
            "virtual",
            "port = 5070\nvirtual",
            ": heartbeat_port: 5070 is taken: expected three different ports",
        ),
        (
            "virtual",
            "link_port = 5070\nvirtual",
            ":5: link_port: 5070 is taken: expected three different ports",
        ),
        (
            "virtual",
            "profile = true\nvirtual",
            ":5: profile = true: expected \"default\" or \"fast\"",
        ),
        (
            "virtual",
            "digest = \"sha512\"\nvirtual",
            ":5: digest = \"sha512\": expected \"md5\", \"sha256\" or \"both\"",
        ),
        (
            "virtual",
            "devices_per_user = 33\nvirtual",
            ":5: devices_per_user = 33: expected a whole number from 1 to 32",
        ),
        (
            "virtual",
            "retry_after_seconds = 0\nvirtual",
            ":5: retry_after_seconds = 0: expected a whole number from 1 to 300",
        ),
        (
            "virtual",
            "virtual_mac = \"01:00:00:00:00:0a\"\nvirtual",
            ":5: virtual_mac = \"01:00:00:00:00:0a\": expected \"auto\" or a hardware address of one device, \
             as in \"02:00:00:00:00:0a\"",
        ),
        (
            "virtual",
            "virtual_mac = \"2:0:0:0:0:a\"\nvirtual",
            ":5: virtual_mac = \"2:0:0:0:0:a\": expected \"auto\" or a hardware address of one device, as \
             in \"02:00:00:00:00:0a\"",
        ),
        ("virtual", "state = \"\"\nvirtual", ":5: state = \"\": expected a path"),
        (
            "virtual",
            "metrics = \"localhost:1\"\nvirtual",
            ":5: metrics = \"localhost:1\": expected an address and a port, as in \"127.0.0.1:9160\"",
        ),
    ];

    #[test]
    fn every_error_names_file_line_key_and_what_was_expected() {
        for (from, to, expected) in WRONG {
            let problems = read(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert_eq!(problems.to_string(), format!("/etc/t/tandem.toml{expected}"), "{to}");
        }
    }

    #[test]
    fn all_problems_are_shown_at_once_in_the_order_of_the_file() {
        let problems = read("port = 0\nprot = 1\nseat = 2\n").unwrap_err().problems;
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines[..3], [Some(1), Some(2), Some(3)]);
        assert_eq!(lines[3..], [None; 4], "realm, address, peer, virtual");
    }

    #[test]
    fn what_is_no_toml_names_its_line() {
        for line in ["port = = 1", "port = 1\nport = 2", "[address", "seat"] {
            let problems = read(&format!("{GOOD}{line}\n")).unwrap_err().to_string();
            let first = format!("/etc/t/tandem.toml:{}: ", if line.contains('\n') { 7 } else { 6 });
            assert!(problems.starts_with(&first) && problems.contains("no TOML"), "{problems}");
        }
    }

    #[test]
    fn the_limits_are_the_last_values_taken() {
        for line in
            ["port = 65535", "devices_per_user = 32", "retry_after_seconds = 300", "port = 1"]
        {
            assert!(read(&format!("{GOOD}{line}\n")).is_ok(), "{line}");
        }
    }

    #[test]
    fn the_reference_page_names_every_key() {
        let page = reference();
        assert!(KEYS.iter().all(|key| page.contains(&format!("{}\n", key.name))));
        assert!(page.contains("Expected: a whole number from 1 to 65535; default: 5060."));
    }

    #[test]
    fn the_example_pair_is_good_and_each_names_the_other() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/example");
        let [one, two] = ["master", "standby"]
            .map(|seat| Config::load(&Path::new(folder).join(format!("{seat}.toml"))).unwrap());
        assert_eq!((one.seat, two.seat), (Seat::Master, Seat::Standby));
        assert_eq!((&one.address, &one.peer), (&two.peer, &two.address));
        assert_eq!((&one.realm, &one.virtual_addresses), (&two.realm, &two.virtual_addresses));
    }
}
