//! What happened, in sentences for the log and for `tandem events`.

use core::fmt;

use crate::op::Origin;

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// The other one has ops of ours that we lack: a backup or a snapshot was put back here.
    PutBack {
        /// The last one here.
        here: u64,
        /// The last one there.
        there: u64,
    },
    /// The other one writes under our name: the one database is a copy of the other. Both go on under names
    /// of their own.
    Copied,
    /// An origin has two pasts, and its owner is neither of us.
    TwoPasts(Origin),
    /// What one of us lacks is not in the log of the other: it needs a copy of everything.
    TooOld {
        /// We are the one.
        here: bool,
    },
    /// Both have the same, for the first time on this link.
    Equal,
    /// What the database of the pair has is here, for the first time since the start.
    AsDatabase,
    /// A copy of everything is under way.
    Copying {
        /// It comes here; otherwise it goes out.
        here: bool,
        /// What was there of it already.
        done: u64,
        /// Rows and changes in it.
        total: u64,
    },
    /// It is at its end, and joined with what was here.
    CopyEnds {
        /// As above.
        here: bool,
        /// As above.
        total: u64,
    },
    /// Rows were not what the same changes make of them, and are again.
    Mended {
        /// The table.
        table: String,
        /// Rows.
        rows: u64,
        /// What was wrong was the table beside what is kept of its rows: only here. Otherwise the two servers
        /// differed.
        table_only: bool,
    },
    /// What is kept of rows cannot be read. Changes of them are in the log; the rows are put right when both have
    /// the same changes.
    Unreadable {
        /// How many such rows there are.
        rows: u64,
        /// What that waits for.
        waits_for: WaitsFor,
    },
    /// What was kept of rows could be read on neither server: they were written anew from their table.
    Remade {
        /// The table.
        table: String,
        /// Rows.
        rows: u64,
    },
    /// The same, and their table could not be read either: they are gone, and their bytes kept.
    SetAside {
        /// The table.
        table: String,
        /// Rows.
        rows: u64,
    },
    /// Rows differ from those of the other one, and nothing was found that could be done.
    NotMended,
    /// The clocks of the two are apart by more than is good.
    ClocksApart {
        /// The other one's is ahead by so much; negative: behind.
        ahead_millis: i64,
    },
    /// Not any more.
    ClocksTogether,
    /// Changes were taken that are dated in the future.
    StampAhead {
        /// By so much.
        ahead_millis: u64,
    },
    /// Ops that both have and that are very old were deleted.
    Shortened {
        /// How many.
        ops: u64,
    },
}

/// What rows that cannot be read wait for, until they are put right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitsFor {
    /// Until both have the same changes: then their rows are compared.
    Comparison,
    /// The other server is not there.
    Twin,
    /// The other server is of a version that compares no rows.
    Upgrade,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comparison => {
                "they are taken from the other server as soon as both have the same changes"
            }
            Self::Twin => "they are taken from the other server as soon as it is there",
            Self::Upgrade => {
                "the other server is of an earlier version and compares no rows: they are taken from there as \
                 soon as it is upgraded"
            }
        })
    }
}

