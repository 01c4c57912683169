//! A frame as it lies in its stream: a head of 32 bits, then the frame or what it was compressed to.
//!
//! ```text
//!   0 │ length (31)                │ the frame
//!   1 │ length of what follows (31) │ length of the frame (32) │ one LZ4 block
//! ```
//!
//! Most significant byte first. Compressing is for the line between the machines, so LZ4: it is fast enough
//! not to be what limits it. Long frames are worked on by another thread: the one that answers calls
//! must not stand still for the milliseconds that this takes.

use lz4_flex::block;
use tokio::task::spawn_blocking;

use crate::MAX_FRAME_BYTES;
use crate::class::Class;

/// What the head of a frame announces: how many bytes follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Head {
    /// The frame.
    Plain(u32),
    /// The length of the frame, then the block. At least one byte of it.
    Packed(u32),
}

impl Head {
    /// Reads the head of a frame of this class.
    ///
    /// # Errors
    /// Says what is wrong: it announces too much or too little, or is packed where nothing may be.
    pub(crate) fn read(class: Class, head: [u8; HEAD_BYTES]) -> Result<Self, String> {
        let number = u32::from_be_bytes(head);
        let packed = class.compresses() && number & PACKED != 0;
        let length = if packed { number & !PACKED } else { number };
        if length as usize > MAX_FRAME_BYTES {
            Err(format!("a frame of {length} bytes"))
        } else if !packed {
            Ok(Self::Plain(length))
        } else if length as usize <= LENGTH_BYTES {
            Err("an empty packed frame".to_owned())
        } else {
            Ok(Self::Packed(length))
        }
    }

    /// Its bytes.
    pub(crate) const fn bytes(self) -> [u8; HEAD_BYTES] {
        match self {
            Self::Plain(length) => length.to_be_bytes(),
            Self::Packed(length) => (length | PACKED).to_be_bytes(),
        }
    }
}

/// Reads how long the frame in `body_bytes` is. Nothing is unpacked yet.
///
/// # Errors
/// It would be longer than a frame may be, or no longer than what it was packed to.
pub(crate) fn unpacked_bytes(
    length: [u8; LENGTH_BYTES],
    body_bytes: u32,
) -> Result<u32, &'static str> {
    let length = u32::from_be_bytes(length);
    if length as usize > MAX_FRAME_BYTES {
        Err("a packed frame of more than it may hold")
    } else if length <= body_bytes {
        Err("a frame that grew when it was packed")
    } else {
        Ok(length)
    }
}

/// What to write for a long frame. Of a length that frames may have.
///
/// # Errors
/// The thread for it was stopped: the process ends.
pub(crate) async fn pack(frame: Vec<u8>) -> Result<(Head, Vec<u8>), Stopped> {
    if frame.len() < APART_BYTES {
        return Ok(pack_now(frame));
    }
    spawn_blocking(move || pack_now(frame)).await.map_err(|_| Stopped)
}

/// The frame of `length` bytes that `block` holds.
///
/// # Errors
/// Says that the block is damaged.
pub(crate) async fn unpack(block: Vec<u8>, length: u32) -> Result<Vec<u8>, &'static str> {
    if (length as usize) < APART_BYTES {
        return unpack_now(&block, length);
    }
    // The thread is stopped only together with the process.
    spawn_blocking(move || unpack_now(&block, length)).await.unwrap_or(Err(DAMAGED))
}

/// A thread was stopped in the middle of its work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stopped;

fn pack_now(frame: Vec<u8>) -> (Head, Vec<u8>) {
    // Frames are shorter than 2^31.
    let plain = Head::Plain(frame.len() as u32);
    let mut packed = vec![0; LENGTH_BYTES + block::get_maximum_output_size(frame.len())];
    let (length, room) = packed.split_at_mut(LENGTH_BYTES);
    length.copy_from_slice(&(frame.len() as u32).to_be_bytes());
    match block::compress_into(&frame, room) {
        Ok(bytes) if LENGTH_BYTES + bytes < frame.len() => {
            packed.truncate(LENGTH_BYTES + bytes);
            (Head::Packed(packed.len() as u32), packed)
        }
        // What is compressed already, as files are, goes as it is.
        Ok(_) | Err(_) => (plain, frame),
    }
}

