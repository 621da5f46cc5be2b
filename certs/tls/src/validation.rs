//! How a peer's certificate is judged: chain, revocation, depth, pinned hashes, names.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptions, RevocationOptionsBuilder,
};
use weft_spiffe::{CertificateDetails, SubjectAltName};

use crate::credential::TrustBundle;
use crate::error::{SpecError, VerifyError};
use crate::peer::PeerCertificate;
use crate::pem;
use crate::provider::default_provider;
use crate::san::{SanMatcher, SanTest, dns_matches};
use crate::verified::{self, Verified};

/// How a peer's certificate is judged (Envoy's `CertificateValidationContext`).
///
/// Chain, hashes and names must each be satisfied, as far as they are given. With neither roots
/// nor hashes any certificate will do, as in Envoy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidationSpec {
    /// The roots of which one must vouch for the chain (`trusted_ca`).
    pub roots: Option<TrustBundle>,
    /// Allowed names; one of them must match one of the certificate's (`match_typed_subject_alt_names`).
    /// Empty: any name.
    pub san_matchers: Vec<SanMatcher>,
    /// PEM texts of revocation lists (`crl`). If given, each certificate of the chain needs one.
    pub crls: Vec<Vec<u8>>,
    /// Whether only the leaf is looked up in the revocation lists (`only_verify_leaf_cert_crl`).
    pub crl_leaf_only: bool,
    /// Allowed SHA-256 digests of the leaf, hexadecimal, colons allowed (`verify_certificate_hash`).
    pub certificate_hashes: Vec<String>,
    /// Allowed SHA-256 digests of the leaf's public key, base64 (`verify_certificate_spki`).
    pub spki_hashes: Vec<String>,
    /// Whether a certificate that fails is let through all the same (`ACCEPT_UNTRUSTED`).
    pub trust_any: bool,
    /// Most authorities in a chain, the root included (`max_verify_depth`).
    pub max_verify_depth: Option<u32>,
}

impl ValidationSpec {
    /// Whether a certificate that passes proves anything.
    pub fn verifies(&self) -> bool {
        let pinned = !self.certificate_hashes.is_empty() || !self.spki_hashes.is_empty();
        !self.trust_any && (self.roots.is_some() || pinned)
    }

    /// Trust in some roots, for peers of which one name matches (all, without matchers).
    pub fn new(roots: TrustBundle, san_matchers: Vec<SanMatcher>) -> Self {
        Self { roots: Some(roots), san_matchers, ..Self::default() }
    }
}

/// What the peer whose certificate is judged is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerRole {
    Client,
    Server,
}

/// A compiled [`ValidationSpec`].
#[derive(Debug)]
pub(crate) struct PeerPolicy {
    roots: Option<TrustBundle>,
    names: Vec<SanTest>,
    crls: Vec<CertRevocationList<'static>>,
    crl_depth: RevocationCheckDepth,
    hashes: Vec<[u8; 32]>,
    spki_hashes: Vec<[u8; 32]>,
    trust_any: bool,
    max_depth: Option<u32>,
    verified: Verified,
}

/// Compiles a policy where one is given.
pub(crate) fn compile(spec: Option<&ValidationSpec>) -> Result<Option<Arc<PeerPolicy>>, SpecError> {
    spec.map(|spec| PeerPolicy::compile(spec).map(Arc::new)).transpose()
}

impl PeerPolicy {
    pub(crate) fn compile(spec: &ValidationSpec) -> Result<Self, SpecError> {
        if spec.roots.is_none() && !spec.san_matchers.is_empty() && !spec.trust_any {
            return Err(SpecError::NamesWithoutRoots);
        }
        let hashes = spec.certificate_hashes.iter();
        let spki_hashes = spec.spki_hashes.iter();
        Ok(Self {
            roots: spec.roots.clone(),
            names: spec.san_matchers.iter().map(SanTest::compile).collect::<Result<_, _>>()?,
            crls: revocation_lists(&spec.crls)?,
            crl_depth: match spec.crl_leaf_only {
                true => RevocationCheckDepth::EndEntity,
                false => RevocationCheckDepth::Chain,
            },
            hashes: hashes.map(|text| hex_digest(text)).collect::<Result<_, _>>()?,
            spki_hashes: spki_hashes.map(|text| base64_digest(text)).collect::<Result<_, _>>()?,
            trust_any: spec.trust_any,
            max_depth: spec.max_verify_depth,
            verified: Verified::default(),
        })
    }

