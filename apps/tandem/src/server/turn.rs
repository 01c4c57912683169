//! The loop of the server: one turn takes what has happened, then does what follows.

use std::collections::BTreeMap;

use tandem_config::{Ask, Order, Told as ConfigTold, Work};
use tandem_dialplan::Edit;
use tandem_keeper::{
    DamagedRows, DatabaseFigures, KeeperMessage, PHONES_MAX, Progress, ServerMessage,
};
use tandem_link::{Class, Link, LinkEvent, Unsent};
use tandem_net::NetEvent;
use tandem_node::{Fact, Input, Node, Output, Standing};
use tandem_os::clock;
use tandem_pair::Timings;
use tandem_store::tables::By;
use tandem_store::{Store, StoreEvent};
use tandem_types::{Duration, Instant, Role};
use tokio::sync::oneshot;

use super::backup::{BackupThread, Said};
use super::commands::{Answer, Question, Wanted};
use super::endpoints::{Endpoints, Sent};
use super::events::{Batch, Events};
use super::files::{FilesThread, Outgoing};
use super::keeper_line::Heard;
use super::likeness::Follower;
use super::lost::Lost;
use super::postgres::{DatabaseThread, StoreAsk, StoreTold};
use super::settings::{Behind, ConfigThread};
use super::suspect::Suspects;
use super::told::Told;
use super::twins::{self, Aside, TwinAsk, Twins};
use crate::logging::Log;

/// How often the keeper is told where a few phones are.
const PHONES_PAUSE: Duration = Duration::from_secs(5);
/// The same stranger is told of once in this time.
const FOREIGN_PAUSE: Duration = Duration::from_secs(60);
/// Pause between two looks at the clock on the wall.
const WALL_PAUSE: Duration = Duration::from_secs(1);

/// What a server is made of.
pub(super) struct Parts {
    pub(super) node: Node,
    pub(super) endpoints: Endpoints,
    pub(super) link: Link,
    pub(super) store: Store,
    pub(super) settings: ConfigThread,
    pub(super) files: FilesThread,
    pub(super) database: Option<DatabaseThread>,
    pub(super) backup: Option<BackupThread>,
    pub(super) twins: Twins,
    pub(super) lost: Lost,
    pub(super) suspects: Suspects,
    /// What happened before the keeper was there to hear it.
    pub(super) said: Vec<Said>,
}

/// Told to whoever wants a change while the disk does not keep up.
const TOO_MANY: &str = "too many changes wait for the disk; nothing is changed";

/// The value, and everything it works with.
pub(super) struct Server<'a> {
    node: Node,
    endpoints: Endpoints,
    link: Link,
    store: Store,
    settings: ConfigThread,
    files: FilesThread,
    outgoing: Outgoing,
    /// It works for as long as this is here.
    _backup: Option<BackupThread>,
    database: Option<DatabaseThread>,
    twins: Twins,
    lost: Lost,
    suspects: Suspects,
    log: &'a Log,
    progress_pause: Duration,
    next_progress: Instant,
    next_phones: Instant,
    next_wall: Instant,
    /// Counts turns: the sign of life.
    turns: u64,
    /// What the keeper was told last.
    told: Option<Standing>,
    /// What the keeper is to keep.
    facts: Told,
    /// How the configuration stands to that of the twin.
    likeness: Follower,
    /// Rows of it that are damaged here.
    damaged: Option<DamagedRows>,
    /// How the database stood when the wall was looked at.
    figures: Option<DatabaseFigures>,
    /// Who wanted to be the twin and is not, and when that was told.
    foreign: Option<(Instant, String)>,
    answers: BTreeMap<u64, oneshot::Sender<Answer>>,
    next_answer: u64,
    /// Why to stop.
    stop: Option<&'static str>,
}

impl<'a> Server<'a> {
    /// Ready for its first turn.
    pub(super) fn new(parts: Parts, log: &'a Log, timings: Timings) -> Self {
        let mut server = Self {
            node: parts.node,
            endpoints: parts.endpoints,
            link: parts.link,
            store: parts.store,
            settings: parts.settings,
            files: parts.files,
            outgoing: Outgoing::default(),
            _backup: parts.backup,
            database: parts.database,
            twins: parts.twins,
            lost: parts.lost,
            suspects: parts.suspects,
            log,
            progress_pause: timings.progress,
            next_progress: Instant::ZERO,
            next_phones: Instant::ZERO,
            next_wall: Instant::ZERO,
            turns: 0,
            told: None,
            facts: Told::new(clock::now()),
            likeness: Follower::default(),
            damaged: None,
            figures: None,
            foreign: None,
            answers: BTreeMap::new(),
            next_answer: 0,
            stop: None,
        };
        parts.said.into_iter().for_each(|said| server.say(clock::now(), said));
        server
    }

