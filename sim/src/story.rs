//! Stories: a text file says who does what when, and what must be seen.
//!
//! ```text
//!   # What the story is about.
//!   users anna ben:2                 names, and devices where there are several
//!   start both                       or: start none
//!   with witness                     or: with gateway
//!
//!   0.5s anna calls ben
//!   1.0s ben picks up
//!   1.2s kill server master
//!   1.3s after 200 BYE from standby: kill server standby
//!   2.0s expect active standby
//!   ---
//!   what was seen: compared, or written anew with UPDATE_EXPECT=1
//! ```
//!
//! The network is calm and the seed is fixed. At the end comes peace, and the judgement of the
//! oracle; its verdict is the last part of what is seen.

use tandem_keeper::OperatorRequest;
use tandem_node::Blockable;
use tandem_types::{Duration, Instant};

use crate::machine::Rules;
use crate::network::{Road, Weather};
use crate::orders::{Order, Trigger};
use crate::phone::Habits;
use crate::world::{World, new_user};

/// Every story is played with this seed.
pub const STORY_SEED: u64 = 1;

/// Separates the orders from what must be seen.
const DIVIDER: &str = "---";

/// One line of a story.
#[derive(Clone, Debug)]
enum Command {
    Order(Order),
    Trigger(Trigger),
    Phone(String, Deed),
    Expect(String),
}

#[derive(Clone, Debug)]
enum Deed {
    Calls(String),
    PicksUp,
    HangsUp,
    Holds,
    Refuses,
    LogsIn,
}

/// A story as read.
#[derive(Debug)]
pub struct Story {
    users: Vec<(String, usize)>,
    start_both: bool,
    rules: Rules,
    lines: Vec<(Duration, String, Command)>,
    /// The text up to the divider.
    head: String,
    expected: String,
}

impl Story {
    /// Reads a story.
    ///
    /// # Errors
    ///
    /// The line that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (head, expected) = text.split_once(&format!("{DIVIDER}\n")).unwrap_or((text, ""));
        let mut story = Self {
            users: Vec::new(),
            start_both: true,
            rules: Rules::default(),
            lines: Vec::new(),
            head: head.to_owned(),
            expected: expected.to_owned(),
        };
        for line in head.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            story.take(line).ok_or_else(|| format!("not understood: {line}"))?;
        }
        Ok(story)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        if let Some(names) = line.strip_prefix("users ") {
            for name in names.split_whitespace() {
                let (name, devices) = name.split_once(':').unwrap_or((name, "1"));
                self.users.push((name.to_owned(), devices.parse().ok()?));
            }
            return Some(());
        }
        match line {
            "start both" => self.start_both = true,
            "start none" => self.start_both = false,
            "with witness" => self.rules.votes = true,
            "with gateway" => self.rules.gateway = true,
            _ => {
                let (time, rest) = line.split_once("s ")?;
                let seconds: f64 = time.parse().ok()?;
                let at = Duration::from_secs_f64(seconds);
                let command = parse_command(rest.trim())?;
                self.lines.push((at, rest.trim().to_owned(), command));
            }
        }
        Some(())
    }

    /// What must be seen.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// The story with what was seen.
    pub fn with(&self, seen: &str) -> String {
        format!("{}{DIVIDER}\n{seen}", self.head)
    }

    /// Plays it; returns what was seen, and whether every promise was kept.
    pub fn play(&self, seed: u64) -> (String, bool) {
        let users: Vec<(&str, usize)> =
            self.users.iter().map(|(name, devices)| (name.as_str(), *devices)).collect();
        let world = World::new(seed, self.rules, Weather::CALM, &users);
        let mut stage = Stage { world, seen: String::new(), begin: Instant::ZERO, kept: true };
        stage.begin(self.start_both, &users);
        for (at, line, command) in &self.lines {
            stage.reach(*at);
            let seconds = at.as_secs_f64();
            stage.seen += &format!("{seconds:.3}s {line}\n");
            stage.obey(command);
        }
        stage.end();
        (stage.seen, stage.kept)
    }
}

