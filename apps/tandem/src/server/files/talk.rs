//! What commands and the server say to each other about contents: a line of JSON each way, and the
//! contents themselves as they are.

use serde::{Deserialize, Serialize};
use tandem_files::{ClassStatus, ScrubStatus, UnderWay};

/// What a command wants. Keys and contents are hexadecimal.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FilesRequest {
    /// Keep a content of so many bytes: answered by [`FilesAnswer::Go`], then they follow, then
    /// [`FilesAnswer::Kept`].
    Put {
        /// Its length.
        bytes: u64,
    },
    /// Wait until the twin has a row and its content on its disk.
    Wait {
        /// The row.
        row: String,
        /// Its content.
        content: String,
        /// So long.
        seconds: u64,
    },
    /// A content: [`FilesAnswer::Content`], then its bytes.
    Get {
        /// Which.
        content: String,
    },
    /// Where these are.
    Where {
        /// Rows with their contents.
        rows: Vec<(String, String)>,
    },
    /// Each class.
    Classes,
}

/// The answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FilesAnswer {
    /// Send it.
    Go,
    /// It is on this disk.
    Kept {
        /// Its name.
        content: String,
    },
    /// Whether the twin has it.
    There(bool),
    /// Its bytes follow.
    Content {
        /// So many.
        bytes: u64,
    },
    /// In the order of the question.
    Places(Vec<FilePlace>),
    /// Each class.
    Classes(FilesReport),
}

/// Where a content is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct FilePlace {
    /// On this machine.
    pub(crate) here: bool,
    /// On the other one; `None` where it does not say.
    pub(crate) there: Option<bool>,
}

/// How the two machines stand.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct FilesReport {
    /// Each class.
    pub(crate) classes: Vec<ClassStatus>,
    /// What comes to this machine now.
    pub(crate) under_way: Vec<UnderWay>,
    /// The twin is there and has said what it has.
    pub(crate) twin: bool,
    /// How far the disk of this machine was read again.
    pub(crate) scrub: ScrubStatus,
}
