//! Digest authentication: the examples of the RFCs, and what a nonce is good for.

use core::net::IpAddr;

use tandem_sip::digest::{
    Algorithm, Challenge, Credentials, Ha1, MAX_NONCE_COUNTS, NONCE_LIFE_SECONDS, NonceCheck,
    NonceCounts, NonceId, NonceKey, NonceUse, respond, verify,
};
use tandem_sip::{HeaderName, Headers, MAX_PARAMS, Method};

fn get() -> Method {
    Method::from_bytes(b"GET").expect("a token")
}

/// Client and server agree on `want`.
fn check(
    challenge: &Challenge,
    method: &Method,
    uri: &str,
    who: [&str; 2],
    cnonce: &str,
    count: u32,
    want: &str,
) {
    let [user, password] = who.map(str::as_bytes);
    let given =
        respond(challenge, method, uri.as_bytes(), user, password, cnonce.as_bytes(), count);
    assert_eq!(core::str::from_utf8(&given.response), Ok(want));
    let read = Credentials::parse(&given.to_bytes()).expect("reads what it prints");
    assert_eq!(read, given);
    assert!(verify(&read, method, &Ha1::new(user, &challenge.realm, password)));
    assert!(!verify(&read, method, &Ha1::new(user, &challenge.realm, b"wrong")));
    assert!(!verify(&read, &Method::Bye, &Ha1::new(user, &challenge.realm, password)));
    let other = Credentials { uri: b"sip:other".to_vec(), ..read.clone() };
    assert!(!verify(&other, method, &Ha1::new(user, &challenge.realm, password)));
    for response in [b"".as_slice(), b"zz", &given.response[1..]] {
        let cut = Credentials { response: response.to_vec(), ..read.clone() };
        assert!(!verify(&cut, method, &Ha1::new(user, &challenge.realm, password)));
    }
}

#[test]
fn the_example_of_rfc_2617_holds() {
    let mut challenge =
        Challenge::new("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", Algorithm::Md5);
    challenge.opaque = Some(b"5ccc069c403ebaf9f0171e9517f40e41".to_vec());
    let who = ["Mufasa", "Circle Of Life"];
    let want = "6629fae49393a05397450978507c4ef1";
    check(&challenge, &get(), "/dir/index.html", who, "0a4f113b", 1, want);
}

#[test]
fn the_example_of_rfc_2069_holds_without_qop() {
    let mut challenge =
        Challenge::new("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", Algorithm::Md5);
    challenge.has_qop = false;
    let who = ["Mufasa", "CircleOfLife"];
    let want = "1949323746fe6a43ef61f9606e7febea";
    check(&challenge, &get(), "/dir/index.html", who, "", 1, want);
}

