//! Tandem as one of the systems that are measured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tandem::demo::place::Place;

use super::Pair;
use crate::fault::Fault;
use crate::stage::{PROTECTED_LIMIT, Stage};

impl Pair for Stage {
    fn place(&self) -> &Place {
        &self.place
    }

    fn virtual_address(&self) -> SocketAddr {
        self.twins.virtual_address
    }

    fn wait_well(&mut self) -> Result<usize> {
        Ok(self.twins.wait_protected(PROTECTED_LIMIT)?.index)
    }

    fn make(&mut self, fault: Fault, serving: usize) -> Result<Instant> {
        let now = self.twins.serving()?.context("nobody serves")?;
        ensure!(now.index == serving, "the role changed before the fault");
        fault.make(self, &now)
    }

    fn wait_takeover(&mut self, before: usize) -> Result<()> {
        self.twins.wait_takeover(before, PROTECTED_LIMIT).map(drop)
    }

    fn undo(&mut self, fault: Fault, served: usize) -> Result<()> {
        fault.undo(self, served)
    }

    fn keep(&mut self) -> PathBuf {
        self.folder.keep();
        self.folder.path().to_owned()
    }
}
