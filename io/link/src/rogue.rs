//! Tests with ends that do not behave: hand-made QUIC against a real [`Link`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tandem_types::{Duration, Seat};
use tokio::time::timeout;

use crate::connect::GREETING;
use crate::event::{DownReason, Events, LinkEvent};
use crate::identity::Identity;
use crate::link::{Config, Link};
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

/// A standby with the right papers, who then does as it likes.
async fn insider(to: SocketAddr) -> (Connection, SendStream, RecvStream) {
    let (own, peer) = (identity(Seat::Standby), identity(Seat::Master));
    let transport = tls::transport(DEADLINE).unwrap();
    let connection = dial(to, tls::client_config(&own, &peer, transport).unwrap()).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&GREETING).await.unwrap();
    let mut greeting = [0; 4];
    timeout(DEADLINE, recv.read_exact(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(greeting, GREETING);
    (connection, send, recv)
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
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&GREETING).await.unwrap();
    assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
}

#[tokio::test]
async fn a_frame_beyond_the_limit_closes_the_link_before_it_is_read() {
    let (link, mut events) = master();
    let (connection, mut send, _recv) = insider(link.local_address()).await;
    assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
    send.write_all(&(MAX_FRAME_BYTES as u32 + 1).to_be_bytes()).await.unwrap();
    let why = DownReason::Protocol("a frame of 16777217 bytes".into());
    assert_eq!(next(&mut events).await, LinkEvent::Down { generation: 1, why });
    let told = timeout(DEADLINE, connection.closed()).await.unwrap();
    assert!(told.to_string().contains("a frame of 16777217 bytes"), "{told}");
}

#[tokio::test]
async fn half_a_frame_is_never_delivered() {
    let (link, mut events) = master();
    let (connection, mut send, _recv) = insider(link.local_address()).await;
    assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
    send.write_all(b"\0\0\0\x03one\0\0\0\x05thr").await.unwrap();
    send.finish().unwrap();
    assert_eq!(next(&mut events).await, LinkEvent::Frame(b"one".to_vec()));
    let why = DownReason::Protocol("half a frame".into());
    assert_eq!(next(&mut events).await, LinkEvent::Down { generation: 1, why });
    drop(connection);
}

#[tokio::test]
async fn a_peer_that_greets_wrongly_does_not_come_up() {
    let (link, mut events) = master();
    let (own, peer) = (identity(Seat::Standby), identity(Seat::Master));
    let config = tls::client_config(&own, &peer, tls::transport(DEADLINE).unwrap()).unwrap();
    let connection = dial(link.local_address(), config).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(b"TDM2").await.unwrap();
    timeout(DEADLINE, connection.closed()).await.unwrap();
    // The next one does, and is the first.
    let _insider = insider(link.local_address()).await;
    assert_eq!(next(&mut events).await, LinkEvent::Up { generation: 1 });
}
