//! Records of calls, written to a journal that nobody has open.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use tandem_call::{Cdr, Ending, Outcome, Trail};
use tandem_journal::{Class, Entry, Op, Write};
use tandem_node::{CallEvents, RECORD_VERSION};
use tandem_store::{Settings, Store, StoreEvent};
use tandem_types::{Epoch, Pii, Seat, Seq, Stamp};

use super::DEADLINE;

/// As a server opens it when it is started, and what is on the disk.
pub fn open(state: &Path, settings: Settings) -> (Store, Receiver<u64>) {
    let (stored, reports) = channel();
    let report = move |event| {
        if let StoreEvent::Stored { ticket } = event {
            let _ = stored.send(ticket);
        }
    };
    let (store, _) = Store::open(state, settings, report).unwrap();
    (store, reports)
}

/// Writes the records of calls that have just ended, as a server in this reign would.
pub fn write_calls(state: &Path, reign: u32, calls: &[&str]) {
    let end = i64::try_from(tandem_os::clock::wall_micros()).unwrap();
    let cdrs: Vec<Cdr> = calls.iter().map(|call| cdr(call, end)).collect();
    write_cdrs(state, Settings::default(), reign, &cdrs);
}

/// As [`write_calls`], of any calls.
pub fn write_cdrs(state: &Path, settings: Settings, reign: u32, cdrs: &[Cdr]) {
    let (store, reports) = open(state, settings);
    for (number, cdr) in (1_u64..).zip(cdrs) {
        let epoch = Epoch { number: reign, seat: Seat::Master };
        let stamp = Stamp { epoch, seq: Seq(number) };
        let call = &cdr.call_id;
        let log = |prefix: &str, body| Op {
            class: Class::Log,
            key: format!("{prefix}/{call}").into_bytes(),
            body: Some(body),
        };
        let steps = CallEvents { devices: [].into(), trail: Trail::default() };
        let hot = Op { class: Class::Hot, key: format!("txn/{call}").into(), body: Some(vec![9]) };
        let ops = vec![log("cdr", body(cdr)), log("cev", body(&steps)), hot];
        store.write(Write::Entry(Entry { stamp, ops }), true, number).unwrap();
    }
    while reports.recv_timeout(DEADLINE).unwrap() < cdrs.len() as u64 {}
}

/// As it is stored.
pub fn body(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![RECORD_VERSION]).unwrap()
}

/// An answered call that ended then, in microseconds since 1970.
pub fn cdr(call: &str, end: i64) -> Cdr {
    Cdr {
        call_id: call.into(),
        origination_number: Pii::new("10".into()),
        origination_name: Pii::new("Anna".into()),
        called_number: Pii::new("20".into()),
        called_name: Pii::new("Ben".into()),
        destination_number: Pii::new("20".into()),
        destination_name: Pii::new("Ben".into()),
        start: end - 60_000_000,
        delivered: Some(end - 59_000_000),
        connect: Some(end - 30_000_000),
        end: Some(end),
        outcome: Some(Outcome::Answered),
        ending: Some(Ending::Caller),
        sip_status: 200,
        q850_cause: 16,
        origination_device: "phone udp 192.0.2.5:5060".into(),
        destination_device: "sip:ben@192.0.2.6 udp 192.0.2.6:5060".into(),
    }
}
