//! TLS for the connection, by rustls.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use crate::access::AccessError;

/// How to encrypt; nothing where it is off.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: Option<Arc<ClientConfig>>,
    /// Whether the other end has to be who it should be.
    verifies: bool,
}

impl Tls {
    pub(crate) const fn off() -> Self {
        Self { config: None, verifies: false }
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.config.is_some()
    }

    /// Encrypted, whoever the other end is.
    pub(crate) fn unverified() -> Result<Self, AccessError> {
        let provider = provider();
        let anybody = Arc::new(Anybody(Arc::clone(&provider)));
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(anybody);
        Ok(Self { config: Some(Arc::new(builder.with_no_client_auth())), verifies: false })
    }

    /// The other end has a certificate for its name from one of these authorities.
    pub(crate) fn verified(authorities: &Path) -> Result<Self, AccessError> {
        let fault =
            |what: String| AccessError(format!("sslrootcert {}: {what}", authorities.display()));
        let mut roots = RootCertStore::empty();
        let found = CertificateDer::pem_file_iter(authorities);
        for certificate in found.map_err(|error| fault(error.to_string()))? {
            let certificate = certificate.map_err(|error| fault(error.to_string()))?;
            roots.add(certificate).map_err(|error| fault(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(fault("it holds no certificate".to_owned()));
        }
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { config: Some(Arc::new(config)), verifies: true })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unusable(error: rustls::Error) -> AccessError {
    AccessError(format!("TLS: {error}"))
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Secured;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let name = match ServerName::try_from(host.to_owned()) {
            // A host that is no name can still be spoken to where nobody asks who it is.
            Err(_) if !self.verifies => ServerName::try_from("localhost"),
            name => name,
        };
        Ok(Handshake { config: self.config.clone(), name: name.map_err(io::Error::other)? })
    }
}

/// What is needed for one handshake.
pub(crate) struct Handshake {
    /// Nothing where it is off: then nobody asks for one.
    config: Option<Arc<ClientConfig>>,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Secured;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secured>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or_else(|| io::Error::other("TLS is off"))?;
            let connect = TlsConnector::from(config).connect(self.name, socket);
            connect.await.map(|stream| Secured(Box::new(stream)))
        })
    }
}

/// An encrypted stream.
pub(crate) struct Secured(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Secured {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Takes every certificate; that its owner has the key to it is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_name_passes_only_where_nobody_asks_who_it_is() {
        let mut tls = Tls::unverified().unwrap();
        assert!(MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, "db one").is_ok());
        tls.verifies = true;
        assert!(MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, "db1").is_ok());
        assert!(MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, "db one").is_err());
    }
}
