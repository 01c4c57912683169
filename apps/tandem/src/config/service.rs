//! `[[service]]`: programs that the keeper starts and watches beside the server.
//!
//! Their keys stand in [`SERVICE_KEYS`], as those of the file in [`KEYS`](super::KEYS).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tandem_keeper::{
    FAILURES_MAX, Limits, Plan, ProbePlan, Readiness, Restart, Runs, SERVICES_MAX,
};
use toml::de::{DeTable, DeValue};

use super::put;
use super::read::{Reader, Value, set_default, shorten, suggest};

/// Words of a command, at most.
const WORDS_MAX: usize = 64;
/// Letters of a name, at most.
const NAME_MAX: usize = 32;

/// One service of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceTable {
    /// Its name.
    pub name: String,
    /// Its program and arguments.
    pub command: Vec<String>,
    /// When it is ready.
    pub ready: Readiness,
    /// The text of the line that says it is ready.
    pub ready_line: Option<String>,
    /// How it is asked whether it works.
    pub probe: Option<Probe>,
    /// How often.
    pub probe_plan: ProbePlan,
    /// What it is allowed.
    pub limits: Limits,
    /// A permanent failure is told.
    pub alarm: bool,
    /// A permanent failure asks for a switchover.
    pub stop_leading: bool,
    /// The names of those that must be ready before it starts.
    pub after: Vec<String>,
    /// Where it runs.
    pub runs: Runs,
}

/// How a service is asked whether it works.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// It takes a TCP connection there.
    Tcp(SocketAddr),
    /// It takes a connection at this unix socket.
    Socket(PathBuf),
    /// This command exits with code 0.
    Command(Vec<String>),
}

impl ServiceTable {
    /// One with the limits at zero.
    #[cfg(test)]
    pub(crate) fn for_test(name: &str, command: &[&str]) -> Self {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Self { name: name.to_owned(), command, ..blank() }
    }

    /// The part of it that decides; `names` are those of all services in their order.
    pub(crate) fn plan(&self, names: &[&str]) -> Plan {
        let place = |name: &String| names.iter().position(|is| is == name);
        Plan {
            name: self.name.clone(),
            after: self.after.iter().filter_map(place).collect(),
            runs: self.runs,
            readiness: self.ready,
            probe: self.probe.as_ref().map(|_| self.probe_plan),
            limits: self.limits,
            alarm: self.alarm,
            stop_leading: self.stop_leading,
        }
    }
}

