//! What the certificates say that the authority signs.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

/// How far a certificate's validity reaches back, for peers whose clocks lag (as in Istio).
const BACKDATED: Duration = Duration::from_secs(120);
/// Lifetime of a root that is made here: ten years.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A self-signed root.
pub(crate) fn root(common_name: &str, now: SystemTime) -> CertificateParams {
    let mut params = base(now, now + ROOT_LIFETIME);
    params.distinguished_name.push(DnType::OrganizationName, "Weft");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A workload's or server's certificate with these names and no subject.
pub(crate) fn leaf(
    names: Vec<SanType>,
    now: SystemTime,
    not_after: SystemTime,
) -> CertificateParams {
    let mut params = base(now, not_after);
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn base(now: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial_number());
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(not_after);
    params
}

/// 126 random bits: positive, and its first byte is not zero (RFC 5280, 4.1.2.2).
fn serial_number() -> SerialNumber {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("invariant: the system has a random source");
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    SerialNumber::from_slice(&bytes)
}
