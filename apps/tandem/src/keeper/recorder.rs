//! Keeps what happened, here and on the twin: a thread with the files of events and the exchange.
//!
//! The loop hands over an event and goes on; it never waits for the disk. Lines are written at once
//! and synced a moment later, so that the epoch, which is saved when most is told, has the disk for
//! itself: a crash of the keeper loses no event, a power cut those of the last second at most.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tandem_keeper::{Budget, Event, Exchange, LINE_MAX, Parcel};
use tandem_os::clock;
use tandem_types::{Duration, Instant, Seat};

use crate::events::{EventFile, read};
use crate::logging::Log;

/// Events and datagrams that wait for the thread, at most; further ones are dropped and counted.
const WAITING_MAX: usize = 1024;

/// Of these datagrams, at most: whoever floods the port must not cost us an event. What is dropped is
/// asked for again.
const HEARD_MAX: usize = 64;

/// Events of one kind that are kept at once; then one in each [`PAUSE`]. The log has them all.
const BURST: u32 = 60;

/// See [`BURST`].
const PAUSE: Duration = Duration::from_secs(300);

/// Kinds that are told apart, at most; there are some forty.
const KINDS_MAX: usize = 200;

/// Written lines are on disk after this.
const SYNC_AFTER: Duration = Duration::from_secs(1);

/// The ways to the twin's keeper: our sockets of the heartbeats, and where they lead.
pub(super) type Ways = Vec<(UdpSocket, SocketAddr)>;

/// What the thread is given.
enum Order {
    Keep(Event),
    Heard(Vec<u8>),
}

/// The loop's end of the thread. Dropping this waits until everything is written.
pub(super) struct Recorder {
    orders: Option<SyncSender<Order>>,
    /// How often each kind of event may still be kept.
    budgets: BTreeMap<String, Budget>,
    lost: Arc<AtomicU64>,
    /// Datagrams that wait.
    heard: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Reads what is kept and starts the thread. A disk that refuses is told and stops nobody.
    pub(super) fn start(
        folder: &Path,
        seat: Seat,
        key: &[u8; 32],
        ways: Ways,
        log: &Arc<Log>,
    ) -> anyhow::Result<Self> {
        let (orders, inbox) = sync_channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let mut keeping = Keeping::open(folder, seat, key, ways, Arc::clone(log));
        keeping.lost = Arc::clone(&lost);
        let heard = Arc::clone(&keeping.heard);
        let thread = std::thread::Builder::new().name(String::from("events"));
        let thread = thread.spawn(move || keeping.run(&inbox)).context("cannot start a thread")?;
        let budgets = BTreeMap::new();
        Ok(Self { orders: Some(orders), budgets, lost, heard, thread: Some(thread) })
    }

