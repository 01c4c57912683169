//! The thread that keeps the connection: edits go through it, others' ops come from it, and the records
//! of the journal are sent on.
//!
//! ```text
//!   connect ──> Exchange (what is there) ──> Here (what is here, and what is lacking there)
//!      ^              ^                         │
//!      │              └── until both have all ──┘──> the first records ──> live: edits are taken
//!      └── away: asked again every second          │
//!             ^────────── no answer in time ───────┘
//! ```
//!
//! Invariant: it is live only while every op that is there is here as well. So a number of ours is never
//! given twice: where it is not known whether an op arrived, nothing is written before both have
//! compared again, and an op that did arrive is taken from there.

use core::convert::Infallible;
use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tandem_journal::{Cursor, Known, Record};
use tandem_oplog::{Chain, OpId, PART_BYTES, Seen};
use tandem_types::{Seq, Stamp};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::access::Access;
use crate::database::{Database, PATIENCE, more_patience};
use crate::schema::Setup;
use crate::trouble::Trouble;

/// Pause between two tries to connect.
const RETRY: Duration = Duration::from_secs(1);

/// How often is looked for records, and for ops of which no bell told.
const LOOK: Duration = Duration::from_millis(500);

/// So often both compare what they have, whether or not anything was heard: what came here past the database
/// (a twin that knows of none) gets there so.
const COMPARE: Duration = Duration::from_secs(60);

/// How often the waiting records are counted while they wait.
const COUNT: Duration = Duration::from_secs(5);

/// An exchange that is not answered by our own side within this time begins anew.
const EXCHANGE: Duration = Duration::from_secs(20);

/// Who makes an edit waits a little longer than the database may take.
const STORE_WAIT: Duration = Duration::from_secs(PATIENCE.as_secs() + 1);

/// The journal of this machine, to read from.
pub trait Spool: Send {
    /// Up to where every record is in it.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn known(&mut self) -> Result<Known, String>;

    /// The next log records that `known` does not cover, in the order of stamp and key; with where to go on,
    /// or `None` when there are no more. What is damaged is left out: see [`Spool::doubt`].
    ///
    /// # Errors
    ///
    /// It cannot be read, or damage was met of which nobody has heard.
    fn read(
        &mut self,
        known: &Known,
        after: &Cursor,
    ) -> Result<(Vec<Record>, Option<Cursor>), String>;

    /// Takes from `known` what was left out by [`Spool::read`] because it is damaged: who has it whole is to bring it.
    fn doubt(&self, known: &mut Known) {
        let _ = known;
    }

    /// How many log records `known` does not cover.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn count(&mut self, known: &Known) -> Result<u64, String>;

    /// Every record up to here is in the database: it may be deleted on this machine.
    fn sent(&mut self, known: &Known) {
        let _ = known;
    }

    /// Wall time, microseconds since 1970.
    fn wall_micros(&self) -> i64;
}

/// What the thread tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Compare, take these ops, and answer by [`Line::here`] or [`Line::refuse`].
    Exchange {
        /// Comes back with the answer.
        round: u64,
        /// The last op of each origin that is there, with its chain.
        heads: Vec<(OpId, Chain)>,
        /// Ops that are lacking here, in an order in which they can be taken.
        ops: Vec<Vec<u8>>,
    },
    /// It is live, at this host.
    Live(String),
    /// It is not any more, or not yet; why.
    Gone(Trouble),
    /// The journal cannot be read.
    Spool(String),
}

/// What is here: the answer to [`Report::Exchange`].
#[derive(Clone, Debug, PartialEq)]
pub struct Here {
    /// Of the question.
    pub round: u64,
    /// Every op that is on the disk of this machine.
    pub seen: Seen,
    /// Ops that are lacking there, a part of them: the next question brings the next part.
    pub ops: Vec<Vec<u8>>,
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// Nothing was heard yet, or the two compare what they have.
    #[default]
    Connecting,
    /// Edits are taken, records are sent.
    Live,
    /// It does not answer.
    Away,
    /// It answers and will not do.
    Refused,
}

