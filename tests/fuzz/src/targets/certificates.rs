//! Certificates, keys and identities.

use std::sync::OnceLock;

use weft_spiffe::{CertificateDetails, SpiffeId, svid_id};
use weft_tls::{CertifiedChain, TrustBundle};

use crate::Target;

pub(super) const CERTIFICATES: Target = Target {
    name: "certificates",
    run,
    seeds,
    words: &[
        "-----BEGIN CERTIFICATE-----\n",
        "-----END CERTIFICATE-----\n",
        "spiffe://",
        "\x30\x7f",
    ],
    quick: 3_000,
};

/// A certificate of its own authority, and its key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
    der: Vec<u8>,
}

/// The one pair of this process.
pub(super) fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        let names = vec!["www.example".to_owned(), "10.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names);
        let made = made.expect("invariant: these are names");
        Pair {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            der: made.cert.der().to_vec(),
        }
    })
}

fn run(input: &[u8]) {
    if let Ok(details) = CertificateDetails::from_der(input) {
        let names = details.dns_names().count() + details.uris().count();
        assert!(names <= input.len());
        // Either is an answer.
        let _ = details.spiffe_id();
    }
    let _ = svid_id(input);
    let _ = TrustBundle::from_pem(input);
    let _ = CertifiedChain::from_pem(input, pair().key.as_bytes());
    let _ = CertifiedChain::from_pem(pair().certificate.as_bytes(), input);
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(id) = SpiffeId::parse(text)
    {
        assert_eq!(id.as_str(), text, "an identity is what it was read from");
        let _ = (id.trust_domain(), id.path(), id.workload_name());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let Pair { certificate, key, der } = pair();
    vec![
        der.clone(),
        certificate.clone().into_bytes(),
        key.clone().into_bytes(),
        b"spiffe://cluster.local/ns/default/sa/web".to_vec(),
    ]
}
