//! tandem-link
