//! The targets.

mod answer;
mod certificates;
mod http1;
mod http2;
mod inspect;
mod proxy;
mod tls;
mod xds;

use crate::Target;

/// All of them.
#[must_use]
pub fn targets() -> &'static [Target] {
    &[
        http1::SERVER,
        http1::CLIENT,
        http2::SERVER,
        http2::CLIENT,
        http2::HPACK,
        http2::PAIR,
        inspect::HELLO,
        inspect::PROXY_HEADER,
        proxy::CONNECTION,
        proxy::PATH,
        proxy::TOKEN,
        tls::SERVER,
        tls::CLIENT,
        tls::RECORDS,
        certificates::CERTIFICATES,
        xds::LISTENER,
        xds::ROUTE,
        xds::VIRTUAL_HOST,
        xds::CLUSTER,
        xds::ENDPOINT,
        xds::SECRET,
        xds::BOOTSTRAP,
    ]
}
