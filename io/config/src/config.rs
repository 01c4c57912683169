//! The configuration as one value.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use rusqlite::Connection;
use tandem_dialplan::Edit;
use tandem_oplog::{
    Chain, Change, Check, Compared, Fact, Message, Op, OpId, Origin, PART_BYTES, Progress, Seen,
    Start, WaitsFor,
};
use tandem_store::OpenError;
use tandem_store::tables::{
    Batch, By, ChangeError, Deed, Exchange, Setup, Tables, TakeError, Touched,
};
use tandem_types::{Dice, Duration, Epoch, Instant, Seat};

use crate::asks::{self, Ask, Told};
use crate::authority::{Authority, Unwritten};
use crate::document;
use crate::edits::{self, UserId};
use crate::files::{self, FileId, FileNamed};
use crate::schema::{MIGRATIONS, SCHEMA};
use crate::standing::Standing;
use crate::upkeep::Upkeep;
use crate::view::View;

/// Name of the file in its folder.
pub const FILE_NAME: &str = "config.db";

/// So long an edit waits for the twin's disk; then it is done, and the twin gets it later.
pub const TWIN_WAIT: Duration = Duration::from_millis(1_000);

/// An edit that somebody waits for.
#[derive(Clone, Debug)]
pub struct Order {
    /// Comes back in [`Output::Edited`].
    pub id: u64,
    /// What is wanted.
    pub work: Work,
    /// Who wants it, and when.
    pub by: By,
}

/// After a failure the exchange with the twin begins anew after this pause.
const RETRY: Duration = Duration::from_millis(1_000);

/// While there is much to catch up, what is different is told this often.
const UNTOLD_MAX: Duration = Duration::from_millis(250);

/// After something failed the file is looked at, so long after the last look at the earliest.
const LOOK_PAUSE: Duration = Duration::from_secs(60);

/// What may be ordered.
#[derive(Clone, Debug)]
pub enum Work {
    /// By the server, which has it in effect already.
    Edit(Edit),
    /// By an administrator: a question, or an order of which the server hears by
    /// [`Output::Changed`].
    Ask(Ask),
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send to the twin.
    Send(Vec<u8>),
    /// The answer to an [`Ask`].
    Told {
        /// Of the order.
        id: u64,
        /// The answer.
        told: Told,
    },
    /// An edit is done: on our disk, and on the twin's where there is one that answers. Or it is
    /// refused, with the reason.
    Edited {
        /// Of the order.
        id: u64,
        /// The reason.
        result: Result<(), String>,
    },
    /// This is different now.
    Changed(Vec<Edit>),
    /// Rows of files are these now; `None`: deleted.
    Files(Vec<(FileId, Option<FileNamed>)>),
    /// How it stands to the twin's is another than before; `None`: the two are not compared.
    Standing(Option<Standing>),
    /// For the log.
    Fact(Fact),
    /// So many rows that are damaged here wait to be put right: another number than before, or for another reason.
    Unreadable(Option<Damaged>),
    /// The disk fails, or the file: nothing of what was just to be done is done.
    Failed(String),
    /// The file was found damaged, and is marked for the next start. Told once.
    Damaged(String),
}

/// Rows of which what is kept cannot be read here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damaged {
    /// How many.
    pub rows: u64,
    /// Until when they stay so.
    pub waits_for: WaitsFor,
}

/// An edit that is on our disk, and waits for the twin's.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u64,
    asked: bool,
    op: OpId,
    until: Instant,
}

/// The op of an edit (none where it changed nothing), or why it was not made.
type Done = Result<Option<OpId>, String>;

/// The tables, the exchange with the twin, and who waits for what.
#[derive(Debug)]
pub struct Config {
    pub(crate) tables: Tables,
    pub(crate) exchange: Exchange,
    pub(crate) upkeep: Upkeep,
    view: View,
    /// Rows that the twin changed and that are not told yet, and when they are at the latest.
    untold: (Touched, Option<Instant>),
    dice: Dice,
    pub(crate) linked: bool,
    waiting: VecDeque<Waiting>,
    /// Orders that wait until something may be written, and until when.
    held: Vec<(Instant, Order)>,
    /// When the exchange with the twin begins anew after something failed.
    retry: Option<Instant>,
    /// So long a twin on the link that has not greeted yet is waited for before anything is written.
    greeting_until: Option<Instant>,
    /// What failed last of the exchange, until it works again: it is told once.
    failed: Option<String>,
    /// Something failed since the file was looked at.
    doubt: bool,
    /// When it was looked at last because of that.
    looked: Option<Instant>,
    /// It is damaged.
    damaged: bool,
    /// Asked before anything is written, where there is one.
    authority: Option<Box<dyn Authority>>,
    /// All that the database has is here, and that was told.
    as_database: bool,
    /// What was told of it last.
    standing: Option<Standing>,
    pub(crate) outputs: VecDeque<Output>,
}

