//! The yardstick: a client that asks the virtual address every 10 ms (SIP OPTIONS) and notes what
//! is answered.
//!
//! It never repeats a request, so what a takeover swallows is counted, and it keeps its rhythm
//! whatever comes back. The outage is the longest time between two answers, less nothing: where all
//! is well it is the rhythm itself, about 10 ms.
//!
//! Invariant: every request is counted once: answered, refused or lost.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};

use super::space::{Space, inside};

/// Time between two requests.
pub const RHYTHM: Duration = Duration::from_millis(10);

/// A request that is not answered within this is lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A probe that runs.
#[derive(Debug)]
pub struct Probe {
    /// Answers are waited for until then, and nothing more is asked.
    end: Arc<OnceLock<Instant>>,
    thread: JoinHandle<Vec<Asked>>,
}

/// One request and what became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked {
    /// When it was sent.
    pub at: Instant,
    /// When the answer came, and its status.
    pub answer: Option<(Instant, u16)>,
}

impl Probe {
    /// Begins to ask `server` from `address` inside `space`.
    ///
    /// # Errors
    ///
    /// The address is not ours.
    pub fn start(space: Option<&Space>, address: IpAddr, server: SocketAddr) -> Result<Self> {
        let socket = inside(space, || Ok(UdpSocket::bind((address, 0))?))?;
        let from = socket.local_addr()?;
        let end = Arc::new(OnceLock::new());
        let ending = Arc::clone(&end);
        let thread = std::thread::spawn(move || ask_all(&socket, from, server, &ending));
        Ok(Self { end, thread })
    }

    /// Asks nothing more; waits for late answers no longer than `patience` from now.
    pub fn stop(&self, patience: Duration) {
        // Who stopped it first has said how long.
        let _ = self.end.set(Instant::now() + patience);
    }

    /// Ends and returns every request in the order of sending.
    ///
    /// # Errors
    ///
    /// The probe's thread has panicked.
    pub fn finish(self) -> Result<Vec<Asked>> {
        self.stop(ANSWER_LIMIT);
        self.thread.join().map_err(|_| anyhow!("the probe has panicked"))
    }
}

fn ask_all(
    socket: &UdpSocket,
    from: SocketAddr,
    server: SocketAddr,
    end: &OnceLock<Instant>,
) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        let end = end.get();
        // Late answers are waited for, but no longer than until all are there.
        if end.is_some_and(|end| now >= *end || asked.iter().all(|one| one.answer.is_some())) {
            return asked;
        }
        if now >= next {
            if end.is_none() {
                // An error (no route while a link is down) is a lost request.
                let _ = socket.send_to(&options(asked.len(), from, server), server);
                asked.push(Asked { at: now, answer: None });
            }
            next += RHYTHM;
            continue;
        }
        receive(socket, next.saturating_duration_since(now), &mut asked);
    }
}

fn receive(socket: &UdpSocket, limit: Duration, asked: &mut [Asked]) {
    let mut bytes = [0; 4096];
    if socket.set_read_timeout(Some(limit.max(Duration::from_micros(100)))).is_err() {
        return;
    }
    match socket.recv_from(&mut bytes) {
        Ok((count, _)) => {
            let at = Instant::now();
            if let Some((number, status)) = answer(&bytes[..count])
                && let Some(one) = asked.get_mut(number)
                && one.answer.is_none()
            {
                one.answer = Some((at, status));
            }
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        // An ICMP error for a request that was lost: nothing to note.
        Err(_) => {}
    }
}

fn options(number: usize, from: SocketAddr, server: SocketAddr) -> Vec<u8> {
    format!(
        "OPTIONS sip:{server} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};branch=z9hG4bK-probe-{port}-{number};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:probe@{from}>;tag=p{number}\r\n\
         To: <sip:{server}>\r\n\
         Call-ID: probe-{port}-{number}\r\n\
         CSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n",
        port = from.port(),
    )
    .into_bytes()
}

/// The number of the request that this answers, and its status.
fn answer(bytes: &[u8]) -> Option<(usize, u16)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let status = text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
    let call_id = text.lines().find_map(|line| line.strip_prefix("Call-ID: "))?;
    Some((call_id.rsplit('-').next()?.trim().parse().ok()?, status))
}

/// What a probe saw around a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// The longest time between two good answers that ended after the fault.
    pub outage: Duration,
    /// From the fault until it was served again.
    pub until_served: Duration,
    /// Requests without any answer.
    pub lost: usize,
    /// Requests that were answered, but not with 2xx.
    pub refused: usize,
    /// Requests in all.
    pub asked: usize,
}

