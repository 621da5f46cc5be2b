//! Which application protocols an HTTP connection over TLS offers, and what the answer means.

use std::sync::{Arc, LazyLock};

use super::Kind;

type Protocols = Arc<[Vec<u8>]>;

static AUTO: LazyLock<Protocols> = LazyLock::new(|| list(&["h2", "http/1.1"]));
static ISTIO_AUTO: LazyLock<Protocols> =
    LazyLock::new(|| list(&["istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"]));
static ISTIO_HTTP1: LazyLock<Protocols> =
    LazyLock::new(|| list(&["istio-http/1.1", "istio", "http/1.1"]));
static ISTIO_HTTP2: LazyLock<Protocols> = LazyLock::new(|| list(&["istio-h2", "istio", "h2"]));

fn list(names: &[&str]) -> Protocols {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// What is offered instead of the configured protocols. Between Istio's sidecars the names say
/// that HTTP follows, so that the server can choose its filter chain without looking.
pub(super) fn offered(kind: Kind, istio: bool) -> Option<&'static Protocols> {
    match (kind, istio) {
        (Kind::Auto, false) => Some(&AUTO),
        (Kind::Auto, true) => Some(&ISTIO_AUTO),
        (Kind::Http1, true) => Some(&ISTIO_HTTP1),
        (Kind::Http2, true) => Some(&ISTIO_HTTP2),
        (Kind::Http1 | Kind::Http2, false) => None,
    }
}

/// The protocol to speak, given what the server has selected.
pub(super) fn decided(kind: Kind, selected: Option<&[u8]>) -> Kind {
    match (kind, selected) {
        (Kind::Auto, Some(b"h2" | b"istio-h2")) => Kind::Http2,
        (Kind::Auto, _) => Kind::Http1,
        (kind, _) => kind,
    }
}
