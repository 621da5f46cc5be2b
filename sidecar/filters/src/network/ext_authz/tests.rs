use bytes::BytesMut;
use http::{HeaderMap, Response};
use weft_filter_api::{CalloutError, Trailers};
use weft_xds_proto::pb::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as PbFilter;
use weft_xds_proto::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use weft_xds_proto::pb::google::rpc::Status;

use super::*;
use crate::grpc;
use crate::testing::{Fixture, Scripted, admits, connection, network_filter};

const SERVICE: &str = "stat_prefix: in, grpc_service: { envoy_grpc: { cluster_name: judge } }";

/// A service that answers with this code of a status, to clients of 192.0.2.1 only.
fn judge(code: i32) -> Rc<dyn Callouts> {
    Rc::new(Scripted::new(move |cluster, request| {
        assert_eq!(cluster, "judge");
        let mut asked = BytesMut::from(request.body().as_ref());
        let asked: CheckRequest = grpc::take(&mut asked).expect("a frame").expect("a message");
        let source = asked.attributes.and_then(|all| all.source).expect("a source");
        assert!(format!("{source:?}").contains("192.0.2.1"));
        let answer = CheckResponse {
            status: Some(Status { code, ..Status::default() }),
            ..CheckResponse::default()
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let mut answer = Response::new(grpc::frame(&answer));
        answer.extensions_mut().insert(Trailers(trailers));
        Ok(answer)
    }))
}

fn broken() -> Rc<dyn Callouts> {
    Rc::new(Scripted::new(|_, _| Err(CalloutError::Nowhere)))
}

#[tokio::test]
async fn the_service_decides_whether_a_connection_goes_on() {
    let fixture = Fixture::default();
    let yaml = format!("{{ {SERVICE} }}");
    let filter = network_filter::<PbFilter>(&fixture, &yaml).expect("it is a filter");
    assert!(admits(&*filter, &mut connection(), &judge(0)).await);
    assert!(!admits(&*filter, &mut connection(), &judge(7)).await);
    assert!(!admits(&*filter, &mut connection(), &broken()).await);
    let counted = fixture.counters();
    let count = |name: &str| counted.iter().find(|(known, _)| known.ends_with(name)).unwrap().1;
    assert_eq!((count("in.total"), count("in.ok"), count("in.denied")), (3, 1, 1));
    assert_eq!((count("in.error"), count("in.cx_closed")), (1, 2));
}

#[tokio::test]
async fn failures_and_denials_are_forgiven_where_that_is_configured() {
    let open = format!("{{ {SERVICE}, failure_mode_allow: true }}");
    let filter = network_filter::<PbFilter>(&Fixture::default(), &open).expect("it is a filter");
    assert!(admits(&*filter, &mut connection(), &broken()).await);
    assert!(!admits(&*filter, &mut connection(), &judge(7)).await);
    let shadow = format!("{{ {SERVICE}, shadow_mode: true }}");
    let filter = network_filter::<PbFilter>(&Fixture::default(), &shadow).expect("it is a filter");
    assert!(admits(&*filter, &mut connection(), &judge(7)).await);
}

#[tokio::test]
async fn connections_without_the_metadata_are_not_asked_about() {
    let yaml = format!(
        "{{ {SERVICE}, filter_enabled_metadata: {{ filter: a, path: [{{ key: b }}], value: {{ present_match: true }} }} }}"
    );
    let filter = network_filter::<PbFilter>(&Fixture::default(), &yaml).expect("it is a filter");
    assert!(admits(&*filter, &mut connection(), &judge(7)).await);
    let mut marked = connection();
    marked.annotate().set("a", "b", true);
    assert!(!admits(&*filter, &mut marked, &judge(7)).await);
}
