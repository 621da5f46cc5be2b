//! A certificate authority for tests.

use crate::{CertifiedChain, TrustBundle};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// What a leaf is to say.
pub(crate) struct Leaf {
    pub(crate) names: Vec<SanType>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) serial: u64,
}

impl Leaf {
    pub(crate) fn new(names: Vec<SanType>) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            names,
            not_before: now - Duration::hours(1),
            not_after: now + Duration::hours(1),
            serial: 7,
        }
    }

    pub(crate) fn uri(id: &str) -> Self {
        Self::new(vec![SanType::URI(id.try_into().unwrap())])
    }

    pub(crate) fn dns(name: &str) -> Self {
        Self::new(vec![SanType::DnsName(name.try_into().unwrap())])
    }

    pub(crate) fn and_uri(mut self, id: &str) -> Self {
        self.names.push(SanType::URI(id.try_into().unwrap()));
        self
    }
}

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    above: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(authority_params(name), key).unwrap();
        Self { root: issuer.der().clone(), above: Vec::new(), issuer }
    }

    /// An intermediate below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(authority_params(name), key, &self.issuer).unwrap();
        let mut above = vec![issuer.der().clone()];
        above.extend(self.above.iter().cloned());
        Self { root: self.root.clone(), above, issuer }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_der(vec![self.root.clone()]).unwrap()
    }

    pub(crate) fn root_pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn issue(&self, leaf: &Leaf) -> CertifiedChain {
        let (chain, key) = self.issue_parts(leaf);
        CertifiedChain::from_der(chain, key).unwrap()
    }

    pub(crate) fn issue_parts(
        &self,
        leaf: &Leaf,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = leaf.names.clone();
        params.not_before = leaf.not_before;
        params.not_after = leaf.not_after;
        params.serial_number = Some(SerialNumber::from(leaf.serial));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (chain, key)
    }

    /// A revocation list for some serial numbers, as PEM.
    pub(crate) fn revoke(&self, serials: &[u64]) -> Vec<u8> {
        let now = OffsetDateTime::now_utc();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Duration::hours(1),
            reason_code: None,
            invalidity_date: None,
        });
        CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + Duration::hours(1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
        .unwrap()
        .pem()
        .unwrap()
        .into_bytes()
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
