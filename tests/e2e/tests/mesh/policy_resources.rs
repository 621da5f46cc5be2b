//! Policies kept in the cluster, as custom resources.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use weft_netns::Host;
use weft_testkit::until;

use crate::pod::{Pod, PodSpec};
use crate::tcp::{Conversation, Greeter, publish};
use crate::world::{NAMESPACE, World, get_as};

const PEERS: &str = "/apis/weft.dev/v1/peerauthentications";
const AUTHORIZATIONS: &str = "/apis/weft.dev/v1/authorizationpolicies";

fn resource(name: &str, spec: &Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": NAMESPACE, "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": spec,
    })
}

/// Waits until connections to a server that speaks first are made, or refused.
async fn greets(from: &Host, to: SocketAddr, greeted: bool) -> Result<()> {
    until(&format!("a greeting: {greeted}"), || async {
        match Conversation::open(from, to).await {
            Ok(_) if greeted => Ok(()),
            Err(_) if !greeted => Ok(()),
            Ok(_) => bail!("greeted"),
            Err(error) => Err(error),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_the_cluster_hold_for_connections() -> Result<()> {
    let world = World::start_in_cluster().await?;
    let spec = PodSpec { port: Some(("tcp", 2525)), ..PodSpec::default() };
    let mail = Pod::start(&world, "mail", &spec).await?;
    let _greeter = Greeter::start(&mail.host, 2525)?;
    let friend = Pod::start(&world, "friend", &PodSpec::default()).await?;
    let stranger = Pod::start(&world, "stranger", &PodSpec::default()).await?;
    let inside = publish(&world, "mail", 2525).await?;
    greets(&stranger.host, inside, true).await?;
    let cluster = world.cluster()?;
    let by = |source: Value| json!([{ "from": [{ "source": source }] }]);
    let allow = json!({ "rules": by(json!({ "serviceAccounts": ["friend"] })) });
    cluster.put(AUTHORIZATIONS, resource("friends", &allow));
    greets(&stranger.host, inside, false).await?;
    greets(&friend.host, inside, true).await?;
    // What only requests have allows no connection.
    let requests = json!({ "rules": [{ "to": [{ "operation": { "methods": ["GET"] } }] }] });
    cluster.put(AUTHORIZATIONS, resource("friends", &requests));
    greets(&friend.host, inside, false).await?;
    cluster.delete(AUTHORIZATIONS, NAMESPACE, "friends");
    greets(&stranger.host, inside, true).await?;
    // And denies nothing that is not left without it.
    let deny = json!({
        "action": "DENY",
        "rules": [{ "to": [{ "operation": { "methods": ["GET"], "ports": ["2525"] } }] }],
    });
    cluster.put(AUTHORIZATIONS, resource("port", &deny));
    greets(&friend.host, inside, false).await
}

/// Waits until a resource's status says whether it holds, and why not.
async fn told(world: &World, collection: &str, name: &str, holds: &str) -> Result<String> {
    let accepted = |object: &Value| {
        let condition = &object["status"]["conditions"][0];
        condition["type"] == "Accepted" && condition["status"] == holds
    };
    let object = world.cluster()?.until(collection, name, accepted).await;
    let condition = &object["status"]["conditions"][0];
    ensure!(condition["observedGeneration"] == 1, "{condition}");
    Ok(condition["message"].as_str().unwrap_or_default().to_owned())
}

async fn answers(from: &Host, to: SocketAddr, path: &str, expected: u16) -> Result<()> {
    until(&format!("{path} answered with {expected}"), || async {
        match get_as(from, to, "web", path).await {
            Ok(reply) if reply.status == expected => Ok(()),
            Ok(reply) => bail!("{}", reply.status),
            // Refused on the connection.
            Err(_) if expected == 0 => Ok(()),
            Err(error) => Err(error),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_the_cluster_hold_and_say_so() -> Result<()> {
    let world = World::start_in_cluster().await?;
    let web = Pod::start(&world, "web", &PodSpec::default()).await?;
    let _application = web.application(8080)?;
    let friend = Pod::start(&world, "friend", &PodSpec::default()).await?;
    let stranger = Pod::start(&world, "stranger", &PodSpec::default()).await?;
    let outsider = world.network.host("outsider")?;
    let inside = world.publish("web", 8080, &json!({}), &json!({})).await?;
    answers(&friend.host, inside, "/", 200).await?;
    answers(&outsider, web.at(8080), "/", 200).await?;

    // mTLS alone, by the namespace; then not on one port of the workload.
    let cluster = world.cluster()?;
    cluster.put(PEERS, resource("all", &json!({ "mtls": { "mode": "STRICT" } })));
    told(&world, PEERS, "all", "True").await?;
    answers(&outsider, web.at(8080), "/", 0).await?;
    answers(&friend.host, inside, "/", 200).await?;
    let own = json!({
        "selector": { "matchLabels": { "app": "web" } },
        "portLevelMtls": { "8080": { "mode": "PERMISSIVE" } },
    });
    cluster.put(PEERS, resource("port", &own));
    answers(&outsider, web.at(8080), "/", 200).await?;
    cluster.delete(PEERS, NAMESPACE, "port");
    answers(&outsider, web.at(8080), "/", 0).await?;

    // One that can't hold says why, and changes nothing.
    let bad = json!({ "portLevelMtls": { "8080": { "mode": "DISABLE" } } });
    cluster.put(PEERS, resource("bad", &bad));
    let reason = told(&world, PEERS, "bad", "False").await?;
    ensure!(reason.contains("portLevelMtls: needs a selector"), "{reason}");

    // Friends may read; nobody may see what is secret.
    let allow = json!({
        "selector": { "matchLabels": { "app": "web" } },
        "rules": [{
            "from": [{ "source": { "principals": ["cluster.local/ns/demo/sa/friend"] } }],
            "to": [{ "operation": { "methods": ["GET"], "ports": ["8080"] } }],
        }],
    });
    cluster.put(AUTHORIZATIONS, resource("friends", &allow));
    told(&world, AUTHORIZATIONS, "friends", "True").await?;
    answers(&stranger.host, inside, "/", 403).await?;
    answers(&friend.host, inside, "/", 200).await?;
    let deny = json!({
        "action": "DENY",
        "rules": [{ "to": [{ "operation": { "paths": ["/secret*"] } }] }],
    });
    cluster.put(AUTHORIZATIONS, resource("secret", &deny));
    answers(&friend.host, inside, "/secret/one", 403).await?;
    answers(&friend.host, inside, "/", 200).await?;
    let custom = json!({ "action": "CUSTOM", "provider": { "name": "ask" }, "rules": [{}] });
    cluster.put(AUTHORIZATIONS, resource("custom", &custom));
    let reason = told(&world, AUTHORIZATIONS, "custom", "False").await?;
    ensure!(reason.contains("provider \"ask\""), "{reason}");
    answers(&friend.host, inside, "/", 200).await?;
    for name in ["friends", "secret"] {
        cluster.delete(AUTHORIZATIONS, NAMESPACE, name);
    }
    answers(&stranger.host, inside, "/secret/one", 200).await
}
