//! The messages of RFC 4475 and RFC 5118, and a machine that damages them.

#![allow(dead_code, reason = "not every test uses everything")]

use tandem_types::Dice;

macro_rules! corpus {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../", $folder, "/", $name, ".dat")).as_slice()),)*]
    };
}

/// RFC 4475: name and bytes.
pub(crate) const TORTURE: &[(&str, &[u8])] = corpus! {
    "torture":
    "badaspec" "badbranch" "baddate" "baddn" "badinv01" "badvers" "bcast" "bext01" "bigcode"
    "clerr" "cparam01" "cparam02" "dblreq" "esc01" "esc02" "escnull" "escruri" "insuf" "intmeth"
    "inv2543" "invut" "longreq" "ltgtruri" "lwsdisp" "lwsruri" "lwsstart" "mcl01" "mismatch01"
    "mismatch02" "mpart01" "multi01" "ncl" "noreason" "novelsc" "quotbal" "regaut01" "regbadct"
    "regescrt" "scalar02" "scalarlg" "sdp01" "semiuri" "test" "transports" "trws" "unkscm"
    "unksm2" "unreason" "wsinv" "zeromf"
};

/// RFC 5118: name and bytes.
pub(crate) const IPV6: &[(&str, &[u8])] = corpus! {
    "ipv6":
    "ipv4-mapped-ipv6" "ipv6-bad" "ipv6-bug-abnf-3-colons" "ipv6-correct-abnf-2-colons"
    "ipv6-good" "ipv6-in-sdp" "mult-ip-in-header" "mult-ip-in-sdp" "port-ambiguous"
    "port-unambiguous" "via-received-param-no-delim" "via-received-param-with-delim"
};

/// Everyday messages, so that damage is not done to odd ones alone.
pub(crate) const EVERYDAY: &[&str] = &[
    "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5060;rport;branch=z9hG4bK776asdhds\r\n\
     Max-Forwards: 70\r\nTo: Bob <sip:bob@example.com>\r\nFrom: \"Alice\" <sip:alice@example.com>;tag=1928301774\r\n\
     Call-ID: a84b4c76e66710@192.0.2.7\r\nCSeq: 314159 INVITE\r\nContact: <sip:alice@192.0.2.7:5060;ob>\r\n\
     Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\nSupported: replaces, 100rel, timer\r\nSession-Expires: 1800;refresher=uac\r\n\
     Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n",
    "REGISTER sip:example.com SIP/2.0\r\nv: SIP/2.0/TCP [2001:db8::7];branch=z9hG4bKnashds7\r\nt: <sip:bob@example.com>\r\n\
     f: <sip:bob@example.com>;tag=456248\r\ni: 843817637684230@998sdasdh09\r\nCSeq: 1826 REGISTER\r\n\
     m: <sip:bob@[2001:db8::7]>;expires=3600;q=0.7, <tel:+4923112345>;+sip.instance=\"<urn:uuid:1>\"\r\n\
     Authorization: Digest username=\"bob\", realm=\"example.com\", nonce=\"84a4cc6f\", uri=\"sip:example.com\", \
     response=\"7587245234b3434cc3412213e5f113a5\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"0a4f113b\"\r\n\
     Expires: 7200\r\nl: 0\r\n\r\n",
    "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP pc33.example.com;branch=z9hG4bK77;received=192.0.2.1;rport=5061\r\n\
     Via: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK2\r\nTo: <sip:bob@example.com>;tag=a6c85cf\r\n\
     From: Alice <sip:alice@example.com>;tag=1928301774\r\nCall-ID: a84b4c76e66710\r\nCSeq: 2 INVITE\r\n\
     Retry-After: 18000;duration=3600\r\nReason: Q.850;cause=16;text=\"x\"\r\nRecord-Route: <sip:p1;lr>,\r\n <sip:p2;lr>\r\n\
     WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"\r\nContent-Length: 0\r\n\r\n",
    "\r\n\r\nBYE sip:bob@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKb\r\nTo: <sip:b@h>;tag=1\r\n\
     From: <sip:a@h>;tag=2\r\nCall-ID: d\r\nCSeq: 3 BYE\r\nReason: SIP;cause=200\r\nContent-Length: 0\r\n\r\n",
    "PRACK sip:bob@192.0.2.9;transport=tcp SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKp\r\nRoute: <sip:p1;lr>\r\n\
     To: <sip:bob@example.com>;tag=1\r\nFrom: <sip:alice@example.com>;tag=2\r\nCall-ID: c\r\nCSeq: 2 PRACK\r\n\
     RAck: 776656 1 INVITE\r\nMax-Forwards: 69\r\nContent-Length: 0\r\n\r\n",
];

