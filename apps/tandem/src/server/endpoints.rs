//! The addresses SIP is spoken at: the machine's own always, the virtual ones while active.
//!
//! On loopback the virtual address is taken by binding it, and the server that dies may hold it some
//! milliseconds longer: so what is refused is tried again every millisecond, and what the node wants
//! to send meanwhile waits.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tandem_net::{BindError, BoundId, Net, Piece, SendError, Split};
use tandem_stack::{Frame, Framer, PONG};
use tandem_types::{Duration, Flow, Instant, Transport};

/// Pause between two tries to bind.
const RETRY: Duration = Duration::from_millis(1);
/// After so long a refusal is said, and tried less often.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries after that.
const SLOW_RETRY: Duration = Duration::from_millis(100);
/// After so long without a virtual address this server is of no use: the twin may fare better.
const GIVE_UP: Duration = Duration::from_secs(5);
/// Messages that wait for their address, at most; further ones are lost, as on the wire.
const WAITING_MAX: usize = 4096;

/// One endpoint that is wanted.
struct Endpoint {
    address: SocketAddr,
    transport: Transport,
    is_virtual: bool,
    bound: Option<BoundId>,
}

/// Every endpoint, and what waits for one.
pub(super) struct Endpoints {
    net: Net,
    all: Vec<Endpoint>,
    serving: bool,
    waiting: VecDeque<(Flow, Vec<u8>)>,
    /// Since when something is wanted and refused, and whether that was said.
    refused: Option<(Instant, bool)>,
    next_try: Option<Instant>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sent {
    /// It is on its way, or waits for its address.
    Yes,
    /// Nobody is there.
    Failed,
}

impl Endpoints {
    /// Nothing is bound yet: [`Endpoints::work`] does that.
    pub(super) fn new(net: Net, own: &[SocketAddr], virtual_addresses: &[SocketAddr]) -> Self {
        let kinds = [(own, false), (virtual_addresses, true)];
        let mut all = Vec::new();
        for (addresses, is_virtual) in kinds {
            for address in addresses.iter().copied() {
                for transport in [Transport::Udp, Transport::Tcp] {
                    all.push(Endpoint { address, transport, is_virtual, bound: None });
                }
            }
        }
        let next_try = Some(Instant::ZERO);
        Self { net, all, serving: false, waiting: VecDeque::new(), refused: None, next_try }
    }

    /// Takes the virtual addresses (true) or gives them up. Gone when this returns.
    pub(super) async fn serve(&mut self, serving: bool) {
        self.serving = serving;
        self.next_try = Some(Instant::ZERO);
        self.refused = None;
        if serving {
            return;
        }
        self.waiting.clear();
        for endpoint in self.all.iter_mut().filter(|endpoint| endpoint.is_virtual) {
            if let Some(id) = endpoint.bound.take() {
                self.net.unbind(id).await;
            }
        }
    }

    /// When to call [`Endpoints::work`] next.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next_try
    }

    /// Whether a virtual address was refused for so long that another server should try.
    pub(super) fn is_useless(&self, now: Instant) -> bool {
        let lacks = |endpoint: &Endpoint| endpoint.is_virtual && endpoint.bound.is_none();
        let since = self.refused.map(|(since, _)| since);
        self.serving
            && since.is_some_and(|since| since.elapsed_until(now) >= GIVE_UP)
            && self.all.iter().any(lacks)
    }

    /// Binds what is wanted and not bound. Returns what an administrator should hear.
    pub(super) fn work(&mut self, now: Instant) -> Option<String> {
        if self.next_try.is_none_or(|next| next > now) {
            return None;
        }
        let Err(error) = self.bind_all() else {
            self.next_try = None;
            let said = self.refused.take().is_some_and(|(_, said)| said);
            self.flush();
            return said.then(|| String::from("all SIP addresses are bound now"));
        };
        let (since, said) = *self.refused.get_or_insert((now, false));
        let is_long = since.elapsed_until(now) >= PATIENCE;
        self.next_try = Some(now + if is_long { SLOW_RETRY } else { RETRY });
        if is_long && !said {
            self.refused = Some((since, true));
            return Some(format!("cannot listen, trying again: {error}"));
        }
        None
    }

    fn bind_all(&mut self) -> Result<(), BindError> {
        let mut result = Ok(());
        for endpoint in &mut self.all {
            if endpoint.bound.is_none() && (self.serving || !endpoint.is_virtual) {
                // Freebind: the keeper may be about to claim the address, the network to come up.
                match self.net.bind(endpoint.address, endpoint.transport, true) {
                    Ok(id) => endpoint.bound = Some(id),
                    Err(error) => result = Err(error),
                }
            }
        }
        result
    }