struct Stage {
    world: World,
    seen: String,
    begin: Instant,
    kept: bool,
}

impl Stage {
    fn begin(&mut self, both: bool, users: &[(&str, usize)]) {
        if both {
            self.world.power_on(0);
            self.world.power_on(1);
            self.world.advance_until(Duration::from_secs(5), World::is_healthy);
            self.world.log_everybody_in(users);
        }
        self.world.record();
        self.begin = self.world.now();
    }

    /// Lets time pass until that time of the story.
    fn reach(&mut self, at: Duration) {
        let until = self.begin + at;
        self.world.advance(until.remaining_from(self.world.now()));
        self.collect();
    }

    fn collect(&mut self) {
        for line in self.world.take_log() {
            if let Some(line) = shorten(&line) {
                self.seen += &format!("    {line}\n");
            }
        }
    }

    fn obey(&mut self, command: &Command) {
        match command {
            Command::Order(order) => self.world.obey(order),
            Command::Trigger(trigger) => self.world.triggers.push(trigger.clone()),
            Command::Phone(device, deed) => self.use_phone(device, deed),
            Command::Expect(what) => {
                let holds = self.world.holds(what);
                self.kept &= holds;
                if !holds {
                    self.seen += &format!("    NOT SO: {what}\n");
                }
            }
        }
    }

    fn use_phone(&mut self, device: &str, deed: &Deed) {
        let Some(phone) = self.world.find_phone(device) else {
            self.seen += &format!("    there is no phone {device}\n");
            self.kept = false;
            return;
        };
        if let Deed::Calls(to) = deed {
            self.world.call(phone, to);
            return;
        }
        self.world.use_phone(phone, |phone, now| {
            let (ringing, talking) = (phone.ringing().next(), phone.talking().next());
            match deed {
                Deed::Calls(_) => {}
                Deed::PicksUp => phone.pick_up(now, ringing.unwrap_or(0)),
                Deed::Refuses => phone.refuse(now, ringing.unwrap_or(0), 486),
                Deed::HangsUp => phone.hang_up_all(now),
                Deed::LogsIn => phone.log_in(now),
                Deed::Holds => phone.hold(now, talking.unwrap_or(0)),
            }
        });
    }

    fn end(&mut self) {
        self.collect();
        self.seen += "peace\n";
        self.world.judge();
        // What phones do in the judgement is not part of the story.
        self.world.take_log();
        let oracle = &self.world.oracle;
        for what in &oracle.violations {
            let what = what.split_once(' ').map_or(what.as_str(), |(_, what)| what);
            self.seen += &format!("    BROKEN: {what}\n");
        }
        self.kept &= oracle.violations.is_empty();
        if oracle.seen.losses > 0 {
            self.seen += &format!("    {} calls and logins excused\n", oracle.seen.excused);
        }
        if self.kept {
            self.seen += "    every promise was kept\n";
        }
    }
}

/// A line of the world's story without times, names made of chance, and explanations; `None` where
/// it is not worth a line.
fn shorten(line: &str) -> Option<String> {
    let (_, line) = line.split_once(' ')?;
    if let Some((who, what)) = line.split_once(" keeper: ") {
        let (from_to, _) = what.split_once(" (reign")?;
        return Some(format!("{who} keeper: {from_to}"));
    }
    if let Some((who, what)) = line.split_once(" server: ") {
        let what = match what.split_once(": ") {
            Some(("protected", _)) => "protected".to_owned(),
            Some(("UNPROTECTED", _)) => "unprotected".to_owned(),
            Some((role, counts)) if role.starts_with("role active") => {
                let (counts, _) = counts.split_once(" at hand").unwrap_or((counts, ""));
                format!("serves: {counts}")
            }
            Some((role, _)) if role.starts_with("role passive") => "serves no more".to_owned(),
            Some((call, outcome)) if call.starts_with("call ") && outcome.contains("talk") => {
                let (outcome, _) = outcome.split_once(',').unwrap_or((outcome, ""));
                format!("call record: {outcome}")
            }
            _ if what.contains("lease") || what.contains("STORE") || what.contains("store") => {
                what.split_once(" (").map_or(what, |(before, _)| before).to_owned()
            }
            _ => return None,
        };
        return Some(format!("{who} server: {what}"));
    }
    Some(line.to_owned())
}

