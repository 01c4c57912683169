//! What administrators ask for, on either server. The passive one hands it to the active one.

use serde::{Deserialize, Serialize};
use tandem_dialplan::{
    Account, Change, Credentials, DirectoryError, DisplayName, Edit, Emergency, Number, User,
    UserName,
};
use tandem_registrar::Aor;
use tandem_sip::digest::Ha1;
use tandem_types::{Duration, Instant};

use crate::hand_over::Handing;
use crate::node::Node;
use crate::outbox::Parcel;
use crate::ports::{
    CallRow, DeviceRow, EmergencyRow, NewPassword, Output, Reply, Request, UserRow,
};
use crate::record;

/// What the two nodes say to each other beside the journal: for an administrator, or handing over.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Aside {
    Ask { id: u64, request: Request },
    Tell { id: u64, reply: Reply },
    Handing(Handing),
}

/// Letters of a password the server makes: none that are mistaken for one another.
const PASSWORD_LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Letters in a password the server makes: 138 bits.
const PASSWORD_LENGTH: usize = 24;

/// Shortest password an administrator may choose.
pub const PASSWORD_MIN: usize = 12;

/// Letters of a name of who asks, at most.
const AUTHOR_MAX: usize = 64;

/// Who asked at a server of the version before, which does not say.
const NAMELESS: &str = "administrator";

/// What is changed because its time is over.
const OURSELVES: &str = "the server";

/// Days that closed calls can be told to stay on record.
pub const RETENTION_DAYS_MAX: u32 = 36_500;

/// What has grown too old is looked for this often.
const RETAIN_PAUSE: Duration = Duration::from_secs(3_600);

const NO_DISK: &str =
    "the disk of the active server cannot be written; nothing is changed until it can";

impl Node {
    pub(crate) fn admin(&mut self, now: Instant, id: u64, request: Request, by: String) {
        if request == (Request::BlockList { here: true }) {
            let reply = Reply::Blocks { blocks: self.block_rows(now) };
            self.outputs.push_back(Output::Answer { id, reply });
            return;
        }
        if request == Request::Retention {
            let reply = Reply::Retention { days: self.retention.0 };
            self.outputs.push_back(Output::Answer { id, reply });
            return;
        }
        if self.decides(&request) {
            let reply = self.decide(now, request, by);
            self.stage_edit(Parcel::Answer { id, reply });
            return;
        }
        match self.known(now, &request).filter(|_| !self.journal.is_linked()) {
            Some(reply) => self.outputs.push_back(Output::Answer { id, reply }),
            None => self.ask(now, id, request, by),
        }
    }

    /// What a passive server can say by itself.
    pub(crate) fn known(&self, now: Instant, request: &Request) -> Option<Reply> {
        if *request == Request::UserList {
            Some(Reply::Users { users: self.users(now) })
        } else if *request == (Request::BlockList { here: false }) {
            Some(Reply::Blocks { blocks: self.block_rows(now) })
        } else {
            None
        }
    }

    pub(crate) fn aside(&mut self, now: Instant, bytes: &[u8]) {
        let Some((aside, rest)) = record::decode_with(bytes) else { return };
        match aside {
            Aside::Ask { id, request } => {
                let by: Option<String> = rest.and_then(|rest: String| named(&rest));
                self.asked(now, id, request, by.unwrap_or_else(|| NAMELESS.to_owned()));
            }
            Aside::Tell { id, reply } => self.answered(id, reply),
            Aside::Handing(what) => self.handing(now, what),
        }
    }

    /// The role or the disk is lost while answers wait for their changes to be safe: nobody knows
    /// whether they are.
    pub(crate) fn answer_doubtful(&mut self, parcel: Parcel, why: &str) {
        let reply = Reply::Refused { why: why.to_owned() };
        match parcel {
            Parcel::Message { .. } => {}
            Parcel::Answer { id, .. } => self.outputs.push_back(Output::Answer { id, reply }),
            Parcel::Aside { id, .. } => self.tell_aside(id, reply),
        }
    }

    pub(crate) fn decide(&mut self, now: Instant, request: Request, by: String) -> Reply {
        if request.changes() && !self.journal.disk_works() {
            return Reply::Refused { why: NO_DISK.to_owned() };
        }
        if request.changes() {
            self.author = by;
        }
        let done = match request {
            Request::UserAdd { name, display, numbers, password } => {
                self.user_add(&name, &display, &numbers, password)
            }
            Request::UserSet { name, display, numbers, enabled, password } => {
                self.user_set(&name, display, numbers, enabled, password)
            }
            Request::UserRemove { name } => self.user_remove(&name),
            Request::UserList => return Reply::Users { users: self.users(now) },
            Request::CallList => return Reply::Calls { calls: self.call_rows() },
            Request::Block { what, reason, seconds } => {
                self.block(now, what, reason, seconds).map(|()| None)
            }
            Request::Unblock { what } => {
                self.unblock(what);
                Ok(None)
            }
            Request::BlockList { .. } => return Reply::Blocks { blocks: self.block_rows(now) },
            Request::EmergencySet { numbers, to } => self.emergency_set(numbers, to),
            Request::EmergencyList => return self.emergency_list(),
            Request::RetentionSet { days } => self.retention_set(now, days),
            Request::Retention => return Reply::Retention { days: self.retention.0 },
        };
        self.author.clear();
        match done {
            Ok(password) => Reply::Done { password },
            Err(why) => Reply::Refused { why },
        }
    }

