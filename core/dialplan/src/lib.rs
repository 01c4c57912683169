//! Who is there, and where a dialled number leads.
//!
//! ```text
//!   "2-01", "Anna" ──> Directory::route ──> RoutePlan { caller, destination } ──> the call
//!                           │      └──────> Refusal (403, 404, 480)
//!                        Directory
//!                 users, numbers, credentials; emergency numbers
//! ```
//!
//! Names are lower case and unique; what somebody dials is compared without regard to case. A number
//! belongs to one user, and a name that looks like a number is not another user's number, so that a
//! dialled text never means two people.
//!
//! Architecture invariant: this crate knows nothing about SIP, logins or calls in progress. Whether
//! the destination is logged in is asked elsewhere.

mod directory;
mod edit;
mod emergency;
mod route;
mod user;

pub use directory::{Change, Conflict, Directory, DirectoryError, USERS_MAX};
pub use edit::{BlockSetting, Blockable, Edit, Refused};
pub use emergency::{EMERGENCY_NUMBERS_MAX, Emergency};
pub use route::{Party, Refusal, RoutePlan};
pub use user::{
    Account, Credentials, DISPLAY_CHARS_MAX, DisplayName, Invalid, NAME_BYTES_MAX,
    NUMBER_DIGITS_MAX, NUMBERS_PER_USER_MAX, Number, User, UserName,
};