fn unpack_now(packed: &[u8], length: u32) -> Result<Vec<u8>, &'static str> {
    let mut frame = vec![0; length as usize];
    match block::decompress_into(packed, &mut frame) {
        Ok(bytes) if bytes == frame.len() => Ok(frame),
        Ok(_) | Err(_) => Err(DAMAGED),
    }
}

/// Bytes of a head.
pub(crate) const HEAD_BYTES: usize = 4;
/// Bytes of the length of a packed frame.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Frames from this length on are worth it, in bytes: below, a packet is not full anyway.
pub(crate) const PACK_FROM_BYTES: usize = 1024;
/// Frames from this length on are packed by another thread, in bytes: about 50 us of work.
const APART_BYTES: usize = 16 * 1024;
/// In the head: what follows is packed.
const PACKED: u32 = 1 << 31;
const DAMAGED: &str = "a packed frame that is damaged";

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_types::Dice;

    fn random(dice: &mut Dice, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|_| dice.below(256) as u8).collect()
    }

    async fn round_trip(frame: Vec<u8>) -> (Head, Vec<u8>) {
        let (head, body) = pack(frame.clone()).await.unwrap();
        let read = Head::read(Class::Bulk, head.bytes()).unwrap();
        assert_eq!(read, head);
        let back = match read {
            Head::Plain(length) => {
                assert_eq!(length as usize, body.len());
                body
            }
            Head::Packed(length) => {
                assert_eq!(length as usize, body.len());
                let (first, block) = body.split_at(LENGTH_BYTES);
                let length = unpacked_bytes(first.try_into().unwrap(), length).unwrap();
                unpack(block.to_vec(), length).await.unwrap()
            }
        };
        assert!(back == frame, "{} bytes came back otherwise", frame.len());
        (head, back)
    }

    #[tokio::test]
    async fn what_is_packed_comes_back() {
        for bytes in [0, 1, 12, PACK_FROM_BYTES, APART_BYTES - 1, APART_BYTES, MAX_FRAME_BYTES] {
            let (head, _) = round_trip(vec![7; bytes]).await;
            assert_eq!(matches!(head, Head::Packed(_)), bytes > 12, "{bytes}");
            let noise = random(&mut Dice::from_seed([1; 32]), bytes.min(100_000));
            assert!(matches!(round_trip(noise).await.0, Head::Plain(_)), "{bytes}");
        }
    }

    #[test]
    fn a_head_that_announces_too_much_or_nothing_is_refused() {
        let longest = MAX_FRAME_BYTES as u32;
        for (class, number, right) in [
            (Class::Hot, longest, true),
            (Class::Hot, longest + 1, false),
            (Class::Hot, PACKED | 100, false),
            (Class::Bulk, longest, true),
            (Class::Bulk, longest + 1, false),
            (Class::Bulk, PACKED | longest, true),
            (Class::Bulk, PACKED | (longest + 1), false),
            (Class::Ops, PACKED | 5, true),
            (Class::Ops, PACKED | 4, false),
        ] {
            assert_eq!(Head::read(class, number.to_be_bytes()).is_ok(), right, "{class} {number}");
        }
        assert_eq!(unpacked_bytes(longest.to_be_bytes(), 10), Ok(longest));
        assert!(unpacked_bytes((longest + 1).to_be_bytes(), 10).is_err());
        assert!(unpacked_bytes(10_u32.to_be_bytes(), 10).is_err());
    }

    #[tokio::test]
    async fn damaged_blocks_are_an_error_or_another_frame_of_that_length_and_never_more() {
        let mut dice = Dice::from_seed([2; 32]);
        let mut refused = 0;
        for _ in 0..2_000 {
            let bytes = 1_024 + dice.below(1_024) as usize;
            let frame: Vec<u8> = (0..bytes).map(|place| (place / 64) as u8).collect();
            let (Head::Packed(_), packed) = pack(frame).await.unwrap() else { panic!("plain") };
            let mut block = packed[LENGTH_BYTES..].to_vec();
            let place = dice.below(block.len() as u64) as usize;
            match dice.below(3) {
                0 => block.truncate(place),
                1 => block[place] ^= 1 << dice.below(8),
                _ => block = random(&mut dice, place),
            }
            match unpack(block, bytes as u32).await {
                Ok(frame) => assert_eq!(frame.len(), bytes),
                Err(why) => {
                    assert_eq!(why, DAMAGED);
                    refused += 1;
                }
            }
        }
        assert!(refused > 1_000, "{refused} were refused");
    }
}
