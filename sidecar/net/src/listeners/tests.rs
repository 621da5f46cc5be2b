use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use weft_model::{
    ChainMatch, ClusterChoice, ClusterSlot, FilterChain, FilterChainTable, HandOff, ListenAddress,
    Listener, ListenerFilter, ListenerFilterKind, PortPredicate, Snapshot, SnapshotPublisher,
    TcpProxy, Terminal, TrafficDirection, TransportProtocol, TransportSocket,
};
use weft_telemetry::{ListenerStats, Registry, TcpStats};

use super::*;
use crate::testing::local;

fn chain(name: &str) -> FilterChain {
    let proxy = TcpProxy {
        clusters: ClusterChoice::One(ClusterSlot::new("none")),
        on_demand: None,
        idle_timeout: None,
        max_connect_attempts: 1,
        max_duration: None,
        hash: Vec::new(),
        labels: None,
        tunnel: None,
        access_logs: Vec::new(),
        stats: TcpStats::new(&Registry::new(), name),
    };
    FilterChain {
        name: name.into(),
        transport: TransportSocket::Raw,
        handshake_timeout: None,
        network_filters: Vec::new(),
        terminal: Terminal::Tcp(Arc::new(proxy)),
    }
}

fn any(name: &str) -> FilterChainTable {
    FilterChainTable::compile(&[], Some(Arc::new(chain(name)))).unwrap()
}

fn listener(name: &str, chains: FilterChainTable) -> Listener {
    Listener {
        name: name.into(),
        addresses: vec![ListenAddress::Socket("127.0.0.1:0".parse().unwrap())],
        bind: true,
        use_original_dst: false,
        transparent: false,
        freebind: false,
        socket_options: Vec::new(),
        backlog: 128,
        exact_balance: false,
        direction: TrafficDirection::Unspecified,
        filters: Vec::new(),
        filters_timeout: Some(Duration::from_secs(15)),
        continue_on_timeout: false,
        chains,
        buffer_limit: 1 << 20,
        access_logs: Vec::new(),
        stats: ListenerStats::new(&Registry::new(), name),
        fingerprint: 1,
    }
}

fn filter(kind: ListenerFilterKind) -> ListenerFilter {
    ListenerFilter { kind, disabled: None }
}

/// Sends connections to the first of two workers; returns how many each of them serves.
async fn spread(count: usize, exact: bool) -> [usize; 2] {
    let mut shares = crate::Share::among(2).into_iter();
    let mut first = World::sharing(shares.next()).await;
    let mut second = World::sharing(shares.next()).await;
    for world in [&first, &second] {
        let mut shared = listener("a", any("any"));
        shared.exact_balance = exact;
        world.publish(vec![shared]);
    }
    second.bound().await;
    let address = first.bound().await;
    let (mut clients, mut served) = (Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..count {
        clients.push(TcpStream::connect(address).await.unwrap());
        tokio::select! {
            established = first.served.recv() => served[0].extend(established),
            established = second.served.recv() => served[1].extend(established),
        }
    }
    // What was handed over is a connection like any other.
    for client in &mut clients {
        client.write_all(b"!").await.unwrap();
    }
    assert_eq!(served[1].last_mut().unwrap().stream.read_u8().await.unwrap(), b'!');
    served.map(|served| served.len())
}

#[test]
fn a_thousand_connections_spread_over_two_workers() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, files, files).unwrap();
    local(async {
        let served = spread(1000, false).await;
        assert_eq!(served.iter().sum::<usize>(), 1000);
        assert!(served.iter().all(|served| *served >= 400), "{served:?}");
    });
}

#[test]
fn exact_balance_gives_each_worker_its_half() {
    local(async { assert_eq!(spread(100, true).await, [50, 50]) });
}

struct World {
    publisher: SnapshotPublisher,
    events: mpsc::Receiver<ListenerEvent>,
    served: mpsc::Receiver<Established>,
    drain: Drain,
    stop: StopAccepting,
}

impl World {
    async fn new() -> Self {
        Self::sharing(None).await
    }

