//! Annotations and labels under Weft's names and Istio's.

use serde_json::{Map, Value};

/// An annotation or label: Weft's name, Istio's, and whether it has an effect here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) weft: &'static str,
    pub(crate) istio: &'static str,
}

macro_rules! names {
    ($($name:ident = $weft:literal, $istio:literal;)*) => {
        $(pub(crate) const $name: Name = Name { weft: concat!("weft.dev/", $weft), istio: $istio };)*
    };
}

names! {
    INJECT = "inject", "sidecar.istio.io/inject";
    REVISION = "rev", "istio.io/rev";
    TEMPLATES = "templates", "inject.istio.io/templates";
    NATIVE_SIDECAR = "nativeSidecar", "sidecar.istio.io/nativeSidecar";
    STATUS = "status", "sidecar.istio.io/status";
    INTERCEPTION_MODE = "interceptionMode", "sidecar.istio.io/interceptionMode";
    INCLUDE_OUTBOUND_RANGES = "includeOutboundIPRanges", "traffic.sidecar.istio.io/includeOutboundIPRanges";
    EXCLUDE_OUTBOUND_RANGES = "excludeOutboundIPRanges", "traffic.sidecar.istio.io/excludeOutboundIPRanges";
    INCLUDE_OUTBOUND_PORTS = "includeOutboundPorts", "traffic.sidecar.istio.io/includeOutboundPorts";
    EXCLUDE_OUTBOUND_PORTS = "excludeOutboundPorts", "traffic.sidecar.istio.io/excludeOutboundPorts";
    INCLUDE_INBOUND_PORTS = "includeInboundPorts", "traffic.sidecar.istio.io/includeInboundPorts";
    EXCLUDE_INBOUND_PORTS = "excludeInboundPorts", "traffic.sidecar.istio.io/excludeInboundPorts";
    EXCLUDE_INTERFACES = "excludeInterfaces", "traffic.sidecar.istio.io/excludeInterfaces";
    KUBEVIRT_INTERFACES = "kubevirtInterfaces", "traffic.sidecar.istio.io/kubevirtInterfaces";
    REROUTE_INTERFACES = "rerouteVirtualInterfaces", "istio.io/reroute-virtual-interfaces";
    PROXY_CONFIG = "proxyConfig", "proxy.istio.io/config";
    LOG_LEVEL = "logLevel", "sidecar.istio.io/logLevel";
    DISCOVERY_ADDRESS = "discoveryAddress", "sidecar.istio.io/discoveryAddress";
    CAP_NET_BIND_SERVICE = "capNetBindService", "sidecar.istio.io/capNetBindService";
    USER_VOLUME = "userVolume", "sidecar.istio.io/userVolume";
    USER_VOLUME_MOUNT = "userVolumeMount", "sidecar.istio.io/userVolumeMount";
    PROXY_IMAGE = "proxyImage", "sidecar.istio.io/proxyImage";
    PROXY_CPU = "proxyCPU", "sidecar.istio.io/proxyCPU";
    PROXY_CPU_LIMIT = "proxyCPULimit", "sidecar.istio.io/proxyCPULimit";
    PROXY_MEMORY = "proxyMemory", "sidecar.istio.io/proxyMemory";
    PROXY_MEMORY_LIMIT = "proxyMemoryLimit", "sidecar.istio.io/proxyMemoryLimit";
    STATUS_PORT = "statusPort", "status.sidecar.istio.io/port";
    READINESS_DELAY = "readinessInitialDelaySeconds", "readiness.status.sidecar.istio.io/initialDelaySeconds";
    READINESS_PERIOD = "readinessPeriodSeconds", "readiness.status.sidecar.istio.io/periodSeconds";
    READINESS_THRESHOLD = "readinessFailureThreshold", "readiness.status.sidecar.istio.io/failureThreshold";
    READINESS_PORTS = "readinessApplicationPorts", "readiness.status.sidecar.istio.io/applicationPorts";
    REWRITE_PROBES = "rewriteAppHTTPProbers", "sidecar.istio.io/rewriteAppHTTPProbers";
    MERGE_METRICS = "mergeMetrics", "prometheus.istio.io/merge-metrics";
}

/// Names that are accepted and change nothing: what each steers is not there, or is steered
/// elsewhere.
const WITHOUT_EFFECT: &[&str] = &[
    "sidecar.istio.io/componentLogLevel",
    "sidecar.istio.io/agentLogLevel",
    "sidecar.istio.io/bootstrapOverride",
    "sidecar.istio.io/proxyImageType",
    "sidecar.istio.io/statsInclusionPrefixes",
    "sidecar.istio.io/statsInclusionSuffixes",
    "sidecar.istio.io/statsInclusionRegexps",
    "sidecar.istio.io/extraStatTags",
    "sidecar.istio.io/statsHistogramBuckets",
    "sidecar.istio.io/statsHistogramBins",
    "sidecar.istio.io/statsFlushInterval",
    "sidecar.istio.io/statsEvictionInterval",
    "sidecar.istio.io/statsCompression",
    "prometheus.istio.io/scrape-targets",
    "prometheus.istio.io/secure-port",
    "apm.datadoghq.com/env",
    "istio.io/dataplane-mode",
];

/// The pod's annotations and labels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annotations<'a> {
    annotations: Option<&'a Map<String, Value>>,
    labels: Option<&'a Map<String, Value>>,
}

/// A value with the name under which it was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) name: &'static str,
    pub(crate) value: &'a str,
}

impl<'a> Annotations<'a> {
    pub(crate) fn of(pod: &'a Value) -> Self {
        let map = |name: &str| pod["metadata"].get(name).and_then(Value::as_object);
        Self { annotations: map("annotations"), labels: map("labels") }
    }

    /// The annotation, Weft's name before Istio's.
    pub(crate) fn find(self, name: Name) -> Option<Found<'a>> {
        look(self.annotations, name)
    }

    /// The label before the annotation, as Istio's switches want it.
    pub(crate) fn find_label_first(self, name: Name) -> Option<Found<'a>> {
        look(self.labels, name).or_else(|| look(self.annotations, name))
    }

    pub(crate) fn label(self, name: &str) -> Option<&'a str> {
        self.labels?.get(name)?.as_str()
    }

    pub(crate) fn annotation(self, name: &str) -> Option<&'a str> {
        self.annotations?.get(name)?.as_str()
    }

    /// Annotations that somebody set in vain.
    pub(crate) fn without_effect(self) -> impl Iterator<Item = &'static str> {
        let all = move |name: &str| {
            [self.annotations, self.labels].into_iter().flatten().any(|map| map.contains_key(name))
        };
        WITHOUT_EFFECT.iter().copied().filter(move |name| all(name))
    }
}

fn look(map: Option<&Map<String, Value>>, name: Name) -> Option<Found<'_>> {
    [name.weft, name.istio].into_iter().find_map(|name| {
        let value = map?.get(name)?.as_str()?;
        Some(Found { name, value })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wefts_name_wins_and_the_label_wins_where_it_counts() {
        let pod = json!({"metadata": {
            "annotations": {"weft.dev/inject": "a", "sidecar.istio.io/inject": "b", "sidecar.istio.io/logLevel": "c"},
            "labels": {"sidecar.istio.io/inject": "d"},
        }});
        let annotations = Annotations::of(&pod);
        assert_eq!(annotations.find(INJECT).unwrap().value, "a");
        assert_eq!(annotations.find_label_first(INJECT).unwrap().value, "d");
        assert_eq!(annotations.find(LOG_LEVEL).unwrap().value, "c");
    }
}
