//! Transport sockets.

mod file;
mod plan;
mod proxy;

use std::sync::Arc;
use std::time::Duration;

use weft_filters::config::{FieldError, Within, decode};
use weft_model::{ProxiedSocket, Slot, TransportSocket, UpstreamSocket};
use weft_tls::{ClientTlsSpec, ServerTlsSpec, TlsVersion, ValidationSpec};
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::core::v3::{
    ProxyProtocolConfig, TransportSocket as PbSocket, transport_socket::ConfigType,
};
use weft_xds_proto::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsParameters, UpstreamTlsContext,
    common_tls_context::ValidationContextType, downstream_tls_context::SessionTicketKeysType,
    tls_parameters::TlsProtocol,
};
use weft_xds_proto::pb::google::protobuf::Any;

pub(crate) use file::FileSecret;
pub(crate) use plan::{Held, SecretKey, TlsPlan};
use plan::{Side, Validation, Wanted};
use proxy::proxy_header;

use super::secret::{self, SecretValue, certificate, validation};
use super::source::{Fetch, Source, fetch};
use super::{Cx, options::flag};

const RAW: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
const DOWNSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const UPSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const PROXIED: &str =
    "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
/// The ALPN name by which Istio's contexts are known.
const ISTIO: &str = "istio";

fn typed(socket: &PbSocket) -> Result<Option<&Any>, FieldError> {
    match &socket.config_type {
        Some(ConfigType::TypedConfig(any)) if type_name(&any.type_url) == RAW => Ok(None),
        Some(ConfigType::TypedConfig(any)) => Ok(Some(any)),
        None if socket.name == "envoy.transport_sockets.raw_buffer" => Ok(None),
        None => Err(FieldError::missing("typed_config")),
    }
}

fn unknown(any: &Any, name: &str) -> FieldError {
    let message = type_name(&any.type_url);
    let reason = format!("no transport socket is known for {message:?} (named {name:?})");
    FieldError::at("typed_config", reason)
}

/// Compiles the transport socket of a filter chain; `exchange`: its connections begin with what
/// Istio's peers tell each other, where both agree.
pub(super) fn downstream(
    cx: &mut Cx<'_>,
    socket: &PbSocket,
    exchange: bool,
) -> Result<TransportSocket, FieldError> {
    let Some(any) = typed(socket)? else { return Ok(TransportSocket::Raw) };
    if type_name(&any.type_url) != DOWNSTREAM {
        return Err(unknown(any, &socket.name));
    }
    decode(any).and_then(|config| server(cx, &config, exchange)).within("typed_config")
}

fn server(
    cx: &mut Cx<'_>,
    config: &DownstreamTlsContext,
    exchange: bool,
) -> Result<TransportSocket, FieldError> {
    if flag(config.require_sni.as_ref()) {
        return Err(FieldError::unsupported("require_sni"));
    }
    let common = config.common_tls_context.as_ref();
    let common = common.ok_or_else(|| FieldError::missing("common_tls_context"))?;
    let parts = common_parts(cx, common).within("common_tls_context")?;
    if parts.certificates.is_empty() {
        let reason = "is required: give tls_certificates or tls_certificate_sds_secret_configs";
        return Err(FieldError::at("common_tls_context.tls_certificates", reason));
    }
    let stateless = match &config.session_ticket_keys_type {
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(disable)) => !disable,
        _ => true,
    };
    let template = ServerTlsSpec {
        certificates: Vec::new(),
        validation: None,
        require_client_certificate: flag(config.require_client_certificate.as_ref()),
        alpn: alpn(common),
        peer_exchange: exchange,
        min_version: parts.min,
        max_version: parts.max,
        cipher_suites: parts.ciphers,
        session_tickets: stateless || !config.disable_stateful_session_resumption,
    };
    let slot = Slot::empty();
    let plan = TlsPlan {
        side: Side::Server { slot: slot.clone(), template },
        certificates: parts.certificates,
        validation: parts.validation,
        timeout: parts.timeout,
    };
    keep(cx, plan)?;
    Ok(TransportSocket::Tls(slot))
}

