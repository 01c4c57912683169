//! Many phones that log in, in one thread and from one socket: each login with its challenge.
//!
//! Invariant: only so many wait for their answer at a time, so that none is lost in a full buffer.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tandem::demo::space::{Space, inside};
use tandem_sip::Method;
use tandem_sip::digest::{Challenge, respond};

use crate::meter::{field, status};
use crate::stage::User;

/// Requests that wait for their answer.
const WINDOW: usize = 48;

/// All have logged in by then, or something is wrong.
const LIMIT: Duration = Duration::from_secs(300);

/// An answer that is not there by then was lost; the request is repeated (T1, RFC 3261 §17.1.2.2).
const PATIENCE: Duration = Duration::from_millis(500);

/// One device of one user.
#[derive(Clone, Copy, Debug)]
struct Login<'a> {
    user: &'a User,
    device: usize,
    /// The proof that was asked for; empty before.
    proof: Option<&'a str>,
}

/// Logs in so many devices of each user.
///
/// # Errors
///
/// One is refused; the server is silent.
pub(super) fn log_in(
    space: Option<&Space>,
    address: IpAddr,
    server: SocketAddr,
    users: &[User],
    devices: usize,
) -> Result<usize> {
    let socket = inside(space, || Ok(UdpSocket::bind((address, 0))?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let from = socket.local_addr()?;
    let mut left: VecDeque<(usize, usize)> =
        (0..devices).flat_map(|device| (0..users.len()).map(move |user| (user, device))).collect();
    let (all, end) = (left.len(), Instant::now() + LIMIT);
    let mut waiting: BTreeMap<String, (usize, usize, String)> = BTreeMap::new();
    let (mut done, mut bytes) = (0, [0; 4_096]);
    while done < all {
        ensure!(Instant::now() < end, "{done} of {all} phones have logged in");
        while waiting.len() < WINDOW
            && let Some((user, device)) = left.pop_front()
        {
            let login = Login { user: &users[user], device, proof: None };
            let request = request(from, server, login);
            socket.send_to(request.as_bytes(), server)?;
            waiting.insert(name(login), (user, device, request));
        }
        let read = match socket.recv_from(&mut bytes) {
            Ok((read, _)) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                for (_, _, request) in waiting.values() {
                    socket.send_to(request.as_bytes(), server)?;
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let text = std::str::from_utf8(&bytes[..read]).context("an answer that is no text")?;
        // Requests to the phones (is it there?) are left alone, and so are answers that come twice.
        let (Some(status), Some(id)) = (status(text), field(text, "Call-ID")) else { continue };
        let cseq = field(text, "CSeq").unwrap_or_default();
        let Some((user, device, sent)) = waiting.get(id).cloned() else { continue };
        if field(&sent, "CSeq") != Some(cseq) {
            continue;
        }
        match status {
            100..=199 => {}
            200 => {
                waiting.remove(id);
                done += 1;
            }
            401 if cseq.starts_with('1') => {
                let proof = proof(text, server, &users[user])?;
                let login = Login { user: &users[user], device, proof: Some(&proof) };
                let request = request(from, server, login);
                socket.send_to(request.as_bytes(), server)?;
                waiting.insert(name(login), (user, device, request));
            }
            _ => bail!("{} was answered {status}", users[user].name),
        }
    }
    Ok(done)
}

/// The Call-ID.
fn name(login: Login<'_>) -> String {
    format!("flood-{}-{}", login.user.name, login.device)
}

fn request(from: SocketAddr, server: SocketAddr, login: Login<'_>) -> String {
    let Login { user: User { name: user, .. }, device, proof } = login;
    let (id, host) = (name(login), server.ip());
    let (cseq, proof) = proof.map_or((1, ""), |proof| (2, proof));
    format!(
        "REGISTER sip:{server} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};branch=z9hG4bK-{id}-{cseq};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:{user}@{host}>;tag=f{device}\r\nTo: <sip:{user}@{host}>\r\n\
         Call-ID: {id}\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:{user}-{device}@{from}>\r\nExpires: 3600\r\n{proof}\
         Content-Length: 0\r\n\r\n"
    )
}

fn proof(answer: &str, server: SocketAddr, user: &User) -> Result<String> {
    let value = field(answer, "WWW-Authenticate").context("a 401 without a challenge")?;
    let challenge = Challenge::parse(value.as_bytes()).context("a strange challenge")?;
    let uri = format!("sip:{server}");
    let (name, password) = (user.name.as_bytes(), user.password.as_bytes());
    let method = Method::Register;
    let proof = respond(&challenge, &method, uri.as_bytes(), name, password, b"flood", 1);
    Ok(format!("Authorization: {}\r\n", String::from_utf8_lossy(&proof.to_bytes())))
}
