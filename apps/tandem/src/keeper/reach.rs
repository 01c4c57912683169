//! Asks the gateway (ARP, neighbour solicitation) and a few phones (OPTIONS) whether this machine reaches
//! them. One round at a time, and nothing waits: answers are read as they come, and what has not come
//! when the round ends counts as silence.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};

use tandem_keeper::Reach;
use tandem_os::address::{Neighbours, Question};
use tandem_types::{Duration, Instant};

use super::probe::question;
use crate::config::Config;

/// So long a round lasts at most.
const ROUND: Duration = Duration::from_millis(100);
/// Answers read from one socket at a time, so that a flood cannot hold the loop.
const READS_MAX: usize = 32;
/// Bytes of an answer that are looked at: the beginning of a status line.
const LOOK_BYTES: usize = 16;

/// Everything that asks.
pub(super) struct Reacher {
    /// `None` on loopback: there is no gateway.
    interface: Option<String>,
    /// As configured; none: those of the default routes.
    configured: Option<IpAddr>,
    gateways: Vec<Question>,
    /// One of each kind of address at most.
    sockets: Vec<UdpSocket>,
    /// The round that is on its way.
    round: Option<Round>,
    /// Numbers the questions to phones.
    count: u64,
}

/// One round of questions.
struct Round {
    until: Instant,
    gateway: Option<bool>,
    /// Who was asked, and whether he has answered.
    phones: Vec<(SocketAddr, bool)>,
}

impl Round {
    fn is_complete(&self) -> bool {
        self.gateway != Some(false) && self.phones.iter().all(|(_, answered)| *answered)
    }

    fn result(&self) -> Reach {
        let count = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        Reach {
            gateway: self.gateway,
            phones_asked: count(self.phones.len()),
            phones_answered: count(self.phones.iter().filter(|(_, answered)| *answered).count()),
        }
    }
}

impl Reacher {
    /// Opens the sockets for phones, at this machine's own addresses.
    pub(super) fn open(config: &Config) -> std::io::Result<Self> {
        let mut sockets = Vec::new();
        for is_ipv4 in [true, false] {
            if let Some(own) = config.address.iter().find(|own| own.is_ipv4() == is_ipv4) {
                let socket = UdpSocket::bind(SocketAddr::new(*own, 0))?;
                socket.set_nonblocking(true)?;
                sockets.push(socket);
            }
        }
        Ok(Self {
            interface: config.interface.clone(),
            configured: config.gateway,
            gateways: Vec::new(),
            sockets,
            round: None,
            count: 0,
        })
    }

    /// The interface was made anew: what was opened on the old one is of no use.
    pub(super) fn forget_wire(&mut self) {
        self.gateways.clear();
    }

