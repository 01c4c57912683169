//! What two configurations do from time to time, and after hard times: backups of different days, a day of
//! absence, damaged rows, clocks that are wrong.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod common;

use common::{Side as _, exchange, exchange_at, link, link_at, memory};
use common::{deliver_at_once, exchange_at_once, link_one};
use rusqlite::Connection;
use rusqlite::backup::Backup;
use tandem_config::{
    Ask, CHECK_PAUSE, Config, Damaged, Order, Output, Told, TwinCheck, VERIFY_WAIT, Verified, Work,
};
use tandem_dialplan::{
    Account, BlockSetting, Blockable, Credentials, DisplayName, Edit, Number, User, UserName,
};
use tandem_oplog::{Fact, Message, Seen, WaitsFor};
use tandem_store::tables::{By, Keep, Tables};
use tandem_types::{Dice, Duration, Epoch, Instant, Seat};

const DAY_MILLIS: u64 = 86_400_000;
const START_MILLIS: u64 = 1_790_000_000_000;

struct Side {
    seat: Seat,
    config: Config,
    line: Vec<Vec<u8>>,
    facts: Vec<Fact>,
    told: Option<Told>,
    edited: Vec<Result<(), String>>,
    damaged: Option<Damaged>,
    /// Its clock.
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
            if let Output::Send(bytes) = output {
                self.line.push(bytes);
            } else if let Output::Fact(fact) = output {
                self.facts.push(fact);
            } else if let Output::Told { told, .. } = output {
                self.told = Some(told);
            } else if let Output::Edited { result, .. } = output {
                self.edited.push(result);
            } else if let Output::Unreadable(damaged) = output {
                assert_ne!(self.damaged, damaged, "told twice");
                self.damaged = damaged;
            } else if let Output::Failed(what) = output {
                panic!("{what}");
            }
        }
    }
}

impl Side {
    fn new(seat: Seat) -> Self {
        Self::on(seat, memory(seat))
    }

    fn on(seat: Seat, tables: Tables) -> Self {
        let config =
            Config::on(tables, Dice::from_number(if seat == Seat::Master { 7 } else { 8 }));
        let (line, facts, told, edited) = (Vec::new(), Vec::new(), None, Vec::new());
        let config = config.unwrap();
        let (wall, damaged) = (START_MILLIS, None);
        let mut side = Self { seat, config, line, facts, told, edited, damaged, wall };
        side.drain();
        side
    }

    /// As it is now, to be put back later.
    fn backup(&self) -> Tables {
        let mut to = Connection::open_in_memory().unwrap();
        Backup::new(self.config.tables().reader(), &mut to).unwrap().step(-1).unwrap();
        common::on(self.seat, to)
    }

    fn order(&mut self, now: Instant, work: Work) {
        self.wall += 1;
        let by = By { author: "admin".into(), wall_millis: self.wall, epoch: Epoch::NEVER };
        self.config.handle_orders(now, vec![Order { id: self.wall, work, by }]);
        self.drain();
    }

    fn user(&mut self, name: &str, number: &str) {
        self.put(name, name, number);
    }

    fn put(&mut self, name: &str, display: &str, number: &str) {
        let display = DisplayName::parse(display).unwrap();
        let name = UserName::parse(name).unwrap();
        let numbers = vec![Number::parse(number).unwrap()];
        let user = User { name: name.clone(), display, numbers, enabled: true };
        let credentials = Credentials { md5: [1; 16], sha256: [2; 32] };
        let account = Some(Account { user, credentials });
        self.order(Instant::ZERO, Work::Edit(Edit::User { name, account }));
    }