    async fn sharing(share: Option<crate::Share>) -> Self {
        let publisher = SnapshotPublisher::new();
        let (events_tx, events) = mpsc::channel(64);
        let (served_tx, served) = mpsc::channel(64);
        let drain = Drain::new();
        let options = ListenerOptions {
            snapshot: publisher.watch(),
            worker: 0,
            drain: drain.clone(),
            drain_plan: DrainPlan { announce: Duration::ZERO, close: Duration::from_secs(60) },
            events: Rc::new(move |event| events_tx.try_send(event).unwrap()),
        };
        let mut set = ListenerSet::new(options, move |established| {
            let served = served_tx.clone();
            async move { served.send(established).await.unwrap() }
        });
        if let Some(share) = share {
            set = set.sharing(share);
        }
        let stop = Rc::new(RefCell::new(None));
        let sent = Rc::clone(&stop);
        spawn_local(set.run(move |handle| *sent.borrow_mut() = Some(handle)));
        tokio::task::yield_now().await;
        let stop = stop.borrow_mut().take().unwrap();
        Self { publisher, events, served, drain, stop }
    }

    fn publish(&self, listeners: Vec<Listener>) {
        let listeners: HashMap<_, _> = listeners
            .into_iter()
            .map(|listener| (Arc::clone(&listener.name), Arc::new(listener)))
            .collect();
        let hand_off = HandOff::new(listeners.values());
        self.publisher.publish(Snapshot { listeners, hand_off, ..Snapshot::default() });
    }

    async fn bound(&mut self) -> SocketAddr {
        match self.events.recv().await.unwrap() {
            ListenerEvent::Bound { bound, .. } => bound.unwrap(),
            other => panic!("not bound: {other:?}"),
        }
    }
}

#[test]
fn a_connection_is_established_with_its_facts() {
    local(async {
        let mut world = World::new().await;
        world.publish(vec![listener("a", any("the chain"))]);
        let address = world.bound().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut served = world.served.recv().await.unwrap();
        assert_eq!(&*served.chain.name, "the chain");
        assert_eq!(served.facts.local, address);
        assert_eq!(served.facts.remote, client.local_addr().unwrap());
        assert!(!served.facts.restored);
        assert_eq!(served.listener.stats.cx_active.value(), 1);
        client.write_all(b"hello").await.unwrap();
        let mut seen = [0; 5];
        served.stream.read_exact(&mut seen).await.unwrap();
        let stats = served.listener.stats.clone();
        drop(served);
        assert_eq!((stats.cx_active.value(), stats.cx_total.value()), (0, 1));
    });
}

#[test]
fn a_changed_listener_keeps_its_socket_and_drains_its_connections() {
    local(async {
        let mut world = World::new().await;
        world.publish(vec![listener("a", any("old"))]);
        let address = world.bound().await;
        let _client = TcpStream::connect(address).await.unwrap();
        let mut old = world.served.recv().await.unwrap();
        let mut next = listener("a", any("new"));
        next.fingerprint = 2;
        world.publish(vec![next]);
        old.guard.drain.reached(Phase::Announcing).await;
        let _second = TcpStream::connect(address).await.unwrap();
        let new = world.served.recv().await.unwrap();
        assert_eq!(&*new.chain.name, "new");
        assert_eq!(new.guard.drain.phase(), Phase::Serving);
        assert!(world.events.try_recv().is_err(), "nothing was bound again");
    });
}

#[test]
fn a_removed_listener_is_closed_and_others_stay() {
    local(async {
        let mut world = World::new().await;
        world.publish(vec![listener("a", any("a"))]);
        let a = world.bound().await;
        // The second one takes the port that the first one found.
        let mut second = listener("b", any("b"));
        second.addresses = vec![ListenAddress::Socket("127.0.0.2:0".parse().unwrap())];
        world.publish(vec![second]);
        let mut closed = false;
        let mut b = None;
        while !closed || b.is_none() {
            match world.events.recv().await.unwrap() {
                ListenerEvent::Closed { .. } => closed = true,
                ListenerEvent::Bound { bound, .. } => b = bound,
                ListenerEvent::Failed { reason, .. } => panic!("{reason}"),
            }
        }
        assert!(TcpStream::connect(a).await.is_err());
        TcpStream::connect(b.unwrap()).await.unwrap();
    });
}