impl Config {
    /// How the file of this seat is made and read.
    pub fn setup(seat: Seat, dice: &mut Dice) -> Setup {
        let node = edits::node_of(seat);
        let origin = Origin(dice.next_u64());
        Setup { schema: &SCHEMA, migrations: MIGRATIONS, node, origin }
    }

    /// Opens the file in `folder`, made where it is missing. The first outputs tell all that is in it.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it.
    pub fn open(folder: &Path, seat: Seat, mut dice: Dice) -> Result<Self, OpenError> {
        let path = folder.join(FILE_NAME);
        let setup = Self::setup(seat, &mut dice);
        let mut tables = Tables::open(&path, &setup)?;
        tables.tidy(&path)?;
        Self::on(tables, dice).map_err(|error| OpenError::Broken { path, what: error.to_string() })
    }

    /// On tables that are open.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn on(tables: Tables, dice: Dice) -> rusqlite::Result<Self> {
        let mut view = View::default();
        let all = view.all(tables.reader())?;
        let exchange = Exchange::new(&tables);
        let files = files::all_named(tables.reader())?;
        let outputs = VecDeque::from([Output::Changed(all), Output::Files(files)]);
        let (waiting, held) = (VecDeque::new(), Vec::new());
        Ok(Self {
            tables,
            exchange,
            upkeep: Upkeep::default(),
            view,
            untold: (Touched::new(), None),
            dice,
            linked: false,
            waiting,
            held,
            retry: None,
            greeting_until: None,
            failed: None,
            doubt: false,
            looked: None,
            damaged: false,
            authority: None,
            as_database: false,
            standing: None,
            outputs,
        })
    }

    /// From now on this one is asked before anything is written.
    pub fn obey(&mut self, authority: Box<dyn Authority>) {
        self.authority = Some(authority);
    }

    /// What the database has, with ops that are lacking here: they are taken. Returns what is here then, and
    /// the next part of what is lacking there.
    ///
    /// # Errors
    ///
    /// The two cannot be brought together; or the disk fails, and nothing has changed.
    pub fn handle_database(
        &mut self,
        now: Instant,
        heads: &[(OpId, Chain)],
        ops: &[Vec<u8>],
    ) -> Result<(Seen, Vec<Vec<u8>>), String> {
        let sqlite = |error: rusqlite::Error| error.to_string();
        let compared = self.tables.compare(heads).map_err(sqlite)?;
        let differs = heads.iter().zip(&compared).find(|(_, what)| **what == Compared::Differs);
        if let Some(((id, _), _)) = differs {
            return Err(format!(
                "the database remembers other changes of {} than this server",
                id.origin
            ));
        }
        if !ops.is_empty() {
            let touched = self.take(ops).map_err(|error| error.to_string())?;
            self.changed(&touched, &[]);
            self.exchange.handle_written(&self.tables);
            self.work(now);
        }
        let has: Seen = heads.iter().map(|(id, _)| *id).collect();
        let all_here = !heads.is_empty() && has.iter().all(|id| self.tables.seen().has(id));
        if all_here && !self.as_database {
            self.as_database = true;
            self.outputs.push_back(Output::Fact(Fact::AsDatabase));
        }
        let lacking = match self.tables.start(&has).map_err(sqlite)?.0 {
            Start::Nothing => Vec::new(),
            Start::After(position) => {
                let page = self.tables.log(position, &has, PART_BYTES).map_err(sqlite)?;
                page.ops.into_iter().map(|op| op.bytes).collect()
            }
            Start::Pruned => {
                let why = "the database lacks changes that are not in the log here any more: copy everything \
                           into an empty database with `tandem store move`";
                return Err(why.to_owned());
            }
        };
        Ok((self.tables.seen().clone(), lacking))
    }

    /// The tables, to read.
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The tables, when this ends.
    pub fn into_tables(self) -> Tables {
        self.tables
    }

    /// How far a copy of everything is, where one is under way.
    pub fn progress(&self) -> Option<Progress> {
        self.exchange.sync().progress()
    }

    /// Changes that the twin does not have yet, as far as it has said; `None` without it.
    pub fn behind(&self) -> Option<u64> {
        self.exchange.sync().behind()
    }

    /// Orders, in one transaction.
    pub fn handle_orders(&mut self, now: Instant, orders: Vec<Order>) {
        self.tell_untold();
        for order in orders {
            match &order.work {
                Work::Ask(Ask::Verify) => self.verify(now, order.id),
                Work::Edit(edit) if self.is_untimely(now, edit) => self.done(order.id, false),
                Work::Ask(ask) if !ask.changes() => self.tell(order.id, ask),
                Work::Ask(_) | Work::Edit(_) => self.held.push((now + TWIN_WAIT, order)),
            }
        }
        self.work(now);
    }

    fn carry_out(&mut self, now: Instant, orders: &[Order]) {
        if let Some(Err(why)) = self.authority.as_ref().map(|authority| authority.ready()) {
            return orders.iter().for_each(|order| self.refuse(order, why.clone()));
        }
        match self.write(orders) {
            Ok((done, touched)) => {
                self.changed(&touched, orders);
                for (order, result) in orders.iter().zip(done) {
                    let (id, asked) = (order.id, matches!(order.work, Work::Ask(_)));
                    match result {
                        Ok(Some(op)) => {
                            let until = now + TWIN_WAIT;
                            self.waiting.push_back(Waiting { id, asked, op, until });
                        }
                        Ok(None) => self.done(id, asked),
                        Err(why) => self.refuse(order, why),
                    }
                }
                self.exchange.handle_written(&self.tables);
            }
            Err(Unwritten::Refused(why)) => {
                orders.iter().for_each(|order| self.refuse(order, why.clone()));
            }
            Err(Unwritten::Disk(error)) => {
                // Nothing of it is there.
                let what = error.to_string();
                for order in orders {
                    self.refuse(order, format!("nothing is changed: {what}"));
                }
                self.doubt = true;
                self.outputs.push_back(Output::Failed(what));
            }
        }
    }

    /// What became of each: its op, or why not.
    fn write(&mut self, orders: &[Order]) -> Result<(Vec<Done>, Touched), Unwritten> {
        let mut done = Vec::new();
        let dice = &mut self.dice;
        let mut batch = self.tables.begin()?;
        for Order { work, by, .. } in orders {
            let millis = by.wall_millis;
            let changed = match work {
                Work::Edit(edit) => {
                    let write = |connection: &Connection| {
                        edits::write(connection, edit, || user_id(millis, dice))
                    };
                    batch.change(by, write).map(|((), op)| op)
                }
                Work::Ask(Ask::Import { document, .. }) => {
                    let emergency = edits::emergency(batch.reader())?;
                    match document::plan(document, self.view.accounts(), &emergency) {
                        Ok(plan) => {
                            let write = |connection: &Connection| {
                                plan.edits.iter().try_for_each(|edit| {
                                    edits::write(connection, edit, || user_id(millis, dice))
                                })
                            };
                            batch.change(by, write).map(|((), op)| op)
                        }
                        Err(why) => Err(ChangeError::Unfit(why)),
                    }
                }
                Work::Ask(ask) => asks::carry_out(&mut batch, by, ask, || user_id(millis, dice)),
            };
            done.push(match changed {
                Ok(op) => Ok(op),
                Err(ChangeError::Disk(error) | ChangeError::Refused(error)) => {
                    return Err(error.into());
                }
                Err(ChangeError::Unfit(why)) => Err(why),
            });
        }
        let ids = done.iter().filter_map(|done| done.as_ref().ok().copied().flatten());
        let touched = commit(batch, self.authority.as_mut(), ids)?;
        Ok((done, touched))
    }

    /// Rows that neither server can read are written anew, as a change of ours. Where that cannot be now, the next
    /// comparison finds them again.
    fn remake(&mut self, now: Instant, changes: &[Change]) {
        let is_ready = self.authority.as_ref().is_none_or(|authority| authority.ready().is_ok());
        if !is_ready || !self.may_write(now) {
            return;
        }
        let write = |config: &mut Self| {
            let by = config.by_ourselves(now)?;
            let mut batch = config.tables.begin()?;
            let op = batch.remake(&by, changes).map_err(|error| match error {
                ChangeError::Disk(error) | ChangeError::Refused(error) => Unwritten::Disk(error),
                ChangeError::Unfit(why) => Unwritten::Refused(why),
            })?;
            commit(batch, config.authority.as_mut(), op.into_iter())
        };
        match write(self) {
            Ok(touched) => {
                let mut counts = BTreeMap::<_, u64>::new();
                changes.iter().for_each(|change| *counts.entry(change.table).or_default() += 1);
                for (id, rows) in counts {
                    let table =
                        SCHEMA.table(id).map_or_else(|| id.to_string(), |table| table.name.into());
                    self.outputs.push_back(Output::Fact(Fact::Remade { table, rows }));
                }
                self.upkeep.recounts = true;
                self.changed(&touched, &[]);
                self.exchange.handle_written(&self.tables);
            }
            Err(Unwritten::Disk(error)) => self.fail(error.to_string()),
            Err(Unwritten::Refused(why)) => self.fail(why),
        }
    }

    /// What nobody has ordered is written in the last reign that a change tells of.
    fn by_ourselves(&self, now: Instant) -> rusqlite::Result<By> {
        let newest = self.tables.newest(1)?;
        let newest = newest.first().and_then(|logged| Op::decode(&logged.bytes).ok());
        let wall_millis = self.wall(now).unwrap_or_else(|| self.tables.latest().millis());
        let epoch = newest.map_or(Epoch::NEVER, |op| op.epoch);
        Ok(By { author: REPAIR.to_owned(), wall_millis, epoch })
    }

    /// The link to the twin came up or went down.
    pub fn handle_link(&mut self, now: Instant, up: bool) {
        self.linked = up;
        (self.retry, self.failed) = (None, None);
        self.greeting_until = up.then_some(now + TWIN_WAIT);
        let sync = self.exchange.sync_mut();
        if up {
            sync.handle_link_up()
        } else {
            sync.handle_link_down()
        }
        self.upkeep_link();
        self.work(now);
    }

    /// A message of the twin.
    pub fn handle_message(&mut self, now: Instant, bytes: &[u8]) {
        self.handle_messages(now, core::iter::once(bytes));
    }

    /// Messages of the twin; changes that come together are written together. What is no change waits until all
    /// before it is done: what a comparison or a copy asks means nothing before the greeting was answered.
    pub fn handle_messages<'a>(&mut self, now: Instant, all: impl IntoIterator<Item = &'a [u8]>) {
        for bytes in all {
            match Message::decode(bytes) {
                Some(message) => {
                    if matches!(message, Message::Check(Check::Digests { .. })) {
                        self.check_later(now);
                    }
                    if !matches!(message, Message::Ops(_)) {
                        self.exchange(now);
                    }
                    self.exchange.sync_mut().handle_message(message);
                }
                None => self.fail(NOT_KNOWN.to_owned()),
            }
        }
        self.work(now);
    }

    /// When to call [`Config::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        let held = self.held.first().map(|(until, _)| *until);
        let waiting = self.waiting.front().map(|waiting| waiting.until);
        let dues = [waiting, held, self.retry, self.untold.1, self.upkeep_timeout()];
        dues.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.work(now);
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn work(&mut self, now: Instant) {
        if self.linked && self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.greeting_until = Some(now + TWIN_WAIT);
            self.exchange.sync_mut().restart();
        }
        self.keep_up(now);
        loop {
            self.exchange(now);
            self.tell_taken(now);
            if self.held.is_empty() || !self.may_write(now) {
                break;
            }
            // A document is compared with what is there: it has a transaction of its own.
            let whole =
                |(_, order): &(Instant, Order)| matches!(order.work, Work::Ask(Ask::Import { .. }));
            let end = self.held.iter().position(whole).unwrap_or(self.held.len()).max(1);
            let orders: Vec<Order> = self.held.drain(..end).map(|(_, order)| order).collect();
            self.carry_out(now, &orders);
        }
        self.mend_unreadable(now);
        self.tell_damaged();
        let late = self.held.iter().take_while(|(until, _)| *until <= now).count();
        for (_, order) in self.held.drain(..late).collect::<Vec<_>>() {
            self.refuse(&order, PUT_BACK.to_owned());
        }
        while let Some(waiting) = self.waiting.front() {
            let there = self.exchange.sync().there();
            let there = there.is_some_and(|there| there.has(waiting.op));
            if self.linked && !there && now < waiting.until {
                break;
            }
            let (id, asked) = (waiting.id, waiting.asked);
            self.waiting.pop_front();
            self.done(id, asked);
        }
        let there = self.exchange.sync().there().filter(|_| self.linked);
        let standing = there.map(|there| Standing::of(self.tables().seen(), there));
        if standing != self.standing {
            self.standing = standing;
            self.outputs.push_back(Output::Standing(standing));
        }
        self.look(now);
    }

    /// Whether what failed is the fault of the file.
    fn look(&mut self, now: Instant) {
        let is_early = self.looked.is_some_and(|at| now < at + LOOK_PAUSE);
        if !self.doubt || self.damaged || is_early {
            return;
        }
        (self.doubt, self.looked) = (false, Some(now));
        if let Some(what) = self.tables.suspect() {
            self.damaged = true;
            self.outputs.push_back(Output::Damaged(what));
        }
    }

    /// A twin that never greets (it is of another version, or stands still) keeps nobody from working:
    /// should it have ops of ours that are missing here, what is written gets a new name later.
    fn may_write(&self, now: Instant) -> bool {
        let waited = self.greeting_until.is_none_or(|until| until <= now);
        let sync = self.exchange.sync();
        sync.may_write() || (waited && !sync.is_compared())
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.doubt = true;
        if self.failed.as_ref() != Some(&what) {
            self.failed = Some(what.clone());
            self.outputs.push_back(Output::Failed(what));
        }
    }

    /// Does what the exchange with the twin asks for.
    fn exchange(&mut self, now: Instant) {
        loop {
            let dice = &mut self.dice;
            let polled = self.exchange.poll(&mut self.tables, &mut || Origin(dice.next_u64()));
            match polled {
                Ok(None) => return,
                Ok(Some(deed)) => self.deed(now, deed),
                Err(what) => {
                    // What is here is as it was.
                    self.exchange.sync_mut().handle_link_down();
                    self.retry = Some(now + RETRY);
                    self.fail(what);
                }
            }
        }
    }

    fn deed(&mut self, now: Instant, deed: Deed) {
        match deed {
            Deed::Send(message) => self.outputs.push_back(Output::Send(message.encode())),
            Deed::Changed(touched) => {
                self.failed = None;
                self.untold.0.extend(touched);
                self.untold.1.get_or_insert(now + UNTOLD_MAX);
                self.judge_stamps(now);
            }
            Deed::Renamed => {
                // Nobody waits for the old names.
                while let Some(waiting) = self.waiting.pop_front() {
                    self.done(waiting.id, waiting.asked);
                }
            }
            Deed::Fact(fact) => {
                // Who hears that everything is here has heard of everything.
                if matches!(fact, Fact::Equal | Fact::CopyEnds { here: true, .. }) {
                    self.tell_untold();
                }
                if fact == Fact::Equal {
                    self.upkeep_equal(now);
                }
                self.upkeep.recounts |= matches!(
                    fact,
                    Fact::Mended { .. } | Fact::SetAside { .. } | Fact::CopyEnds { here: true, .. }
                );
                self.outputs.push_back(Output::Fact(fact));
            }
            Deed::TellClock(number) => self.tell_clock(now, number),
            Deed::Clock(number, theirs) => self.compare_clocks(now, number, theirs),
            Deed::Checked(end) => self.checked(now, end),
            Deed::Remake(changes) => self.remake(now, &changes),
        }
    }

    fn take(&mut self, ops: &[Vec<u8>]) -> Result<Touched, TakeError> {
        let mut batch = self.tables.begin()?;
        batch.take_all(ops.iter().map(Vec::as_slice))?;
        Ok(batch.commit()?)
    }

    fn tell(&mut self, id: u64, ask: &Ask) {
        let answer = self.answer(ask);
        self.doubt |= answer.is_err();
        let told = answer.unwrap_or_else(|error| Told::NotDecided(error.to_string()));
        self.outputs.push_back(Output::Told { id, told });
    }

    fn answer(&self, ask: &Ask) -> rusqlite::Result<Told> {
        let (accounts, reader) = (self.view.accounts(), self.tables.reader());
        Ok(match ask {
            Ask::Export { passwords } => {
                let emergency = edits::emergency(reader)?;
                Told::Document(document::write(accounts, &emergency, *passwords))
            }
            Ask::Import { document, .. } => {
                match document::plan(document, accounts, &edits::emergency(reader)?) {
                    Ok(plan) => Told::Difference(plan.lines),
                    Err(why) => Told::NotDecided(why),
                }
            }
            Ask::Changes { .. }
            | Ask::Conflicts
            | Ask::Files { .. }
            | Ask::FileAdd(_)
            | Ask::FileRemove { .. }
            | Ask::Undo { .. }
            | Ask::Keep { .. }
            | Ask::Restore { .. }
            | Ask::Verify => asks::tell(&self.tables, ask)?.unwrap_or(Told::Decided),
        })
    }

    /// Tells what the twin changed: at once, or where much is still to come (the same rows again and again, as
    /// a rule) together.
    fn tell_taken(&mut self, now: Instant) {
        if self.untold.1.is_none() {
            return;
        }
        let there = self.exchange.sync().there();
        let lacks = |there| Standing::of(self.tables.seen(), there).here_lacks > 0;
        if !there.is_some_and(lacks) || self.untold.1.is_some_and(|at| at <= now) {
            self.tell_untold();
        }
    }

    /// Before anybody asks what is.
    fn tell_untold(&mut self) {
        let (touched, _) = core::mem::take(&mut self.untold);
        if !touched.is_empty() {
            self.changed(&touched, &[]);
        }
    }

    /// Tells what is different, but for what the server ordered itself: it knows that already.
    pub(crate) fn changed(&mut self, touched: &Touched, orders: &[Order]) {
        let known = |edit: &Edit| {
            let own = orders.iter().filter_map(|order| match &order.work {
                Work::Edit(edit) => Some(edit),
                Work::Ask(_) => None,
            });
            own.into_iter().any(|own| own == edit)
        };
        match files::named(self.tables.reader(), touched) {
            Ok(rows) if rows.is_empty() => {}
            Ok(rows) => self.outputs.push_back(Output::Files(rows)),
            Err(error) => self.fail(error.to_string()),
        }
        match self.view.refresh(self.tables.reader(), touched) {
            Ok(mut edits) => {
                edits.retain(|edit| !known(edit));
                if !edits.is_empty() {
                    self.outputs.push_back(Output::Changed(edits));
                }
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn done(&mut self, id: u64, asked: bool) {
        self.outputs.push_back(match asked {
            true => Output::Told { id, told: Told::Decided },
            false => Output::Edited { id, result: Ok(()) },
        });
    }

    /// Whoever is told "no" hears what is true instead.
    fn refuse(&mut self, order: &Order, why: String) {
        let id = order.id;
        let edit = match &order.work {
            Work::Edit(edit) => edit,
            Work::Ask(_) => {
                return self.outputs.push_back(Output::Told { id, told: Told::NotDecided(why) });
            }
        };
        self.outputs.push_back(Output::Edited { id, result: Err(why) });
        match self.view.truth(self.tables.reader(), edit) {
            Ok(truth) => self.outputs.push_back(Output::Changed(vec![truth])),
            Err(error) => self.fail(error.to_string()),
        }
    }
}

/// All of it is on disk when this returns, and before that at the authority's, where there is one.
fn commit(
    batch: Batch<'_>,
    authority: Option<&mut Box<dyn Authority>>,
    ids: impl Iterator<Item = OpId>,
) -> Result<Touched, Unwritten> {
    let Some(authority) = authority else { return Ok(batch.commit()?) };
    let mut ops = Vec::new();
    for op in ids {
        ops.extend(batch.tables().op(op)?.map(|logged| logged.bytes));
    }
    if !ops.is_empty() {
        authority.store(ops).map_err(Unwritten::Refused)?;
    }
    let committed = batch.commit();
    if committed.is_err() {
        authority.doubt();
    }
    Ok(committed?)
}

/// The author of what is written because of damage.
const REPAIR: &str = "repair";

const NOT_KNOWN: &str = "the twin says what is not known here: is it of another version?";

const PUT_BACK: &str = "nothing is changed: an older copy of the configuration was put back here, and the \
                        other server is sending what it lacks; try again in a moment";

/// A UUID of version 7 (RFC 9562 §5.7).
fn user_id(millis: u64, dice: &mut Dice) -> UserId {
    let mut id = [0; 16];
    dice.fill(&mut id[6..]);
    id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    id[6] = 0x70 | (id[6] & 0x0f);
    id[8] = 0x80 | (id[8] & 0x3f);
    id
}