    fn user_add(
        &mut self,
        name: &str,
        display: &str,
        numbers: &[String],
        password: Option<String>,
    ) -> Result<Option<String>, String> {
        let name = UserName::parse(name).map_err(|error| error.to_string())?;
        let display = if display.is_empty() { name.as_str() } else { display };
        let display = DisplayName::parse(display).map_err(|error| error.to_string())?;
        let numbers = parse_numbers(numbers)?;
        let (credentials, made) = self.credentials(&name, password)?;
        let user = User { name: name.clone(), display, numbers, enabled: true };
        let account = Account { user, credentials };
        self.directory.add(account).map_err(said)?;
        self.save_user(&name);
        Ok(made)
    }

    fn user_set(
        &mut self,
        name: &str,
        display: Option<String>,
        numbers: Option<Vec<String>>,
        enabled: Option<bool>,
        password: NewPassword,
    ) -> Result<Option<String>, String> {
        let name = UserName::parse(name).map_err(|error| error.to_string())?;
        let display = display.map(|display| DisplayName::parse(&display)).transpose();
        let display = display.map_err(|error| error.to_string())?;
        let numbers = numbers.map(|numbers| parse_numbers(&numbers)).transpose()?;
        let given = match password {
            NewPassword::Keep => None,
            NewPassword::Make => Some(None),
            NewPassword::Take(password) => Some(Some(password)),
        };
        let made = given.map(|given| self.credentials(&name, given)).transpose()?;
        let (credentials, made) = made.map_or((None, None), |(kept, made)| (Some(kept), made));
        let change = Change { display, numbers, enabled, credentials };
        self.directory.set(&name, change).map_err(said)?;
        self.save_user(&name);
        if enabled == Some(false) {
            self.registrar.remove(&Aor::new(name.as_str()));
        }
        Ok(made)
    }

    fn user_remove(&mut self, name: &str) -> Result<Option<String>, String> {
        let name = UserName::parse(name).map_err(|error| error.to_string())?;
        self.directory.remove(&name).map_err(said)?;
        self.registrar.remove(&Aor::new(name.as_str()));
        self.save_user(&name);
        Ok(None)
    }

    fn emergency_set(
        &mut self,
        numbers: Option<Vec<String>>,
        to: Option<String>,
    ) -> Result<Option<String>, String> {
        let mut emergency: Emergency = self.directory.emergency().clone();
        if let Some(numbers) = numbers {
            emergency.numbers = parse_numbers(&numbers)?;
        }
        if let Some(to) = to {
            emergency.to = Some(to).filter(|to| !to.is_empty());
        }
        self.directory.set_emergency(emergency.clone()).map_err(said)?;
        self.edit(Edit::Emergency(emergency));
        Ok(None)
    }

    fn emergency_list(&self) -> Reply {
        let Emergency { numbers, to } = self.directory.emergency();
        let row = |number: &Number| EmergencyRow {
            number: number.to_string(),
            rings: self.directory.emergency_rings(number).map(|user| user.name.to_string()),
        };
        Reply::Emergency { numbers: numbers.iter().map(row).collect(), to: to.clone() }
    }

    /// The user as it is now, or that there is none.
    fn save_user(&mut self, name: &UserName) {
        let account = self.directory.get(name).cloned();
        self.edit(Edit::User { name: name.clone(), account });
    }

    /// Orders a change of the configuration. It is in effect here already.
    pub(crate) fn edit(&mut self, edit: Edit) {
        self.next_edit += 1;
        self.edited = Some(self.next_edit);
        let by = core::mem::take(&mut self.author);
        let by = if by.is_empty() { OURSELVES.to_owned() } else { by };
        self.outputs.push_back(Output::Edit { id: self.next_edit, edit, by });
    }

    /// An answer: where an edit was ordered for it, it waits until that is safe.
    pub(crate) fn stage_edit(&mut self, parcel: Parcel) {
        match self.edited.take() {
            Some(id) => drop(self.edits.insert(id, parcel)),
            None => self.stage(parcel),
        }
    }

    /// An edit is safe, or is not made.
    pub(crate) fn edit_done(&mut self, id: u64, result: Result<(), String>) {
        let Some(parcel) = self.edits.remove(&id) else { return };
        let refused = result.err().map(|why| Reply::Refused { why });
        match parcel {
            Parcel::Message { .. } => {}
            Parcel::Answer { id, reply } => {
                let reply = refused.unwrap_or(reply);
                self.outputs.push_back(Output::Answer { id, reply });
            }
            Parcel::Aside { id, reply } => self.tell_aside(id, refused.unwrap_or(reply)),
        }
    }