    /// Any certificate that one of the roots vouches for.
    pub(crate) fn trusting(roots: TrustBundle) -> Self {
        Self {
            roots: Some(roots),
            names: Vec::new(),
            crls: Vec::new(),
            crl_depth: RevocationCheckDepth::Chain,
            hashes: Vec::new(),
            spki_hashes: Vec::new(),
            trust_any: false,
            max_depth: None,
            verified: Verified::default(),
        }
    }

    pub(crate) fn roots(&self) -> Option<&TrustBundle> {
        self.roots.as_ref()
    }

    /// Judges a chain as [`Self::check`] does, but not again so soon. `None`: any peer will do.
    pub(crate) fn recognize(
        &self,
        chain: (&CertificateDer<'_>, &[CertificateDer<'_>]),
        server_name: Option<&ServerName<'_>>,
        now: UnixTime,
        role: PeerRole,
    ) -> Result<Option<Arc<PeerCertificate>>, VerifyError> {
        if self.trust_any {
            return Ok(None);
        }
        let key = verified::key(chain, server_name, role);
        if let Some(peer) = self.verified.find(&key, now) {
            return Ok(Some(peer));
        }
        self.check(chain, server_name, now, role)?;
        let (leaf, intermediates) = chain;
        let owned = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned());
        let peer = PeerCertificate::new(owned.collect()).map(Arc::new);
        // A revocation list that grows old is noticed only by looking at it.
        if let (Some(peer), true) = (&peer, self.crls.is_empty()) {
            self.verified.remember(key, peer, now);
        }
        Ok(peer)
    }

    /// Judges a chain. `server_name`, if given, must be one of the leaf's names besides.
    pub(crate) fn check(
        &self,
        chain: (&CertificateDer<'_>, &[CertificateDer<'_>]),
        server_name: Option<&ServerName<'_>>,
        now: UnixTime,
        role: PeerRole,
    ) -> Result<(), VerifyError> {
        if self.trust_any {
            return Ok(());
        }
        let (leaf, intermediates) = chain;
        if let Some(roots) = &self.roots {
            self.check_chain(roots, leaf, intermediates, now, role)?;
        }
        let pinned = !self.hashes.is_empty() || !self.spki_hashes.is_empty();
        if !pinned && self.names.is_empty() && server_name.is_none() {
            return Ok(());
        }
        let details = CertificateDetails::from_der(leaf)
            .map_err(|error| VerifyError::Other(error.to_string()))?;
        if pinned && !self.pin_matches(leaf, &details) {
            return Err(VerifyError::HashMismatch);
        }
        self.check_names(&details, server_name)
    }

    fn check_chain(
        &self,
        roots: &TrustBundle,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        role: PeerRole,
    ) -> Result<(), VerifyError> {
        // A self-signed certificate may be trusted by itself; webpki wouldn't take an authority's
        // certificate as a leaf.
        if roots.certificates().contains(leaf) {
            return check_validity(leaf, now);
        }
        let certificate =
            EndEntityCert::try_from(leaf).map_err(|error| VerifyError::from_webpki(&error))?;
        let usage = match role {
            PeerRole::Client => KeyUsage::client_auth(),
            PeerRole::Server => KeyUsage::server_auth(),
        };
        let lists: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let path = certificate
            .verify_for_usage(
                default_provider().signature_verification_algorithms.all,
                roots.anchors(),
                intermediates,
                now,
                usage,
                self.revocation(&lists),
                None,
            )
            .map_err(|error| VerifyError::from_webpki(&error))?;
        let depth = path.intermediate_certificates().count() + 1;
        match self.max_depth {
            Some(max) if depth > max as usize => Err(VerifyError::TooDeep { depth, max }),
            _ => Ok(()),
        }
    }

    fn revocation<'a>(
        &self,
        lists: &'a [&'a CertRevocationList<'a>],
    ) -> Option<RevocationOptions<'a>> {
        let builder = RevocationOptionsBuilder::new(lists).ok()?;
        Some(
            builder
                .with_depth(self.crl_depth)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build(),
        )
    }

    fn pin_matches(&self, leaf: &CertificateDer<'_>, details: &CertificateDetails) -> bool {
        let certificate = sha256(leaf);
        let key = sha256(&details.public_key);
        self.hashes.contains(&certificate) || self.spki_hashes.contains(&key)
    }

    fn check_names(
        &self,
        details: &CertificateDetails,
        server_name: Option<&ServerName<'_>>,
    ) -> Result<(), VerifyError> {
        let allowed = |test: &SanTest| details.names.iter().any(|name| test.matches(name));
        let mismatch = |allowed: Vec<String>| VerifyError::NameMismatch {
            presented: details.names.iter().map(ToString::to_string).collect(),
            allowed,
        };
        if !self.names.is_empty() && !self.names.iter().any(allowed) {
            let descriptions = self.names.iter().map(|test| test.description().to_owned());
            return Err(mismatch(descriptions.collect()));
        }
        match server_name {
            Some(wanted) if !details.names.iter().any(|name| covers(name, wanted)) => {
                Err(mismatch(vec![wanted.to_str().into_owned()]))
            }
            _ => Ok(()),
        }
    }
}

