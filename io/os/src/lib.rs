//! tandem-os
