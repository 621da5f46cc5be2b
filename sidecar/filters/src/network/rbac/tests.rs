use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::network::rbac::v3::Rbac as PbRbac;

use super::*;
use crate::NetworkFilterKind;
use crate::testing::{Fixture, connection, no_clusters};

#[test]
fn connections_are_judged_counted_and_marked() {
    let fixture = Fixture::default();
    let config: PbRbac = weft_xds_proto::from_yaml(
        "
        stat_prefix: tcp.
        shadow_rules_stat_prefix: dry_
        rules:
          action: DENY
          policies:
            ns[a]-policy[b]-rule[0]:
              permissions: [{ destination_port: 80 }]
              principals: [{ not_id: { direct_remote_ip: { address_prefix: 10.0.0.0, prefix_len: 8 } } }]
        shadow_rules: { action: ALLOW }
        ",
    )
    .expect("it is a filter");
    let Ok(NetworkFilterKind::Filter(filter)) = config::compile(&pack(&config), &mut fixture.cx())
    else {
        panic!("it is a filter")
    };
    let mut stranger = connection();
    let nobody = no_clusters();
    assert!(matches!(filter.connected(&mut stranger, &nobody), NetworkFlow::Close));
    let mut friend = connection();
    friend.remote = "10.1.2.3:4".parse().expect("an address");
    assert!(matches!(filter.connected(&mut friend, &nobody), NetworkFlow::Continue));
    let wanted = [
        ("tcp.rbac.allowed", 1),
        ("tcp.rbac.denied", 1),
        ("tcp.rbac.dry_.shadow_allowed", 0),
        ("tcp.rbac.dry_.shadow_denied", 2),
    ];
    assert_eq!(fixture.counters(), wanted.map(|(name, count)| (name.to_owned(), count)));
    let said = stranger.annotations.as_ref().and_then(|all| all.namespace(NAMESPACE));
    let said = said.expect("it said something");
    assert_eq!(said["enforced_effective_policy_id"], "ns[a]-policy[b]-rule[0]");
    assert_eq!(said["dry_shadow_engine_result"], "denied");
}