    /// Begins a round; one that is on its way ends without a result.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        phones: Vec<SocketAddr>,
        near: Option<&mut Neighbours>,
    ) {
        if let Some(near) = near {
            self.find_gateways(near);
        }
        // What is left of an earlier round must not count for this one.
        self.hear();
        self.gateways.iter().for_each(Question::ask);
        let mut asked = Vec::new();
        for phone in phones {
            if self.send(phone) {
                asked.push((phone, false));
            }
        }
        let gateway = (!self.gateways.is_empty()).then_some(false);
        self.round = Some(Round { until: now + ROUND, gateway, phones: asked });
    }

    /// Reads what has come. The result, once everybody has answered or the round is over.
    pub(super) fn result(&mut self, now: Instant) -> Option<Reach> {
        self.hear();
        let round = self.round.take_if(|round| round.is_complete() || round.until <= now)?;
        Some(round.result())
    }

    /// When [`Reacher::result`] has something at the latest.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.round.as_ref().map(|round| round.until)
    }

    /// Where answers come.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let gateways = self.gateways.iter().flat_map(Question::sources);
        self.sockets.iter().map(|socket| socket.as_fd()).chain(gateways)
    }

    /// Routes change seldom; to ask the kernel for them costs less than to follow them.
    fn find_gateways(&mut self, near: &mut Neighbours) {
        let Some(name) = &self.interface else { return };
        let wanted = match self.configured {
            Some(gateway) => vec![gateway],
            None => near.default_gateways(),
        };
        if self.gateways.iter().map(Question::address).ne(wanted.iter().copied()) {
            let open = |gateway: &IpAddr| Question::open(name, *gateway).ok();
            self.gateways = wanted.iter().filter_map(open).collect();
        }
    }

    /// Whether the question left.
    fn send(&mut self, phone: SocketAddr) -> bool {
        self.count += 1;
        let Some((socket, own)) = self.sockets.iter().find_map(|socket| {
            let own = socket.local_addr().ok()?;
            (own.is_ipv4() == phone.is_ipv4()).then_some((socket, own))
        }) else {
            return false;
        };
        // One that cannot be sent is one that is not answered.
        let _ = socket.send_to(question(own, phone, self.count).as_bytes(), phone);
        true
    }

    fn hear(&mut self) {
        let gateway = self.gateways.iter().filter(|question| question.answered()).count() > 0;
        if let Some(round) = &mut self.round
            && gateway
        {
            round.gateway = Some(true);
        }
        for socket in &self.sockets {
            let mut bytes = [0; LOOK_BYTES];
            for _ in 0..READS_MAX {
                let Ok((length, from)) = socket.recv_from(&mut bytes) else { break };
                let is_answer = bytes[..length].starts_with(b"SIP/2.0 ");
                let phones = self.round.iter_mut().flat_map(|round| &mut round.phones);
                // A phone may answer from another port.
                let by = phones.filter(|(phone, _)| is_answer && phone.ip() == from.ip());
                by.for_each(|(_, answered)| *answered = true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tandem_os::clock;
    use tandem_os::poll::{Want, poll};

    fn reacher() -> Reacher {
        let text = "seat = \"master\"\nrealm = \"example.org\"\naddress = [\"127.0.0.1\"]\n\
                    peer = [\"127.1.2.2\"]\nvirtual = [\"127.1.2.10/24\"]\n";
        let config = Config::parse(Path::new("/etc/t/tandem.toml"), text).unwrap();
        Reacher::open(&config).unwrap()
    }

    fn wait(reacher: &mut Reacher) -> Reach {
        loop {
            if let Some(reach) = reacher.result(clock::now()) {
                return reach;
            }
            let sources: Vec<_> = reacher.sources().map(|fd| (fd, Want::Read)).collect();
            poll(&sources, reacher.next_timeout()).unwrap();
        }
    }

    #[test]
    fn a_round_ends_with_its_last_answer_and_counts_who_answered() {
        let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut reacher = reacher();
        reacher.ask(clock::now(), vec![phone.local_addr().unwrap()], None);
        // The round would end only in years.
        reacher.round.as_mut().unwrap().until = Instant::from_micros(u64::MAX);
        let mut bytes = [0; 2048];
        let (length, from) = phone.recv_from(&mut bytes).unwrap();
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        assert!(text.starts_with("OPTIONS sip:127.0.0.1:"), "{text}");
        assert_eq!(reacher.result(clock::now()), None);
        phone.send_to(b"SIP/2.0 404 Not Found\r\n\r\n", from).unwrap();
        let all = Reach { gateway: None, phones_asked: 1, phones_answered: 1 };
        assert_eq!(wait(&mut reacher), all);
        assert_eq!(reacher.next_timeout(), None);
    }

    #[test]
    fn who_is_silent_or_says_something_else_is_not_reached() {
        let silent = UdpSocket::bind("127.0.0.2:0").unwrap();
        let odd = UdpSocket::bind("127.0.0.3:0").unwrap();
        let mut reacher = reacher();
        let phones = [&silent, &odd].map(|phone| phone.local_addr().unwrap());
        reacher.ask(clock::now(), phones.to_vec(), None);
        let (_, from) = odd.recv_from(&mut [0; 2048]).unwrap();
        odd.send_to(b"OPTIONS sip:a SIP/2.0\r\n\r\n", from).unwrap();
        let none = Reach { gateway: None, phones_asked: 2, phones_answered: 0 };
        assert_eq!(wait(&mut reacher), none);
    }

    #[test]
    fn nobody_to_ask_is_a_result_at_once() {
        let mut reacher = reacher();
        assert_eq!(reacher.result(clock::now()), None, "nobody asked");
        reacher.ask(clock::now(), Vec::new(), None);
        assert_eq!(reacher.result(Instant::ZERO), Some(Reach::default()));
    }
}
