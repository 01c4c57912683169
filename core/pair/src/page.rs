//! The pages `docs/internals/pair.md` and `docs/internals/timeouts.md`, printed from the code.
//!
//! `UPDATE_EXPECT=1 cargo test -p tandem-pair page` rewrites them; read the diff.

use core::fmt::Write;
use std::collections::BTreeMap;

use expect_test::expect_file;
use tandem_types::{Duration, Seat};

use crate::table::{Event, ROWS, Row, State};
use crate::timings::{Profile, RELAX, Timings};

const PAIR_HEAD: &str = "\
# Who is active

Printed from `core/pair/src/table.rs` by its tests; do not edit. After a change there:
`UPDATE_EXPECT=1 cargo test -p tandem-pair page`.

Each machine's keeper asks, after everything that happens, which *event* describes the case, and does what the one row for
its *state*, that event and its *seat* says. The table is total and order-free; the compiler refuses it otherwise.

Four rules stand behind it:

1. **Never on the silence of one path.** A twin is gone if its keeper is silent on every path *and* the journal link is silent, or
   says that the twin's server does not serve, *and* nobody serves at the virtual address. A twin that says itself that its server
   died needs no time-out at all.
2. **A reign is on disk before it shows.** The epoch is the highest ever seen plus one, and carries the seat.
3. **The lease ends before anybody may judge.** A server whose keeper is gone stops by itself; see [timeouts](timeouts.md).
4. **Nobody acts on old words.** A heartbeat counts in the order it was made, and one that says \"I do not serve\" counts only if it
   answers a heartbeat that we sent within the silence limit.

What it can not do without a third vote: if no heartbeat, no journal link and no question at the virtual address gets through, or
if one can speak and not hear, both may serve until contact is back. Then the healing rule ends it.

";

const TIMINGS_HEAD: &str = "\
# Time-outs

Printed from `core/pair/src/timings.rs` by its tests; do not edit. After a change there:
`UPDATE_EXPECT=1 cargo test -p tandem-pair page`.

";

/// The documentation of the variants or fields of `item`, by name, out of the source itself.
fn documented(source: &str, item: &str) -> BTreeMap<String, String> {
    let body = source.split_once(item).expect("the item").1;
    let body = body.split_once("\n}").expect("its end").0;
    let (mut found, mut words) = (BTreeMap::new(), String::new());
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            words.push_str(text);
        } else {
            let name = line.trim_start_matches("pub ").split([':', ',']).next().expect("a first");
            if !words.is_empty() {
                found.insert(name.to_owned(), core::mem::take(&mut words).trim().to_owned());
            }
        }
    }
    found
}

fn seats(row: &Row) -> &'static str {
    match row.seats {
        [Seat::Master] => "master",
        [Seat::Standby] => "standby",
        _ => "both",
    }
}

/// The moves, as a Mermaid diagram.
fn diagram() -> String {
    let mut moves: BTreeMap<(State, State), Vec<String>> = BTreeMap::new();
    for row in ROWS {
        for (from, to) in row.from.iter().filter_map(|from| row.to.map(|to| (*from, to))) {
            for on in row.on {
                let seat = if seats(row) == "both" { "" } else { seats(row) };
                let word = format!("{on:?} {seat}");
                moves.entry((from, to)).or_default().push(word.trim().to_owned());
            }
        }
    }
    let mut out = String::from("```mermaid\nstateDiagram-v2\n    [*] --> Cold\n");
    for ((from, to), on) in moves {
        writeln!(out, "    {from:?} --> {to:?} : {}", on.join(", ")).expect("a string");
    }
    out + "```\n"
}

