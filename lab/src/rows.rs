//! One short scenario for each situation that the role table has an answer to, with the real programs:
//! `tandem-lab rows`.
//!
//! Judged is who serves, that never two do, and that it ends well. Times are told, not judged, but where
//! the documents promise a limit.
//!
//! Invariant: every scenario makes its fault on a pair of its own and sees that it was there.

mod cut;
mod death;
mod ground;
mod healing;
mod orders;
mod sleep;
mod start;
mod switches;
mod third;
mod watch;
mod wires;

use anyhow::Result;
use tandem::demo::report::{Report, Voice};
use tandem::demo::wait;

/// A scenario.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// As on the command line.
    name: &'static str,
    /// What must be true.
    what: &'static str,
    /// It is in the short round.
    quick: bool,
    /// Plays it; says what was seen.
    play: fn() -> Result<String>,
}

const fn row(name: &'static str, what: &'static str, play: fn() -> Result<String>) -> Row {
    Row { name, what, quick: false, play }
}

const fn quick(row: Row) -> Row {
    Row { quick: true, ..row }
}

/// Those of each module, in this order.
const ROWS: [&[Row]; 8] = [
    start::ROWS,
    death::ROWS,
    sleep::ROWS,
    cut::ROWS,
    healing::ROWS,
    orders::ROWS,
    switches::ROWS,
    third::ROWS,
];

/// Which scenarios are played.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice<'a> {
    /// Those whose name has this in it; all have an empty one.
    Named(&'a str),
    /// The short round.
    Quick,
}

/// Plays scenarios one after the other; returns the report.
pub(crate) fn play(choice: Choice<'_>, voice: Voice) -> Report {
    let mut report = Report::new("Every situation of the role table", voice);
    let wanted = |row: &&Row| match choice {
        Choice::Named(only) => row.name.contains(only),
        Choice::Quick => row.quick,
    };
    for row in ROWS.iter().flat_map(|rows| rows.iter()).filter(wanted) {
        if wait::asked_to_stop() {
            report.check("the run comes to its end", false, "stopped by a signal");
            break;
        }
        let what = format!("{}: {}", row.name, row.what);
        match (row.play)() {
            Ok(seen) => report.check(&what, true, &seen),
            Err(error) => report.check(&what, false, &format!("{error:#}")),
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Row> {
        ROWS.iter().flat_map(|rows| rows.iter())
    }

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let mut names: Vec<_> = all().map(|row| row.name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert!(count > 0 && names.len() == count, "{names:?}");
    }

    #[test]
    fn the_short_round_is_a_part_of_all() {
        let quick = all().filter(|row| row.quick).count();
        assert!(quick > 0 && quick < all().count());
    }

    #[test]
    fn nothing_holds_where_nothing_was_played() {
        let mut report = play(Choice::Named("no such scenario"), Voice::Data);
        assert!(!report.close());
    }
}
