//! What comes together is taken together.

use tandem_oplog::{
    Chain, Compared, Message, OpId, Origin, Output, PART_BYTES, Sync, TAKE_BYTES, WINDOW_BYTES,
};

const ME: Origin = Origin(1);
const TWIN: Origin = Origin(2);

fn met() -> Sync {
    let mut sync = Sync::new(ME, Vec::new());
    sync.handle_link_up();
    let heads = vec![(OpId { origin: TWIN, number: 100 }, Chain([7; 16]))];
    sync.handle_message(Message::Hello { origin: TWIN, heads, anew: false, able: 0 });
    while let Some(output) = sync.poll_output() {
        if let Output::Compare { round, heads } = output {
            sync.handle_compared(round, &vec![Compared::Same; heads.len()]);
        }
    }
    sync
}

fn takes(sync: &mut Sync) -> Vec<usize> {
    let mut takes = Vec::new();
    while let Some(output) = sync.poll_output() {
        if let Output::Take(ops) = output {
            takes.push(ops.len());
        }
    }
    takes
}

#[test]
fn parts_that_wait_are_taken_together_until_they_are_enough() {
    let mut sync = met();
    let part = || Message::Ops(vec![vec![0; PART_BYTES / 2]; 2]);
    let parts = WINDOW_BYTES / PART_BYTES;
    (0..parts).for_each(|_| sync.handle_message(part()));
    let takes_of_all = takes(&mut sync);
    let ops_in_one = 2 * TAKE_BYTES / PART_BYTES;
    assert_eq!(takes_of_all, vec![ops_in_one; 2 * parts / ops_in_one]);
    // What comes alone waits for nothing.
    sync.handle_message(part());
    assert_eq!(takes(&mut sync), [2]);
}

#[test]
fn what_was_asked_between_two_parts_is_answered_between_them() {
    let mut sync = met();
    sync.handle_message(Message::Ops(vec![vec![0; 10]]));
    sync.handle_message(Message::AskChains(ME));
    sync.handle_message(Message::Ops(vec![vec![0; 10]]));
    let order: Vec<Output> = std::iter::from_fn(|| sync.poll_output()).collect();
    assert!(matches!(order[..], [Output::Take(_), Output::TellChains(_), Output::Take(_)]));
}
