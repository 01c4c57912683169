//! A change of the configuration, as it goes from the server to its tables and comes back from them.

use core::fmt;

use serde::{Deserialize, Serialize};
use tandem_types::Seat;

use crate::{Account, Emergency, UserName};

/// What can be blocked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blockable {
    /// Logins of devices that are not logged in.
    Logins,
    /// Calls that are not up yet, but those to emergency numbers.
    Calls,
}

impl Blockable {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Logins, Self::Calls];
}

impl fmt::Display for Blockable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Logins => "new logins",
            Self::Calls => "new calls",
        })
    }
}

/// A block as it is kept. Times are microseconds since 1970 UTC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BlockSetting {
    /// Since when.
    pub since: i64,
    /// Why, in the administrator's words; may be empty.
    pub reason: String,
    /// When it ends by itself; `None`: never.
    pub until: Option<i64>,
}

/// How many one server has refused since a block began. Each counts by itself, and the sum is true
/// whichever of them served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    /// What was blocked.
    pub what: Blockable,
    /// Since when it was: [`BlockSetting::since`].
    pub since: i64,
    /// Whose count.
    pub seat: Seat,
    /// How many; only ever rises.
    pub count: u64,
}

/// What is from now on.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Who logs in with this name.
    User {
        /// The name.
        name: UserName,
        /// Who; `None`: nobody.
        account: Option<Account>,
    },
    /// The emergency numbers.
    Emergency(Emergency),
    /// A block.
    Block {
        /// Of what.
        what: Blockable,
        /// `None`: it is over.
        block: Option<BlockSetting>,
    },
    /// How many days closed calls stay on record; `None`: for ever.
    Retention(Option<u32>),
    /// How many were refused while a block was on.
    Refused(Refused),
}
