//! What Istio writes into the metadata of clusters and endpoints for its statistics.

use std::sync::Arc;

use weft_telemetry::MeshService;
use weft_xds_proto::pb::envoy::config::core::v3::Metadata;
use weft_xds_proto::pb::google::protobuf::{Struct, value::Kind};

/// The namespace of Istio's metadata.
const ISTIO: &str = "istio";

/// `services`, the first of them.
pub(super) fn service(metadata: &Metadata) -> Option<Arc<MeshService>> {
    let services = metadata.filter_metadata.get(ISTIO)?.fields.get("services")?;
    let Some(Kind::ListValue(services)) = &services.kind else { return None };
    let Some(Kind::StructValue(first)) = &services.values.first()?.kind else { return None };
    let host = text(first, "host").unwrap_or_default();
    let name = text(first, "name").or_else(|| host.split('.').next()).unwrap_or_default();
    Some(Arc::new(MeshService {
        name: name.to_owned(),
        namespace: text(first, "namespace").unwrap_or_default().to_owned(),
        host: host.to_owned(),
    }))
}

/// `workload`
pub(super) fn workload(metadata: &Metadata) -> Option<Arc<str>> {
    text(metadata.filter_metadata.get(ISTIO)?, "workload").map(Arc::from)
}

fn text<'a>(fields: &'a Struct, name: &str) -> Option<&'a str> {
    match &fields.fields.get(name)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(yaml: &str) -> Metadata {
        weft_xds_proto::from_yaml(yaml).expect("it is metadata")
    }

    #[test]
    fn a_cluster_names_its_first_service() {
        let all = metadata(
            "{filter_metadata: {istio: {services: [{host: a.b.svc, namespace: b}, {host: c}]}}}",
        );
        let service = service(&all).expect("there is one");
        assert_eq!((&*service.host, &*service.name, &*service.namespace), ("a.b.svc", "a", "b"));
    }

    #[test]
    fn an_endpoint_names_its_workload() {
        let all = metadata("{filter_metadata: {istio: {workload: a;b;c;d;e}}}");
        assert_eq!(workload(&all).as_deref(), Some("a;b;c;d;e"));
        assert_eq!(workload(&metadata("{filter_metadata: {envoy.lb: {workload: a}}}")), None);
    }
}
