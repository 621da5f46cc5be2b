//! Whole requests through a worker. The client and the backend are another thread, whose
//! instructions are not counted; one request at a time, so that the proxy's steps are the same in
//! every run.

mod peer_http1;
mod peer_http2;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use weft_http::WorkerCx;
use weft_model::SnapshotWatch;
use weft_net::{Drain, DrainPlan, ListenerEvent, ListenerOptions, ListenerSet};

use super::Work;
use super::support::{Configured, worker_runtime};

/// What a client's thread needs.
struct Peers {
    /// Where the proxy listens.
    proxy: SocketAddr,
    backend: std::net::TcpListener,
    /// How many requests to make.
    go: mpsc::Receiver<u32>,
    /// Told when they are done.
    done: mpsc::Sender<()>,
}

/// What differs between the cases, as YAML.
#[derive(Default)]
struct Additions {
    /// HTTP filters before the router.
    filters: String,
    /// Fields of the connection manager.
    manager: &'static str,
    /// Fields of the cluster.
    cluster: &'static str,
}

pub(super) fn http1() -> Result<Work> {
    through_proxy(&Additions::default(), "/hello", peer_http1::run)
}

pub(super) fn http1_normalised() -> Result<Work> {
    through_proxy(&Additions::default(), "/a/./b/../c%41//d", peer_http1::run)
}

pub(super) fn http1_logged() -> Result<Work> {
    let manager = "
          access_log:
          - name: file
            typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null}";
    through_proxy(&Additions { manager, ..Additions::default() }, "/hello", peer_http1::run)
}

pub(super) fn http1_mutated() -> Result<Work> {
    let mut filters = "
          - name: header_mutation
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
              mutations:
                request_mutations:"
        .to_owned();
    for index in 0..25 {
        write!(
            filters,
            "
                - remove: x-remove-{index}
                - append: {{header: {{key: x-set-{}, value: v}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}",
            index % 5
        )?;
    }
    through_proxy(&Additions { filters, ..Additions::default() }, "/hello", peer_http1::run)
}

pub(super) fn http2() -> Result<Work> {
    let cluster = "
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}";
    through_proxy(&Additions { cluster, ..Additions::default() }, "/hello", peer_http2::run)
}

/// A worker in front of a backend, and a thread that makes requests.
fn through_proxy(
    additions: &Additions,
    path: &'static str,
    peer: fn(Peers, &str) -> Result<()>,
) -> Result<Work> {
    let backend = std::net::TcpListener::bind("127.0.0.1:0")?;
    let configured = Configured::from_yaml(&bootstrap(backend.local_addr()?, additions))?;
    let runtime = worker_runtime()?;
    let proxy = runtime.block_on(serve(configured.watch.clone()))?;
    let (go, going) = mpsc::channel(1);
    let (done, mut is_done) = mpsc::channel(1);
    std::thread::spawn(move || peer(Peers { proxy, backend, go: going, done }, path));
    Ok(Box::new(move |units| {
        let _alive = &configured;
        let asked = go.blocking_send(units);
        assert!(asked.is_ok(), "the client is gone");
        assert!(runtime.block_on(is_done.recv()).is_some(), "the client failed");
    }))
}

/// Starts listening on the worker's runtime.
async fn serve(watch: SnapshotWatch) -> Result<SocketAddr> {
    let cx = WorkerCx::new(watch.clone(), 1);
    let (events, mut heard) = mpsc::channel(8);
    let options = ListenerOptions {
        snapshot: watch,
        worker: 0,
        drain: Drain::new(),
        drain_plan: DrainPlan { announce: Duration::ZERO, close: Duration::ZERO },
        events: Rc::new(move |event| drop(events.try_send(event))),
    };
    let set =
        ListenerSet::new(options, move |established| weft_http::serve(established, Rc::clone(&cx)));
    spawn_local(set.run(|_| ()));
    loop {
        let event = heard.recv().await.context("the listener ended")?;
        if let ListenerEvent::Bound { bound: Some(address), .. } = event {
            return Ok(address);
        }
    }
}

fn bootstrap(backend: SocketAddr, additions: &Additions) -> String {
    let Additions { filters, manager, cluster } = additions;
    format!(
        "
static_resources:
  listeners:
  - name: micro
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: micro
          normalize_path: true
          merge_slashes: true
          route_config:
            name: local
            virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: backend}}}}]}}]{manager}
          http_filters:{filters}
          - name: router
            typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: backend
    load_assignment:
      cluster_name: backend
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]{cluster}
",
        backend.ip(),
        backend.port()
    )
}
