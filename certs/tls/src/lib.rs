//! TLS configurations: certificates, verification by name, ALPN.

/// A downstream TLS configuration.
#[derive(Debug)]
pub struct ServerTls;

/// An upstream TLS configuration.
#[derive(Debug)]
pub struct ClientTls;
