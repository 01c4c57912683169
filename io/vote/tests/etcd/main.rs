//! The vote of a real etcd: taken, kept, given back, lost; and etcd killed, stopped and locked.
#![allow(clippy::unwrap_used)]

mod cluster;

use std::os::fd::AsFd as _;

use cluster::{Etcd, Papers, folder};
use tandem_os::clock;
use tandem_os::poll::{Want, poll};
use tandem_types::{Duration, Epoch, Instant, Seat};
use tandem_vote::{
    Ask, EtcdConfig, EtcdLease, Lease as _, Login, MARGIN_PART, Side, TTL, Tls, Voted,
};

/// A test that waits so long for one answer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(endpoints: &[&str], seat: Seat) -> EtcdConfig {
    EtcdConfig {
        endpoints: endpoints.iter().map(|url| (*url).to_owned()).collect(),
        prefix: String::from("/tandem/test/"),
        side: Side { seat, life: 7 },
        login: None,
        tls: Tls::default(),
    }
}

/// One keeper's end, with the number of its last request.
struct End {
    lease: EtcdLease,
    seat: Seat,
    number: u64,
}

impl End {
    fn new(config: &EtcdConfig) -> Self {
        Self { lease: EtcdLease::start(config).unwrap(), seat: config.side.seat, number: 0 }
    }

    fn send(&mut self, reign: u32) -> Instant {
        self.number += 1;
        let epoch = Epoch { number: reign, seat: self.seat };
        let now = clock::now();
        self.lease.ask(now, Ask { number: self.number, epoch, term: TTL });
        now
    }

    /// Waits for the one answer that is due.
    fn answer(&mut self) -> Voted {
        let until = clock::now() + PATIENCE;
        loop {
            let mut answers = self.lease.answers();
            if let Some(voted) = answers.pop() {
                assert!(answers.is_empty(), "one request, one answer: {answers:?}");
                return voted;
            }
            assert!(clock::now() < until, "no answer: {:?}", self.lease.standing());
            poll(&[(self.lease.as_fd(), Want::Read)], Some(until)).unwrap();
        }
    }

    /// Asks once, and waits for the answer.
    fn ask_once(&mut self, reign: u32) -> Voted {
        self.send(reign);
        self.answer()
    }

    /// Asks until it is answered: a disk may be slow.
    fn ask(&mut self, reign: u32) -> Voted {
        let until = clock::now() + PATIENCE;
        loop {
            match self.ask_once(reign) {
                Voted::Unreachable { why, .. } => assert!(clock::now() < until, "still {why}"),
                answered @ (Voted::Granted { .. } | Voted::Refused { .. }) => return answered,
            }
        }
    }

    /// Asks until it is granted: when the request was sent that was.
    fn ask_until_granted(&mut self, reign: u32) -> Instant {
        let until = clock::now() + PATIENCE;
        loop {
            let since = self.send(reign);
            match self.answer() {
                Voted::Granted { .. } => return since,
                other @ (Voted::Refused { .. } | Voted::Unreachable { .. }) => {
                    assert!(clock::now() < until, "still {other:?}");
                }
            }
        }
    }
}

fn granted(voted: &Voted) -> bool {
    matches!(voted, Voted::Granted { .. })
}

/// Why a request was not answered.
fn unreachable(voted: Voted) -> String {
    match voted {
        Voted::Unreachable { why, .. } => why,
        other @ (Voted::Granted { .. } | Voted::Refused { .. }) => panic!("{other:?}"),
    }
}

#[test]
fn one_side_has_the_vote_until_it_gives_it_back() {
    let etcd = Etcd::start("give-back");
    let mut master = End::new(&config(&[&etcd.url], Seat::Master));
    let mut standby = End::new(&config(&[&etcd.url], Seat::Standby));
    let Voted::Granted { term, .. } = master.ask(4) else { panic!("free") };
    assert_eq!(term, TTL - TTL / MARGIN_PART);
    let Voted::Refused { left, highest, .. } = standby.ask(5) else { panic!("taken") };
    assert!(left > Duration::ZERO && left <= TTL + Duration::from_secs(1), "{left:?}");
    assert_eq!(highest, Epoch { number: 4, seat: Seat::Master });
    assert!(granted(&master.ask(4)), "kept alive");
    master.lease.release(highest);
    standby.ask_until_granted(5);
    // The reign of the master is over: it must mint one above.
    let Voted::Refused { highest, .. } = master.ask(4) else { panic!("too low") };
    assert_eq!(highest, Epoch { number: 5, seat: Seat::Standby });
    assert_eq!(standby.lease.standing().trouble, None);
}

#[test]
fn a_later_reign_of_the_same_side_keeps_the_vote() {
    let etcd = Etcd::start("later");
    let mut master = End::new(&config(&[&etcd.url], Seat::Master));
    assert!(granted(&master.ask(4)));
    assert!(granted(&master.ask(6)));
    let mut standby = End::new(&config(&[&etcd.url], Seat::Standby));
    let Voted::Refused { highest, .. } = standby.ask(5) else { panic!("taken") };
    assert_eq!(highest.number, 6);
}