/// What the transport sockets of one cluster say besides themselves.
#[derive(Default)]
pub(super) struct Seen {
    /// The certificate has to have the server name (`auto_san_validation`); set by the caller.
    pub(super) match_sni: bool,
    /// The server name is the request's host.
    pub(super) auto_sni: bool,
    /// One of them is for Istio's mutual TLS.
    pub(super) istio_alpn: bool,
    /// The protocols of that one.
    pub(super) protocols: Vec<Vec<u8>>,
}

/// Compiles a transport socket of a cluster.
pub(super) fn upstream(
    cx: &mut Cx<'_>,
    socket: &PbSocket,
    seen: &mut Seen,
) -> Result<UpstreamSocket, FieldError> {
    let Some(any) = typed(socket)? else { return Ok(UpstreamSocket::Raw) };
    match type_name(&any.type_url) {
        UPSTREAM => decode(any).and_then(|config| client(cx, &config, seen)).within("typed_config"),
        PROXIED => decode(any).and_then(|config| proxied(cx, &config, seen)).within("typed_config"),
        _ => Err(unknown(any, &socket.name)),
    }
}

/// A socket whose bytes begin with a PROXY header.
fn proxied(
    cx: &mut Cx<'_>,
    config: &ProxyProtocolUpstreamTransport,
    seen: &mut Seen,
) -> Result<UpstreamSocket, FieldError> {
    let socket = config.transport_socket.as_ref();
    let socket = socket.ok_or_else(|| FieldError::missing("transport_socket"))?;
    let inner = upstream(cx, socket, seen).within("transport_socket")?;
    if inner.header().is_some() {
        return Err(FieldError::at("transport_socket", "begins with a PROXY header, too"));
    }
    let usual = ProxyProtocolConfig::default();
    let header = proxy_header(config.config.as_ref().unwrap_or(&usual)).within("config")?;
    Ok(UpstreamSocket::Proxied(Box::new(ProxiedSocket { header, inner })))
}

fn client(
    cx: &mut Cx<'_>,
    config: &UpstreamTlsContext,
    seen: &mut Seen,
) -> Result<UpstreamSocket, FieldError> {
    let default = CommonTlsContext::default();
    let common = config.common_tls_context.as_ref().unwrap_or(&default);
    let parts = common_parts(cx, common).within("common_tls_context")?;
    if parts.certificates.len() > 1 {
        let reason = "a client shows one certificate; give one";
        return Err(FieldError::at("common_tls_context.tls_certificates", reason));
    }
    seen.auto_sni |= config.auto_host_sni;
    if common.alpn_protocols.iter().any(|name| name == ISTIO) {
        seen.istio_alpn = true;
        seen.protocols = alpn(common);
    }
    let template = ClientTlsSpec {
        certificate: None,
        validation: None,
        alpn: alpn(common),
        sni: Some(config.sni.clone()).filter(|sni| !sni.is_empty()),
        match_server_name: seen.match_sni || config.auto_sni_san_validation,
        min_version: parts.min,
        max_version: parts.max,
        cipher_suites: parts.ciphers,
        session_resumption: config.max_session_keys.as_ref().is_none_or(|keys| keys.value > 0),
    };
    let slot = Slot::empty();
    let plan = TlsPlan {
        side: Side::Client { slot: slot.clone(), template },
        certificates: parts.certificates,
        validation: parts.validation,
        timeout: parts.timeout,
    };
    keep(cx, plan)?;
    Ok(UpstreamSocket::Tls(slot))
}

/// Builds a plan that needs no secrets, so that its errors are those of the resource; keeps others.
fn keep(cx: &mut Cx<'_>, plan: TlsPlan) -> Result<(), FieldError> {
    if plan.secrets().next().is_none() {
        plan.fill(&|_| None).within("common_tls_context")?;
    }
    cx.needs.tls.push(Arc::new(plan));
    Ok(())
}

fn alpn(common: &CommonTlsContext) -> Vec<Vec<u8>> {
    common.alpn_protocols.iter().map(|name| name.clone().into_bytes()).collect()
}

