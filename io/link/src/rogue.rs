//! Tests with ends that do not behave: hand-made QUIC against a real [`Link`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, SendStream};
use rustls::pki_types::CertificateDer;
use tandem_types::{Dice, Duration, Seat};
use tokio::time::timeout;

use crate::class::Class;
use crate::event::{DownReason, Events, LinkEvent};
use crate::identity::Identity;
use crate::link::{Config, Link};
use crate::pack::{Head, LENGTH_BYTES, PACK_FROM_BYTES};
use crate::secret::PairSecret;
use crate::{MAX_FRAME_BYTES, tls};

/// Far beyond what any step takes; reached only by a fault.
const DEADLINE: Duration = Duration::from_secs(20);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn identity(seat: Seat) -> Identity {
    Identity::derive(&PairSecret::from_bytes([1; 32]), seat).unwrap()
}

fn master() -> (Link, Events) {
    Link::start(Config::new(Seat::Master, ANY, ANY, PairSecret::from_bytes([1; 32]))).unwrap()
}

async fn next(events: &mut Events) -> LinkEvent {
    timeout(DEADLINE, events.recv()).await.unwrap().unwrap()
}

/// Dials `to` with `tls`; the connection as far as it gets.
async fn dial(to: SocketAddr, config: ClientConfig) -> Result<Connection, ConnectionError> {
    let endpoint = Endpoint::client(ANY).unwrap();
    let dialled = endpoint.connect_with(config, to, "master.tandem").unwrap();
    timeout(DEADLINE, dialled).await.unwrap()
}

/// A standby with the right papers who has opened nothing yet.
async fn silent_insider(to: SocketAddr) -> Connection {
    let (own, peer) = (identity(Seat::Standby), identity(Seat::Master));
    let transport = tls::transport(DEADLINE).unwrap();
    dial(to, tls::client_config(&own, &peer, transport).unwrap()).await.unwrap()
}

/// A stream that begins so.
async fn open(connection: &Connection, opening: &[u8]) -> SendStream {
    let mut send = connection.open_uni().await.unwrap();
    send.write_all(opening).await.unwrap();
    send
}

/// A standby with the right papers, who then does as it likes. With its hot stream.
async fn insider(to: SocketAddr) -> (Connection, SendStream) {
    let connection = silent_insider(to).await;
    let send = open(&connection, b"TDM2h").await;
    for class in Class::ALL {
        let mut recv = timeout(DEADLINE, connection.accept_uni()).await.unwrap().unwrap();
        let mut opening = [0; 5];
        timeout(DEADLINE, recv.read_exact(&mut opening)).await.unwrap().unwrap();
        assert_eq!(opening, class.opening());
        // Nobody shall be told that it is not read.
        std::mem::forget(recv);
    }
    (connection, send)
}

/// As the standby after the link is up, with a stream for each class.
async fn insider_with_all(to: SocketAddr) -> (Connection, [SendStream; 3]) {
    let (connection, hot) = insider(to).await;
    let ops = open(&connection, b"TDM2o").await;
    let bulk = open(&connection, b"TDM2b").await;
    (connection, [hot, ops, bulk])
}

/// Expects that the link goes down for what the peer did, and that both are told.
async fn broken(events: &mut Events, connection: &Connection, what: &str) {
    let why = DownReason::Protocol(what.into());
    assert_eq!(next(events).await, LinkEvent::Down { generation: 1, why });
    let told = timeout(DEADLINE, connection.closed()).await.unwrap();
    // Whose copy of the close got lost learns from the next packet that nobody knows the connection.
    let is_told = told == ConnectionError::Reset || told.to_string().contains(what);
    assert!(is_told, "{told}");
}