    /// For the log, and for whoever asks what happened.
    fn say(&mut self, now: Instant, (kind, sentence): Said) {
        self.log.say(&sentence);
        self.facts.tell(now, kind, sentence);
    }

    /// Turns until there is a reason to stop.
    pub(super) async fn run(mut self, mut events: Events) -> anyhow::Result<()> {
        let mut batch = Batch::default();
        self.wall(clock::now());
        // The own addresses are bound before the keeper hears that we are ready.
        self.bind(clock::now());
        events.keeper().say(&ServerMessage::Ready)?;
        while self.stop.is_none() {
            let now = clock::now();
            self.take(now, &mut batch);
            self.work(now);
            self.deliver(now).await;
            self.tell(now, &events)?;
            events.gather(self.next_timeout(), &mut batch).await;
        }
        // Nothing leaves from here on: first the addresses, then the word, then the rest.
        let why = self.stop.unwrap_or_default();
        self.endpoints.serve(false).await;
        let _ = events.keeper().say(&ServerMessage::Stopping);
        self.log.say(&format!("stopping: {why}"));
        self.link.close("stopping").await;
        // Whoever waits for the database hears that it is over; dropping the store writes what waits. The keeper
        // kills a server that has hung up: that comes last.
        drop((self.database, self.store, self.settings, self.files));
        drop(events);
        Ok(())
    }

    /// Hands everything that has happened to the node.
    fn take(&mut self, now: Instant, batch: &mut Batch) {
        for heard in batch.keeper.drain(..) {
            match heard {
                Heard::Said(KeeperMessage::Lease { role, epoch, valid_until_micros }) => {
                    let until = Instant::from_micros(valid_until_micros);
                    self.node.handle(now, Input::Lease { role, epoch, until });
                }
                Heard::Said(KeeperMessage::HandOver { epoch, valid_until_micros }) => {
                    let until = Instant::from_micros(valid_until_micros);
                    self.node.handle(now, Input::HandOver { epoch, until });
                }
                Heard::Said(KeeperMessage::Stop) => self.stop = Some("the keeper says so"),
                Heard::Gone => self.stop = Some("the keeper is gone"),
            }
        }
        if batch.terminate {
            self.stop = Some("told to terminate");
        }
        for event in batch.net.drain(..) {
            match event {
                NetEvent::Bytes { flow, bytes } => {
                    self.node.handle(now, Input::Bytes { flow, bytes });
                }
                NetEvent::Failed { flow, .. } => self.node.handle(now, Input::FlowFailed(flow)),
                NetEvent::Closed { flow, .. } => self.node.handle(now, Input::FlowClosed(flow)),
                NetEvent::Opened { .. } => {}
            }
        }
        for event in batch.link.drain(..) {
            self.linked(now, event);
        }
        for event in batch.store.drain(..) {
            self.stored(now, event);
        }
        for output in batch.config.drain(..) {
            self.configured(now, output);
        }
        for output in batch.files.drain(..) {
            self.filed(now, output);
        }
        for aside in batch.asides.drain(..) {
            match aside {
                Aside::Said(said) => self.say(now, said),
                // Where the link refuses it, whoever asked hears nothing.
                Aside::ToTwin(message) => drop(self.link.send(Class::Ops, message)),
            }
        }
        for Question { wanted, author, back } in batch.questions.drain(..) {
            self.answers.retain(|_, back| !back.is_closed());
            self.next_answer += 1;
            let id = self.next_answer;
            self.answers.insert(id, back);
            match wanted {
                Wanted::Node(request) => {
                    self.node.handle(now, Input::Admin { id, request, by: author });
                }
                Wanted::Config(ask) => self.ask(id, ask, author),
                Wanted::Twin(ask) => self.ask_twin(id, &ask),
                Wanted::Store(StoreAsk::StoreShow) => {
                    let told = self.database.as_ref().map(DatabaseThread::told);
                    self.answer(id, Answer::Store(told.unwrap_or(StoreTold::Embedded)));
                }
            }
        }
    }

