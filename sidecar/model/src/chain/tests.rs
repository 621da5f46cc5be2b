use std::net::Ipv4Addr;

use super::*;
use crate::{ClusterChoice, ClusterSlot};
use weft_telemetry::{Registry, TcpStats};

fn chain(name: &str) -> Arc<FilterChain> {
    let tcp = TcpProxy {
        clusters: ClusterChoice::One(ClusterSlot::new("somewhere")),
        on_demand: None,
        idle_timeout: None,
        max_connect_attempts: 1,
        max_duration: None,
        hash: Vec::new(),
        labels: None,
        tunnel: None,
        access_logs: Vec::new(),
        stats: TcpStats::new(&Registry::new(), "test"),
    };
    Arc::new(FilterChain {
        name: name.into(),
        transport: TransportSocket::Raw,
        handshake_timeout: None,
        network_filters: Vec::new(),
        terminal: Terminal::Tcp(Arc::new(tcp)),
    })
}

fn table(chains: &[(&str, ChainMatch)], default: Option<&str>) -> FilterChainTable {
    let chains: Vec<_> =
        chains.iter().map(|(name, wanted)| (wanted.clone(), chain(name))).collect();
    FilterChainTable::compile(&chains, default.map(chain)).expect("no conflict")
}

struct Connection {
    port: u16,
    ip: [u8; 4],
    server_name: Option<&'static str>,
    transport: TransportProtocol,
    alpn: &'static [&'static str],
    source: ([u8; 4], u16),
    direct_source: [u8; 4],
}

const PLAIN: Connection = Connection {
    port: 80,
    ip: [10, 0, 0, 1],
    server_name: None,
    transport: TransportProtocol::Raw,
    alpn: &[],
    source: ([192, 0, 2, 1], 1234),
    direct_source: [192, 0, 2, 1],
};

fn found(table: &FilterChainTable, connection: &Connection) -> Option<String> {
    let alpn: Vec<Arc<str>> = connection.alpn.iter().map(|name| Arc::from(*name)).collect();
    let key = ChainKey {
        port: connection.port,
        ip: Ipv4Addr::from(connection.ip).into(),
        server_name: connection.server_name,
        transport: connection.transport,
        application_protocols: &alpn,
        source: connection.source.into(),
        direct_source: Ipv4Addr::from(connection.direct_source).into(),
    };
    table.find(&key).map(|chain| chain.name.to_string())
}

fn port(port: u16) -> ChainMatch {
    ChainMatch { destination_port: Some(port), ..ChainMatch::default() }
}

#[test]
fn a_matching_port_shuts_out_chains_for_all_ports() {
    let only_tls = ChainMatch { transport_protocol: Some(TransportProtocol::Tls), ..port(80) };
    let table = table(&[("80 tls", only_tls), ("any", ChainMatch::default())], None);
    assert_eq!(found(&table, &PLAIN), None, "no way back to the chain for all ports");
    assert_eq!(found(&table, &Connection { port: 81, ..PLAIN }).as_deref(), Some("any"));
}

#[test]
fn the_longest_prefix_wins() {
    let within = |net: &str| ChainMatch {
        prefix_ranges: vec![net.parse().expect("a prefix")],
        ..ChainMatch::default()
    };
    let table = table(&[("8", within("10.0.0.0/8")), ("32", within("10.0.0.1/32"))], Some("else"));
    assert_eq!(found(&table, &PLAIN).as_deref(), Some("32"));
    assert_eq!(found(&table, &Connection { ip: [10, 9, 0, 1], ..PLAIN }).as_deref(), Some("8"));
    assert_eq!(found(&table, &Connection { ip: [11, 0, 0, 1], ..PLAIN }).as_deref(), Some("else"));
}

#[test]
fn server_names_match_exactly_then_by_the_longest_suffix() {
    let named =
        |name: &str| ChainMatch { server_names: vec![name.to_owned()], ..ChainMatch::default() };
    let chains =
        [("exact", named("a.foo.com")), ("foo", named("*.foo.com")), ("com", named("*.com"))];
    let table = table(&chains, None);
    let with = |name| Connection { server_name: Some(name), ..PLAIN };
    assert_eq!(found(&table, &with("a.foo.com")).as_deref(), Some("exact"));
    assert_eq!(found(&table, &with("x.y.foo.com")).as_deref(), Some("foo"));
    assert_eq!(found(&table, &with("foo.com")).as_deref(), Some("com"));
    assert_eq!(found(&table, &with("foo.org")), None);
    assert_eq!(found(&table, &PLAIN), None);
}

