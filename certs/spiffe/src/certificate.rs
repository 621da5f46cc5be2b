//! What a certificate says: names, validity, subject; and the SPIFFE id of an SVID.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::id::{IdError, SpiffeId};

/// The bytes are not an X.509 certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a DER encoded X.509 certificate: {reason}")]
pub struct CertificateError {
    /// What the decoder stumbled over.
    pub reason: String,
}

/// Why a certificate is not an SVID (SPIFFE X509-SVID, sections 2 to 5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// The bytes are not a certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An SVID has exactly one URI name.
    #[error("an SVID has exactly one URI name, this certificate has {count}")]
    UriCount {
        /// How many it has.
        count: usize,
    },
    /// The URI name is not a SPIFFE id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A certificate authority's certificate can't be a workload's.
    #[error("the certificate of an authority is not an SVID")]
    IsAuthority,
}

/// One subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SubjectAltName {
    /// A URI, for an SVID its SPIFFE id.
    Uri(String),
    /// A DNS name, possibly with a wildcard as its first label.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// An e-mail address.
    Email(String),
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(text) => write!(f, "URI:{text}"),
            Self::Dns(text) => write!(f, "DNS:{text}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Email(text) => write!(f, "EMAIL:{text}"),
        }
    }
}

/// What a certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateDetails {
    /// The subject in the form of RFC 2253, such as `CN=web,O=Example`.
    pub subject: String,
    /// The issuer in the same form.
    pub issuer: String,
    /// The serial number, lower-case hexadecimal without separators.
    pub serial: String,
    /// Start of the validity.
    pub not_before: SystemTime,
    /// End of the validity.
    pub not_after: SystemTime,
    /// All URI, DNS, IP and e-mail names, in the certificate's order.
    pub names: Vec<SubjectAltName>,
    /// The subject's common names, in the certificate's order.
    pub common_names: Vec<String>,
    /// Whether it is a certificate authority's (basic constraints).
    pub is_authority: bool,
    /// The subject's public key as a DER encoded SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

impl CertificateDetails {
    /// Reads a DER encoded certificate.
    ///
    /// # Errors
    /// [`CertificateError`] when the bytes are not exactly one certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        Ok(Self {
            subject: format_name(certificate.subject()),
            issuer: format_name(certificate.issuer()),
            serial: hexadecimal(certificate.raw_serial()),
            not_before: system_time(certificate.validity().not_before.timestamp()),
            not_after: system_time(certificate.validity().not_after.timestamp()),
            names: subject_alt_names(&certificate),
            common_names: certificate
                .subject()
                .iter_common_name()
                .filter_map(|name| name.as_str().ok().map(str::to_owned))
                .collect(),
            is_authority: certificate.is_ca(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// All URI names.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| match name {
            SubjectAltName::Uri(uri) => Some(uri.as_str()),
            _ => None,
        })
    }

    /// All DNS names.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| match name {
            SubjectAltName::Dns(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The SPIFFE id of an SVID.
    ///
    /// # Errors
    /// [`SvidError`] when the certificate is an authority's, has not exactly one URI name, or that
    /// name is not a SPIFFE id.
    pub fn spiffe_id(&self) -> Result<SpiffeId, SvidError> {
        let mut uris = self.uris();
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(SvidError::UriCount { count: self.uris().count() });
        };
        if self.is_authority {
            return Err(SvidError::IsAuthority);
        }
        Ok(SpiffeId::parse(uri)?)
    }
}

/// The SPIFFE id in a DER encoded SVID.
///
/// # Errors
/// As [`CertificateDetails::from_der`] and [`CertificateDetails::spiffe_id`].
pub fn svid_id(der: &[u8]) -> Result<SpiffeId, SvidError> {
    CertificateDetails::from_der(der)?.spiffe_id()
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (rest, certificate) = X509Certificate::from_der(der)
        .map_err(|error| CertificateError { reason: error.to_string() })?;
    if !rest.is_empty() {
        return Err(CertificateError {
            reason: format!("{} bytes follow the certificate", rest.len()),
        });
    }
    Ok(certificate)
}

fn subject_alt_names(certificate: &X509Certificate<'_>) -> Vec<SubjectAltName> {
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(alternative) = extension.parsed_extension() {
            names.extend(alternative.general_names.iter().filter_map(alt_name));
        }
    }
    names
}

fn alt_name(name: &GeneralName<'_>) -> Option<SubjectAltName> {
    Some(match name {
        GeneralName::URI(uri) => SubjectAltName::Uri((*uri).to_owned()),
        GeneralName::DNSName(name) => SubjectAltName::Dns((*name).to_owned()),
        GeneralName::RFC822Name(address) => SubjectAltName::Email((*address).to_owned()),
        GeneralName::IPAddress(bytes) => SubjectAltName::Ip(ip_address(bytes)?),
        _ => return None,
    })
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// Formats a name as RFC 2253 does: last part first, separated by commas, specials escaped.
fn format_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let pairs = rdn.iter().map(|attribute| {
                let key = oid2abbrev(attribute.attr_type(), oid_registry())
                    .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
                format!("{key}={}", escape(attribute.as_str().unwrap_or("")))
            });
            pairs.collect::<Vec<_>>().join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for (position, character) in value.char_indices() {
        let outer = position == 0 || position + character.len_utf8() == value.len();
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        if special || (outer && character == ' ') || (position == 0 && character == '#') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn system_time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests;
