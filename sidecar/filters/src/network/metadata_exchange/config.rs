//! `envoy.tcp.metadataexchange.config.MetadataExchange`, as itself or as a `TypedStruct`.

use std::sync::Arc;

use weft_filter_api::{ExchangeStats, PeerExchange};
use weft_xds_proto::TypedStruct;
use weft_xds_proto::istio::MetadataExchange as PbExchange;
use weft_xds_proto::pb::google::protobuf::Any;

use super::{MetadataExchange, preface};
use crate::config::FieldError;
use crate::http::peer_metadata;
use crate::{FilterCx, NetworkFilterKind};

pub(crate) fn compile(
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<NetworkFilterKind, FieldError> {
    exchange(config, cx)
        .map(|exchange| NetworkFilterKind::Filter(Arc::new(MetadataExchange(exchange))))
}

/// The exchange, of a listener's filter or a cluster's.
pub(crate) fn exchange(config: &Any, cx: &FilterCx<'_>) -> Result<Arc<PeerExchange>, FieldError> {
    let protocol = if TypedStruct::is(config) {
        let fields = TypedStruct::open(config)?.value;
        fields["protocol"].as_str().unwrap_or_default().to_owned()
    } else {
        PbExchange::read(config)?.protocol
    };
    if protocol.is_empty() {
        return Err(FieldError::missing("protocol"));
    }
    let scope = cx.registry.scope("metadata_exchange", None);
    Ok(Arc::new(PeerExchange {
        protocol: protocol.into_bytes(),
        preface: preface::write(&peer_metadata::config::encode(cx.node), &cx.node.id),
        read: preface::read,
        stats: ExchangeStats {
            protocol_found: scope.counter("alpn_protocol_found"),
            protocol_not_found: scope.counter("alpn_protocol_not_found"),
            no_header: scope.counter("initial_header_not_found"),
            malformed: scope.counter("header_not_found"),
            sent: scope.counter("metadata_added"),
        },
    }))
}
