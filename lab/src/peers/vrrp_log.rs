//! What keepalived's log says about its state. It has no other way to tell that is as old and as
//! stable as these lines.

/// A state of VRRP (RFC 5798 §6.4), and the one that keepalived adds to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// It holds the virtual address.
    Master,
    /// It could take over.
    Backup,
    /// A check or the interface says that it could not serve.
    Fault,
}

/// The state it entered last, in its present life.
#[must_use]
pub(super) fn newest(log: &str) -> Option<State> {
    let mut state = None;
    for line in log.lines() {
        if line.contains("Starting Keepalived") || line.contains("Stopped Keepalived") {
            state = None;
        }
        state = entered(line).or(state);
    }
    state
}

/// How often it began or ceased to hold the virtual address.
#[must_use]
pub(super) fn role_changes(log: &str) -> usize {
    let (mut count, mut was_master) = (0, false);
    for state in log.lines().filter_map(entered) {
        let is_master = state == State::Master;
        count += usize::from(is_master != was_master);
        was_master = is_master;
    }
    count
}

/// The state that a line says was entered. (Before its first state, keepalived writes in small letters.)
fn entered(line: &str) -> Option<State> {
    let line = line.to_ascii_lowercase();
    let (_, rest) = line.split_once(" entering ")?;
    match rest.split(' ').next()? {
        "master" => Some(State::Master),
        "backup" => Some(State::Backup),
        "fault" => Some(State::Fault),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: &str = "\
Sun Nov 22 17:18:19 2026: Starting Keepalived v2.2.7 (01/16,2022)
Sun Nov 22 17:18:19 2026: (lab) Entering BACKUP STATE (init)
Sun Nov 22 17:18:23 2026: (lab) Entering MASTER STATE
";

    #[test]
    fn the_newest_state_counts() {
        assert_eq!(newest(LIFE), Some(State::Master));
        let fault = format!("{LIFE}now: (lab) Entering FAULT STATE\nnow: (lab) sent 0 priority\n");
        assert_eq!(newest(&fault), Some(State::Fault));
        assert_eq!(newest(""), None);
    }

    #[test]
    fn a_new_life_has_no_state_yet() {
        assert_eq!(newest(&format!("{LIFE}now: Starting Keepalived v2.2.7\n")), None);
        let text =
            format!("{LIFE}now: Starting Keepalived v2.2.7\nnow: (lab) entering FAULT state\n");
        assert_eq!(newest(&text), Some(State::Fault));
        assert_eq!(newest(&format!("{LIFE}now: Stopped Keepalived v2.2.7\n")), None);
    }

    #[test]
    fn only_the_way_to_the_master_and_back_is_a_change_of_role() {
        assert_eq!(role_changes(""), 0);
        assert_eq!(role_changes(LIFE), 1);
        let text = format!("{LIFE}a: (lab) Entering BACKUP STATE\na: (lab) Entering FAULT STATE\n");
        assert_eq!(role_changes(&text), 2);
        assert_eq!(role_changes(&format!("{text}a: (lab) Entering MASTER STATE\n")), 3);
    }
}
