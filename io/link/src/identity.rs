//! Who a server is on the link: an ed25519 key and a certificate, both fixed by the pair secret.
//!
//! Nothing random enters the certificate and ed25519 signatures are deterministic (RFC 8032), so each
//! machine computes the certificates of both seats byte for byte and pins the other's.

use std::fmt;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519, SerialNumber};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tandem_types::Seat;

use crate::secret::PairSecret;

/// Key and certificate of one seat.
pub struct Identity {
    key: PrivatePkcs8KeyDer<'static>,
    certificate: CertificateDer<'static>,
}

impl Identity {
    /// The identity of `seat` in the pair that knows `secret`.
    ///
    /// # Errors
    /// None in practice: the key has the right form for every secret. The library's answer is passed
    /// on all the same.
    pub fn derive(secret: &PairSecret, seat: Seat) -> Result<Self, rcgen::Error> {
        let key = pkcs8(&secret.derive(&format!("link identity {seat}")));
        let signer = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)?;
        let mut params = CertificateParams::new([server_name(seat).to_owned()])?;
        params.not_before = rcgen::date_time_ymd(1975, 1, 1);
        params.not_after = rcgen::date_time_ymd(4096, 1, 1);
        params.serial_number = Some(SerialNumber::from_slice(&[1]));
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, format!("Tandem {seat}"));
        let certificate = params.self_signed(&signer)?.der().clone();
        Ok(Self { key, certificate })
    }

    /// The certificate, DER.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The private key, PKCS #8.
    pub(crate) fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        self.key.clone_key()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// The name in the certificate and in the TLS hello. It is not what makes a peer trusted.
pub(crate) const fn server_name(seat: Seat) -> &'static str {
    match seat {
        Seat::Master => "master.tandem",
        Seat::Standby => "standby.tandem",
    }
}

/// An ed25519 private key in its PKCS #8 form (RFC 8410 §7): a fixed head, then the 32 bytes.
fn pkcs8(seed: &[u8; 32]) -> PrivatePkcs8KeyDer<'static> {
    const HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    PrivatePkcs8KeyDer::from([HEAD.as_slice(), seed].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn certificate(secret: [u8; 32], seat: Seat) -> Vec<u8> {
        Identity::derive(&PairSecret::from_bytes(secret), seat).unwrap().certificate().to_vec()
    }

    #[test]
    fn both_machines_compute_the_same_certificates() {
        for seat in Seat::ALL {
            assert_eq!(certificate([7; 32], seat), certificate([7; 32], seat));
            assert_ne!(certificate([7; 32], seat), certificate([8; 32], seat));
        }
        assert_ne!(certificate([7; 32], Seat::Master), certificate([7; 32], Seat::Standby));
    }

    /// A change here means that servers before and after it do not know each other: a pair could not
    /// be upgraded one server at a time.
    #[test]
    fn certificates_stay_the_same_over_versions() {
        let print = |seat| {
            let digest = Sha256::digest(certificate([7; 32], seat));
            digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(
            [print(Seat::Master), print(Seat::Standby)],
            ["8b40003921a4a076", "c6b872e8f38eebae"]
        );
    }
}
