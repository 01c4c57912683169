//! What a REGISTER does, told as phones see it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::net::SocketAddr;

use tandem_registrar::{
    Admit, Aor, Binding, CALL_ID_BYTES_MAX, CONTACT_BYTES_MAX, Config, Refused, Registered,
    Registrar, USER_AGENT_BYTES_MAX,
};
use tandem_sip::{HeaderName, Method, Request, Uri};
use tandem_types::{Duration, Flow, Instant, Transport};

#[test]
fn a_phone_logs_in_renews_and_logs_out() {
    let mut world = World::new();
    let one = world.ok(&rq("a", 1, &["<sip:anna@10.0.0.1:5060>"]));
    assert!(one.changed);
    assert_eq!(seconds_left(&world, &one.bindings[0]), 3_600);
    world.wait(1_000);
    let two = world.ok(&rq("a", 2, &["<sip:anna@10.0.0.1:5060>;expires=600"]));
    assert_eq!(two.bindings.len(), 1);
    assert_eq!(seconds_left(&world, &two.bindings[0]), 600);
    let gone = world.ok(&rq("a", 3, &["<sip:anna@10.0.0.1:5060>;expires=0"]));
    assert_eq!((gone.bindings.len(), gone.changed), (0, true));
    assert_eq!(world.registrar.bindings_total(), 0);
}

#[test]
fn without_a_contact_it_is_a_question_and_changes_nothing() {
    let mut world = World::new();
    world.ok(&rq("a", 1, &["<sip:anna@10.0.0.1>"]));
    world.registrar.take_changes();
    let answer = world.ok(&rq("b", 1, &[]));
    assert_eq!((answer.bindings.len(), answer.changed), (1, false));
    assert_eq!(world.registrar.take_changes(), []);
}

#[test]
fn a_star_logs_out_everywhere() {
    let mut world = World::new();
    world.ok(&rq("a", 1, &["<sip:anna@10.0.0.1>"]));
    world.ok(&rq("b", 7, &["<sip:anna@10.0.0.2>"]));
    let star = |call_id, cseq| rq(call_id, cseq, &["*"]).with(HeaderName::Expires, "0");
    assert_eq!(world.register(&star("b", 6)), Err(Refused::OutOfOrder));
    assert_eq!(world.registrar.bindings_total(), 2, "all or nothing");
    assert_eq!(world.ok(&star("b", 8)).bindings, []);
}

#[test]
fn while_no_device_is_admitted_those_that_are_in_renew_move_and_log_out() {
    let mut world = World::new();
    world.ok(&rq("a", 1, &["<sip:anna@10.0.0.1>"]));
    world.ok(&rq("b", 1, &["<sip:anna@10.0.0.2>"]));
    world.admit = Admit::Known;
    let new = [
        rq("c", 1, &["<sip:anna@10.0.0.3>"]),
        rq("a", 2, &["<sip:anna@10.0.0.1>", "<sip:anna@10.0.0.3>"]),
    ];
    for request in new {
        let refused = world.register(&request).unwrap_err();
        assert_eq!((&refused, refused.status()), (&Refused::NotAdmitted, 503));
        assert_eq!(world.registrar.bindings_total(), 2, "all or nothing");
    }
    world.ok(&rq("restarted", 1, &["<sip:anna@10.0.0.1>"]));
    let moved = world.ok(&rq("b", 2, &["<sip:anna@10.0.0.9>"]));
    assert_eq!(moved.bindings.len(), 2);
    assert_eq!(world.ok(&rq("question", 1, &[])).bindings.len(), 2);
    assert_eq!(world.ok(&rq("b", 3, &["<sip:anna@10.0.0.9>;expires=0"])).bindings.len(), 1);
    assert!(world.register(&rq("b", 4, &["<sip:anna@10.0.0.9>"])).is_err(), "it is out now");
    let absent = world.ok(&rq("d", 1, &["<sip:anna@10.0.0.4>;expires=0"]));
    assert!(!absent.changed);
}