    fn linked(&mut self, now: Instant, event: LinkEvent) {
        match event {
            LinkEvent::Up { .. } => {
                let up = String::from("the link to the twin is up");
                self.facts.tell(now, "server_link_up", up);
                let told = self.settings.link(true);
                self.settings_behind(told);
                self.files_link(true);
                self.node.handle(now, Input::LinkUp);
            }
            LinkEvent::Frame(Class::Hot, bytes) => self.node.handle(now, Input::Frame(bytes)),
            LinkEvent::Frame(Class::Ops, bytes) if twins::is_ours(&bytes) => {
                self.twins.hear(&bytes);
            }
            LinkEvent::Frame(Class::Ops, bytes) => {
                let told = self.settings.message(bytes);
                self.settings_behind(told);
            }
            LinkEvent::Frame(Class::Bulk, bytes) => {
                let told = self.files.message(bytes);
                self.files_behind(told);
            }
            LinkEvent::Down { why, .. } => {
                let down = format!("the link to the twin is down: {why}");
                self.log.say(&down);
                self.facts.tell(now, "server_link_down", down);
                // Where it hears that too late, the next connection begins the exchange anew.
                let _ = self.settings.link(false);
                self.files_link(false);
                self.twins.cut();
                self.node.handle(now, Input::LinkDown);
            }
            LinkEvent::Foreign { address, why } => {
                let text = format!("{address} is not the twin: {why}");
                // It tries again and again.
                let is_old = self
                    .foreign
                    .as_ref()
                    .is_some_and(|(at, told)| *told == text && now < *at + FOREIGN_PAUSE);
                if !is_old {
                    self.log.say(&text);
                    self.facts.tell(now, "server_foreign", text.clone());
                    self.foreign = Some((now, text));
                }
            }
        }
    }

    fn settings_behind(&mut self, told: Result<(), Behind>) {
        match told {
            Ok(()) => {}
            Err(Behind::Full) => self.link.reset("the disk of the configuration does not keep up"),
            // The keeper starts a whole server; the twin serves meanwhile.
            Err(Behind::Gone) => self.stop = Some("the thread of the configuration has ended"),
        }
    }

    fn files_link(&mut self, up: bool) {
        self.outgoing.clear();
        let told = self.files.link(up);
        self.files_behind(told);
    }

    fn files_behind(&mut self, told: Result<(), Behind>) {
        match told {
            Ok(()) => {}
            Err(Behind::Full) => self.link.reset("the disk of the files does not keep up"),
            Err(Behind::Gone) => self.stop = Some("the thread of the files has ended"),
        }
    }

    fn filed(&mut self, now: Instant, output: tandem_files::Output) {
        match output {
            tandem_files::Output::Send(message) => self.outgoing.send(&self.link, message),
            tandem_files::Output::Fact(fact) => {
                let text = fact.to_string();
                self.log.say(&text);
                self.facts.tell(now, fact.name(), text);
            }
        }
    }

    fn configured(&mut self, now: Instant, output: tandem_config::Output) {
        use tandem_config::Output as Said;
        match self.lost.hear(&output) {
            None => {}
            Some(Ok(said)) => self.say(now, said),
            // The next time that both are equal it is tried again.
            Some(Err(error)) => self.log.say(&format!("{}: {error}", super::LOST)),
        }
        match output {
            Said::Send(message) => match self.link.send(Class::Ops, message) {
                // A link that is down says so.
                Ok(()) | Err(Unsent::Down) => {}
                // The exchange misses nothing, or begins anew.
                Err(why @ (Unsent::Full | Unsent::TooLong)) => {
                    self.link.reset(&format!("a message of the configuration: {why}"));
                }
            },
            Said::Edited { id, result } => self.node.handle(now, Input::Edited { id, result }),
            Said::Changed(edits) => self.node.handle(now, Input::Changed(edits)),
            Said::Files(rows) => {
                let told = self.files.rows(rows);
                self.files_behind(told);
            }
            Said::Told { id, told } => self.answer(id, Answer::Config(told)),
            Said::Standing(standing) => self.likeness.note(now, standing),
            Said::Unreadable(damaged) => {
                let rows = |tandem_config::Damaged { rows, waits_for }| {
                    let twin_is_older = waits_for == tandem_oplog::WaitsFor::Upgrade;
                    DamagedRows { rows, twin_is_older }
                };
                self.damaged = damaged.map(rows);
            }
            Said::Fact(fact) => {
                let text = fact.to_string();
                self.log.say(&text);
                self.facts.tell(now, fact.name(), text);
            }
            Said::Damaged(what) => self.suspect(now, tandem_config::FILE_NAME, &what),
            Said::Failed(what) => self.log.say(&format!("the configuration: {what}")),
        }
    }

