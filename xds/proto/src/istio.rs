//! Messages of Istio's that the generated types lack.

use std::collections::HashMap;

use prost::Message;

use crate::pb::google::protobuf::{Any, Duration};
use crate::{AnyError, any::type_name};

/// `stats.PluginConfig`, of the filter `istio.stats`.
#[derive(Clone, PartialEq, Message)]
pub struct PluginConfig {
    /// The host that was asked for is no name of a service.
    #[prost(bool, tag = "6")]
    pub disable_host_header_fallback: bool,
    /// How often connections are counted while they last.
    #[prost(message, optional, tag = "7")]
    pub tcp_reporting_duration: Option<Duration>,
    /// Changes of the standard metrics.
    #[prost(message, repeated, tag = "8")]
    pub metrics: Vec<MetricConfig>,
    /// Metrics besides the standard ones.
    #[prost(message, repeated, tag = "9")]
    pub definitions: Vec<MetricDefinition>,
    /// `Reporter`
    #[prost(int32, tag = "10")]
    pub reporter: i32,
    /// After how long metrics that are not counted for are forgotten.
    #[prost(message, optional, tag = "11")]
    pub rotation_interval: Option<Duration>,
    /// How long they are still shown.
    #[prost(message, optional, tag = "12")]
    pub graceful_deletion_interval: Option<Duration>,
}

/// `stats.MetricConfig`
#[derive(Clone, PartialEq, Message)]
pub struct MetricConfig {
    /// Labels and the expressions of their values.
    #[prost(map = "string, string", tag = "1")]
    pub dimensions: HashMap<String, String>,
    /// The metric; empty: all.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Labels to leave out.
    #[prost(string, repeated, tag = "3")]
    pub tags_to_remove: Vec<String>,
    /// Not in use.
    #[prost(string, tag = "4")]
    pub r#match: String,
    /// Leaves the metric out.
    #[prost(bool, tag = "5")]
    pub drop: bool,
}

/// `stats.MetricDefinition`
#[derive(Clone, PartialEq, Message)]
pub struct MetricDefinition {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The expression of its value.
    #[prost(string, tag = "2")]
    pub value: String,
    /// `MetricType`
    #[prost(int32, tag = "3")]
    pub r#type: i32,
}

impl PluginConfig {
    /// The full name of the message.
    pub const NAME: &'static str = "stats.PluginConfig";

    /// Opens an `Any`.
    ///
    /// # Errors
    /// It holds another message, or its bytes do not decode.
    pub fn read(any: &Any) -> Result<Self, AnyError> {
        read(any, Self::NAME)
    }
}

/// `envoy.tcp.metadataexchange.config.MetadataExchange`
#[derive(Clone, PartialEq, Message)]
pub struct MetadataExchange {
    /// The ALPN name by which both sides agree on it.
    #[prost(string, tag = "1")]
    pub protocol: String,
    /// Looks peers up by their addresses, too.
    #[prost(bool, tag = "2")]
    pub enable_discovery: bool,
}

impl MetadataExchange {
    /// The full name of the message.
    pub const NAME: &'static str = "envoy.tcp.metadataexchange.config.MetadataExchange";

    /// Opens an `Any`, as [`PluginConfig::read`].
    ///
    /// # Errors
    /// As [`PluginConfig::read`].
    pub fn read(any: &Any) -> Result<Self, AnyError> {
        read(any, Self::NAME)
    }
}

fn read<M: Message + Default>(any: &Any, name: &str) -> Result<M, AnyError> {
    if type_name(&any.type_url) != name {
        return Err(AnyError::WrongType { expected: name.to_owned(), found: any.type_url.clone() });
    }
    M::decode(any.value.as_slice())
        .map_err(|source| AnyError::Malformed { type_url: any.type_url.clone(), source })
}
