//! TLS contexts: the mesh's mTLS, as Istio's sidecars speak it, and the upstreams' own.

use std::collections::BTreeSet;

use weft_control_model::{EndpointIdentity, Ssl};
use weft_xds_proto::pb::envoy::config::core::v3::{
    ConfigSource, DataSource, TransportSocket, data_source::Specifier,
};
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    subject_alt_name_matcher::SanType,
    tls_parameters::TlsProtocol,
};
use weft_xds_proto::pb::envoy::r#type::matcher::v3::StringMatcher;

use crate::envoy::{self, flag, inline, number, transport};

/// What an application inside the TLS connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    Http1,
    Http2,
    Tcp,
}

/// The ALPN names by which Istio's permissive chains know mTLS from the application's own TLS.
/// `istio-peer-exchange` isn't among those offered: it would demand a preface in the stream.
pub(crate) const MESH_ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

impl Carried {
    fn offered(self) -> &'static [&'static str] {
        match self {
            Self::Http1 => &["istio-http/1.1", "istio", "http/1.1"],
            Self::Http2 => &["istio-h2", "istio", "h2"],
            Self::Tcp => &["istio"],
        }
    }

    fn accepted(self) -> &'static [&'static str] {
        match self {
            Self::Http1 | Self::Http2 => &["h2", "http/1.1"],
            Self::Tcp => &["istio", "h2", "http/1.1"],
        }
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// The identity as it stands in a certificate.
pub(crate) fn spiffe_id(trust_domain: &str, identity: &EndpointIdentity) -> String {
    let EndpointIdentity { namespace, service_account, .. } = identity;
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
}

/// Toward workloads of the mesh. `identities` are those of the endpoints; without any, whoever
/// belongs to the trust domain.
pub(crate) fn to_mesh(
    trust_domain: &str,
    sni: &str,
    identities: &BTreeSet<String>,
    carried: Carried,
) -> TransportSocket {
    let sans = if identities.is_empty() {
        vec![trust_domain_prefix(trust_domain)]
    } else {
        identities.iter().map(envoy::exact).collect()
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(mesh_context(sans, carried.offered())),
        sni: sni.to_owned(),
        ..Default::default()
    };
    transport(envoy::TLS, &context)
}

/// From workloads of the mesh.
pub(crate) fn from_mesh(trust_domain: &str, carried: Carried) -> TransportSocket {
    let sans = vec![trust_domain_prefix(trust_domain)];
    let context = DownstreamTlsContext {
        common_tls_context: Some(mesh_context(sans, carried.accepted())),
        require_client_certificate: Some(flag(true)),
        ..Default::default()
    };
    transport(envoy::TLS, &context)
}

fn trust_domain_prefix(trust_domain: &str) -> StringMatcher {
    envoy::prefix(format!("spiffe://{trust_domain}/"))
}

fn mesh_context(sans: Vec<StringMatcher>, alpn: &[&str]) -> CommonTlsContext {
    let matchers = sans.into_iter().map(|matcher| SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(matcher),
        ..Default::default()
    });
    let validation = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: matchers.collect(),
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(agent_secret("ROOTCA")),
        ..Default::default()
    };
    CommonTlsContext {
        tls_params: Some(versions(TlsProtocol::TlSv12, TlsProtocol::TlSv13)),
        tls_certificate_sds_secret_configs: vec![agent_secret("default")],
        alpn_protocols: texts(alpn),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(validation)),
        ..Default::default()
    }
}

fn agent_secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(envoy::from_agent()) }
}

/// A secret over the aggregated stream; one that doesn't come holds up a start for Envoy's 15 s.
fn ads_secret(name: String) -> SdsSecretConfig {
    let source = ConfigSource { initial_fetch_timeout: None, ..envoy::from_ads() };
    SdsSecretConfig { name, sds_config: Some(source) }
}

fn versions(minimum: TlsProtocol, maximum: TlsProtocol) -> TlsParameters {
    TlsParameters {
        tls_minimum_protocol_version: minimum.into(),
        tls_maximum_protocol_version: maximum.into(),
        ..Default::default()
    }
}

/// What an upstream with TLS of its own is told.
pub(crate) struct OwnTls {
    /// The name asked for; `None` means the request's host.
    pub(crate) sni: Option<String>,
    /// The secret with the certificate to show.
    pub(crate) client_secret: Option<String>,
    /// Whether the certificate is verified, against the system's authorities.
    pub(crate) verify: bool,
    pub(crate) http2: bool,
}

/// Where Debian keeps the authorities that the system trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

impl OwnTls {
    pub(crate) fn socket(&self) -> TransportSocket {
        let validation = self.verify.then(|| {
            ValidationContextType::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(DataSource {
                    specifier: Some(Specifier::Filename(SYSTEM_AUTHORITIES.to_owned())),
                    ..Default::default()
                }),
                match_typed_subject_alt_names: self.sni.iter().map(dns_name).collect(),
                ..Default::default()
            })
        });
        let alpn: &[&str] = if self.http2 { &["h2"] } else { &["http/1.1"] };
        let context = UpstreamTlsContext {
            common_tls_context: Some(CommonTlsContext {
                tls_certificate_sds_secret_configs: self
                    .client_secret
                    .iter()
                    .map(|name| ads_secret(name.clone()))
                    .collect(),
                alpn_protocols: texts(alpn),
                validation_context_type: validation,
                ..Default::default()
            }),
            sni: self.sni.clone().unwrap_or_default(),
            ..Default::default()
        };
        transport(envoy::TLS, &context)
    }
}

fn dns_name(name: &String) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: SanType::Dns.into(),
        matcher: Some(envoy::exact(name)),
        ..Default::default()
    }
}

/// The edge's side of an `ssl`; `secrets` are the names of its certificates.
pub(crate) fn edge(ssl: &Ssl, secrets: Vec<String>) -> TransportSocket {
    edge_context(ssl, secrets, &["h2", "http/1.1"])
}

/// The same for connections of any protocol.
pub(crate) fn edge_connections(ssl: &Ssl, secrets: Vec<String>) -> TransportSocket {
    edge_context(ssl, secrets, &[])
}

fn edge_context(ssl: &Ssl, secrets: Vec<String>, alpn: &[&str]) -> TransportSocket {
    let validation = ssl.client.as_ref().map(|client| {
        ValidationContextType::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(inline(client.ca.as_str())),
            max_verify_depth: Some(number(client.depth)),
            ..Default::default()
        })
    });
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(edge_versions(&ssl.ssl_protocols)),
            tls_certificate_sds_secret_configs: secrets.into_iter().map(ads_secret).collect(),
            alpn_protocols: texts(alpn),
            validation_context_type: validation,
            ..Default::default()
        }),
        require_client_certificate: ssl.client.as_ref().map(|_| flag(true)),
        ..Default::default()
    };
    transport(envoy::TLS, &context)
}

/// APISIX's names of versions; TLS 1.1 is raised to 1.2, the oldest that is spoken.
fn edge_versions(names: &[String]) -> TlsParameters {
    let known = |name: &str| names.is_empty() || names.iter().any(|known| known == name);
    let old = known("TLSv1.2") || known("TLSv1.1");
    let new = known("TLSv1.3");
    match (old, new) {
        (false, true) => versions(TlsProtocol::TlSv13, TlsProtocol::TlSv13),
        (true, false) => versions(TlsProtocol::TlSv12, TlsProtocol::TlSv12),
        _ => versions(TlsProtocol::TlSv12, TlsProtocol::TlSv13),
    }
}
