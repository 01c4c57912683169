//! `tandem cdr`: the records of all calls, read from this machine's file. Works whoever runs.

mod export;
mod follow;
mod formats;
mod mask;
mod output;
mod records;
mod retention;
mod show;
mod zone;

use clap::{Args, Subcommand};
use serde_json::Value;
use tandem_call::Cdr;

use self::records::{Damage, Read, Wanted, newest_first, open, to_json};
use self::zone::Zone;
use super::{Table, people, print_json, word};
use crate::cli::Failure;
use crate::config::Config;
pub(crate) use zone::is_zone;

/// What to do with call records.
#[derive(Debug, Subcommand)]
pub(crate) enum CdrCommand {
    /// List call detail records, the last closed first; works while the server is down
    List(ListArgs),
    /// Show one call with everything that happened in it
    Show {
        /// The call number
        call: String,
        /// Times in UTC instead of local time
        #[arg(long)]
        utc: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write records to a file or to the standard output, in the order of their end
    Export(export::ExportArgs),
    /// Show records as they are closed, until Ctrl-C; on either machine, through restarts of the server
    Follow(follow::FollowArgs),
    /// Show or set how long closed calls stay on record, on both machines; older ones are deleted
    Retention {
        /// Days, or `forever`
        #[arg(value_name = "DAYS|forever", value_parser = retention::keep)]
        keep: Option<retention::Keep>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What is listed.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// How many at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    wanted: Wanted,
    /// Times in UTC instead of local time
    #[arg(long)]
    utc: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `tandem cdr ...`.
pub(crate) fn cdr(config: &Config, command: CdrCommand) -> Result<(), Failure> {
    match command {
        CdrCommand::List(args) => list(config, args),
        CdrCommand::Show { call, utc, json } => show::show(config, &call, utc, json),
        CdrCommand::Export(args) => export::export(config, args),
        CdrCommand::Follow(args) => follow::follow(config, &args),
        CdrCommand::Retention { keep, json } => retention::retention(config, keep, json),
    }
}

/// The columns of a list; the first says in which time zone.
const HEADINGS: [&str; 7] = ["START", "FROM", "TO", "OUTCOME", "TALK", "ENDED BY", "CALL"];

fn list(config: &Config, args: ListArgs) -> Result<(), Failure> {
    let ListArgs { limit, wanted, utc, json } = args;
    let zone = Zone::of(config, utc)?;
    let filter = wanted.filter(&zone)?;
    let reader = open(config)?;
    let mut damage = Damage::default();
    let mut cdrs = Vec::new();
    if limit > 0 {
        newest_first(&reader, |read| {
            match read {
                Read::Whole(cdr, end) if filter.takes(&cdr, end) => cdrs.push(cdr),
                Read::Whole(..) => {}
                Read::Damaged(key, what) => damage.say(&key, what),
            }
            cdrs.len() < limit
        })?;
    }
    if json {
        print_json(&cdrs.iter().map(|cdr| to_json(cdr)).collect::<Vec<Value>>())?;
    } else {
        let start = format!("START ({})", zone.name());
        let mut headings = HEADINGS;
        headings[0] = &start;
        let mut table = Table::new(&headings);
        cdrs.iter().for_each(|cdr| table.row(cells(cdr, &zone)));
        print!("{table}");
    }
    damage.result("the others are shown")
}

/// A record as a row for people.
fn cells(cdr: &Cdr, zone: &Zone) -> [String; 7] {
    let [from, to] = people(cdr);
    [
        zone.local(cdr.start).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        from,
        to,
        word(&cdr.outcome),
        format!("{} s", cdr.talk_seconds()),
        word(&cdr.ending),
        cdr.call_id.clone(),
    ]
}
