//! What an operator orders, on either machine: a switchover, at once or when no calls are up, and the
//! maintenance lock.

use tandem_pair::{Input as PairInput, Life, State, SwitchRefused};
use tandem_types::{Duration, Instant};

use super::Keeper;
use crate::contract::{Output, Standing};
use crate::fact::Fact;
use crate::messages::OperatorAnswer;
use crate::word::{Answer, OrderRefused, Want, Wish, Word};

/// The twin answers a wish within so long, or the operator hears that it does not.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Orders that are not done yet.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// A switchover waits for the calls to end, since then.
    pub(super) idle_since: Option<Instant>,
    /// The maintenance lock ends by itself at that time.
    lock_until: Option<Instant>,
    /// An operator here waits for the twin's answer.
    asked: Option<Asked>,
    wishes: u32,
    /// The twin's newest wish, and what we answered.
    answered: Option<(Life, Answer)>,
    /// What the twin said last.
    pub(super) twin: Word,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u64,
    wish: Wish,
    until: Instant,
}

impl Orders {
    /// As they were saved, in this life of the keeper.
    pub(super) fn new(now: Instant, saved: Standing, boot: u64) -> Self {
        // Wishes of the next life are far away: the twin still says what it answered to this one's.
        let [.., a, b, c] = boot.to_be_bytes();
        Self {
            wishes: u32::from_be_bytes([a, b, c, 0]),
            idle_since: saved.switch_when_idle.then_some(now),
            lock_until: saved.lock_left.filter(|_| saved.locked).map(|left| now + left),
            ..Self::default()
        }
    }

    /// What goes with the next heartbeat.
    pub(super) fn word(&self) -> Word {
        Word {
            wish: self.asked.map(|asked| asked.wish),
            answer: self.answered.map(|(_, answer)| answer),
            waits_for_idle: self.idle_since.is_some(),
        }
    }

    /// When something is due.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let asked = self.asked.map(|asked| asked.until);
        [asked, self.lock_until].into_iter().flatten().min()
    }

    /// How long the maintenance lock lasts; `None`: until it is taken off.
    pub(super) fn lock_left(&self, now: Instant) -> Option<Duration> {
        self.lock_until.map(|until| now.elapsed_until(until))
    }
}

impl Keeper {
    /// An operator wants something of whichever machine is active.
    pub(super) fn order(&mut self, now: Instant, id: u64, want: Want) {
        let twin_active = self.pair.twin().beat().is_some_and(|beat| beat.state == State::Active);
        if self.pair.state() == State::Active {
            let refused = self.carry_out(now, want).err();
            return self.answer(id, refused);
        }
        if !twin_active || !self.pair.is_twin_heard(now) {
            return self.answer(id, Some(OrderRefused::Switch(SwitchRefused::NotActive)));
        }
        if self.orders.asked.is_some() {
            let why = String::from("another order is on its way to the active machine");
            return self
                .outputs
                .push_back(Output::Answer { id, answer: OperatorAnswer::Refused(why) });
        }
        self.orders.wishes = self.orders.wishes.wrapping_add(1);
        let wish = Wish { number: self.orders.wishes, want };
        self.orders.asked = Some(Asked { id, wish, until: now + ANSWER_WAIT });
        self.pair.hurry(now);
    }

    fn answer(&mut self, id: u64, refused: Option<OrderRefused>) {
        let answer = match refused {
            None => OperatorAnswer::Done,
            Some(why) => OperatorAnswer::Refused(why.to_string()),
        };
        self.outputs.push_back(Output::Answer { id, answer });
    }

    /// What came with a heartbeat that was taken.
    pub(super) fn take_word(&mut self, now: Instant, life: Life, word: Word) {
        self.orders.twin = word;
        if let (Some(asked), Some(answer)) = (self.orders.asked, word.answer)
            && asked.wish.number == answer.number
        {
            self.orders.asked = None;
            self.answer(asked.id, answer.refused);
        }
        let Some(wish) = word.wish else { return };
        let known = self.orders.answered.map(|(life, answer)| (life, answer.number));
        if known != Some((life, wish.number)) {
            let refused = self.carry_out(now, wish.want).err();
            let answer = Answer { number: wish.number, refused };
            self.orders.answered = Some((life, answer));
            self.pair.hurry(now);
        }
    }