    fn users(&self) -> i64 {
        let sql = "SELECT count(*) FROM users WHERE deleted = 0";
        self.config.tables().reader().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn display(&self) -> String {
        let sql = "SELECT display FROM users";
        self.config.tables().reader().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn count(&self, of: fn(&Fact) -> bool) -> usize {
        self.facts.iter().filter(|fact| of(fact)).count()
    }

    /// A row is overwritten behind its back.
    fn damage(&self) {
        let sql = "UPDATE row_version SET body = x'01' WHERE tab = 1";
        assert!(self.config.tables().reader().execute(sql, []).unwrap() > 0);
    }
}

/// Time passes; how many messages that makes.
fn wait(one: &mut Side, other: &mut Side, now: Instant) -> usize {
    for side in [&mut *one, &mut *other] {
        side.config.handle_timeout(now);
        side.drain();
    }
    exchange_at(one, other, now)
}

fn assert_same(one: &Side, other: &Side) {
    let (a, b) = (one.config.tables(), other.config.tables());
    assert_eq!(a.heads().collect::<Vec<_>>(), b.heads().collect::<Vec<_>>());
    assert_eq!(a.digests().unwrap(), b.digests().unwrap());
    assert_eq!((a.faults().unwrap(), b.faults().unwrap()), (vec![], vec![]));
}

fn pair() -> (Side, Side) {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    link(&mut a, &mut b, true);
    (a, b)
}

/// Old ops of both go, whoever has them.
fn forget(tables: &mut Tables) {
    let keep = Keep { millis: 1, ops: u64::MAX, both_millis: 1, alone_millis: 1 };
    while tables.shorten(START_MILLIS + 900 * DAY_MILLIS, None, &keep).unwrap() > 0 {}
}

/// All that was written is in no log any more.
fn both_forget(a: &mut Side, b: &mut Side) {
    for side in [&mut *a, &mut *b] {
        let mut tables = side.backup();
        forget(&mut tables);
        *side = Side::on(side.seat, tables);
        side.wall += 900;
    }
    link(a, b, true);
    // What the comparison after the catch-up has to say has been said.
    wait(a, b, Instant::ZERO);
}

#[test]
fn both_machines_are_restored_from_different_days() {
    for (writes, forgets) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut a, mut b) = pair();
        a.user("monday", "21");
        exchange(&mut a, &mut b);
        let monday = a.backup();
        b.user("tuesday", "22");
        a.user("anna", "30");
        exchange(&mut a, &mut b);
        let mut tuesday = b.backup();
        a.user("wednesday", "23");
        exchange(&mut a, &mut b);
        if forgets {
            // What Monday's copy lacks is in no log any more.
            forget(&mut tuesday);
        }
        let mut a = Side::on(Seat::Master, monday);
        let mut b = Side::on(Seat::Standby, tuesday);
        (a.wall, b.wall) = (START_MILLIS + 5_000, START_MILLIS + 6_000);
        if writes {
            a.user("ben", "40");
            b.user("carl", "41");
        }
        link(&mut a, &mut b, true);
        assert_same(&a, &b);
        // What was made after the newer copy is gone with both machines; nothing else is.
        assert_eq!(a.users(), if writes { 5 } else { 3 }, "writes: {writes}, forgets: {forgets}");
        let copies = a.count(|fact| matches!(fact, Fact::CopyEnds { here: true, .. }));
        assert_eq!(copies, usize::from(forgets));
        for (side, name) in [(&mut a, "dora"), (&mut b, "emma")] {
            side.user(name, "50");
        }
        exchange(&mut a, &mut b);
        assert_same(&a, &b);
    }
}

#[test]
fn a_passive_that_is_a_day_behind_gets_everything_while_edits_go_on() {
    for forgets in [false, true] {
        let (mut a, mut b) = pair();
        link(&mut a, &mut b, false);
        for number in 0..300 {
            a.user(&format!("user{number}"), &format!("{}", 1_000 + number));
        }
        if forgets {
            let mut tables = a.backup();
            forget(&mut tables);
            a = Side::on(Seat::Master, tables);
            a.wall += 900;
        }
        b.user("meanwhile", "22");
        for side in [&mut a, &mut b] {
            side.config.handle_link(Instant::ZERO, true);
            side.drain();
        }
        // An edit in the middle of it waits for the twin like any other, and both get all.
        let hello = core::mem::take(&mut b.line);
        hello.iter().for_each(|bytes| a.config.handle_message(Instant::ZERO, bytes));
        a.drain();
        a.user("late", "23");
        exchange(&mut a, &mut b);
        assert_same(&a, &b);
        assert_eq!((a.users(), b.config.behind()), (302, Some(0)));
        assert_eq!(
            b.count(|fact| matches!(fact, Fact::CopyEnds { here: true, .. })),
            usize::from(forgets)
        );
        assert_eq!(b.config.progress(), None);
        assert!(a.edited.iter().all(Result::is_ok));
    }
}