/// RFC 5118, each LF with its CR.
pub(crate) fn ipv6_on_the_wire() -> Vec<(&'static str, Vec<u8>)> {
    let wire = |bytes: &[u8]| -> Vec<u8> {
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        lines
            .flat_map(|line| [line.strip_suffix(b"\n").unwrap_or(line), b"\r\n"])
            .flatten()
            .copied()
            .collect()
    };
    IPV6.iter().map(|(name, bytes)| (*name, wire(bytes))).collect()
}

/// Every message there is.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let files = TORTURE.iter().map(|(_, bytes)| bytes.to_vec());
    let files = files.chain(ipv6_on_the_wire().into_iter().map(|(_, bytes)| bytes));
    files.chain(EVERYDAY.iter().map(|text| text.as_bytes().to_vec())).collect()
}

/// What parsers stumble over.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b" ",
    b"\t",
    b",",
    b";",
    b":",
    b"=",
    b"\"",
    b"\\",
    b"<",
    b">",
    b"@",
    b"?",
    b"&",
    b"%",
    b"%00",
    b"[",
    b"]",
    b"*",
    b"\0",
    b"\xe4",
    b"\xff",
    b"\xc3\xbc",
    b"Via: ",
    b"v:",
    b"l: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: -1\r\n",
    b"SIP/2.0",
    b"SIP/3.0",
    b"sip:",
    b"tel:",
    b"INVITE",
    b"ACK",
    b"4294967296",
    b"99999999999999999999",
    b"0",
    b"[::1]",
    b";tag=",
    b";lr",
    b"<sip:a@b>",
    b"To: <sip:a@b>\r\n",
    b"Digest ",
    b"qop=auth,",
    b"Max-Forwards: 256\r\n",
];

/// Damages `message` once to three times, and half of the time takes its Content-Length away, so
/// that not every damage to a body ends there. The same dice do the same damage.
pub(crate) fn mutate(message: &[u8], others: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut out = message.to_vec();
    for _ in 0..=dice.below(3) {
        let at = place(out.len(), dice);
        let end = (at + place(20, dice)).min(out.len());
        match dice.below(16) {
            0..=3 if at < out.len() => out[at] = dice.below(256) as u8,
            0..=6 => drop(out.splice(at..at, piece(dice).iter().copied())),
            7..=8 => drop(out.splice(at..end, piece(dice).iter().copied())),
            9..=10 => drop(out.drain(at..end)),
            11..=12 => {
                let copied = out[at..end].to_vec();
                drop(out.splice(end..end, copied));
            }
            13 => swap_lines(&mut out, dice),
            14 => {
                let other = &others[place(others.len() - 1, dice)];
                let from = place(other.len(), dice);
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
            _ => out.truncate(at),
        }
    }
    if dice.chance(50) { without_length(&out) } else { out }
}

fn without_length(message: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|byte| *byte == b'\n');
    let is_length = |line: &[u8]| line.starts_with(b"Content-Length") || line.starts_with(b"l:");
    lines.filter(|line| !is_length(line)).flatten().copied().collect()
}

fn piece(dice: &mut Dice) -> &'static [u8] {
    PIECES[place(PIECES.len() - 1, dice)]
}

/// From 0 to `last`.
fn place(last: usize, dice: &mut Dice) -> usize {
    dice.below(last as u64 + 1) as usize
}

fn swap_lines(message: &mut Vec<u8>, dice: &mut Dice) {
    let mut lines: Vec<&[u8]> = message.split_inclusive(|byte| *byte == b'\n').collect();
    if lines.len() > 1 {
        let (one, two) = (place(lines.len() - 1, dice), place(lines.len() - 1, dice));
        lines.swap(one, two);
        *message = lines.concat();
    }
}
