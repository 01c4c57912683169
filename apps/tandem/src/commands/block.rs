//! `tandem block` and `tandem emergency`.

use tandem_node::{BlockRow, Blockable, EmergencyRow, Reply, Request};

use super::table::Table;
use super::{ask_server, print_json, unexpected};
use crate::cli::{BlockArgs, BlockCommand, EmergencyCommand, Failure};
use crate::config::Config;
use crate::logging::Time;

/// `tandem block ...`.
pub(crate) fn block(config: &Config, command: BlockCommand) -> Result<(), Failure> {
    let json = match command {
        BlockCommand::Logins(args) => return turn(config, Blockable::Logins, args),
        BlockCommand::Calls(args) => return turn(config, Blockable::Calls, args),
        BlockCommand::Show(json) => json,
    };
    let Reply::Blocks { blocks } = ask_server(config, &Request::BlockList { here: false })? else {
        return Err(unexpected());
    };
    if json.json {
        return print_json(&blocks);
    }
    if blocks.is_empty() {
        println!("nothing is blocked");
        return Ok(());
    }
    let mut table = Table::new(&["BLOCKED", "SINCE (UTC)", "ENDS IN", "REFUSED", "REASON"]);
    for block in blocks {
        let since = Time::from_micros(block.since).to_seconds();
        let refused = block.refused.to_string();
        table.row([block.what.to_string(), since, ends(&block), refused, block.reason]);
    }
    print!("{table}");
    Ok(())
}

fn turn(config: &Config, what: Blockable, args: BlockArgs) -> Result<(), Failure> {
    let BlockArgs { state, reason, seconds } = args;
    let on = state == "on";
    let request =
        if on { Request::Block { what, reason, seconds } } else { Request::Unblock { what } };
    let Reply::Done { .. } = ask_server(config, &request)? else { return Err(unexpected()) };
    println!("{what} are {}", if on { "blocked" } else { "no longer blocked" });
    Ok(())
}

/// When a block ends by itself, for people.
fn ends(block: &BlockRow) -> String {
    match block.seconds_left {
        Some(seconds) => super::status::span(seconds.saturating_mul(1_000)),
        None => String::from("-"),
    }
}

/// What is blocked, as this machine's server knows; `None`: it does not answer.
pub(super) fn known_here(config: &Config) -> Option<Vec<BlockRow>> {
    match ask_server(config, &Request::BlockList { here: true }) {
        Ok(Reply::Blocks { blocks }) => Some(blocks),
        Ok(_) | Err(_) => None,
    }
}

/// A block as one line.
pub(super) fn words(block: &BlockRow) -> String {
    let mut words =
        format!("{} since {} UTC", block.what, Time::from_micros(block.since).to_seconds());
    if block.seconds_left.is_some() {
        words += &format!(", ends in {}", ends(block));
    }
    words += &format!("; {} refused", block.refused);
    if !block.reason.is_empty() {
        words += &format!(": {}", block.reason);
    }
    words
}

/// `tandem emergency ...`.
pub(crate) fn emergency(config: &Config, command: EmergencyCommand) -> Result<(), Failure> {
    let json = match command {
        EmergencyCommand::List(json) => json,
        EmergencyCommand::Set { numbers, to, nowhere } => {
            let numbers = (!numbers.is_empty()).then_some(numbers);
            let to = if nowhere { Some(String::new()) } else { to };
            let request = Request::EmergencySet { numbers, to };
            let Reply::Done { .. } = ask_server(config, &request)? else {
                return Err(unexpected());
            };
            println!("emergency numbers changed");
            return Ok(());
        }
    };
    let reply = ask_server(config, &Request::EmergencyList)?;
    if json.json {
        return print_json(&reply);
    }
    let Reply::Emergency { numbers, .. } = reply else { return Err(unexpected()) };
    let mut table = Table::new(&["NUMBER", "RINGS AT"]);
    for EmergencyRow { number, rings } in numbers {
        table.row([number, rings.unwrap_or_else(|| String::from("NOBODY: set --to"))]);
    }
    print!("{table}");
    Ok(())
}