#[test]
fn a_phone_is_found_by_its_address_and_the_user_part_of_its_contact() {
    let mut world = World::new();
    let uri = |text: &str| text.parse::<Uri>().unwrap();
    let found = |world: &World, ip: &str, contact: &str| {
        world.registrar.at(ip.parse().unwrap(), &uri(contact)).count()
    };
    world.ok(&rq("a", 1, &["<sip:anna@10.0.0.1:4000>"]));
    world.ok(&rq("b", 1, &["<sip:anna@10.0.0.7>"]));
    world.ok(&rq("c", 1, &["<sip:10.0.0.7>"]));
    assert_eq!(
        found(&world, "10.0.0.1", "sip:anna@host:99"),
        2,
        "the address counts, not the Contact's"
    );
    assert_eq!(found(&world, "10.0.0.1", "sip:ben@host"), 0);
    assert_eq!(found(&world, "10.0.0.1", "sip:host"), 1);
    assert_eq!(found(&world, "10.0.0.7", "sip:anna@host"), 0);
    world.ok(&rq("b", 2, &["<sip:anna@10.0.0.7>;expires=0"]));
    assert_eq!(
        (found(&world, "10.0.0.1", "sip:anna@host"), world.registrar.bindings_total()),
        (1, 2)
    );
    world.wait(3_600);
    world.registrar.expire(world.now);
    assert_eq!(
        (found(&world, "10.0.0.1", "sip:anna@host"), world.registrar.bindings_total()),
        (0, 0)
    );
}

#[test]
fn a_star_needs_expires_zero_and_stands_alone() {
    let mut world = World::new();
    let no_expires = rq("a", 1, &["*"]);
    let wrong = rq("a", 1, &["*"]).with(HeaderName::Expires, "60");
    let two = rq("a", 1, &["*", "<sip:anna@10.0.0.1>"]).with(HeaderName::Expires, "0");
    for request in [no_expires, wrong, two] {
        let refused = world.register(&request).unwrap_err();
        assert_eq!(refused.status(), 400, "{refused}");
    }
}

#[test]
fn the_same_request_twice_changes_nothing_the_second_time() {
    let mut world = World::new();
    let request = rq("a", 1, &["<sip:anna@10.0.0.1>;expires=600"]);
    let first = world.ok(&request);
    world.wait(100);
    let second = world.ok(&request);
    assert!(!second.changed);
    assert_eq!(second.bindings, first.bindings);
    assert_eq!(seconds_left(&world, &second.bindings[0]), 500, "it is not renewed by that");
}

#[test]
fn an_older_request_under_the_same_call_id_is_refused() {
    let mut world = World::new();
    world.ok(&rq("a", 5, &["<sip:anna@10.0.0.1>"]));
    let late = rq("a", 4, &["<sip:anna@10.0.0.1>;expires=0"]);
    assert_eq!(world.register(&late), Err(Refused::OutOfOrder));
    assert_eq!(Refused::OutOfOrder.status(), 500);
    let equal_but_different = rq("a", 5, &["<sip:anna@10.0.0.1>;expires=0"]);
    assert_eq!(world.register(&equal_but_different), Err(Refused::OutOfOrder));
    world.ok(&rq("b", 1, &["<sip:anna@10.0.0.1>"]));
    assert_eq!(world.registrar.bindings_total(), 1, "another Call-ID starts its own count");
}

#[test]
fn a_request_takes_effect_as_a_whole_or_not_at_all() {
    let mut world = World::new();
    world.ok(&rq("a", 5, &["<sip:anna@10.0.0.1>"]));
    let half_late = rq("a", 4, &["<sip:anna@10.0.0.2>", "<sip:anna@10.0.0.1>"]);
    assert_eq!(world.register(&half_late), Err(Refused::OutOfOrder));
    let half_brief = rq("a", 6, &["<sip:anna@10.0.0.2>", "<sip:anna@10.0.0.3>;expires=1"]);
    assert_eq!(world.register(&half_brief), Err(Refused::TooBrief(60)));
    assert_eq!(contacts(&world), ["sip:anna@10.0.0.1"]);
}

#[test]
fn the_time_asked_for_is_granted_within_limits() {
    let cases = [
        (None, None, Ok(3_600)),
        (None, Some("120"), Ok(120)),
        (Some("90"), Some("120"), Ok(90)),
        (Some("60"), None, Ok(60)),
        (Some("59"), None, Err(Refused::TooBrief(60))),
        (Some("1"), None, Err(Refused::TooBrief(60))),
        (Some("7200"), None, Ok(7_200)),
        (Some("7201"), None, Ok(7_200)),
        (Some("99999999999999999999"), None, Ok(7_200)),
        (Some("soon"), None, Ok(3_600)),
        (None, Some("soon"), Ok(3_600)),
    ];
    for (own, general, want) in cases {
        let mut world = World::new();
        let own = own.map(|own| format!(";expires={own}")).unwrap_or_default();
        let mut request = rq("a", 1, &[&format!("<sip:anna@10.0.0.1>{own}")]);
        if let Some(general) = general {
            request = request.with(HeaderName::Expires, general);
        }
        let got = world.register(&request);
        let got = got.map(|done| seconds_left(&world, &done.bindings[0]));
        assert_eq!(got, want, "{own:?} {general:?}");
    }
}

