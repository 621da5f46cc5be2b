//! `envoy.filters.http.grpc_stats`: counts gRPC calls by their outcome, and their messages, among
//! the statistics of the cluster that they go to.

use std::sync::Arc;

use http::request::Parts as RequestHead;
use weft_filter_api::{Flow, HttpFilter, RouteFilterConfig, StreamCx};
use weft_telemetry::{ClusterStats, LogRecord, Registry};

use crate::cluster_counters::ClusterCounters;
use crate::istio::{grpc_status, is_grpc};

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The filter.
#[derive(Debug)]
pub(crate) struct GrpcStats {
    registry: Registry,
    counters: ClusterCounters,
    methods: Methods,
    /// `enable_upstream_stats`
    times: bool,
    /// `replace_dots_in_grpc_service_name`
    replace_dots: bool,
}

/// Which methods are counted by themselves.
#[derive(Debug)]
pub(crate) enum Methods {
    /// `stats_for_all_methods`, or neither that nor a list: of each method, or of none.
    Each(bool),
    /// `individual_method_stats_allowlist`: services with their methods.
    Listed(Vec<(String, Vec<String>)>),
}

impl GrpcStats {
    /// What stands between `grpc.` and the statistic.
    fn prefix(&self, path: &str) -> String {
        let path = path.split('?').next().unwrap_or_default();
        let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let Some((service, method)) = parts.filter(|(service, method)| {
            !service.is_empty() && !method.is_empty() && !method.contains('/')
        }) else {
            return String::new();
        };
        let counted = match &self.methods {
            Methods::Each(each) => *each,
            Methods::Listed(services) => services.iter().any(|(name, methods)| {
                name == service && methods.iter().any(|name| name == method)
            }),
        };
        if !counted {
            return String::new();
        }
        let service =
            if self.replace_dots { service.replace('.', "_") } else { service.to_owned() };
        format!("{service}.{method}.")
    }

    fn count(&self, cluster: &Arc<str>, record: &LogRecord<'_>) {
        let prefix = self.prefix(record.path.unwrap_or_default());
        let add = |name: &str, n| self.counters.add(cluster, &format!("grpc.{prefix}{name}"), n);
        if let Some(status) = grpc_status(record) {
            add(&status.to_string(), 1);
            add(if status == 0 { "success" } else { "failure" }, 1);
            add("total", 1);
        }
        if let Some((to, from)) = record.messages {
            add("request_message_count", to);
            add("response_message_count", from);
        }
        let time = record.duration.zip(record.until_request_end).filter(|_| self.times);
        if let Some((whole, request)) = time {
            let time = whole.saturating_sub(request).as_millis();
            let scope = ClusterStats::scope(&self.registry, cluster);
            let histogram = scope.histogram(&format!("grpc.{prefix}upstream_rq_time"));
            histogram.record(u64::try_from(time).unwrap_or(u64::MAX));
        }
    }
}

impl HttpFilter for GrpcStats {
    fn sees_requests(&self) -> bool {
        false
    }

    fn sees_ends(&self) -> bool {
        true
    }

    fn counts_messages(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        _: &'a mut StreamCx,
        _: &'a mut RequestHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        Flow::Continue
    }

    fn finished(&self, cx: &StreamCx, record: &LogRecord<'_>, _: Option<&RouteFilterConfig>) {
        if let Some(cluster) = &cx.cluster
            && is_grpc(record.request_headers)
        {
            self.count(cluster, record);
        }
    }
}
