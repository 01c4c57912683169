//! Who is logged in where: address of record -> bindings. RFC 3261 §10.3, with the instance rule of
//! RFC 5626 §6.
//!
//! ```text
//!   REGISTER ──> register(aor, flow, request) ──> Registered { bindings }   200
//!                        │       └──────────────> Refused                   400 403 423 500 503
//!                    Registrar ──> take_changes() ──> checkpoint(aor) ──> the twin ──> restore(aor)
//!                        └──> bindings(aor): newest first, each with where to send to
//! ```
//!
//! Who asks was checked before: the caller authenticates and says whose bindings these are. A request
//! takes effect as a whole or not at all. The same request twice changes nothing the second time,
//! so that a phone may repeat it to the twin.
//!
//! Path (RFC 3327) is ignored: there is no proxy between the phones and us.
//!
//! Architecture invariant: this crate knows no passwords, users or calls, and sends nothing.

mod binding;
mod contacts;
mod registrar;

pub use binding::{Aor, AorCheckpoint, Binding};
pub use contacts::{CALL_ID_BYTES_MAX, CONTACT_BYTES_MAX, Refused, USER_AGENT_BYTES_MAX};
pub use registrar::{Admit, Config, Registered, Registrar};
