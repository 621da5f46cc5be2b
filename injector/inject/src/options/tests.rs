use serde_json::json;

use super::*;

fn read(annotations: &Value) -> Result<PodOptions, Refusal> {
    let pod = json!({"metadata": {"name": "a", "annotations": annotations}, "spec": {}});
    PodOptions::read(&pod, "shop", &Settings::default())
}

#[test]
fn values_that_cannot_be_are_refused_by_their_annotations_name() {
    let cases = [
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "*"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "http"),
        ("weft.dev/excludeInboundPorts", "0"),
        ("weft.dev/excludeOutboundPorts", "70000"),
        ("sidecar.istio.io/interceptionMode", "TPROXY"),
        ("weft.dev/interceptionMode", "ALL"),
        ("sidecar.istio.io/proxyCPU", "much"),
        ("sidecar.istio.io/proxyMemoryLimit", "1 Gi"),
        ("status.sidecar.istio.io/port", "-1"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "soon"),
        ("sidecar.istio.io/rewriteAppHTTPProbers", "perhaps"),
        ("sidecar.istio.io/userVolume", "[]"),
        ("sidecar.istio.io/userVolumeMount", "{"),
        ("proxy.istio.io/config", "concurrency: many"),
        ("inject.istio.io/templates", "sidecar,unknown"),
    ];
    for (name, value) in cases {
        let refusal = read(&json!({name: value})).expect_err(name);
        assert!(refusal.to_string().starts_with(name), "{name}: {refusal}");
    }
}

#[test]
fn values_are_taken_from_the_pod_before_the_mesh() {
    let options = read(&json!({
        "weft.dev/includeOutboundIPRanges": "10.0.0.0/8, fd00::/8",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "3306,",
        "proxy.istio.io/config": "{concurrency: 3, proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}}",
        "sidecar.istio.io/proxyCPU": "50m",
        "sidecar.istio.io/nativeSidecar": "false",
        "sidecar.istio.io/statsCompression": "true",
    }))
    .unwrap();
    assert_eq!(options.capture.include_outbound_ip_ranges, "10.0.0.0/8,fd00::/8");
    assert_eq!(options.capture.exclude_outbound_ports, "3306");
    assert_eq!(options.config.concurrency, Some(3));
    assert!(!options.native);
    assert_eq!((options.resources.cpu.as_str(), options.resources.cpu_limit.as_str()), ("50m", ""));
    assert_eq!(options.warnings, ["sidecar.istio.io/statsCompression has no effect",]);
}
