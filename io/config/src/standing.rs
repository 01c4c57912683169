//! How the tables here and those of the twin stand to each other.

use tandem_oplog::Seen;

/// Counted in changes; see [`crate::Output::Standing`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Changes that are here.
    pub here: u64,
    /// Those of them that are not on the twin's disk, as far as it has said.
    pub twin_lacks: u64,
    /// Changes that the twin has, and that are not here.
    pub here_lacks: u64,
}

impl Standing {
    pub(crate) fn of(here: &Seen, there: &Seen) -> Self {
        let beyond = |these: &Seen, those: &Seen| {
            these.iter().map(|id| id.number.saturating_sub(those.up_to(id.origin))).sum()
        };
        Self {
            here: here.iter().map(|id| id.number).sum(),
            twin_lacks: beyond(here, there),
            here_lacks: beyond(there, here),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_oplog::{OpId, Origin};

    #[test]
    fn what_each_lacks_is_counted_over_all_origins() {
        let seen = |rows: &[(u64, u64)]| -> Seen {
            rows.iter().map(|&(origin, number)| OpId { origin: Origin(origin), number }).collect()
        };
        let standing = Standing::of(&seen(&[(1, 10), (2, 5)]), &seen(&[(1, 7), (2, 9), (3, 1)]));
        assert_eq!(standing, Standing { here: 15, twin_lacks: 3, here_lacks: 5 });
    }
}