/// How it stands, since when, and what waits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// How.
    pub state: State,
    /// Since when: microseconds since 1970. For [`State::Away`] since the last time that it was live.
    pub since_micros: i64,
    /// The host that answered last.
    pub host: Option<String>,
    /// When it answered last.
    pub heard: Option<Instant>,
    /// Why it is not live.
    pub why: Option<String>,
    /// Records that wait here; `None` while it has never said what it has.
    pub waiting: Option<u64>,
    /// Every record up to here is there: it may be deleted on this machine.
    pub shipped: Known,
}

/// Why an edit is not stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// It was not even asked.
    NotReady(Box<Standing>),
    /// It says no; nothing is changed.
    Refused(String),
    /// It did not answer in time: nobody knows yet.
    Doubt(String),
}

enum Order {
    Store { ops: Vec<Vec<u8>>, until: Instant, reply: SyncSender<Result<(), Trouble>> },
    Here(Here),
    Refuse { round: u64, why: String },
    Doubt,
}

impl Order {
    /// Nobody can carry it out now.
    fn put_off(self) {
        match self {
            // Who asked before it was known hears it now.
            Self::Store { reply, .. } => {
                let _ = reply.try_send(Err(Trouble::Away("it does not answer".to_owned())));
            }
            Self::Here(_) | Self::Refuse { .. } | Self::Doubt => {}
        }
    }
}

/// The way to the thread, for whoever needs it.
#[derive(Clone, Debug)]
pub struct Line {
    orders: UnboundedSender<Order>,
    standing: Arc<Mutex<Standing>>,
}

impl Line {
    /// How it stands.
    pub fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    /// Whether an edit may be asked for.
    ///
    /// # Errors
    ///
    /// It is not live.
    pub fn ready(&self) -> Result<(), Stored> {
        let standing = lock(&self.standing);
        match standing.state {
            State::Live => Ok(()),
            State::Connecting | State::Away | State::Refused => {
                Err(Stored::NotReady(Box::new(standing.clone())))
            }
        }
    }

    /// Brings ops there, and waits until they are committed. For threads that may wait.
    ///
    /// # Errors
    ///
    /// They are not, or it is not known. Then nothing more is taken until both have compared.
    pub fn store(&self, ops: Vec<Vec<u8>>) -> Result<(), Stored> {
        self.ready()?;
        let (reply, answer) = sync_channel(1);
        let wait = STORE_WAIT + more_patience(&ops);
        let until = Instant::now() + wait;
        if self.orders.send(Order::Store { ops, until, reply }).is_err() {
            return Err(Stored::Refused("its thread has ended".to_owned()));
        }
        let stored = match answer.recv_timeout(wait) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Trouble::Away(what))) => Stored::Doubt(what),
            Ok(Err(Trouble::Refused(what))) => Stored::Refused(what),
            Err(RecvTimeoutError::Timeout) => {
                Stored::Doubt(format!("no answer within {} s", wait.as_secs()))
            }
            Err(RecvTimeoutError::Disconnected) => Stored::Doubt("this server stops".to_owned()),
        };
        self.doubt();
        Err(stored)
    }

    /// What is there and what is here may differ: nothing is taken until both have compared.
    pub fn doubt(&self) {
        let mut standing = lock(&self.standing);
        if standing.state == State::Live {
            standing.state = State::Connecting;
        }
        drop(standing);
        // A thread that has ended is never live again.
        let _ = self.orders.send(Order::Doubt);
    }

    /// Answers [`Report::Exchange`].
    pub fn here(&self, here: Here) {
        let _ = self.orders.send(Order::Here(here));
    }

    /// Answers [`Report::Exchange`]: what is there cannot be brought together with what is here.
    pub fn refuse(&self, round: u64, why: String) {
        let _ = self.orders.send(Order::Refuse { round, why });
    }
}