#[test]
fn rows_are_compared_after_each_catch_up_and_every_hour_and_put_right() {
    let (mut a, mut b) = pair();
    a.user("anna", "21");
    exchange(&mut a, &mut b);
    b.damage();
    let hour = Instant::ZERO + CHECK_PAUSE;
    wait(&mut a, &mut b, hour);
    assert_same(&a, &b);
    for side in [&a, &b] {
        assert_eq!(side.count(|fact| matches!(fact, Fact::Mended { rows: 1, .. })), 1);
    }
    // Nothing was wrong since.
    wait(&mut a, &mut b, hour + CHECK_PAUSE);
    assert_eq!(a.count(|fact| matches!(fact, Fact::Mended { .. })), 1);
    link_at(&mut a, &mut b, hour, false);
    a.damage();
    link_at(&mut a, &mut b, hour, true);
    wait(&mut a, &mut b, hour + Duration::from_secs(2));
    assert_same(&a, &b);
    assert_eq!(a.count(|fact| matches!(fact, Fact::Mended { .. })), 2);
}

/// One of them is busy when the link comes up: its greeting and all that follows on the other one's go together.
#[test]
fn rows_are_compared_also_where_a_greeting_and_the_comparison_come_together() {
    for late in [Seat::Master, Seat::Standby] {
        let (mut a, mut b) = pair();
        a.user("anna", "10");
        exchange(&mut a, &mut b);
        let now = Instant::ZERO + Duration::from_secs(10);
        link_at(&mut a, &mut b, now, false);
        a.damage();
        let (early, busy) = if late == Seat::Master { (&mut b, &mut a) } else { (&mut a, &mut b) };
        link_one(early, now, true);
        busy.config.handle_link(now, true);
        deliver_at_once(early, busy, now);
        exchange_at_once(busy, early, now);
        for second in 1..5 {
            let now = now + Duration::from_secs(second);
            for side in [&mut *early, &mut *busy] {
                side.config.handle_timeout(now);
                side.drain();
            }
            exchange_at_once(early, busy, now);
        }
        let is_mended = |fact: &Fact| matches!(fact, Fact::Mended { .. });
        assert_eq!((a.count(is_mended), b.count(is_mended)), (1, 1), "{late:?}");
        assert_same(&a, &b);
    }
}

#[test]
fn a_row_that_cannot_be_read_keeps_nobody_from_editing_it_and_is_put_right_at_once() {
    for forgets in [false, true] {
        let (mut a, mut b) = pair();
        a.user("anna", "21");
        exchange(&mut a, &mut b);
        if forgets {
            both_forget(&mut a, &mut b);
        }
        b.damage();
        let (before_a, before_b) = (a.edited.len(), b.edited.len());
        for number in ["22", "23"] {
            a.put("anna", &format!("Anna {number}"), "21");
        }
        exchange(&mut a, &mut b);
        b.put("anna", "Anna of b", "21");
        exchange(&mut a, &mut b);
        assert_eq!(a.edited[before_a..], [Ok(()), Ok(())], "forgets: {forgets}");
        assert_eq!(b.edited[before_b..], [Ok(())], "forgets: {forgets}");
        wait(&mut a, &mut b, Instant::ZERO + Duration::from_secs(2));
        assert_same(&a, &b);
        let unreadable = |fact: &Fact| matches!(fact, Fact::Unreadable { rows: 1, .. });
        assert_eq!(b.damaged, None, "it waits no more");
        assert_eq!(b.count(unreadable), usize::from(forgets), "a whole log needs no twin");
        let mended = |fact: &Fact| matches!(fact, Fact::Mended { rows: 1, .. });
        assert_eq!((a.count(mended), b.count(mended)), (usize::from(forgets), 1));
        assert_eq!((a.display(), b.display()), ("Anna of b".into(), "Anna of b".into()));
    }
}

#[test]
fn a_row_that_neither_server_can_read_is_written_anew_with_the_values_in_force() {
    for asks in 0..2 {
        let (mut a, mut b) = pair();
        a.user("anna", "21");
        exchange(&mut a, &mut b);
        both_forget(&mut a, &mut b);
        for side in [&a, &b] {
            side.damage();
        }
        // That of the last change is in one table alone.
        a.put("anna", "Anna", "21");
        exchange(&mut a, &mut b);
        let hour = Instant::ZERO + CHECK_PAUSE;
        if asks == 0 {
            a.config.handle_timeout(hour);
            a.drain();
            exchange_at(&mut a, &mut b, hour);
        }
        for seconds in 0..4 {
            wait(&mut b, &mut a, hour + Duration::from_secs(seconds));
        }
        assert_same(&a, &b);
        assert_eq!((a.users(), a.display(), b.display()), (1, "Anna".into(), "Anna".into()));
        let remade = |fact: &Fact| matches!(fact, Fact::Remade { rows: 1, .. });
        assert_eq!(a.count(remade) + b.count(remade), 1, "{asks}");
        assert_eq!((a.damaged, b.damaged), (None, None));
        a.order(hour, Work::Ask(Ask::Changes { limit: 9 }));
        let Some(Told::ChangeList(changes)) = a.told.take() else { panic!() };
        let by_ourselves = changes.iter().filter(|change| change.author == "repair");
        assert_eq!(by_ourselves.count(), 1, "{changes:?}");
    }
}

