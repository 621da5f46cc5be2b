//! The changes that every control plane is taken through.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::{Upstream, free_port, get, until};

use crate::proxy::{Proxy, section};
use crate::server::{Program, Server};
use crate::world::{World, bad_cluster, bad_listener, bad_routes, held, local};

/// Rounds of changes.
const ROUNDS: usize = 12;

/// A control plane, a proxy, and what stands behind it.
pub(crate) struct Suite {
    program: Program,
    pub(crate) server: Server,
    proxy: Proxy,
    pub(crate) world: World,
    ports: Vec<u16>,
    _upstream: Upstream,
}

impl Suite {
    /// Starts everything; the proxy holds the first state.
    pub(crate) async fn start(program: Program, api: &str) -> Result<Self> {
        let upstream = Upstream::start("interop").await?;
        let ports: Vec<_> = (0..3).map(|_| free_port()).collect();
        let world = World::new(upstream.address(), &ports);
        let mut server = Server::start(program, local(0)).await?;
        server.serve("0", &world.resources())?;
        let proxy = Proxy::start(server.address, api).await?;
        let suite = Self { program, server, proxy, world, ports, _upstream: upstream };
        suite.same(&suite.world.resources()).await?;
        Ok(suite)
    }

    pub(crate) async fn follows_every_change(mut self) -> Result<()> {
        for round in 0..ROUNDS {
            self.world.step(round, &self.ports);
            self.server.serve(&format!("round {round}"), &self.world.resources())?;
            self.settled().await.with_context(|| format!("round {round}"))?;
        }
        let refused = self.server.events("nack");
        ensure!(refused.is_empty(), "{refused:?}");
        let closed = self.server.events("closed");
        ensure!(closed.is_empty(), "the stream was lost");
        Ok(())
    }

    pub(crate) async fn refuses_what_is_bad_alone(mut self) -> Result<()> {
        let before = self.world.resources();
        self.world.add_cluster("cluster-new");
        let good = self.world.resources();
        let bad = [
            ("cluster-3", bad_cluster("cluster-3"), "ring_hash_lb_config.minimum_ring_size"),
            ("listener-1", bad_listener("listener-1", self.ports[1]), "stat_prefix"),
            ("listener-0", bad_routes("listener-0"), "virtual_hosts[0].routes[0].match.safe_regex"),
        ];
        let mixed = with(&good, &bad.each_ref().map(|(_, resource, _)| resource));
        self.server.serve("mixed", &mixed)?;
        for (name, _, field) in &bad {
            let message = self.server.refusal("mixed", &format!("\"{name}\"")).await?;
            let line = message.lines().find(|line| line.contains(&format!("\"{name}\"")));
            ensure!(line.is_some_and(|line| line.contains(field)), "{name}: {message}");
            ensure!(!message.contains("\"cluster-new\""), "{message}");
        }
        // What is good has come, and what was there before the bad serves on.
        let kept = before.iter().filter(|one| bad.iter().any(|(_, bad, _)| key(bad) == key(one)));
        self.same(&with(&good, &kept.collect::<Vec<_>>())).await?;
        self.answers("listener-0", "cluster-3").await?;
        let dump = self.proxy.dump().await?;
        let states = section(&dump, "ListenersConfigDump")["dynamic_listeners"].clone();
        let state = states.as_array().into_iter().flatten().find(|one| one["name"] == "listener-1");
        let details = state.and_then(|state| state["error_state"]["details"].as_str());
        ensure!(details.is_some_and(|text| text.contains("stat_prefix")), "{state:?}");
        self.server.serve("mended", &good)?;
        self.settled().await
    }

    pub(crate) async fn outlives_cuts(mut self) -> Result<()> {
        for round in 0..4_usize {
            let streams = self.server.events("open").len();
            // Half of the times something changes while nobody is connected.
            if round.is_multiple_of(2) {
                self.server.cut()?;
            }
            self.world.step(round, &self.ports);
            self.server.serve(&format!("round {round}"), &self.world.resources())?;
            if !round.is_multiple_of(2) {
                self.server.cut()?;
            }
            until("another stream", || async {
                ensure!(self.server.events("open").len() > streams);
                Ok(())
            })
            .await?;
            self.settled().await.with_context(|| format!("round {round}"))?;
        }
        Ok(())
    }

    pub(crate) async fn outlives_the_server(mut self) -> Result<()> {
        let address = self.server.address;
        for (round, version) in ["other 1", "0"].into_iter().enumerate() {
            self.server.end().await?;
            self.answers("listener-0", "cluster-3").await.context("without a server")?;
            self.server = Server::start(self.program, address).await?;
            self.world.step(2 + round * 3, &self.ports);
            self.server.serve(version, &self.world.resources())?;
            self.settled().await.with_context(|| format!("version {version}"))?;
        }
        Ok(())
    }

    /// Waits until the proxy holds what the world is, and sends a request by each listener.
    async fn settled(&self) -> Result<()> {
        self.same(&self.world.resources()).await?;
        let cluster = self.world.clusters.keys().next_back().context("a cluster")?;
        for name in self.world.listeners.keys() {
            self.answers(name, cluster).await?;
        }
        Ok(())
    }

    async fn answers(&self, listener: &str, cluster: &str) -> Result<()> {
        let (port, _) = self.world.listeners.get(listener).context("a listener")?;
        // A listener that has just come may not be open yet.
        until("an answer", || async {
            let reply = get(local(*port), &format!("/{cluster}/")).await?;
            ensure!(reply.status == 200 && reply.header("x-upstream") == "interop", "{reply:?}");
            Ok(())
        })
        .await
        .with_context(|| format!("{listener}, {cluster}"))
    }

    /// Waits until the proxy holds exactly `resources`.
    async fn same(&self, resources: &[Value]) -> Result<()> {
        let expected = held(resources);
        until("the state of the server", || async {
            let shown = self.proxy.held().await?;
            let missing = expected.iter().filter(|(key, one)| shown.get(key) != Some(one));
            let missing: Vec<_> = missing.map(|(key, one)| (key, one, shown.get(key))).collect();
            let surplus: Vec<_> = shown.keys().filter(|key| !expected.contains_key(key)).collect();
            ensure!(missing.is_empty() && surplus.is_empty(), "{missing:#?} {surplus:#?}");
            Ok(())
        })
        .await
    }
}

fn key(resource: &Value) -> (&Value, &Value) {
    (&resource["@type"], &resource["name"])
}

/// `all`, with those in place of which there is another in `others`.
fn with(all: &[Value], others: &[&Value]) -> Vec<Value> {
    let other = |one: &Value| others.iter().find(|other| key(other) == key(one)).copied();
    all.iter().map(|one| other(one).unwrap_or(one).clone()).collect()
}