struct Parts {
    certificates: Vec<Wanted>,
    validation: Option<Validation>,
    timeout: Option<Duration>,
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
    ciphers: Option<Vec<String>>,
}

fn common_parts(cx: &Cx<'_>, config: &CommonTlsContext) -> Result<Parts, FieldError> {
    refuse(config)?;
    let mut patience = Patience::default();
    let mut certificates = Vec::new();
    for (index, one) in config.tls_certificates.iter().enumerate() {
        let chain = certificate(one).within_item("tls_certificates", index)?;
        certificates.push(Wanted::Here(chain));
    }
    for (index, one) in config.tls_certificate_sds_secret_configs.iter().enumerate() {
        let found = sds(cx, one, &mut patience);
        let wanted = found.and_then(|found| match found {
            Found::Named(key) => Ok(Wanted::Named(key)),
            Found::Here(SecretValue::Certificate(chain)) => Ok(Wanted::Here(chain)),
            Found::Here(_) => Err(FieldError::at("name", "this secret is no certificate")),
        });
        certificates.push(wanted.within_item("tls_certificate_sds_secret_configs", index)?);
    }
    let (min, max, ciphers) = parameters(config.tls_params.as_ref()).within("tls_params")?;
    let validation = validation_of(cx, config, &mut patience)?;
    Ok(Parts { certificates, validation, timeout: patience.limit(), min, max, ciphers })
}

#[expect(deprecated, reason = "the older fields have to be refused by name")]
fn refuse(config: &CommonTlsContext) -> Result<(), FieldError> {
    let refused = [
        (config.tls_certificate_provider_instance.is_some(), "tls_certificate_provider_instance"),
        (config.custom_tls_certificate_selector.is_some(), "custom_tls_certificate_selector"),
        (
            config.tls_certificate_certificate_provider.is_some(),
            "tls_certificate_certificate_provider",
        ),
        (
            config.tls_certificate_certificate_provider_instance.is_some(),
            "tls_certificate_certificate_provider_instance",
        ),
        (config.custom_handshaker.is_some(), "custom_handshaker"),
    ];
    match refused.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(FieldError::unsupported(field)),
        None => Ok(()),
    }
}

fn validation_of(
    cx: &Cx<'_>,
    config: &CommonTlsContext,
    patience: &mut Patience,
) -> Result<Option<Validation>, FieldError> {
    use ValidationContextType as Kind;
    let (own, secret, field) = match &config.validation_context_type {
        None => return Ok(None),
        Some(Kind::ValidationContext(own)) => {
            let own = validation(own).within("validation_context")?;
            return Ok(Some(Validation { own, secret: None }));
        }
        Some(Kind::ValidationContextSdsSecretConfig(secret)) => {
            (ValidationSpec::default(), Some(secret), "validation_context_sds_secret_config")
        }
        Some(Kind::CombinedValidationContext(both)) => {
            let own = both.default_validation_context.as_ref().map(validation).transpose();
            let own = own.within("combined_validation_context.default_validation_context")?;
            let secret = both.validation_context_sds_secret_config.as_ref();
            let field = "combined_validation_context.validation_context_sds_secret_config";
            (own.unwrap_or_default(), secret, field)
        }
        #[expect(deprecated, reason = "it has to be refused by name")]
        Some(Kind::ValidationContextCertificateProvider(_)) => {
            return Err(FieldError::unsupported("validation_context_certificate_provider"));
        }
        #[expect(deprecated, reason = "it has to be refused by name")]
        Some(Kind::ValidationContextCertificateProviderInstance(_)) => {
            return Err(FieldError::unsupported(
                "validation_context_certificate_provider_instance",
            ));
        }
    };
    let Some(config) = secret else { return Err(FieldError::missing(field)) };
    match sds(cx, config, patience).within(field)? {
        Found::Named(key) => Ok(Some(Validation { own, secret: Some(key) })),
        Found::Here(SecretValue::Validation(spec)) => {
            Ok(Some(Validation { own: secret::merged(&own, &spec), secret: None }))
        }
        Found::Here(_) => {
            Err(FieldError::at("name", "this secret is no validation context")).within(field)
        }
    }
}