/// One key of a `[[service]]`.
pub(super) struct ServiceKey {
    pub(super) name: &'static str,
    pub(super) expected: &'static str,
    /// As in [`Key`](super::Key).
    pub(super) default: Option<&'static str>,
    pub(super) optional: bool,
    pub(super) doc: &'static str,
    set: fn(&mut ServiceTable, &Value<'_>) -> bool,
}

const COMMAND: &str =
    "1 to 64 words, as in [\"/usr/bin/prog\", \"--flag\"]; the first is a path from /";
const MILLIS: &str = "milliseconds: a whole number from 1 to 3600000";

const fn key(
    name: &'static str,
    default: Option<&'static str>,
    expected: &'static str,
    doc: &'static str,
    set: fn(&mut ServiceTable, &Value<'_>) -> bool,
) -> ServiceKey {
    ServiceKey { name, expected, default, optional: false, doc, set }
}

const fn optional(key: ServiceKey) -> ServiceKey {
    ServiceKey { optional: true, ..key }
}

/// Every key of a `[[service]]`.
pub(super) const SERVICE_KEYS: &[ServiceKey] = &[
    key(
        "name",
        None,
        "1 to 32 letters a-z, digits, - and _, not `server`, each name once",
        "What the log, `tandem status` and the metrics call it.",
        |service, value| {
            let name = value.text().filter(|name| is_name(name));
            put(&mut service.name, name.map(str::to_owned))
        },
    ),
    key(
        "command",
        None,
        COMMAND,
        "The program and its arguments; no shell reads it. It runs as the account of the keeper, without \
         its rights. It must not go to the background; programs that it starts itself it must end.",
        |service, value| put(&mut service.command, command(value)),
    ),
    key(
        "ready",
        Some("\"started\""),
        "\"started\", \"line\" or \"probe\"",
        "When it counts as ready: as soon as it runs, when it writes `ready_line`, or when its probe \
         succeeds for the first time.",
        |service, value| {
            let ready = match value.text() {
                Some("started") => Readiness::Started,
                Some("line") => Readiness::Line,
                Some("probe") => Readiness::Probe,
                Some(_) | None => return false,
            };
            put(&mut service.ready, Some(ready))
        },
    ),
    optional(key(
        "ready_line",
        None,
        "a text that is not empty",
        "A part of the line, on its standard output or error, that says it is ready.",
        |service, value| {
            let text = value.text().filter(|text| !text.is_empty());
            put(&mut service.ready_line, text.map(|text| Some(text.to_owned())))
        },
    )),
    key(
        "ready_ms",
        Some("10000"),
        MILLIS,
        "How long it may take to be ready; then it is killed.",
        |service, value| put(&mut service.limits.ready, millis(value)),
    ),
    optional(key(
        "probe_tcp",
        None,
        "an address and a port, as in \"127.0.0.1:80\"",
        "It works as long as it takes TCP connections there.",
        |service, value| {
            let address = value.text().and_then(|text| text.parse().ok());
            put(&mut service.probe, address.map(|address| Some(Probe::Tcp(address))))
        },
    )),
    optional(key(
        "probe_socket",
        None,
        "a path from /",
        "It works as long as it takes connections at this unix socket.",
        |service, value| {
            let path = value.text().filter(|text| text.starts_with('/'));
            put(&mut service.probe, path.map(|path| Some(Probe::Socket(path.into()))))
        },
    )),
    optional(key(
        "probe_command",
        None,
        COMMAND,
        "It works as long as this command exits with code 0.",
        |service, value| {
            put(&mut service.probe, command(value).map(|words| Some(Probe::Command(words))))
        },
    )),
    key("probe_pause_ms", Some("1000"), MILLIS, "Pause between two probes.", |service, value| {
        put(&mut service.probe_plan.pause, millis(value))
    }),
    key("probe_ms", Some("1000"), MILLIS, "How long a probe may take.", |service, value| {
        put(&mut service.probe_plan.limit, millis(value))
    }),
    key(
        "probe_failures",
        Some("3"),
        "a whole number from 1 to 100",
        "After so many failed probes in a row it is killed and started again.",
        |service, value| put(&mut service.probe_plan.failures, number(value, 100)),
    ),
    key(
        "restart",
        Some("\"always\""),
        "\"always\", \"on-failure\" or \"never\"",
        "When it starts again: however it ended, unless it exited with code 0, or never.",
        |service, value| {
            let restart = match value.text() {
                Some("always") => Restart::Always,
                Some("on-failure") => Restart::OnFailure,
                Some("never") => Restart::Never,
                Some(_) | None => return false,
            };
            put(&mut service.limits.restart, Some(restart))
        },
    ),
    key(
        "restart_pause_ms",
        Some("100"),
        MILLIS,
        "Pause before its second restart within `restart_window_ms`, doubled with each further one; the \
         first one is at once.",
        |service, value| put(&mut service.limits.pause, millis(value)),
    ),
    key(
        "restarts_max",
        Some("5"),
        "a whole number from 1 to 20",
        "After more failures within `restart_window_ms` it counts as failed, and rests for `rest_ms` before \
         it is tried again.",
        |service, value| put(&mut service.limits.failures_max, number(value, FAILURES_MAX)),
    ),
    key(
        "restart_window_ms",
        Some("60000"),
        MILLIS,
        "The time in which failures count.",
        |service, value| put(&mut service.limits.window, millis(value)),
    ),
    key(
        "rest_ms",
        Some("30000"),
        MILLIS,
        "Pause before a failed service is tried again.",
        |service, value| put(&mut service.limits.rest, millis(value)),
    ),
    key(
        "stop_ms",
        Some("3000"),
        MILLIS,
        "How long it may take to end when asked (SIGTERM); then it is killed.",
        |service, value| put(&mut service.limits.stop, millis(value)),
    ),
    key(
        "failing",
        Some("\"alarm\""),
        "\"alarm\" or \"ignore\"",
        "Whether it is told (log, `tandem events`, metrics) that it failed for good.",
        |service, value| {
            let alarm = match value.text() {
                Some("alarm") => true,
                Some("ignore") => false,
                Some(_) | None => return false,
            };
            put(&mut service.alarm, Some(alarm))
        },
    ),
    key(
        "stop_leading",
        Some("false"),
        "true or false",
        "Whether the active machine hands over when it failed for good, if the other one can serve without \
         loss. Otherwise a service never changes who is active.",
        |service, value| put(&mut service.stop_leading, value.flag()),
    ),
    key(
        "after",
        Some("[]"),
        "names of other services, as in [\"database\"]; without circles",
        "It starts when these are ready and is stopped before them.",
        |service, value| put(&mut service.after, value.texts(0, SERVICES_MAX)),
    ),
    key(
        "runs",
        Some("\"always\""),
        "\"always\" or \"active\"",
        "On both machines, or on the active one only.",
        |service, value| {
            let runs = match value.text() {
                Some("always") => Runs::Always,
                Some("active") => Runs::Active,
                Some(_) | None => return false,
            };
            put(&mut service.runs, Some(runs))
        },
    ),
];

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain) && name != "server"
}