    fn carry_out(&mut self, now: Instant, want: Want) -> Result<(), OrderRefused> {
        let done = self.try_out(now, want);
        if let Err(why) = done {
            self.fact(Fact::SwitchRefused { why: why.to_string() });
        }
        done
    }

    fn try_out(&mut self, now: Instant, want: Want) -> Result<(), OrderRefused> {
        if self.pair.state() != State::Active {
            return Err(OrderRefused::Switch(SwitchRefused::NotActive));
        }
        match want {
            Want::Switch { force } => {
                self.pair.order_switch(now, force).map_err(OrderRefused::Switch)?;
                self.fact(Fact::SwitchOrdered { force });
                self.wait_for_idle(now, None);
            }
            Want::SwitchWhenIdle if self.orders.idle_since.is_some() => {}
            Want::SwitchWhenIdle => {
                self.wait_for_idle(now, Some(now));
                self.fact(Fact::SwitchWaits { calls: self.own.calls });
            }
            Want::CancelSwitch if self.orders.idle_since.is_none() => {
                return Err(OrderRefused::NothingWaits);
            }
            Want::CancelSwitch => {
                self.wait_for_idle(now, None);
                self.fact(Fact::SwitchCancelled);
            }
        }
        Ok(())
    }

    fn wait_for_idle(&mut self, now: Instant, since: Option<Instant>) {
        if self.orders.idle_since.is_some() != since.is_some() {
            self.orders.idle_since = since;
            self.save_orders(now);
        }
    }

    /// Sets the maintenance lock, for so long, or takes it off.
    pub(super) fn lock(&mut self, now: Instant, on: bool, span: Option<Duration>) {
        let until = span.filter(|_| on).map(|span| now + span);
        if on != self.pair.is_locked() || until != self.orders.lock_until {
            self.orders.lock_until = until;
            self.pair.handle(now, PairInput::Lock(on));
            self.save_orders(now);
            self.fact(Fact::Locked { on });
        }
    }

    fn save_orders(&mut self, now: Instant) {
        let saved = Standing {
            locked: self.pair.is_locked(),
            lock_left: self.orders.lock_left(now),
            switch_when_idle: self.orders.idle_since.is_some(),
        };
        self.outputs.push_back(Output::SaveOrders(saved));
    }

    /// What is due by the clock, or because the calls have ended.
    pub(super) fn go_on_with_orders(&mut self, now: Instant) {
        if self.orders.lock_until.is_some_and(|until| until <= now) {
            self.lock(now, false, None);
        }
        if let Some(asked) = self.orders.asked
            && asked.until <= now
        {
            self.orders.asked = None;
            let why = String::from(
                "the active machine did not answer; whether it is done shows `tandem status`",
            );
            let answer = OperatorAnswer::Refused(why);
            self.outputs.push_back(Output::Answer { id: asked.id, answer });
        }
        if self.orders.idle_since.is_some() {
            self.switch_if_idle(now);
        }
    }

    fn switch_if_idle(&mut self, now: Instant) {
        match self.pair.state() {
            State::Active if self.own.serving && self.own.calls == 0 => {
                // A twin that is not in sync is waited for as well.
                if self.pair.order_switch(now, false).is_ok() {
                    self.fact(Fact::SwitchOrdered { force: false });
                    self.wait_for_idle(now, None);
                }
            }
            // The role went over for another reason: what was wanted is done.
            State::Passive => {
                self.wait_for_idle(now, None);
                self.fact(Fact::SwitchMoot);
            }
            State::Active
            | State::Cold
            | State::Probing
            | State::Claiming
            | State::Yielding
            | State::Stopped => {}
        }
    }
}
