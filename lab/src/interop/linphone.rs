//! linphone, driven by its console: a phone that listens nowhere for connections, opens a new one
//! when the old one is gone, and logs in again on that.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{CWD, Mode, mkfifoat};
use tandem::demo::child::Child;
use tandem::demo::wait;

use super::people::{LIMIT, OTHERS, People};

/// How to install what is missing.
const INSTALL: &str = "run ./setup, or: apt-get install linphone-cli";

/// Whose phone it is.
const USER: [&str; 2] = ["lina", "208"];

/// The other phone, over TCP as well.
const OTHER: &str = "bert";

/// What linphone says.
const RINGS: &str = "Receiving new incoming call";
const CONNECTED: &str = "connected.";
const ENDED: &str = "ended (";

/// Starts it with its console on a pipe, and lets it say each line at once: settings, pipe, home.
const START: &str =
    r#"mkdir -p "$2/.local/share/linphone"; HOME="$2" exec stdbuf -oL linphonec -c "$0" <"$1""#;

/// A running linphone.
struct Linphone {
    child: Child,
    console: File,
    /// How much of what it said has been read.
    read: usize,
}

impl Linphone {
    fn start(people: &mut People) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("linphonec").is_file()) {
            bail!("linphone is not installed: {INSTALL}");
        }
        let [name, number] = USER;
        let (user, before) = (people.add_user(name, number)?, people.bindings()?);
        let folder = people.stage.folder.path().join(name);
        std::fs::create_dir(&folder)?;
        let server = people.stage.twins.virtual_address;
        let settings = format!(
            "[sip]\nsip_port=-1\nsip_tcp_port=-1\nuse_ipv6=0\nuse_info=1\nuse_rfc2833=0\ndefault_proxy=0\n\
             [proxy_0]\nreg_proxy=<sip:{server};transport=tcp>\nreg_identity=sip:{name}@{server}\n\
             reg_expires=3600\nreg_sendregister=1\n[auth_info_0]\nusername={name}\npasswd={}\n",
            user.password
        );
        std::fs::write(folder.join("settings"), settings)?;
        let pipe = folder.join("console");
        mkfifoat(CWD, &pipe, Mode::RWXU).context("cannot make a pipe")?;
        // Read and write, so that opening waits for nobody.
        let console = OpenOptions::new().read(true).write(true).open(&pipe)?;
        let paths =
            [folder.join("settings"), pipe, folder.clone()].map(|path| path.display().to_string());
        let arguments = ["-c", START, &paths[0], &paths[1], &paths[2]];
        let space = people.stage.place.space(OTHERS);
        let log = folder.join("linphone.log");
        let child = Child::start(name, Path::new("sh"), &arguments, space.as_ref(), &log)?;
        let mut phone = Self { child, console, read: 0 };
        phone.say("soundcard use files")?;
        people.wait_bindings(before + 1)?;
        Ok(phone)
    }

    fn say(&mut self, command: &str) -> Result<()> {
        writeln!(self.console, "{command}").context("linphone's console")
    }

    /// Waits until it says this.
    fn expect(&mut self, what: &str) -> Result<()> {
        wait::until(&format!("linphone's {what:?}"), LIMIT, || {
            self.child.still_runs()?;
            let said = std::fs::read(self.child.log())?;
            let said =
                String::from_utf8_lossy(said.get(self.read..).unwrap_or_default()).into_owned();
            let Some(at) = said.find(what) else { return Ok(None) };
            self.read += at + what.len();
            Ok(Some(()))
        })
    }
}

/// Called, then calling: both calls go on over a kill each.
pub(super) fn call(people: &mut People) -> Result<String> {
    let mut lina = Linphone::start(people)?;
    let [name, number] = USER;
    people.with([OTHER], |people, [bert]| {
        bert.dial(number)?;
        lina.expect(RINGS)?;
        bert.expect("CALL_RINGING", LIMIT)?;
        lina.say("answer")?;
        bert.expect("CALL_ESTABLISHED", LIMIT)?;
        lina.expect(CONNECTED)?;
        people.calls += 1;
        let first = kill(people)?;
        lina.say("5")?;
        let digit = bert.expect("CALL_DTMF_START", LIMIT)?.detail;
        ensure!(digit == "5", "the digit 5 came as {digit:?}");
        bert.hang_up()?;
        bert.expect("CALL_CLOSED", LIMIT)?;
        lina.expect(ENDED)?;

        lina.say(&format!("call {}", people.address(&people.number(OTHER)?)))?;
        bert.expect("CALL_INCOMING", LIMIT)?;
        bert.answer()?;
        bert.expect("CALL_ESTABLISHED", LIMIT)?;
        lina.expect(CONNECTED)?;
        people.calls += 1;
        let second = kill(people)?;
        lina.say("terminate")?;
        let why = bert.expect("CALL_CLOSED", LIMIT)?.detail;
        lina.expect(ENDED)?;
        Ok(format!(
            "taken over after {first} and {second} ms; the digit {digit} came; {name} was told; \
             bert was told: {why}"
        ))
    })
}

/// Kills the server, and waits until linphone has noticed and logged in again by itself: what it is
/// told to say before that it says on the connection that is gone.
fn kill(people: &mut People) -> Result<u128> {
    let [name, _] = USER;
    let before = people.logins(name)?;
    let took = people.kill()?;
    wait::until("linphone's new login", LIMIT, || {
        Ok((people.logins(name)? > before).then_some(()))
    })?;
    Ok(took)
}
