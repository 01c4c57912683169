//! tandem-node