fn command(value: &Value<'_>) -> Option<Vec<String>> {
    value.texts(1, WORDS_MAX).filter(|words| words[0].starts_with('/'))
}

fn millis(value: &Value<'_>) -> Option<Duration> {
    value.number(1..=3_600_000).map(Duration::from_millis)
}

fn number(value: &Value<'_>, most: u32) -> Option<u32> {
    value.number(1..=u64::from(most)).and_then(|number| number.try_into().ok())
}

fn blank() -> ServiceTable {
    let zero = Duration::ZERO;
    ServiceTable {
        name: String::new(),
        command: Vec::new(),
        ready: Readiness::Started,
        ready_line: None,
        probe: None,
        probe_plan: ProbePlan { pause: zero, limit: zero, failures: 1 },
        limits: Limits {
            ready: zero,
            hung: None,
            stop: zero,
            restart: Restart::Always,
            pause: zero,
            failures_max: 1,
            window: zero,
            rest: zero,
        },
        alarm: true,
        stop_leading: false,
        after: Vec::new(),
        runs: Runs::Always,
    }
}

/// Reads the value of `service`: an array of tables.
pub(super) fn read(reader: &mut Reader<'_>, line: usize, value: &DeValue<'_>) -> Vec<ServiceTable> {
    let mut services = Vec::new();
    let tables =
        value.as_array().map(|array| array.iter().map(|item| (item.span(), item.get_ref())));
    let Some(tables) = tables else {
        let what = String::from("service: expected tables, each beginning with [[service]]");
        reader.problem(Some(line), Some("service"), what);
        return Vec::new();
    };
    for (span, table) in tables {
        let line = reader.line_of(span.start);
        match table.as_table() {
            Some(table) => services.push((line, read_one(reader, line, table))),
            None => {
                let what = String::from("service: expected a table that begins with [[service]]");
                reader.problem(Some(line), Some("service"), what);
            }
        }
    }
    compare(reader, &services);
    services.into_iter().map(|(_, service)| service).collect()
}

