//! keepalived and Kamailio on a place of their own, as one of the systems that are measured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem::demo::place::{CLIENT, CLIENT_NAME, Folder, MASTER, Place, SIP_PORT, STANDBY, VIRTUAL};
use tandem::demo::space::Network;
use tandem::demo::wait;

use super::keepalived::{Adverts, Machine, Plan, State, serving};
use super::{Pair, wait_answers};
use crate::fault::Fault;

/// When to give up waiting for a state.
const LIMIT: Duration = Duration::from_secs(60);

/// The number of the virtual router.
const ROUTER: u8 = 51;

/// Fields end in this order: the programs before their place.
#[derive(Debug)]
pub(super) struct Rig {
    machines: [Machine; 2],
    folder: Folder,
    place: Place,
}

impl Rig {
    /// Starts both machines.
    ///
    /// # Errors
    ///
    /// Not root; a program is not there.
    pub(super) fn start(adverts: Adverts) -> Result<Self> {
        let place = Place::machines(&[])?;
        let folder = Folder::new(None)?;
        let machine = |name: &str, number: u8, priority: u8| {
            let plan = Plan {
                name: name.to_owned(),
                space: place.space(name).context("no machine")?,
                address: place.address(number),
                virtual_ip: place.address(VIRTUAL),
                router: ROUTER,
                priority,
                adverts,
            };
            Machine::start(plan, folder.path())
        };
        let machines = [machine("master", MASTER, 101)?, machine("standby", STANDBY, 100)?];
        Ok(Self { machines, folder, place })
    }

    fn network(&self) -> Result<&Network> {
        self.place.network().context("a place without machines")
    }
}

impl Pair for Rig {
    fn place(&self) -> &Place {
        &self.place
    }

    fn virtual_address(&self) -> SocketAddr {
        SocketAddr::new(self.place.address(VIRTUAL), SIP_PORT)
    }

    fn wait_well(&mut self) -> Result<usize> {
        let found = wait::until("a master and a backup", LIMIT, || serving(&mut self.machines))?;
        let client = self.place.space(CLIENT_NAME);
        for machine in &self.machines {
            let from = self.place.address(CLIENT);
            wait_answers(client.as_ref(), from, machine.own_sip(), LIMIT)?;
        }
        // It might have changed while Kamailio was asked.
        let now = serving(&mut self.machines)?;
        ensure!(now == Some(found), "the role changed while nothing was done");
        Ok(found)
    }

    fn make(&mut self, fault: Fault, serving: usize) -> Result<Instant> {
        let name = self.machines[serving].name().to_owned();
        let at = Instant::now();
        match fault {
            Fault::Kill => self.machines[serving].kill_kamailio()?,
            Fault::Hang => self.machines[serving].stop_kamailio()?,
            Fault::LinkDown => self.network()?.set_link(&name, false)?,
            Fault::Blackhole => self.network()?.set_blackhole(&name, true)?,
            Fault::PlannedSwitch => self.machines[serving].stop_keepalived(),
        }
        Ok(at)
    }

    fn wait_takeover(&mut self, before: usize) -> Result<()> {
        let other = &mut self.machines[1 - before];
        wait::until("a takeover", LIMIT, || {
            Ok((other.state()? == Some(State::Master)).then_some(()))
        })
    }

    fn undo(&mut self, fault: Fault, served: usize) -> Result<()> {
        let name = self.machines[served].name().to_owned();
        let machine = &mut self.machines[served];
        match fault {
            Fault::Kill => machine.start_kamailio(),
            Fault::Hang => {
                machine.kill_kamailio()?;
                machine.start_kamailio()
            }
            Fault::LinkDown => self.network()?.set_link(&name, true),
            Fault::Blackhole => self.network()?.set_blackhole(&name, false),
            Fault::PlannedSwitch => machine.start_keepalived(),
        }
    }

    fn keep(&mut self) -> PathBuf {
        self.folder.keep();
        self.folder.path().to_owned()
    }
}
