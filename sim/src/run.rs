//! Runs by number, several at a time.

use std::ops::Range;

use crate::oracle::Seen;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Broken promises.
    pub violations: Vec<String>,
    /// What was seen.
    pub seen: Seen,
    /// The story, where it was recorded.
    pub story: Vec<String>,
}

/// Runs one; a panic is a broken promise too.
pub(crate) fn caught(run: impl FnOnce() -> Report) -> Report {
    let run = std::panic::AssertUnwindSafe(run);
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        let violations = vec![format!("a server or keeper panicked: {text}")];
        Report { violations, seen: Seen::default(), story: Vec::new() }
    })
}

/// Runs a range of seeds on two threads; the reports come in the order of the seeds.
pub fn run_many(seeds: Range<u64>, run: impl Fn(u64) -> Report + Sync) -> Vec<(u64, Report)> {
    let run = &run;
    let part = |first: u64| {
        let seeds = seeds.clone();
        seeds.filter(move |seed| seed % THREADS == first).map(move |seed| (seed, run(seed)))
    };
    let mut all: Vec<(u64, Report)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| scope.spawn(move || part(first).collect::<Vec<_>>()))
            .collect();
        // A panic in a run is a finding: it ends the program with the panic's own words.
        threads
            .into_iter()
            .flat_map(|thread| match thread.join() {
                Ok(reports) => reports,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    all.sort_by_key(|(seed, _)| *seed);
    all
}

/// Seeds are independent of each other.
const THREADS: u64 = 2;
