//! The keeper of one machine as one value: it starts and watches the server, holds the machine's half
//! of the pair, and lends the server the role for a few milliseconds at a time.
//!
//! ```text
//!             heartbeats (signed)                     heartbeats
//! twin's keeper <────────────> Keeper { Pair, Supervisor } ──> twin's keeper
//!                                 │ lease, every beat   ▲ ready, progress, exit
//!                                 ▼                     │
//!                               server  <─journal link─> twin's server
//! ```
//!
//! The server may serve until the newest lease ends and not a moment longer, whatever it believes; the
//! keeper may tell the twin that the server is dead only when it is, or when its lease has ended.
//!
//! Architecture invariant: no sockets, processes or clock here, and no telephony. What the keeper
//! process does is turning [`Output`] into deeds and what happens into [`Input`].

mod budget;
mod conflict;
mod contract;
mod event;
mod exchange;
mod fact;
mod keeper;
mod likeness;
mod messages;
mod outlook;
mod reach;
mod reign;
mod seal;
mod services;
mod status;
mod supervisor;
mod word;

pub use budget::Budget;
pub use conflict::{CONFLICT_TOLD_EVERY, CONFLICTS_MAX, Conflict, DEFEND_EVERY};
pub use contract::{Config, Input, Output, PATHS_MAX, Standing};
pub use event::{Event, KIND_MAX, Known, SENTENCE_MAX, case_name};
pub use exchange::{AT_HAND_MAX, Exchange, LINE_MAX, PARCEL_MAX, Parcel, is_parcel};
pub use fact::Fact;
pub use keeper::Keeper;
pub use likeness::{Likeness, changes};
pub use messages::{
    DamagedRows, DatabaseFigures, DatabaseState, KeeperMessage, MESSAGE_MAX, OperatorAnswer,
    OperatorRequest, Progress, Refused, ServerFact, ServerMessage, VERSION, decode, encode,
};
pub use outlook::{Misfortune, Outlook};
pub use reach::{PHONES_MAX, Reach};
pub use reign::Begun;
pub use seal::{BEAT_MAX, BadBeat, Seal};
pub use services::{
    Plan, ProbePlan, Readiness, Runs, SERVICES_MAX, ServiceEvent, ServiceFact, ServiceInput,
    ServiceOutput, Services,
};
pub use status::{
    Counters, HISTORY_MAX, PathStatus, ServiceState, ServiceStatus, Status, SwitchStatus,
    TwinStatus, VoteStatus, When,
};
pub use supervisor::{Exit, FAILURES_MAX, Limits, RESTARTS_MAX, RESTARTS_WINDOW, Restart};
pub use tandem_pair as pair;
pub use word::{Answer, Letter, OrderRefused, Want, Wish, Word};