    fn flush(&mut self) {
        for (flow, bytes) in std::mem::take(&mut self.waiting) {
            // As a datagram that was lost: SIP repeats what matters.
            let _ = self.net.send(flow, &bytes);
        }
    }

    /// Sends one message.
    pub(super) fn send(&mut self, flow: Flow, bytes: Vec<u8>) -> Sent {
        match self.net.send(flow, &bytes) {
            Ok(()) => Sent::Yes,
            Err(SendError::NotBound) if self.next_try.is_some() => {
                if self.waiting.len() < WAITING_MAX {
                    self.waiting.push_back((flow, bytes));
                }
                Sent::Yes
            }
            // An address that we no longer have, or never had, says nothing about the phone.
            Err(SendError::NotBound) => Sent::Yes,
            Err(SendError::TooManyConnections | SendError::TooSlow | SendError::Io(_)) => {
                Sent::Failed
            }
        }
    }
}

/// Finds SIP messages in the stream of a connection.
#[derive(Default)]
pub(super) struct SipSplit(Framer);

impl Split for SipSplit {
    fn split(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        self.0.push(bytes);
        loop {
            match self.0.next_frame() {
                Ok(Some(Frame::Message(message))) => pieces.push(Piece::Message(message)),
                Ok(Some(Frame::Ping)) => pieces.push(Piece::Reply(PONG)),
                Ok(None) => return,
                Err(error) => {
                    pieces.push(Piece::Broken(broken(error)));
                    return;
                }
            }
        }
    }
}

fn broken(error: tandem_stack::FrameError) -> &'static str {
    use tandem_stack::FrameError;
    match error {
        FrameError::HeadTooLarge => "the head of a message is too large",
        FrameError::BodyTooLarge => "the body of a message is too large",
        FrameError::NoLength => "a message without Content-Length",
        FrameError::Garbage => "not SIP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_messages_pings_and_garbage() {
        let mut split = SipSplit::default();
        let mut pieces = Vec::new();
        let message = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n";
        split.split(&message[..10], &mut pieces);
        assert_eq!(pieces, []);
        split.split(&message[10..], &mut pieces);
        split.split(b"\r\n\r\n", &mut pieces);
        split.split(b"\0\0\0\0\0\0\0\0\r\n\r\n", &mut pieces);
        let whole = Piece::Message(message.to_vec());
        assert_eq!(pieces[..2], [whole, Piece::Reply(b"\r\n")]);
        assert!(matches!(pieces[2], Piece::Broken(_)));
    }

    /// An endpoint on a virtual address that somebody else has, and that somebody.
    async fn refused_endpoint() -> (Endpoints, std::net::UdpSocket, SocketAddr) {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let (events, _) = tokio::sync::mpsc::channel(1);
        let net = Net::new(tandem_net::Limits::default(), events, || Box::<SipSplit>::default());
        let mut endpoints = Endpoints::new(net, &[], &[address]);
        endpoints.serve(true).await;
        assert_eq!(endpoints.work(at(0)), None, "a refusal is not said at once");
        (endpoints, taken, address)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    }

    #[test]
    fn what_is_sent_before_the_address_is_ours_leaves_once_it_is() {
        run(async {
            let (mut endpoints, taken, local) = refused_endpoint().await;
            let phone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let remote = phone.local_addr().unwrap();
            let flow = Flow { transport: Transport::Udp, local, remote };
            assert_eq!(endpoints.send(flow, b"ring".to_vec()), Sent::Yes);
            drop(taken);
            assert_eq!(endpoints.next_timeout(), Some(at(1)));
            endpoints.work(at(1));
            assert_eq!(endpoints.next_timeout(), None);
            let mut bytes = [0; 10];
            let (length, from) = phone.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..length], from), (b"ring".as_slice(), local));
        });
    }

    #[test]
    fn a_long_refusal_is_said_once_and_then_makes_the_server_useless() {
        run(async {
            let (mut endpoints, _taken, _) = refused_endpoint().await;
            let said = endpoints.work(at(1_000)).unwrap_or_default();
            assert!(said.contains("another program has this port"), "{said}");
            assert_eq!(endpoints.work(at(1_100)), None);
            assert!(!endpoints.is_useless(at(4_999)));
            assert!(endpoints.is_useless(at(5_000)));
            endpoints.serve(false).await;
            assert!(!endpoints.is_useless(at(9_000)));
        });
    }
}
