//! The pair, the people and their phones.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tandem::config::Prefix;
use tandem::demo::child::{command_in, signal};
use tandem::demo::phone::{Phone, Setup};
use tandem::demo::place::{CLIENT, FIRST_PHONE, Folder, MASTER, Place, SIP_PORT, STANDBY};
use tandem::demo::place::{CLIENT_NAME, VIRTUAL};
use tandem::demo::space::{INTERFACE, Space};
use tandem::demo::twins::{Serving, Twins};
use tandem::demo::wait;
use tandem_types::Transport::{self, Tcp, Udp};

use crate::calls;
use crate::stage::{PROTECTED_LIMIT, Stage, User, program};

/// When to give up on a phone.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// The audio of so many packets must be heard: half a second.
const PIECES: usize = 25;

/// So long without audio is silence: a packet comes every 20 ms.
const SILENCE: Duration = Duration::from_millis(400);

/// Packets that are no audio (RTCP) may come within that time.
const STRAY: u64 = 2;

/// How they speak SIP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Over {
    Four(Transport),
    Six,
}

/// Machines with phones: name, user, number, how.
const PHONES: [(&str, &str, &str, Over); 7] = [
    ("anna", "anna", "201", Over::Four(Tcp)),
    ("bert", "bert", "202", Over::Four(Tcp)),
    ("carl", "carl", "203", Over::Four(Udp)),
    ("carl 2", "carl", "203", Over::Four(Tcp)),
    ("emma", "emma", "204", Over::Four(Udp)),
    ("dora", "dora", "205", Over::Six),
    ("emil", "emil", "206", Over::Six),
];

/// The machine of phones that are made of something else than baresip.
pub(super) const OTHERS: &str = "others";

/// The pair, those who have a phone, and what has been done. Fields end in this order.
pub(super) struct People {
    phones: BTreeMap<&'static str, Phone>,
    /// The pair.
    pub(super) stage: Stage,
    /// Who serves.
    serving: Serving,
    passwords: BTreeMap<String, String>,
    /// How often a server was killed.
    pub(super) kills: usize,
    /// Calls that were answered.
    pub(super) calls: usize,
}

impl People {
    /// Starts everything; all phones are logged in.
    pub(super) fn gather() -> Result<Self> {
        let mut hosts: Vec<String> = PHONES.iter().map(|(name, ..)| host(name)).collect();
        hosts.push(OTHERS.to_owned());
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let place = Place::machines(&hosts)?;
        let numbered = [("master", MASTER), ("standby", STANDBY), (CLIENT_NAME, CLIENT)];
        for (name, number) in numbered.into_iter().chain(hosts.into_iter().zip(FIRST_PHONE..)) {
            let space = place.space(name).context("no machine")?;
            add_six(&space, number)?;
        }
        let folder = Folder::new(None)?;
        let virtual_six = Prefix { ip: six(VIRTUAL), length: SIX_BITS };
        let mut twins = Twins::set_up_with(&program()?, folder.path(), &place, &[virtual_six])?;
        twins.start()?;
        let serving = twins.wait_protected(PROTECTED_LIMIT)?;
        let stage = Stage { twins, folder, place };
        let (phones, passwords) = (BTreeMap::new(), BTreeMap::new());
        let mut people = Self { phones, stage, serving, passwords, kills: 0, calls: 0 };
        for (number, (name, user, extension, over)) in (FIRST_PHONE..).zip(PHONES) {
            people.start(name, user, extension, over, number)?;
        }
        people.wait_bindings(u32::try_from(PHONES.len())?)?;
        Ok(people)
    }

    fn start(
        &mut self,
        name: &'static str,
        user: &str,
        extension: &str,
        over: Over,
        number: u8,
    ) -> Result<()> {
        let password = self.add_user(user, extension)?.password;
        let (address, server, transport) = match over {
            Over::Four(transport) => {
                (self.stage.place.address(number), self.stage.twins.virtual_address, transport)
            }
            Over::Six => (six(number), SocketAddr::new(six(VIRTUAL), SIP_PORT), Udp),
        };
        let space = self.stage.place.space(&host(name));
        let folder = self.stage.folder.path().join(host(name));
        let (password, space, folder) = (password.as_str(), space.as_ref(), folder.as_path());
        let mut phone = Phone::start(&Setup { user, password, address, server, space, folder })?;
        phone.log_in_over(transport, LIMIT)?;
        self.phones.insert(name, phone);
        Ok(())
    }

