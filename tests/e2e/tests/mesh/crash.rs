//! A control plane that dies in the middle of its work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use weft_testkit::{eventually, until};

use crate::member::{Member, Profile};
use crate::world::{Api, World, get_as};

const WRITERS: usize = 4;
const ENOUGH: usize = 60;

fn route(writer: usize, number: usize) -> Value {
    json!({
        "uri": "/",
        "desc": format!("{writer} {number}"),
        "hosts": [format!("w{writer}n{}.weft.test", number % 10)],
        "upstream": { "type": "roundrobin", "nodes": { "192.0.2.1:80": 1 } },
    })
}

/// Writes until a write fails, and notes what was acknowledged: new routes, and the same ones again.
async fn write(api: Api, writer: usize, acknowledged: Arc<Mutex<Vec<(usize, usize)>>>) {
    for number in 0.. {
        let path = format!("/apisix/admin/routes/w{writer}n{}", number % 10);
        if api.send(Method::PUT, &path, Some(&route(writer, number))).await.is_err() {
            return;
        }
        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((writer, number));
    }
}

#[tokio::test]
async fn a_killed_control_plane_loses_nothing_acknowledged_and_traffic_flows_on() -> Result<()> {
    let mut world = World::start().await?;
    let server = Member::start(&world, Profile::workload("steady", &["http:8080"])).await?;
    let _application = server.application(8080)?;
    let client = Member::start(&world, Profile::workload("client", &[])).await?;
    let address = world.publish("steady", 8080, &json!({}), &json!({})).await?;
    let call = async |name: &str| {
        Ok::<_, anyhow::Error>(get_as(&client.host, address, name, "/").await?.status)
    };
    until("an answer", || async {
        ensure!(call("steady").await? == 200);
        Ok(())
    })
    .await?;
    let ended = AtomicBool::new(false);
    let traffic = async {
        let mut requests = 0;
        while !ended.load(Ordering::Relaxed) {
            let status = call("steady").await.context("while the control plane was away")?;
            ensure!(status == 200, "request {requests}: {status}");
            requests += 1;
        }
        anyhow::Ok(requests)
    };
    let crash = async {
        let last = crash(&mut world).await?;
        converged(&world, &last).await?;
        ended.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (requests, ()) = tokio::try_join!(traffic, crash)?;
    ensure!(requests > 0);
    // What is written afterwards arrives.
    let more = json!({ "hosts": ["later.weft.test"] });
    world.put_route("steady", 8080, &more, &json!({})).await?;
    until("the new name", || async {
        let status = call("later.weft.test").await?;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await
}

/// Kills the control plane under writes and starts it again; the last acknowledged write of each route.
async fn crash(world: &mut World) -> Result<Vec<(usize, usize)>> {
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(world.api(), writer, acknowledged.clone()));
    }
    let count = || acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len();
    eventually("enough writes", || count() >= ENOUGH).await?;
    world.kill_control_plane().await?;
    while writers.join_next().await.is_some() {}
    world.start_control_plane().await?;
    let all = acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(all)
}

/// Every acknowledged write is there, or one after it; every node accepted what it was sent.
async fn converged(world: &World, acknowledged: &[(usize, usize)]) -> Result<()> {
    for (writer, number) in acknowledged {
        let path = format!("/apisix/admin/routes/w{writer}n{}", number % 10);
        let stored = world.get(&path).await.context("an acknowledged route is lost")?;
        let text = stored["value"]["desc"].as_str().context("no desc")?;
        let found: usize = text.split(' ').nth(1).context("no number")?.parse()?;
        ensure!(found >= *number, "{path}: {found} is older than the acknowledged {number}");
    }
    until("all nodes up to date", || async {
        let nodes = world.get("/weft/admin/nodes").await?;
        let list = nodes["list"].as_array().context("no list")?;
        ensure!(list.len() == 2, "{} nodes", list.len());
        for node in list {
            let types = node["value"]["types"].as_object().context("no types")?;
            let current = types.values().all(|status| status["sent"] == status["accepted"]);
            ensure!(current, "{node}");
        }
        Ok(())
    })
    .await
}
