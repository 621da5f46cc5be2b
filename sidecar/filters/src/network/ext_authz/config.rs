//! `network.ext_authz.v3.ExtAuthz`.

use std::sync::Arc;

use weft_xds_proto::pb::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as PbFilter;
use weft_xds_proto::pb::google::protobuf::Any;

use super::{ExtAuthz, Stats};
use crate::authorization::Shown;
use crate::config::{FieldError, Within, decode, grpc_service, metadata_matcher};
use crate::{FilterCx, NetworkFilterKind};

pub(crate) fn compile(
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<NetworkFilterKind, FieldError> {
    let config: PbFilter = decode(config)?;
    if config.stat_prefix.is_empty() {
        return Err(FieldError::missing("stat_prefix"));
    }
    let refused = [
        (!config.typed_metadata_context_namespaces.is_empty(), "typed_metadata_context_namespaces"),
        (!config.bootstrap_metadata_labels_key.is_empty(), "bootstrap_metadata_labels_key"),
        (config.send_tls_alert_on_denial, "send_tls_alert_on_denial"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let service = config.grpc_service.as_ref();
    let service = service.ok_or_else(|| FieldError::missing("grpc_service"))?;
    let enabled = config.filter_enabled_metadata.as_ref().map(metadata_matcher);
    Ok(NetworkFilterKind::Filter(Arc::new(ExtAuthz {
        target: grpc_service(service).within("grpc_service")?,
        fails_open: config.failure_mode_allow,
        shown: Shown {
            certificate: config.include_peer_certificate,
            session: config.include_tls_session,
        },
        enabled: enabled.transpose().within("filter_enabled_metadata")?,
        stats: stats(cx, &config.stat_prefix),
        namespaces: config.metadata_context_namespaces,
        shadow: config.shadow_mode,
    })))
}

fn stats(cx: &FilterCx<'_>, prefix: &str) -> Stats {
    let scope = cx.registry.scope("ext_authz", None);
    let counter = |name: &str| scope.counter(&format!("{prefix}.{name}"));
    Stats {
        total: counter("total"),
        ok: counter("ok"),
        denied: counter("denied"),
        error: counter("error"),
        failure_mode_allowed: counter("failure_mode_allowed"),
        disabled: counter("disabled"),
        cx_closed: counter("cx_closed"),
        active: scope.gauge(&format!("{prefix}.active")),
    }
}