#[test]
fn the_examples_of_rfc_7616_hold() {
    let cases = [
        (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ];
    for (algorithm, want) in cases {
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let mut challenge = Challenge::new("http-auth@example.org", nonce, algorithm);
        challenge.opaque = Some(b"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS".to_vec());
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let who = ["Mufasa", "Circle of Life"];
        check(&challenge, &get(), "/dir/index.html", who, cnonce, 1, want);
    }
}

#[test]
fn a_registration_like_that_of_rfc_3261_is_proved_with_both_algorithms() {
    let cases = [
        (Algorithm::Md5, true, "035e281afccedb7d4725baddf9754516"),
        (Algorithm::Md5, false, "4441045a8075db3ead543693997e2a0e"),
        (
            Algorithm::Sha256,
            true,
            "575fa61105b63eb2b40b6e7a839428ef944bf0244b15f9db3341571488748c1b",
        ),
        (
            Algorithm::Sha256,
            false,
            "10503915e86126c221a99ecec4bd61ed6a5f0c1bac8125b5df9db47ab06503c1",
        ),
    ];
    for (algorithm, has_qop, want) in cases {
        let nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
        let challenge = Challenge { has_qop, ..Challenge::new("biloxi.com", nonce, algorithm) };
        let who = ["bob", "zanzibar"];
        check(&challenge, &Method::Register, "sip:biloxi.com", who, "0a4f113b", 10, want);
    }
}

#[test]
fn several_challenges_are_offered_the_stronger_first_and_read_back() {
    let mut headers = Headers::new();
    for algorithm in Algorithm::OFFERED {
        headers.push(HeaderName::WwwAuthenticate, Challenge::new("a \"b\", c", "n", algorithm));
    }
    headers.push(
        HeaderName::WwwAuthenticate,
        "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256",
    );
    headers.push(HeaderName::WwwAuthenticate, "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"");
    headers.push(HeaderName::WwwAuthenticate, "Basic realm=\"r\"");
    headers.push(
        HeaderName::WwwAuthenticate,
        "digest  Realm = \"r\" ,nonce=\"n\",stale=TRUE,qop=\"auth-int, AUTH\",x=y",
    );
    let read: Vec<_> = headers.challenges(&HeaderName::WwwAuthenticate).collect();
    let algorithms: Vec<_> = read.iter().map(|challenge| challenge.algorithm).collect();
    assert_eq!(algorithms, [Algorithm::Sha256, Algorithm::Md5, Algorithm::Md5]);
    assert_eq!(read[0].realm, b"a \"b\", c");
    assert!(read[2].is_stale && read[2].has_qop && !read[0].is_stale);
    let printed = headers.get(&HeaderName::WwwAuthenticate).unwrap();
    let want = br#"Digest realm="a \"b\", c", nonce="n", algorithm=SHA-256, qop="auth""#;
    assert_eq!(printed, want);
}

#[test]
fn credentials_are_read_as_telephones_write_them() {
    let good = "DIGEST username=\"J\u{fc}rgen\",realm=\"r\",nonce=\"n\",uri=\"sip:a,b@h\",response=\"00\",\
                algorithm=\"sha-256\",qop=\"auth\",nc=0000000A,cnonce=\"c\",opaque=\"\",x=1";
    let read = Credentials::parse(good.as_bytes()).unwrap();
    assert_eq!(
        (read.username.as_slice(), read.algorithm),
        ("J\u{fc}rgen".as_bytes(), Algorithm::Sha256)
    );
    assert_eq!((read.uri.as_slice(), read.qop.unwrap().count), (b"sip:a,b@h".as_slice(), 10));
    let bad = [
        good.replace("DIGEST", "Basic"),
        good.replace("sha-256", "MD5-sess"),
        good.replace("\"auth\"", "auth-int"),
        good.replace("0000000A", "1"),
        good.replace("nc=", "nd="),
        good.replace("username", "user"),
        good.replace("x=1", "realm=\"s\""),
        good.replace("\"c\"", "\"c"),
        good.replace("x=1", "x"),
    ];
    let with = |more: usize| {
        format!("{good}{}", (0..more).map(|at| format!(",y{at}=1")).collect::<String>())
    };
    assert!(Credentials::parse(with(MAX_PARAMS - 11).as_bytes()).is_some());
    assert_eq!(Credentials::parse(with(MAX_PARAMS - 10).as_bytes()), None);
    for text in bad {
        assert_eq!(Credentials::parse(text.as_bytes()), None, "{text}");
    }
}

const PHONE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 7));

fn key() -> NonceKey {
    NonceKey::new([7; 32])
}

fn issue(seconds: u64, salt: u64) -> NonceId {
    match key().check(key().issue(seconds, PHONE, salt).as_bytes(), seconds, PHONE) {
        NonceCheck::Fresh(id) => id,
        NonceCheck::Stale | NonceCheck::Forged => panic!("a new nonce is fresh"),
    }
}

#[test]
fn a_nonce_is_good_for_its_life_its_client_and_its_pair() {
    let nonce = key().issue(1_000, PHONE, 1);
    let check = |now, address| key().check(nonce.as_bytes(), now, address);
    assert!(matches!(check(1_000, PHONE), NonceCheck::Fresh(_)));
    assert!(matches!(check(1_000 + NONCE_LIFE_SECONDS, PHONE), NonceCheck::Fresh(_)));
    assert_eq!(check(1_001 + NONCE_LIFE_SECONDS, PHONE), NonceCheck::Stale);
    // The twin's clock may be a minute behind.
    assert!(matches!(check(940, PHONE), NonceCheck::Fresh(_)));
    assert_eq!(check(939, PHONE), NonceCheck::Stale);
    assert!(matches!(check(1_000, "::ffff:192.0.2.7".parse().unwrap()), NonceCheck::Fresh(_)));
    assert_eq!(check(1_000, "192.0.2.8".parse().unwrap()), NonceCheck::Forged);
    let other = NonceKey::new([8; 32]);
    assert_eq!(other.check(nonce.as_bytes(), 1_000, PHONE), NonceCheck::Forged);
}

