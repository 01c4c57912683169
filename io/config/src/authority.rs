//! A database that is asked before a change is made here, where there is one: the file is a cache then.

use core::fmt;

/// It has every change first. What it calls may wait for a network, but not for long.
pub trait Authority: fmt::Debug + Send {
    /// Whether a change may be asked for now.
    ///
    /// # Errors
    ///
    /// A sentence for whoever wants one.
    fn ready(&self) -> Result<(), String>;

    /// Ops of ours, encoded, in their order: returns when they are kept there for good.
    ///
    /// # Errors
    ///
    /// They are not, or it is not known; a sentence for whoever wanted the change. Where they are there after
    /// all they come back by [`crate::Config::handle_database`], before this is [`Authority::ready`] again.
    fn store(&mut self, ops: Vec<Vec<u8>>) -> Result<(), String>;

    /// What was stored is not here, because the disk failed after it: both must compare.
    fn doubt(&mut self);
}

/// Why a batch was not written.
pub(crate) enum Unwritten {
    /// The disk, or the file.
    Disk(rusqlite::Error),
    /// The authority: the sentence.
    Refused(String),
}

impl From<rusqlite::Error> for Unwritten {
    fn from(error: rusqlite::Error) -> Self {
        Self::Disk(error)
    }
}
