//! TLS, against a door of our own in front of a real PostgreSQL (that of the tests has none).

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

mod common;
mod server;

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use common::{block_on, setup};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use server::Server;
use tandem_postgres::{Access, Database, Trouble};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;

/// What a client asks first (PostgreSQL 18 documentation, 54.7 SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A certificate for 127.0.0.1 that vouches for itself.
struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Identity {
    fn new() -> Self {
        Self::of("127.0.0.1")
    }

    fn of(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        Self { certificate: params.self_signed(&key).unwrap().der().clone(), key }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let config = builder.with_single_cert(vec![self.certificate.clone()], key.into()).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A file that names it as an authority.
    fn file(&self, folder: &std::path::Path, name: &str) -> PathBuf {
        let text = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        let path = folder.join(name);
        let text = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Lets in who speaks TLS, or tells everybody that there is none; its port.
async fn door(server: &Server, acceptor: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = server.socket();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                stream.read_exact(&mut request).await.unwrap();
                assert_eq!(request, SSL_REQUEST);
                let Some(acceptor) = acceptor else {
                    stream.write_all(b"N").await.unwrap();
                    // Who goes on without would say so in clear now.
                    let mut rest = Vec::new();
                    stream.read_to_end(&mut rest).await.unwrap();
                    assert_eq!(rest, []);
                    return;
                };
                stream.write_all(b"S").await.unwrap();
                // Who does not like the certificate goes away.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut inner = UnixStream::connect(socket).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut inner).await;
            });
        }
    });
    port
}

async fn connect(port: u16, wishes: &str) -> Result<Database, Trouble> {
    let line = format!("postgresql://tandem@127.0.0.1:{port}/postgres?{wishes}");
    Database::connect(&Access::parse(&line, None).unwrap(), setup()).await
}

/// Somebody has to change something.
fn refused(result: Result<Database, Trouble>) -> String {
    match result {
        Err(Trouble::Refused(what)) => what,
        Err(Trouble::Away(what)) => panic!("away: {what}"),
        Ok(_) => panic!("taken"),
    }
}

#[test]
fn a_server_is_believed_by_its_certificate_or_not_asked_for_it() {
    let server = Server::new();
    let (ours, other) = (Identity::new(), Identity::new());
    let folder = server.folder().to_owned();
    let (right, wrong) = (ours.file(&folder, "right.pem"), other.file(&folder, "wrong.pem"));
    block_on(async {
        let port = door(&server, Some(ours.acceptor())).await;
        let verified =
            |file: &PathBuf| format!("sslmode=verify-full&sslrootcert={}", file.display());
        let mut database = connect(port, &verified(&right)).await.unwrap();
        database.put(&[common::record("cdr/a", 1, 1, "x")], None, 0).await.unwrap();
        assert_eq!(database.record_count().await.unwrap(), 1);
        let what = refused(connect(port, &verified(&wrong)).await);
        assert!(what.contains("invalid peer certificate"), "{what}");
        // One for another host: of an authority that is believed, and still not the one that was asked for.
        let elsewhere = Identity::of("db9.example.com");
        let file = elsewhere.file(&folder, "elsewhere.pem");
        let far = door(&server, Some(elsewhere.acceptor())).await;
        let what = refused(connect(far, &verified(&file)).await);
        assert!(what.contains("not valid for name"), "{what}");
        assert!(what.contains("127.0.0.1") && what.contains("db9.example.com"), "{what}");
        drop(connect(port, "sslmode=require").await.unwrap());
    });
}

#[test]
fn what_is_to_be_encrypted_is_not_sent_in_clear_where_the_server_has_no_tls() {
    let server = Server::new();
    block_on(async {
        let port = door(&server, None).await;
        let what = refused(connect(port, "sslmode=require").await);
        assert!(what.contains("server does not support TLS"), "{what}");
    });
}
