//! Two servers bring their files together: cut off, killed, lied to, full, apart.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod place;

use std::collections::BTreeMap;

use place::noise;
use place::pair::{Pair, garbled};
use tandem_files::{
    COLLECT_PAUSE, ContentId, ExchangeFact, Fact, KEPT_UNNAMED, Message, Named, RETRY, STALL,
};
use tandem_types::{Dice, Duration};

const LONG: usize = 30_000;

/// Nobody is told that it is there while it is not.
fn known(contents: &[&[u8]]) -> BTreeMap<ContentId, Vec<u8>> {
    contents.iter().map(|bytes| (ContentId::of(bytes), bytes.to_vec())).collect()
}

fn parts(line: &std::collections::VecDeque<Vec<u8>>) -> usize {
    let part = |bytes: &&Vec<u8>| matches!(Message::decode(bytes), Some(Message::Part { .. }));
    line.iter().filter(part).count()
}

#[test]
fn files_go_both_ways_and_both_say_that_they_are_equal() {
    let mut pair = Pair::new("ways");
    let (short, long) = (noise(1, 500), noise(2, LONG));
    pair.add(0, "announcements", "short", &short).unwrap();
    pair.link(true);
    let id = pair.add(1, "recordings", "long", &long).unwrap();
    assert!(!pair.sides[1].files.exchange().is_there(id, ContentId::of(&long)));
    pair.settle();
    assert_eq!(pair.judge(&known(&[&short, &long])), Ok(4));
    assert!(pair.sides[1].files.exchange().is_there(id, ContentId::of(&long)));
    for side in &pair.sides {
        let equal = |fact: &&Fact| matches!(fact, Fact::Exchange(ExchangeFact::Equal { .. }));
        assert!(side.facts.iter().filter(equal).count() >= 1, "{:?}", side.facts);
    }
}

#[test]
fn who_lacks_what_is_told_by_class() {
    let mut pair = Pair::new("classes");
    pair.add(0, "fax", "one", &noise(1, 500)).unwrap();
    let alone = pair.sides[0].files.classes();
    assert_eq!((alone[0].all.files, alone[0].lacking_there), (1, None));
    assert!(!alone[0].is_equal());
    pair.link(true);
    while pair.deliver(1, |bytes| vec![bytes]) {}
    let behind = pair.sides[0].files.classes();
    let lacking = behind[0].lacking_there.unwrap();
    assert_eq!((lacking.files, lacking.bytes), (1, 500));
    pair.settle();
    assert!(pair.sides.iter().all(|side| side.files.classes()[0].is_equal()));
}