fn parse_seat(word: &str) -> Option<usize> {
    match word {
        "master" => Some(0),
        "standby" => Some(1),
        _ => None,
    }
}

fn parse_pause(words: &[&str]) -> Option<Option<Duration>> {
    match words {
        [] => Some(None),
        ["for", pause] => {
            let millis = pause.strip_suffix("ms")?.parse().ok()?;
            Some(Some(Duration::from_millis(millis)))
        }
        _ => None,
    }
}

fn parse_command(text: &str) -> Option<Command> {
    if let Some(what) = text.strip_prefix("expect ") {
        return Some(Command::Expect(what.to_owned()));
    }
    if let Some((when, order)) = text.split_once(": ") {
        let words: Vec<&str> = when.split_whitespace().collect();
        let [moment @ ("before" | "after"), status, method, "from", seat] = words[..] else {
            return None;
        };
        return Some(Command::Trigger(Trigger {
            before: moment == "before",
            status: status.to_owned(),
            method: method.to_owned(),
            from: parse_seat(seat)?,
            protected: false,
            order: parse_order(order)?,
        }));
    }
    if let Some(order) = parse_order(text) {
        return Some(Command::Order(order));
    }
    let (device, deed) = text.split_once(' ')?;
    let deed = match deed {
        "picks up" => Deed::PicksUp,
        "hangs up" => Deed::HangsUp,
        "holds" => Deed::Holds,
        "refuses" => Deed::Refuses,
        "logs in" => Deed::LogsIn,
        _ => Deed::Calls(deed.strip_prefix("calls ")?.to_owned()),
    };
    Some(Command::Phone(device.to_owned(), deed))
}

fn operate(seat: &str, request: OperatorRequest) -> Option<Order> {
    Some(Order::Operate(parse_seat(seat)?, request))
}

fn parse_order(text: &str) -> Option<Order> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Some(match &words[..] {
        ["kill", "server", seat] => Order::KillServer(parse_seat(seat)?),
        ["kill", "keeper", seat] => Order::KillKeeper(parse_seat(seat)?),
        ["hang", "server", seat, rest @ ..] => {
            Order::HangServer(parse_seat(seat)?, parse_pause(rest)?)
        }
        ["hang", "keeper", seat, rest @ ..] => {
            Order::HangKeeper(parse_seat(seat)?, parse_pause(rest)??)
        }
        ["hang", "machine", seat, rest @ ..] => {
            Order::HangMachine(parse_seat(seat)?, parse_pause(rest)??)
        }
        ["power", "on", seat] => Order::PowerOn(parse_seat(seat)?),
        ["power", "off", seat] => Order::PowerOff(parse_seat(seat)?),
        ["unplug", seat] => Order::Unplug(parse_seat(seat)?, true),
        ["plug", seat] => Order::Unplug(parse_seat(seat)?, false),
        [verb @ ("cut" | "mend"), what, seat] => {
            let roads = match *what {
                "heartbeat" => vec![Road::Heartbeat],
                "link" => vec![Road::Link],
                "between" => vec![Road::Heartbeat, Road::Link],
                "witness" => vec![Road::Witness],
                "but-witness" => vec![Road::Heartbeat, Road::Link, Road::Lan],
                "all" => Road::ALL.to_vec(),
                _ => return None,
            };
            Order::Cut(parse_seat(seat)?, roads, *verb == "cut")
        }
        ["disk", state, seat] => {
            let seat = parse_seat(seat)?;
            match *state {
                "full" => Order::FillDisk(seat, true),
                "free" => Order::FillDisk(seat, false),
                "slow" => Order::SlowDisk(seat, true),
                "fast" => Order::SlowDisk(seat, false),
                _ => return None,
            }
        }
        ["switch", seat] => operate(seat, OperatorRequest::Switch { force: false })?,
        ["switch", seat, "when", "idle"] => operate(seat, OperatorRequest::SwitchWhenIdle)?,
        ["cancel", "switch", seat] => operate(seat, OperatorRequest::CancelSwitch)?,
        ["lock", seat] => operate(seat, OperatorRequest::Lock { on: true, seconds: None })?,
        ["lock", seat, "for", seconds] => {
            let seconds = Some(seconds.strip_suffix('s')?.parse().ok()?);
            operate(seat, OperatorRequest::Lock { on: true, seconds })?
        }
        ["unlock", seat] => operate(seat, OperatorRequest::Lock { on: false, seconds: None })?,
        ["gateway", state @ ("gone" | "back")] => Order::Gateway(*state == "back"),
        ["witness", state @ ("starts" | "ends")] => Order::Voter(*state == "starts"),
        ["clock", "of", seat, "by", millis] => {
            Order::JumpWall(parse_seat(seat)?, millis.strip_suffix("ms")?.parse().ok()?)
        }
        [verb @ ("block" | "unblock"), "new", what, "at", seat] => {
            let what = match *what {
                "logins" => Blockable::Logins,
                "calls" => Blockable::Calls,
                _ => return None,
            };
            Order::Block(parse_seat(seat)?, what, *verb == "block")
        }
        ["emergency", "rings", to, "at", seat] => {
            Order::Emergency(parse_seat(seat)?, (*to).to_owned())
        }
        ["add", "user", name, "at", seat] => Order::AddUser(parse_seat(seat)?, (*name).to_owned()),
        _ => return None,
    })
}

