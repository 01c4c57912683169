//! `tandem why`: the present state in sentences, and what would happen if something died now.

use std::fmt::Write as _;

use serde_json::json;
use tandem_keeper::{
    Event, Fact, Misfortune, OperatorAnswer, OperatorRequest, Outlook, ServiceState, Status,
    changes,
};
use tandem_types::Seat;

use super::events::{evidence_words, load};
use super::status::{damaged_words, likeness, span};
use super::{print_json, unexpected};
use crate::cli::{Failure, Json};
use crate::config::{Config, wrap};
use crate::control::ask;

/// `tandem why`.
pub(crate) fn why(config: &Config, json: Json) -> Result<(), Failure> {
    let answer = match ask(&config.keeper_socket(), "keeper", &OperatorRequest::Status) {
        Ok(answer) => answer,
        Err(failure) => {
            last_words(config, json)?;
            return Err(failure);
        }
    };
    let OperatorAnswer::Status(status) = answer else { return Err(unexpected()) };
    if json.json {
        return print_json(&json!({
            "seat": status.seat, "role": status.role, "state": status.state,
            "since_ms": status.since_ms, "why": status.why, "standing": status.standing,
            "protected": status.is_protected(), "active": status.active_seat(),
            "last_change": status.history.first(), "outlook": status.outlooks(),
            "config": likeness(&status),
        }));
    }
    print!("{}", page(&status));
    Ok(())
}

/// What is known where the keeper does not answer: the last that was kept of this machine.
fn last_words(config: &Config, json: Json) -> Result<(), Failure> {
    let events = load(&config.events_folder())?;
    let of_here = |event: &&Event| event.seat == config.seat;
    let last = events.iter().rfind(of_here);
    let role = events.iter().filter(of_here).rfind(|event| event.kind == "role_changed");
    if json.json {
        return print_json(&json!({ "last_event": last, "last_change": role }));
    }
    for (name, event) in [("the last change of its role", role), ("the last that is kept", last)] {
        if let Some(event) = event {
            println!("{name} on this machine ({}): {}", event.seat, event.sentence);
        }
    }
    Ok(())
}

fn page(status: &Status) -> String {
    let mut page = Page(String::new());
    page.line("now", &format!("This machine, the {}, is {}.", status.seat, standing(status)));
    page.line("", &format!("It is so because: {}.", status.why));
    if status.standing != status.why {
        page.line("", &format!("It stays so because: {}.", status.standing));
    }
    if let Some(change) = status.history.first() {
        let event = Event::of(status.seat, 0, &Fact::Role(change.what.clone()));
        page.line("", &format!("That rested on: {}.", evidence_words(&event.evidence)));
    }
    let protected = if status.is_protected() {
        "The pair is protected: everything that was promised is on both machines."
    } else {
        "The pair is NOT protected: what happens now is on one machine only."
    };
    page.line("", protected);
    page.line("", &configuration(status));
    if let Some(words) = damaged_words(status) {
        page.line("", &format!("{words}."));
    }
    for service in status.services.iter().filter(|s| s.state == ServiceState::Resting) {
        let exit = service.last_exit.as_ref().map_or(String::new(), |exit| format!(" ({exit})"));
        let next = span(service.next_start_ms.unwrap_or_default());
        let often = if service.failing { ", as it failed too often of late" } else { "" };
        let text = format!("`{}` ended{exit} and starts again in {next}{often}.", service.name);
        page.line("", &text);
    }
    let Some(active) = status.active_seat() else {
        page.line("if", "Nobody is known to serve now, so nothing could die that serves.");
        return page.0;
    };
    for outlook in status.outlooks() {
        page.line("if", &words(active, &outlook));
    }
    page.0
}

/// What of the configuration would be missing if the other machine had to go on alone.
fn configuration(status: &Status) -> String {
    let (here, there) = (status.seat, status.seat.other());
    let Some(likeness) = likeness(status) else {
        return format!(
            "The configuration was not compared with that of the {there}: what was changed here since they \
             heard each other last is on one machine only."
        );
    };
    let mut words = format!("Configuration: {likeness}.");
    if likeness.twin_lacks > 0 {
        let changes = changes(likeness.twin_lacks);
        words += &format!(
            " If this machine died now, the {there} would go on without {changes}; they come back with this \
             machine, and are LOST with its disk."
        );
    }
    if likeness.here_lacks > 0 {
        let changes = changes(likeness.here_lacks);
        words += &format!(" If the {there} died now, the {here} would go on without {changes}.");
    }
    words
}

fn standing(status: &Status) -> String {
    let mut words = status.role.to_string();
    if words != status.state.to_string() {
        words += &format!(" ({})", status.state);
    }
    format!("{words} for {}", span(status.since_ms))
}

/// A misfortune and what would follow, in sentences.
fn words(active: Seat, outlook: &Outlook) -> String {
    let misfortune = match outlook.misfortune {
        Misfortune::ServerDies => {
            format!("the server process of the active machine ({active}) died now")
        }
        Misfortune::MachineDies => format!("the active machine ({active}) died now"),
        Misfortune::CutBetween => {
            String::from("all connections between the two machines were cut now, and nothing else")
        }
    };
    let follows = match (outlook.serves, outlook.after_ms) {
        (Some(seat), _) if seat == active => format!("the {seat} would go on serving"),
        (Some(seat), Some(0)) => format!("the {seat} would take over at once"),
        (Some(seat), Some(ms)) => format!("the {seat} would take over after {ms} ms"),
        (Some(seat), None) => format!("the {seat} would take over"),
        (None, _) => String::from("nobody would serve"),
    };
    let loses = match (outlook.serves, outlook.loses) {
        (Some(seat), false) if seat != active => " Nothing would be lost.",
        (_, true) => " What is not on the other machine yet would be LOST.",
        (Some(_) | None, false) => "",
    };
    format!("{misfortune}, {follows}: {}.{loses}", outlook.why)
}

/// Sentences beside their heading, as wide as a terminal.
struct Page(String);

impl Page {
    fn line(&mut self, name: &str, text: &str) {
        for (index, line) in wrap(text, 84).iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(self.0, "{name:<5}{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_follow_reads_as_a_sentence() {
        let outlook = Outlook {
            misfortune: Misfortune::MachineDies,
            serves: Some(Seat::Standby),
            after_ms: Some(124),
            why: String::from("the twin is gone"),
            loses: true,
        };
        assert_eq!(
            words(Seat::Master, &outlook),
            "the active machine (master) died now, the standby would take over after 124 ms: the twin \
             is gone. What is not on the other machine yet would be LOST."
        );
        let nobody = Outlook { serves: None, after_ms: None, loses: false, ..outlook };
        assert!(words(Seat::Master, &nobody).ends_with("nobody would serve: the twin is gone."));
    }
}
