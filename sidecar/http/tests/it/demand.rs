//! Requests and connections that wait for what is fetched on demand.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::task::spawn_local;
use weft_filter_api::OnDemandSettings;
use weft_model::{
    Demand, DemandAnswer, NamedSlot, OnDemandClusters, OnDemandFilter, RouteAction, RouteSource,
    Routes, Vhds, Wanted,
};
use weft_route::{HostRule, RouteTable, TableOptions};

use crate::client::{Answer, Client};
use crate::logs::lines;
use crate::server;
use crate::world::{Setup, local, tcp_proxy};

const LONG: Duration = Duration::from_secs(50);
const SHORT: Duration = Duration::from_millis(5);
const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";

fn filter(patience: Duration) -> (Arc<Demand>, Option<OnDemandFilter>) {
    let demand = Arc::<Demand>::default();
    let filter = OnDemandFilter {
        name: "on_demand".into(),
        disabled: false,
        settings: OnDemandSettings { clusters: Some(patience) },
        demand: Arc::clone(&demand),
    };
    (demand, Some(filter))
}

fn cluster(name: &str) -> Wanted {
    Wanted::Cluster(name.into())
}

fn host(name: &str) -> Wanted {
    Wanted::VirtualHost(format!("routes/{name}").into())
}

async fn ask(address: std::net::SocketAddr, host: &str, path: &str) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
    client.answer().await
}

/// What was asked for, once something was.
async fn asked(demand: &Demand) -> Vec<Wanted> {
    demand.asked().await;
    demand.take()
}

/// A table without hosts that are not fetched, and the one that it is when they are.
fn tables(setup: &mut Setup) -> (NamedSlot<Routes>, Arc<Routes>) {
    let action = setup.forward("upstream");
    setup.rule("/", action);
    let mut whole = setup.empty_routes();
    let rules = std::mem::take(&mut setup.rules);
    let value = setup.virtual_host();
    let rule = HostRule { domains: vec!["late".into()], value, routes: rules };
    whole.table = RouteTable::compile(vec![rule], TableOptions::default()).unwrap();
    let slot = NamedSlot::new("routes");
    let mut empty = setup.empty_routes();
    empty.vhds = Some(Vhds { ignore_port: true });
    slot.set(Arc::new(empty));
    setup.source = Some(RouteSource::Discovered(slot.clone()));
    (slot, Arc::new(whole))
}

#[test]
fn many_requests_wait_for_one_answer_and_others_are_not_held_up() {
    local(async {
        let mut setup = Setup::new();
        let upstream = server::echo_head().await;
        setup.cluster("late", &[upstream]);
        setup.cluster("known", &[upstream]);
        for (prefix, name) in [("/late", "late"), ("/known", "known")] {
            let action = setup.forward(name);
            setup.rule(prefix, action);
        }
        let slot = setup.slot("late");
        let (demand, filter) = filter(LONG);
        setup.manager.on_demand = filter;
        let world = setup.start().await;
        let handle = slot.get().unwrap();
        slot.clear();
        let waiting: Vec<_> =
            (0..10).map(|_| spawn_local(ask(world.address, "any", "/late"))).collect();
        assert_eq!(asked(&demand).await, [cluster("late")]);
        assert_eq!(ask(world.address, "any", "/known").await.status(), 200);
        assert!(waiting.iter().all(|request| !request.is_finished()));
        slot.set(handle);
        demand.answer(&cluster("late"), DemandAnswer::There);
        for request in waiting {
            assert_eq!(request.await.unwrap().status(), 200);
        }
        assert_eq!(ask(world.address, "any", "/late").await.status(), 200);
        assert!(demand.take().is_empty());
    });
}