#[test]
fn the_right_of_one_side_ends_before_the_other_gets_the_vote() {
    let etcd = Etcd::start("expiry");
    let mut master = End::new(&config(&[&etcd.url], Seat::Master));
    let since = master.ask_until_granted(1);
    let term = TTL - TTL / MARGIN_PART;
    drop(master);
    // A keeper that was started again is somebody else.
    let again = EtcdConfig {
        side: Side { seat: Seat::Master, life: 8 },
        ..config(&[&etcd.url], Seat::Master)
    };
    assert!(matches!(End::new(&again).ask(1), Voted::Refused { .. }));
    let mut standby = End::new(&config(&[&etcd.url], Seat::Standby));
    let granted_to_other = standby.ask_until_granted(2);
    assert!(since + term < granted_to_other, "{since} {term:?} {granted_to_other}");
}

#[test]
fn an_etcd_that_was_killed_is_out_of_reach_and_remembers_when_it_is_back() {
    let mut etcd = Etcd::start("killed");
    let mut master = End::new(&config(&[&etcd.url], Seat::Master));
    assert!(granted(&master.ask(1)));
    etcd.kill();
    let why = unreachable(master.ask_once(1));
    assert!(why.contains(&etcd.url), "{why}");
    assert!(master.lease.standing().trouble.is_some());
    etcd.start_again();
    let mut standby = End::new(&config(&[&etcd.url], Seat::Standby));
    assert!(matches!(standby.ask(2), Voted::Refused { .. }), "the promise outlived etcd");
    assert!(granted(&master.ask(1)));
    assert_eq!(master.lease.standing().trouble, None);
}

#[test]
fn an_etcd_that_stands_still_is_given_up_and_a_late_word_counts_no_more() {
    let etcd = Etcd::start("stopped");
    let mut master = End::new(&config(&[&etcd.url], Seat::Master));
    assert!(granted(&master.ask(1)));
    etcd.stop();
    let since = master.send(1);
    unreachable(master.answer());
    let patience = since.elapsed_until(clock::now());
    assert!(patience < TTL, "given up after {patience:?}");
    master.send(1);
    master.lease.release(Epoch { number: 1, seat: Seat::Master });
    etcd.go_on();
    assert!(granted(&master.ask(1)), "the answer to the request before was not reported");
}

#[test]
fn the_next_endpoint_is_asked_where_one_is_dead() {
    let (mut dead, alive) = (Etcd::start("dead"), Etcd::start("alive"));
    let mut master = End::new(&config(&[&dead.url, &alive.url], Seat::Master));
    dead.kill();
    assert!(granted(&master.ask(1)));
    assert!(granted(&master.ask(1)));
}

#[test]
fn a_cluster_with_passwords_wants_the_right_one() {
    let etcd = Etcd::start("login");
    etcd.set_password("root", "right");
    let login = |password: &str| {
        let login = Login { user: String::from("root"), password: password.to_owned() };
        EtcdConfig { login: Some(login), ..config(&[&etcd.url], Seat::Master) }
    };
    let why = unreachable(End::new(&config(&[&etcd.url], Seat::Master)).ask_once(1));
    assert!(why.contains("user name is empty"), "{why}");
    let why = unreachable(End::new(&login("wrong")).ask_once(1));
    assert!(why.contains("authentication failed"), "{why}");
    assert!(!format!("{:?}", login("wrong")).contains("wrong"), "a password does not print");
    assert!(granted(&End::new(&login("right")).ask(1)));
}

#[test]
fn a_cluster_with_certificates_wants_ours_and_shows_its_own() {
    let papers = Papers::make(&folder("papers"));
    let etcd = Etcd::start_with("secure", Some(&papers));
    let tls = Tls {
        authority: Some(papers.authority.clone()),
        client: Some((papers.client.clone(), papers.client_key.clone())),
    };
    let with = |tls: &Tls| EtcdConfig { tls: tls.clone(), ..config(&[&etcd.url], Seat::Master) };
    assert!(granted(&End::new(&with(&tls)).ask(1)));
    unreachable(End::new(&with(&Tls { client: None, ..tls.clone() })).ask_once(1));
    let stranger = Papers::make(&folder("stranger"));
    let wrong = Tls { authority: Some(stranger.authority.clone()), ..tls };
    unreachable(End::new(&with(&wrong)).ask_once(1));
}

#[test]
fn what_can_not_work_is_refused_at_the_start() {
    for (endpoints, tls, why) in [
        (&["127.0.0.1:2379"][..], Tls::default(), "expected http://"),
        (&[], Tls::default(), "at least one"),
        (&["https://127.0.0.1:1"], Tls::default(), "https needs `authority`"),
        (
            &["https://127.0.0.1:1"],
            Tls { authority: Some("/nowhere.pem".into()), client: None },
            "cannot read /nowhere.pem",
        ),
    ] {
        let wrong = EtcdConfig { tls, ..config(endpoints, Seat::Master) };
        let words = wrong.check().unwrap_err();
        assert!(words.contains(why), "{words}");
    }
}
