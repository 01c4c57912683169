//! The exchange alone, at its limits.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use tandem_files::{
    CHUNK_BYTES_MAX, CHUNKS_MAX, Chunk, ContentId, DROPS_MAX, Exchange, ExchangeOutput as Output,
    Lacking, Message, Named, ROWS_MAX, RowId, WINDOW_BYTES,
};
use tandem_types::Instant;

const NOW: Instant = Instant::ZERO;

fn row(number: u64) -> RowId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

fn named(content: ContentId, bytes: u64) -> Option<Named> {
    Some(Named { class: "fax".to_owned(), name: "one".to_owned(), content, bytes })
}

fn outputs(exchange: &mut Exchange) -> Vec<Output> {
    std::iter::from_fn(|| exchange.poll_output()).collect()
}

fn sent(exchange: &mut Exchange) -> Vec<Message> {
    let message = |output| match output {
        Output::Send(message) => Some(message),
        Output::Resume { .. }
        | Output::Begin { .. }
        | Output::Keep { .. }
        | Output::Finish(_)
        | Output::KeepWhole { .. }
        | Output::Tell(_)
        | Output::Read { .. }
        | Output::Verify(_)
        | Output::Judge(_)
        | Output::Discard(_)
        | Output::Delete(_)
        | Output::Fact(_) => None,
    };
    outputs(exchange).into_iter().filter_map(message).collect()
}

/// One that lacks a content that the twin has, and has asked for it.
fn asking(content: ContentId, bytes: u64) -> Exchange {
    let mut exchange = Exchange::new(BTreeMap::new());
    exchange.handle_row(NOW, row(1), named(content, bytes));
    exchange.handle_link_up(NOW);
    let rows = vec![(row(1), content)];
    exchange.handle_message(NOW, Message::Have { first: true, last: true, rows });
    assert!(outputs(&mut exchange).contains(&Output::Resume { content, bytes }));
    exchange.handle_plan(NOW, content, Ok(None));
    assert_eq!(sent(&mut exchange), [Message::Want(content)]);
    exchange
}

#[test]
fn what_is_here_is_told_in_parts() {
    let content = ContentId::of(b"one");
    for (rows, parts) in [(0, 1), (ROWS_MAX, 1), (ROWS_MAX + 1, 2)] {
        let mut exchange = Exchange::new(BTreeMap::from([(content, 3)]));
        for number in 0..rows as u64 {
            exchange.handle_row(NOW, row(number), named(content, 3));
        }
        exchange.handle_link_up(NOW);
        let told = sent(&mut exchange);
        assert_eq!(told.len(), parts, "{rows}");
        let mut seen = 0;
        for (number, message) in told.iter().enumerate() {
            let Message::Have { first, last, rows } = message else { panic!("{message:?}") };
            assert_eq!((*first, *last), (number == 0, number + 1 == parts));
            assert!(rows.len() <= ROWS_MAX);
            seen += rows.len();
        }
        assert_eq!(seen, rows);
    }
}

#[test]
fn no_more_is_asked_for_than_the_window_has_room_for() {
    let content = ContentId::of(b"long");
    let each = 256 * 1024;
    let parts: Vec<(u64, u32)> = (0..100).map(|part| (part * u64::from(each), each)).collect();
    let mut exchange = asking(content, 100 * u64::from(each));
    let chunks = vec![Chunk { id: content, bytes: each }; 100];
    exchange.handle_message(NOW, Message::Recipe { content, chunks });
    outputs(&mut exchange);
    exchange.handle_plan(NOW, content, Ok(Some(Lacking { parts, here_bytes: 0 })));
    let asked = |messages: &[Message]| -> u64 {
        let bytes = messages.iter().map(|message| {
            let Message::Fetch { bytes, .. } = message else { panic!("{message:?}") };
            u64::from(*bytes)
        });
        bytes.sum()
    };
    assert_eq!(asked(&sent(&mut exchange)), WINDOW_BYTES);
    // One is on disk: one more is asked for.
    let part = Message::Part { content, offset: 0, bytes: vec![0; each as usize] };
    exchange.handle_message(NOW, part);
    assert_eq!(sent(&mut exchange), []);
    exchange.handle_kept(NOW, content, 0, Ok(tandem_files::Kept::Good));
    assert_eq!(asked(&sent(&mut exchange)), u64::from(each));
    // After a cut nothing is on its way.
    exchange.handle_link_down();
    exchange.handle_link_up(NOW);
    assert_eq!(exchange.under_way(), []);
}

