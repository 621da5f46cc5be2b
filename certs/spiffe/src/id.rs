//! SPIFFE ids: parsing, formatting and the path that workloads of a mesh use.
//!
//! The rules are those of the SPIFFE-ID standard, sections 2.1 to 2.4.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const SCHEME: &str = "spiffe://";
/// Longest id, in bytes (SPIFFE-ID 2.4).
const MAX_ID_LENGTH: usize = 2048;
/// Longest trust domain, in bytes (SPIFFE-ID 2.1).
const MAX_TRUST_DOMAIN_LENGTH: usize = 255;

/// Why a text is not a SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text does not start with `spiffe://`.
    #[error("{0:?} is not a SPIFFE id: it must start with spiffe://")]
    Scheme(String),
    /// The text is longer than the standard allows.
    #[error("SPIFFE id of {length} bytes: at most {MAX_ID_LENGTH} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The trust domain is empty, too long or has characters outside `a-z 0-9 . - _`.
    #[error("trust domain {trust_domain:?}: {reason}")]
    TrustDomain {
        /// What stands where the trust domain belongs.
        trust_domain: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A path segment is empty, relative or has characters outside `a-z A-Z 0-9 . - _`.
    #[error("path {path:?} of a SPIFFE id: {reason}")]
    Path {
        /// The whole path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The authority part of a SPIFFE id, such as `cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Checks and takes a trust domain's name.
    ///
    /// # Errors
    /// [`IdError::TrustDomain`] when it is empty, longer than 255 bytes or has a character outside
    /// `a-z 0-9 . - _`.
    pub fn new(name: &str) -> Result<Self, IdError> {
        let fail = |reason| Err(IdError::TrustDomain { trust_domain: name.to_owned(), reason });
        if name.is_empty() {
            return fail("it is empty");
        }
        if name.len() > MAX_TRUST_DOMAIN_LENGTH {
            return fail("it is longer than 255 bytes");
        }
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if !name.bytes().all(allowed) {
            return fail("only a-z, 0-9, '.', '-' and '_' are allowed");
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

/// A workload's place in a mesh: the namespace and service account in its SPIFFE id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkloadName<'a> {
    /// Namespace, the segment after `ns`.
    pub namespace: &'a str,
    /// Service account, the segment after `sa`.
    pub service_account: &'a str,
}

/// A valid SPIFFE id. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path starts in `text`.
    path_start: usize,
}

impl SpiffeId {
    /// Parses an id.
    ///
    /// # Errors
    /// [`IdError`] naming the part that breaks the standard: scheme, length, trust domain or path.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.len() > MAX_ID_LENGTH {
            return Err(IdError::TooLong { length: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| IdError::Scheme(text.to_owned()))?;
        let domain_length = rest.find('/').unwrap_or(rest.len());
        let (domain, path) = rest.split_at(domain_length);
        TrustDomain::new(domain)?;
        check_path(path)?;
        Ok(Self { text: text.into(), path_start: SCHEME.len() + domain_length })
    }

    /// The id of a workload: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// [`IdError::Path`] when the namespace or the service account can't be a path segment.
    pub fn workload(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, IdError> {
        for segment in [namespace, service_account] {
            check_segment(segment, segment)?;
        }
        Self::parse(&format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}"))
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.text[SCHEME.len()..self.path_start].into())
    }

    /// The path with its leading slash; empty when the id names the trust domain itself.
    pub fn path(&self) -> &str {
        &self.text[self.path_start..]
    }

    /// Namespace and service account, when the path is `/ns/<namespace>/sa/<service account>`.
    pub fn workload_name(&self) -> Option<WorkloadName<'_>> {
        let mut segments = self.path().strip_prefix('/')?.split('/');
        let parts = (segments.next()?, segments.next()?, segments.next()?);
        let service_account = segments.next()?;
        match (parts, segments.next()) {
            (("ns", namespace, "sa"), None) => Some(WorkloadName { namespace, service_account }),
            _ => None,
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

fn check_path(path: &str) -> Result<(), IdError> {
    let Some(segments) = path.strip_prefix('/') else {
        return Ok(());
    };
    segments.split('/').try_for_each(|segment| check_segment(segment, path))
}

fn check_segment(segment: &str, path: &str) -> Result<(), IdError> {
    let fail = |reason| Err(IdError::Path { path: path.to_owned(), reason });
    if segment.is_empty() {
        return fail("a segment is empty");
    }
    if segment == "." || segment == ".." {
        return fail("'.' and '..' are not allowed as segments");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !segment.bytes().all(allowed) {
        return fail("only letters, digits, '.', '-' and '_' are allowed in a segment");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_id_and_its_parts_convert_both_ways() {
        let domain = TrustDomain::new("cluster.local").unwrap();
        let id = SpiffeId::workload(&domain, "default", "web").unwrap();
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/default/sa/web");
        assert_eq!(id.trust_domain(), domain);
        assert_eq!(id.path(), "/ns/default/sa/web");
        let name = id.workload_name().unwrap();
        assert_eq!((name.namespace, name.service_account), ("default", "web"));
        assert_eq!(id.as_str().parse::<SpiffeId>().unwrap(), id);
    }

    #[test]
    fn id_without_workload_path_has_no_workload_name() {
        for text in [
            "spiffe://td",
            "spiffe://td/ns/a/sa",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td/x/a/sa/b",
        ] {
            assert_eq!(SpiffeId::parse(text).unwrap().workload_name(), None);
        }
    }

    #[test]
    fn ids_that_break_the_standard_are_refused() {
        for text in [
            "",
            "spiffe:/td/x",
            "SPIFFE://td/x",
            "https://td/x",
            "spiffe://",
            "spiffe:///x",
            "spiffe://TD/x",
            "spiffe://td:80/x",
            "spiffe://user@td/x",
            "spiffe://td/",
            "spiffe://td/x/",
            "spiffe://td//x",
            "spiffe://td/./x",
            "spiffe://td/../x",
            "spiffe://td/x?y",
            "spiffe://td/x#y",
            "spiffe://td/%20",
        ] {
            assert!(SpiffeId::parse(text).is_err(), "{text} was accepted");
        }
        assert!(SpiffeId::parse(&format!("spiffe://{}/x", "a".repeat(256))).is_err());
        assert!(SpiffeId::parse(&format!("spiffe://td/{}", "a".repeat(2048))).is_err());
    }

    #[test]
    fn service_account_with_a_slash_cannot_change_the_path() {
        let domain = TrustDomain::new("td").unwrap();
        assert!(SpiffeId::workload(&domain, "a", "b/c").is_err());
        assert!(SpiffeId::workload(&domain, "", "b").is_err());
    }
}
