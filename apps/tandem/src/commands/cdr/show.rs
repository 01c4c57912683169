//! `tandem cdr show`: one call with everything that happened in it.

use anyhow::anyhow;
use serde_json::{Value, json};
use tandem_call::{CallEvent, Cdr, LegId};
use tandem_node::CallEvents;

use super::records::{Damage, Read, events, events_json, one, open, to_json};
use super::zone::Zone;
use crate::cli::Failure;
use crate::commands::table::plain;
use crate::commands::{print_json, word};
use crate::config::Config;

/// `tandem cdr show`.
pub(super) fn show(config: &Config, call: &str, utc: bool, json: bool) -> Result<(), Failure> {
    let zone = Zone::of(config, utc)?;
    let reader = open(config)?;
    let cdr = match one(&reader, call)? {
        Some(Read::Whole(cdr, _)) => cdr,
        Some(Read::Damaged(key, what)) => return Err(Failure::Other(anyhow!("{key}: {what}"))),
        None => {
            let what = "there is no closed record of this call here; `tandem call list` shows calls \
                        that are up";
            return Err(Failure::Other(anyhow!("{call}: {what}")));
        }
    };
    let mut damage = Damage::default();
    let events = events(&reader, call, &mut damage)?;
    if json {
        let mut value = to_json(&cdr);
        value["events"] = json!(events.as_ref().map(|events| events_json(&cdr, events)));
        print_json(&value)?;
    } else {
        print!("{}", page(&cdr, events.as_ref(), &zone));
    }
    damage.result("the rest is shown")
}

/// The call for people.
fn page(cdr: &Cdr, events: Option<&CallEvents>, zone: &Zone) -> String {
    let person = |number: &str, name: &str| format!("{number} {name}").trim().to_owned();
    let from = person(cdr.origination_number.reveal(), cdr.origination_name.reveal());
    let called = person(cdr.called_number.reveal(), cdr.called_name.reveal());
    let reached = person(cdr.destination_number.reveal(), cdr.destination_name.reveal());
    let mut lines = vec![
        format!("call      {}", cdr.call_id),
        format!("from      {from}, {}", cdr.origination_device),
        format!("called    {called}"),
    ];
    if cdr.connect.is_some() {
        lines.push(format!("answered  {reached}, {}", cdr.destination_device));
    }
    let (status, cause) = (cdr.sip_status, cdr.q850_cause);
    let outcome = word(&cdr.outcome);
    lines.push(format!("outcome   {outcome}, SIP status {status}, Q.850 cause {cause}"));
    lines.push(format!("talk      {} s", cdr.talk_seconds()));
    lines.extend([String::new(), format!("times in {}", zone.name())]);
    let line = |micros: i64, what: &str| {
        format!("{}  {what}", zone.local(micros).strftime("%Y-%m-%d %H:%M:%S%.3f"))
    };
    lines.push(line(cdr.start, "the call began"));
    match events {
        Some(events) => {
            for step in &events.trail.steps {
                let after = i64::try_from(step.after_us).unwrap_or(i64::MAX);
                lines.push(line(cdr.start.saturating_add(after), &sentence(step.event, events)));
            }
            if events.trail.left_out > 0 {
                lines.push(format!("{} more events were not kept", events.trail.left_out));
            }
        }
        None => lines.push(String::from("no events of it are on record")),
    }
    if let Some(end) = cdr.end {
        lines.push(line(end, &format!("the call ended, by: {}", word(&cdr.ending))));
    }
    lines.iter().map(|line| plain(line) + "\n").collect()
}

fn sentence(event: CallEvent, events: &CallEvents) -> String {
    let device = |leg: LegId| {
        let device = events.devices.get(&leg).map_or("an unknown device", String::as_str);
        format!("leg {} ({device})", leg.0)
    };
    match event {
        CallEvent::Attempt { leg } => format!("{} was invited", device(leg)),
        CallEvent::Ringing { leg } => format!("leg {} rang", leg.0),
        CallEvent::Answered { leg } => format!("leg {} answered", leg.0),
        CallEvent::Refused { leg, status: 408 } => format!("leg {} was silent (408)", leg.0),
        CallEvent::Refused { leg, status: 503 } => format!("leg {} was not reached (503)", leg.0),
        CallEvent::Refused { leg, status } => format!("leg {} refused with {status}", leg.0),
        CallEvent::Cancelled { leg } => format!("leg {} was cancelled", leg.0),
        CallEvent::TakenOver { epoch } => {
            format!("the {} took the call over, in reign {}", epoch.seat, epoch.number)
        }
    }
}

/// What an event is called in JSON, and its leg.
pub(super) const fn name(event: CallEvent) -> (&'static str, Option<LegId>) {
    match event {
        CallEvent::Attempt { leg } => ("attempt", Some(leg)),
        CallEvent::Ringing { leg } => ("ringing", Some(leg)),
        CallEvent::Answered { leg } => ("answered", Some(leg)),
        CallEvent::Refused { leg, .. } => ("refused", Some(leg)),
        CallEvent::Cancelled { leg } => ("cancelled", Some(leg)),
        CallEvent::TakenOver { .. } => ("taken_over", None),
    }
}

/// What else belongs to an event in JSON.
pub(super) fn more(event: CallEvent) -> Vec<(&'static str, Value)> {
    match event {
        CallEvent::Refused { status, .. } => vec![("status", json!(status))],
        CallEvent::TakenOver { epoch } => {
            vec![("reign", json!(epoch.number)), ("seat", json!(epoch.seat))]
        }
        CallEvent::Attempt { .. }
        | CallEvent::Ringing { .. }
        | CallEvent::Answered { .. }
        | CallEvent::Cancelled { .. } => Vec::new(),
    }
}