    fn order(&mut self, now: Instant, id: u64, edit: Edit, by: String) {
        let by = self.by(by);
        let ordered = self.settings.order(Order { id, work: Work::Edit(edit), by });
        if ordered == Err(Behind::Gone) {
            self.settings_behind(ordered);
        }
        if ordered.is_err() {
            self.node.handle(now, Input::Edited { id, result: Err(TOO_MANY.to_owned()) });
        }
    }

    /// Edits and questions have numbers of their own: their answers are of two kinds.
    fn ask(&mut self, id: u64, ask: Ask, author: String) {
        let by = self.by(author);
        let ordered = self.settings.order(Order { id, work: Work::Ask(ask), by });
        if ordered == Err(Behind::Gone) {
            self.settings_behind(ordered);
        }
        if ordered.is_err() {
            self.answer(id, Answer::Config(ConfigTold::NotDecided(TOO_MANY.to_owned())));
        }
    }

    fn ask_twin(&mut self, id: u64, ask: &TwinAsk) {
        let (told, message) = self.twins.ask(ask);
        if message.is_some_and(|message| self.link.send(Class::Ops, message).is_err()) {
            self.twins.cut();
        }
        self.answer(id, Answer::Twin(told));
    }

    fn by(&self, author: String) -> By {
        let wall_millis = clock::wall_micros() / 1_000;
        By { author, wall_millis, epoch: self.node.standing().epoch }
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        if let Some(back) = self.answers.remove(&id) {
            // Who asked may have gone.
            let _ = back.send(answer);
        }
    }

    fn stored(&mut self, now: Instant, event: StoreEvent) {
        match event {
            StoreEvent::Stored { ticket } => self.node.handle(now, Input::Stored(ticket)),
            StoreEvent::Failing { what, .. } => {
                self.log.say(&format!("the disk takes no writes: {what}"));
                self.node.handle(now, Input::Disk(false));
            }
            StoreEvent::Recovered => self.node.handle(now, Input::Disk(true)),
            StoreEvent::Dropped { writes } => self.log.say(&format!(
                "{writes} writes were dropped, the disk was away for too long: what they held is \
                 in memory here and on the twin"
            )),
            StoreEvent::Deleted { records } => {
                self.log
                    .say(&format!("{records} old records of calls and their events are deleted"));
            }
            StoreEvent::Damaged { records } => {
                let stamps = records.into_iter().map(|record| record.stamp).collect();
                self.node.handle(now, Input::Damaged(stamps));
            }
            StoreEvent::Fetched { read, records, next } => {
                self.node.handle(now, Input::Fetched { read, records, next });
            }
            StoreEvent::Looked { key, found } => {
                self.node.handle(now, Input::Looked { key, found });
            }
            StoreEvent::Suspect { what } => self.suspect(now, tandem_store::FILE_NAME, &what),
            StoreEvent::FetchFailed { what } => {
                // Nothing to give to the twin: it must not believe that it has everything.
                self.log.say(&format!("the disk cannot be read: {what}"));
                self.link.reset("the disk cannot be read");
            }
        }
    }

    fn suspect(&mut self, now: Instant, name: &str, what: &str) {
        let said = self.suspects.found(now, name, what, &self.node.status(now));
        self.say(now, said);
    }

    /// What is due by the clock.
    fn work(&mut self, now: Instant) {
        self.bind(now);
        self.outgoing.work(&self.link);
        if self.next_wall <= now {
            self.wall(now);
        }
        if self.node.next_timeout().is_some_and(|due| due <= now) {
            self.node.handle_timeout(now);
        }
        if self.suspects.should_end(now, || self.node.status(now), self.likeness.likeness(now)) {
            self.stop =
                Some("a file of this machine was found damaged, and the other one carries on");
        }
    }

    fn bind(&mut self, now: Instant) {
        if let Some(text) = self.endpoints.work(now) {
            self.log.say(&text);
        }
        if self.endpoints.is_useless(now) {
            self.stop = Some("the virtual address cannot be used here");
        }
    }