#[test]
fn a_cluster_that_is_nothing_or_late_is_no_cluster() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut setup = Setup::new();
        let action = setup.forward("nowhere");
        setup.rule("/", action);
        let (demand, filter) = filter(SHORT);
        setup.manager.on_demand = filter;
        setup.log_to(&path, FORMAT);
        let world = setup.start().await;
        assert_eq!(ask(world.address, "any", "/").await.status(), 503);
        let request = spawn_local(ask(world.address, "any", "/"));
        asked(&demand).await;
        demand.answer(&cluster("nowhere"), DemandAnswer::Nothing);
        assert_eq!(request.await.unwrap().status(), 503);
        assert_eq!(lines(&path, 2).await, ["503 NC cluster_not_found"; 2]);
        assert_eq!(world.stats.no_cluster.value(), 2);
    });
}

#[test]
fn a_route_may_switch_it_off() {
    local(async {
        let mut setup = Setup::new();
        let action = setup.forward("nowhere");
        setup.route("/", RouteAction::Forward(Box::new(action)));
        let off: weft_filter_api::RouteFilterConfig = Arc::new(OnDemandSettings::default());
        setup.first_route().filters.push(("on_demand".into(), off));
        let (demand, filter) = filter(LONG);
        setup.manager.on_demand = filter;
        let world = setup.start().await;
        assert_eq!(ask(world.address, "any", "/").await.status(), 503);
        assert!(demand.take().is_empty());
    });
}

#[test]
fn a_request_waits_for_its_virtual_host() {
    local(async {
        let mut setup = Setup::new();
        setup.cluster("upstream", &[server::echo_head().await]);
        let (slot, whole) = tables(&mut setup);
        let (demand, filter) = filter(LONG);
        setup.manager.on_demand = filter;
        let world = setup.start().await;
        let request = spawn_local(ask(world.address, "LATE:8080", "/"));
        assert_eq!(asked(&demand).await, [host("late")]);
        slot.set(whole);
        demand.answer(&host("late"), DemandAnswer::There);
        let answer = request.await.unwrap();
        // The table that came matches the host as it is written there, port included.
        assert_eq!(answer.status(), 404);
        assert_eq!(ask(world.address, "late", "/").await.status(), 200);
        assert!(demand.take().is_empty());
    });
}

#[test]
fn an_unknown_host_is_404_after_the_answer_and_503_without_one() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut setup = Setup::new();
        tables(&mut setup);
        let (demand, filter) = filter(SHORT);
        setup.manager.on_demand = filter;
        setup.log_to(&path, FORMAT);
        let world = setup.start().await;
        assert_eq!(ask(world.address, "late", "/").await.status(), 503);
        let request = spawn_local(ask(world.address, "nobody", "/"));
        loop {
            if asked(&demand).await.contains(&host("nobody")) {
                break;
            }
        }
        demand.answer(&host("nobody"), DemandAnswer::Nothing);
        assert_eq!(request.await.unwrap().status(), 404);
        let expected = ["503 NR on_demand_timeout", "404 NR route_not_found"];
        assert_eq!(lines(&path, 2).await, expected);
    });
}

#[test]
fn a_connection_waits_for_its_cluster_and_is_closed_without_one() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            server::respond(&mut stream, "200 OK", "hello").await;
        });
        let mut setup = Setup::new();
        setup.cluster("upstream", &[upstream.await]);
        let (demand, _) = filter(LONG);
        let mut proxy = tcp_proxy(&mut setup, "upstream");
        proxy.on_demand = Some(OnDemandClusters { demand: Arc::clone(&demand), timeout: LONG });
        setup.tcp = Some(proxy);
        let slot = setup.slot("upstream");
        let world = setup.start().await;
        let handle = slot.get().unwrap();
        slot.clear();
        let mut client = Client::connect(world.address).await;
        assert_eq!(asked(&demand).await, [cluster("upstream")]);
        slot.set(handle);
        demand.answer(&cluster("upstream"), DemandAnswer::There);
        assert!(client.head().await.contains("200 OK"));
        slot.clear();
        let mut client = Client::connect(world.address).await;
        asked(&demand).await;
        demand.answer(&cluster("upstream"), DemandAnswer::Nothing);
        assert_eq!(client.stream.read(&mut [0; 8]).await.unwrap(), 0);
    });
}
