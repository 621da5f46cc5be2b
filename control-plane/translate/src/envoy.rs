//! Small pieces of Envoy's messages that many resources share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use weft_xds_proto::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, DataSource,
    GrpcService, HeaderValue, HeaderValueOption, Metadata, SocketAddress, TransportSocket, address,
    api_config_source::ApiType,
    config_source::ConfigSourceSpecifier,
    data_source,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
    header_value_option::HeaderAppendAction,
    socket_address::PortSpecifier,
    transport_socket,
};
use weft_xds_proto::pb::envoy::r#type::matcher::v3::{
    RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};
use weft_xds_proto::pb::google::protobuf::{
    self, BoolValue, Struct, UInt32Value, Value, value::Kind,
};
use weft_xds_proto::{Message, Name, pack};

pub(crate) const TLS: &str = "envoy.transport_sockets.tls";
pub(crate) const RAW_BUFFER: &str = "envoy.transport_sockets.raw_buffer";

pub(crate) fn address(address: IpAddr, port: u16) -> Address {
    address_of(&address.to_string(), port)
}

/// An address whose host may be a domain.
pub(crate) fn address_of(host: &str, port: u16) -> Address {
    Address { address: Some(address::Address::SocketAddress(socket_address(host, port))) }
}

pub(crate) fn socket_address(host: &str, port: u16) -> SocketAddress {
    SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..Default::default()
    }
}

pub(crate) fn duration(duration: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// No limit, where Envoy has one by default.
pub(crate) fn unlimited() -> protobuf::Duration {
    duration(Duration::ZERO)
}

pub(crate) fn number(value: u32) -> UInt32Value {
    UInt32Value { value }
}

pub(crate) fn flag(value: bool) -> BoolValue {
    BoolValue { value }
}

/// Resources that come over the aggregated stream; without a limit on the waiting.
pub(crate) fn from_ads() -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: Some(unlimited()),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// Secrets that the node's own certificate agent provides, as Istio names its cluster.
pub(crate) fn from_agent() -> ConfigSource {
    let service = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: "sds-grpc".to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    };
    ConfigSource {
        initial_fetch_timeout: Some(unlimited()),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
            api_type: ApiType::Grpc.into(),
            transport_api_version: ApiVersion::V3.into(),
            grpc_services: vec![service],
            set_node_on_first_message_only: true,
            ..Default::default()
        })),
        ..Default::default()
    }
}

pub(crate) fn inline(text: impl Into<String>) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.into())),
        ..Default::default()
    }
}

pub(crate) fn transport<M: Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(config))),
    }
}

pub(crate) fn exact(text: impl Into<String>) -> StringMatcher {
    matcher(MatchPattern::Exact(text.into()))
}

pub(crate) fn prefix(text: impl Into<String>) -> StringMatcher {
    matcher(MatchPattern::Prefix(text.into()))
}

/// A match of the whole text.
pub(crate) fn regex_match(expression: impl Into<String>) -> StringMatcher {
    matcher(MatchPattern::SafeRegex(regex(expression)))
}

fn matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

pub(crate) fn regex(expression: impl Into<String>) -> RegexMatcher {
    RegexMatcher { regex: expression.into(), ..Default::default() }
}

pub(crate) fn substitution(
    expression: impl Into<String>,
    replacement: impl Into<String>,
) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute { pattern: Some(regex(expression)), substitution: replacement.into() }
}

pub(crate) fn header(
    name: &str,
    value: impl Into<String>,
    action: HeaderAppendAction,
) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.into(),
            ..Default::default()
        }),
        append_action: action.into(),
        ..Default::default()
    }
}

/// A struct of one text field. More than one would not be encoded in a stable order.
pub(crate) fn one_field(name: &str, value: &str) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(value.to_owned())) };
    Struct { fields: HashMap::from([(name.to_owned(), value)]) }
}

/// Metadata of one filter.
pub(crate) fn metadata(filter: &str, fields: Struct) -> Metadata {
    Metadata { filter_metadata: HashMap::from([(filter.to_owned(), fields)]), ..Default::default() }
}