#[test]
fn a_nonce_with_any_digit_changed_is_forged() {
    let nonce = key().issue(1_000, PHONE, 1);
    for at in 0..nonce.len() {
        let mut changed = nonce.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        assert_eq!(key().check(&changed, 1_000, PHONE), NonceCheck::Forged);
    }
    for text in ["", "0", &nonce[2..], &format!("{nonce}00"), &nonce.replace('0', "g")] {
        assert_eq!(key().check(text.as_bytes(), 1_000, PHONE), NonceCheck::Forged);
    }
    assert_ne!(nonce, key().issue(1_000, PHONE, 2));
}

#[test]
fn a_nonce_for_a_newer_proof_carries_the_mark_of_the_request_as_long_as_anybody_brings_it() {
    let mark = key().mark(&[b"proof", b"c1@phone"]);
    assert_ne!(mark, key().mark(&[b"proof", b"c2@phone"]));
    assert_ne!(mark, NonceKey::new([8; 32]).mark(&[b"proof", b"c1@phone"]));
    let nonce = key().issue_again(1_000, PHONE, 1, mark);
    assert!(matches!(key().check(nonce.as_bytes(), 1_000, PHONE), NonceCheck::Fresh(_)));
    assert_eq!(key().check(nonce.as_bytes(), 5_000, PHONE), NonceCheck::Stale);
    assert_eq!(key().carried(nonce.as_bytes(), PHONE), Some(mark));
    assert_eq!(key().carried(nonce.as_bytes(), "192.0.2.8".parse().unwrap()), None);
    assert_eq!(key().carried(key().issue(1_000, PHONE, 1).as_bytes(), PHONE), None);
    for at in 0..nonce.len() {
        let mut changed = nonce.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        assert_eq!(key().carried(&changed, PHONE), None);
    }
    assert_eq!(key().carried(format!("{nonce}00").as_bytes(), PHONE), None);
}

#[test]
fn each_count_is_taken_once_and_may_be_overtaken() {
    let (mut counts, nonce) = (NonceCounts::new(), issue(1_000, 1));
    let script = [
        (1, true),
        (1, false),
        (3, true),
        (2, true),
        (2, false),
        (100, true),
        (37, true),
        (36, false),
    ];
    for (count, is_first) in script {
        let want = if is_first { NonceUse::First } else { NonceUse::Replayed };
        assert_eq!(counts.accept(nonce, count), want, "{count}");
    }
    assert_eq!(counts.accept(issue(1_000, 2), 1), NonceUse::First);
    assert_eq!(counts.accept(nonce, u32::MAX), NonceUse::First);
    assert_eq!(counts.accept(nonce, 100), NonceUse::Replayed);
    let stored = postcard::to_stdvec(&counts).unwrap();
    assert_eq!(postcard::from_bytes(&stored), Ok(counts));
}

#[test]
fn as_many_nonces_as_allowed_are_counted_and_one_more_makes_the_oldest_stale() {
    let mut counts = NonceCounts::new();
    for salt in 0..MAX_NONCE_COUNTS as u64 {
        assert_eq!(counts.accept(issue(1_000, salt), 1), NonceUse::First);
    }
    assert_eq!(counts.accept(issue(1_000, 0), 1), NonceUse::Replayed);
    assert_eq!(counts.accept(issue(1_001, 0), 1), NonceUse::First);
    assert_eq!(counts.len(), MAX_NONCE_COUNTS);
    assert_eq!(counts.accept(issue(1_000, 0), 2), NonceUse::Stale);
    assert_eq!(counts.accept(issue(999, 9), 1), NonceUse::Stale);
    assert_eq!(counts.accept(issue(1_000, 1), 2), NonceUse::First);
    counts.expire(1_001 + NONCE_LIFE_SECONDS);
    assert_eq!(counts.len(), 1);
    counts.expire(1_002 + NONCE_LIFE_SECONDS);
    assert!(counts.is_empty());
}

#[test]
fn secrets_do_not_print() {
    assert_eq!(format!("{:?} {:?}", Ha1::new(b"a", b"b", b"c"), key()), "Ha1(...) NonceKey(...)");
}

#[test]
fn a_request_has_the_same_name_on_both_servers_and_parts_do_not_run_together() {
    let (one, two) = (NonceKey::new([7; 32]), NonceKey::new([7; 32]));
    let name = one.name(&[b"proof", b"call"]);
    assert_eq!((name.len(), &name), (32, &two.name(&[b"proof", b"call"])));
    assert_ne!(name, one.name(&[b"proofc", b"all"]));
    assert_ne!(name, NonceKey::new([8; 32]).name(&[b"proof", b"call"]));
}
