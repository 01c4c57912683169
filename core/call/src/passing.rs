use serde::{Deserialize, Serialize};

/// What a message carries from one side of the call to the other, unread here: the header fields
/// that pass through, in order, and the body (SDP, DTMF, anything).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Passing {
    /// Name and value of each header field that passes through, as received.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body; empty where there is none.
    pub body: Vec<u8>,
}
