//! `tandem status`: both machines as the keeper of this one sees them; and orders to that keeper.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use anyhow::anyhow;
use tandem_keeper::{
    DamagedRows, Likeness, OperatorAnswer, OperatorRequest, PathStatus, Reach, ServiceState,
    ServiceStatus, Status, SwitchStatus, TwinStatus, When,
};
use tandem_node::BlockRow;
use tandem_types::{Role, Seat};

use super::block::{known_here, words};
use super::file::unequal;
use super::{LastBackup, print_json, unexpected};
use crate::cli::{Failure, Json, SwitchArgs};
use crate::config::Config;
use crate::control::ask;
use crate::logging::Time;
use crate::server::LOST;

/// Changes of state that are shown to people; `--json` has all.
const HISTORY_SHOWN: usize = 5;

/// `tandem status`.
pub(crate) fn status(config: &Config, json: Json) -> Result<(), Failure> {
    let answer = ask(&config.keeper_socket(), "keeper", &OperatorRequest::Status)?;
    let OperatorAnswer::Status(status) = answer else { return Err(unexpected()) };
    let blocks = known_here(config);
    let files = unequal(config);
    if json.json {
        let mut value = serde_json::json!(status);
        value["blocks"] = serde_json::json!(blocks);
        value["files_unequal"] = serde_json::json!(files);
        value["backup"] = serde_json::json!(LastBackup::read(&config.state));
        value["configuration_lost"] = serde_json::json!(config.state.join(LOST).exists());
        return print_json(&value);
    }
    let paint = Paint { on: std::io::stdout().is_terminal() };
    let now = Time::now();
    print!("{}{}", lost(config, paint), suspects(config, paint));
    print!("{}", blocked(blocks.as_deref(), paint));
    print!("{}{}", page(&status, now, paint), backups(config, now, paint));
    print!("{}", database(config, paint));
    files.iter().for_each(|line| println!("{:<12}{}", "files", paint.bad(line)));
    Ok(())
}

/// `tandem switch`.
pub(crate) fn switch(config: &Config, args: SwitchArgs) -> Result<(), Failure> {
    let SwitchArgs { force, when_idle, cancel } = args;
    let (request, done) = if cancel {
        (OperatorRequest::CancelSwitch, "cancelled: the active machine stays active")
    } else if when_idle {
        let done = "it switches over as soon as no calls are up: `tandem status` shows what it \
                    waits for, `tandem switch --cancel` cancels it";
        (OperatorRequest::SwitchWhenIdle, done)
    } else {
        let done = "switching over: `tandem status` shows how it went";
        (OperatorRequest::Switch { force }, done)
    };
    order(config, request)?;
    println!("{done}");
    Ok(())
}

/// `tandem lock`.
pub(crate) fn lock(config: &Config, on: bool, seconds: Option<u64>) -> Result<(), Failure> {
    order(config, OperatorRequest::Lock { on, seconds })?;
    println!("maintenance lock {}", if on { "set" } else { "taken off" });
    Ok(())
}

fn order(config: &Config, request: OperatorRequest) -> Result<(), Failure> {
    match ask(&config.keeper_socket(), "keeper", &request)? {
        OperatorAnswer::Done => Ok(()),
        OperatorAnswer::Refused(why) => Err(Failure::Other(anyhow!("refused: {why}"))),
        OperatorAnswer::Status(_) => Err(unexpected()),
    }
}

/// Colours, on a terminal only. They never say what the words do not.
#[derive(Clone, Copy)]
struct Paint {
    on: bool,
}

impl Paint {
    fn good(self, text: &str) -> String {
        self.with(32, text)
    }

    fn bad(self, text: &str) -> String {
        self.with(31, text)
    }

    fn judged(self, good: bool, text: &str) -> String {
        if good { self.good(text) } else { self.bad(text) }
    }