type Parameters = (Option<TlsVersion>, Option<TlsVersion>, Option<Vec<String>>);

fn parameters(config: Option<&TlsParameters>) -> Result<Parameters, FieldError> {
    let Some(config) = config else { return Ok((None, None, None)) };
    // Versions below 1.2 are not spoken: as a lower bound they mean the lowest there is.
    let min = match TlsProtocol::try_from(config.tls_minimum_protocol_version) {
        Ok(TlsProtocol::TlSv13) => Some(TlsVersion::V1_3),
        _ => None,
    };
    let max = match TlsProtocol::try_from(config.tls_maximum_protocol_version) {
        Ok(TlsProtocol::TlsAuto) | Err(_) => None,
        Ok(TlsProtocol::TlSv13) => Some(TlsVersion::V1_3),
        Ok(TlsProtocol::TlSv12) => Some(TlsVersion::V1_2),
        Ok(TlsProtocol::TlSv10 | TlsProtocol::TlSv11) => {
            let reason = "TLS below 1.2 is not supported";
            return Err(FieldError::at("tls_maximum_protocol_version", reason));
        }
    };
    let ciphers = Some(config.cipher_suites.clone()).filter(|names| !names.is_empty());
    Ok((min, max, ciphers))
}

/// How long all secrets of a context are waited for: as long as the most patient one wants.
#[derive(Default)]
struct Patience {
    longest: Duration,
    for_ever: bool,
}

impl Patience {
    fn add(&mut self, timeout: Option<Duration>) {
        match timeout {
            None => self.for_ever = true,
            Some(timeout) => self.longest = self.longest.max(timeout),
        }
    }

    fn limit(&self) -> Option<Duration> {
        (!self.for_ever).then_some(self.longest)
    }
}

enum Found {
    Here(SecretValue),
    Named(SecretKey),
}

/// Finds out where a secret comes from; those in files and in the bootstrap are there at once.
fn sds(
    cx: &Cx<'_>,
    config: &SdsSecretConfig,
    patience: &mut Patience,
) -> Result<Found, FieldError> {
    let name = config.name.as_str();
    if name.is_empty() {
        return Err(FieldError::missing("name"));
    }
    if let Some(secret) = FileSecret::of_istio(name) {
        return in_files(secret).within("name");
    }
    let Some(source) = &config.sds_config else {
        let fixed = cx.secrets.fixed.get(name).cloned().map(Found::Here);
        return fixed.ok_or_else(|| {
            let reason = format!("{name:?} is not one of static_resources.secrets");
            FieldError::at("name", reason)
        });
    };
    let Fetch { source, timeout } = fetch(Some(source)).within("sds_config")?;
    let agent = match name {
        "default" => Some(SecretKey::AgentCertificate),
        "ROOTCA" => Some(SecretKey::AgentRoots),
        _ => None,
    };
    if let (true, Some(key)) = (cx.secrets.agent, agent) {
        patience.add(timeout);
        return Ok(Found::Named(key));
    }
    match source {
        Source::File(path) => {
            let secret = FileSecret::Listed { file: path, name: name.to_owned() };
            in_files(secret).within("sds_config.path_config_source.path")
        }
        Source::Grpc(server) if cx.secrets.ads_cluster.as_ref() != Some(&server.cluster) => {
            if !cx.secrets.static_clusters.contains(&server.cluster) {
                let reason =
                    format!("{:?} is not one of static_resources.clusters", server.cluster);
                let field = "sds_config.api_config_source.grpc_services[0].envoy_grpc.cluster_name";
                return Err(FieldError::at(field, reason));
            }
            patience.add(timeout);
            Ok(Found::Named(SecretKey::Server(server, name.into())))
        }
        Source::Ads | Source::Grpc(_) => {
            patience.add(timeout);
            Ok(Found::Named(SecretKey::Ads(name.into())))
        }
    }
}

/// A secret in files, which are read now to see whether they can be.
fn in_files(secret: FileSecret) -> Result<Found, FieldError> {
    secret.load()?;
    Ok(Found::Named(SecretKey::File(Arc::new(secret))))
}
