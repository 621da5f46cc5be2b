//! TLS configurations: certificates, verification by name, ALPN.