impl Fact {
    /// Its name in lists of events.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PutBack { .. } => "config_put_back",
            Self::Copied => "config_copied",
            Self::TwoPasts(_) => "config_two_pasts",
            Self::TooOld { .. } => "config_too_old",
            Self::Equal => "config_equal",
            Self::AsDatabase => "config_as_database",
            Self::Copying { .. } => "config_copying",
            Self::CopyEnds { .. } => "config_copy_ends",
            Self::Mended { .. } => "config_mended",
            Self::Unreadable { .. } => "config_unreadable",
            Self::Remade { .. } => "config_remade",
            Self::SetAside { .. } => "config_set_aside",
            Self::NotMended => "config_not_mended",
            Self::ClocksApart { .. } => "clocks_apart",
            Self::ClocksTogether => "clocks_together",
            Self::StampAhead { .. } => "config_stamp_ahead",
            Self::Shortened { .. } => "config_shortened",
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutBack { here, there } => write!(
                f,
                "an older copy of the configuration was put back here: it has {here} of {there} changes \
                 that were made here; the other server sends the rest"
            ),
            Self::Copied => f.write_str(
                "the configuration of one server is a copy of the other's disk: both go on under names of \
                 their own, and what was changed since is merged",
            ),
            Self::TwoPasts(origin) => {
                write!(
                    f,
                    "the two servers remember different changes of {origin}: nothing is exchanged"
                )
            }
            Self::TooOld { here: true } => f.write_str(
                "what this server lacks of the configuration is not kept by the other one any more",
            ),
            Self::TooOld { here: false } => f.write_str(
                "what the other server lacks of the configuration is not kept here any more",
            ),
            Self::Equal => f.write_str("both servers have the same configuration"),
            Self::AsDatabase => f.write_str("this server has all of the database's configuration"),
            Self::Copying { .. }
            | Self::CopyEnds { .. }
            | Self::Mended { .. }
            | Self::Unreadable { .. }
            | Self::Remade { .. }
            | Self::SetAside { .. }
            | Self::NotMended
            | Self::Shortened { .. } => self.upkeep(f),
            Self::ClocksApart { ahead_millis } => write!(
                f,
                "the other server's clock is {} s {} this one's: check that both machines get their time from \
                 the same source (NTP)",
                seconds(ahead_millis.unsigned_abs()),
                if *ahead_millis < 0 { "behind" } else { "ahead of" }
            ),
            Self::ClocksTogether => f.write_str("the clocks of the two servers agree again"),
            Self::StampAhead { ahead_millis } => write!(
                f,
                "changes are dated {} s in the future, because a clock is or was wrong: until then new changes \
                 carry later dates too; check the clocks of both machines",
                seconds(*ahead_millis)
            ),
        }
    }
}

impl Fact {
    /// What is told of copies, comparisons and the length of the log.
    fn upkeep(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copying { here, done, total } => {
                let way = if *here { "fetched from" } else { "sent to" };
                write!(
                    f,
                    "a copy of the whole configuration is being {way} the other server, because the changes \
                     that are lacking are not kept any more: {done} of {total} rows and changes are there"
                )
            }
            Self::CopyEnds { here: true, total } => write!(
                f,
                "the copy of the whole configuration is here ({total} rows and changes) and was joined with \
                 what was here"
            ),
            Self::CopyEnds { here: false, total } => {
                write!(f, "the other server has the copy of the whole configuration ({total} rows and changes)")
            }
            Self::Mended { table, rows, table_only: true } => write!(
                f,
                "{rows} rows of table {table} were not what had been written and were put right from what is \
                 kept of them: check this machine's disk and memory, and who else writes to config.db"
            ),
            Self::Mended { table, rows, table_only: false } => write!(
                f,
                "{rows} rows of table {table} were different on the two servers although both have the same \
                 changes; they are the same again: check disk and memory of both machines"
            ),
            Self::Unreadable { rows, waits_for } => write!(
                f,
                "what is kept of {rows} rows of the configuration cannot be read here: their values stay in \
                 force, changes of them are kept, and {waits_for}; check this machine's disk and memory"
            ),
            Self::Remade { table, rows } => write!(
                f,
                "what was kept of {rows} rows of table {table} could be read on neither server: they were written \
                 anew with the values in force, without those that lost against them; check disk and memory \
                 of both machines"
            ),
            Self::SetAside { table, rows } => write!(
                f,
                "{rows} rows of table {table} CAN BE READ ON NEITHER SERVER, nor can the table itself: they are \
                 gone from the configuration, and what is left of them is in damaged_row of this machine's \
                 config.db; see what is missing, or take it from a backup; check disk and memory of both machines"
            ),
            Self::NotMended => f.write_str(
                "rows are different on the two servers although both have the same changes, and could not be \
                 put right: make a backup of both, and replace the database of the machine with the bad disk",
            ),
            Self::Shortened { ops } => {
                write!(f, "the {ops} oldest changes are not listed any more: what they made is kept")
            }
            Self::PutBack { .. }
            | Self::TwoPasts(_)
            | Self::TooOld { .. }
            | Self::Equal
            | Self::AsDatabase
            | Self::Copied
            | Self::ClocksApart { .. }
            | Self::ClocksTogether
            | Self::StampAhead { .. } => Ok(()),
        }
    }
}

/// With one digit behind the point.
fn seconds(millis: u64) -> String {
    format!("{}.{}", millis / 1_000, millis % 1_000 / 100)
}
