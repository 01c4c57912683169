//! tandem-stack