#[test]
fn a_failed_bind_is_reported_and_stops_no_other() {
    local(async {
        let mut world = World::new().await;
        let mut bad = listener("bad", any("bad"));
        // No interface has this address (RFC 5737).
        bad.addresses = vec![ListenAddress::Socket("192.0.2.1:1".parse().unwrap())];
        world.publish(vec![bad, listener("good", any("good"))]);
        let (mut failed, mut bound) = (None, None);
        while failed.is_none() || bound.is_none() {
            match world.events.recv().await.unwrap() {
                ListenerEvent::Failed { listener, reason, .. } => failed = Some((listener, reason)),
                ListenerEvent::Bound { bound: address, .. } => bound = address,
                ListenerEvent::Closed { .. } => {}
            }
        }
        let (name, reason) = failed.unwrap();
        assert_eq!(&*name, "bad");
        assert!(reason.contains("assign"), "{reason}");
        TcpStream::connect(bound.unwrap()).await.unwrap();
    });
}

#[test]
fn stopped_listeners_accept_no_more() {
    local(async {
        let mut world = World::new().await;
        world.publish(vec![listener("a", any("a"))]);
        let address = world.bound().await;
        world.stop.stop(Stopped::All);
        assert!(matches!(world.events.recv().await, Some(ListenerEvent::Closed { .. })));
        assert!(TcpStream::connect(address).await.is_err());
    });
}

#[test]
fn the_server_name_chooses_the_chain_of_a_fragmented_hello() {
    local(async {
        let mut world = World::new().await;
        let by_name = ChainMatch {
            server_names: vec!["*.example.com".into()],
            transport_protocol: Some(TransportProtocol::Tls),
            ..ChainMatch::default()
        };
        let chains = FilterChainTable::compile(&[(by_name, Arc::new(chain("tls")))], None).unwrap();
        let mut tls = listener("a", chains);
        tls.filters = vec![filter(ListenerFilterKind::TlsInspector)];
        world.publish(vec![tls]);
        let address = world.bound().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.set_nodelay(true).unwrap();
        for part in client_hello(b"api.example.com").chunks(20) {
            client.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        let served = world.served.recv().await.unwrap();
        assert_eq!(&*served.chain.name, "tls");
        assert_eq!(served.facts.server_name.as_deref(), Some("api.example.com"));
    });
}

#[test]
fn a_connection_without_a_chain_is_closed_and_counted() {
    local(async {
        let mut world = World::new().await;
        let none = listener("a", FilterChainTable::default());
        let stats = none.stats.clone();
        world.publish(vec![none]);
        let address = world.bound().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut nothing = Vec::new();
        client.read_to_end(&mut nothing).await.unwrap();
        assert_eq!((stats.no_filter_chain_match.value(), stats.cx_active.value()), (1, 0));
    });
}

#[test]
fn bytes_seen_before_a_filter_timeout_are_not_lost() {
    local(async {
        let mut world = World::new().await;
        let mut patient = listener("a", any("any"));
        patient.filters = vec![filter(ListenerFilterKind::HttpInspector)];
        patient.filters_timeout = Some(Duration::from_millis(30));
        patient.continue_on_timeout = true;
        world.publish(vec![patient]);
        let address = world.bound().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET").await.unwrap();
        let mut served = world.served.recv().await.unwrap();
        assert_eq!(served.listener.stats.pre_cx_timeout.value(), 1);
        let mut seen = [0; 3];
        served.stream.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"GET");
    });
}

#[test]
fn a_server_first_port_is_not_inspected() {
    local(async {
        let mut world = World::new().await;
        let mut quiet = listener("a", any("any"));
        quiet.filters = vec![ListenerFilter {
            kind: ListenerFilterKind::HttpInspector,
            disabled: Some(PortPredicate::Ports(0..65536)),
        }];
        world.publish(vec![quiet]);
        let address = world.bound().await;
        let _client = TcpStream::connect(address).await.unwrap();
        world.served.recv().await.unwrap();
    });
}