fn read_one(reader: &mut Reader<'_>, line: usize, table: &DeTable<'_>) -> ServiceTable {
    let mut service = blank();
    for key in SERVICE_KEYS {
        let taken =
            key.default.is_none_or(|d| set_default(d, |value| (key.set)(&mut service, value)));
        debug_assert!(taken, "the default of {} is not what it expects", key.name);
    }
    let mut seen = Vec::new();
    for (name, value) in table {
        let (at, name) = (reader.line_of(name.span().start), name.get_ref().as_ref());
        let Some(key) = SERVICE_KEYS.iter().find(|key| key.name == name) else {
            let names: Vec<_> = SERVICE_KEYS.iter().map(|key| key.name).collect();
            let what = format!("unknown key `{name}` of a service: {}", suggest(name, &names));
            reader.problem(Some(at), Some(name), what);
            continue;
        };
        if key.name.starts_with("probe_") && service.probe.is_some() && is_probe(key.name) {
            let what =
                format!("{name}: expected one of probe_tcp, probe_socket, probe_command only");
            reader.problem(Some(at), Some(name), what);
        } else if !(key.set)(&mut service, &Value::new(value.get_ref())) {
            let found = reader.found(value.span());
            let what = format!("{name} = {}: expected {}", shorten(found), key.expected);
            reader.problem(Some(reader.line_of(value.span().start)), Some(name), what);
        }
        seen.push(key.name);
    }
    for key in SERVICE_KEYS.iter().filter(|key| key.default.is_none() && !key.optional) {
        if !seen.contains(&key.name) {
            let what =
                format!("{} of this service is missing: expected {}", key.name, key.expected);
            reader.problem(Some(line), Some(key.name), what);
        }
    }
    service
}

fn is_probe(name: &str) -> bool {
    matches!(name, "probe_tcp" | "probe_socket" | "probe_command")
}

/// What one key cannot know of another, and one service of the others.
fn compare(reader: &mut Reader<'_>, services: &[(usize, ServiceTable)]) {
    if services.len() > SERVICES_MAX {
        let what = format!("service: {} of them: expected {SERVICES_MAX} at most", services.len());
        reader.problem(services.last().map(|(line, _)| *line), Some("service"), what);
    }
    for (index, (line, service)) in services.iter().enumerate() {
        let mut problem = |key: &str, what: String| {
            reader.problem(Some(*line), Some(key), format!("{key} of `{}`: {what}", service.name));
        };
        if services[..index].iter().any(|(_, other)| other.name == service.name) {
            problem("name", String::from("is taken: expected another name"));
        }
        if service.ready == Readiness::Line && service.ready_line.is_none() {
            problem("ready_line", String::from("is missing: expected it where ready = \"line\""));
        }
        if service.ready == Readiness::Probe && service.probe.is_none() {
            problem("ready", String::from("expected a probe where it is \"probe\""));
        }
        let known = |name: &&String| services.iter().any(|(_, other)| other.name == **name);
        for name in service.after.iter().filter(|name| !known(name)) {
            problem("after", format!("there is no service `{name}`"));
        }
        if comes_after(services, &service.name, &service.after, services.len()) {
            problem("after", String::from("leads back to itself: expected no circle"));
        }
    }
}

