use weft_xds_proto::pb::envoy::extensions::filters::network::sni_cluster::v3::SniCluster as PbFilter;

use super::*;
use crate::testing::{Fixture, admits, connection, network_filter, no_clusters};

#[tokio::test]
async fn the_server_name_becomes_the_cluster() {
    let filter = network_filter::<PbFilter>(&Fixture::default(), "{}").expect("it is a filter");
    let mut named = connection();
    named.server_name = Some("db.example".into());
    assert!(admits(&*filter, &mut named, &no_clusters()).await);
    let state = named.annotations.as_ref().and_then(|all| all.state(TCP_CLUSTER));
    assert_eq!(state.and_then(|state| state.as_str()), Some("db.example"));
    let mut nameless = connection();
    assert!(admits(&*filter, &mut nameless, &no_clusters()).await);
    assert!(nameless.annotations.is_none());
}