#[test]
fn http_is_recognised_as_an_application_protocol() {
    local(async {
        let mut world = World::new().await;
        let wanted = ChainMatch {
            application_protocols: vec!["http/1.1".into(), "h2c".into()],
            ..ChainMatch::default()
        };
        let chains = FilterChainTable::compile(
            &[(wanted, Arc::new(chain("http")))],
            Some(Arc::new(chain("other"))),
        );
        let mut sniffing = listener("a", chains.unwrap());
        sniffing.filters = vec![filter(ListenerFilterKind::HttpInspector)];
        world.publish(vec![sniffing]);
        let address = world.bound().await;
        for (bytes, expected) in
            [(b"GET / HTTP/1.1\r\n".as_slice(), "http"), (b"\0\0\0\x01", "other")]
        {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(bytes).await.unwrap();
            assert_eq!(&*world.served.recv().await.unwrap().chain.name, expected);
        }
    });
}

#[test]
fn a_redirected_connection_is_handed_to_the_listener_of_its_destination() {
    local(async {
        let mut world = World::new().await;
        let mut front = listener("virtual", any("catch-all"));
        front.use_original_dst = true;
        front.filters = vec![filter(ListenerFilterKind::ProxyProtocol { optional: false })];
        let mut exact = listener("exact", any("exact"));
        exact.bind = false;
        exact.addresses = vec![ListenAddress::Socket("10.9.9.9:80".parse().unwrap())];
        let mut wildcard = listener("wildcard", any("wildcard"));
        wildcard.bind = false;
        wildcard.addresses = vec![ListenAddress::Socket("0.0.0.0:81".parse().unwrap())];
        world.publish(vec![front, exact, wildcard]);
        let address = world.bound().await;
        for (to, expected) in [
            ("10.9.9.9 1 80", "exact"),
            ("10.9.9.8 1 81", "wildcard"),
            ("10.9.9.8 1 80", "catch-all"),
        ] {
            let mut client = TcpStream::connect(address).await.unwrap();
            let header = format!("PROXY TCP4 10.1.1.1 {to}\r\nrest");
            client.write_all(header.as_bytes()).await.unwrap();
            let mut served = world.served.recv().await.unwrap();
            assert_eq!(&*served.chain.name, expected);
            assert!(served.facts.restored);
            assert_eq!(served.facts.remote, "10.1.1.1:1".parse().unwrap());
            let mut rest = [0; 4];
            served.stream.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"rest");
        }
    });
}

#[test]
fn unix_sockets_are_listened_at() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weft.sock");
        let mut world = World::new().await;
        let mut unix = listener("unix", any("unix"));
        unix.addresses = vec![ListenAddress::Pipe(path.clone())];
        world.publish(vec![unix]);
        assert!(matches!(world.events.recv().await, Some(ListenerEvent::Bound { .. })));
        let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
        let mut served = world.served.recv().await.unwrap();
        client.write_all(b"!").await.unwrap();
        assert_eq!(served.stream.read_u8().await.unwrap(), b'!');
        assert_eq!(world.drain.connections(), 1);
    });
}

/// A ClientHello with this server name.
fn client_hello(name: &[u8]) -> Vec<u8> {
    let mut list = vec![0];
    list.extend((name.len() as u16).to_be_bytes());
    list.extend(name);
    let mut extension = vec![0, 0];
    extension.extend((list.len() as u16 + 2).to_be_bytes());
    extension.extend((list.len() as u16).to_be_bytes());
    extension.extend(list);
    let mut body = vec![3, 3];
    body.extend([1; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((extension.len() as u16).to_be_bytes());
    body.extend(extension);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.push(1);
    record.extend(&(body.len() as u32).to_be_bytes()[1..]);
    record.extend(body);
    record
}

#[tokio::test]
async fn connections_in_the_queue_of_a_socket_that_closes_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let pipe = ListenAddress::Pipe(path.clone());
    let on_tcp = ListenAddress::Socket("127.0.0.1:0".parse().unwrap());
    let listener = listener("closing", FilterChainTable::default());
    let socket = ListenSocket::bind(&on_tcp, &listener).unwrap();
    let address = socket.address().unwrap();
    let clients = [(); 3].map(|()| std::net::TcpStream::connect(address).unwrap());
    let queued: Vec<_> = socket.close().into_iter().map(|(_, addresses)| addresses).collect();
    let expected = clients.map(|client| Some((client.local_addr().unwrap(), address)));
    assert_eq!(queued, expected);
    let socket = ListenSocket::bind(&pipe, &listener).unwrap();
    let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    assert_eq!(socket.close().len(), 1);
}