/// The thread. It ends when this is dropped, whatever it waits for; what is not done stays in the journal.
#[derive(Debug)]
pub struct Worker {
    line: Line,
    /// The thread lives as long as this.
    life: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// `report` is called from the thread, with the way to it, and may not wait.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn start(
        access: Access,
        setup: Setup,
        spool: Box<dyn Spool>,
        report: impl Fn(&Line, Report) + Send + 'static,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (orders, inbox) = unbounded_channel();
        let since_micros = spool.wall_micros();
        let standing = Standing { since_micros, ..Standing::default() };
        let standing = Arc::new(Mutex::new(standing));
        let line = Line { orders, standing: Arc::clone(&standing) };
        let mut work = Work {
            access,
            setup,
            spool,
            report: Box::new(report),
            inbox,
            line: line.clone(),
            standing,
            round: 0,
            shipped: None,
            counted: None,
            unreadable: None,
        };
        let thread = std::thread::Builder::new().name("postgres".to_owned());
        let (life, over) = oneshot::channel();
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = over => {}
                    () = work.run() => {}
                }
            });
            // A name that is still being looked up keeps nobody waiting.
            runtime.shutdown_background();
        })?;
        Ok(Self { line, life: Some(life), thread: Some(thread) })
    }

    /// The way to it.
    pub fn line(&self) -> Line {
        self.line.clone()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.life.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn lock(standing: &Mutex<Standing>) -> MutexGuard<'_, Standing> {
    standing.lock().unwrap_or_else(PoisonError::into_inner)
}

type Teller = Box<dyn Fn(&Line, Report) + Send>;

struct Work {
    access: Access,
    setup: Setup,
    spool: Box<dyn Spool>,
    report: Teller,
    inbox: UnboundedReceiver<Order>,
    line: Line,
    standing: Arc<Mutex<Standing>>,
    round: u64,
    /// Every record up to here is there, as far as it has said, or is damaged here.
    shipped: Option<Known>,
    /// When the waiting records were counted last.
    counted: Option<Instant>,
    /// Why the journal could not be read last, as it was told.
    unreadable: Option<String>,
}

impl Work {
    fn tell(&self, report: Report) {
        (self.report)(&self.line, report);
    }

    /// Tells why the journal cannot be read, once.
    fn unreadable(&mut self, what: String) {
        if self.unreadable.as_ref() != Some(&what) {
            self.unreadable = Some(what.clone());
            self.tell(Report::Spool(what));
        }
    }

    async fn run(&mut self) {
        loop {
            let (access, setup) = (self.access.clone(), self.setup.clone());
            let trouble = match self.meanwhile(Database::connect(&access, setup)).await {
                Ok(database) => {
                    let Err(trouble) = self.live(database).await;
                    trouble
                }
                Err(trouble) => trouble,
            };
            self.gone(trouble);
            self.meanwhile(tokio::time::sleep(RETRY)).await;
        }
    }