#[test]
fn a_phone_with_a_new_address_replaces_itself() {
    let mut world = World::new();
    world.ok(&rq("a", 1, &["<sip:anna@10.0.0.1>"]));
    world.ok(&rq("a", 2, &["<sip:anna@10.0.0.9>"]));
    assert_eq!(contacts(&world), ["sip:anna@10.0.0.9"], "known by its Call-ID");

    let instance = "+sip.instance=\"<urn:uuid:1>\"";
    world.ok(&rq("b", 1, &[&format!("<sip:anna@10.0.1.1>;{instance}")]));
    world.ok(&rq("c", 1, &[&format!("<sip:anna@10.0.1.9>;{instance}")]));
    let left = ["sip:anna@10.0.1.9", "sip:anna@10.0.0.9"];
    assert_eq!(contacts(&world), left, "known by its instance");

    let other = "+sip.instance=\"<urn:uuid:2>\"";
    world.ok(&rq("c", 2, &[&format!("<sip:anna@10.0.1.8>;{other}")]));
    assert_eq!(world.registrar.bindings_total(), 3, "another instance is another phone");
}

#[test]
fn two_flows_of_one_instance_are_two_bindings() {
    let mut world = World::new();
    let flow = |n: u32| format!("<sip:anna@10.0.0.{n}>;+sip.instance=\"<urn:uuid:1>\";reg-id={n}");
    world.ok(&rq("a", 1, &[&flow(1)]));
    world.ok(&rq("a", 2, &[&flow(2)]));
    assert_eq!(world.registrar.bindings_total(), 2);
    world.ok(&rq("a", 3, &[&flow(1)]));
    assert_eq!(world.registrar.bindings_total(), 2);
}

#[test]
fn two_addresses_in_one_request_are_two_bindings() {
    let mut world = World::new();
    let instance = "+sip.instance=\"<urn:uuid:1>\"";
    let both = [format!("<sip:anna@10.0.0.1>;{instance}"), format!("<sip:anna@[::1]>;{instance}")];
    let both: Vec<&str> = both.iter().map(String::as_str).collect();
    assert_eq!(world.ok(&rq("a", 1, &both)).bindings.len(), 2);
}

#[test]
fn addresses_are_compared_as_the_rfc_says() {
    let mut world = World::new();
    world.ok(&rq("a", 1, &["<sip:anna@Phone.Example.org;transport=udp>"]));
    world.ok(&rq("b", 1, &["<sip:anna@phone.example.ORG;transport=UDP>"]));
    assert_eq!(world.registrar.bindings_total(), 1);
    world.ok(&rq("b", 2, &["<sip:anna@phone.example.org:5061;transport=udp>"]));
    assert_eq!(world.registrar.bindings_total(), 1, "the same Call-ID: it moved");
}

#[test]
fn the_last_renewed_comes_first() {
    let mut world = World::new();
    for n in 1..=3 {
        world.ok(&rq(&n.to_string(), 1, &[&format!("<sip:anna@10.0.0.{n}>")]));
    }
    world.ok(&rq("2", 2, &["<sip:anna@10.0.0.2>"]));
    let want = ["sip:anna@10.0.0.2", "sip:anna@10.0.0.3", "sip:anna@10.0.0.1"];
    assert_eq!(contacts(&world), want);
}

#[test]
fn devices_end_at_the_limit_and_those_that_are_in_may_renew() {
    let mut world = World::new();
    for n in 1..=4 {
        world.ok(&rq(&n.to_string(), 1, &[&format!("<sip:anna@10.0.0.{n}>")]));
    }
    let refused = world.register(&rq("5", 1, &["<sip:anna@10.0.0.5>"])).unwrap_err();
    assert_eq!((refused.status(), refused), (403, Refused::TooManyDevices));
    world.ok(&rq("1", 2, &["<sip:anna@10.0.0.1>"]));
    world.ok(&rq("1", 3, &["<sip:anna@10.0.0.1>;expires=0"]));
    world.ok(&rq("5", 1, &["<sip:anna@10.0.0.5>"]));
}