/// Whether one of these comes, by any way, after `name`.
fn comes_after(
    services: &[(usize, ServiceTable)],
    name: &str,
    before: &[String],
    depth: usize,
) -> bool {
    let leads = |one: &String| {
        let next = services.iter().find(|(_, service)| service.name == *one);
        next.is_some_and(|(_, next)| comes_after(services, name, &next.after, depth - 1))
    };
    before.iter().any(|one| one == name) || (depth > 0 && before.iter().any(leads))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Problems, reference};
    use std::path::Path;

    const GOOD: &str = "seat = \"master\"\nrealm = \"example.org\"\naddress = [\"127.1.2.1\"]\n\
                        peer = [\"127.1.2.2\"]\nvirtual = [\"127.1.2.10/24\"]\n";

    fn read(services: &str) -> Result<Config, Problems> {
        Config::parse(Path::new("/etc/t/tandem.toml"), &format!("{GOOD}{services}"))
    }

    const ONE: &str = "[[service]]\nname = \"web\"\ncommand = [\"/bin/web\", \"-v\"]\n";

    #[test]
    fn a_short_service_gets_the_defaults_and_the_order_is_kept_by_name() {
        let text = format!(
            "{ONE}after = [\"db\"]\n[[service]]\nname = \"db\"\ncommand = [\"/bin/db\"]\n\
             ready = \"probe\"\nprobe_tcp = \"127.0.0.1:5\"\nruns = \"active\"\n"
        );
        let services = read(&text).unwrap().services;
        let plans: Vec<_> = services.iter().map(|s| s.plan(&["web", "db"])).collect();
        assert_eq!((plans[0].after.as_slice(), plans[1].runs), ([1].as_slice(), Runs::Active));
        assert_eq!(plans[0].limits.ready, Duration::from_secs(10));
        assert_eq!((plans[0].limits.failures_max, plans[0].alarm), (5, true));
        assert_eq!(services[1].probe, Some(Probe::Tcp("127.0.0.1:5".parse().unwrap())));
        assert_eq!(services[0].command, ["/bin/web", "-v"]);
    }

    #[test]
    fn every_error_of_a_service_names_its_line_and_what_was_expected() {
        let cases = [
            ("service = 1\n", ":6: service: expected tables, each beginning with [[service]]"),
            (
                "[[service]]\ncommand = [\"/x\"]\n",
                ":6: name of this service is missing: expected 1 to 32 letters a-z, digits, - and _, not `server`, each name once",
            ),
            (
                "[[service]]\nname = \"server\"\ncommand = [\"/x\"]\n",
                ":7: name = \"server\": expected 1 to 32 letters a-z, digits, - and _, not `server`, each name once",
            ),
            (
                "[[service]]\nname = \"x\"\ncommand = [\"x\"]\n",
                ":8: command = [\"x\"]: expected 1 to 64 words, as in [\"/usr/bin/prog\", \"--flag\"]; the first is a path from /",
            ),
            (
                &format!("{ONE}prob_tcp = 1\n"),
                ":9: unknown key `prob_tcp` of a service: did you mean `probe_tcp`?",
            ),
            (
                &format!("{ONE}restarts_max = 21\n"),
                ":9: restarts_max = 21: expected a whole number from 1 to 20",
            ),
            (
                &format!("{ONE}ready = \"line\"\n"),
                ":6: ready_line of `web`: is missing: expected it where ready = \"line\"",
            ),
            (
                &format!("{ONE}ready = \"probe\"\n"),
                ":6: ready of `web`: expected a probe where it is \"probe\"",
            ),
            (&format!("{ONE}after = [\"y\"]\n"), ":6: after of `web`: there is no service `y`"),
            (
                &format!("{ONE}after = [\"web\"]\n"),
                ":6: after of `web`: leads back to itself: expected no circle",
            ),
            (&format!("{ONE}{ONE}"), ":9: name of `web`: is taken: expected another name"),
            (
                &format!("{ONE}probe_tcp = \"127.0.0.1:1\"\nprobe_socket = \"/x\"\n"),
                ":9: probe_tcp: expected one of probe_tcp, probe_socket, probe_command only",
            ),
        ];
        for (text, expected) in cases {
            let problems = read(text).unwrap_err();
            assert_eq!(problems.to_string(), format!("/etc/t/tandem.toml{expected}"), "{text}");
        }
    }

    #[test]
    fn a_circle_over_others_is_found_and_the_most_services_are_taken() {
        let service = |n: usize, after: usize| {
            format!("[[service]]\nname = \"s{n}\"\ncommand = [\"/x\"]\nafter = [\"s{after}\"]\n")
        };
        let circle: String = (0..3).map(|n| service(n, (n + 1) % 3)).collect();
        assert!(read(&circle).unwrap_err().to_string().contains("leads back to itself"));
        let many = |count: usize| -> String {
            (0..count)
                .map(|n| format!("[[service]]\nname = \"s{n}\"\ncommand = [\"/x\"]\n"))
                .collect()
        };
        assert_eq!(read(&many(SERVICES_MAX)).unwrap().services.len(), SERVICES_MAX);
        assert!(read(&many(SERVICES_MAX + 1)).unwrap_err().to_string().contains("15 at most"));
    }

    #[test]
    fn the_reference_page_explains_every_key_of_a_service() {
        let page = reference();
        assert!(SERVICE_KEYS.iter().all(|key| page.contains(&format!("{}\n", key.name))));
    }
}
