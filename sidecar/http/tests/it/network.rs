//! Network filters, and chains that end in the proxy itself.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_filter_api::{Callouts, ConnectionFacts, NetworkFilter, NetworkFlow, TCP_CLUSTER};
use weft_model::Terminal;
use weft_net::DrainPlan;

use crate::client::Client;
use crate::server;
use crate::world::{Setup, local, tcp_proxy};

/// What a filter of these tests does.
#[derive(Debug)]
enum Scripted {
    Refuse,
    /// Lets pass, after it has waited.
    Late,
    /// Waits for ever.
    Undecided,
    /// Sends the connection to this cluster.
    To(&'static str),
    /// Keeps this as long as the connection.
    Keep(Arc<()>),
}

impl NetworkFilter for Scripted {
    fn connected<'a>(
        &'a self,
        connection: &'a mut ConnectionFacts,
        _: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a> {
        match self {
            Self::Refuse => return NetworkFlow::Close,
            Self::Late => {
                return NetworkFlow::Await(Box::pin(async {
                    tokio::task::yield_now().await;
                    true
                }));
            }
            Self::Undecided => return NetworkFlow::Await(Box::pin(std::future::pending())),
            Self::To(cluster) => connection.annotate().set_state(TCP_CLUSTER, *cluster),
            Self::Keep(kept) => connection.kept.push(Arc::clone(kept) as _),
        }
        NetworkFlow::Continue
    }
}

fn echo(filters: Vec<Scripted>) -> Setup {
    let mut setup = Setup::new();
    setup.terminal = Some(Terminal::Echo);
    let filters = filters.into_iter();
    setup.network_filters = filters.map(|one| Arc::new(one) as Arc<dyn NetworkFilter>).collect();
    setup
}

#[test]
fn what_comes_to_an_echo_goes_back() {
    local(async {
        let world = echo(Vec::new()).start().await;
        let mut client = Client::connect(world.address).await;
        client.send("hello").await;
        let mut seen = [0; 5];
        client.stream.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"hello");
        client.send("!").await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.rest().await, b"!");
        world.drain.empty().await;
    });
}

#[test]
fn a_direct_response_is_sent_whatever_the_client_says() {
    local(async {
        let mut setup = Setup::new();
        setup.terminal = Some(Terminal::Direct("closed today".into()));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("is anybody there?").await;
        assert_eq!(client.rest().await, b"closed today");
    });
}

#[test]
fn network_filters_are_asked_in_order_until_one_refuses() {
    local(async {
        let kept = Arc::new(());
        let filters = vec![Scripted::Late, Scripted::Keep(Arc::clone(&kept)), Scripted::Refuse];
        let world = echo(filters).start().await;
        assert!(Client::connect(world.address).await.rest().await.is_empty());
        world.drain.empty().await;
        assert_eq!(Arc::strong_count(&kept), 2, "the test's and the filter's");
    });
}

#[test]
fn what_a_filter_keeps_lives_as_long_as_the_connection() {
    local(async {
        let kept = Arc::new(());
        let world = echo(vec![Scripted::Keep(Arc::clone(&kept))]).start().await;
        let mut client = Client::connect(world.address).await;
        client.send("?").await;
        assert_eq!(client.stream.read_u8().await.unwrap(), b'?');
        assert_eq!(Arc::strong_count(&kept), 3);
        drop(client);
        world.drain.empty().await;
        assert_eq!(Arc::strong_count(&kept), 2);
    });
}

#[test]
fn a_connection_that_waits_for_a_filter_ends_when_the_proxy_drains() {
    local(async {
        let world = echo(vec![Scripted::Undecided]).start().await;
        let mut client = Client::connect(world.address).await;
        // It is counted when it is accepted.
        while world.drain.connections() == 0 {
            tokio::task::yield_now().await;
        }
        let plan = DrainPlan { announce: Duration::ZERO, close: Duration::from_secs(60) };
        let drain = world.drain.clone();
        tokio::task::spawn_local(async move { drain.run(plan).await });
        assert!(client.rest().await.is_empty());
    });
}

#[test]
fn a_filter_can_choose_the_cluster_of_the_tcp_proxy() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            stream.write_all(b"chosen").await.unwrap();
        });
        let mut setup = Setup::new();
        setup.cluster("chosen", &[upstream.await]);
        let proxy = tcp_proxy(&mut setup, "missing");
        setup.tcp = Some(proxy);
        setup.network_filters = vec![Arc::new(Scripted::To("chosen"))];
        let world = setup.start().await;
        assert_eq!(Client::connect(world.address).await.rest().await, b"chosen");
    });
}
