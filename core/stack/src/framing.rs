//! Cuts a byte stream into SIP messages, RFC 3261 §18.3, and finds keep-alives, RFC 5626 §3.5.1.
//!
//! ```text
//! bytes --push--> [ CRLF CRLF | head CRLF CRLF body | ... ] --next--> Ping, Message, Message
//! ```
//!
//! Only the end of the head and Content-Length are looked at; everything else is for the parser.
//! On a stream a message without Content-Length has no end that anybody could find, so this and
//! whatever else leaves the next message's start in doubt is an error, after which the connection
//! must be closed.
//!
//! Invariant: what is held is at most one unfinished message within the limits, whatever is pushed
//! and in whatever pieces, provided that frames are taken until there is none.

/// The largest head, from the first line to the empty line, in bytes.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The largest body, in bytes.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// What an idle connection may go on holding, in bytes.
const IDLE_BYTES: usize = 8 * 1024;

/// One connection's incoming bytes.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// Bytes before this are taken.
    start: usize,
    /// No end of the head was found before this.
    searched: usize,
    /// Head and body lengths of the message at `start`, once its head is there.
    head: Option<(usize, usize)>,
    broken: Option<FrameError>,
}

/// What the stream held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A whole message, for [`crate::Stack::handle_bytes`].
    Message(Vec<u8>),
    /// A keep-alive: send [`PONG`] at once.
    Ping,
}

/// The answer to a [`Frame::Ping`].
pub const PONG: &[u8] = b"\r\n";

/// Why the connection must be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    /// No empty line within [`MAX_HEAD_BYTES`].
    HeadTooLarge,
    /// Content-Length above [`MAX_BODY_BYTES`].
    BodyTooLarge,
    /// Content-Length is missing, is not a number, or is there twice with different values.
    NoLength,
    /// It does not start like SIP.
    Garbage,
}

impl Framer {
    /// Nothing received yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The next frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// The stream cannot be understood any further; the error stays.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let result = self.cut();
        if let Err(error) = result {
            *self = Self { broken: Some(error), ..Self::default() };
        }
        result
    }

    /// How many bytes wait for the rest of their message.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn cut(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.head.is_none() {
            if self.skip_empty_lines() {
                return Ok(Some(Frame::Ping));
            }
            self.find_head()?;
        }
        let whole = self.head.and_then(|(head, body)| {
            let end = self.start + head + body;
            (self.bytes.len() >= end).then_some(end)
        });
        let Some(end) = whole else {
            self.compact();
            return Ok(None);
        };
        let message = self.bytes[self.start..end].to_vec();
        self.take_until(end);
        Ok(Some(Frame::Message(message)))
    }

    /// Empty lines before a message are ignored (RFC 3261 §7.5); two in a row are a ping.
    fn skip_empty_lines(&mut self) -> bool {
        loop {
            let rest = &self.bytes[self.start..];
            if rest.starts_with(b"\r\n\r\n") {
                self.take_until(self.start + 4);
                return true;
            }
            // A lone CRLF at the end of what is there may be half a ping.
            if rest.len() < 3 || !rest.starts_with(b"\r\n") || rest[2] == b'\r' {
                return false;
            }
            self.take_until(self.start + 2);
        }
    }

    fn find_head(&mut self) -> Result<(), FrameError> {
        let rest = &self.bytes[self.start..];
        if rest.is_empty() || b"\r\n\r".starts_with(rest) {
            return Ok(());
        }
        if !rest[0].is_ascii_alphabetic() {
            return Err(FrameError::Garbage);
        }
        let from = self.searched.max(self.start).saturating_sub(3).max(self.start);
        let found = find(&self.bytes[from..], b"\r\n\r\n").map(|at| from + at + 4 - self.start);
        self.searched = self.bytes.len();
        match found {
            Some(head) if head > MAX_HEAD_BYTES => Err(FrameError::HeadTooLarge),
            Some(head) => {
                let body = content_length(&rest[..head]).ok_or(FrameError::NoLength)?;
                if body > MAX_BODY_BYTES {
                    return Err(FrameError::BodyTooLarge);
                }
                self.head = Some((head, body));
                Ok(())
            }
            None if rest.len() > MAX_HEAD_BYTES => Err(FrameError::HeadTooLarge),
            None => Ok(()),
        }
    }

    fn take_until(&mut self, end: usize) {
        self.start = end;
        self.searched = end;
        self.head = None;
        if self.start == self.bytes.len() {
            self.compact();
        }
    }

    /// Drops what was taken; called when nothing more can be cut, so the cost is one move a read.
    fn compact(&mut self) {
        self.bytes.drain(..self.start);
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > IDLE_BYTES {
            self.bytes = Vec::new();
        }
    }
}

