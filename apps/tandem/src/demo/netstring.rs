//! Netstrings (`5:hello,`): how baresip frames the JSON of its control connection.
//!
//! Invariant: bytes are taken out once, in order; a frame that is no netstring is an error, never
//! skipped.

use anyhow::{Result, ensure};

/// The longest frame that is accepted, in bytes.
const MAX_FRAME: usize = 1 << 20;

/// Digits of the longest length.
const MAX_DIGITS: usize = 7;

/// One frame around `text`.
#[must_use]
pub(super) fn wrap(text: &str) -> Vec<u8> {
    format!("{}:{text},", text.len()).into_bytes()
}

/// Takes frames out of a stream of bytes.
#[derive(Debug, Default)]
pub(super) struct Unwrapper {
    bytes: Vec<u8>,
}

impl Unwrapper {
    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, where it is there.
    ///
    /// # Errors
    ///
    /// What came is not a netstring, or a frame is longer than 1 MiB.
    pub(super) fn next_frame(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(colon) = self.bytes.iter().position(|byte| *byte == b':') else {
            ensure!(self.bytes.len() <= MAX_DIGITS, "a length without end");
            return Ok(None);
        };
        let digits = std::str::from_utf8(&self.bytes[..colon]).unwrap_or_default();
        let length: usize = digits.parse().unwrap_or(usize::MAX);
        ensure!(length <= MAX_FRAME, "{digits:?} is no length of a frame");
        let end = colon + 1 + length;
        if self.bytes.len() <= end {
            return Ok(None);
        }
        ensure!(self.bytes[end] == b',', "a frame that does not end with a comma");
        let frame = self.bytes[colon + 1..end].to_vec();
        self.bytes.drain(..=end);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let mut unwrapper = Unwrapper::default();
        let mut frames = Vec::new();
        for piece in pieces {
            unwrapper.push(piece);
            while let Some(frame) = unwrapper.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_are_found_wherever_the_stream_is_cut() {
        let mut stream = wrap("hello");
        stream.extend(wrap(""));
        stream.extend(wrap("{\"a\":1,\"b\":2}"));
        for cut in 0..stream.len() {
            let (one, two) = stream.split_at(cut);
            let seen = frames(&[one, two]).unwrap();
            assert_eq!(seen, [b"hello".to_vec(), Vec::new(), b"{\"a\":1,\"b\":2}".to_vec()]);
        }
    }

    #[test]
    fn what_is_no_netstring_is_refused() {
        assert!(frames(&[b"x:hello,"]).is_err());
        assert!(frames(&[b"4:hello,"]).is_err());
        assert!(frames(&[b"99999999"]).is_err());
        assert!(frames(&[format!("{}:", MAX_FRAME + 1).as_bytes()]).is_err());
        assert!(frames(&[format!("{MAX_FRAME}:").as_bytes()]).unwrap().is_empty());
    }
}
