//! SIP messages: parse, look into, change, print. RFC 3261 §7, §19, §20, §22.
//!
//! ```text
//!              Message::parse                        typed accessors
//!  bytes ───► lines ─► start line ─► framing ─► check ───► Request ───► via() from() contacts() ...
//!     ▲       (repairs counted)    (Content-Length)        Response        │
//!     └────────────────────────── to_bytes ◄────────────────┴──── set / push ┘
//! ```
//!
//! * [`Message::parse`] takes one datagram or one framed stream message ([`Carrier`]). What it
//!   lets through has a parsable top Via, From, To, Call-ID, CSeq (and, in requests, Contact and
//!   Max-Forwards), each that may stand once stands once, so the typed accessors do not fail on
//!   it. What it refuses comes back as a [`ParseError`] with the status to answer, if any, and
//!   enough of the request to answer it.
//! * [`Headers`] keeps header lines in order, names in an enum ([`HeaderName`]), values as the
//!   bytes that stood there (UTF-8, Latin-1 and all), folds replaced by one space.
//!   `get` / `all` give raw lines, `values` splits at commas outside of quotes and `<>`, the typed
//!   accessors parse on demand ([`Via`], [`NameAddr`], [`ContactValue`], CSeq, ...).
//! * [`Uri`] keeps its bytes exactly; its parts are slices. `==` compares bytes,
//!   [`Uri::is_equivalent`] compares as RFC 3261 §19.1.4 says.
//! * Content-Length belongs to the printer: `to_bytes` writes the length of the body, whatever
//!   the header says.
//! * [`digest`] is both sides of RFC 7616 authentication with nonces that need no storage.
//!
//! Architecture invariant: this crate knows no transaction, dialog, address book or clock. The
//! same bytes give the same value on every machine, and every value is plain data that can be
//! stored. Nothing a stranger sends makes it panic or keep more memory than a small multiple of
//! the message; nothing that is put into a header can start a new header line.

mod bytes;
mod check;
pub mod digest;
mod error;
mod headers;
mod host;
mod limits;
mod lines;
mod message;
mod method;
mod name;
mod name_addr;
mod params;
mod parse;
mod phrase;
mod typed;
mod uri;
mod uri_compare;
mod uri_parse;
mod via;

pub use bytes::Token;
pub use error::{HeaderError, HeaderFault, ParseError, ParseErrorKind, UriError};
pub use headers::{Header, Headers, Values};
pub use host::Host;
pub use limits::{
    Carrier, Limits, MAX_HEADER_LINE_BYTES, MAX_HEADER_LINES, MAX_LIST_VALUES, MAX_MESSAGE_BYTES,
    MAX_PARAMS, MAX_URI_BYTES,
};
pub use lines::Repairs;
pub use message::{Message, Request, Response};
pub use method::Method;
pub use name::{ExtensionName, HeaderName};
pub use name_addr::{ContactValue, NameAddr};
pub use params::Params;
pub use phrase::reason_phrase;
pub use typed::{MediaType, ReasonValue};
pub use uri::{Scheme, Uri};
pub use via::Via;
