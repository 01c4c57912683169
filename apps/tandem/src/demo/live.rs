//! Follows a pair in the terminal: what both machines tell, as it happens, until Ctrl-C.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::place::{Place, SIP_PORT};
use super::report::{Colour, Voice};
use super::twins::{Serving, Twins};
use super::wait;

/// The pair is up within this.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks at the logs.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Pause between two questions who serves.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The users of the demo: name and number.
const USERS: [(&str, &str); 2] = [("alice", "201"), ("bob", "202")];

/// Starts a pair and follows it until Ctrl-C.
///
/// # Errors
///
/// The pair does not come up; a keeper has ended.
pub(super) fn follow(program: &Path, folder: &Path, place: &Place, voice: Voice) -> Result<()> {
    let mut twins = Twins::set_up(program, folder, place)?;
    voice.say("Starting two servers ...");
    twins.start()?;
    let serving = twins.wait_protected(START_LIMIT)?;
    let mut passwords = Vec::new();
    for (name, number) in USERS {
        passwords.push(twins.add_user(serving.index, name, number)?);
    }
    let words = introduction(&twins, program, &serving, &passwords, voice);
    voice.say(&words);
    let mut tails = [Tail::of(&twins.machines[0].log)?, Tail::of(&twins.machines[1].log)?];
    let mut shown = String::new();
    let mut ask_at = Instant::now();
    while !wait::asked_to_stop() {
        let [mut lines, standbys] = [tails[0].lines()?, tails[1].lines()?];
        lines.extend(standbys);
        // Stable: what a machine said keeps its order also within one millisecond.
        lines.sort_by_key(|line| time(line));
        for line in &lines {
            tell(line, voice);
        }
        if Instant::now() >= ask_at {
            ask_at = Instant::now() + ASK_EVERY;
            let now = standing(&mut twins, voice)?;
            if now != shown {
                voice.say(&now);
                shown = now;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    voice.say("\nStopping both servers.");
    Ok(())
}

/// What there is and what to try.
fn introduction(
    twins: &Twins,
    program: &Path,
    serving: &Serving,
    passwords: &[String],
    voice: Voice,
) -> String {
    let bold = |text: &str| voice.paint(Colour::Bold, text);
    let server = twins.virtual_address.ip();
    let accounts: Vec<_> = USERS
        .iter()
        .zip(passwords)
        .map(|((name, number), password)| {
            format!("  user {name:<6} number {number}   password {}", bold(password))
        })
        .collect();
    let [master, standby] = &twins.machines;
    let (tandem, config) = (program.display(), master.config_path.display());
    let own = |addresses: &[std::net::IpAddr]| addresses.first().map(ToString::to_string);
    format!(
        "\n{title}\n\n  server {address}  port {SIP_PORT}, UDP or TCP (a loopback address: phones on this machine)\n\
         {accounts}\n\n  master  {master_address}\n  standby {standby_address}\n\n\
         {try_this}\n\n\
         1. Set up two softphones with the two accounts and call 202 from alice's.\n\
         2. While you talk, kill the server that serves:\n\n     kill -9 {pid}\n\n\
         3. Go on talking, hang up, call again. Then look:\n\n     \
         {tandem} --config {config} status\n     \
         {tandem} --config {config} call list\n     \
         {tandem} --config {standby_config} cdr list\n\n\
         Or see it happen without any phone of yours: {tandem} demo --story\n\n\
         {follow} (Ctrl-C stops everything)\n",
        title = bold("A pair of servers runs on this machine"),
        address = bold(&server.to_string()),
        accounts = accounts.join("\n"),
        master_address = own(&master.config.address).unwrap_or_default(),
        standby_address = own(&standby.config.address).unwrap_or_default(),
        try_this = bold("Try this"),
        pid = serving.pid,
        standby_config = standby.config_path.display(),
        follow = bold("What both machines tell"),
    )
}

/// One line: who serves, and whether the other could take over.
fn standing(twins: &mut Twins, voice: Voice) -> Result<String> {
    let Some(Serving { index, pid, status }) = twins.serving()? else {
        return Ok(voice.paint(Colour::Red, "  ── nobody serves ──"));
    };
    let seat = twins.machines[index].seat;
    let text = format!("  ── the {seat} serves (kill -9 {pid}), ");
    Ok(if status.protected && status.twin_ready {
        voice.paint(Colour::Green, &format!("{text}protected by its twin ──"))
    } else {
        voice.paint(Colour::Yellow, &format!("{text}unprotected ──"))
    })
}

/// Prints one line of a log for the person or the program that watches.
fn tell(line: &str, voice: Voice) {
    if voice == Voice::Data {
        println!("{line}");
        return;
    }
    let Ok(fact) = serde_json::from_str::<Value>(line) else {
        // Not a fact: a panic's message, for example.
        println!("{line}");
        return;
    };
    let word = |key: &str| fact.get(key).and_then(Value::as_str).unwrap_or_default();
    // 2026-11-22T14:03:05.123Z: the time of day is enough here.
    let time = word("time").split_once('T').map_or("", |(_, time)| time.trim_end_matches('Z'));
    let who = format!("{:<7} {:<6}", word("seat"), word("service"));
    println!(
        "  {} {} {}",
        voice.paint(Colour::Dim, time),
        voice.paint(Colour::Bold, &who),
        word("text")
    );
}

/// When a line was written; lines without a time come first.
fn time(line: &str) -> String {
    let fact = serde_json::from_str::<Value>(line).unwrap_or_default();
    fact["time"].as_str().unwrap_or_default().to_owned()
}

/// Reads what is added to a file.
#[derive(Debug)]
struct Tail {
    file: File,
    rest: Vec<u8>,
}

impl Tail {
    fn of(path: &Path) -> Result<Self> {
        let file = File::open(path);
        let file = file.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { file, rest: Vec::new() })
    }

    /// The whole lines that are new.
    fn lines(&mut self) -> Result<Vec<String>> {
        self.file.read_to_end(&mut self.rest)?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        Ok(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_tail_gives_each_line_once_and_only_when_it_is_whole() {
        let path = std::env::temp_dir().join(format!("tandem-tail-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let mut tail = Tail::of(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(tail.lines().unwrap().is_empty());
        file.write_all(b"one\ntwo\nth").unwrap();
        assert_eq!(tail.lines().unwrap(), ["one", "two"]);
        file.write_all(b"ree\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["three"]);
    }
}