#[test]
fn a_damaged_row_waits_for_a_twin_that_is_away_or_of_the_version_before_and_that_is_told() {
    let (mut a, mut b) = pair();
    a.user("anna", "21");
    exchange(&mut a, &mut b);
    both_forget(&mut a, &mut b);
    link(&mut a, &mut b, false);
    a.damage();
    // Nobody changes it: it is found by who looks.
    a.config.handle_wall(Instant::ZERO, START_MILLIS);
    let mut now = Instant::ZERO + Duration::from_secs(1);
    a.config.handle_timeout(now);
    a.drain();
    let waits = |waits_for| Some(Damaged { rows: 1, waits_for });
    assert_eq!(a.damaged, waits(WaitsFor::Twin));
    for side in [&mut a, &mut b] {
        side.config.handle_link(now, true);
        side.drain();
        forget_version(side);
    }
    exchange_at(&mut a, &mut b, now);
    assert_eq!(a.damaged, waits(WaitsFor::Upgrade));
    now = now + CHECK_PAUSE;
    wait(&mut a, &mut b, now);
    for waits_for in [WaitsFor::Twin, WaitsFor::Upgrade] {
        let told = a.facts.iter().filter(|fact| **fact == Fact::Unreadable { rows: 1, waits_for });
        assert_eq!(told.count(), 1, "{:?}", a.facts);
    }
    assert!(WaitsFor::Upgrade.to_string().contains("as soon as it is upgraded"));
    link_at(&mut a, &mut b, now, false);
    link_at(&mut a, &mut b, now, true);
    wait(&mut a, &mut b, now + Duration::from_secs(2));
    assert_same(&a, &b);
    assert_eq!((a.damaged, a.display()), (None, "anna".into()));
}

#[test]
fn alone_with_a_row_that_cannot_be_read_edits_go_on() {
    let mut alone = Side::new(Seat::Master);
    alone.user("anna", "21");
    let mut tables = alone.backup();
    forget(&mut tables);
    let mut alone = Side::on(Seat::Master, tables);
    alone.wall += 900;
    alone.damage();
    for name in ["one", "two", "three"] {
        alone.put("anna", name, "21");
    }
    assert_eq!(alone.edited, [Ok(()), Ok(()), Ok(())]);
    let waits_for = WaitsFor::Twin;
    assert_eq!(alone.facts, [Fact::Unreadable { rows: 1, waits_for }], "told once");
    assert_eq!(alone.damaged, Some(Damaged { rows: 1, waits_for }));
}

/// It takes all rows; the log is shortened every second.
#[test]
fn damage_is_looked_for_once_an_hour_also_while_the_log_is_shortened() {
    let mut alone = Side::new(Seat::Master);
    for number in 0..1_200 {
        alone.put("anna", &format!("anna {number}"), "21");
    }
    alone.config.handle_wall(Instant::ZERO, START_MILLIS + 401 * DAY_MILLIS);
    let tick = |alone: &mut Side, now: u64| {
        alone.config.handle_timeout(Instant::ZERO + Duration::from_secs(now));
        alone.drain();
        alone.config.tables().logged().unwrap()
    };
    assert_eq!(tick(&mut alone, 1), 700);
    alone.damage();
    assert_eq!((tick(&mut alone, 2), tick(&mut alone, 3)), (200, 0));
    assert_eq!(alone.damaged, None, "it is not looked for now");
    tick(&mut alone, 3_601);
    assert_eq!(alone.damaged, Some(Damaged { rows: 1, waits_for: WaitsFor::Twin }));
}

