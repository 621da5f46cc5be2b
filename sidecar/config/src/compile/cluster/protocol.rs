//! Which protocol is spoken upstream, and its options.

use std::time::Duration;

use weft_filters::config::{FieldError, Within, decode, limit};
use weft_model::{Http1Options, Http2Options, ProtocolChoice};
use weft_xds_proto::pb::envoy::config::cluster::v3::{
    Cluster as PbCluster, cluster::ClusterProtocolSelection,
};
use weft_xds_proto::pb::envoy::config::core::v3::{
    HttpProtocolOptions as Common, UpstreamHttpProtocolOptions,
};
use weft_xds_proto::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        UpstreamProtocolOptions as Kind, explicit_http_config::ProtocolConfig,
    },
};

use crate::compile::options::{http1, http2};

/// The key of the options in `typed_extension_protocol_options`.
const KEY: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// `common_http_protocol_options.idle_timeout` when it is not set.
const IDLE: Duration = Duration::from_secs(3600);

/// What the options come to.
pub(super) struct Protocol {
    pub(super) choice: ProtocolChoice,
    pub(super) http1: Http1Options,
    pub(super) http2: Http2Options,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_requests: Option<u32>,
    pub(super) max_duration: Option<Duration>,
    pub(super) auto_sni: bool,
    /// `auto_san_validation`: the certificate has to have the server name.
    pub(super) match_sni: bool,
}

/// Compiles the protocol options of a cluster.
pub(super) fn protocol(config: &PbCluster) -> Result<Protocol, FieldError> {
    match config.typed_extension_protocol_options.get(KEY) {
        Some(any) => decode::<HttpProtocolOptions>(any)
            .and_then(|options| typed(&options))
            .within_key("typed_extension_protocol_options", KEY),
        None => older(config),
    }
}

fn typed(options: &HttpProtocolOptions) -> Result<Protocol, FieldError> {
    let refused = [
        (!options.http_filters.is_empty(), "http_filters"),
        (!options.request_mirror_policies.is_empty(), "request_mirror_policies"),
        (!options.hash_policy.is_empty(), "hash_policy"),
        (options.retry_policy.is_some(), "retry_policy"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let (choice, one, two) = match &options.upstream_protocol_options {
        None => return Err(FieldError::missing("explicit_http_config")),
        Some(Kind::ExplicitHttpConfig(explicit)) => match &explicit.protocol_config {
            Some(ProtocolConfig::HttpProtocolOptions(one)) => {
                (ProtocolChoice::Http1, Some(one), None)
            }
            Some(ProtocolConfig::Http2ProtocolOptions(two)) => {
                (ProtocolChoice::Http2, None, Some(two))
            }
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return Err(FieldError::unsupported("explicit_http_config.http3_protocol_options"));
            }
            None => return Err(FieldError::missing("explicit_http_config.http_protocol_options")),
        },
        Some(Kind::UseDownstreamProtocolConfig(both)) => (
            ProtocolChoice::Downstream,
            both.http_protocol_options.as_ref(),
            both.http2_protocol_options.as_ref(),
        ),
        Some(Kind::AutoConfig(both)) => (
            ProtocolChoice::Auto,
            both.http_protocol_options.as_ref(),
            both.http2_protocol_options.as_ref(),
        ),
    };
    let common = options.common_http_protocol_options.as_ref();
    assemble(
        choice,
        (http1(one)?, http2(two)?),
        common,
        options.upstream_http_protocol_options.as_ref(),
    )
}

/// The fields that the cluster itself had before `typed_extension_protocol_options`.
#[expect(deprecated, reason = "older control planes send them")]
fn older(config: &PbCluster) -> Result<Protocol, FieldError> {
    let downstream = ClusterProtocolSelection::UseDownstreamProtocol as i32;
    let two = config.http2_protocol_options.as_ref();
    let choice = match (config.protocol_selection == downstream, two) {
        (true, _) => ProtocolChoice::Downstream,
        (false, Some(_)) => ProtocolChoice::Http2,
        (false, None) => ProtocolChoice::Http1,
    };
    let one = http1(config.http_protocol_options.as_ref()).within("http_protocol_options")?;
    let two = http2(two).within("http2_protocol_options")?;
    let mut protocol = assemble(
        choice,
        (one, two),
        config.common_http_protocol_options.as_ref(),
        config.upstream_http_protocol_options.as_ref(),
    )?;
    let max = config.max_requests_per_connection.as_ref().map(|max| max.value);
    protocol.max_requests = protocol.max_requests.or(max.filter(|max| *max > 0));
    Ok(protocol)
}

fn assemble(
    choice: ProtocolChoice,
    (http1, http2): (Http1Options, Http2Options),
    common: Option<&Common>,
    upstream: Option<&UpstreamHttpProtocolOptions>,
) -> Result<Protocol, FieldError> {
    if upstream.is_some_and(|upstream| !upstream.override_auto_sni_header.is_empty()) {
        let field = "upstream_http_protocol_options.override_auto_sni_header";
        return Err(FieldError::unsupported(field));
    }
    let idle = common.and_then(|common| common.idle_timeout.as_ref());
    let duration = common.and_then(|common| common.max_connection_duration.as_ref());
    let max = common.and_then(|common| common.max_requests_per_connection.as_ref());
    let within = "common_http_protocol_options";
    Ok(Protocol {
        choice,
        http1,
        http2,
        idle_timeout: limit(idle, "idle_timeout", Some(IDLE)).within(within)?,
        max_requests: max.map(|max| max.value).filter(|max| *max > 0),
        max_duration: limit(duration, "max_connection_duration", None).within(within)?,
        auto_sni: upstream.is_some_and(|upstream| upstream.auto_sni),
        match_sni: upstream.is_some_and(|upstream| upstream.auto_san_validation),
    })
}
