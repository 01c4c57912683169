//! tandem-registrar
