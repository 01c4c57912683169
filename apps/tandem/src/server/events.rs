//! Everything the server waits for, looked at in one go.
//!
//! One future looks at every source and takes what is there, up to [`BATCH_MAX`] of each: no task and
//! no channel between the sources and the loop but those the sources bring. The keeper comes first,
//! so that no flood of messages hides a lease.

use std::future::{Future as _, poll_fn};
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use anyhow::Context as _;
use tandem_link::{Events as LinkEvents, LinkEvent};
use tandem_net::NetEvent;
use tandem_os::clock;
use tandem_os::signals::{Signals, Wish};
use tandem_store::StoreEvent;
use tandem_types::Instant;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Instant as TokioInstant, Sleep, sleep};

use super::commands::Question;
use super::keeper_line::{Heard, KeeperLine};
use super::twins::Aside;

/// Inputs taken from one source before the outputs get their turn.
pub(super) const BATCH_MAX: usize = 256;

/// The sources.
pub(super) struct Events {
    net: mpsc::Receiver<NetEvent>,
    link: LinkEvents,
    store: mpsc::UnboundedReceiver<StoreEvent>,
    config: mpsc::UnboundedReceiver<tandem_config::Output>,
    files: mpsc::UnboundedReceiver<tandem_files::Output>,
    asides: mpsc::UnboundedReceiver<Aside>,
    questions: mpsc::Receiver<Question>,
    keeper: KeeperLine,
    signals: AsyncFd<Signals>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to.
    timer_at: Instant,
}

/// What the threads of the disk report.
pub(super) struct Disks {
    pub(super) store: mpsc::UnboundedReceiver<StoreEvent>,
    pub(super) config: mpsc::UnboundedReceiver<tandem_config::Output>,
    pub(super) files: mpsc::UnboundedReceiver<tandem_files::Output>,
    pub(super) asides: mpsc::UnboundedReceiver<Aside>,
}

/// Has the event loop watch a descriptor.
///
/// What is deprecated is that a type could give another descriptor each time it is asked. Ours own
/// one each for as long as they live; the way without that promise would be `unsafe`.
#[expect(deprecated)]
pub(super) fn watch<T: AsRawFd>(source: T) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::new(source)
}

/// What has happened since the last look. Emptied by who takes it.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) keeper: Vec<Heard>,
    pub(super) net: Vec<NetEvent>,
    pub(super) link: Vec<LinkEvent>,
    pub(super) store: Vec<StoreEvent>,
    pub(super) config: Vec<tandem_config::Output>,
    pub(super) files: Vec<tandem_files::Output>,
    pub(super) asides: Vec<Aside>,
    pub(super) questions: Vec<Question>,
    pub(super) terminate: bool,
}

impl Events {
    /// Everything that the server waits for.
    pub(super) fn new(
        net: mpsc::Receiver<NetEvent>,
        link: LinkEvents,
        disks: Disks,
        questions: mpsc::Receiver<Question>,
        keeper: KeeperLine,
        signals: Signals,
    ) -> anyhow::Result<Self> {
        let signals = watch(signals).context("cannot wait for signals")?;
        let timer = Box::pin(sleep(std::time::Duration::ZERO));
        let timer_at = Instant::ZERO;
        let Disks { store, config, files, asides } = disks;
        Ok(Self {
            net,
            link,
            store,
            config,
            files,
            asides,
            questions,
            keeper,
            signals,
            timer,
            timer_at,
        })
    }

    /// The line to the keeper, for speaking.
    pub(super) const fn keeper(&self) -> &KeeperLine {
        &self.keeper
    }

    /// Waits until something happens or it is `until`, and puts what happened into `batch`.
    pub(super) async fn gather(&mut self, until: Instant, batch: &mut Batch) {
        self.set_timer(until);
        poll_fn(|cx| self.poll(cx, batch)).await;
    }

    fn set_timer(&mut self, until: Instant) {
        // The timer is left alone while it is early enough: waking once in vain costs less than
        // setting it with every message.
        let now = clock::now();
        if self.timer_at > until || self.timer_at <= now {
            self.timer_at = until;
            self.timer.as_mut().reset(TokioInstant::now() + until.remaining_from(now));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<()> {
        let mut any = self.timer.as_mut().poll(cx).is_ready();
        for _ in 0..BATCH_MAX {
            let Poll::Ready(heard) = self.keeper.poll_heard(cx) else { break };
            batch.keeper.push(heard);
            any = true;
            if heard == Heard::Gone {
                break;
            }
        }
        any |= self.poll_signals(cx, batch);
        any |= self.net.poll_recv_many(cx, &mut batch.net, BATCH_MAX).is_ready();
        any |= self.store.poll_recv_many(cx, &mut batch.store, BATCH_MAX).is_ready();
        any |= self.config.poll_recv_many(cx, &mut batch.config, BATCH_MAX).is_ready();
        any |= self.asides.poll_recv_many(cx, &mut batch.asides, BATCH_MAX).is_ready();
        any |= self.files.poll_recv_many(cx, &mut batch.files, BATCH_MAX).is_ready();
        any |= self.questions.poll_recv_many(cx, &mut batch.questions, BATCH_MAX).is_ready();
        for _ in 0..BATCH_MAX {
            // Dropping the future loses nothing (its documentation says so).
            let Poll::Ready(event) = pin!(self.link.recv()).poll(cx) else { break };
            batch.link.extend(event);
            any = true;
        }
        if any { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_signals(&self, cx: &mut Context<'_>, batch: &mut Batch) -> bool {
        let mut any = false;
        while let Poll::Ready(Ok(mut ready)) = self.signals.poll_read_ready(cx) {
            match self.signals.get_ref().read() {
                Ok(Some(Wish::Terminate)) => batch.terminate = true,
                // A person at the terminal means the keeper, which tells us; and there is nothing
                // here to read again.
                Ok(Some(Wish::Interrupt | Wish::Reload)) => {}
                Ok(None) | Err(_) => {
                    ready.clear_ready();
                    continue;
                }
            }
            any = true;
        }
        any
    }
}
