//! The story: two phones, a call, the serving server killed in the middle of it, and nothing is lost.
//!
//! Every step is a check; a step that fails ends the story. Nothing is judged by how long it took:
//! times are measured and printed, and the deadlines here only say when to give up.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tandem_keeper::Status;

use super::child::signal;
use super::phone::{Phone, Setup};
use super::place::{CLIENT, CLIENT_NAME, FIRST_PHONE, Place};
use super::probe::{Probe, Seen, sum_up};
use super::recording::longest_pause;
use super::report::{Report, Voice};
use super::twins::{Serving, Twins, word};
use super::wait;

/// When to give up on each thing.
const START_LIMIT: Duration = Duration::from_secs(60);
const PHONE_LIMIT: Duration = Duration::from_secs(20);

/// Calls that are made in all.
const CALLS: usize = 2;

/// The audio of so many packets must be heard before and after the fault: one second.
const PIECES: usize = 50;

/// A tone is louder than this; silence is not (the tone's peak: 13,948).
const TONE: u16 = 1000;

/// The probe runs so long before the fault, to show that all is well without one.
const BEFORE_FAULT: Duration = Duration::from_millis(500);

/// Tells the story of a pair made of `program` in `folder`; returns the finished report.
///
/// # Errors
///
/// Only what keeps the story from being told at all; what broke is in the report.
pub fn tell(program: &Path, folder: &Path, place: &Place, voice: Voice) -> Result<Report> {
    let mut report = Report::new("A pair you can call through", voice);
    voice.say(&format!("  {}\n", place.describe()));
    if let Err(error) = chapters(&mut report, program, folder, place)
        && !report.is_broken()
    {
        // Not a step of its own, or it would be in the report already.
        report.check("the story is told to its end", false, &format!("{error:#}"));
    }
    Ok(report)
}

fn chapters(report: &mut Report, program: &Path, folder: &Path, place: &Place) -> Result<()> {
    let mut twins = Twins::set_up(program, folder, place)?;
    let serving = report.step("two servers start and protect each other", || {
        twins.start()?;
        let serving = twins.wait_protected(START_LIMIT)?;
        let seat = twins.machines[serving.index].seat;
        let seen = format!("the {seat} serves, process {}", serving.pid);
        Ok((serving, seen))
    })?;
    let [mut alice, mut bob] = phones(report, &mut twins, &serving, folder, place)?;
    talk(
        report,
        &mut alice,
        &mut bob,
        "202",
        "alice calls bob, who answers; each hears the other",
    )?;
    kill(report, &mut twins, serving, [&mut alice, &mut bob], place)?;
    hang_up(report, &mut alice, &mut bob, "alice hangs up; bob's phone is told by the survivor")?;
    talk(report, &mut bob, &mut alice, "201", "bob calls alice: a new call by the survivor")?;
    hang_up(report, &mut bob, &mut alice, "bob hangs up; alice's phone is told")?;
    let logins = [&mut alice, &mut bob].map(|phone| phone.count("REGISTER_OK"));
    let [Ok(alices), Ok(bobs)] = logins else { anyhow::bail!("the phones are gone") };
    let seen = format!("logins in all: alice {alices}, bob {bobs}");
    report.check("no phone logged in again", (alices, bobs) == (1, 1), &seen);
    records(report, &twins)
}

fn phones(
    report: &mut Report,
    twins: &mut Twins,
    serving: &Serving,
    folder: &Path,
    place: &Place,
) -> Result<[Phone; 2]> {
    let (index, server) = (serving.index, twins.virtual_address);
    let mut start = |user: &str, number: &str, address: IpAddr| {
        let password = twins.add_user(index, user, number)?;
        let space = place.space(user);
        let folder = folder.join(user);
        let (password, space, folder) = (password.as_str(), space.as_ref(), folder.as_path());
        Phone::start(&Setup { user, password, address, server, space, folder })
    };
    let mut phones = report.step("two users are added and two phones start", || {
        let alice = start("alice", "201", place.address(FIRST_PHONE))?;
        let bob = start("bob", "202", place.address(FIRST_PHONE + 1))?;
        Ok(([alice, bob], String::from("alice 201, bob 202")))
    })?;
    let times = report.step("both phones log in", || {
        let [alice, bob] = &mut phones;
        let times = [alice.log_in(PHONE_LIMIT)?, bob.log_in(PHONE_LIMIT)?];
        Ok((times, format!("at {server}")))
    })?;
    report.time("login of a phone", times[0].max(times[1]), "the slower of the two");
    Ok(phones)
}

/// One calls, the other answers, both hear the other's tone.
fn talk(
    report: &mut Report,
    caller: &mut Phone,
    called: &mut Phone,
    number: &str,
    what: &str,
) -> Result<()> {
    report.step(what, || {
        caller.dial(number)?;
        called.expect("CALL_INCOMING", PHONE_LIMIT)?;
        caller.expect("CALL_RINGING", PHONE_LIMIT)?;
        called.answer()?;
        caller.expect("CALL_ESTABLISHED", PHONE_LIMIT)?;
        called.expect("CALL_ESTABLISHED", PHONE_LIMIT)?;
        listen(caller)?;
        listen(called)?;
        let loudest = [caller.loudest()?, called.loudest()?];
        ensure!(loudest.iter().all(|l| *l > TONE), "the audio is silent: {loudest:?}");
        Ok(((), String::from("ringing, answered, a tone both ways")))
    })
}

