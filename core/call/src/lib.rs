//! tandem-call