/// The one value of Content-Length (or `l`) in this head. Lines may be folded (RFC 3261 §7.3.1).
fn content_length(head: &[u8]) -> Option<usize> {
    let mut found = None;
    let mut lines = head.split(|byte| *byte == b'\n').skip(1).peekable();
    while let Some(line) = lines.next() {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = line[..colon].trim_ascii();
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let mut value = line[colon + 1..].trim_ascii().to_vec();
        while let Some(more) = lines.next_if(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
            value.extend_from_slice(more.trim_ascii());
        }
        let length: usize = std::str::from_utf8(&value)
            .ok()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())?;
        if found.is_some_and(|before| before != length) {
            return None;
        }
        found = Some(length);
    }
    found
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out when `pieces` are pushed one by one: `p` is a ping, numbers are the bytes of
    /// messages, and an error ends it.
    fn cut<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut framer = Framer::new();
        let mut seen = Vec::new();
        for piece in pieces {
            framer.push(piece);
            loop {
                match framer.next_frame() {
                    Ok(Some(Frame::Ping)) => seen.push("p".into()),
                    Ok(Some(Frame::Message(message))) => seen.push(message.len().to_string()),
                    Ok(None) => break,
                    Err(error) => {
                        seen.push(format!("{error:?}"));
                        assert_eq!(framer.next_frame(), Err(error));
                        assert_eq!(framer.pending(), 0);
                        return seen.join(" ");
                    }
                }
            }
            assert!(framer.pending() <= MAX_HEAD_BYTES + MAX_BODY_BYTES);
        }
        seen.join(" ")
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        let text = text.replace('\n', "\r\n");
        assert_eq!(cut([text.as_bytes()]), want, "in one piece");
        assert_eq!(cut(text.as_bytes().chunks(1)), want, "byte by byte");
        for at in 0..text.len() {
            let (one, two) = text.as_bytes().split_at(at);
            assert_eq!(cut([one, two]), want, "cut at {at}");
        }
    }

    #[test]
    fn messages_are_found_however_the_stream_is_cut() {
        check("BYE a SIP/2.0\nContent-Length: 2\n\nxyOK b\nl:0\n\n", "38 13");
    }

    #[test]
    fn the_length_may_stand_anywhere_in_any_form() {
        check("A\nX: y\nCONTENT-length :  3\nB: c\n\nxyz", "41");
        check("A\nContent-Length:\n 3\n\nxyz", "29");
        check("A\nl: 3\nContent-Length: 3\n\nxyz", "33");
        check("A\nl: 0003\n\nxyz", "17");
    }

    #[test]
    fn keep_alives_are_answered_and_empty_lines_skipped() {
        check("\n\n", "p");
        check("\n\n\n\nA\nl: 0\n\n\n\n", "p p 11 p");
        check("\nA\nl: 0\n\n", "11");
        check("\n\n\nA\nl: 0\n\n\n", "p 11");
    }

    #[test]
    fn a_message_without_a_certain_end_ends_the_connection() {
        check("A\nX: y\n\n", "NoLength");
        check("A\nl: x\n\n", "NoLength");
        check("A\nl: -1\n\n", "NoLength");
        check("A\nl:\n\n", "NoLength");
        check("A\nl: 1, 1\n\n", "NoLength");
        check("A\nl: 1\nContent-Length: 2\n\n", "NoLength");
        check("A\nl: 99999999999999999999999\n\n", "NoLength");
        check("GET / HTTP/1.1\nHost: x\n\n", "NoLength");
    }

    #[test]
    fn garbage_ends_the_connection() {
        check("\u{16}\u{3}\u{1}", "Garbage");
        check("A\nl: 0\n\n ", "11 Garbage");
        check("\n\rA", "Garbage");
        assert_eq!(cut([b"\0".as_slice()]), "Garbage");
    }

    #[test]
    fn a_head_may_be_so_large_and_no_larger() {
        let head = |bytes: usize| {
            let rest = "A\r\nl: 0\r\nX: \r\n\r\n";
            format!("A\r\nl: 0\r\nX: {}\r\n\r\n", "x".repeat(bytes - rest.len()))
        };
        assert_eq!(cut([head(MAX_HEAD_BYTES).as_bytes()]), MAX_HEAD_BYTES.to_string());
        assert_eq!(cut(head(MAX_HEAD_BYTES).as_bytes().chunks(1000)), MAX_HEAD_BYTES.to_string());
        assert_eq!(cut([head(MAX_HEAD_BYTES + 1).as_bytes()]), "HeadTooLarge");
        // Nobody waits for an end that does not come.
        let endless = vec![b'x'; MAX_HEAD_BYTES + 1];
        assert_eq!(cut([&endless[..MAX_HEAD_BYTES]]), "");
        assert_eq!(cut(endless.chunks(MAX_HEAD_BYTES)), "HeadTooLarge");
    }

    #[test]
    fn a_body_may_be_so_large_and_no_larger() {
        let head = format!("A\r\nl: {MAX_BODY_BYTES}\r\n\r\n");
        let body = vec![b'x'; MAX_BODY_BYTES];
        let want = (head.len() + body.len()).to_string();
        assert_eq!(cut([head.as_bytes(), &body[..1], &body[1..]]), want);
        let head = format!("A\r\nl: {}\r\n\r\n", MAX_BODY_BYTES + 1);
        assert_eq!(cut([head.as_bytes()]), "BodyTooLarge");
    }
}
