//! The cryptography provider, protocol versions and cipher suites by their OpenSSL names.

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

use crate::error::SpecError;

static DEFAULT: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| preference(suite.suite()));
    Arc::new(provider)
});

/// AES-128 comes before AES-256, as in BoringSSL: it costs less and is broken by nobody.
fn preference(suite: CipherSuite) -> u8 {
    use CipherSuite as C;
    match suite {
        C::TLS13_AES_128_GCM_SHA256 => 0,
        C::TLS13_AES_256_GCM_SHA384 => 1,
        C::TLS13_CHACHA20_POLY1305_SHA256 => 2,
        C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => 3,
        C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 4,
        _ => 5,
    }
}

/// The one provider of the whole program.
pub(crate) fn default_provider() -> &'static Arc<CryptoProvider> {
    &DEFAULT
}

/// A TLS protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    pub(crate) fn from_rustls(version: ProtocolVersion) -> Option<Self> {
        match version {
            ProtocolVersion::TLSv1_2 => Some(Self::V1_2),
            ProtocolVersion::TLSv1_3 => Some(Self::V1_3),
            _ => None,
        }
    }
}

/// Envoy's spelling: `TLSv1.2`, `TLSv1.3`.
impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
        })
    }
}

/// The versions between two bounds; without bounds, all that are supported.
pub(crate) fn versions(
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
) -> Result<Vec<&'static SupportedProtocolVersion>, SpecError> {
    let min = min.unwrap_or(TlsVersion::V1_2);
    let max = max.unwrap_or(TlsVersion::V1_3);
    if min > max {
        return Err(SpecError::Versions { min, max });
    }
    let all =
        [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
    Ok(all
        .into_iter()
        .filter(|(version, _)| (min..=max).contains(version))
        .map(|(_, supported)| supported)
        .collect())
}

/// A provider limited to the named TLS 1.2 cipher suites; those of TLS 1.3 always stay, as in
/// BoringSSL. Unknown names are ignored, and groups of equals (`[A|B]`) are taken in order.
pub(crate) fn provider_with(
    cipher_suites: Option<&[String]>,
    max: Option<TlsVersion>,
) -> Result<Arc<CryptoProvider>, SpecError> {
    let Some(names) = cipher_suites else {
        return Ok(Arc::clone(default_provider()));
    };
    let wanted =
        names.iter().flat_map(|name| name.split(['[', ']', '|'])).filter_map(suite_by_name);
    let mut suites: Vec<SupportedCipherSuite> = default_provider()
        .cipher_suites
        .iter()
        .filter(|suite| suite.tls13().is_some())
        .copied()
        .collect();
    let modern = suites.len();
    suites.extend(wanted);
    if max == Some(TlsVersion::V1_2) && suites.len() == modern {
        return Err(SpecError::CipherSuites { names: names.to_vec() });
    }
    Ok(Arc::new(CryptoProvider {
        cipher_suites: suites,
        ..CryptoProvider::clone(default_provider())
    }))
}

fn suite_by_name(name: &str) -> Option<SupportedCipherSuite> {
    default_provider()
        .cipher_suites
        .iter()
        .filter(|suite| suite.tls13().is_none())
        .find(|suite| cipher_name(suite.suite()) == name)
        .copied()
}

/// The OpenSSL name of a cipher suite, as access logs print it.
pub(crate) fn cipher_name(suite: CipherSuite) -> &'static str {
    use CipherSuite as C;
    match suite {
        C::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        C::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        C::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(provider: &CryptoProvider) -> Vec<&'static str> {
        let suites = provider.cipher_suites.iter();
        suites.map(|suite| cipher_name(suite.suite())).collect()
    }

    #[test]
    fn cheaper_cipher_of_equal_strength_in_practice_comes_first() {
        let names = names(default_provider());
        assert_eq!(names[0], "TLS_AES_128_GCM_SHA256");
        assert_eq!(names[3], "ECDHE-ECDSA-AES128-GCM-SHA256");
        assert_eq!(names.len(), 9);
    }

    #[test]
    fn every_supported_cipher_suite_has_its_openssl_name() {
        assert!(!names(default_provider()).contains(&"unknown"));
    }

    #[test]
    fn named_suites_replace_those_of_tls_1_2_and_unknown_names_are_ignored() {
        let list = [
            "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]".to_owned(),
            "AES128-GCM-SHA256".to_owned(),
        ];
        let provider = provider_with(Some(&list), None).unwrap();
        assert_eq!(
            names(&provider)[3..],
            ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"]
        );
    }

    #[test]
    fn tls_1_2_without_a_known_suite_is_refused() {
        let list = ["AES128-GCM-SHA256".to_owned()];
        assert!(provider_with(Some(&list), None).is_ok());
        assert!(matches!(
            provider_with(Some(&list), Some(TlsVersion::V1_2)),
            Err(SpecError::CipherSuites { .. })
        ));
    }

    #[test]
    fn lowest_version_above_the_highest_is_refused() {
        let error = versions(Some(TlsVersion::V1_3), Some(TlsVersion::V1_2)).unwrap_err();
        assert!(error.to_string().contains("TLSv1.3"), "{error}");
        assert_eq!(versions(None, None).unwrap().len(), 2);
    }
}