/// Sums up what was asked; `fault` is when the fault was made.
///
/// # Errors
///
/// Nothing was answered before or after the fault, so nothing was measured.
pub fn sum_up(asked: &[Asked], fault: Instant) -> Result<Seen> {
    let good = |one: &Asked| match one.answer {
        Some((at, 200..=299)) => Some(at),
        Some(_) | None => None,
    };
    let mut answers: Vec<_> = asked.iter().filter_map(good).collect();
    answers.sort();
    ensure!(answers.first().is_some_and(|at| *at <= fault), "no answer before the fault");
    let lost = asked.iter().filter(|one| one.answer.is_none()).count();
    let refused = asked.iter().filter(|one| one.answer.is_some() && good(one).is_none()).count();
    let length = |pair: &&[Instant]| pair[1].saturating_duration_since(pair[0]);
    let after = || answers.windows(2).filter(|pair| pair[1] > fault);
    // A fault needs a moment to take effect, so the pause that it made may begin after it: it is
    // one in which a request went unanswered, or the one around the fault. (Other pauses may be as
    // long by chance where the machine is busy.)
    let unanswered: Vec<_> = asked.iter().filter(|one| good(one).is_none()).copied().collect();
    let is_made = |pair: &&[Instant]| {
        let within = |one: &Asked| (pair[0]..=pair[1]).contains(&one.at);
        pair[0] <= fault || unanswered.iter().any(within)
    };
    let (made, longest) = (after().filter(is_made).max_by_key(length), after().max_by_key(length));
    let (Some(&[_, served]), Some(&[last, next])) = (made, longest) else {
        bail!("no answer after the fault");
    };
    Ok(Seen {
        outage: next.saturating_duration_since(last),
        until_served: served.saturating_duration_since(fault),
        lost,
        refused,
        asked: asked.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(base: Instant, rows: &[(u64, Option<(u64, u16)>)]) -> Vec<Asked> {
        let at = |ms| base + Duration::from_millis(ms);
        let row = |(sent, answer): &(u64, Option<(u64, u16)>)| Asked {
            at: at(*sent),
            answer: answer.map(|(ms, status)| (at(ms), status)),
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn what_is_not_answered_or_refused_is_an_outage() {
        let base = Instant::now();
        let rows = [
            (0, Some((1, 200))),
            (10, None),
            (20, Some((21, 503))),
            (30, Some((32, 200))),
            (40, Some((41, 200))),
        ];
        let seen = sum_up(&asked(base, &rows), base + Duration::from_millis(5)).unwrap();
        assert_eq!(seen.outage.as_millis(), 31);
        assert_eq!(seen.until_served.as_millis(), 27);
        assert_eq!((seen.asked, seen.lost, seen.refused), (5, 1, 1));
    }

    #[test]
    fn a_probe_that_saw_nothing_measures_nothing() {
        let base = Instant::now();
        let fault = base + Duration::from_millis(5);
        assert!(sum_up(&asked(base, &[]), fault).is_err());
        assert!(sum_up(&asked(base, &[(0, Some((1, 200))), (10, None)]), fault).is_err());
        assert!(sum_up(&asked(base, &[(0, None), (10, Some((11, 200)))]), fault).is_err());
    }

    #[test]
    fn an_answer_is_known_by_its_number() {
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        let request = String::from_utf8(options(17, from, from)).unwrap();
        let response = request.replace(&format!("OPTIONS sip:{from} SIP/2.0"), "SIP/2.0 200 OK");
        assert_eq!(answer(response.as_bytes()), Some((17, 200)));
        assert_eq!(answer(request.as_bytes()), None);
    }

    #[test]
    fn every_request_to_somebody_who_answers_is_answered() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let probe = Probe::start(None, address.ip(), address).unwrap();
        let mut bytes = [0; 2048];
        for _ in 0..3 {
            let (count, from) = server.recv_from(&mut bytes).unwrap();
            let request = String::from_utf8(bytes[..count].to_vec()).unwrap();
            let (_, rest) = request.split_once("\r\n").unwrap();
            server.send_to(format!("SIP/2.0 200 OK\r\n{rest}").as_bytes(), from).unwrap();
        }
        let asked = probe.finish().unwrap();
        assert_eq!(asked.iter().filter(|one| one.answer.is_some()).count(), 3);
    }

    #[test]
    fn who_is_stopped_waits_no_longer_than_told() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let probe = Probe::start(None, address.ip(), address).unwrap();
        let mut bytes = [0; 2048];
        silent.recv_from(&mut bytes).unwrap();
        let begun = Instant::now();
        probe.stop(Duration::ZERO);
        let asked = probe.finish().unwrap();
        assert!(!asked.is_empty() && asked.iter().all(|one| one.answer.is_none()));
        assert!(begun.elapsed() < ANSWER_LIMIT);
    }
}