fn pair_page() -> String {
    let source = include_str!("table.rs");
    let states = documented(source, "pub enum State {");
    let events = documented(source, "pub enum Event {");
    let mut out =
        format!("{PAIR_HEAD}{}\n## States\n\n| state | meaning |\n| --- | --- |\n", diagram());
    for state in State::ALL {
        let name = format!("{state:?}");
        writeln!(out, "| {name} | {} |", states[&name]).expect("a string");
    }
    out += "\n## Events\n\nThe first nine happen; of the others exactly one is the case at any moment. \"Fit\" means: server \
            up, network there, disk willing, no maintenance lock.\n\n| event | meaning |\n| --- | --- |\n";
    for event in Event::ALL {
        let name = format!("{event:?}");
        writeln!(out, "| {name} | {} |", events[&name]).expect("a string");
    }
    out += "\n## Rules\n\nThe last column is what the log and `tandem status` say.\n\n\
            | from | on | seat | to | why |\n| --- | --- | --- | --- | --- |\n";
    for row in ROWS {
        let to = row.to.map_or(String::from("*stays*"), |to| format!("**{to:?}**"));
        let list = |words: Vec<String>| words.join(", ");
        let from = list(row.from.iter().map(|state| format!("{state:?}")).collect());
        let on = list(row.on.iter().map(|event| format!("{event:?}")).collect());
        writeln!(out, "| {from} | {on} | {} | {to} | {} |", seats(row), row.why).expect("a string");
    }
    out
}

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

fn timings_page() -> String {
    let meanings = documented(include_str!("timings.rs"), "pub struct Timings {");
    let usual = Timings::of(Profile::Default);
    let sets = [usual, Timings::of(Profile::Fast), usual.relaxed()];
    let mut out = format!(
        "{TIMINGS_HEAD}Two profiles. Where the kernel refuses real-time priority, the limits that judge \
         somebody grow by {RELAX} (`relaxed`), and `tandem status` says so. The two machines need not agree: \
         each heartbeat carries its sender's silence limit and lateness, and the longer limit holds.\n\n\
         | time-out | default | fast | default, relaxed | meaning |\n| --- | --- | --- | --- | --- |\n"
    );
    for index in 0..usual.all().len() {
        let name = usual.all()[index].0;
        let [a, b, c] = sets.map(|set| ms(set.all()[index].1));
        writeln!(out, "| `{name}` | {a} | {b} | {c} | {} |", meanings[name]).expect("a string");
    }
    out += "\n## Rules between them\n\nChecked at start; a configuration that breaks one is refused with it.\n\n\
            | rule | why |\n| --- | --- |\n";
    for (rule, _, why) in usual.rules() {
        writeln!(out, "| {rule} | {why} |").expect("a string");
    }
    out += "\n## How long nobody serves\n\nTime-outs only; the disk (epoch), the kernel (address) and the server (restoring its \
            state) come on top.\n\n| what | default | fast | default, relaxed | made of |\n| --- | --- | --- | --- | --- |\n";
    let line = |what: &str, of: fn(&Timings) -> Duration, made: &str| {
        let [a, b, c] = sets.map(|set| ms(of(&set)));
        format!("| {what} | {a} | {b} | {c} | {made} |\n")
    };
    out +=
        &line("server killed or crashed", |_| Duration::ZERO, "its keeper tells the twin at once");
    out += &line("server hangs", Timings::server_hang, "progress + hung");
    out += &line("machine or its link dead", Timings::machine_death, "silence + probe");
    out += &line(
        "keeper dead, server alive",
        |set| set.silence,
        "silence; the lease has ended before",
    );
    out + &timeline(&usual)
}

/// The order of things after the active machine fell silent.
fn timeline(set: &Timings) -> String {
    let (beat, lease) = (set.beat.as_millis(), set.lease.as_millis());
    let (silence, probe) = (set.silence.as_millis(), set.machine_death().as_millis());
    format!(
        "\n## A keeper that dies, and a machine that dies (default)\n\n```text\n\
         ms  0        {beat}                         {lease}          {silence}          {probe}\n\
         \x20   |---------|-- - - - - - - - - - --|-----------|-----------|------>\n\
         \x20   last heartbeat,           the server's     the twin     nobody answered at\n\
         \x20   last renewal              lease ends:      may judge    the virtual address:\n\
         \x20   of the lease              it is quiet      (silence)    the twin's reign begins\n```\n"
    )
}

#[test]
fn the_page_of_the_table_is_the_table() {
    expect_file!["../../../docs/internals/pair.md"].assert_eq(&pair_page());
}

#[test]
fn the_page_of_the_time_outs_is_the_time_outs() {
    expect_file!["../../../docs/internals/timeouts.md"].assert_eq(&timings_page());
}
