//! Real phones over every transport, each across a SIGKILL of the serving server.
//!
//! ```text
//!   anna, bert: TCP/IPv4     carl: UDP/IPv4 and a second phone over TCP     dora, emil: UDP/IPv6
//!   sally: SIPp              lina: linphone over TCP
//! ```
//!
//! A TCP connection ends with the server it ended at. So after each kill every phone must be reached
//! at its Contact or on the connection that it opens anew, and must be heard on that.
//!
//! Invariant: every check has killed a server and has seen the other take over, or says that it is
//! about the survivor of the kill before it.

mod linphone;
mod load;
mod people;

use anyhow::{Result, ensure};
use tandem::demo::phone::Phone;
use tandem::demo::report::{Report, Voice};
use tandem::demo::wait;

use people::{LIMIT, People, answer, hang_up, heard_again, refused, ring};

/// Runs all checks whose name has `only` in it; returns the report.
pub(crate) fn run(only: &str, voice: Voice) -> Report {
    let mut report = Report::new("Real phones over every transport, across SIGKILLs", voice);
    for (number, act) in (1..).zip([&ON_STREAMS[..], &ON_ALL[..]]) {
        let scenes: Vec<_> = act.iter().filter(|(what, _)| what.contains(only)).copied().collect();
        if scenes.is_empty() || wait::asked_to_stop() {
            continue;
        }
        if let Err(error) = tell(number, &scenes, &mut report) {
            report.check("the run comes to its end", false, &format!("{error:#}"));
        }
    }
    report
}

