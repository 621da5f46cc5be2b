//! `grpc_stats.v3.FilterConfig`

use std::sync::Arc;

use weft_xds_proto::pb::envoy::extensions::filters::http::grpc_stats::v3::{
    FilterConfig, filter_config::PerMethodStatSpecifier,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{GrpcStats, Methods};
use crate::cluster_counters::ClusterCounters;
use crate::config::{FieldError, decode};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: FilterConfig = decode(config)?;
    let methods = match config.per_method_stat_specifier {
        None => Methods::Each(false),
        Some(PerMethodStatSpecifier::StatsForAllMethods(all)) => Methods::Each(all.value),
        Some(PerMethodStatSpecifier::IndividualMethodStatsAllowlist(list)) => Methods::Listed(
            list.services.into_iter().map(|service| (service.name, service.method_names)).collect(),
        ),
    };
    Ok(HttpFilterKind::Filter(Arc::new(GrpcStats {
        registry: cx.registry.clone(),
        counters: ClusterCounters::new(cx.registry),
        methods,
        times: config.enable_upstream_stats,
        replace_dots: config.replace_dots_in_grpc_service_name,
    })))
}
