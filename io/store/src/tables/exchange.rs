//! The exchange with the other server and the tables it is about, together: what [`Sync`] asks for is done
//! here, on the tables. Whoever has the link calls [`Exchange::poll`] and sends what it says.

use std::collections::VecDeque;

use tandem_oplog::{
    CHAINS_MAX, Chain, Change, Check, CheckEnd, Fact, Message, Origin, Output, PART_BYTES, Sync,
};

use super::check::Checked;
use super::{Copy, Tables, Touched};

/// What the caller must do, or wants to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Deed {
    /// Send to the other server.
    Send(Message),
    /// For the log.
    Fact(Fact),
    /// These rows may be different now.
    Changed(Touched),
    /// Ops of ours have new names: who waits for one by its old name waits for nothing.
    Renamed,
    /// The other one asks what time it is; answer by [`Sync::tell_clock`].
    TellClock(u64),
    /// Its time: number of our question, milliseconds since 1970.
    Clock(u64, u64),
    /// Neither server can read what is kept of these rows: write them by [`super::Batch::remake`], as a change of ours.
    Remake(Vec<Change>),
    /// A check that was begun here is at its end.
    Checked(CheckEnd),
}

/// The exchange.
#[derive(Debug)]
pub struct Exchange {
    sync: Sync,
    /// What goes out.
    copy: Option<Copy>,
    /// The check that was begun here.
    asked: Option<u64>,
    asks: u64,
    deeds: VecDeque<Deed>,
    #[cfg(feature = "sabotage")]
    late: Option<Vec<Vec<u8>>>,
}

impl Exchange {
    /// With what is in the tables.
    pub fn new(tables: &Tables) -> Self {
        #[allow(unused_mut, reason = "a rule may be broken")]
        let mut sync = Sync::new(tables.me(), tables.heads().collect());
        #[cfg(feature = "sabotage")]
        if tables.broken == Some(super::Broken::ReuseNumbers) {
            sync.write_always();
        }
        Self {
            sync,
            copy: None,
            asked: None,
            asks: 0,
            deeds: VecDeque::new(),
            #[cfg(feature = "sabotage")]
            late: None,
        }
    }

    /// What it knows.
    pub const fn sync(&self) -> &Sync {
        &self.sync
    }

    /// To tell it what happened.
    pub const fn sync_mut(&mut self) -> &mut Sync {
        &mut self.sync
    }

    /// Something was written here.
    pub fn handle_written(&mut self, tables: &Tables) {
        self.sync.handle_here(tables.heads().collect());
    }

    /// The next thing, oldest first. `new_name` makes the name of an origin by dice, where one is needed.
    ///
    /// # Errors
    ///
    /// Why the exchange cannot go on: what the other one says, or the disk. Nothing has changed then;
    /// [`Sync::restart`] begins it anew.
    pub fn poll(
        &mut self,
        tables: &mut Tables,
        new_name: &mut dyn FnMut() -> Origin,
    ) -> Result<Option<Deed>, String> {
        loop {
            if !self.sync.is_giving() {
                self.copy = None;
            }
            if !self.sync.is_able() {
                self.asked = None;
            }
            if let Some(deed) = self.deeds.pop_front() {
                return Ok(Some(deed));
            }
            #[cfg(feature = "sabotage")]
            if let Some(ops) = self.late.take() {
                self.take(tables, &ops)?;
            }
            let Some(output) = self.sync.poll_output() else { return Ok(None) };
            self.perform(tables, output, new_name)?;
        }
    }

    fn perform(
        &mut self,
        tables: &mut Tables,
        output: Output,
        new_name: &mut dyn FnMut() -> Origin,
    ) -> Result<(), String> {
        let disk = |error: rusqlite::Error| error.to_string();
        match output {
            Output::Send(message) => self.deeds.push_back(Deed::Send(message)),
            Output::Fact(fact) => self.deeds.push_back(Deed::Fact(fact)),
            Output::TellClock(number) => self.deeds.push_back(Deed::TellClock(number)),
            Output::Clock(number, wall) => self.deeds.push_back(Deed::Clock(number, wall)),
            Output::Compare { round, heads } => {
                let compared = tables.compare(&heads).map_err(disk)?;
                self.sync.handle_compared(round, &compared);
            }
            Output::Begin { round, lacking } => {
                let (start, end) = tables.start(&lacking).map_err(disk)?;
                self.sync.handle_begin(round, start, end);
            }
            Output::Read { round, after, lacking } => {
                let page = tables.log(after, &lacking, PART_BYTES).map_err(disk)?;
                let ops = page.ops.into_iter().map(|op| (op.id, op.bytes)).collect();
                self.sync.handle_page(round, ops, page.next, page.more);
            }
            Output::Take(ops) => {
                #[cfg(feature = "sabotage")]
                if tables.broken == Some(super::Broken::AcknowledgeEarly) {
                    self.acknowledge_early(tables, ops);
                    return Ok(());
                }
                self.take(tables, &ops)?;
                self.sync.handle_taken();
            }
            Output::TellChains(up_to) => {
                let chains = tables.chains(up_to, CHAINS_MAX).map_err(disk)?;
                let message = Message::Chains { origin: up_to.origin, chains };
                self.deeds.push_back(Deed::Send(message));
            }
            Output::Rename(chains) => self.rename(tables, &chains, new_name())?,
            Output::FindStaged { .. }
            | Output::OpenCopy { .. }
            | Output::ReadCopy { .. }
            | Output::StageBegin { .. }
            | Output::Stage(_)
            | Output::Join => self.perform_copy(tables, output)?,
            Output::BeginCheck => {
                self.asks += 1;
                self.asked = Some(self.asks);
                let checked = tables.begin_check(self.asks).map_err(disk)?;
                self.checked(checked);
            }
            Output::Check(check) => {
                if let Check::Digests { ask, .. } = &check
                    && self.asked.is_some()
                {
                    if !self.sync.stands_back() {
                        self.sync.tell_check(Check::Apart { ask: *ask });
                        return Ok(());
                    }
                    // Theirs finds what ours would.
                    self.asked = None;
                }
                let checked = tables.check(self.asked, &check).map_err(disk)?;
                self.checked(checked);
            }
        }
        Ok(())
    }