#[test]
fn what_is_kept_of_a_stranger_ends_at_the_limits() {
    let mut world = World::new();
    let fits = "a".repeat(CALL_ID_BYTES_MAX);
    world.ok(&rq(&fits, 1, &["<sip:anna@10.0.0.1>"]));
    let refused = world.register(&rq(&(fits + "a"), 1, &["<sip:anna@10.0.0.1>"]));
    assert_eq!(refused, Err(Refused::Malformed("the Call-ID is too long")));

    let uri = "sip:anna@10.0.0.2";
    let fits = format!("<{uri}>;x={}", "y".repeat(CONTACT_BYTES_MAX - uri.len() - 3));
    world.ok(&rq("b", 1, &[&fits]));
    let refused = world.register(&rq("b", 2, &[&(fits + "y")]));
    assert_eq!(refused, Err(Refused::Malformed("a Contact is too long")));

    let long = "z".repeat(USER_AGENT_BYTES_MAX + 1);
    let request = rq("c", 1, &["<sip:anna@10.0.0.3>"]).with(HeaderName::UserAgent, long);
    assert_eq!(world.ok(&request).bindings[0].user_agent.len(), USER_AGENT_BYTES_MAX);
}

#[test]
fn a_contact_must_be_a_sip_address() {
    let mut world = World::new();
    for contact in ["<tel:+49231>", "<mailto:anna@example.org>"] {
        assert_eq!(world.register(&rq("a", 1, &[contact])).unwrap_err().status(), 400);
    }
}

#[test]
fn the_answer_lists_what_was_granted_and_what_the_phone_said() {
    let mut world = World::new();
    let contact = "<sip:anna@10.0.0.1>;q=0.5;+sip.instance=\"<urn:uuid:1>\";expires=9999";
    let done = world.ok(&rq("a", 1, &[contact]));
    world.wait(200);
    let listed = done.bindings[0].to_contact(world.now).to_string();
    let want = "<sip:anna@10.0.0.1>;+sip.instance=\"<urn:uuid:1>\";q=0.500;expires=7000";
    assert_eq!(listed, want);
}

#[test]
fn bindings_end_in_time() {
    let mut world = World::new();
    world.ok(&rq("a", 1, &["<sip:anna@10.0.0.1>;expires=60"]));
    world.ok(&rq("b", 1, &["<sip:anna@10.0.0.2>;expires=90"]));
    world.registrar.take_changes();
    assert_eq!(world.registrar.next_timeout(), Some(world.now + Duration::from_secs(60)));
    world.wait(59);
    assert_eq!(world.registrar.expire(world.now), []);
    world.wait(1);
    assert_eq!(contacts(&world), ["sip:anna@10.0.0.2"], "not rung, even if nobody has looked yet");
    assert_eq!(world.registrar.expire(world.now), [anna()]);
    assert_eq!(world.registrar.take_changes(), [anna()]);
    world.wait(30);
    assert_eq!(world.registrar.expire(world.now), [anna()]);
    assert_eq!(world.registrar.next_timeout(), None);
    assert_eq!(world.registrar.checkpoint(world.now, &anna()), None);
}

#[test]
fn the_twin_goes_on_with_the_time_that_is_left() {
    let mut world = World::new();
    world.ok(&rq("a", 7, &["<sip:anna@10.0.0.1>;expires=600;reg-id=1"]));
    world.ok(&rq("b", 1, &["<sip:anna@10.0.0.2>;expires=60;q=0.3"]));
    world.wait(10);
    let saved = world.registrar.checkpoint(world.now, &anna()).unwrap();

    let mut twin = World::new();
    twin.wait(77_777);
    twin.registrar.restore(twin.now, anna(), saved.clone(), Duration::from_secs(5));
    let left: Vec<u64> = twin
        .registrar
        .bindings(twin.now, &anna())
        .map(|binding| seconds_left(&twin, binding))
        .collect();
    assert_eq!(left, [45, 585]);
    assert_eq!(twin.registrar.take_changes(), [], "nothing changed: this is what is stored");
    assert_eq!(twin.register(&rq("a", 6, &["<sip:anna@10.0.0.1>"])), Err(Refused::OutOfOrder));
    let again = rq("a", 7, &["<sip:anna@10.0.0.1>;expires=600;reg-id=1"]);
    assert!(!twin.ok(&again).changed, "the phone repeats to the twin what it sent to us");

    twin.registrar.restore(twin.now, anna(), saved.clone(), Duration::from_secs(50));
    assert_eq!(contacts(&twin), ["sip:anna@10.0.0.1"]);
    assert_eq!(twin.registrar.take_changes(), [anna()], "one has ended on the way");
    twin.registrar.restore(twin.now, anna(), saved, Duration::from_secs(3_600));
    assert_eq!(twin.registrar.bindings_total(), 0);
    assert_eq!(twin.registrar.next_timeout(), None);
}

