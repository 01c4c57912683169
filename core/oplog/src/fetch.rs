//! The part of [`Sync`] that deals with copies of everything; what they are is told in `copy.rs`.

use crate::copy::{CopyHeader, CopyPart, Getting, Giving, Staged};
use crate::fact::Fact;
use crate::message::{ABLE_VERSION, Message};
use crate::op::{Chain, OpId};
use crate::sync::{Output, Sync};

impl Sync {
    /// Answers [`Output::FindStaged`].
    pub fn handle_staged(&mut self, round: u64, staged: Staged) {
        if round == self.round {
            self.send(Message::AskCopy(staged));
        }
    }

    /// Answers [`Output::OpenCopy`]: of what it is a copy, and what was skipped.
    pub fn handle_copy_opened(&mut self, round: u64, header: CopyHeader, from: Staged) {
        let giving = self.peer.as_mut().filter(|_| round == self.round);
        let Some(giving) = giving.and_then(|peer| peer.giving.as_mut()) else { return };
        (giving.opened, giving.done, giving.total) = (true, from.items, header.items);
        self.fact(Fact::Copying { here: false, done: from.items, total: header.items });
        self.send(Message::CopyBegin { header, from });
        self.read_copy();
    }

    /// Answers [`Output::ReadCopy`]; `None` at its end.
    pub fn handle_copy_read(&mut self, round: u64, part: Option<CopyPart>) {
        let giving = self.peer.as_mut().filter(|_| round == self.round);
        let Some(giving) = giving.and_then(|peer| peer.giving.as_mut()) else { return };
        giving.read(part.as_ref());
        self.send(part.map_or(Message::CopyEnd, Message::CopyPart));
        self.read_copy();
    }

    /// Answers [`Output::Stage`]: what is on disk here of the copy now.
    pub fn handle_part_staged(&mut self, staged: &Staged) {
        if let Some(getting) = self.getting() {
            // The end of each quarter is told.
            let quarter = |done: u64, total: u64| (done * 4).checked_div(total).unwrap_or(0);
            let (done, total) = (staged.items, getting.total);
            let is_told = quarter(done, total) > quarter(getting.done, total) && done < total;
            getting.done = done;
            if is_told {
                self.fact(Fact::Copying { here: true, done, total });
            }
            self.send(Message::CopyGot(staged.parts));
        }
    }

    /// Answers [`Output::Join`]: what stands for each origin now. The exchange begins anew.
    pub fn handle_joined(&mut self, heads: Vec<(OpId, Chain)>) {
        let total = self.getting().map_or(0, |getting| getting.total);
        self.fact(Fact::CopyEnds { here: true, total });
        self.handle_here(heads);
        self.restart();
    }

    pub(crate) fn getting(&mut self) -> Option<&mut Getting> {
        self.peer.as_mut()?.getting.as_mut()
    }

    /// Asks for a copy as soon as the other one has what only we had, or cannot have it this way.
    pub(crate) fn judge_too_old(&mut self) {
        let round = self.round;
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.too_old) else { return };
        if peer.able < ABLE_VERSION {
            peer.too_old = false;
            self.fact(Fact::TooOld { here: true });
        } else if peer.pruned || peer.has.covers(&self.here) {
            peer.too_old = false;
            peer.getting = Some(Getting::default());
            self.outputs.push_back(Output::FindStaged { round });
        }
    }

    pub(crate) fn give(&mut self, staged: Staged) {
        let round = self.round;
        if let Some(peer) = &mut self.peer {
            peer.giving = Some(Giving::default());
            self.outputs.push_back(Output::OpenCopy { round, staged });
        }
    }

    pub(crate) fn copy_begins(&mut self, header: CopyHeader, from: Staged) {
        let Some(getting) = self.getting() else { return };
        *getting = Getting { done: from.items, total: header.items };
        self.fact(Fact::Copying { here: true, done: from.items, total: header.items });
        self.outputs.push_back(Output::StageBegin { header, from });
    }

    pub(crate) fn copy_got(&mut self, number: u64) {
        let Some(giving) = self.peer.as_mut().and_then(|peer| peer.giving.as_mut()) else { return };
        giving.got(number);
        if giving.ended && giving.done >= giving.total {
            let total = giving.total;
            if let Some(peer) = &mut self.peer {
                peer.giving = None;
            }
            return self.fact(Fact::CopyEnds { here: false, total });
        }
        self.read_copy();
    }

    fn read_copy(&mut self) {
        let round = self.round;
        let giving = self.peer.as_mut().and_then(|peer| peer.giving.as_mut());
        if giving.is_some_and(Giving::reads) {
            self.outputs.push_back(Output::ReadCopy { round });
        }
    }
}
