//! The configurations of two servers, and what each tells its server.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Side as _, exchange, link, memory};
use tandem_config::{
    Ask, CHECK_PAUSE, ChangeRow, Config, ConflictRow, Order, Output, TWIN_WAIT, Told, Work,
};
use tandem_dialplan::{
    Account, BlockSetting, Blockable, Credentials, DisplayName, Edit, Emergency, Number, Refused,
    User, UserName,
};
use tandem_oplog::Fact;
use tandem_store::tables::{By, Tables};
use tandem_types::{Dice, Epoch, Instant, Seat};

/// A configuration, and its server's idea of it.
struct Side {
    config: Config,
    accounts: BTreeMap<UserName, Account>,
    emergency: Emergency,
    blocks: BTreeMap<Blockable, BlockSetting>,
    refused: BTreeMap<(Blockable, Seat), u64>,
    answers: Vec<(u64, Result<(), String>)>,
    told: Option<Told>,
    /// How many accounts were known when it was told that both have the same.
    at_equal: Option<usize>,
    failures: Vec<String>,
    line: Vec<Vec<u8>>,
    wall: u64,
}

impl common::Side for Side {
    fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    fn line(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.line
    }

    fn drain(&mut self) {
        while let Some(output) = self.config.poll_output() {
            match output {
                Output::Send(bytes) => self.line.push(bytes),
                Output::Edited { id, result } => self.answers.push((id, result)),
                Output::Changed(edits) => edits.into_iter().for_each(|edit| self.apply(edit)),
                Output::Fact(Fact::Equal) => self.at_equal = Some(self.accounts.len()),
                Output::Files(_) | Output::Fact(_) => {}
                Output::Told { told, .. } => self.told = Some(told),
                Output::Damaged(what) | Output::Failed(what) => self.failures.push(what),
                Output::Standing(_) | Output::Unreadable(_) => {}
            }
        }
    }
}

impl Side {
    fn new(seat: Seat) -> Self {
        Self::on(memory(seat))
    }

    fn on(tables: Tables) -> Self {
        let config = Config::on(tables, Dice::from_number(7)).unwrap();
        let mut side = Self {
            config,
            accounts: BTreeMap::new(),
            emergency: Emergency::default(),
            blocks: BTreeMap::new(),
            refused: BTreeMap::new(),
            answers: Vec::new(),
            told: None,
            at_equal: None,
            failures: Vec::new(),
            line: Vec::new(),
            wall: 1_790_000_000_000,
        };
        side.drain();
        side
    }

    fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::User { name, account: Some(account) } => {
                drop(self.accounts.insert(name, account))
            }
            Edit::User { name, account: None } => drop(self.accounts.remove(&name)),
            Edit::Emergency(emergency) => self.emergency = emergency,
            Edit::Retention(_) => {}
            Edit::Block { what, block: Some(block) } => drop(self.blocks.insert(what, block)),
            Edit::Block { what, block: None } => {
                self.blocks.remove(&what);
                self.refused.retain(|(counted, _), _| *counted != what);
            }
            Edit::Refused(Refused { what, seat, count, .. }) => {
                self.refused.insert((what, seat), count);
            }
        }
    }

    fn ask(&mut self, ask: Ask) -> Option<Told> {
        self.wall += 1;
        let by = By { author: "root".to_owned(), wall_millis: self.wall, epoch: Epoch::NEVER };
        let order = Order { id: self.wall, work: Work::Ask(ask), by };
        self.config.handle_orders(Instant::ZERO, vec![order]);
        self.drain();
        self.told.take()
    }

    fn changes(&mut self) -> Vec<ChangeRow> {
        match self.ask(Ask::Changes { limit: 100 }) {
            Some(Told::ChangeList(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn conflicts(&mut self) -> Vec<ConflictRow> {
        match self.ask(Ask::Conflicts) {
            Some(Told::ConflictList(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn order(&mut self, now: Instant, edit: Edit) {
        self.wall += 1;
        let by = By { author: "admin".to_owned(), wall_millis: self.wall, epoch: Epoch::NEVER };
        // In effect at once, as in the server.
        self.apply(edit.clone());
        self.config.handle_orders(now, vec![Order { id: self.wall, work: Work::Edit(edit), by }]);
        self.drain();
    }
}

fn name(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn user(who: &str, numbers: &[&str]) -> Edit {
    let numbers = numbers.iter().map(|number| Number::parse(number).unwrap()).collect();
    let display = DisplayName::parse(who).unwrap();
    let user = User { name: name(who), display, numbers, enabled: true };
    let credentials = Credentials { md5: [1; 16], sha256: [2; 32] };
    Edit::User { name: name(who), account: Some(Account { user, credentials }) }
}

fn numbers(side: &Side, who: &str) -> Vec<String> {
    side.accounts[&name(who)].user.numbers.iter().map(ToString::to_string).collect()
}

fn assert_same(one: &Side, other: &Side) {
    assert_eq!(one.accounts, other.accounts);
    assert_eq!(one.emergency, other.emergency);
    assert_eq!(one.blocks, other.blocks);
    let digests = |side: &Side| side.config.tables().digests().unwrap();
    assert_eq!(digests(one), digests(other));
}

#[test]
fn an_edit_is_done_when_both_disks_have_it_and_both_servers_know() {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    link(&mut a, &mut b, true);
    a.order(Instant::ZERO, user("anna", &["21", "22"]));
    assert!(a.answers.is_empty(), "the twin has not said that it has it");
    exchange(&mut a, &mut b);
    assert_eq!(a.answers.len(), 1);
    assert_eq!(numbers(&b, "anna"), ["21", "22"]);
    a.order(Instant::ZERO, user("anna", &["22", "23"]));
    exchange(&mut a, &mut b);
    assert_eq!(numbers(&b, "anna"), ["22", "23"]);
    a.order(Instant::ZERO, Edit::User { name: name("anna"), account: None });
    exchange(&mut a, &mut b);
    assert!(b.accounts.is_empty());
    // The number is free again, and so is the name.
    a.order(Instant::ZERO, user("ben", &["22"]));
    a.order(Instant::ZERO, user("anna", &["21"]));
    exchange(&mut a, &mut b);
    assert_same(&a, &b);
    assert_eq!((numbers(&b, "ben"), numbers(&b, "anna")), (vec!["22".into()], vec!["21".into()]));
}

#[test]
fn without_a_twin_the_own_disk_is_enough_and_a_silent_twin_is_waited_for_a_second() {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    a.order(Instant::ZERO, user("anna", &["21"]));
    assert_eq!(a.answers.len(), 1);
    link(&mut a, &mut b, true);
    a.order(Instant::ZERO, user("ben", &["22"]));
    assert_eq!(a.answers.len(), 1);
    let due = a.config.next_timeout().unwrap();
    assert_eq!(due, Instant::ZERO + TWIN_WAIT);
    a.config.handle_timeout(due);
    a.drain();
    assert_eq!(a.answers.len(), 2);
    assert!(a.config.next_timeout() >= Some(Instant::ZERO + CHECK_PAUSE));
}

#[test]
fn that_both_have_the_same_is_told_after_what_came_last() {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    for number in ["21", "22", "23"] {
        a.order(Instant::ZERO, user(&format!("user{number}"), &[number]));
    }
    link(&mut a, &mut b, true);
    assert_eq!((a.at_equal, b.at_equal), (Some(3), Some(3)));
}

#[test]
fn settings_and_blocks_go_over_and_a_new_process_is_told_everything() {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    assert_eq!(a.emergency, Emergency::default());
    link(&mut a, &mut b, true);
    a.order(Instant::ZERO, user("anna", &["21"]));
    let emergency =
        Emergency { numbers: vec![Number::parse("911").unwrap()], to: Some("21".into()) };
    a.order(Instant::ZERO, Edit::Emergency(emergency.clone()));
    let block = BlockSetting { since: 5, reason: "move".into(), until: Some(9) };
    a.order(Instant::ZERO, Edit::Block { what: Blockable::Calls, block: Some(block.clone()) });
    exchange(&mut a, &mut b);
    assert_same(&a, &b);
    assert_eq!((&b.emergency, &b.blocks[&Blockable::Calls]), (&emergency, &block));
    let again = Side::on(b.config.into_tables());
    assert_same(&a, &again);
    let mut b = again;
    link(&mut a, &mut b, true);
    b.order(Instant::ZERO, Edit::Block { what: Blockable::Calls, block: None });
    exchange(&mut a, &mut b);
    assert!(a.blocks.is_empty());
    assert_same(&a, &b);
}

#[test]
fn what_both_count_while_apart_is_summed_and_is_nobodys_change() {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    link(&mut a, &mut b, true);
    let block = |since| {
        let block = Some(BlockSetting { since, reason: String::new(), until: None });
        Edit::Block { what: Blockable::Calls, block }
    };
    a.order(Instant::ZERO, block(5));
    exchange(&mut a, &mut b);
    link(&mut a, &mut b, false);
    let count =
        |seat, count| Edit::Refused(Refused { what: Blockable::Calls, since: 5, seat, count });
    a.order(Instant::ZERO, count(Seat::Master, 3));
    for refused in [1, 4] {
        b.order(Instant::ZERO, count(Seat::Standby, refused));
    }
    link(&mut a, &mut b, true);
    exchange(&mut a, &mut b);
    for side in [&mut a, &mut b] {
        let sum = "SELECT count FROM counter WHERE name = 'refused/calls/5'";
        let reader = side.config.tables().reader();
        assert_eq!(reader.query_row(sum, [], |row| row.get::<_, i64>(0)), Ok(7));
        assert_eq!(side.changes().len(), 1, "the block alone");
        assert_eq!(side.conflicts(), []);
    }
    let again = Side::on(a.config.into_tables());
    let counts = [((Blockable::Calls, Seat::Master), 3), ((Blockable::Calls, Seat::Standby), 4)];
    assert_eq!(again.refused, BTreeMap::from(counts));
    // Another block counts anew, and nothing is left of the old one.
    b.order(Instant::ZERO, block(6));
    let left = "SELECT count(*) FROM counter";
    assert_eq!(b.config.tables().reader().query_row(left, [], |row| row.get::<_, i64>(0)), Ok(0));
}

#[test]
fn apart_both_are_administrated_and_afterwards_both_servers_say_the_same() {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    link(&mut a, &mut b, true);
    a.order(Instant::ZERO, user("anna", &["21"]));
    exchange(&mut a, &mut b);
    link(&mut a, &mut b, false);
    // The same number for two people, the same name for two people, and one who goes.
    a.order(Instant::ZERO, user("carl", &["30"]));
    a.order(Instant::ZERO, user("emma", &["40"]));
    b.wall += 1_000;
    b.order(Instant::ZERO, user("dora", &["30"]));
    b.order(Instant::ZERO, user("emma", &["41"]));
    b.order(Instant::ZERO, Edit::User { name: name("anna"), account: None });
    a.order(Instant::ZERO, user("anna", &["21", "50"]));
    link(&mut a, &mut b, true);
    assert_same(&a, &b);
    assert_eq!(numbers(&a, "dora"), ["30"], "the later claim");
    assert!(numbers(&a, "carl").is_empty());
    assert_eq!(numbers(&a, "emma"), ["41"], "the later claim to the name");
    assert!(!a.accounts.contains_key(&name("anna")), "removed is removed");
    let undecided = a.config.tables().undecided().unwrap();
    let found: Vec<_> = undecided.iter().map(|one| (one.table, one.column)).collect();
    assert!(found.contains(&("numbers", "user_id")) && found.contains(&("logins", "user_id")));
}

#[test]
fn what_was_changed_can_be_read_and_undone_and_not_twice() {
    let mut a = Side::new(Seat::Master);
    a.order(Instant::ZERO, user("anna", &["21"]));
    a.order(Instant::ZERO, user("anna", &["21", "22"]));
    let changes = a.changes();
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[0].author, "admin");
    assert_eq!(changes[0].what, ["numbers 22: added, user_id anna, place 1"]);
    assert_eq!(changes[1].what[0], "users anna: added, display \"anna\", enabled 1");
    assert_eq!(a.ask(Ask::Undo { id: changes[0].id.clone() }), Some(Told::Decided));
    assert_eq!(numbers(&a, "anna"), ["21"], "and the server was told");
    assert_eq!(a.changes()[0].author, "root");
    // Done again: it has been changed since, by the undoing.
    match a.ask(Ask::Undo { id: changes[0].id.clone() }) {
        Some(Told::NotDecided(why)) => {
            assert!(why.contains("changed again since: numbers 22"), "{why}")
        }
        other => panic!("{other:?}"),
    }
    // The undoing is a change, and can be undone.
    let id = a.changes()[0].id.clone();
    assert_eq!(a.ask(Ask::Undo { id }), Some(Told::Decided));
    assert_eq!(numbers(&a, "anna"), ["21", "22"]);
    for id in ["x", "1/2", "0000000000000001/99"] {
        let told = a.ask(Ask::Undo { id: id.to_owned() });
        assert!(matches!(told, Some(Told::NotDecided(_))), "{id}: {told:?}");
    }
}

#[test]
fn a_conflict_is_shown_in_words_and_ended_on_both_servers() {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    a.order(Instant::ZERO, user("carl", &["30"]));
    b.wall += 1_000;
    b.order(Instant::ZERO, user("dora", &["30"]));
    link(&mut a, &mut b, true);
    let conflicts = a.conflicts();
    assert_eq!(conflicts, b.conflicts());
    let number: Vec<&ConflictRow> =
        conflicts.iter().filter(|row| row.name == "numbers/30/user_id").collect();
    assert_eq!(number[0].in_force.value, "dora");
    assert_eq!(number[0].lost[0].value, "carl");
    assert_eq!(number[0].lost[0].author, "admin");
    let wrong = Ask::Restore { name: "numbers/30/user_id".to_owned(), which: 2 };
    assert!(matches!(a.ask(wrong), Some(Told::NotDecided(_))));
    let restore = Ask::Restore { name: "numbers/30/user_id".to_owned(), which: 1 };
    assert_eq!(a.ask(restore), None, "the twin does not have it yet");
    exchange(&mut a, &mut b);
    assert_eq!(a.told.take(), Some(Told::Decided));
    assert_same(&a, &b);
    assert_eq!(numbers(&b, "carl"), ["30"]);
    assert!(numbers(&b, "dora").is_empty());
    // Whatever is left is left as it is.
    for row in b.conflicts() {
        let _ = b.ask(Ask::Keep { name: row.name });
        exchange(&mut a, &mut b);
    }
    assert!(a.conflicts().is_empty() && b.conflicts().is_empty());
    assert_same(&a, &b);
}

#[test]
fn a_message_that_was_lost_is_noticed_and_the_exchange_begins_anew() {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    link(&mut a, &mut b, true);
    a.order(Instant::ZERO, user("anna", &["21"]));
    a.line.clear();
    a.order(Instant::ZERO, user("ben", &["22"]));
    exchange(&mut a, &mut b);
    assert!(b.accounts.is_empty() && b.failures.len() == 1, "{:?}", b.failures);
    let due = b.config.next_timeout().unwrap();
    b.config.handle_timeout(due);
    b.drain();
    exchange(&mut a, &mut b);
    assert_eq!(b.accounts.len(), 2);
    assert_same(&a, &b);
    assert_eq!(a.answers.len(), 2);
    assert!(b.config.next_timeout() >= Some(Instant::ZERO + CHECK_PAUSE));
}

#[test]
fn a_twin_that_never_greets_keeps_nobody_from_working() {
    let mut a = Side::new(Seat::Master);
    a.config.handle_link(Instant::ZERO, true);
    a.order(Instant::ZERO, user("anna", &["21"]));
    assert!(a.answers.is_empty(), "the twin may have something to say first");
    let due = a.config.next_timeout().unwrap();
    for _ in 0..3 {
        a.config.handle_message(due, &[99, 99]);
    }
    a.drain();
    assert_eq!(a.config.tables().heads().count(), 1, "written");
    assert_eq!(a.failures.len(), 1, "told once: {:?}", a.failures);
    a.config.handle_timeout(due + TWIN_WAIT);
    a.drain();
    assert_eq!(a.answers.len(), 1);
    assert!(a.answers[0].1.is_ok(), "{:?}", a.answers);
}

#[test]
fn a_document_is_compared_with_what_was_ordered_before_it() {
    let mut a = Side::new(Seat::Master);
    a.order(Instant::ZERO, user("anna", &["21"]));
    let Some(Told::Document(document)) = a.ask(Ask::Export { passwords: true }) else { panic!() };
    let by = By { author: String::new(), wall_millis: a.wall + 1, epoch: Epoch::NEVER };
    let works =
        [Work::Edit(user("ben", &["22"])), Work::Ask(Ask::Import { document, apply: true })];
    let orders = works.map(|work| Order { id: 7, work, by: by.clone() });
    a.apply(user("ben", &["22"]));
    a.config.handle_orders(Instant::ZERO, orders.into());
    a.drain();
    assert_eq!(a.told, Some(Told::Decided));
    assert_eq!(a.accounts.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["anna"]);
}
