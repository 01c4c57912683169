//! tandem-keeper