    /// Adds a user, where there is none of that name.
    pub(super) fn add_user(&mut self, name: &str, number: &str) -> Result<User> {
        if !self.passwords.contains_key(name) {
            let password = self.stage.twins.add_user(self.serving.index, name, number)?;
            self.passwords.insert(name.to_owned(), password);
        }
        let password = self.passwords.get(name).cloned().unwrap_or_default();
        Ok(User { name: name.to_owned(), number: number.to_owned(), password })
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        let over = |wanted: Over| PHONES.iter().filter(|(.., over)| *over == wanted).count();
        let (tcp, udp) = (over(Over::Four(Tcp)), over(Over::Four(Udp)));
        format!("{tcp} phones over TCP, {udp} over UDP, {} over UDP on IPv6", over(Over::Six))
    }

    /// Does something with these phones.
    pub(super) fn with<const N: usize, T>(
        &mut self,
        names: [&'static str; N],
        work: impl FnOnce(&mut Self, [&mut Phone; N]) -> Result<T>,
    ) -> Result<T> {
        let mut taken = Vec::new();
        for name in names {
            taken.extend(self.phones.remove(name).map(|phone| (name, phone)));
        }
        let mut borrowed: Vec<&mut Phone> = taken.iter_mut().map(|(_, phone)| phone).collect();
        let all = std::mem::take(&mut borrowed).try_into();
        let result = match all {
            Ok(all) => work(self, all),
            Err(_) => Err(anyhow::anyhow!("not all of {names:?} have a phone")),
        };
        self.phones.extend(taken);
        result
    }

    /// The number of somebody with a phone.
    pub(super) fn number(&self, name: &str) -> Result<String> {
        let found = PHONES.iter().find(|(phone, ..)| *phone == name);
        found.map(|(_, _, number, _)| (*number).to_owned()).with_context(|| format!("no {name}"))
    }

    /// The address of a user at the pair.
    pub(super) fn address(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.stage.twins.virtual_address)
    }

    /// The machine of somebody's phone.
    pub(super) fn space(&self, name: &str) -> Result<Space> {
        self.stage.place.space(&host(name)).context("no machine")
    }

    /// How many logins the server that serves has.
    pub(super) fn bindings(&mut self) -> Result<u32> {
        let status = self.stage.twins.status(self.serving.index)?;
        let report = status.and_then(|status| status.server);
        report.map(|report| report.what.bindings).context("the keeper says nothing of its server")
    }

    /// Waits until the server that serves has so many logins.
    pub(super) fn wait_bindings(&mut self, wanted: u32) -> Result<()> {
        let what = format!("{wanted} logins");
        wait::until(&what, LIMIT, || Ok((self.bindings()? == wanted).then_some(())))
    }