    /// Keeps an event; its number is given there. What comes again and again (a service that crashes in
    /// a loop) must not push everything else out of the files: it is kept now and then.
    pub(super) fn keep(&mut self, now: Instant, mut event: Event) {
        if self.budgets.len() >= KINDS_MAX && !self.budgets.contains_key(&event.kind) {
            self.budgets.clear();
        }
        let fresh = || Budget::new(now, BURST, PAUSE);
        let budget = self.budgets.entry(event.kind.clone()).or_insert_with(fresh);
        if !budget.take(now) {
            return;
        }
        let left_out = budget.dropped();
        if left_out > 0 {
            event.sentence += &format!(" ({left_out} more of this kind before)");
        }
        if !self.order(Order::Keep(event)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A datagram of the exchange came.
    pub(super) fn heard(&self, datagram: Vec<u8>) {
        if self.heard.load(Ordering::Relaxed) < HEARD_MAX {
            self.heard.fetch_add(1, Ordering::Relaxed);
            if !self.order(Order::Heard(datagram)) {
                self.heard.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Events that are not on this machine's disk, because that refused or they were too many.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether there was room for it.
    fn order(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct Keeping {
    own: EventFile,
    twins: EventFile,
    exchange: Exchange,
    ways: Ways,
    /// The newest number that was given.
    last: u64,
    sync_at: Option<Instant>,
    /// The disk refused the last line.
    refused: bool,
    lost: Arc<AtomicU64>,
    heard: Arc<AtomicUsize>,
    log: Arc<Log>,
}

impl Keeping {
    fn open(folder: &Path, seat: Seat, key: &[u8; 32], ways: Ways, log: Arc<Log>) -> Self {
        let [own, twins] = [seat, seat.other()].map(|seat| {
            read(folder, seat).unwrap_or_else(|error| {
                log.say(&format!("cannot read the events in {}: {error}", folder.display()));
                Vec::new()
            })
        });
        let newest = twins.last().map_or(0, |event| event.seq);
        let mut exchange = Exchange::new(clock::now(), seat, key, newest);
        for event in &own {
            exchange.remember(event.seq, line(event));
        }
        // Where nothing is kept, numbers begin at the time in milliseconds: on a machine that lost its
        // disk they go on above those that the twin has of it.
        let last = own.last().map_or(clock::wall_micros() / 1_000, |event| event.seq);
        let [own, twins] = [seat, seat.other()].map(|seat| EventFile::new(folder, seat));
        let (sync_at, lost, heard) = (None, Arc::default(), Arc::default());
        Self { own, twins, exchange, ways, last, sync_at, refused: false, lost, heard, log }
    }

    fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            let now = clock::now();
            self.exchange.handle_timeout(now);
            self.deliver(now);
            if self.sync_at.is_some_and(|at| at <= now) {
                self.sync();
            }
            let until = self.exchange.next_timeout();
            let until = self.sync_at.map_or(until, |at| at.min(until));
            match inbox.recv_timeout(until.remaining_from(now)) {
                Ok(Order::Keep(event)) => self.keep(clock::now(), event),
                Ok(Order::Heard(datagram)) => {
                    self.heard.fetch_sub(1, Ordering::Relaxed);
                    self.exchange.handle(clock::now(), &datagram);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.deliver(now);
                    return self.sync();
                }
            }
        }
    }

    fn keep(&mut self, now: Instant, mut event: Event) {
        self.last += 1;
        event.seq = self.last;
        let line = line(&event);
        let result = self.own.append(&line);
        self.written(now, result);
        self.exchange.tell(event.seq, line);
    }

    fn deliver(&mut self, now: Instant) {
        while let Some(parcel) = self.exchange.poll_output() {
            match parcel {
                Parcel::Send(bytes) => {
                    for (socket, peer) in &self.ways {
                        // What does not leave is asked for again.
                        let _ = socket.send_to(&bytes, peer);
                    }
                }
                Parcel::Keep(line) => {
                    let result = self.twins.append(&line);
                    self.written(now, result);
                }
            }
        }
    }

    fn written(&mut self, now: Instant, result: std::io::Result<()>) {
        match result {
            Ok(()) => {
                self.sync_at = self.sync_at.or(Some(now + SYNC_AFTER));
                if core::mem::replace(&mut self.refused, false) {
                    let lost = self.lost.load(Ordering::Relaxed);
                    self.log.say(&format!("events are kept again; {lost} were lost on this disk"));
                }
            }
            Err(error) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                if !core::mem::replace(&mut self.refused, true) {
                    self.log.say(&format!("events cannot be kept: {error}"));
                }
            }
        }
    }

    fn sync(&mut self) {
        self.sync_at = None;
        for file in [&self.own, &self.twins] {
            if let Err(error) = file.sync() {
                self.log.say(&format!("events cannot be put on disk: {error}"));
            }
        }
    }
}

/// The line of an event, such that the twin can have it too.
fn line(event: &Event) -> Vec<u8> {
    let line = serde_json::to_vec(event).unwrap_or_default();
    if line.len() <= LINE_MAX {
        return line;
    }
    let bare = Event { evidence: BTreeMap::new(), ..event.clone() };
    serde_json::to_vec(&bare).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two machines with real sockets on loopback, and a folder each that goes away.
    struct Machines {
        folder: std::path::PathBuf,
        sockets: [UdpSocket; 2],
        log: Arc<Log>,
    }

    impl Machines {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("tandem-recorder-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
            Self { folder, sockets, log: Arc::new(Log::start("test", Seat::Master).unwrap()) }
        }

        fn path(&self, at: usize) -> std::path::PathBuf {
            self.folder.join(at.to_string())
        }

        fn start(&self, at: usize) -> Recorder {
            let way = self.sockets[at].try_clone().unwrap();
            let to = self.sockets[1 - at].local_addr().unwrap();
            let seat = Seat::ALL[at];
            Recorder::start(&self.path(at), seat, &[1; 32], vec![(way, to)], &self.log).unwrap()
        }

        /// Passes datagrams on until `kept` holds; as the loop of the keeper does.
        fn pass_until(&self, recorders: &[Recorder; 2], holds: impl Fn(&Self) -> bool) {
            let until = clock::now() + Duration::from_secs(60);
            let mut bytes = [0; 2048];
            for socket in &self.sockets {
                socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            }
            while !holds(self) {
                assert!(clock::now() < until, "it never came to that");
                for (socket, recorder) in self.sockets.iter().zip(recorders) {
                    if let Ok(length) = socket.recv(&mut bytes) {
                        recorder.heard(bytes[..length].to_vec());
                    }
                }
            }
        }

        fn kept(&self, at: usize, of: usize) -> Vec<Event> {
            read(&self.path(at), Seat::ALL[of]).unwrap()
        }
    }

    impl Drop for Machines {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn event(at: usize, sentence: &str) -> Event {
        Event::new(Seat::ALL[at], 5, "kind", sentence)
    }

    #[test]
    fn what_one_machine_told_while_the_other_was_away_is_on_both_and_goes_on_counting() {
        let machines = Machines::new("both");
        let mut alone = machines.start(0);
        (0..20).for_each(|_| alone.keep(clock::now(), event(0, "alone")));
        drop(alone);
        let mut both = [machines.start(0), machines.start(1)];
        both[0].keep(clock::now(), event(0, "again"));
        both[1].keep(clock::now(), event(1, "hello"));
        machines.pass_until(&both, |m| m.kept(1, 0).len() == 21 && m.kept(0, 1).len() == 1);
        assert_eq!(machines.kept(0, 0), machines.kept(1, 0));
        let seqs: Vec<u64> = machines.kept(0, 0).iter().map(|event| event.seq).collect();
        assert!(seqs.windows(2).all(|two| two[0] + 1 == two[1]), "{seqs:?}");
        assert_eq!(both[0].lost(), 0);
    }

    #[test]
    fn a_machine_that_lost_its_disk_gets_its_own_numbers_above_the_old_ones() {
        let machines = Machines::new("wiped");
        let mut both = [machines.start(0), machines.start(1)];
        both[0].keep(clock::now(), event(0, "before"));
        machines.pass_until(&both, |m| m.kept(1, 0).len() == 1);
        drop(both);
        std::fs::remove_dir_all(machines.path(0)).unwrap();
        let mut both = [machines.start(0), machines.start(1)];
        both[0].keep(clock::now(), event(0, "after"));
        machines.pass_until(&both, |m| m.kept(1, 0).len() == 2);
    }

    #[test]
    fn a_flood_of_datagrams_costs_no_event() {
        // Nobody reads: as if the thread did not get the processor.
        let (orders, inbox) = sync_channel(WAITING_MAX);
        let (budgets, thread) = (BTreeMap::new(), None);
        let (lost, heard) = (Arc::default(), Arc::default());
        let mut recorder = Recorder { orders: Some(orders), budgets, lost, heard, thread };
        (0..WAITING_MAX * 2).for_each(|_| recorder.heard(vec![0xE1; 100]));
        recorder.keep(clock::now(), event(0, "what happened"));
        assert_eq!((recorder.lost(), inbox.try_iter().count()), (0, HEARD_MAX + 1));
    }

    #[test]
    fn a_disk_that_refuses_is_counted_and_the_twin_still_gets_the_event() {
        let machines = Machines::new("refused");
        std::fs::create_dir_all(&machines.folder).unwrap();
        std::fs::write(machines.path(0), b"no folder").unwrap();
        let mut both = [machines.start(0), machines.start(1)];
        both[0].keep(clock::now(), event(0, "only there"));
        machines.pass_until(&both, |m| m.kept(1, 0).len() == 1);
        assert_eq!(both[0].lost(), 1);
    }

    #[test]
    fn the_longest_event_is_short_enough_for_the_twin() {
        let mut longest = event(0, &"\"".repeat(2_000));
        for name in 0..50 {
            longest.evidence.insert(format!("name_{name}"), tandem_keeper::Known::Number(u64::MAX));
        }
        longest.seq = u64::MAX;
        assert!(line(&longest).len() <= LINE_MAX);
    }

    #[test]
    fn what_comes_again_and_again_does_not_push_out_the_rest() {
        let machines = Machines::new("flood");
        let mut recorder = machines.start(0);
        let start = clock::now();
        (0..BURST * 3).for_each(|_| recorder.keep(start, event(0, "again")));
        recorder.keep(start, Event::new(Seat::Master, 5, "other", "something else"));
        recorder.keep(start + PAUSE, event(0, "again"));
        drop(recorder);
        let kept = machines.kept(0, 0);
        assert_eq!(kept.len(), BURST as usize + 2);
        let last = &kept.last().unwrap().sentence;
        assert_eq!(*last, format!("again ({} more of this kind before)", BURST * 2));
    }
}