/// Waits until the phone has heard another second of audio; returns when that began.
fn listen(phone: &mut Phone) -> Result<()> {
    let before = phone.heard()?.len();
    let what = format!("audio in {}'s phone", phone.user());
    wait::until(&what, PHONE_LIMIT, || {
        phone.still_runs()?;
        Ok((phone.heard()?.len() >= before + PIECES).then_some(()))
    })
}

/// Kills the serving server in the middle of the call and measures what people notice.
fn kill(
    report: &mut Report,
    twins: &mut Twins,
    serving: Serving,
    [alice, bob]: [&mut Phone; 2],
    place: &Place,
) -> Result<()> {
    let client = place.space(CLIENT_NAME);
    let probe = Probe::start(client.as_ref(), place.address(CLIENT), twins.virtual_address)?;
    wait::pass("some requests before the fault", BEFORE_FAULT)?;
    let killed = Instant::now();
    report.step("SIGKILL to the serving server: the other takes over", || {
        signal(serving.pid, Signal::KILL)?;
        let now = twins.wait_takeover(serving.index, START_LIMIT)?;
        let seen = format!("the {} serves, process {}", twins.machines[now.index].seat, now.pid);
        Ok(((), seen))
    })?;
    let protected =
        report.step("the killed server is back: the pair is protected again", || {
            let now = twins.wait_protected(START_LIMIT)?;
            let took = killed.elapsed();
            ensure!(now.index != serving.index, "the role went back by itself");
            let back = twins.status(serving.index)?.map_or(0, |status| restarts(&status));
            ensure!(back == 1, "the killed server was started again {back} times");
            Ok((took, format!("the {} is its twin now", twins.machines[serving.index].seat)))
        })?;
    report.step("the call goes on: audio both ways, nobody hung up", || {
        listen(alice)?;
        listen(bob)?;
        let closed = [alice.count("CALL_CLOSED")?, bob.count("CALL_CLOSED")?];
        ensure!(closed == [0, 0], "the call was closed: {closed:?}");
        Ok(((), format!("{PIECES} more packets heard by each")))
    })?;
    let until = Instant::now();
    let audio = longest_pause(alice.heard()?, killed, until).max(longest_pause(
        bob.heard()?,
        killed,
        until,
    ));
    let seen = report.step("requests are answered again", || {
        let seen = sum_up(&probe.finish()?, killed)?;
        Ok((seen, format!("{} of {} were answered", seen.asked - seen.lost, seen.asked)))
    })?;
    figures(report, &seen, audio, protected);
    Ok(())
}

/// How often the services of a machine were started again.
fn restarts(status: &Status) -> u64 {
    status.services.iter().map(|service| service.restarts).sum()
}

fn figures(report: &mut Report, seen: &Seen, audio: Duration, protected: Duration) {
    let Seen { outage, until_served, lost, refused, asked } = *seen;
    report.time(
        "until the other server served",
        until_served,
        "since the SIGKILL, as a client sees it",
    );
    report.time("outage", outage, "longest time between two answers; a request every 10 ms");
    let note = format!("of {asked}, each sent once");
    // Counts are far below 2^52.
    report.figure("requests lost", lost as f64, "requests", &note);
    report.figure("requests refused", refused as f64, "requests", "answered, but not with 200");
    report.time(
        "longest pause in the audio",
        audio,
        "as the phones heard it; a packet every 20 ms",
    );
    report.time("until protected again", protected, "since the SIGKILL");
}

fn hang_up(report: &mut Report, one: &mut Phone, other: &mut Phone, what: &str) -> Result<()> {
    report.step(what, || {
        one.hang_up()?;
        let event = other.expect("CALL_CLOSED", PHONE_LIMIT)?;
        one.expect("CALL_CLOSED", PHONE_LIMIT)?;
        Ok(((), event.detail))
    })
}

/// Both machines must show the same records: the call over which the server was killed, once, and
/// the one after it.
fn records(report: &mut Report, twins: &Twins) -> Result<()> {
    report.step("both machines show the same single record of each call", || {
        let mut last = String::new();
        let seen = wait::until("the records of two calls on both machines", PHONE_LIMIT, || {
            let [master, standby] = [twins.records(0)?, twins.records(1)?];
            last = format!("master {}, standby {} records", master.len(), standby.len());
            let whole = |records: &[serde_json::Value]| {
                records.len() == CALLS && records.iter().all(|record| !record["end"].is_null())
            };
            Ok((whole(&master) && whole(&standby)).then_some([master, standby]))
        });
        let [master, standby] = seen.map_err(|error| error.context(last))?;
        ensure!(master == standby, "they differ: {master:?} and {standby:?}");
        let answered = master.iter().all(|record| word(record, "outcome") == "answered");
        ensure!(answered, "a call is not shown as answered: {master:?}");
        let calls: Vec<_> = master.iter().map(brief).collect();
        Ok(((), calls.join("; ")))
    })
}

fn brief(record: &serde_json::Value) -> String {
    let [from, to] = ["origination_number", "destination_number"].map(|field| word(record, field));
    format!("{from} to {to}, {} s", record["talk_seconds"])
}
