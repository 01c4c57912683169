//! tandem-dialplan
