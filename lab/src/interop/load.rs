//! SIPp: a login with refresh and logout over TCP, and calls with a digit by INFO.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tandem::demo::child::Child;
use tandem::demo::phone::Phone;

use super::people::{LIMIT, OTHERS, People};
use crate::sipp::{first_errors, line, program};
use crate::stage::User;

/// SIPp is silent for so long; the kill falls into it.
const SILENT: Duration = Duration::from_secs(1);

/// How a SIPp ends whose calls all went as its scenario says.
const DONE: &str = "exit code 0";

/// The phone that answers, over TCP.
const CALLED: &str = "bert";

/// Whose phone SIPp is.
const CALLER: [&str; 2] = ["sally", "207"];

const LOGIN: &str = include_str!("../../scenarios/login.xml");
const DIGIT: &str = include_str!("../../scenarios/digit.xml");

/// One SIPp that runs a scenario once.
struct Run {
    name: &'static str,
    child: Child,
    errors: PathBuf,
}

impl Run {
    /// `transport` as SIPp names it: `u1` or `t1`.
    fn start(
        people: &People,
        name: &'static str,
        scenario: &str,
        transport: &str,
        silent: Duration,
        values: &str,
    ) -> Result<Self> {
        let base = people.stage.folder.path();
        let file = |ending: &str| base.join(format!("{name}.{ending}"));
        std::fs::write(file("xml"), scenario)?;
        std::fs::write(file("values"), format!("SEQUENTIAL\n{values}\n"))?;
        let errors = file("errors");
        let [xml, values, log] =
            [file("xml"), file("values"), errors.clone()].map(|path| path.display().to_string());
        let server = people.stage.twins.virtual_address.to_string();
        let address = people.others().to_string();
        let silent = silent.as_millis().to_string();
        #[rustfmt::skip]
        let arguments = [
            server.as_str(), "-t", transport, "-sf", &xml, "-inf", &values, "-i", &address,
            "-m", "1", "-d", &silent, "-cid_str", "%u-sally@others", "-recv_timeout", "8000",
            "-nostdin", "-trace_err", "-error_file", &log,
        ];
        let space = people.stage.place.space(OTHERS);
        let child = Child::start(name, &program()?, &arguments, space.as_ref(), &file("log"))?;
        Ok(Self { name, child, errors })
    }

    fn finish(mut self) -> Result<()> {
        let exit = self.child.wait(LIMIT)?.to_string();
        let errors = first_errors(&self.errors);
        ensure!(exit == DONE, "SIPp's {}: {exit}; {errors}", self.name);
        Ok(())
    }
}

/// Logs in, or refreshes that, or logs out (0 seconds), each over a connection of its own.
fn login(people: &People, name: &'static str, user: &User, turn: u32, seconds: u32) -> Result<()> {
    let values = line(user, &format!("{turn};{seconds}"));
    Run::start(people, name, LOGIN, "t1", Duration::ZERO, &values)?.finish()
}

/// A call that was there before the kill: a digit and its end after it.
pub(super) fn digit(people: &mut People) -> Result<String> {
    let [name, number] = CALLER;
    let user = people.add_user(name, number)?;
    people.with([CALLED], |people, [bert]| {
        let values = line(&user, &people.number(CALLED)?);
        let call = Run::start(people, "digit", DIGIT, "u1", SILENT, &values)?;
        pick_up(people, bert)?;
        let took = people.kill()?;
        let told = hear_digit(bert)?;
        call.finish()?;
        Ok(format!("taken over after {took} ms; {told}"))
    })
}

/// A login of before the kill is refreshed, used and ended after it.
pub(super) fn stream(people: &mut People) -> Result<String> {
    let [name, number] = CALLER;
    let user = people.add_user(name, number)?;
    people.with([CALLED], |people, [bert]| {
        let before = people.bindings()?;
        login(people, "login", &user, 1, 3600)?;
        people.wait_bindings(before + 1)?;
        let took = people.kill()?;
        login(people, "refresh", &user, 2, 3600)?;
        people.wait_bindings(before + 1)?;
        let values = line(&user, &people.number(CALLED)?);
        let call = Run::start(people, "call", DIGIT, "t1", Duration::ZERO, &values)?;
        pick_up(people, bert)?;
        let told = hear_digit(bert)?;
        call.finish()?;
        login(people, "logout", &user, 3, 0)?;
        people.wait_bindings(before)?;
        Ok(format!("taken over after {took} ms; refreshed; {told}; logged out"))
    })
}

fn pick_up(people: &mut People, phone: &mut Phone) -> Result<()> {
    phone.expect("CALL_INCOMING", LIMIT)?;
    phone.answer()?;
    phone.expect("CALL_ESTABLISHED", LIMIT)?;
    people.calls += 1;
    Ok(())
}

fn hear_digit(phone: &mut Phone) -> Result<String> {
    let digit = phone.expect("CALL_DTMF_START", LIMIT)?.detail;
    ensure!(digit == "5", "the digit 5 came as {digit:?}");
    let why = phone.expect("CALL_CLOSED", LIMIT)?.detail;
    Ok(format!("the digit {digit} came; {} was told: {why}", phone.user()))
}