/// The SHA-256 digest of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Lower-case hexadecimal without separators.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn covers(name: &SubjectAltName, wanted: &ServerName<'_>) -> bool {
    match (name, wanted) {
        (SubjectAltName::Dns(name), ServerName::DnsName(host)) => dns_matches(name, host.as_ref()),
        (SubjectAltName::Ip(address), ServerName::IpAddress(host)) => {
            *address == std::net::IpAddr::from(*host)
        }
        _ => false,
    }
}

fn check_validity(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), VerifyError> {
    let details = CertificateDetails::from_der(leaf)
        .map_err(|error| VerifyError::Other(error.to_string()))?;
    let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
    if now < details.not_before {
        return Err(VerifyError::NotYetValid { not_before: details.not_before });
    }
    if now > details.not_after {
        return Err(VerifyError::Expired { not_after: details.not_after });
    }
    Ok(())
}

fn revocation_lists(texts: &[Vec<u8>]) -> Result<Vec<CertRevocationList<'static>>, SpecError> {
    let mut lists = Vec::new();
    for text in texts {
        for der in pem::revocation_lists(text)? {
            let list = OwnedCertRevocationList::from_der(&der).map_err(|error| SpecError::Crl {
                number: lists.len() + 1,
                reason: format!("{error:?}"),
            })?;
            lists.push(CertRevocationList::from(list));
        }
    }
    Ok(lists)
}

fn hex_digest(text: &str) -> Result<[u8; 32], SpecError> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| {
            let [high, low] = <[u8; 2]>::try_from(pair).ok()?;
            u8::try_from(nibble(high)? << 4 | nibble(low)?).ok()
        })
        .collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| SpecError::Hash {
        value: text.to_owned(),
        reason: "64 hexadecimal digits are expected",
    })
}

fn base64_digest(text: &str) -> Result<[u8; 32], SpecError> {
    let bytes = BASE64_STANDARD.decode(text).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| SpecError::Hash {
        value: text.to_owned(),
        reason: "32 bytes in base64 are expected",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_in_both_spellings() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(hex_digest(&plain).unwrap(), [0xab; 32]);
        assert_eq!(hex_digest(&colons).unwrap(), [0xab; 32]);
        assert!(hex_digest("abc").is_err());
        assert!(hex_digest(&"zz".repeat(32)).is_err());
        assert_eq!(base64_digest(&BASE64_STANDARD.encode([7; 32])).unwrap(), [7; 32]);
        assert!(base64_digest("AAAA").is_err());
    }

    #[test]
    fn names_without_roots_are_refused() {
        let spec = ValidationSpec {
            san_matchers: vec![SanMatcher::dns("a")],
            ..ValidationSpec::default()
        };
        assert!(matches!(PeerPolicy::compile(&spec), Err(SpecError::NamesWithoutRoots)));
    }
}
