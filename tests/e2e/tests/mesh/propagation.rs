//! Whom a change reaches, and how soon.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;
use weft_testkit::until;

use crate::member::{Member, Profile};
use crate::world::World;

/// By type, what a node was sent and what it accepted.
type Versions = BTreeMap<String, (Value, Value)>;

async fn versions(world: &World, member: &Member) -> Result<Versions> {
    let nodes = world.get("/weft/admin/nodes").await?;
    let list = nodes["list"].as_array().context("no list")?;
    let own = list.iter().map(|item| &item["value"]);
    let own = own.into_iter().find(|node| node["id"].as_str().is_some_and(|id| member.is_node(id)));
    let types = own.and_then(|node| node["types"].as_object());
    let types = types.with_context(|| format!("not among the nodes: {nodes}"))?;
    let pair = |status: &Value| (status["sent"].clone(), status["accepted"].clone());
    Ok(types.iter().map(|(kind, status)| (kind.clone(), pair(status))).collect())
}

/// Puts a resource and waits until a member accepted something new of a type.
async fn reaches(
    world: &World,
    (path, body): (&str, &Value),
    (member, kind): (&Member, &str),
) -> Result<()> {
    let before = versions(world, member).await?;
    let start = Instant::now();
    world.put(path, body).await?;
    until(&format!("{path} at {kind}"), || async {
        let now = versions(world, member).await?;
        let (sent, accepted) = now.get(kind).with_context(|| format!("no {kind}: {now:?}"))?;
        let known = before.get(kind).map(|(sent, _)| sent);
        ensure!(sent == accepted && Some(sent) != known, "{now:?}");
        Ok(())
    })
    .await?;
    writeln!(std::io::stderr(), "{path} accepted after {:?}", start.elapsed())?;
    Ok(())
}

async fn unmoved(world: &World, member: &Member, before: &Versions, kinds: &[&str]) -> Result<()> {
    let now = versions(world, member).await?;
    for kind in kinds {
        let sent = |versions: &Versions| versions.get(*kind).map(|(sent, _)| sent.clone());
        ensure!(sent(&now) == sent(before), "{kind} was sent anew: {before:?} {now:?}");
    }
    Ok(())
}

const ALL: &[&str] = &["cluster", "endpoint", "listener", "route", "secret"];

#[tokio::test]
async fn a_change_reaches_only_the_proxies_that_it_concerns() -> Result<()> {
    let world = World::start().await?;
    let edge = Member::start(&world, Profile::edge()).await?;
    // Sidecars that are told of every service: others are concerned by what they asked for alone.
    let all = |bootstrap: &mut Value| {
        bootstrap["node"]["metadata"]["weft.dev/discovery"] = json!("all");
    };
    let server = Profile::workload("server", &["http:8080"]).edited(all);
    let server = Member::start(&world, server).await?;
    let client = Member::start(&world, Profile::workload("client", &[]).edited(all)).await?;
    world.publish("server", 8080, &json!({}), &json!({})).await?;
    for member in [&edge, &server, &client] {
        until("all is accepted", || async {
            let now = versions(&world, member).await?;
            ensure!(now.values().all(|(sent, accepted)| sent == accepted), "{now:?}");
            Ok(())
        })
        .await?;
    }
    let before = async || -> Result<[Versions; 3]> {
        Ok([
            versions(&world, &edge).await?,
            versions(&world, &server).await?,
            versions(&world, &client).await?,
        ])
    };
    let route = |scope: &str| {
        json!({
            "uri": "/",
            "hosts": [format!("{scope}.weft.test")],
            "labels": { "weft.dev/scope": scope },
            "upstream": { "type": "roundrobin", "nodes": { "192.0.2.1:80": 1 } },
        })
    };
    let [_, at_server, at_client] = before().await?;
    let change = ("/apisix/admin/routes/public", &route("edge"));
    reaches(&world, change, (&edge, "route")).await?;
    unmoved(&world, &server, &at_server, ALL).await?;
    unmoved(&world, &client, &at_client, ALL).await?;

    let [at_edge, ..] = before().await?;
    let change = ("/apisix/admin/routes/internal", &route("mesh"));
    reaches(&world, change, (&client, "route")).await?;
    unmoved(&world, &edge, &at_edge, ALL).await?;

    let [at_edge, _, at_client] = before().await?;
    let policy = json!({
        "namespace": "demo",
        "selector": { "matchLabels": { "app": "server" } },
        "mtls": { "mode": "STRICT" },
    });
    let change = ("/weft/admin/peer_authentications/server", &policy);
    reaches(&world, change, (&server, "listener")).await?;
    unmoved(&world, &client, &at_client, &["listener", "route", "secret"]).await?;
    unmoved(&world, &edge, &at_edge, &["listener", "route", "secret"]).await?;
    Ok(())
}
