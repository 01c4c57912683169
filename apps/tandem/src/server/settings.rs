//! The configuration has a thread of its own, because its disk is waited for there.
//!
//! What comes meanwhile waits; orders that wait together become one transaction. The loop of the server
//! never waits: where too much lies here already, an order is refused and the link begun anew.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tandem_config::{Authority, Config, Order, Output};
use tandem_oplog::TAKE_BYTES;
use tandem_os::clock;
use tandem_types::Instant;

use super::postgres::Exchange;

/// Orders and messages that wait for the disk, at most.
const WAITING_MAX: usize = 4_096;

/// What the thread is to do.
enum Wish {
    Order(Order),
    Link(bool),
    Message(Vec<u8>),
    Obey(Box<dyn Authority>),
    Exchange(Exchange),
    Stop,
}

/// Why the thread does not take something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Behind {
    /// Too much waits for the disk.
    Full,
    /// It has ended, by a fault of ours.
    Gone,
}

/// The thread. It ends, with all that waits done, when this is dropped.
pub(super) struct ConfigThread {
    wishes: Option<SyncSender<Wish>>,
    thread: Option<JoinHandle<()>>,
}

impl ConfigThread {
    /// `report` is called from the thread.
    pub(super) fn start(
        config: Config,
        report: impl Fn(Output) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (wishes, inbox) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("config".to_owned());
        let thread = thread.spawn(move || work(config, &inbox, &report))?;
        Ok(Self { wishes: Some(wishes), thread: Some(thread) })
    }

    /// Orders a change.
    pub(super) fn order(&self, order: Order) -> Result<(), Behind> {
        self.wish(Wish::Order(order))
    }

    /// The link came up or went down.
    pub(super) fn link(&self, up: bool) -> Result<(), Behind> {
        self.wish(Wish::Link(up))
    }

    /// The twin's configuration says this.
    pub(super) fn message(&self, message: Vec<u8>) -> Result<(), Behind> {
        self.wish(Wish::Message(message))
    }

    /// The way to it for the thread of the database.
    pub(super) fn line(&self) -> SettingsLine {
        SettingsLine(self.wishes.clone())
    }

    fn wish(&self, wish: Wish) -> Result<(), Behind> {
        send(self.wishes.as_ref(), wish)
    }
}

fn send(wishes: Option<&SyncSender<Wish>>, wish: Wish) -> Result<(), Behind> {
    let Some(wishes) = wishes else { return Err(Behind::Gone) };
    wishes.try_send(wish).map_err(|error| match error {
        TrySendError::Full(_) => Behind::Full,
        TrySendError::Disconnected(_) => Behind::Gone,
    })
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct SettingsLine(Option<SyncSender<Wish>>);

impl SettingsLine {
    /// From now on this one is asked before anything is written.
    pub(super) fn obey(&self, authority: Box<dyn Authority>) -> Result<(), Behind> {
        send(self.0.as_ref(), Wish::Obey(authority))
    }

    /// Compares with the database.
    pub(super) fn exchange(&self, exchange: Exchange) -> Result<(), Behind> {
        send(self.0.as_ref(), Wish::Exchange(exchange))
    }
}

impl Drop for ConfigThread {
    fn drop(&mut self) {
        if let Some(wishes) = self.wishes.take() {
            // A thread that has ended needs no word.
            let _ = wishes.send(Wish::Stop);
        }
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn work(mut config: Config, inbox: &Receiver<Wish>, report: &dyn Fn(Output)) {
    config.handle_wall(clock::now(), clock::wall_micros() / 1_000);
    loop {
        while let Some(output) = config.poll_output() {
            report(output);
        }
        let first = match config.next_timeout() {
            Some(due) => inbox.recv_timeout(due.remaining_from(clock::now())),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now = clock::now();
        config.handle_wall(now, clock::wall_micros() / 1_000);
        match first {
            Ok(first) => {
                let wishes = core::iter::once(first).chain(inbox.try_iter().take(WAITING_MAX));
                if carry_out(&mut config, now, wishes) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => config.handle_timeout(now),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Does what waits, until the twin's changes among it are enough for one write to the disk: it hears of each before the
/// next. Whether this is the end.
fn carry_out(config: &mut Config, now: Instant, wishes: impl Iterator<Item = Wish>) -> bool {
    let (mut orders, mut stop) = (Vec::new(), false);
    let (mut messages, mut length) = (Vec::<Vec<u8>>::new(), 0);
    let take = |config: &mut Config, messages: &mut Vec<Vec<u8>>| {
        let messages = core::mem::take(messages);
        if !messages.is_empty() {
            config.handle_messages(now, messages.iter().map(Vec::as_slice));
        }
    };
    for wish in wishes {
        match wish {
            Wish::Order(order) => orders.push(order),
            Wish::Message(bytes) => {
                length += bytes.len();
                messages.push(bytes);
                if length >= TAKE_BYTES {
                    break;
                }
            }
            Wish::Link(up) => {
                take(config, &mut messages);
                config.handle_link(now, up);
            }
            Wish::Obey(authority) => config.obey(authority),
            Wish::Exchange(exchange) => {
                take(config, &mut messages);
                exchange.carry_out(now, config);
            }
            Wish::Stop => stop = true,
        }
    }
    take(config, &mut messages);
    if !orders.is_empty() {
        config.handle_orders(now, orders);
    }
    config.handle_timeout(clock::now());
    stop
}
