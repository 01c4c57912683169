//! Everything is read again once a week: what a disk has lost is found, and comes back from the twin.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod place;

use std::collections::BTreeMap;

use place::noise;
use place::pair::{Pair, Side};
use tandem_files::{
    COLLECT_PAUSE, ContentId, Fact, SCRUB_PAUSE, SCRUB_STEP, SCRUB_STEP_BYTES, ScrubStatus,
};
use tandem_types::Duration;

const LONG: usize = 30_000;

/// A pair that has these.
fn with(name: &str, contents: &[Vec<u8>]) -> (Pair, Vec<ContentId>) {
    let mut pair = Pair::new(name);
    pair.link(true);
    for (number, bytes) in contents.iter().enumerate() {
        pair.add(number % 2, "recordings", &number.to_string(), bytes).unwrap();
    }
    pair.settle();
    // The first pass is over.
    while pair.sides.iter().any(|side| side.files.scrub().ended_millis.is_none()) {
        pair.pass(SCRUB_STEP);
    }
    (pair, contents.iter().map(|bytes| ContentId::of(bytes)).collect())
}

fn known(contents: &[Vec<u8>]) -> BTreeMap<ContentId, Vec<u8>> {
    contents.iter().map(|bytes| (ContentId::of(bytes), bytes.clone())).collect()
}

fn last(side: &Side) -> (u64, u64) {
    let ScrubStatus { files, damaged, .. } = side.files.scrub();
    (*files, *damaged)
}

#[test]
fn a_flipped_bit_that_nobody_reads_is_found_within_a_week_and_mended_from_the_twin() {
    let contents: Vec<_> = (0..9).map(|seed| noise(seed, LONG)).collect();
    let (mut pair, ids) = with("flipped", &contents);
    pair.sides[0].flip(ids[3]);
    // One that is gone is found, too, and one that cannot be read.
    std::fs::remove_file(pair.sides[1].folder().path(ids[5])).unwrap();
    let unread = pair.sides[1].folder().path(ids[6]);
    std::fs::remove_file(&unread).unwrap();
    std::fs::create_dir(&unread).unwrap();
    // Not before it is due.
    pair.pass(Duration::from_secs(6 * 24 * 3600));
    pair.pass(SCRUB_STEP);
    assert!(!pair.sides[0].was_damaged(ids[3]));
    pair.scrub();
    assert!(pair.sides[0].was_damaged(ids[3]));
    assert_eq!((last(&pair.sides[0]), last(&pair.sides[1])), ((8, 1), (7, 2)));
    assert_eq!(pair.judge(&known(&contents)), Ok(18));
    // What it was is kept for whoever looks why.
    let aside = pair.sides[0].folder().path(ids[3]);
    let aside = aside.ancestors().nth(2).unwrap().join("damaged").join(ids[3].to_string());
    assert_ne!(ContentId::of(&std::fs::read(aside).unwrap()), ids[3]);
    pair.scrub();
    assert_eq!((last(&pair.sides[0]), last(&pair.sides[1])), ((9, 0), (9, 0)));
    let told = pair.sides[0].facts.iter().filter(|fact| matches!(fact, Fact::Scrubbed(_))).count();
    assert_eq!(told, 3, "{:?}", pair.sides[0].facts);
}

#[test]
fn what_is_damaged_on_both_is_told_on_both_and_nothing_is_deleted() {
    let contents: Vec<_> = (20..24).map(|seed| noise(seed, LONG)).collect();
    let (mut pair, ids) = with("both", &contents);
    pair.sides[0].flip(ids[1]);
    pair.sides[1].flip(ids[1]);
    pair.scrub();
    pair.scrub();
    for side in &pair.sides {
        assert!(side.was_damaged(ids[1]), "{:?}", side.facts);
        let missing = |fact: &&Fact| matches!(fact, Fact::Missing { .. });
        let told: Vec<_> = side.facts.iter().filter(missing).collect();
        assert_eq!(told.len(), 1, "{:?}", side.facts);
        assert!(told[0].to_string().starts_with("recordings/1 is whole on neither server"));
        let classes = side.files.classes();
        assert_eq!((classes[0].lacking_here.files, classes[0].missing.unwrap().files), (1, 1));
        let path = side.folder().path(ids[1]);
        let aside = path.ancestors().nth(2).unwrap().join("damaged").join(ids[1].to_string());
        assert!(aside.exists() && !path.exists());
        let others = ids.iter().filter(|id| **id != ids[1]);
        assert!(others.copied().all(|id| side.folder().verify(id).is_ok()));
    }
    // Somebody has it still.
    pair.add(0, "recordings", "again", &contents[1]).unwrap();
    pair.settle();
    assert_eq!(pair.judge(&known(&contents)), Ok(10));
}

#[test]
fn it_goes_on_after_a_restart_and_reads_no_more_than_it_may() {
    let contents: Vec<_> = (30..34).map(|seed| noise(seed, SCRUB_STEP_BYTES)).collect();
    let (mut pair, _) = with("slowly", &contents);
    pair.pass(SCRUB_PAUSE);
    pair.pass(COLLECT_PAUSE);
    let mut steps = 0;
    while last(&pair.sides[0]).0 < 2 {
        pair.pass(SCRUB_STEP);
        steps += 1;
    }
    assert!(steps >= 1, "{steps}");
    // A step is not repeated before its time.
    let seen = pair.sides[0].files.scrub().clone();
    for _ in 0..100 {
        pair.pass(Duration::ZERO);
    }
    assert_eq!(*pair.sides[0].files.scrub(), seen);
    // What was written down last is where it goes on.
    pair.pass(Duration::from_secs(300));
    let before = last(&pair.sides[0]).0;
    pair.crash(0);
    let after = pair.sides[0].files.scrub();
    assert_eq!((after.begun_millis, after.ended_millis), (seen.begun_millis, None));
    assert!(after.files >= 2 && after.files <= before + 1, "{after:?}");
    while pair.sides[0].files.scrub().ended_millis.is_none() {
        pair.pass(SCRUB_STEP);
    }
    assert_eq!(last(&pair.sides[0]), (4, 0));
}
