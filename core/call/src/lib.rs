//! A call from one user to another: who rings, who answered, what passes through, how it ends.
//!
//! The server stands between the two phones as a back-to-back user agent. The caller's side has
//! one INVITE; every device that rings is a *leg*. Towards the caller each leg is a dialog of its
//! own (its own To tag), so provisional responses, PRACK and UPDATE of several ringing devices do
//! not mix (RFC 3261 §12.1, RFC 3262).
//!
//! ```text
//!             near dialog of leg 1        far dialog
//!   caller ======================= Call ============= leg 1 (device)
//!             near dialog of leg 2      \============ leg 2 (device)
//! ```
//!
//! [`Call`] says *what* to say on which side; the layer above turns that into messages.
//!
//! Architecture invariant: this crate knows neither transactions nor dialogs nor message syntax.

mod call;
mod cdr;
mod names;
mod passing;
mod trail;

pub use call::{
    AUDIT_AFTER_TAKEOVER, AUDIT_MISSES_MAX, AUDIT_PAUSE, AUDIT_SPREAD, Call, CallCheckpoint, Input,
    Output, REQUESTS_MAX, RING_MAX,
};
pub use cdr::{Cdr, Ending, Outcome};
pub use names::{LegId, Lost, Method, RequestId, Side};
pub use passing::Passing;
pub use trail::{CallEvent, Step, TRAIL_MAX, Trail};
