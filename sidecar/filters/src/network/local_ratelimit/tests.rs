use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit as PbFilter;

use super::*;
use crate::NetworkFilterKind;
use crate::testing::{Fixture, connection};

#[test]
fn connections_beyond_the_bucket_are_closed_and_counted() {
    let fixture = Fixture::default();
    let config: PbFilter = weft_xds_proto::from_yaml(
        "{ stat_prefix: in, token_bucket: { max_tokens: 1, fill_interval: 3600s } }",
    )
    .expect("it is a filter");
    let Ok(NetworkFilterKind::Filter(filter)) = config::compile(&pack(&config), &mut fixture.cx())
    else {
        panic!("it is a filter")
    };
    assert_eq!(filter.connected(&mut connection()), NetworkFlow::Continue);
    assert_eq!(filter.connected(&mut connection()), NetworkFlow::Close);
    assert_eq!(fixture.counters(), [("local_rate_limit.in.rate_limited".to_owned(), 1)]);
}
