//! tandem-lab
