//! Being on time on a busy machine: memory that is never paged out, a thread that goes first.
//!
//! Each wish may be refused, for lack of a privilege. That is not an error: the caller goes on with
//! longer time-outs and shows the refusal.

use std::fmt;
use std::num::NonZeroU64;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_current_timer_slack};

use crate::sys;

/// Something the machine did not grant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What was wanted.
    pub what: &'static str,
    /// What the system said.
    pub why: String,
    /// What an administrator can do.
    pub remedy: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused ({}): {}", self.what, self.why, self.remedy)
    }
}

/// Locks all memory of this process, now and later.
///
/// # Errors
/// Refused without privilege. A small limit (`RLIMIT_MEMLOCK`) counts as a refusal, too: under it the
/// process would run out of memory later instead of being slow now.
pub fn lock_memory() -> Result<(), Refusal> {
    let refusal = |why: String| Refusal {
        what: "locked memory",
        why,
        remedy: "give the service CAP_IPC_LOCK, or LimitMEMLOCK=infinity in its unit",
    };
    let limit = getrlimit(Resource::Memlock).current;
    let privileged =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    match limit {
        Some(limit) if !privileged && limit < MIN_LOCKED_BYTES => {
            Err(refusal(format!("the limit is {} KiB", limit / 1024)))
        }
        _ => mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
            .map_err(|error| refusal(error.to_string())),
    }
}

/// Lets the calling thread go before all normal ones (`SCHED_FIFO`) and wakes it without slack.
/// Threads and processes it starts are normal.
///
/// # Errors
/// Refused without privilege.
///
/// # Panics
/// If the priority is not within 1 to 99.
pub fn go_first(priority: u8) -> Result<(), Refusal> {
    assert!((1..=99).contains(&priority), "sched(7): priorities are 1 to 99");
    // Matters where the priority is refused: timers are then up to 50 us late by default.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    sys::set_fifo(i32::from(priority)).map_err(|error| Refusal {
        what: "real-time priority",
        why: error.to_string(),
        remedy: "give the service CAP_SYS_NICE, or LimitRTPRIO=50 in its unit",
    })
}

/// Less than this is not worth locking: the process would soon fail to get memory.
const MIN_LOCKED_BYTES: u64 = 512 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CapabilitySets, set_capabilities};

    #[test]
    fn what_is_refused_says_who_can_change_it() {
        // Privileges belong to a thread: the rest of the tests keeps them.
        let refused = std::thread::spawn(|| {
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            set_capabilities(None, sets).unwrap();
            (lock_memory(), go_first(10))
        });
        let (memory, priority) = refused.join().unwrap();
        let limited = getrlimit(Resource::Memlock).current.is_some_and(|it| it < MIN_LOCKED_BYTES);
        let rtprio = getrlimit(Resource::Rtprio).current;
        if limited {
            assert!(memory.unwrap_err().to_string().contains("CAP_IPC_LOCK"));
        }
        if rtprio == Some(0) {
            assert!(priority.unwrap_err().to_string().contains("CAP_SYS_NICE"));
        }
        assert!(limited || rtprio == Some(0), "nothing was refused here");
    }

    #[test]
    fn a_privileged_thread_goes_first_and_its_children_do_not() {
        let child = std::thread::spawn(|| {
            go_first(10).map(|()| {
                let status = std::process::Command::new("cat").arg("/proc/self/stat").output();
                String::from_utf8(status.unwrap().stdout).unwrap()
            })
        });
        match child.join().unwrap() {
            // proc(5): field 41 is the policy, 0 is the normal one.
            Ok(stat) => assert_eq!(stat.split_whitespace().nth(40), Some("0"), "{stat}"),
            Err(refusal) => println!("skipped: {refusal}"),
        }
    }
}