impl World {
    /// Makes the users and logs all phones in; they do nothing by habit.
    pub fn log_everybody_in(&mut self, users: &[(&str, usize)]) {
        let Some(active) = self.active() else { return };
        for (user, _) in users {
            self.ask(active, new_user(user));
        }
        self.advance(Duration::from_millis(150));
        for phone in 0..self.phones().len() {
            self.use_phone(phone, |phone, now| {
                phone.habits = Habits::PATIENT;
                phone.log_in(now);
            });
        }
        self.advance(Duration::from_millis(200));
    }

    /// Whether something a story expects is so.
    fn holds(&self, what: &str) -> bool {
        let words: Vec<&str> = what.split_whitespace().collect();
        match words[..] {
            ["active", seat] => {
                let at = parse_seat(seat);
                at.is_some_and(|at| self.serves(at) && !self.serves(1 - at))
            }
            ["nobody", "serves"] => self.active().is_none(),
            ["protected"] => self.is_healthy(),
            ["nothing", "repeated"] => self.oracle.seen.repeated == 0,
            ["unprotected"] => self.active().is_some() && !self.is_healthy(),
            [device, "talks"] => self.phone_named(device, |phone| phone.talking().count() == 1),
            [device, "rings"] => self.phone_named(device, |phone| phone.ringing().count() == 1),
            [device, "idle"] => self.phone_named(device, |phone| phone.is_idle()),
            _ => false,
        }
    }

    fn phone_named(&self, device: &str, test: impl Fn(&crate::phone::Phone) -> bool) -> bool {
        self.find_phone(device).is_some_and(|phone| test(&self.phones()[phone]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_named() {
        let error = Story::parse("users anna\n0.5s anna sings\n").unwrap_err();
        assert_eq!(error, "not understood: 0.5s anna sings");
        assert!(Story::parse("0.1s cut everything master\n").is_err());
        assert!(Story::parse("0.1s before 200 BYE from master: kill server master\n").is_ok());
    }

    #[test]
    fn what_was_seen_replaces_what_was_expected() {
        let story = Story::parse("# A story.\nusers anna\n---\nold\n").unwrap();
        assert_eq!(story.expected(), "old\n");
        assert_eq!(story.with("new\n"), "# A story.\nusers anna\n---\nnew\n");
    }
}
