//! Which of the headers that matter here a message may have: one look at each name instead of one
//! search for each kind.

use http::HeaderMap;

/// A set of kinds of headers. What is not in it is not in the message; what is in it may have been
/// removed since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found(u16);

impl Found {
    pub(super) const CONNECTION: Self = Self(1);
    pub(super) const UPGRADE: Self = Self(1 << 1);
    pub(super) const TRANSFER_ENCODING: Self = Self(1 << 2);
    /// Other headers that concern one connection only.
    pub(super) const OTHER_HOP: Self = Self(1 << 3);
    pub(super) const CONTENT_TYPE: Self = Self(1 << 4);
    pub(super) const EXPECT: Self = Self(1 << 5);
    pub(super) const FORWARDED_FOR: Self = Self(1 << 6);
    pub(super) const FORWARDED_PROTO: Self = Self(1 << 7);
    pub(super) const CLIENT_CERT: Self = Self(1 << 8);
    pub(super) const REQUEST_ID: Self = Self(1 << 9);
    /// Any `x-envoy-*`.
    pub(super) const ENVOY: Self = Self(1 << 10);
    /// Everything that concerns one connection only (RFC 9110, 7.6.1).
    pub(super) const HOP_BY_HOP: Self =
        Self(Self::CONNECTION.0 | Self::UPGRADE.0 | Self::TRANSFER_ENCODING.0 | Self::OTHER_HOP.0);

    /// Looks at the names of all headers.
    pub(super) fn among(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |found, name| found | Self::kind(name.as_str()).0))
    }

    /// Whether one of these kinds may be there.
    pub(super) fn has(self, kinds: Self) -> bool {
        self.0 & kinds.0 != 0
    }

    fn kind(name: &str) -> Self {
        // Most names differ in their length already.
        match (name.len(), name) {
            (2, "te") | (10, "keep-alive") | (14, "http2-settings") | (16, "proxy-connection") => {
                Self::OTHER_HOP
            }
            (6, "expect") => Self::EXPECT,
            (7, "upgrade") => Self::UPGRADE,
            (10, "connection") => Self::CONNECTION,
            (12, "content-type") => Self::CONTENT_TYPE,
            (12, "x-request-id") => Self::REQUEST_ID,
            (15, "x-forwarded-for") => Self::FORWARDED_FOR,
            (17, "transfer-encoding") => Self::TRANSFER_ENCODING,
            (17, "x-forwarded-proto") => Self::FORWARDED_PROTO,
            (23, "x-forwarded-client-cert") => Self::CLIENT_CERT,
            (9.., name) if name.starts_with("x-envoy-") => Self::ENVOY,
            _ => Self(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn each_kind_is_found_by_its_name() {
        for (name, kind) in [
            ("connection", Found::CONNECTION),
            ("upgrade", Found::UPGRADE),
            ("transfer-encoding", Found::TRANSFER_ENCODING),
            ("te", Found::OTHER_HOP),
            ("keep-alive", Found::OTHER_HOP),
            ("proxy-connection", Found::OTHER_HOP),
            ("http2-settings", Found::OTHER_HOP),
            ("content-type", Found::CONTENT_TYPE),
            ("expect", Found::EXPECT),
            ("x-forwarded-for", Found::FORWARDED_FOR),
            ("x-forwarded-proto", Found::FORWARDED_PROTO),
            ("x-forwarded-client-cert", Found::CLIENT_CERT),
            ("x-request-id", Found::REQUEST_ID),
            ("x-envoy-retry-on", Found::ENVOY),
            ("x-envoy-hedge-on-per-try-timeout", Found::ENVOY),
            ("x-envoy-", Found::default()),
            ("content-length", Found::default()),
            ("x-forwarded-host", Found::default()),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("a"));
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("b"));
            assert_eq!(Found::among(&headers), kind, "{name}");
        }
        assert!(Found::UPGRADE.has(Found::HOP_BY_HOP) && !Found::EXPECT.has(Found::HOP_BY_HOP));
    }
}
