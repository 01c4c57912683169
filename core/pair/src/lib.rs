//! tandem-pair