#[test]
fn chunks_that_cannot_be_those_of_the_content_are_not_begun() {
    let content = ContentId::of(b"long");
    let chunk = |bytes: u32| Chunk { id: content, bytes };
    let most = u64::from(CHUNK_BYTES_MAX);
    for (bytes, chunks, is_sound) in [
        (most, vec![chunk(CHUNK_BYTES_MAX)], true),
        (most + 1, vec![chunk(CHUNK_BYTES_MAX + 1)], false),
        // What a row says of its length may be wrong.
        (10, vec![chunk(9)], true),
        (10, vec![chunk(10), chunk(0)], false),
        (10, vec![], false),
        (0, vec![], false),
        (10, vec![chunk(1); CHUNKS_MAX + 1], false),
    ] {
        let mut exchange = asking(content, bytes);
        exchange.handle_message(NOW, Message::Recipe { content, chunks });
        let done = outputs(&mut exchange);
        let begun = done.iter().any(|output| matches!(output, Output::Begin { .. }));
        assert_eq!(begun, is_sound, "{bytes}: {done:?}");
        assert_eq!(done.contains(&Output::Send(Message::Doubt(content))), !is_sound);
    }
}

#[test]
fn what_nobody_asked_for_is_not_taken() {
    let content = ContentId::of(b"one");
    let mut exchange = Exchange::new(BTreeMap::new());
    exchange.handle_row(NOW, row(1), named(content, 3));
    exchange.handle_link_up(NOW);
    outputs(&mut exchange);
    for message in [
        Message::Whole { content, bytes: b"one".to_vec() },
        Message::Recipe { content, chunks: vec![Chunk { id: content, bytes: 3 }] },
        Message::Part { content, offset: 0, bytes: b"one".to_vec() },
        Message::Lack(content),
        Message::Doubt(content),
        Message::Drop(vec![content]),
    ] {
        exchange.handle_message(NOW, message.clone());
        assert_eq!(outputs(&mut exchange), [], "{message:?}");
    }
}

#[test]
fn not_more_than_so_many_are_asked_about_at_once_and_nothing_that_is_named() {
    let mut exchange = Exchange::new(BTreeMap::new());
    let mine = ContentId::of(b"named");
    exchange.handle_row(NOW, row(1), named(mine, 5));
    exchange.handle_link_up(NOW);
    outputs(&mut exchange);
    let others = (0..=DROPS_MAX as u64).map(|number| ContentId::of(&number.to_be_bytes()));
    exchange.handle_unnamed(others.chain([mine]).collect());
    let [Message::MayDrop(asked)] = &sent(&mut exchange)[..] else { panic!() };
    assert!(asked.len() == DROPS_MAX && !asked.contains(&mine));
    exchange.handle_unnamed(vec![mine]);
    assert_eq!(sent(&mut exchange), []);
}

#[test]
fn a_part_longer_than_any_chunk_is_not_read() {
    let content = ContentId::of(b"long");
    let mut exchange = Exchange::new(BTreeMap::from([(content, u64::from(u32::MAX))]));
    exchange.handle_link_up(NOW);
    outputs(&mut exchange);
    let (most, offset) = (CHUNK_BYTES_MAX, 0);
    exchange.handle_message(NOW, Message::Fetch { content, offset, bytes: most });
    assert_eq!(outputs(&mut exchange), [Output::Read { content, offset, bytes: most }]);
    exchange.handle_message(NOW, Message::Fetch { content, offset, bytes: most + 1 });
    assert_eq!(sent(&mut exchange), [Message::Lack(content)]);
}