    fn rename(
        &mut self,
        tables: &mut Tables,
        chains: &[(u64, Chain)],
        new: Origin,
    ) -> Result<(), String> {
        #[cfg(feature = "sabotage")]
        if tables.broken == Some(super::Broken::KeepName) {
            self.sync.handle_renamed(tables.me(), tables.heads().collect());
            return Ok(());
        }
        tables.rename(chains, new).map_err(|error| error.to_string())?;
        self.deeds.push_back(Deed::Renamed);
        self.sync.handle_renamed(new, tables.heads().collect());
        Ok(())
    }

    fn perform_copy(&mut self, tables: &mut Tables, output: Output) -> Result<(), String> {
        let disk = |error: rusqlite::Error| error.to_string();
        match output {
            Output::FindStaged { round } => {
                let staged = tables.staged().map_err(disk)?;
                self.sync.handle_staged(round, staged);
            }
            Output::OpenCopy { round, staged } => {
                let copy = tables.copy(staged).map_err(disk)?;
                self.sync.handle_copy_opened(round, copy.header().clone(), copy.told());
                self.copy = Some(copy);
            }
            Output::ReadCopy { round } => {
                let part = match &mut self.copy {
                    Some(copy) => copy.read().map_err(disk)?,
                    None => None,
                };
                self.sync.handle_copy_read(round, part);
            }
            Output::StageBegin { header, from } => {
                tables.stage_begin(&header, &from).or_else(|error| unstage(tables, &error))?;
            }
            Output::Stage(part) => {
                let staged = tables.stage(&part).or_else(|error| unstage(tables, &error))?;
                self.sync.handle_part_staged(&staged);
            }
            Output::Join => {
                let touched = tables.join().or_else(|error| unstage(tables, &error))?;
                self.deeds.push_back(Deed::Changed(touched));
                self.sync.handle_joined(tables.heads().collect());
            }
            // The others have been done.
            Output::Send(_)
            | Output::Fact(_)
            | Output::TellClock(_)
            | Output::Clock(..)
            | Output::Compare { .. }
            | Output::Begin { .. }
            | Output::Read { .. }
            | Output::Take(_)
            | Output::TellChains(_)
            | Output::Rename(_)
            | Output::BeginCheck
            | Output::Check(_) => {}
        }
        Ok(())
    }

    fn take(&mut self, tables: &mut Tables, ops: &[Vec<u8>]) -> Result<(), String> {
        let take = |tables: &mut Tables| {
            let mut batch = tables.begin()?;
            batch.take_all(ops.iter().map(Vec::as_slice))?;
            Ok::<_, super::TakeError>(batch.commit()?)
        };
        let touched = take(tables).map_err(|error| error.to_string())?;
        self.deeds.push_back(Deed::Changed(touched));
        self.sync.handle_here(tables.heads().collect());
        Ok(())
    }

    fn checked(&mut self, Checked { reply, touched, facts, remake, end }: Checked) {
        self.deeds.extend(facts.into_iter().map(Deed::Fact));
        if !touched.is_empty() {
            self.deeds.push_back(Deed::Changed(touched));
        }
        if let Some(reply) = reply {
            self.sync.tell_check(reply);
        }
        if !remake.is_empty() {
            self.deeds.push_back(Deed::Remake(remake));
        }
        if let Some(end) = end {
            self.asked = None;
            self.deeds.push_back(Deed::Checked(end));
        }
    }

    #[cfg(feature = "sabotage")]
    fn acknowledge_early(&mut self, tables: &Tables, ops: Vec<Vec<u8>>) {
        let mut seen = tables.seen().clone();
        for op in ops.iter().filter_map(|op| tandem_oplog::Op::decode(op).ok()) {
            seen.learn(op.id);
        }
        self.deeds.push_back(Deed::Send(Message::Taken(seen)));
        self.late = Some(ops);
    }
}

/// A copy that cannot be used is not gone on with.
fn unstage<T>(tables: &mut Tables, error: &super::JoinError) -> Result<T, String> {
    let what = error.to_string();
    match (error, tables.unstage()) {
        (super::JoinError::Damaged(_) | super::JoinError::Disk(_), Ok(())) => Err(what),
        (_, Err(error)) => Err(format!("{what}; {error}")),
    }
}
