use core::ops::AddAssign;

/// What had to be repaired in order to read a message. Counted, so that a telephone that needs it
/// can be found; nothing else is repaired.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Repairs {
    /// Lines that end in LF alone.
    pub bare_line_feeds: u64,
    /// Start lines with more or fewer spaces than one between their parts, or any at the end.
    pub start_line_spaces: u64,
    /// Datagrams that end after a header line, without the empty line.
    pub missing_blank_lines: u64,
}

impl Repairs {
    /// How many in all.
    pub const fn total(&self) -> u64 {
        self.bare_line_feeds + self.start_line_spaces + self.missing_blank_lines
    }
}

impl AddAssign for Repairs {
    fn add_assign(&mut self, rhs: Self) {
        self.bare_line_feeds += rhs.bare_line_feeds;
        self.start_line_spaces += rhs.start_line_spaces;
        self.missing_blank_lines += rhs.missing_blank_lines;
    }
}

/// Cuts the head of a message into lines, without their ends.
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    bare_line_feeds: u64,
}

impl<'a> Lines<'a> {
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest, bare_line_feeds: 0 }
    }

    /// The next line; `None` when no line end follows.
    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Some(line.strip_suffix(b"\r").unwrap_or_else(|| {
            self.bare_line_feeds += 1;
            line
        }))
    }

    /// The next line if it continues the one before (RFC 3261 §7.3.1).
    pub(crate) fn next_folded(&mut self) -> Option<&'a [u8]> {
        match self.rest.first() {
            Some(b' ' | b'\t') => self.next(),
            _ => None,
        }
    }

    /// What was not cut yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn bare_line_feeds(&self) -> u64 {
        self.bare_line_feeds
    }
}
