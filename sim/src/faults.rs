//! What can go wrong, and be put right again.

use tandem_keeper::{Exit, Input as KeeperInput};
use tandem_types::Duration;

use crate::network::{Port, Road};
use crate::world::{Event, World};

/// The system starts a keeper that ended after this pause.
const KEEPER_RESTART: Duration = Duration::from_millis(300);

impl World {
    /// Switches a machine on.
    pub fn power_on(&mut self, at: usize) {
        self.disturb();
        self.forget_isolation();
        if !self.machines[at].powered {
            self.machines[at].power_on();
            self.keeper_starts(at);
        }
    }

    /// Pulls the plug of a machine.
    pub fn power_off(&mut self, at: usize) {
        self.disturb();
        self.forget_isolation();
        self.oracle.seen.power_cuts += 1;
        let machine = &mut self.machines[at];
        machine.powered = false;
        machine.keeper = None;
        machine.holds_address = false;
        machine.end_server();
        let crash = machine.disk.power_off();
        self.set_keeper_wake(at);
        self.set_server_wake(at);
        self.link_end_died(at);
        self.watch_end(at, crash);
    }

    /// Kills the server process.
    pub fn kill_server(&mut self, at: usize) {
        self.disturb();
        self.oracle.seen.kills += 1;
        self.server_ends(at, Exit::Signal(9));
    }

    /// Kills the keeper; the system starts it again. The server dies with it.
    pub fn kill_keeper(&mut self, at: usize) {
        self.disturb();
        self.forget_isolation();
        if self.machines[at].keeper.take().is_some() {
            self.oracle.seen.kills += 1;
            self.set_keeper_wake(at);
            self.server_ends(at, Exit::Signal(9));
            self.plan(KEEPER_RESTART, Event::KeeperStarts { at });
        }
    }

    /// The server process hangs; for good, or for so long.
    pub fn stall_server(&mut self, at: usize, pause: Option<Duration>) {
        self.disturb();
        let Some(server) = &mut self.machines[at].server else { return };
        server.stalled = true;
        let life = server.life;
        self.oracle.was_stalled(self.now + pause.unwrap_or_default());
        self.set_server_wake(at);
        if let Some(pause) = pause {
            self.plan(pause, Event::ServerGoesOn { at, life });
        }
    }

    /// The keeper is held up.
    pub fn stall_keeper(&mut self, at: usize, pause: Duration) {
        self.disturb();
        self.forget_isolation();
        let Some(keeper) = &mut self.machines[at].keeper else { return };
        keeper.stalled = true;
        let life = keeper.life;
        self.set_keeper_wake(at);
        self.plan(pause, Event::KeeperGoesOn { at, life });
    }

    /// The whole machine is held up, as a virtual machine is.
    pub fn stall_machine(&mut self, at: usize, pause: Duration) {
        self.stall_server(at, Some(pause));
        self.stall_keeper(at, pause);
        let until = self.now + pause;
        self.machines[at].rests_until = self.machines[at].rests_until.max(until);
    }

    /// Cuts or mends a road of a machine, both ways.
    pub fn cut(&mut self, at: usize, roads: &[Road], cut: bool) {
        self.disturb();
        let well = self.is_healthy();
        for road in roads {
            self.network.set_cut_both(at, *road, cut);
        }
        self.forget_isolation();
        if cut {
            self.oracle.seen.cuts += 1;
            self.note_isolation(at, well);
        }
    }

    /// Closes one port.
    pub fn cut_one_way(&mut self, port: Port) {
        self.disturb();
        self.oracle.seen.cuts += 1;
        self.network.set_cut(port, true);
    }

    /// Mends every road.
    pub fn mend(&mut self) {
        self.disturb();
        self.forget_isolation();
        self.network.open_all();
    }

    /// Pulls or plugs the network cable: everything is cut, and the kernel knows.
    pub fn unplug(&mut self, at: usize, out: bool) {
        self.cut(at, &Road::ALL, out);
        self.set_carrier(at, !out);
    }

    /// What the kernel says about the network of the phones.
    pub fn set_carrier(&mut self, at: usize, there: bool) {
        self.disturb();
        self.machines[at].carrier = there;
        self.keeper_turn(at, KeeperInput::LinkState(there));
    }

    /// The disk is full, or has room again.
    pub fn fill_disk(&mut self, at: usize, full: bool) {
        self.disturb();
        self.machines[at].disk.full = full;
    }

    /// Syncs take long, or not.
    pub fn slow_disk(&mut self, at: usize, slow: bool) {
        self.disturb();
        self.machines[at].disk.slow = slow;
    }

    /// The clock on a machine's wall is set anew.
    pub fn jump_wall(&mut self, at: usize, millis: i64) {
        self.disturb();
        self.machines[at].wall_error += millis * 1_000;
    }

    /// All faults end: everything is on, whole and quiet.
    pub fn make_peace(&mut self) {
        self.mend();
        self.stop_gateway(false);
        self.ensure_voter();
        self.set_weather(crate::network::Weather::CALM);
        for at in 0..2 {
            self.fill_disk(at, false);
            self.slow_disk(at, false);
            self.power_on(at);
            self.forget_orders(at);
            if !self.machines[at].carrier {
                self.set_carrier(at, true);
            }
            // What hangs for good is found by its keeper.
        }
    }
}

/// People who do not belong here.
impl World {
    /// A stranger sends REGISTER to a machine's own address.
    pub fn ask_stranger(&mut self, at: usize) {
        let branch = self.dice.hex(8);
        let from = std::net::SocketAddr::from(([10, 0, 99, 1], 5060));
        let to = crate::machine::own_address(at);
        let text = format!(
            "REGISTER sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{branch}\r\n\
             From: <sip:nobody@{to}>;tag={branch}\r\nTo: <sip:nobody@{to}>\r\n\
             Call-ID: {branch}\r\nCSeq: 1 REGISTER\r\nContact: <sip:nobody@{from}>\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        self.send_to_server(from, to, text.into_bytes());
    }
}