    fn with(self, colour: u8, text: &str) -> String {
        if self.on { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What is blocked comes first: it explains everything else that does not go.
fn blocked(blocks: Option<&[BlockRow]>, paint: Paint) -> String {
    let Some(blocks) = blocks else {
        return format!("{:<12}unknown: the server of this machine does not answer\n", "blocked");
    };
    let line = |block: &BlockRow| format!("{:<12}{}\n", "BLOCKED", paint.bad(&words(block)));
    blocks.iter().map(line).collect()
}

/// Why nothing is served here, where the configuration is lost.
fn lost(config: &Config, paint: Paint) -> String {
    if !config.state.join(LOST).exists() {
        return String::new();
    }
    let what = "the file was damaged, and the other machine has not brought it back: nothing is served here. \
                Start the other machine, or put a backup in place with `tandem restore`";
    format!("{:<12}{}\n", "CONFIG LOST", paint.bad(what))
}

/// Files that were found damaged while in use, as long as this server goes on with them.
fn suspects(config: &Config, paint: Paint) -> String {
    let of = |name: &str| {
        let found = tandem_store::suspected(&config.state.join(name))?;
        let what = format!(
            "{name} was found damaged while in use ({found}): look at the disk, and at the other machine: once \
             that has everything, the file is made anew from there"
        );
        Some(format!("{:<12}{}\n", "DAMAGED", paint.bad(&what)))
    };
    [tandem_config::FILE_NAME, tandem_store::FILE_NAME].into_iter().filter_map(of).collect()
}

/// How the database stands, where there is one.
fn database(config: &Config, paint: Paint) -> String {
    let line = super::store::line(config);
    let line = line.map(|(text, good)| if good { text } else { paint.bad(&text) });
    line.map_or_else(String::new, |text| format!("{:<12}{text}\n", "database"))
}

/// How the last backup of this machine went.
fn backups(config: &Config, now: Time, paint: Paint) -> String {
    let last = LastBackup::read(&config.state);
    let mut words = match (last.as_ref().and_then(|last| last.good.as_ref()), &config.backup) {
        (Some(good), _) => {
            let age = now.micros().saturating_sub(good.micros).max(0).unsigned_abs() / 1_000;
            format!("{} ago: {}", span(age), good.path)
        }
        (None, Some(_)) => paint.bad("none yet"),
        (None, None) => String::from("none: `tandem backup`, or a table [backup] in the file"),
    };
    if let Some(error) = last.and_then(|last| last.error) {
        words += &format!("; {}", paint.bad(&format!("the last try FAILED: {error}")));
    }
    format!("{:<12}{words}\n", "backup")
}

fn page(status: &Status, now: Time, paint: Paint) -> String {
    let mut page = String::new();
    let mut line = |name: &str, text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "{name:<12}{text}");
    };
    let role = paint.judged(status.role == Role::Active, &state_words(status));
    let lock = lock_words(status, paint);
    line("this", format!("{}: {role} for {}{lock}", status.seat, span(status.since_ms)));
    line("", format!("why: {}", status.why));
    if status.standing != status.why {
        line("", format!("now: {}", status.standing));
    }
    line("twin", twin_words(status.seat.other(), status.twin.as_ref(), paint));
    if let Some(words) = foreign_words(status) {
        line("", paint.bad(&words));
    }
    line("protected", protected_words(status, paint));
    line("config", config_words(status, paint));
    if let Some(words) = damaged_words(status) {
        line("", paint.bad(&words));
    }
    if let Some(switch) = &status.switch {
        line("switchover", switch_words(switch));
    }
    line("epoch", format!("{} (highest seen {})", status.reign, status.highest));
    if let Some(server) = &status.server {
        let report = &server.what;
        let serving = if report.serving { "serves phones" } else { "serves no phones" };
        let counts = format!("{} calls, {} logins", report.calls, report.bindings);
        line("server", format!("{serving}; {counts}; journal at {}", report.last_seq));
    }
    for service in &status.services {
        line("service", service_words(service, paint));
    }
    line("keeper", keeper_words(status, paint));
    for path in &status.paths {
        line("path", path_words(*path));
    }
    for conflict in &status.conflicts {
        let ago = span(conflict.ago_ms);
        line("conflict", paint.bad(&format!("{}, {ago} ago: find that device", conflict.what)));
    }
    if let Some(reach) = &status.reach {
        line("reach", reach_words(reach, paint));
    }
    if status.events_lost > 0 {
        let lost = format!("{} could not be kept on this disk", status.events_lost);
        line("events", paint.bad(&lost));
    }
    for (index, change) in status.history.iter().take(HISTORY_SHOWN).enumerate() {
        let at = Time::from_micros(now.micros() - micros(change.ago_ms)).to_seconds();
        let what = &change.what;
        let name = if index == 0 { "history" } else { "" };
        line(name, format!("{at} UTC  {} -> {}: {}", what.from, what.to, what.why));
    }
    page
}

fn state_words(status: &Status) -> String {
    let mut words = status.role.to_string();
    if words != status.state.to_string() {
        words += &format!(" ({})", status.state);
    }
    words
}

/// The maintenance lock, if it is set.
fn lock_words(status: &Status, paint: Paint) -> String {
    let ends =
        status.lock_left_ms.map_or(String::new(), |left| format!(" (ends in {})", span(left)));
    let words = paint.bad("maintenance lock on");
    if status.locked { format!("; {words}{ends}") } else { String::new() }
}

/// Who answered to the keeper's questions.
fn reach_words(reach: &When<Reach>, paint: Paint) -> String {
    let Reach { gateway, phones_asked, phones_answered } = reach.what;
    let gateway = match gateway {
        Some(true) => paint.good("the gateway answers"),
        Some(false) => paint.bad("the gateway is silent"),
        None => String::from("no gateway to ask"),
    };
    // Some phones answer to nobody but their server: silence is no fault.
    let phones = format!("{phones_answered} of {phones_asked} phones answer");
    format!("{gateway}; {phones} ({} ago)", span(reach.ago_ms))
}

/// What a switchover waits for.
fn switch_words(switch: &SwitchStatus) -> String {
    let calls = match switch.calls {
        0 => String::new(),
        1 => String::from("1 call to end"),
        calls => format!("{calls} calls to end"),
    };
    let twin = if switch.twin_ready { "" } else { "the other machine to be in sync" };
    let both = if calls.is_empty() || twin.is_empty() { "" } else { ", and for " };
    let what = format!("{calls}{both}{twin}");
    let what = if what.is_empty() { String::from("a moment") } else { what };
    let long = switch.waits_ms.map_or(String::new(), |ms| format!(" (for {} s now)", ms / 1_000));
    format!("waits for {what}{long}; `tandem switch --cancel` cancels it")
}

fn twin_words(seat: Seat, twin: Option<&TwinStatus>, paint: Paint) -> String {
    let Some(twin) = twin else {
        return format!("{seat}: {}", paint.bad("never heard: is its keeper running?"));
    };
    if !twin.heard {
        let silent = format!("silent for {}", span(twin.heard_ms_ago));
        return format!("{seat}: {}; was {} then", paint.bad(&silent), twin.state);
    }
    let mut words = format!("{seat}: {}", twin.role);
    if words.ends_with(&twin.state.to_string()) {
        words += ", heard";
    } else {
        words += &format!(" ({}), heard", twin.state);
    }
    if let Some(micros) = twin.round_trip_micros {
        words += &format!(" (round trip {micros} us)");
    }
    let flags = [
        (!twin.fit, "it could not serve"),
        (twin.locked, "maintenance lock on"),
        (!twin.carrier, "its network is gone"),
    ];
    for (_, flag) in flags.iter().filter(|(set, _)| *set) {
        words += &format!("; {}", paint.bad(flag));
    }
    words
}

/// A stranger of longer ago is of the past.
const STRANGER_MS: u64 = 60_000;

/// Why nobody is there who could be the twin, and what to do.
fn foreign_words(status: &Status) -> Option<String> {
    let (here, there) = (status.seat, status.seat.other());
    if status.same_seat {
        return Some(format!(
            "the other machine is set up as {here} too: set up as {there} the one that should be that, \
             by `tandem init` and the code of this pair; until then neither begins to serve"
        ));
    }
    let is_heard = status.twin.as_ref().is_some_and(|twin| twin.heard);
    let is_new = status.stranger_ms_ago.is_some_and(|ago| ago < STRANGER_MS);
    (is_new && !is_heard).then(|| {
        String::from(
            "a machine that does not know the secret of this pair sends to the heartbeat port: is the \
             other machine set up with the code of this pair?",
        )
    })
}

/// Calls, logins and call records are in the journal; users, numbers and settings are beside it.
fn protected_words(status: &Status, paint: Paint) -> String {
    if status.is_protected() && likeness(status).is_some_and(|likeness| likeness.is_equal()) {
        paint.good("yes: a takeover would lose nothing")
    } else if status.is_protected() {
        let but = paint.bad("but the configuration is not known to be equal");
        format!("{}, {but}", paint.good("calls, logins and call records: yes"))
    } else {
        paint.bad("NO: what happens now is on one machine only")
    }
}

/// How the configuration stands to that of the other machine, as the server of this one knows.
pub(super) fn likeness(status: &Status) -> Option<Likeness> {
    status.server.as_ref()?.what.config
}

/// Rows of the configuration that are damaged here, and what they wait for.
pub(super) fn damaged_words(status: &Status) -> Option<String> {
    let damaged = status.server.as_ref()?.what.damaged?;
    Some(damaged_sentence(damaged, likeness(status).is_some()))
}

fn damaged_sentence(DamagedRows { rows, twin_is_older }: DamagedRows, is_compared: bool) -> String {
    let waits_for = match (is_compared, twin_is_older) {
        (_, true) => "the other machine to be upgraded: its version compares no rows",
        (false, false) => "the other machine, to be taken from there",
        (true, false) => "the other machine to have the same changes, to be taken from there",
    };
    let rows =
        if rows == 1 { "1 row of it is".to_owned() } else { format!("{rows} rows of it are") };
    format!("{rows} damaged on this machine: waiting for {waits_for}; `tandem verify` names them")
}

fn config_words(status: &Status, paint: Paint) -> String {
    match (likeness(status), &status.server) {
        (Some(likeness), _) => paint.judged(likeness.is_equal(), &likeness.to_string()),
        (None, Some(_)) => {
            paint.bad("not compared with that of the other machine: no link to its server")
        }
        (None, None) => paint.bad("unknown: the server of this machine does not run"),
    }
}

fn service_words(service: &ServiceStatus, paint: Paint) -> String {
    let state = match service.state {
        ServiceState::Off => "off",
        ServiceState::Starting => "starting",
        ServiceState::Up => "up",
        ServiceState::Dying => "dying",
        ServiceState::Stopping => "stopping",
        ServiceState::Resting => "resting before its next start",
    };
    let mut words = paint.judged(service.state == ServiceState::Up, state);
    if let Some(up) = service.up_ms {
        words += &format!(" for {}", span(up));
    }
    if let Some(pid) = service.pid {
        words += &format!(", process {pid}");
    }
    if let Some(next) = service.next_start_ms {
        words += &format!(", starts again in {}", span(next));
    }
    if service.failing {
        words += &format!(", {}", paint.bad("FAILED too often of late"));
    }
    words += &format!(", {} restarts", service.restarts);
    if service.lines_dropped > 0 {
        words += &format!(", {} lines left out of the log", service.lines_dropped);
    }
    if let Some(exit) = &service.last_exit {
        words += &format!(", ended last with {exit}");
    }
    format!("{}: {words}", service.name)
}

fn keeper_words(status: &Status, paint: Paint) -> String {
    let priority = if status.real_time {
        paint.good("real-time priority")
    } else {
        paint.bad("no real-time priority, so time-outs are longer")
    };
    let silence = status.timings.silence.as_millis();
    let late = status.late_ms;
    format!("{priority}; silence limit {silence} ms; late by {late} ms at most of late")
}

fn path_words(path: PathStatus) -> String {
    match path.heard_ms_ago {
        Some(ago) => format!("{}: heartbeat {ago} ms ago", path.path + 1),
        None => format!("{}: no heartbeat yet", path.path + 1),
    }
}

fn micros(millis: u64) -> i64 {
    i64::try_from(millis.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

/// A length of time as people say it.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..10 => format!("{}.{} s", seconds, millis / 100 % 10),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        let spans = [(1_234, "1.2 s"), (99_000, "99 s"), (120_000, "2 min"), (7_200_000, "2 h")];
        for (millis, expected) in spans {
            assert_eq!(span(millis), expected);
        }
        assert_eq!(span(172_800_000), "2 days");
    }

    #[test]
    fn damaged_rows_are_counted_and_say_what_they_wait_for() {
        let words = |rows, twin_is_older, is_compared| {
            damaged_sentence(DamagedRows { rows, twin_is_older }, is_compared)
        };
        assert_eq!(
            words(1, false, false),
            "1 row of it is damaged on this machine: waiting for the other machine, to be taken from \
             there; `tandem verify` names them"
        );
        assert!(words(2, true, true).starts_with("2 rows of it are damaged on this machine"));
        assert!(words(2, true, true).contains("the other machine to be upgraded"));
        assert!(words(2, false, true).contains("the other machine to have the same changes"));
    }

    #[test]
    fn colours_are_for_terminals_only() {
        assert_eq!(Paint { on: false }.good("yes"), "yes");
        assert_eq!(Paint { on: true }.bad("no"), "\x1b[31mno\x1b[0m");
    }
}