#[test]
fn the_clients_first_known_application_protocol_decides() {
    let tls = |names: &[&str]| ChainMatch {
        transport_protocol: Some(TransportProtocol::Tls),
        application_protocols: names.iter().map(|name| (*name).to_owned()).collect(),
        ..port(80)
    };
    let raw = ChainMatch { transport_protocol: Some(TransportProtocol::Raw), ..port(80) };
    let table = table(
        &[("http", tls(&["istio-h2"])), ("mesh", tls(&["istio"])), ("tls", tls(&[])), ("raw", raw)],
        None,
    );
    let with = |alpn| Connection { transport: TransportProtocol::Tls, alpn, ..PLAIN };
    assert_eq!(found(&table, &with(&["istio", "istio-h2"])).as_deref(), Some("mesh"));
    assert_eq!(found(&table, &with(&["h2", "istio-h2"])).as_deref(), Some("http"));
    assert_eq!(found(&table, &with(&["h2"])).as_deref(), Some("tls"));
    assert_eq!(found(&table, &PLAIN).as_deref(), Some("raw"));
}

#[test]
fn sources_decide_when_all_else_is_equal() {
    let of = |source_type| ChainMatch { source_type, ..ChainMatch::default() };
    let from = |net: &str, ports: &[u16]| ChainMatch {
        sources: vec![net.parse().expect("a prefix")],
        source_ports: ports.to_vec(),
        ..ChainMatch::default()
    };
    let chains = [
        ("local", of(SourceType::Local)),
        ("8", from("192.0.0.0/8", &[])),
        ("24", from("192.0.2.0/24", &[1234, 1235])),
    ];
    let table = table(&chains, Some("else"));
    let with = |ip, port| Connection { source: (ip, port), ..PLAIN };
    assert_eq!(found(&table, &with([127, 0, 0, 1], 1)).as_deref(), Some("local"));
    assert_eq!(found(&table, &with([127, 0, 0, 7], 1)).as_deref(), Some("else"));
    assert_eq!(found(&table, &with(PLAIN.ip, 1)).as_deref(), Some("local"), "the same address");
    assert_eq!(found(&table, &with([192, 0, 2, 1], 1234)).as_deref(), Some("24"));
    assert_eq!(found(&table, &with([192, 0, 3, 1], 1234)).as_deref(), Some("8"));
    assert_eq!(found(&table, &with([192, 0, 2, 1], 9)).as_deref(), Some("else"), "no way back");
    assert_eq!(found(&table, &with([10, 0, 0, 9], 1234)).as_deref(), Some("else"));
}

#[test]
fn a_kind_of_source_shuts_out_chains_for_all_kinds() {
    let external = ChainMatch {
        source_type: SourceType::External,
        source_ports: vec![1],
        ..ChainMatch::default()
    };
    let table = table(&[("1", external), ("any", ChainMatch::default())], None);
    assert_eq!(found(&table, &PLAIN), None);
    let local = Connection { source: ([127, 0, 0, 1], 2), ..PLAIN };
    assert_eq!(found(&table, &local).as_deref(), Some("any"));
}

#[test]
fn the_peer_of_the_socket_comes_before_the_client_that_it_tells_of() {
    let direct = |net: &str| ChainMatch {
        direct_sources: vec![net.parse().expect("a prefix")],
        ..ChainMatch::default()
    };
    let client = ChainMatch {
        sources: vec!["192.0.2.1/32".parse().expect("a prefix")],
        ..direct("0.0.0.0/0")
    };
    let table = table(&[("balancer", direct("10.0.0.0/8")), ("client", client)], None);
    let through = Connection { direct_source: [10, 0, 0, 9], ..PLAIN };
    assert_eq!(found(&table, &through).as_deref(), Some("balancer"));
    assert_eq!(found(&table, &PLAIN).as_deref(), Some("client"));
}

#[test]
fn two_chains_with_the_same_match_are_refused() {
    let chains = [(port(80), chain("first")), (port(80), chain("second"))];
    let conflict = FilterChainTable::compile(&chains, None).expect_err("a conflict");
    assert_eq!((conflict.first.as_str(), conflict.second.as_str()), ("first", "second"));
}
