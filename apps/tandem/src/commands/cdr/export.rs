//! `tandem cdr export`: records in the order of their end, whole and each once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use tandem_node::{Reply, Request, UserRow};
use tandem_store::Reader;

use super::formats::Format;
use super::mask::{Mask, Numbers, numbers};
use super::output::{Output, is_closed_pipe};
use super::records::{Damage, Filter, Read, Wanted, events, first_ended_first, open};
use super::zone::Zone;
use crate::cli::Failure;
use crate::commands::{ask_server, unexpected};
use crate::config::Config;

/// What is exported, how and to where.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExportArgs {
    /// In which form
    #[arg(long, value_enum)]
    format: Format,
    #[command(flatten)]
    wanted: Wanted,
    /// What is shown of numbers that are not a user's: full, last-3-hidden, hidden
    #[arg(long, default_value = "full", value_name = "HOW", value_parser = numbers)]
    numbers: Numbers,
    /// Write to this file; it is replaced when everything is written
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Times in UTC instead of local time
    #[arg(long)]
    utc: bool,
}

/// `tandem cdr export`.
pub(super) fn export(config: &Config, args: ExportArgs) -> Result<(), Failure> {
    let ExportArgs { format, wanted, numbers, output, utc } = args;
    let zone = Zone::of(config, utc)?;
    let filter = wanted.filter(&zone)?;
    let mask = mask(config, numbers)?;
    let reader = open(config)?;
    let mut damage = Damage::default();
    let mut output = Output::to(output.as_deref())?;
    let form = Form { format, filter, mask, zone };
    let written = write(&reader, &form, &mut output, &mut damage);
    let written = match written.and_then(|count| Ok(output.finish().map(|()| count)?)) {
        Err(Failure::Other(error)) if is_closed_pipe(&error) => return Ok(()),
        other => other?,
    };
    eprintln!("{written} records, times in {}", form.zone.name());
    damage.result("the others are exported")
}

/// Which records are written, and how.
struct Form {
    format: Format,
    filter: Filter,
    mask: Mask,
    zone: Zone,
}

/// How many were written.
fn write(
    reader: &Reader,
    form: &Form,
    output: &mut Output,
    damage: &mut Damage,
) -> Result<usize, Failure> {
    let mut count = 0;
    output.write(&form.format.header())?;
    first_ended_first(reader, |read| {
        let (mut cdr, end) = match read {
            Read::Whole(cdr, end) if form.filter.takes(&cdr, end) => (cdr, end),
            Read::Whole(..) => return Ok(()),
            Read::Damaged(key, what) => {
                damage.say(&key, what);
                return Ok(());
            }
        };
        let wants_events = form.format.has_events();
        let mut events = if wants_events { events(reader, &cdr.call_id, damage)? } else { None };
        form.mask.apply(&mut cdr, events.as_mut());
        output.write(&form.format.line(&cdr, end, events.as_ref(), &form.zone))?;
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Who is inside is asked of the server, on either machine: nothing is shown by mistake where it does not
/// answer.
fn mask(config: &Config, numbers: Numbers) -> Result<Mask, Failure> {
    if numbers == Numbers::Full {
        return Ok(Mask::new(numbers, BTreeSet::new()));
    }
    let Reply::Users { users } = ask_server(config, &Request::UserList)? else {
        return Err(unexpected());
    };
    let inside = |UserRow { name, mut numbers, .. }| {
        numbers.push(name);
        numbers
    };
    Ok(Mask::new(numbers, users.into_iter().flat_map(inside).collect()))
}
