//! The question whether a server serves at the virtual address: SIP OPTIONS, answered or not.
//!
//! The kernel of a machine whose server is dead still answers to ARP and ping; only the server itself
//! answers this. A 503 is the answer of one that does not serve.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// Asks at one address.
pub(super) struct Asker {
    socket: UdpSocket,
    to: SocketAddr,
    /// Marks our questions, so that a stray answer to an older one does not count.
    count: u64,
}

/// Bytes of an answer that are looked at.
const LOOK_BYTES: usize = 2048;

impl Asker {
    /// From an own address, from any port.
    pub(super) fn open(own: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(own.ip(), 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to, count: 0 })
    }

    /// Asks once. Silence may also mean that nothing could be sent.
    pub(super) fn ask(&mut self) {
        self.count += 1;
        let Ok(own) = self.socket.local_addr() else { return };
        let _ = self.socket.send_to(question(own, self.to, self.count).as_bytes(), self.to);
    }

    /// Whether somebody has answered to the newest questions that it serves.
    pub(super) fn answered(&self) -> bool {
        let mut bytes = [0; LOOK_BYTES];
        let mut serves = false;
        while let Ok((length, from)) = self.socket.recv_from(&mut bytes) {
            serves |= from == self.to && says_it_serves(&bytes[..length], self.count);
        }
        serves
    }
}

impl AsFd for Asker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Questions of one round: an answer to an older one is of another time.
const ROUND: u64 = 3;

/// OPTIONS to somebody, from the keeper.
pub(super) fn question(own: SocketAddr, to: SocketAddr, count: u64) -> String {
    let process = std::process::id();
    let ip = match own {
        SocketAddr::V4(own) => own.ip().to_string(),
        SocketAddr::V6(own) => format!("[{}]", own.ip()),
    };
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKkeeper-{process}-{count}\r\n\
         Max-Forwards: 1\r\nFrom: <sip:keeper@{ip}>;tag=keeper\r\nTo: <sip:{to}>\r\n\
         Call-ID: keeper-{process}-{count}\r\nCSeq: {count} OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A final answer other than 503, with the CSeq of one of the last questions.
fn says_it_serves(bytes: &[u8], count: u64) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("SIP/2.0 ")).unwrap_or_default();
    let is_final = status.starts_with(|digit: char| ('2'..='6').contains(&digit));
    let asked = lines.find_map(|line| line.strip_prefix("CSeq: ")?.strip_suffix(" OPTIONS"));
    let asked = asked.and_then(|number| number.trim().parse::<u64>().ok());
    let is_new = asked.is_some_and(|asked| asked <= count && asked + ROUND > count);
    is_final && !status.starts_with("503") && is_new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_final_answer_that_is_not_503_means_that_somebody_serves() {
        let answer = |status: &str, number: u64| {
            let text = format!("SIP/2.0 {status}\r\nVia: x\r\nCSeq: {number} OPTIONS\r\n\r\n");
            says_it_serves(text.as_bytes(), 10)
        };
        assert!(answer("200 OK", 10) && answer("200 OK", 8) && answer("404 Not Found", 9));
        assert!(!answer("200 OK", 7) && !answer("200 OK", 11));
        assert!(!answer("503 Service Unavailable", 10) && !answer("100 Trying", 10));
        assert!(!says_it_serves(b"OPTIONS sip:a SIP/2.0\r\nCSeq: 10 OPTIONS\r\n\r\n", 10));
        assert!(!says_it_serves(b"\xff", 10));
    }

    #[test]
    fn a_server_hears_a_whole_request_and_its_answer_counts() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = "127.0.0.1:0".parse().unwrap();
        let mut asker = Asker::open(own, server.local_addr().unwrap()).unwrap();
        asker.ask();
        let mut bytes = [0; LOOK_BYTES];
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        assert!(text.starts_with("OPTIONS sip:127.0.0.1:") && text.ends_with("\r\n\r\n"));
        server.send_to(text.replacen("OPTIONS", "SIP/2.0 200", 1).as_bytes(), from).unwrap();
        tandem_os::poll::poll(&[(asker.as_fd(), tandem_os::poll::Want::Read)], None).unwrap();
        assert!(asker.answered());
        assert!(!asker.answered(), "each answer counts once");
    }
}
