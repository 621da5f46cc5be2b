use weft_xds_proto::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit as PbFilter;

use super::*;
use crate::testing::{Fixture, connection, network_filter, no_clusters};

#[test]
fn connections_beyond_the_bucket_are_closed_and_counted() {
    let fixture = Fixture::default();
    let yaml = "{ stat_prefix: in, token_bucket: { max_tokens: 1, fill_interval: 3600s } }";
    let filter = network_filter::<PbFilter>(&fixture, yaml).expect("it is a filter");
    let (mut first, mut second, nobody) = (connection(), connection(), no_clusters());
    assert!(matches!(filter.connected(&mut first, &nobody), NetworkFlow::Continue));
    assert!(matches!(filter.connected(&mut second, &nobody), NetworkFlow::Close));
    assert_eq!(fixture.counters(), [("local_rate_limit.in.rate_limited".to_owned(), 1)]);
}
