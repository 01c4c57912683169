//! The vote of `tandem witness`: one UDP socket and one timer behind one descriptor, no thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tandem_os::clock;
use tandem_types::{Duration, Epoch, Instant};
use tandem_witness::{ANSWER_LENGTH, Holder, Side, Standing, Voted};

use crate::bell::Bell;
use crate::resolver::Resolver;
use crate::{Ask, Lease};

/// A socket that is in trouble is opened anew so often at most.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// A name whose address is in trouble is looked up again so often at most.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// Datagrams read at a time.
const READS_MAX: usize = 64;

/// Where the witness is and who asks.
#[derive(Clone, Debug)]
pub struct WitnessConfig {
    /// `host:port`, with a name or an address.
    pub address: String,
    /// The pair's witness key.
    pub key: [u8; 32],
    /// This keeper.
    pub side: Side,
    /// Own addresses, for the case that the system would take one of `not_from`.
    pub own: Vec<IpAddr>,
    /// Addresses that may move away: nothing is sent from them.
    pub not_from: Vec<IpAddr>,
}

/// The vote of a witness.
#[derive(Debug)]
pub struct WitnessLease {
    config: WitnessConfig,
    holder: Holder,
    targets: Vec<SocketAddr>,
    /// Which target is in use: the next one once this is in trouble.
    target: usize,
    socket: Option<UdpSocket>,
    opened_at: Option<Instant>,
    /// `None` where the address needs no looking up.
    resolver: Option<(Resolver, Instant)>,
    epoll: OwnedFd,
    timer: OwnedFd,
}

impl WitnessLease {
    /// Says hello at once, and again from time to time.
    ///
    /// # Errors
    ///
    /// The system gives no descriptor or thread.
    pub fn start(config: WitnessConfig) -> io::Result<Self> {
        let now = clock::now();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        watch(&epoll, &timer)?;
        let known: Option<SocketAddr> = config.address.parse().ok();
        let resolver = match known {
            Some(_) => None,
            None => {
                let bell = Bell::new()?;
                watch(&epoll, &bell)?;
                Some((Resolver::start(config.address.clone(), bell)?, now))
            }
        };
        let holder = Holder::new(now, &config.key, config.side);
        let targets = known.into_iter().collect();
        let mut lease = Self {
            config,
            holder,
            targets,
            target: 0,
            socket: None,
            opened_at: None,
            resolver,
            epoll,
            timer,
        };
        lease.turn(now);
        Ok(lease)
    }

    /// Does what is due, and sets the timer for what comes next.
    fn turn(&mut self, now: Instant) {
        let mut spent = [0; 8];
        let _ = rustix::io::read(&self.timer, &mut spent);
        self.take_names();
        self.receive(now);
        if self.holder.next_timeout() <= now {
            self.holder.handle_timeout(now);
        }
        self.mend(now);
        self.send();
        let due = if self.holder.has_voted() { now } else { self.holder.next_timeout() };
        // The timer of the past is due at once; zero would switch it off.
        let micros = due.as_micros().max(1);
        let at = Timespec {
            tv_sec: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(micros % 1_000_000 * 1_000).unwrap_or(0),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        // Refused only for a time that is none.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once);
    }

    fn take_names(&mut self) {
        let Some((resolver, _)) = &self.resolver else { return };
        match resolver.found() {
            Some(Ok(targets)) if targets != self.targets => {
                (self.targets, self.target, self.socket) = (targets, 0, None);
            }
            Some(Err(why)) => self.holder.undelivered(why),
            Some(Ok(_)) | None => {}
        }
    }

    /// Where the witness is in trouble: another look at its name, its next address, a new socket.
    fn mend(&mut self, now: Instant) {
        let trouble = self.holder.standing().trouble.is_some();
        if trouble
            && let Some((resolver, asked_at)) = &mut self.resolver
            && *asked_at + RESOLVE_EVERY <= now
        {
            *asked_at = now;
            resolver.again();
        }
        let fresh = self.opened_at.is_some_and(|at| now < at + REOPEN_EVERY);
        if (self.socket.is_some() && !trouble) || fresh || self.targets.is_empty() {
            return;
        }
        if self.socket.is_some() {
            self.target = (self.target + 1) % self.targets.len();
        }
        self.opened_at = Some(now);
        self.socket = None;
        let to = self.targets[self.target % self.targets.len()];
        match self.open(to) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => self.holder.undelivered(format!("{to} can not be reached: {error}")),
        }
    }

    fn open(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut socket = connect(any, to)?;
        if self.config.not_from.contains(&socket.local_addr()?.ip())
            && let Some(own) = self.config.own.iter().find(|own| own.is_ipv4() == to.is_ipv4())
        {
            socket = connect(*own, to)?;
        }
        watch(&self.epoll, &socket)?;
        Ok(socket)
    }

    fn receive(&mut self, now: Instant) {
        let Some(socket) = &self.socket else { return };
        // One byte more than an answer, so that a longer one is seen to be too long.
        let mut bytes = [0; ANSWER_LENGTH + 1];
        for _ in 0..READS_MAX {
            match socket.recv(&mut bytes) {
                Ok(length) => self.holder.handle(now, &bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.holder.undelivered(self.trouble(&error)),
            }
        }
    }

    fn send(&mut self) {
        while let Some(datagram) = self.holder.poll_output() {
            let Some(socket) = &self.socket else { continue };
            // One that does not leave is as good as lost on the way: it is repeated.
            if let Err(error) = socket.send(&datagram)
                && error.kind() != io::ErrorKind::WouldBlock
            {
                self.holder.undelivered(self.trouble(&error));
            }
        }
    }

    // The system's kinds of errors are not our enum, and have no end.
    #[allow(clippy::wildcard_enum_match_arm)]
    fn trouble(&self, error: &io::Error) -> String {
        let at = &self.config.address;
        match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("no witness listens at {at}"),
            _ => format!("the witness at {at} can not be reached: {error}"),
        }
    }
}

fn connect(from: IpAddr, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

fn watch(epoll: &OwnedFd, source: &impl AsFd) -> io::Result<()> {
    Ok(epoll::add(epoll, source, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?)
}

impl Lease for WitnessLease {
    fn ask(&mut self, now: Instant, ask: Ask) {
        self.holder.ask(now, ask.number, ask.epoch, ask.term);
        self.turn(now);
    }

    fn release(&mut self, epoch: Epoch) {
        self.holder.release(epoch);
        self.turn(clock::now());
    }

    fn answers(&mut self) -> Vec<Voted> {
        self.turn(clock::now());
        std::iter::from_fn(|| self.holder.poll_voted()).collect()
    }

    fn standing(&self) -> Standing {
        self.holder.standing().clone()
    }
}

impl AsFd for WitnessLease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
