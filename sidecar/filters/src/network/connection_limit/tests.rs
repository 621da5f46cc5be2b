use tokio::time::Instant;
use weft_xds_proto::pb::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit as PbFilter;

use super::*;
use crate::testing::{Fixture, admits, connection, network_filter, no_clusters};

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_until_another_has_ended() {
    let fixture = Fixture::default();
    let yaml = "{ stat_prefix: in, max_connections: 1 }";
    let filter = network_filter::<PbFilter>(&fixture, yaml).expect("it is a filter");
    let (mut first, nobody) = (connection(), no_clusters());
    assert!(admits(&*filter, &mut first, &nobody).await);
    assert!(!admits(&*filter, &mut connection(), &nobody).await);
    drop(first);
    assert!(admits(&*filter, &mut connection(), &nobody).await);
    assert_eq!(fixture.counters(), [("connection_limit.in.limited_connections".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_beyond_the_limit_is_closed_after_the_delay() {
    let yaml = "{ stat_prefix: in, max_connections: 1, delay: 7s }";
    let fixture = Fixture::default();
    let filter = network_filter::<PbFilter>(&fixture, yaml).expect("it is a filter");
    let (mut first, nobody, begun) = (connection(), no_clusters(), Instant::now());
    assert!(admits(&*filter, &mut first, &nobody).await);
    assert!(!admits(&*filter, &mut connection(), &nobody).await);
    assert!(begun.elapsed() >= Duration::from_secs(7));
}

#[tokio::test]
async fn a_limit_that_is_switched_off_limits_nothing() {
    let yaml = "{ stat_prefix: in, max_connections: 1, runtime_enabled: { default_value: false, runtime_key: a } }";
    let filter = network_filter::<PbFilter>(&Fixture::default(), yaml).expect("it is a filter");
    let (mut first, mut second, nobody) = (connection(), connection(), no_clusters());
    assert!(admits(&*filter, &mut first, &nobody).await);
    assert!(admits(&*filter, &mut second, &nobody).await);
}

#[test]
fn a_wrong_field_is_named() {
    let table = [
        ("{ max_connections: 1 }", "typed_config.stat_prefix: is required"),
        ("{ stat_prefix: a }", "typed_config.max_connections: is required"),
        (
            "{ stat_prefix: a, max_connections: 0 }",
            "typed_config.max_connections: has to be 1 or more",
        ),
    ];
    for (yaml, wanted) in table {
        let refused = network_filter::<PbFilter>(&Fixture::default(), yaml).err();
        assert_eq!(refused.as_deref(), Some(wanted));
    }
}
