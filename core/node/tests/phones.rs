//! The sample of registered phones that a server names to its keeper.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it fails")]

mod bench;

use bench::{ANNA, BEN, Bench};

#[test]
fn both_servers_name_phones_and_no_more_than_were_asked_for() {
    let mut bench = Bench::new();
    for server in &bench.servers {
        assert!(server.node.phones(bench.now, 8).is_empty());
    }
    bench.add_user("anna", "10");
    bench.add_user("ben", "20");
    bench.log_in(ANNA, "anna");
    bench.log_in(BEN, "ben");
    for server in &bench.servers {
        let node = &server.node;
        assert_eq!(node.phones(bench.now, 8), [ANNA, BEN].map(|phone| phone.parse().unwrap()));
        assert_eq!(node.phones(bench.now, 1).len(), 1);
        assert!(node.phones(bench.now, 0).is_empty());
    }
}