#[test]
fn a_cut_after_any_message_costs_what_was_on_its_way_and_no_more() {
    let long = noise(3, LONG);
    let content = ContentId::of(&long);
    let mut cuts = 0;
    for messages in 0.. {
        let mut pair = Pair::new("cut");
        pair.add(0, "recordings", "long", &long).unwrap();
        pair.link(true);
        let mut left = messages;
        while left > 0 && (pair.deliver(0, |b| vec![b]) | pair.deliver(1, |b| vec![b])) {
            left -= 1;
        }
        let whole = pair.sides[1].files.exchange().is_present(content);
        let here = pair.sides[1].files.under_way().first().map_or(0, |one| one.here_bytes);
        // Every second time the receiver is killed too.
        if messages % 2 == 0 {
            pair.link(false)
        } else {
            pair.crash(1)
        }
        pair.link(true);
        while !pair.sides[1].files.exchange().is_present(content) {
            if pair.deliver(0, |b| vec![b]) | pair.deliver(1, |b| vec![b]) {
                let now =
                    pair.sides[1].files.under_way().first().map_or(u64::MAX, |one| one.here_bytes);
                assert!(now >= here || now == 0, "{now} of {here}: begun anew");
            } else {
                panic!("{messages} messages: it stands still");
            }
        }
        pair.settle();
        assert_eq!(pair.judge(&known(&[&long])), Ok(2), "{messages} messages");
        if whole {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 40, "{cuts}");
}

#[test]
fn nothing_that_came_before_a_cut_is_sent_again() {
    let long = noise(4, LONG);
    let mut pair = Pair::new("resume");
    pair.add(0, "recordings", "long", &long).unwrap();
    pair.link(true);
    // All but the last three parts are kept.
    loop {
        assert!(pair.deliver(1, |b| vec![b]) | pair.deliver(0, |b| vec![b]));
        let one = pair.sides[1].files.under_way();
        if one.first().is_some_and(|one| one.bytes - one.here_bytes < 1_500) {
            break;
        }
    }
    pair.crash(1);
    pair.link(true);
    let mut sent = 0;
    loop {
        while pair.deliver(1, |b| vec![b]) {}
        sent += parts(&pair.sides[0].line);
        let mut any = false;
        while pair.deliver(0, |b| vec![b]) {
            any = true;
        }
        if !any {
            break;
        }
    }
    assert!((1..=6).contains(&sent), "{sent} parts");
    assert_eq!(pair.judge(&known(&[&long])), Ok(2));
}

#[test]
fn garbage_is_noticed_at_every_place_and_fetched_again() {
    let (short, long) = (noise(5, 600), noise(6, LONG));
    let mut noticed = 0;
    for place in 0..60 {
        let mut pair = Pair::new("garbage");
        pair.add(0, "fax", "short", &short).unwrap();
        pair.add(0, "fax", "long", &long).unwrap();
        pair.link(true);
        let mut at = 0;
        loop {
            let change = |bytes: Vec<u8>| vec![if at == place { garbled(&bytes) } else { bytes }];
            if !(pair.deliver(0, change) | pair.deliver(1, |b| vec![b])) {
                break;
            }
            at += 1;
        }
        let garbage = |fact: &Fact| matches!(fact, Fact::Exchange(ExchangeFact::Garbage { .. }));
        noticed += usize::from(pair.sides[1].facts.iter().any(garbage));
        // What the sender has is good: it stays.
        assert!(pair.sides[0].facts.iter().all(|fact| !matches!(fact, Fact::Damaged { .. })));
        pair.pass(RETRY);
        pair.settle();
        assert_eq!(pair.judge(&known(&[&short, &long])), Ok(4), "place {place}");
    }
    assert!(noticed > 30, "{noticed}");
}

#[test]
fn a_row_that_says_another_length_gets_its_content_all_the_same() {
    let (short, long) = (noise(4, 500), noise(5, LONG));
    for lie in [0, 1, 100_000] {
        let mut pair = Pair::new("lie");
        pair.link(true);
        for (number, bytes) in [&short, &long].into_iter().enumerate() {
            let named = |bytes: &[u8], length: u64| {
                let (class, name) = ("fax".to_owned(), number.to_string());
                Some(Named { class, name, content: ContentId::of(bytes), bytes: length })
            };
            let id = pair.add(0, "fax", &number.to_string(), bytes).unwrap();
            pair.write(0, id, named(bytes, lie));
        }
        pair.settle();
        assert_eq!(pair.judge(&known(&[&short, &long])), Ok(4), "{lie}");
        let garbage = |fact: &Fact| matches!(fact, Fact::Exchange(ExchangeFact::Garbage { .. }));
        assert!(!pair.sides[1].facts.iter().any(garbage), "{:?}", pair.sides[1].facts);
    }
}

#[test]
fn a_file_that_two_find_damaged_is_told_once() {
    let mut pair = Pair::new("twice");
    let long = noise(6, LONG);
    pair.link(true);
    pair.add(0, "firmware", "long", &long).unwrap();
    pair.settle();
    let content = ContentId::of(&long);
    pair.sides[0].flip(content);
    let now = pair.now;
    for _ in 0..2 {
        pair.sides[0].files.handle_doubt(now, content);
        pair.sides[0].drain(true);
    }
    let damaged = |fact: &&Fact| matches!(fact, Fact::Damaged { .. });
    assert_eq!(pair.sides[0].facts.iter().filter(damaged).count(), 1);
    pair.settle();
    assert_eq!(pair.judge(&known(&[&long])), Ok(2));
}

#[test]
fn a_damaged_file_is_set_aside_and_fetched_from_the_twin() {
    let long = noise(7, LONG);
    let content = ContentId::of(&long);
    let mut pair = Pair::new("damaged");
    pair.add(0, "recordings", "long", &long).unwrap();
    pair.link(true);
    pair.settle();
    std::fs::write(pair.sides[0].folder().path(content), noise(8, LONG)).unwrap();
    assert!(pair.sides[0].folder().read(content).is_err());
    let now = pair.now;
    pair.sides[0].files.handle_doubt(now, content);
    pair.sides[0].drain(true);
    assert!(pair.sides[0].was_damaged(content));
    assert!(!pair.sides[0].files.classes()[0].is_equal());
    pair.settle();
    assert_eq!(pair.judge(&known(&[&long])), Ok(2));
}

#[test]
fn a_file_that_is_damaged_while_it_is_sent_is_not_taken() {
    let long = noise(9, LONG);
    let content = ContentId::of(&long);
    let mut pair = Pair::new("rots");
    pair.add(0, "recordings", "long", &long).unwrap();
    pair.link(true);
    while pair.sides[1].files.under_way().first().is_none_or(|one| one.here_bytes == 0) {
        assert!(pair.deliver(0, |b| vec![b]) | pair.deliver(1, |b| vec![b]));
    }
    // What is on its way is lost, and the rest is another.
    pair.link(false);
    std::fs::write(pair.sides[0].folder().path(content), noise(10, LONG)).unwrap();
    pair.link(true);
    pair.settle();
    assert!(!pair.sides[1].files.exchange().is_present(content));
    assert!(pair.sides[0].was_damaged(content));
    let classes = pair.sides[1].files.classes();
    assert_eq!((classes[0].lacking_here.files, classes[0].lacking_there.unwrap().files), (1, 1));
    // Somebody has it still and adds it again, on the other machine.
    pair.add(1, "recordings", "again", &long).unwrap();
    pair.pass(RETRY);
    pair.settle();
    assert_eq!(pair.judge(&known(&[&long])), Ok(4));
}

#[test]
fn a_full_disk_refuses_serves_on_and_takes_it_later() {
    let (first, second) = (noise(11, LONG), noise(12, 700));
    let mut pair = Pair::new("full");
    pair.link(true);
    pair.add(0, "fax", "first", &first).unwrap();
    while pair.sides[1].files.under_way().first().is_none_or(|one| one.here_bytes == 0) {
        assert!(pair.deliver(0, |b| vec![b]) | pair.deliver(1, |b| vec![b]));
    }
    pair.sides[1].full(true);
    pair.settle();
    pair.add(0, "fax", "second", &second).unwrap();
    pair.settle();
    let refused = |fact: &&Fact| matches!(fact, Fact::Exchange(ExchangeFact::Refused { .. }));
    assert_eq!(pair.sides[1].facts.iter().filter(refused).count(), 1, "{:?}", pair.sides[1].facts);
    let told = pair.sides[1].facts.iter().find(refused).unwrap().to_string();
    assert!(told.contains("no room") && told.contains("fax/first"), "{told}");
    assert_eq!(pair.add(1, "fax", "third", &second), None);
    for _ in 0..3 {
        pair.pass(RETRY);
        assert!(pair.sides[1].line.is_empty(), "what has no room is not asked for");
        pair.settle();
    }
    pair.sides[1].full(false);
    pair.pass(RETRY);
    pair.settle();
    assert_eq!(pair.judge(&known(&[&first, &second])), Ok(4));
    assert_eq!(pair.sides[1].facts.iter().filter(refused).count(), 1, "told once");
    assert!(pair.sides[1].facts.contains(&Fact::Exchange(ExchangeFact::Taken)));
}

#[test]
fn a_file_that_is_removed_while_it_comes_leaves_nothing_behind() {
    let long = noise(13, LONG);
    let mut pair = Pair::new("removed");
    let id = pair.add(0, "recordings", "long", &long).unwrap();
    pair.link(true);
    while pair.sides[1].files.under_way().first().is_none_or(|one| one.here_bytes == 0) {
        assert!(pair.deliver(0, |b| vec![b]) | pair.deliver(1, |b| vec![b]));
    }
    pair.write(0, id, None);
    pair.settle();
    assert_eq!(pair.sides[1].folder().partial().unwrap(), []);
    assert_eq!(pair.sides[1].files.under_way(), []);
    assert_eq!(pair.judge(&BTreeMap::new()), Ok(0));
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

#[test]
fn a_removed_file_comes_back_for_seven_days_and_is_deleted_after_them() {
    let long = noise(14, LONG);
    let content = ContentId::of(&long);
    let mut pair = Pair::new("collected");
    pair.link(true);
    let id = pair.add(0, "announcements", "welcome", &long).unwrap();
    pair.settle();
    let row = pair.sides[0].rows[&id].1.clone();
    let collect = |pair: &mut Pair| {
        pair.settle();
        pair.pass(COLLECT_PAUSE);
        pair.settle();
    };
    pair.write(0, id, None);
    collect(&mut pair);
    pair.pass(days(6));
    collect(&mut pair);
    assert!(pair.sides.iter().all(|side| side.files.exchange().is_present(content)));
    // Undone: the days are counted anew, also over a restart.
    pair.write(1, id, row);
    pair.settle();
    assert_eq!(pair.judge(&known(&[&long])), Ok(2));
    collect(&mut pair);
    pair.write(1, id, None);
    collect(&mut pair);
    pair.pass(days(6));
    collect(&mut pair);
    pair.crash(0);
    pair.link(true);
    pair.settle();
    collect(&mut pair);
    assert!(pair.sides.iter().all(|side| side.bytes_of(content).is_some()));
    pair.pass(days(1));
    collect(&mut pair);
    collect(&mut pair);
    assert!(pair.sides.iter().all(|side| side.bytes_of(content).is_none()));
    assert!(pair.sides[0].facts.contains(&Fact::Collected(1)));
}

#[test]
fn nothing_is_deleted_while_the_twin_is_away_or_names_it() {
    let long = noise(15, LONG);
    let content = ContentId::of(&long);
    let mut pair = Pair::new("named");
    pair.link(true);
    let id = pair.add(0, "announcements", "welcome", &long).unwrap();
    pair.settle();
    let row = pair.sides[0].rows[&id].1.clone();
    pair.write(0, id, None);
    pair.settle();
    pair.link(false);
    for _ in 0..3 {
        pair.pass(KEPT_UNNAMED + COLLECT_PAUSE);
    }
    assert!(pair.sides.iter().all(|side| side.bytes_of(content).is_some()));
    // The twin names it under another key, and the row has not come here yet.
    let mut other = id;
    other[15] ^= 1;
    pair.link(true);
    pair.settle();
    pair.write(1, other, row);
    pair.pass(COLLECT_PAUSE);
    pair.settle();
    pair.pass(COLLECT_PAUSE);
    pair.settle();
    assert_eq!(pair.judge(&known(&[&long])), Ok(2));
}

#[test]
fn a_clock_that_was_ahead_deletes_nothing() {
    let mut pair = Pair::new("clock");
    pair.link(true);
    let content = ContentId::of(b"short");
    let id = pair.add(0, "fax", "short", b"short").unwrap();
    pair.settle();
    pair.write(0, id, None);
    pair.settle();
    // One of the two clocks is a year ahead.
    let (now, wall) = (pair.now + COLLECT_PAUSE, pair.wall_millis);
    pair.sides[0].files.handle_timeout(now, wall);
    pair.sides[0].files.handle_timeout(now + COLLECT_PAUSE, wall + 365 * 86_400_000);
    pair.sides[0].drain(true);
    pair.now = now + COLLECT_PAUSE;
    pair.settle();
    assert!(pair.sides.iter().all(|side| side.bytes_of(content).is_some()));
}

#[test]
fn both_contents_of_one_name_are_on_both_sides() {
    let (one, other) = (noise(16, LONG), noise(17, LONG));
    let mut pair = Pair::new("same");
    pair.add(0, "announcements", "welcome", &one).unwrap();
    pair.add(1, "announcements", "welcome", &other).unwrap();
    pair.link(true);
    pair.settle();
    assert_eq!(pair.judge(&known(&[&one, &other])), Ok(4));
}

#[test]
fn a_twin_that_does_not_answer_is_asked_again_later() {
    let mut pair = Pair::new("stall");
    pair.add(0, "fax", "short", b"short").unwrap();
    pair.link(true);
    while pair.deliver(0, |b| vec![b]) {}
    // The question is lost, which came after the greeting.
    pair.deliver(1, |b| vec![b]);
    pair.sides[1].line.clear();
    pair.settle();
    assert_eq!(pair.sides[1].files.under_way().len(), 1);
    pair.pass(STALL);
    pair.pass(RETRY);
    pair.settle();
    assert_eq!(pair.judge(&known(&[b"short"])), Ok(2));
}

#[test]
fn many_files_come_a_few_at_a_time() {
    let mut pair = Pair::new("many");
    let all: Vec<Vec<u8>> = (0..40).map(|seed| noise(100 + seed, 3_000)).collect();
    for (number, bytes) in all.iter().enumerate() {
        pair.add(0, "fax", &number.to_string(), bytes).unwrap();
    }
    pair.link(true);
    let mut most = 0;
    while pair.deliver(0, |b| vec![b]) | pair.deliver(1, |b| vec![b]) {
        most = most.max(pair.sides[1].files.under_way().len());
    }
    assert_eq!(most, tandem_files::WANTS_MAX);
    let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    assert_eq!(pair.judge(&known(&all)), Ok(80));
}

#[test]
fn what_is_no_message_is_told_and_changes_nothing() {
    let mut pair = Pair::new("other");
    pair.link(true);
    pair.settle();
    let now = pair.now;
    for bytes in [b"".as_slice(), b"x", &[0xf1], &[0xf1, 99], &[0xf1, 0, 9]] {
        pair.sides[0].files.handle_message(now, bytes);
        pair.sides[0].drain(true);
    }
    assert_eq!(pair.sides[0].facts.iter().filter(|fact| **fact == Fact::NotKnown).count(), 5);
}

/// What may happen at any time; the seed decides.
fn step(pair: &mut Pair, dice: &mut Dice, contents: &mut BTreeMap<ContentId, Vec<u8>>) {
    let at = usize::from(dice.chance(50));
    match dice.below(100) {
        0..70 => {
            for _ in 0..dice.below(20) {
                let (twice, garbage) = (dice.chance(5), dice.chance(5));
                let at = usize::from(dice.chance(50));
                pair.deliver(at, |bytes| {
                    let bytes = if garbage { garbled(&bytes) } else { bytes };
                    if twice { vec![bytes.clone(), bytes] } else { vec![bytes] }
                });
            }
        }
        70..77 => {
            let long = [10, 900, 5_000, 20_000][usize::try_from(dice.below(4)).unwrap()];
            let bytes = noise(dice.below(40), long);
            let name = dice.below(3).to_string();
            if pair.add(at, "fax", &name, &bytes).is_some() {
                contents.insert(ContentId::of(&bytes), bytes);
            }
        }
        77..80 => {
            let live: Vec<_> =
                pair.sides[at].rows.iter().map(|(id, row)| (*id, row.1.clone())).collect();
            if let Some((id, row)) = live.get(usize::try_from(dice.below(20)).unwrap()) {
                let gone = row.is_some().then_some(None);
                pair.write(at, *id, gone.unwrap_or_else(|| back(contents)));
            }
        }
        80..84 => pair.link(false),
        84..92 => pair.link(true),
        92..94 => pair.crash(at),
        94..96 => pair.sides[at].full(dice.chance(50)),
        96..98 => damage(pair, at, dice),
        _ => pair.pass(Duration::from_secs(dice.below(20))),
    }
}

/// A row that was deleted names something again: what is known already.
fn back(contents: &BTreeMap<ContentId, Vec<u8>>) -> Option<Named> {
    let (content, bytes) = contents.iter().next()?;
    let (class, name) = ("fax".to_owned(), "back".to_owned());
    Some(Named { class, name, content: *content, bytes: bytes.len() as u64 })
}

/// A disk flips what the twin has too.
fn damage(pair: &mut Pair, at: usize, dice: &mut Dice) {
    let both: Vec<_> = pair.sides[at].files.exchange().present().keys().copied().collect();
    let other = &pair.sides[1 - at];
    let good = |content: &&ContentId| {
        other.bytes_of(**content).is_some_and(|bytes| ContentId::of(&bytes) == **content)
    };
    let both: Vec<_> = both.iter().filter(good).copied().collect();
    if both.is_empty() {
        return;
    }
    let content = both[usize::try_from(dice.below(both.len() as u64)).unwrap()];
    let side = &mut pair.sides[at];
    let mut bytes = side.bytes_of(content).unwrap();
    bytes[0] ^= 0x80;
    std::fs::write(side.folder().path(content), bytes).unwrap();
    // Somebody reads it, or nobody does before all is read again.
    if dice.chance(50) {
        side.files.handle_doubt(pair.now, content);
        side.drain(pair.linked);
    }
}

/// A run; how many rows were looked at, or what was wrong at its end.
fn run(seed: u64, sabotaged: bool) -> Result<usize, String> {
    let mut dice = Dice::from_number(seed);
    let mut pair = Pair::with(&format!("run{sabotaged}-{seed}"), sabotaged);
    let mut contents = BTreeMap::new();
    for _ in 0..400 {
        step(&mut pair, &mut dice, &mut contents);
    }
    // All is well from here on.
    pair.sides.iter().for_each(|side| side.full(false));
    pair.link(true);
    for _ in 0..6 {
        pair.settle();
        pair.pass(STALL);
    }
    pair.scrub();
    pair.judge(&contents)
}

#[test]
fn whatever_happens_both_have_everything_in_the_end() {
    let mut seen = 0;
    for seed in 0..200 {
        match run(seed, false) {
            Ok(rows) => seen += rows,
            Err(wrong) => panic!("seed {seed}: {wrong}"),
        }
    }
    assert!(seen > 2_000, "{seen} rows");
}

#[test]
fn a_hash_that_is_not_compared_is_noticed() {
    let wrong = (0..40).filter(|seed| run(*seed, true).is_err()).count();
    assert!(wrong > 10, "{wrong} of 40 runs");
}
