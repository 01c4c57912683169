//! The two servers compared, for `tandem verify`: one asks, the other reads what it has and says what stands for
//! it. Nothing is decided here.
//!
//! ```text
//!   command ──> ask ──link──> a thread of the twin reads its files ──link──> kept here until the command asks
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tandem_store::backup::{LogPart, Sums, log_part, sums};
use tokio::sync::mpsc::UnboundedSender;

use super::backup::Said;

/// The first byte of these messages: they travel among those of the configuration, which begin with a small
/// number.
const TAG: u8 = 0xc5;

/// What threads beside the loop have for it.
#[derive(Debug)]
pub(super) enum Aside {
    /// To be told.
    Said(Said),
    /// To be sent to the twin.
    ToTwin(Vec<u8>),
}

/// What a command may ask.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum TwinAsk {
    /// Everything of the twin, summed up: log records that ended since then.
    #[serde(rename = "twin_sums")]
    Sums {
        /// Microseconds since 1970.
        since: Option<i64>,
    },
    /// The records of one part.
    #[serde(rename = "twin_part")]
    Part {
        /// Which.
        part: LogPart,
        /// As above.
        since: Option<i64>,
    },
    /// What came of a question.
    #[serde(rename = "twin_result")]
    Result {
        /// Its number.
        id: u64,
    },
}

/// The answer to a [`TwinAsk`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum TwinTold {
    /// The question has this number: ask for its result.
    #[serde(rename = "twin_asked")]
    Asked(u64),
    /// There is none yet.
    #[serde(rename = "twin_reads")]
    Reads,
    /// What it is ([`Sums`] or [`Records`], as postcard has it).
    #[serde(rename = "twin_has")]
    Has(Vec<u8>),
    /// Why there is none.
    #[serde(rename = "twin_failed")]
    Failed(String),
}

/// The records of one part: the key, and what stands for it.
pub(crate) type Records = BTreeMap<Vec<u8>, [u8; 16]>;

/// What the two say to each other.
#[derive(Debug, Deserialize, Serialize)]
enum Message {
    Ask { id: u64, since: Option<i64>, part: Option<LogPart> },
    Answer { id: u64, result: Result<Vec<u8>, String> },
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        // Only a serialiser that refuses (maps of unknown length) can fail; ours has none.
        postcard::to_extend(self, vec![TAG]).unwrap_or_default()
    }
}

/// Whether a message is one of these.
pub(super) fn is_ours(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TAG)
}

/// The question that is out, and whoever reads for the twin.
pub(super) struct Twins {
    state: PathBuf,
    asides: UnboundedSender<Aside>,
    /// One thread reads at a time.
    reading: Arc<AtomicBool>,
    last: u64,
    /// The answer to the last question.
    result: Option<Result<Vec<u8>, String>>,
}

impl Twins {
    pub(super) fn new(state: &Path, asides: UnboundedSender<Aside>) -> Self {
        let reading = Arc::new(AtomicBool::new(false));
        Self { state: state.to_owned(), asides, reading, last: 0, result: None }
    }

    /// A command asks; there may be something to send.
    pub(super) fn ask(&mut self, ask: &TwinAsk) -> (TwinTold, Option<Vec<u8>>) {
        let (since, part) = match ask {
            TwinAsk::Sums { since } => (*since, None),
            TwinAsk::Part { part, since } => (*since, Some(*part)),
            TwinAsk::Result { id } => return (self.told(*id), None),
        };
        self.last += 1;
        self.result = None;
        let message = Message::Ask { id: self.last, since, part };
        (TwinTold::Asked(self.last), Some(message.encode()))
    }

    fn told(&self, id: u64) -> TwinTold {
        match &self.result {
            _ if id != self.last => {
                TwinTold::Failed(String::from("somebody else has asked since: try again"))
            }
            None => TwinTold::Reads,
            Some(Ok(bytes)) => TwinTold::Has(bytes.clone()),
            Some(Err(why)) => TwinTold::Failed(why.clone()),
        }
    }

    /// The link is down: nothing comes any more of what was asked.
    pub(super) fn cut(&mut self) {
        if self.result.is_none() {
            self.result = Some(Err(String::from("the link to the other machine is down")));
        }
    }

    /// Takes a message of the twin.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        match postcard::from_bytes(bytes.get(1..).unwrap_or_default()) {
            Ok(Message::Answer { id, result }) if id == self.last => self.result = Some(result),
            Ok(Message::Ask { id, since, part }) => self.read(id, since, part),
            // An answer that nobody waits for; or another version's message.
            Ok(Message::Answer { .. }) | Err(_) => {}
        }
    }

    fn read(&self, id: u64, since: Option<i64>, part: Option<LogPart>) {
        let asides = self.asides.clone();
        let answer = move |result| {
            // The loop is gone only when the process ends.
            let _ = asides.send(Aside::ToTwin(Message::Answer { id, result }.encode()));
        };
        if self.reading.swap(true, Ordering::AcqRel) {
            return answer(Err(String::from("the other machine is being compared already")));
        }
        let (state, reading) = (self.state.clone(), Arc::clone(&self.reading));
        let work = move || {
            // Of this thread only; a refusal costs nothing else.
            let _ = rustix::process::setpriority_process(None, super::backup::NICE);
            let result = holds(&state, since, part);
            reading.store(false, Ordering::Release);
            answer(result);
        };
        if std::thread::Builder::new().name(String::from("compare")).spawn(work).is_err() {
            self.reading.store(false, Ordering::Release);
        }
    }
}

/// What this machine has.
fn holds(state: &Path, since: Option<i64>, part: Option<LogPart>) -> Result<Vec<u8>, String> {
    let encoded = match part {
        Some(part) => {
            let records: Records =
                log_part(state, part, since).map_err(|error| error.to_string())?;
            postcard::to_stdvec(&records)
        }
        None => {
            let tables = state.join(tandem_config::FILE_NAME);
            let sums: Sums = sums(&tables, state, since).map_err(|error| error.to_string())?;
            postcard::to_stdvec(&sums)
        }
    };
    encoded.map_err(|error| error.to_string())
}
