//! tandem-sip