/// Edits come in between.
#[test]
fn among_many_rows_damage_is_looked_for_a_part_at_a_time() {
    let mut alone = Side::new(Seat::Master);
    alone.user("anna", "21");
    // Rows of a newer server, which no table here has; the last one is damaged.
    let rows = "INSERT INTO row_version (tab, key, undecided, body)
        WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
        SELECT 999, CAST(printf('%04d', n) AS BLOB), 0, CASE n WHEN 5000 THEN x'01' ELSE body END
        FROM n, (SELECT body FROM row_version WHERE tab = 1)";
    assert_eq!(alone.config.tables().reader().execute(rows, []).unwrap(), 5_000);
    alone.config.handle_wall(Instant::ZERO, START_MILLIS);
    let mut parts = 0;
    while alone.facts.is_empty() {
        let due = alone.config.next_timeout().unwrap();
        assert!(due < Instant::ZERO + Duration::from_secs(2), "it goes on soon");
        alone.config.handle_timeout(due);
        alone.drain();
        parts += 1;
    }
    // The log here says that nobody wrote it.
    assert!(matches!(alone.facts[..], [Fact::Mended { rows: 1, .. }]), "{:?}", alone.facts);
    assert_eq!(parts, 3);
}

#[test]
fn whoever_asks_hears_whether_all_is_well() {
    let mut alone = Side::new(Seat::Master);
    alone.user("anna", "21");
    alone.order(Instant::ZERO, Work::Ask(Ask::Verify));
    let verified = |faults, twin| Some(Told::Verified(Verified { faults, twin }));
    assert_eq!(alone.told.take(), verified(vec![], TwinCheck::Alone));
    alone.damage();
    alone.order(Instant::ZERO, Work::Ask(Ask::Verify));
    let Some(Told::Verified(Verified { faults, .. })) = alone.told.take() else { panic!() };
    assert_eq!(faults[0], "users anna: what is kept of it cannot be read");

    let (mut a, mut b) = pair();
    b.user("anna", "21");
    exchange(&mut a, &mut b);
    let now = Instant::ZERO + Duration::from_secs(9);
    a.order(now, Work::Ask(Ask::Verify));
    exchange_at(&mut a, &mut b, now);
    assert_eq!(a.told.take(), verified(vec![], TwinCheck::Equal));
    b.damage();
    a.order(now, Work::Ask(Ask::Verify));
    exchange_at(&mut a, &mut b, now);
    assert_eq!(a.told, None, "it is looked at once more");
    wait(&mut a, &mut b, now + Duration::from_secs(1));
    assert_eq!(a.told.take(), verified(vec![], TwinCheck::Mended { rows: 1 }));
    // A twin that says nothing, and one that goes.
    a.order(now, Work::Ask(Ask::Verify));
    a.line.clear();
    a.config.handle_timeout(now + VERIFY_WAIT);
    a.drain();
    let not_compared = |told: Option<Told>| match told {
        Some(Told::Verified(Verified { twin: TwinCheck::NotCompared(why), .. })) => why,
        told => panic!("{told:?}"),
    };
    assert!(not_compared(a.told.take()).contains("no answer in time"));
    a.order(now, Work::Ask(Ask::Verify));
    link_at(&mut a, &mut b, now, false);
    assert!(not_compared(a.told.take()).contains("was cut"));
}

/// What it has to say, without what it understands: as a server of the version before says it.
fn forget_version(side: &mut Side) {
    for bytes in &mut side.line {
        let mut message = Message::decode(bytes).unwrap();
        if let Message::Hello { able, .. } = &mut message {
            *able = 0;
        }
        *bytes = message.encode();
    }
}

#[test]
fn a_twin_of_the_version_before_is_asked_for_no_digest_and_whoever_verifies_hears_why() {
    let (mut a, mut b) = (Side::new(Seat::Master), Side::new(Seat::Standby));
    a.user("anna", "21");
    for side in [&mut a, &mut b] {
        side.config.handle_wall(Instant::ZERO, START_MILLIS);
        side.config.handle_link(Instant::ZERO, true);
        side.drain();
        forget_version(side);
    }
    // A greeting, the change, and that it is there: what that version knows.
    assert_eq!(exchange(&mut a, &mut b), 4);
    assert_eq!((a.users(), b.users()), (1, 1));
    assert_same(&a, &b);
    let hour = Instant::ZERO + CHECK_PAUSE;
    assert_eq!(wait(&mut a, &mut b, hour), 0, "no comparison, no clock");
    a.damage();
    a.order(hour, Work::Ask(Ask::Verify));
    let Some(Told::Verified(Verified { faults, twin })) = a.told.take() else { panic!() };
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(matches!(twin, TwinCheck::NotCompared(why) if why.contains("an earlier version")));
    // Edits go on, and the log of this server is enough for what is damaged here.
    a.put("anna", "Anna", "21");
    exchange(&mut a, &mut b);
    assert_same(&a, &b);
    // It is upgraded: what differs is found with the first greeting.
    b.damage();
    link_at(&mut a, &mut b, hour, true);
    wait(&mut a, &mut b, hour + Duration::from_secs(2));
    assert_same(&a, &b);
    assert_eq!(b.count(|fact| matches!(fact, Fact::Mended { rows: 1, .. })), 1);
}