#[test]
fn a_removed_user_is_logged_out() {
    let mut world = World::new();
    world.ok(&rq("a", 1, &["<sip:anna@10.0.0.1>"]));
    world.registrar.take_changes();
    world.registrar.remove(&anna());
    assert_eq!(world.registrar.take_changes(), [anna()]);
    assert_eq!(world.registrar.all().count(), 0);
    world.registrar.remove(&anna());
    assert_eq!(world.registrar.take_changes(), []);
}

#[test]
fn clearing_is_no_change() {
    let mut world = World::new();
    world.ok(&rq("a", 1, &["<sip:anna@10.0.0.1>"]));
    world.registrar.clear();
    assert_eq!(world.registrar.take_changes(), []);
    assert_eq!((world.registrar.bindings_total(), world.registrar.next_timeout()), (0, None));
}

#[test]
fn a_phone_is_called_where_it_can_be_reached() {
    use Transport::{Tcp, Udp};
    let cases = [
        ("its own port", Udp, "sip:anna@10.0.0.1:5062", "10.0.0.1:40000", "10.0.0.1:5062", None),
        ("the usual port", Udp, "sip:anna@10.0.0.1", "10.0.0.1:40000", "10.0.0.1:5060", None),
        ("behind a NAT", Udp, "sip:a@192.168.1.5:5060", "10.0.0.1:4000", "10.0.0.1:4000", None),
        ("by a name", Udp, "sip:anna@phone.example", "10.0.0.1:5060", "10.0.0.1:5060", None),
        ("IPv6", Udp, "sip:anna@[2001:db8::1]", "[2001:db8::1]:9", "[2001:db8::1]:5060", None),
        (
            "its connection, then its port",
            Tcp,
            "sip:anna@10.0.0.1:5062;transport=tcp",
            "10.0.0.1:40000",
            "10.0.0.1:40000",
            Some("10.0.0.1:5062"),
        ),
        ("its connection only", Tcp, "sip:a@192.168.1.5", "10.0.0.1:4000", "10.0.0.1:4000", None),
    ];
    for (what, transport, contact, from, to, then) in cases {
        let mut world = World::new();
        world.flow = Flow { transport, remote: address(from), ..world.flow };
        let done = world.ok(&rq("a", 1, &[&format!("<{contact}>")]));
        let binding = &done.bindings[0];
        assert_eq!(binding.target(), Flow { remote: address(to), ..world.flow }, "{what}");
        assert_eq!(binding.fallback().map(|flow| flow.remote), then.map(address), "{what}");
    }
}

struct World {
    registrar: Registrar,
    now: Instant,
    flow: Flow,
    admit: Admit,
}

impl World {
    fn new() -> Self {
        let (local, remote) = (address("10.0.0.100:5060"), address("10.0.0.1:5060"));
        Self {
            registrar: Registrar::new(Config::default()),
            now: Instant::from_micros(1_000_000),
            flow: Flow { transport: Transport::Udp, local, remote },
            admit: Admit::All,
        }
    }

    fn register(&mut self, request: &Request) -> Result<Registered, Refused> {
        self.registrar.register(self.now, &anna(), self.flow, request, self.admit)
    }

    #[track_caller]
    fn ok(&mut self, request: &Request) -> Registered {
        self.register(request).unwrap()
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }
}

fn rq(call_id: &str, cseq: u32, contacts: &[&str]) -> Request {
    let uri = Uri::parse(b"sip:example.org").unwrap();
    let request = Request::new(Method::Register, uri)
        .with(HeaderName::CallId, call_id)
        .with(HeaderName::CSeq, format!("{cseq} REGISTER"));
    contacts.iter().fold(request, |request, contact| request.with(HeaderName::Contact, *contact))
}

fn anna() -> Aor {
    Aor::new("anna")
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn contacts(world: &World) -> Vec<String> {
    let bindings = world.registrar.bindings(world.now, &anna());
    bindings.map(|binding| binding.contact.to_string()).collect()
}

fn seconds_left(world: &World, binding: &Binding) -> u64 {
    binding.expires.remaining_from(world.now).as_secs()
}
