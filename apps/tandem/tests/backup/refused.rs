//! What `tandem verify` must not take for a fault: calls that were refused where they began, and what lies at
//! the border of what is kept; and that it takes nothing for right that it has not read.

use std::net::UdpSocket;

use rusqlite::Connection;
use tandem_sip::Method;
use tandem_sip::digest::{Challenge, respond};
use tandem_store::{Settings, WallClock};

use crate::common::calls::{cdr, write_calls, write_cdrs};
use crate::common::machines::{Machine, Pair};
use crate::common::{DEADLINE, drawn};

/// A telephone that says what it must, and hears what it is answered.
struct Phone {
    socket: UdpSocket,
    server: String,
    name: &'static str,
    password: String,
    call: String,
    sequence: u32,
}

impl Phone {
    fn of(pair: &Pair, name: &'static str, number: &str) -> Self {
        let added = pair.master.prints(&["user", "add", name, "--number", number]);
        let password = added.lines().find_map(|line| line.strip_prefix("password: ")).unwrap();
        let socket = UdpSocket::bind(format!("{}.50:0", pair.block)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let server = format!("{}.10:5060", pair.block);
        let call = format!("{:x}", u32::from_le_bytes(drawn()));
        Self { socket, server, name, password: password.to_owned(), call, sequence: 0 }
    }

    /// The final answer to a request, which is proved where the server asks for that.
    fn asks(&mut self, method: &Method, to: &str) -> u16 {
        let first = self.sends(method, to, "");
        let (name, proof) = match status(&first) {
            401 => ("WWW-Authenticate: ", "Authorization"),
            407 => ("Proxy-Authenticate: ", "Proxy-Authorization"),
            status => return status,
        };
        let asked = first.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let challenge = Challenge::parse(asked.as_bytes()).unwrap();
        let uri = format!("sip:{to}{}", self.server);
        let (user, password) = (self.name.as_bytes(), self.password.as_bytes());
        let proved = respond(&challenge, method, uri.as_bytes(), user, password, b"c", 1);
        let proved = String::from_utf8(proved.to_bytes()).unwrap();
        status(&self.sends(method, to, &format!("{proof}: {proved}\r\n")))
    }

    fn sends(&mut self, method: &Method, to: &str, more: &str) -> String {
        self.sequence += 1;
        let Self { server, name, call, sequence, .. } = self;
        let own = self.socket.local_addr().unwrap();
        let cseq = format!("CSeq: {sequence} {method}");
        let request = format!(
            "{method} sip:{to}{server} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{call}{sequence}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@{server}>;tag={call}\r\nTo: <sip:{name}@{server}>\r\n\
             Call-ID: {call}{method}\r\n{cseq}\r\nContact: <sip:{name}@{own}>\r\n{more}Content-Length: 0\r\n\r\n"
        );
        self.socket.send_to(request.as_bytes(), &*server).unwrap();
        loop {
            let mut answer = [0; 4_096];
            let length = self.socket.recv(&mut answer).unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            // A repetition of the one before, or a 100.
            if answer.contains(&cseq) && status(&answer) >= 200 {
                return answer;
            }
        }
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Another program writes in the journal of a running machine.
fn behind_the_back(machine: &Machine, sql: &str) {
    let connection = Connection::open(machine.state().join("journal.db")).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn a_call_that_was_refused_where_it_began_is_right_without_steps() {
    let mut pair = Pair::set_up();
    write_calls(&pair.master.state(), 50, &["answered"]);
    pair.start();
    let mut anna = Phone::of(&pair, "anna", "10");
    pair.master.add("ben", "11");
    pair.standby.wait_users(&["anna", "ben"]);
    assert_eq!(anna.asks(&Method::Invite, "99@"), 404, "there is no such number");
    assert_eq!(anna.asks(&Method::Invite, "11@"), 480, "nobody is logged in there");
    assert_eq!(anna.asks(&Method::Register, ""), 200);
    assert_eq!(anna.asks(&Method::Invite, "10@"), 486, "there is no other phone of hers");
    for machine in [&pair.master, &pair.standby] {
        let right = machine.prints(&["verify"]);
        assert!(right.contains("; 4 calls, each with its steps"), "{right}");
    }
    // One that rang somewhere has steps, or there is a fault.
    let sql = "DELETE FROM log_record WHERE key = CAST('cev/answered' AS BLOB)";
    behind_the_back(&pair.standby, sql);
    let output = pair.standby.command(&["verify"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("- cdr/answered: the steps of this call are missing"), "{said}");
}

#[test]
fn what_lies_at_the_border_of_what_is_kept_is_no_difference() {
    const HOUR: u64 = 3_600_000_000;
    let mut pair = Pair::set_up();
    let border = tandem_os::clock::wall_micros() - 30 * 24 * HOUR;
    let ends = |micros: u64| i64::try_from(micros).unwrap();
    // The twin got the steps hours after the call, by a catch-up: there they are within, and here they are not.
    let calls = [cdr("old", ends(border - HOUR)), cdr("young", ends(border + 100 * HOUR))];
    for (machine, written) in [(&pair.master, border - HOUR), (&pair.standby, border + 5 * HOUR)] {
        let settings = Settings {
            wall_clock: WallClock::new(move || written),
            end_of: tandem_node::end_of_record,
            ..Settings::default()
        };
        write_cdrs(&machine.state(), settings, 50, &calls);
    }
    pair.start();
    pair.master.prints(&["cdr", "retention", "30"]);
    for machine in [&pair.master, &pair.standby] {
        machine.wait_calls(&["young"]);
        machine.prints(&["verify"]);
    }
}

#[test]
fn parts_that_were_not_read_are_counted_and_not_taken_for_right() {
    let mut pair = Pair::set_up();
    let calls: Vec<String> = (50..70).map(|reign| format!("call-{reign}")).collect();
    for (reign, call) in (50..).zip(&calls) {
        write_calls(&pair.master.state(), reign, &[call]);
    }
    pair.start();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    pair.standby.wait_calls(&calls);
    behind_the_back(&pair.standby, "DELETE FROM log_record");
    let output = pair.master.command(&["verify"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("- cdr/call-50 is on this machine only"), "{said}");
    assert!(
        said.contains("and 13 more"),
        "16 parts of 2 records, and the line of the rest: {said}"
    );
}