/// One check: what must hold, and how that is seen.
type Scene = (&'static str, fn(&mut People) -> Result<String>);

/// Each part has a pair of its own: a keeper lets a server wait that died five times in a minute.
const ON_STREAMS: [Scene; 8] = [
    ("TCP: a call goes on; its caller hangs up", tcp_caller_hangs_up),
    ("TCP: a new call the other way, by the survivor", tcp_the_other_way),
    ("TCP: a call goes on; who was called hangs up", tcp_called_hangs_up),
    ("TCP: a call to a phone right after the takeover rings", tcp_rings_right_after),
    ("TCP: a call that rang is answered after the takeover", tcp_answered_after),
    ("TCP: a call that rang is given up after the takeover", tcp_cancelled_after),
    ("TCP: a busy phone, an unknown number, by the survivor", busy_and_unknown),
    ("TCP: hold and resume after the takeover", hold_and_resume),
];

const ON_ALL: [Scene; 9] = [
    ("IPv6: a call goes on; its caller hangs up", six_caller_hangs_up),
    ("IPv6: a new call the other way, by the survivor", six_the_other_way),
    ("TCP caller, UDP phone: a call goes on; the phone hangs up", mixed),
    ("two phones of a user ring: the one over TCP answers", second_phone_answers),
    ("two phones of a user ring: the one over UDP answers", first_phone_answers),
    ("UDP: a login of before ends at the survivor", log_out),
    ("SIPp: a digit by INFO in a call of before the takeover", load::digit),
    ("SIPp over TCP: refresh, call and logout at the survivor", load::stream),
    ("linphone over TCP: two calls go on, a digit, both are told", linphone::call),
];

fn tell(number: u8, scenes: &[Scene], report: &mut Report) -> Result<()> {
    let mut people = report.step("a pair with an IPv6 address; phones log in", || {
        let people = People::gather()?;
        let seen = people.describe();
        Ok((people, seen))
    })?;
    let mut all_held = true;
    for (what, scene) in scenes {
        let result = scene(&mut people);
        all_held &= result.is_ok();
        match result {
            Ok(seen) => report.check(what, true, &seen),
            Err(error) => {
                report.check(what, false, &format!("{error:#}"));
                // The calls that it left behind must not break the next one.
                people.clear()?;
            }
        }
        ensure!(!wait::asked_to_stop(), "stopped by a signal");
    }
    let (kills, calls) = (people.kills, people.calls);
    let seen = format!("{kills} kills, {calls} calls that were answered");
    report.check("servers were killed and calls were made", kills > 0 && calls > 0, &seen);
    let records = people.records();
    all_held &= records.is_ok();
    let (held, seen) = match records {
        Ok(seen) => (true, seen),
        Err(error) => (false, format!("{error:#}")),
    };
    report.check("both machines show the same records, all of them closed", held, &seen);
    if !all_held {
        let kept = people.keep(number)?;
        report.voice().say(&format!("  logs are kept in {}", kept.display()));
    }
    Ok(())
}

/// Two talk while the server is killed; then `last` hangs up and the other is told.
fn talk_across(
    people: &mut People,
    [caller, called]: [&'static str; 2],
    last: &'static str,
) -> Result<String> {
    people.with([caller, called], |people, [one, other]| {
        let number = people.number(called)?;
        ring(one, other, &number)?;
        answer(one, other)?;
        people.calls += 1;
        let before = closed([&mut *one, &mut *other])?;
        let took = people.kill()?;
        heard_again(one)?;
        heard_again(other)?;
        ensure!(closed([&mut *one, &mut *other])? == before, "a phone closed the call");
        let told = if last == caller { hang_up(one, other)? } else { hang_up(other, one)? };
        Ok(format!("taken over after {took} ms; heard both ways; {told}"))
    })
}

/// A call by whoever serves now, without a kill.
fn talk(people: &mut People, [caller, called]: [&'static str; 2]) -> Result<String> {
    people.with([caller, called], |people, [one, other]| {
        let number = people.number(called)?;
        ring(one, other, &number)?;
        answer(one, other)?;
        people.calls += 1;
        hang_up(one, other).map(|told| format!("rang, heard both ways; {told}"))
    })
}

fn closed(phones: [&mut Phone; 2]) -> Result<[usize; 2]> {
    let [one, other] = phones.map(|phone| phone.count("CALL_CLOSED"));
    Ok([one?, other?])
}

fn tcp_caller_hangs_up(people: &mut People) -> Result<String> {
    talk_across(people, ["anna", "bert"], "anna")
}

fn tcp_the_other_way(people: &mut People) -> Result<String> {
    talk(people, ["bert", "anna"])
}

fn tcp_called_hangs_up(people: &mut People) -> Result<String> {
    talk_across(people, ["anna", "bert"], "bert")
}

fn tcp_rings_right_after(people: &mut People) -> Result<String> {
    let took = people.kill()?;
    let told = talk(people, ["emma", "anna"])?;
    Ok(format!("taken over after {took} ms; {told}"))
}

fn tcp_answered_after(people: &mut People) -> Result<String> {
    people.with(["anna", "bert"], |people, [anna, bert]| {
        ring(anna, bert, &people.number("bert")?)?;
        let took = people.kill()?;
        answer(anna, bert)?;
        people.calls += 1;
        let told = hang_up(bert, anna)?;
        Ok(format!("taken over after {took} ms; answered, heard both ways; {told}"))
    })
}

fn tcp_cancelled_after(people: &mut People) -> Result<String> {
    people.with(["anna", "bert"], |people, [anna, bert]| {
        ring(anna, bert, &people.number("bert")?)?;
        let took = people.kill()?;
        let told = hang_up(anna, bert)?;
        Ok(format!("taken over after {took} ms; it stopped ringing: {told}"))
    })
}

fn busy_and_unknown(people: &mut People) -> Result<String> {
    people.with(["anna", "bert"], |people, [anna, bert]| {
        ring(anna, bert, &people.number("bert")?)?;
        bert.hang_up()?;
        let busy = anna.expect("CALL_CLOSED", LIMIT)?.detail;
        ensure!(busy.starts_with("486"), "a busy phone gave {busy:?}");
        bert.expect("CALL_CLOSED", LIMIT)?;
        let unknown = refused(anna, "999")?;
        ensure!(unknown.starts_with("404"), "an unknown number gave {unknown:?}");
        Ok(format!("{busy}; {unknown}"))
    })
}

fn hold_and_resume(people: &mut People) -> Result<String> {
    people.with(["anna", "bert"], |people, [anna, bert]| {
        ring(anna, bert, &people.number("bert")?)?;
        answer(anna, bert)?;
        people.calls += 1;
        let took = people.kill()?;
        let offers = bert.count("CALL_REMOTE_SDP")?;
        anna.command("hold", "")?;
        wait::until("bert's phone to be told of the hold", LIMIT, || {
            Ok((bert.count("CALL_REMOTE_SDP")? > offers).then_some(()))
        })?;
        let space = people.space("anna")?;
        people::audio(&space, false)?;
        anna.command("resume", "")?;
        people::audio(&space, true)?;
        let told = hang_up(bert, anna)?;
        Ok(format!("taken over after {took} ms; silence, then heard again; {told}"))
    })
}

fn six_caller_hangs_up(people: &mut People) -> Result<String> {
    talk_across(people, ["dora", "emil"], "dora")
}

fn six_the_other_way(people: &mut People) -> Result<String> {
    talk(people, ["emil", "dora"])
}

fn mixed(people: &mut People) -> Result<String> {
    talk_across(people, ["anna", "emma"], "emma")
}

/// `carl` has two phones: the first over UDP, the second over TCP.
fn second_phone_answers(people: &mut People) -> Result<String> {
    one_of_two_answers(people, ["carl 2", "carl"])
}

fn first_phone_answers(people: &mut People) -> Result<String> {
    one_of_two_answers(people, ["carl", "carl 2"])
}

fn one_of_two_answers(people: &mut People, [taker, other]: [&'static str; 2]) -> Result<String> {
    people.with(["anna", taker, other], |people, [anna, taker, other]| {
        ring(anna, taker, &people.number("carl")?)?;
        other.expect("CALL_INCOMING", LIMIT)?;
        let took = people.kill()?;
        answer(anna, taker)?;
        people.calls += 1;
        let why = other.expect("CALL_CLOSED", LIMIT)?.detail;
        let told = hang_up(anna, taker)?;
        Ok(format!("taken over after {took} ms; the other stopped ringing ({why}); {told}"))
    })
}

fn log_out(people: &mut People) -> Result<String> {
    people.with(["emma", "anna"], |people, [emma, anna]| {
        let took = people.kill()?;
        let logins = people.bindings()?;
        emma.command("uadel", &people.address("emma"))?;
        wait::until(
            "a login less",
            LIMIT,
            || Ok((people.bindings()? + 1 == logins).then_some(())),
        )?;
        let gone = refused(anna, &people.number("emma")?)?;
        ensure!(gone.starts_with("480"), "who is not logged in gave {gone:?}");
        emma.log_in(LIMIT)?;
        ring(anna, emma, &people.number("emma")?)?;
        hang_up(anna, emma)?;
        Ok(format!("taken over after {took} ms; {gone}; logged in again, rings"))
    })
}
