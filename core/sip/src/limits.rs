/// Largest message taken, in bytes: what a UDP datagram can hold. Beyond: 513, not looked into.
pub const MAX_MESSAGE_BYTES: usize = 65_535;
/// Most header lines in a message. Beyond: 400; the lines beyond are not stored.
pub const MAX_HEADER_LINES: usize = 256;
/// Longest header line, name and folded lines included, in bytes. Beyond: 400; the line is not
/// stored.
pub const MAX_HEADER_LINE_BYTES: usize = 8_192;
/// Longest URI, in bytes. Beyond: 414 for the Request-URI, 400 for one in a header.
pub const MAX_URI_BYTES: usize = 4_096;

/// Most parameters of one URI, header value, challenge or credentials, and most headers of one URI. Beyond: malformed, 400
/// where the message rests on it.
pub const MAX_PARAMS: usize = 64;
/// Most values that a typed list, as [`Headers::contacts`](crate::Headers::contacts), holds.
/// Beyond: malformed, 400 where the message rests on it.
pub const MAX_LIST_VALUES: usize = 256;

/// How a message came, which decides where its body ends (RFC 3261 §18.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// One message a datagram: without Content-Length the body is the rest, bytes beyond it are
    /// dropped.
    Datagram,
    /// Cut out of a byte stream: Content-Length must be there and must fit exactly.
    Stream,
}

/// What a stranger may send. The defaults are the constants of this crate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes in a message.
    pub message_bytes: usize,
    /// Header lines in a message.
    pub header_lines: usize,
    /// Bytes in one header line, folded lines included.
    pub header_line_bytes: usize,
    /// Bytes in the Request-URI; never more than [`MAX_URI_BYTES`].
    pub uri_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: MAX_MESSAGE_BYTES,
            header_lines: MAX_HEADER_LINES,
            header_line_bytes: MAX_HEADER_LINE_BYTES,
            uri_bytes: MAX_URI_BYTES,
        }
    }
}