/// A client with this certificate (or none) and this protocol, who believes every server.
fn stranger(own: Option<&Identity>, protocol: &[u8]) -> ClientConfig {
    #[derive(Debug)]
    struct Anybody;
    impl rustls::client::danger::ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &rustls::pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            vec![rustls::SignatureScheme::ED25519]
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match own {
        Some(own) => builder
            .with_client_auth_cert(vec![own.certificate().clone()], own.key().into())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

#[tokio::test]
async fn who_has_no_or_the_wrong_papers_is_refused_and_named() {
    let (link, mut events) = master();
    let wrong_seat = identity(Seat::Master);
    let right = identity(Seat::Standby);
    let strangers = [
        stranger(None, tls::ALPN),
        stranger(Some(&wrong_seat), tls::ALPN),
        stranger(Some(&right), b"h3"),
    ];
    for config in strangers {
        // TLS may be content on its side before it is refused; then the connection is closed.
        if let Ok(connection) = dial(link.local_address(), config).await {
            timeout(DEADLINE, connection.closed()).await.unwrap();
        }
        assert!(matches!(next(&mut events).await, LinkEvent::Foreign { .. }));
    }
    // The same client with the right papers gets in: it was these that were refused.
    let connection = dial(link.local_address(), stranger(Some(&right), tls::ALPN)).await.unwrap();
    let _hot = open(&connection, b"TDM2h").await;
    assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
}

#[tokio::test]
async fn a_frame_beyond_the_limit_closes_the_link_before_it_is_read() {
    for class in Class::ALL {
        let (link, mut events) = master();
        let (connection, mut streams) = insider_with_all(link.local_address()).await;
        assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
        let head = (MAX_FRAME_BYTES as u32 + 1).to_be_bytes();
        streams[class.index()].write_all(&head).await.unwrap();
        broken(&mut events, &connection, "a frame of 16777217 bytes").await;
    }
}

#[tokio::test]
async fn half_a_frame_is_never_delivered() {
    for class in Class::ALL {
        let (link, mut events) = master();
        let (connection, mut streams) = insider_with_all(link.local_address()).await;
        assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
        let send = &mut streams[class.index()];
        send.write_all(b"\0\0\0\x03one\0\0\0\x05thr").await.unwrap();
        send.finish().unwrap();
        assert_eq!(next(&mut events).await, LinkEvent::Frame(class, b"one".to_vec()));
        broken(&mut events, &connection, "half a frame").await;
    }
}

#[tokio::test]
async fn a_peer_whose_first_stream_is_not_hot_does_not_come_up() {
    let (link, mut events) = master();
    let from_ip = Ipv4Addr::LOCALHOST;
    for (opening, what) in [
        (b"TDM1h", "version 1 of the link"),
        (b"TDM2o", "a stream for ops where hot is due"),
        (b"TDM2x", "a stream of the class x"),
        (b"\x16\x03\x01\x02\0", "a stream that begins with \\x16\\x03\\x01\\x02\\x00"),
    ] {
        let connection = silent_insider(link.local_address()).await;
        let _send = open(&connection, opening).await;
        let told = timeout(DEADLINE, connection.closed()).await.unwrap();
        assert!(told.to_string().contains(what), "{told}");
        let event = next(&mut events).await;
        let LinkEvent::Foreign { address, why } = event else { panic!("{event:?}") };
        assert_eq!((address.ip(), why.as_str()), (from_ip.into(), what));
    }
    // The next one does, and is the first.
    let _insider = insider(link.local_address()).await;
    assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
}

#[tokio::test]
async fn a_later_stream_that_begins_wrongly_ends_them_all() {
    for (opening, what) in [
        (b"TDM2h", "a stream for hot where ops is due"),
        (b"TDM2b", "a stream for bulk where ops is due"),
        (b"TDM2\x07", "a stream of the class \\x07"),
        (b"TDM3o", "version 3 of the link"),
        (b"\0\0\0\0\0", "a stream that begins with \\x00\\x00\\x00\\x00\\x00"),
    ] {
        let (link, mut events) = master();
        let (connection, _hot) = insider(link.local_address()).await;
        assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
        let _send = open(&connection, opening).await;
        broken(&mut events, &connection, what).await;
        assert_eq!(link.send(Class::Hot, Vec::new()), Err(crate::Unsent::Down));
    }
}

#[tokio::test]
async fn a_peer_cannot_open_more_streams_than_there_are_classes() {
    let (link, mut events) = master();
    let (connection, _streams) = insider_with_all(link.local_address()).await;
    assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
    let fourth = tokio::select! {
        biased;
        Ok(_) = connection.open_uni() => true,
        Ok(_) = connection.open_bi() => true,
        () = async {
            link.send(Class::Hot, b"time passes".to_vec()).unwrap();
            link.reset("enough");
            connection.closed().await;
        } => false,
    };
    assert!(!fourth);
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_them_all() {
    for class in Class::ALL {
        let (link, mut events) = master();
        let (_connection, mut streams) = insider_with_all(link.local_address()).await;
        assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
        streams[class.index()].reset(9_u32.into()).unwrap();
        let event = next(&mut events).await;
        let LinkEvent::Down { why: DownReason::Protocol(_), .. } = event else {
            panic!("{event:?} for {class}")
        };
    }
}

/// What a packed frame looks like that says it holds `length` bytes.
fn packed(length: u32, block: &[u8]) -> Vec<u8> {
    let head = Head::Packed((LENGTH_BYTES + block.len()) as u32).bytes();
    [&head[..], &length.to_be_bytes(), block].concat()
}

#[tokio::test]
async fn a_packed_frame_that_is_not_what_it_says_closes_the_link() {
    let honest = lz4_flex::block::compress(&[7; 5_000]);
    // A block that would be 255 times as long.
    let bomb = lz4_flex::block::compress(&vec![0; 4 * MAX_FRAME_BYTES]);
    for (frame, what) in [
        (packed(u32::MAX, &bomb), "a packed frame of more than it may hold"),
        (packed(MAX_FRAME_BYTES as u32 + 1, &bomb), "a packed frame of more than it may hold"),
        (packed(MAX_FRAME_BYTES as u32, &bomb), "a packed frame that is damaged"),
        (packed(300_000, &bomb), "a packed frame that is damaged"),
        (packed(4_999, &honest), "a packed frame that is damaged"),
        (packed(5_001, &honest), "a packed frame that is damaged"),
        (packed(5_000, &honest[1..]), "a packed frame that is damaged"),
        (packed(20, &honest), "a frame that grew when it was packed"),
        (b"\x80\0\0\x04\0\0\0\x01".to_vec(), "an empty packed frame"),
        (b"\x81\0\0\x01".to_vec(), "a frame of 16777217 bytes"),
    ] {
        for class in [Class::Ops, Class::Bulk] {
            let (link, mut events) = master();
            let (connection, mut streams) = insider_with_all(link.local_address()).await;
            assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
            let right = packed(5_000, &honest);
            let all = [right, frame.clone()].concat();
            // The link may be closed before all of it is written.
            let _ = streams[class.index()].write_all(&all).await;
            assert_eq!(next(&mut events).await, LinkEvent::Frame(class, vec![7; 5_000]));
            broken(&mut events, &connection, what).await;
        }
    }
}

#[tokio::test]
async fn a_hot_frame_is_never_packed() {
    let (link, mut events) = master();
    let (connection, [mut hot, ..]) = insider_with_all(link.local_address()).await;
    assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
    let frame = packed(5_000, &lz4_flex::block::compress(&[7; 5_000]));
    hot.write_all(&frame).await.unwrap();
    let head = u32::from_be_bytes(frame[..4].try_into().unwrap());
    broken(&mut events, &connection, &format!("a frame of {head} bytes")).await;
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_delivers_the_frames_before_the_cut() {
    let mut dice = Dice::from_number(11);
    let frames = [b"one".to_vec(), Vec::new(), vec![3; 5_000], b"four".to_vec(), vec![5; 20_000]];
    for round in 0..60 {
        let class = Class::ALL[round % 3];
        // Each frame, and where it ends.
        let (mut stream, mut ends) = (Vec::new(), Vec::new());
        for frame in &frames {
            stream.extend(match class.compresses() && frame.len() >= PACK_FROM_BYTES {
                true => packed(frame.len() as u32, &lz4_flex::block::compress(frame)),
                false => [&Head::Plain(frame.len() as u32).bytes(), &frame[..]].concat(),
            });
            ends.push(stream.len());
        }
        let cut = dice.below(stream.len() as u64) as usize;
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let (link, mut events) = master();
        let (connection, mut streams) = insider_with_all(link.local_address()).await;
        assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
        let send = &mut streams[class.index()];
        send.write_all(&stream[..cut]).await.unwrap();
        send.finish().unwrap();
        for frame in &frames[..whole] {
            let event = next(&mut events).await;
            assert!(event == LinkEvent::Frame(class, frame.clone()), "{class}, cut at {cut}");
        }
        let at_an_end = cut == 0 || ends.contains(&cut);
        let what = if at_an_end { "the stream ended" } else { "half a frame" };
        let event = next(&mut events).await;
        let LinkEvent::Down { why: DownReason::Protocol(why), .. } = event else {
            panic!("{event:?} for {class}, cut at {cut}")
        };
        assert!(why.starts_with(what), "{why} for {class}, cut at {cut}");
        drop(connection);
    }
}
