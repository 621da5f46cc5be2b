//! Whatever bytes come, nothing panics.

use proptest::prelude::*;
use weft_xds_client::ResourceType::{self, Cluster, Endpoint, Listener, Route, Secret};
use weft_xds_proto::Any;

use crate::istio::{CLUSTER, ENDPOINTS, OUTBOUND_80, PASSTHROUGH, ROUTES_80, VIRTUAL_INBOUND};
use crate::support::{Bench, body};

const KINDS: [ResourceType; 5] = [Cluster, Endpoint, Listener, Route, Secret];

fn send(bench: &mut Bench, kind: ResourceType, name: &str, value: Vec<u8>) {
    let any = Any { type_url: kind.type_url().to_owned(), value };
    let _ = bench.send_bodies(kind, vec![(name.to_owned(), any)], &[]);
    let _ = (bench.engine.dump(), bench.engine.subscriptions());
}

/// An engine in which endpoints, routes and secrets of the fixtures are wanted.
fn bench() -> Bench {
    let mut bench = Bench::dynamic();
    let _ = bench.send(Cluster, &[CLUSTER]);
    bench.accept(Listener, &[OUTBOUND_80]);
    bench
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(kind in 0..KINDS.len(), bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        send(&mut bench(), KINDS[kind], "80", bytes);
    }

    #[test]
    fn damaged_resources_never_panic(
        which in 0..6usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let whole = [(Cluster, CLUSTER), (Cluster, PASSTHROUGH), (Listener, VIRTUAL_INBOUND), (Listener, OUTBOUND_80), (Route, ROUTES_80), (Endpoint, ENDPOINTS)];
        let (kind, yaml) = whole[which];
        let (name, any) = body(kind, yaml);
        let mut bytes = any.value;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        send(&mut bench(), kind, &name, bytes);
    }
}