    /// The configuration is different from what we know.
    pub(crate) fn changed(&mut self, edit: Edit) {
        match edit {
            Edit::User { account: Some(account), .. } => {
                if !account.user.enabled {
                    self.registrar.remove(&Aor::new(account.user.name.as_str()));
                }
                self.directory.restore(account);
            }
            Edit::User { name, account: None } => {
                // Gone here already is as good.
                self.directory.forget(&name);
                self.registrar.remove(&Aor::new(name.as_str()));
            }
            Edit::Emergency(emergency) => self.directory.restore_emergency(emergency),
            Edit::Block { what, block } => self.set_block(what, block),
            Edit::Refused(refused) => self.set_refused(refused),
            Edit::Retention(days) => self.retention = (days, None),
        }
    }

    fn retention_set(&mut self, now: Instant, days: Option<u32>) -> Result<Option<String>, String> {
        if days.is_some_and(|days| !(1..=RETENTION_DAYS_MAX).contains(&days)) {
            return Err(format!("retention: expected 1 to {RETENTION_DAYS_MAX} days, or forever"));
        }
        self.retention = (days, None);
        self.edit(Edit::Retention(days));
        self.retain_again(now);
        Ok(None)
    }

    /// Says how long closed calls stay on record, where that is another or was said long ago.
    pub(crate) fn retain_again(&mut self, now: Instant) {
        let (days, said) = self.retention;
        if said.is_none_or(|said| said + RETAIN_PAUSE <= now) {
            self.retention.1 = Some(now);
            self.outputs.push_back(Output::Retain(days));
        }
    }

    /// What is kept of a password, and the password itself where the server made it.
    fn credentials(
        &mut self,
        name: &UserName,
        password: Option<String>,
    ) -> Result<(Credentials, Option<String>), String> {
        let (password, made) = match password {
            Some(password) if password.chars().count() < PASSWORD_MIN => {
                return Err(format!("password: expected {PASSWORD_MIN} characters or more"));
            }
            Some(password) => (password, false),
            None => (self.make_password(), true),
        };
        let (name, realm) = (name.as_str().as_bytes(), self.config.realm.as_bytes());
        let ha1 = Ha1::new(name, realm, password.as_bytes());
        let (md5, sha256) = ha1.hashes();
        let credentials = Credentials { md5, sha256 };
        Ok((credentials, made.then_some(password)))
    }

    fn make_password(&mut self) -> String {
        let letters = u64::try_from(PASSWORD_LETTERS.len()).unwrap_or(1);
        let letter = |_| {
            let at = usize::try_from(self.dice.below(letters)).unwrap_or(0);
            char::from(PASSWORD_LETTERS[at])
        };
        (0..PASSWORD_LENGTH).map(letter).collect()
    }

    fn users(&self, now: Instant) -> Vec<UserRow> {
        let row = |user: &User| UserRow {
            name: user.name.to_string(),
            display: user.display.to_string(),
            numbers: user.numbers.iter().map(ToString::to_string).collect(),
            enabled: user.enabled,
            devices: self.device_rows(now, &user.name),
        };
        self.directory.list().map(row).collect()
    }

    fn device_rows(&self, now: Instant, user: &UserName) -> Vec<DeviceRow> {
        let row = |binding: &tandem_registrar::Binding| DeviceRow {
            contact: binding.contact.to_string(),
            source: binding.flow.to_string(),
            expires_seconds: binding.expires.remaining_from(now).as_secs(),
            user_agent: String::from_utf8_lossy(&binding.user_agent).into_owned(),
        };
        self.registrar.bindings(now, &Aor::new(user.as_str())).map(row).collect()
    }

    fn call_rows(&self) -> Vec<CallRow> {
        let up = self.calls.iter().filter(|(_, live)| !live.call.is_over());
        let mut rows: Vec<CallRow> = up
            .map(|(_, live)| CallRow {
                state: match live.call.answered_by() {
                    Some(_) => "answered".to_owned(),
                    None => "ringing".to_owned(),
                },
                cdr: live.call.cdr().clone(),
            })
            .collect();
        rows.sort_by_key(|row| row.cdr.start);
        rows
    }
}

fn parse_numbers(numbers: &[String]) -> Result<Vec<Number>, String> {
    let parsed: Result<Vec<Number>, _> =
        numbers.iter().map(|number| Number::parse(number)).collect();
    parsed.map_err(|error| error.to_string())
}

/// A name as it may stand on record.
fn named(by: &str) -> Option<String> {
    let letters = by.chars().filter(|letter| !letter.is_control()).take(AUTHOR_MAX);
    Some(letters.collect::<String>()).filter(|by| !by.is_empty())
}

fn said(error: DirectoryError) -> String {
    error.to_string()
}
