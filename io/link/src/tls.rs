//! TLS 1.3 in both directions with the peer's certificate pinned byte for byte, and the transport
//! tuned for a LAN.

use std::sync::Arc;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig,
    IdleTimeout, ServerConfig, TransportConfig, VarInt,
};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    SignatureScheme,
};
use tandem_types::{Duration, Seat};

use crate::class::Class;
use crate::congestion::Floor;
use crate::identity::Identity;
use crate::link::StartError;
use crate::secret::PairSecret;

/// What both ends must speak.
pub(crate) const ALPN: &[u8] = b"tandem/2";

/// The server side of the link: refuses everybody but the peer.
pub(crate) fn server_config(
    own: &Identity,
    peer: &Identity,
    transport: Arc<TransportConfig>,
) -> Result<ServerConfig, StartError> {
    let pinned = Pinned::new(peer);
    let mut tls = rustls::ServerConfig::builder_with_provider(pinned.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(pinned)
        .with_single_cert(vec![own.certificate().clone()], own.key().into())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed handshake would skip the certificates.
    tls.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| StartError::NoInitialCipher)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport).migration(false);
    Ok(config)
}

/// The client side of the link: talks to nobody but the peer.
pub(crate) fn client_config(
    own: &Identity,
    peer: &Identity,
    transport: Arc<TransportConfig>,
) -> Result<ClientConfig, StartError> {
    let pinned = Pinned::new(peer);
    let mut tls = rustls::ClientConfig::builder_with_provider(pinned.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_client_auth_cert(vec![own.certificate().clone()], own.key().into())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| StartError::NoInitialCipher)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport);
    Ok(config)
}

/// Timers for a LAN: a lost packet is repeated after two milliseconds, not after hundreds.
pub(crate) fn transport(idle: Duration) -> Result<Arc<TransportConfig>, StartError> {
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(MAX_ACK_DELAY));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(Floor(Arc::new(congestion))))
        .max_idle_timeout(Some(IdleTimeout::try_from(idle).map_err(|_| StartError::IdleTimeout)?))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        // All streams share these two: with less, a class that is not taken would stop the others.
        .receive_window(VarInt::from_u32(STREAMS * WINDOW_BYTES))
        .send_window(2 * u64::from(STREAMS * WINDOW_BYTES));
    Ok(Arc::new(transport))
}

/// An endpoint whose resets the peer believes even after this process was started anew: a peer that
/// still talks to the process of before hears at once that it is gone.
pub(crate) fn endpoint_config(secret: &PairSecret, seat: Seat) -> EndpointConfig {
    let key = secret.derive(&format!("link reset {seat}"));
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)));
    config.cid_generator(|| Box::new(RandomIds(SystemRandom::new())));
    config
}

/// Connection ids without a process's own mark, so that its successor answers them with a reset.
struct RandomIds(SystemRandom);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        // The system's source does not fail once it has started; were it to, equal ids would be
        // refused by the transport and the link would not come up: safe.
        let _ = self.0.fill(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Knows exactly one certificate.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn new(peer: &Identity) -> Arc<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Arc::new(Self { certificate: peer.certificate().clone(), provider })
    }

    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        if self.certificate == *shown {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    /// The peer must also prove that it holds the key of the certificate.
    fn check_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, shown, signature, algorithms)
    }
}

/// TLS 1.2 does not exist on this link.
const NO_TLS12: Error = Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Before the first measurement. The first repeat of a lost hello comes after three of these.
const INITIAL_RTT: Duration = Duration::from_millis(10);
/// How long the peer may wait before it acknowledges a single packet.
const MAX_ACK_DELAY: Duration = Duration::from_millis(1);
/// After this silence a side says that it lives. The answer also shows what was lost before, so a lost
/// frame waits for this and not for a repetition time-out that doubles (20 % loss each way: p99 40 ms,
/// with 100 ms here 180 ms).
const KEEP_ALIVE: Duration = Duration::from_millis(20);
/// What may be under way at first, in bytes: a burst on a gigabit LAN is 2 ms.
const INITIAL_WINDOW_BYTES: u64 = 256 * 1024;
/// What may be under way and unread of each stream, in bytes. What is under way is ahead of a hot frame in
/// the queues of the network and of the peer, whatever its class: a gigabit LAN carries this in 2 ms.
/// (Loopback on a busy machine, bulk at full speed both ways: with 1 MiB here half of the hot frames took
/// more than 7 ms there and back, with this 1 % took more than 8 ms; bulk was not slower.)
const WINDOW_BYTES: u32 = 256 * 1024;
/// One for each class.
const STREAMS: u32 = Class::ALL.len() as u32;
const CONNECTION_ID_BYTES: usize = 8;