    /// How many connections or addresses a user has logged in from, by the servers' logs.
    pub(super) fn logins(&self, user: &str) -> Result<usize> {
        let said = [r#""fact":"logged_in""#.to_owned(), format!(r#""user":"{user}""#)];
        let mut count = 0;
        for machine in &self.stage.twins.machines {
            let log = std::fs::read_to_string(&machine.log)?;
            count += log.lines().filter(|line| said.iter().all(|it| line.contains(it))).count();
        }
        Ok(count)
    }

    /// The address of the machine of other phones.
    pub(super) fn others(&self) -> IpAddr {
        self.stage.place.address(FIRST_PHONE + u8::try_from(PHONES.len()).unwrap_or(u8::MAX))
    }

    /// How many calls the server that serves has: ringing, answered.
    fn calls_up(&self) -> Result<(usize, usize)> {
        self.stage.twins.calls(self.serving.index)
    }

    /// Kills the server that serves, and waits until the other does. Returns after how many
    /// milliseconds its keeper said so.
    pub(super) fn kill(&mut self) -> Result<u128> {
        self.serving = self.stage.twins.wait_protected(PROTECTED_LIMIT)?;
        let begun = Instant::now();
        signal(self.serving.pid, Signal::KILL)?;
        self.kills += 1;
        self.serving = self.stage.twins.wait_takeover(self.serving.index, LIMIT)?;
        Ok(begun.elapsed().as_millis())
    }

    /// Ends every call of every phone, as far as that can be done.
    pub(super) fn clear(&mut self) -> Result<()> {
        for phone in self.phones.values_mut() {
            // One that has no call may refuse.
            let _ = phone.hang_up();
        }
        // What the server still has after that is its own fault, and told with the records.
        let _ = wait::until("no call", LIMIT, || Ok((self.calls_up()? == (0, 0)).then_some(())));
        self.phones.values_mut().try_for_each(Phone::pass_events)
    }

    /// Something broke: the logs are worth more than the space. Returns where they are, which is
    /// not where the next part of the run has its own.
    pub(super) fn keep(mut self, number: u8) -> Result<PathBuf> {
        self.stage.folder.keep();
        let path = self.stage.folder.path().to_owned();
        let kept = path.with_extension(number.to_string());
        drop(self);
        std::fs::rename(&path, &kept)?;
        Ok(kept)
    }

    /// What the records of both machines say.
    pub(super) fn records(&self) -> Result<String> {
        let mut last = String::new();
        let all = wait::until("the same closed records on both machines", PROTECTED_LIMIT, || {
            let [master, standby] = [self.stage.twins.records(0)?, self.stage.twins.records(1)?];
            let closed = master.iter().all(|record| !record["end"].is_null());
            last = format!("{} and {} records, all closed: {closed}", master.len(), standby.len());
            Ok((closed && master == standby).then_some(master))
        });
        let all = all.map_err(|error| error.context(last))?;
        let answered = calls::with_outcome(&all, "answered");
        ensure!(answered == self.calls, "{answered} answered, and {} were made", self.calls);
        Ok(format!("{} records, {answered} of them answered", all.len()))
    }
}

/// Machines have names without blanks.
fn host(name: &str) -> String {
    name.replace(' ', "-")
}

/// The IPv6 network of the machines (RFC 4193), and its length.
const SIX: [u16; 7] = [0xfd87, 0, 0, 0, 0, 0, 0];
const SIX_BITS: u8 = 64;

fn six(number: u8) -> IpAddr {
    let [a, b, c, d, e, f, g] = SIX;
    Ipv6Addr::new(a, b, c, d, e, f, g, u16::from(number)).into()
}

fn add_six(space: &Space, number: u8) -> Result<()> {
    let address = format!("{}/{SIX_BITS}", six(number));
    let status = command_in(Some(space), Path::new("ip"))
        .args(["-6", "address", "add", &address, "dev", INTERFACE, "nodad"])
        .status()
        .context("cannot run `ip`")?;
    ensure!(status.success(), "{address} cannot be added");
    Ok(())
}

/// One calls the number, the other rings, and the first hears that.
pub(super) fn ring(caller: &mut Phone, called: &mut Phone, number: &str) -> Result<()> {
    caller.dial(number)?;
    called.expect("CALL_INCOMING", LIMIT)?;
    caller.expect("CALL_RINGING", LIMIT)?;
    Ok(())
}

/// The called one answers; each hears the other.
pub(super) fn answer(caller: &mut Phone, called: &mut Phone) -> Result<()> {
    called.answer()?;
    caller.expect("CALL_ESTABLISHED", LIMIT)?;
    called.expect("CALL_ESTABLISHED", LIMIT)?;
    heard_again(caller)?;
    heard_again(called)
}

/// Waits until the phone has heard some more.
pub(super) fn heard_again(phone: &mut Phone) -> Result<()> {
    let before = phone.heard()?.len();
    let what = format!("audio in {}'s phone", phone.user());
    wait::until(&what, LIMIT, || {
        phone.still_runs()?;
        Ok((phone.heard()?.len() >= before + PIECES).then_some(()))
    })
}

/// Waits until a machine receives audio (it speaks SIP over TCP, so datagrams are audio) or receives
/// none. The phone's own recording says nothing here: it ends with the first hold.
pub(super) fn audio(space: &Space, wanted: bool) -> Result<()> {
    let what = if wanted { "audio" } else { "silence" };
    let (mut begun, mut before) = (Instant::now(), datagrams(space)?);
    wait::until(what, LIMIT, || {
        let more = datagrams(space)? - before;
        if wanted {
            return Ok((more >= PIECES as u64).then_some(()));
        }
        if more > STRAY {
            (begun, before) = (Instant::now(), before + more);
        }
        Ok((begun.elapsed() >= SILENCE).then_some(()))
    })
}

/// How many datagrams the programs of a machine have received.
fn datagrams(space: &Space) -> Result<u64> {
    let text = space.inside(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let received = lines.nth(1).and_then(|values| values.split(' ').next());
    received.context("the kernel counts no datagrams")?.parse().context("no number of datagrams")
}

/// One hangs up; returns what the other is told (baresip's word for BYE: "Connection reset by
/// peer").
pub(super) fn hang_up(one: &mut Phone, other: &mut Phone) -> Result<String> {
    one.hang_up()?;
    let event = other.expect("CALL_CLOSED", LIMIT)?;
    one.expect("CALL_CLOSED", LIMIT)?;
    Ok(format!("{} was told: {}", other.user(), event.detail))
}

/// Dials what cannot be reached; returns the reason.
pub(super) fn refused(caller: &mut Phone, number: &str) -> Result<String> {
    caller.dial(number)?;
    Ok(caller.expect("CALL_CLOSED", LIMIT)?.detail)
}