    /// What is ordered meanwhile is put off.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(order) = self.inbox.recv() => order.put_off(),
            }
        }
    }

    fn gone(&mut self, trouble: Trouble) {
        let state = match &trouble {
            Trouble::Away(_) => State::Away,
            Trouble::Refused(_) => State::Refused,
        };
        let why = trouble.to_string();
        let now = self.spool.wall_micros();
        let mut standing = lock(&self.standing);
        let is_new = standing.why.as_ref() != Some(&why) || standing.state != state;
        let begins = standing.why.is_none();
        if begins {
            standing.since_micros = now;
        }
        (standing.state, standing.why) = (state, Some(why));
        drop(standing);
        if is_new {
            self.tell(Report::Gone(trouble));
        }
        if begins || self.counted.is_none_or(|at| at.elapsed() >= COUNT) {
            self.count();
        }
    }

    fn count(&mut self) {
        if let Some(shipped) = self.shipped.clone() {
            self.count_beyond(&shipped);
        }
    }

    fn count_beyond(&mut self, sent: &Known) {
        self.counted = Some(Instant::now());
        match self.spool.count(sent) {
            Ok(waiting) => lock(&self.standing).waiting = Some(waiting),
            Err(what) => self.unreadable(what),
        }
    }

    /// Until the connection is not used any more.
    async fn live(&mut self, database: Database) -> Result<Infallible, Trouble> {
        let shipped = database.known().await?;
        lock(&self.standing).shipped = shipped.clone();
        lock(&self.standing).host = Some(database.host().to_owned());
        self.spool.sent(&shipped);
        self.shipped = Some(shipped);
        self.count();
        let mut life = Life {
            bell: database.bell(),
            database,
            seen: Seen::new(),
            asked: None,
            compared: Instant::now(),
            pushed: false,
            is_proven: false,
            is_live: false,
            has_walked: false,
            sending: None,
        };
        life.ask(self, Vec::new()).await?;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let bell = Arc::clone(&life.bell);
            tokio::select! {
                biased;
                Some(order) = self.inbox.recv() => life.order(self, order).await,
                () = bell.notified() => life.look(self).await,
                _ = look.tick() => life.look(self).await,
                () = core::future::ready(()), if life.sending.is_some() => life.send(self).await,
            }?;
        }
    }
}

/// One connection.
struct Life {
    database: Database,
    bell: Arc<tokio::sync::Notify>,
    /// What is here, as far as our own side has said.
    seen: Seen,
    /// A question is on its way to our own side, since then.
    asked: Option<Instant>,
    /// When our own side was asked last.
    compared: Instant,
    /// Something was lacking there in the last answer: there may be more.
    pushed: bool,
    /// It has taken records, or none can be sent. One with a full disk answers, and would be live and away in turn.
    is_proven: bool,
    is_live: bool,
    /// Everything in the journal was read once, also what it does not claim to know.
    has_walked: bool,
    /// Where in the journal the sending is, and up to where it will be when all is sent.
    sending: Option<(Known, Cursor)>,
}

impl Life {
    async fn ask(&mut self, work: &mut Work, ops: Vec<Vec<u8>>) -> Result<(), Trouble> {
        work.round += 1;
        let heads = self.database.heads().await?;
        self.compared = Instant::now();
        self.asked = Some(self.compared);
        work.tell(Report::Exchange { round: work.round, heads, ops });
        Ok(())
    }

    async fn order(&mut self, work: &mut Work, order: Order) -> Result<(), Trouble> {
        match order {
            Order::Store { ops, until, reply } => {
                // Who has gone has said that it is not done.
                if until <= Instant::now() || !self.is_live {
                    let _ = reply.try_send(Err(Trouble::Away("it came too late".to_owned())));
                    return Ok(());
                }
                let stored = self.database.take(&ops).await;
                let _ = reply.try_send(stored.clone());
                stored?;
                for op in ops.iter().filter_map(|op| tandem_oplog::Op::decode(op).ok()) {
                    self.seen.learn(op.id);
                }
                Ok(())
            }
            Order::Here(here) if here.round == work.round => {
                self.asked = None;
                self.seen = here.seen;
                self.pushed = !here.ops.is_empty();
                if self.pushed {
                    self.database.take(&here.ops).await?;
                }
                self.look(work).await
            }
            Order::Refuse { round, why } if round == work.round => Err(Trouble::Refused(why)),
            // Of an exchange that is over.
            Order::Here(_) | Order::Refuse { .. } => Ok(()),
            Order::Doubt => Err(Trouble::Away("both compare what they have".to_owned())),
        }
    }