/// Both hear what time it is, `ahead` apart, and compare.
fn clocks(a: &mut Side, b: &mut Side, now: Instant, ahead: u64) {
    a.config.handle_wall(now, START_MILLIS);
    b.config.handle_wall(now, START_MILLIS + ahead);
    link_at(a, b, now, false);
    link_at(a, b, now, true);
}

#[test]
fn clocks_that_are_apart_are_told_once_and_a_minute_apart_end_no_block() {
    let (mut a, mut b) = pair();
    clocks(&mut a, &mut b, Instant::ZERO, 1_999);
    assert_eq!((a.facts.pop(), a.config.twin_ahead_millis()), (Some(Fact::Equal), Some(1_999)));
    clocks(&mut a, &mut b, Instant::ZERO, 3_000);
    clocks(&mut a, &mut b, Instant::ZERO, 4_000);
    let apart = |side: &Side| side.count(|fact| matches!(fact, Fact::ClocksApart { .. }));
    assert_eq!((apart(&a), apart(&b)), (1, 1));
    assert!(b.facts.contains(&Fact::ClocksApart { ahead_millis: -3_000 }));
    assert!(a.config.may_write_automatically());
    // An hour ahead b believes that the block is over, and may not say so for both.
    let until = i64::try_from((START_MILLIS + 600_000) * 1_000).unwrap();
    let block = BlockSetting { since: 5, reason: "move".into(), until: Some(until) };
    let what = Blockable::Calls;
    a.order(Instant::ZERO, Work::Edit(Edit::Block { what, block: Some(block) }));
    clocks(&mut a, &mut b, Instant::ZERO, 3_600_000);
    assert!(!b.config.may_write_automatically() && !a.config.may_write_automatically());
    let ops = |side: &Side| side.config.tables().seen().iter().map(|id| id.number).sum::<u64>();
    let before = ops(&b);
    b.order(Instant::ZERO, Work::Edit(Edit::Block { what, block: None }));
    assert_eq!((ops(&b), b.edited.len()), (before, 1));
    // By an administrator's order it ends at any time.
    a.order(Instant::ZERO, Work::Edit(Edit::Block { what, block: None }));
    assert_eq!(ops(&a), before + 1);
    exchange(&mut a, &mut b);
    clocks(&mut a, &mut b, Instant::ZERO, 0);
    assert!(a.facts.contains(&Fact::ClocksTogether) && b.config.may_write_automatically());
}

#[test]
fn a_change_that_is_dated_in_the_future_is_taken_and_told() {
    let (mut a, mut b) = pair();
    a.config.handle_wall(Instant::ZERO, START_MILLIS);
    b.wall += 2 * DAY_MILLIS;
    b.user("anna", "21");
    b.user("ben", "22");
    exchange(&mut a, &mut b);
    assert_eq!(a.count(|fact| matches!(fact, Fact::StampAhead { .. })), 1, "{:?}", a.facts);
    a.user("carl", "23");
    assert!(
        a.config.tables().latest().millis() > START_MILLIS + 2 * DAY_MILLIS,
        "still after what it saw"
    );
    exchange(&mut a, &mut b);
    assert_same(&a, &b);
}

#[test]
fn changes_older_than_four_hundred_days_are_not_listed_any_more() {
    let (mut a, mut b) = pair();
    for number in 0..600 {
        a.user("anna", &format!("{}", 1_000 + number));
    }
    exchange(&mut a, &mut b);
    assert_eq!(a.config.tables().logged().unwrap(), 600);
    a.config.handle_wall(Instant::ZERO, START_MILLIS + 401 * DAY_MILLIS);
    let mut now = Instant::ZERO;
    for _ in 0..3 {
        now = now + Duration::from_secs(1);
        wait(&mut a, &mut b, now);
    }
    assert_eq!(a.config.tables().logged().unwrap(), 0);
    assert_eq!(a.count(|fact| *fact == Fact::Shortened { ops: 600 }), 1);
    assert_eq!((a.users(), b.users()), (1, 1));
    // The twin does so when its own clock says it, and both go on.
    b.user("ben", "22");
    exchange_at(&mut a, &mut b, now);
    assert_same(&a, &b);
    let all = a.config.tables().log(0, &Seen::new(), usize::MAX).unwrap();
    assert_eq!(all.ops.len(), 1);
}