    fn wall(&mut self, now: Instant) {
        self.next_wall = now + WALL_PAUSE;
        let wall = i64::try_from(clock::wall_micros()).unwrap_or(i64::MAX);
        self.node.handle(now, Input::Wall(wall));
        self.figures = self.database.as_ref().map(DatabaseThread::figures);
    }

    fn next_timeout(&self) -> Instant {
        let others = [self.node.next_timeout(), self.endpoints.next_timeout()];
        let own = self.next_progress.min(self.next_wall);
        others.into_iter().flatten().fold(own, Instant::min)
    }

    /// Does what the node wants.
    async fn deliver(&mut self, now: Instant) {
        while let Some(output) = self.node.poll_output(now) {
            match output {
                Output::Transmit { flow, bytes } => {
                    if self.endpoints.send(flow, bytes) == Sent::Failed {
                        self.node.handle(now, Input::FlowFailed(flow));
                    }
                }
                // Where the link refuses a frame it is down, and says so.
                Output::Frame(frame) => drop(self.link.send(Class::Hot, frame)),
                Output::Store { write, sync, ticket } => {
                    if let Err(refused) = self.store.write(write, sync, ticket) {
                        self.log.say(&format!("a write is lost: {refused}"));
                    }
                }
                Output::Fetch { lacking, after, read } => self.store.fetch(lacking, after, read),
                Output::Look { key } => self.store.look(key),
                Output::Edit { id, edit, by } => self.order(now, id, edit, by),
                Output::Retain(days) => self.store.retain(super::keep_for(days)),
                Output::Serve(serving) => {
                    self.endpoints.serve(serving).await;
                    self.bind(now);
                }
                Output::Answer { id, reply } => self.answer(id, Answer::Node(reply)),
                Output::Fact(fact) => {
                    tell(self.log, &fact);
                    self.facts.fact(now, &fact);
                }
            }
        }
    }

    /// Tells the keeper that we live, and at once what it decides by.
    fn tell(&mut self, now: Instant, events: &Events) -> std::io::Result<()> {
        self.turns += 1;
        for fact in self.facts.take() {
            events.keeper().say(&ServerMessage::Fact(fact))?;
        }
        if self.next_phones <= now {
            self.next_phones = now + PHONES_PAUSE;
            let phones = self.node.phones(now, PHONES_MAX);
            events.keeper().say(&ServerMessage::Phones(phones))?;
        }
        let standing = Some(self.node.standing());
        if self.told == standing && now < self.next_progress {
            return Ok(());
        }
        self.next_progress = now + self.progress_pause;
        self.told = standing;
        events.keeper().say(&match self.lost.is() {
            true => ServerMessage::Waiting(self.turns),
            false => ServerMessage::Progress(self.progress(now)),
        })
    }

    fn progress(&self, now: Instant) -> Progress {
        let status = self.node.status(now);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Progress {
            counter: self.turns,
            role: status.role,
            epoch: status.newest.epoch,
            last_seq: status.newest.seq,
            in_sync: status.role == Role::Passive && status.in_sync,
            protected: status.role == Role::Active && status.in_sync,
            serving: status.serving,
            calls: count(status.calls),
            phone_heard: status.phone_heard,
            bindings: count(status.bindings),
            link_heard: status.link_heard,
            peer_serving: status.peer_serving,
            peer_epoch: status.peer_epoch,
            config: self.likeness.likeness(now),
            damaged: self.damaged,
            database: self.figures,
        }
    }
}

fn tell(log: &Log, fact: &Fact) {
    match fact {
        Fact::CallBegan { from, to, .. } => {
            log.masked_fact(fact, &[("from", from.to_string()), ("to", to.to_string())]);
        }
        Fact::RoleChanged { .. }
        | Fact::LeaseLost { .. }
        | Fact::LeaseBack
        | Fact::HandedOver { .. }
        | Fact::Protection { .. }
        | Fact::LoggedIn { .. }
        | Fact::LoggedOut { .. }
        | Fact::LoginRefused { .. }
        | Fact::CallAnswered { .. }
        | Fact::CallEnded { .. }
        | Fact::Blocked { .. }
        | Fact::Unblocked { .. }
        | Fact::LoginBlocked { .. }
        | Fact::CallBlocked { .. }
        | Fact::Disk { .. }
        | Fact::DiskLate { .. }
        | Fact::RecordsDamaged { .. }
        | Fact::SameSeat
        | Fact::BadFrame { .. } => log.fact(fact),
    }
}