    /// Whether something is there that is lacking here.
    async fn look(&mut self, work: &mut Work) -> Result<(), Trouble> {
        if self.database.is_closed() {
            return Err(Trouble::Away("the connection is closed".to_owned()));
        }
        if let Some(asked) = self.asked {
            return if asked.elapsed() < EXCHANGE {
                Ok(())
            } else {
                let what = "the configuration of this server does not keep up";
                Err(Trouble::Away(what.to_owned()))
            };
        }
        let heads = self.database.heads().await?;
        lock(&work.standing).heard = Some(Instant::now());
        let ops = match heads.iter().all(|(id, _)| self.seen.has(*id)) {
            true => Vec::new(),
            false => self.database.lacking(&self.seen, PART_BYTES).await?,
        };
        if !ops.is_empty() || self.pushed || self.compared.elapsed() >= COMPARE {
            self.pushed = false;
            return self.ask(work, ops).await;
        }
        self.find(work);
        self.is_proven |= self.sending.is_none();
        if self.is_proven && !self.is_live {
            self.is_live = true;
            let mut standing = lock(&work.standing);
            (standing.state, standing.why) = (State::Live, None);
            standing.since_micros = work.spool.wall_micros();
            drop(standing);
            work.tell(Report::Live(self.database.host().to_owned()));
        }
        Ok(())
    }

    /// Whether records wait.
    fn find(&mut self, work: &mut Work) {
        let (None, Some(shipped)) = (&self.sending, &work.shipped) else { return };
        match work.spool.known() {
            Ok(known) if self.has_walked && known.iter().all(|stamp| shipped.covers(stamp)) => {
                work.unreadable = None;
            }
            Ok(known) => self.sending = Some((known, Cursor(None))),
            Err(what) => work.unreadable(what),
        }
    }

    /// Sends the next records of the journal.
    async fn send(&mut self, work: &mut Work) -> Result<(), Trouble> {
        let (Some((known, after)), Some(shipped)) = (self.sending.take(), &work.shipped) else {
            return Ok(());
        };
        let read_before = if self.has_walked { unread(shipped, &known) } else { shipped.clone() };
        let (records, next) = match work.spool.read(&read_before, &after) {
            Ok(read) => read,
            Err(what) => {
                work.unreadable(what);
                // That says nothing of the database: edits go on.
                self.is_proven = true;
                return Ok(());
            }
        };
        work.unreadable = None;
        let mut sure = known.clone();
        work.spool.doubt(&mut sure);
        let whole = next.is_none().then_some(&sure);
        if !records.is_empty() || after != Cursor(None) {
            self.database.put(&records, whole, work.spool.wall_micros()).await?;
            self.is_proven = true;
        }
        match next {
            Some(next) => {
                // Anew: of a long queue only the beginning is counted, and less these it would be none too soon.
                work.count_beyond(&until(shipped, &known, &next));
                self.sending = Some((known, next));
            }
            None => {
                self.has_walked = true;
                let shipped = work.shipped.get_or_insert_with(Known::new);
                shipped.merge(&known);
                let mut standing = lock(&work.standing);
                standing.waiting = Some(0);
                standing.shipped.merge(&sure);
                work.spool.sent(&standing.shipped);
            }
        }
        if self.is_live { Ok(()) } else { self.look(work).await }
    }
}

/// What is not read for what `known` has beyond `shipped`. After damage a journal may hold much that it does not claim
/// to know: of such a reign nothing is sent again and again.
fn unread(shipped: &Known, known: &Known) -> Known {
    let mut all = shipped.clone();
    for stamp in known.iter().filter(|stamp| shipped.covers(*stamp)) {
        all.learn(Stamp { seq: Seq(u64::MAX), ..stamp });
    }
    all
}

/// What is there when `known` is sent up to this place. Records go in the order of their stamps; of the entry at the
/// place some may still lack.
fn until(shipped: &Known, known: &Known, place: &Cursor) -> Known {
    let mut there = shipped.clone();
    if let Some((last, _)) = &place.0 {
        known.iter().filter(|end| end.epoch < last.epoch).for_each(|end| there.learn(end));
        there.learn(Stamp { seq: Seq(last.seq.0.saturating_sub(1)), ..*last });
    }
    there
}
