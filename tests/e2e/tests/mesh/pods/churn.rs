//! Pods that come and go while others talk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use weft_netns::{Host, Node};
use weft_testkit::{eventually, until};

use super::{Cluster, called};
use crate::pod::{Pod, PodSpec};
use crate::world::get_as;

/// How many pods come and go, unless `WEFT_TEST_PODS` says otherwise.
const PODS: usize = 40;
/// How many are there at once.
const AT_ONCE: usize = 4;

/// Calls until it is told to stop; every call must be answered.
async fn load(
    from: Host,
    to: SocketAddr,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let number = done.load(Ordering::Relaxed);
        let reply = get_as(&from, to, "web", "/").await;
        let reply = reply.with_context(|| format!("after {number} answers"))?;
        ensure!(reply.status == 200, "{} after {number} answers", reply.status);
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One pod's life: it starts, calls, and ends.
async fn live(cluster: Arc<Cluster>, number: usize, to: SocketAddr) -> Result<()> {
    let name = format!("pod-{number}");
    let mut pod = cluster.pod(number % 2, &name, &PodSpec::default()).await?;
    until("a pod's call", || async {
        let reply = get_as(&pod.host, to, "web", "/").await?;
        ensure!(reply.status == 200, "{}", reply.status);
        Ok(())
    })
    .await?;
    let status = pod.process.stop().await?;
    ensure!(status.success(), "{name}: {status}\n{}", pod.process.output());
    cluster.world.network.remove(&pod.host)?;
    Ok(())
}

/// The interfaces on a node's bridge.
fn ports(node: &Node) -> Result<usize> {
    let mut command = node.bridge().command("ip");
    let output = command.args(["-o", "link", "show", "master", "bridge"]).output()?;
    Ok(String::from_utf8(output.stdout)?.lines().count())
}

/// The open files of a process and all below it: `ip netns exec` becomes the program itself.
fn open_files(pod: &Pod) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", pod.process.id()))?.count())
}

fn namespaces(cluster: &Cluster) -> Result<usize> {
    let (own, _) = cluster.name_server.namespace().rsplit_once('-').context("a name")?;
    let entries = std::fs::read_dir("/run/netns")?.flatten();
    Ok(entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(own)).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_come_and_go_without_a_failed_request_and_leave_nothing() -> Result<()> {
    let pods = match std::env::var("WEFT_TEST_PODS") {
        Ok(text) => text.parse().context("WEFT_TEST_PODS is no number")?,
        Err(_) => PODS,
    };
    let cluster = Arc::new(Cluster::start().await?);
    let web = cluster.pod(1, "web", &PodSpec::default()).await?;
    let application = web.application(8080)?;
    let client = cluster.pod(0, "client", &PodSpec::default()).await?;
    let to = cluster.world.publish("web", 8080, &json!({}), &json!({})).await?;
    until("an answer", || called(&client, to, "web", &application)).await?;
    let before = (namespaces(&cluster)?, ports(&cluster.nodes[0])?, ports(&cluster.nodes[1])?);
    let files = [open_files(&client)?, open_files(&web)?];
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut loads = JoinSet::new();
    for _ in 0..2 {
        loads.spawn(load(client.host.clone(), to, Arc::clone(&stop), Arc::clone(&done)));
    }
    let mut lives = JoinSet::new();
    for number in 0..pods {
        if lives.len() >= AT_ONCE {
            lives.join_next().await.context("a pod")???;
        }
        lives.spawn(live(Arc::clone(&cluster), number, to));
    }
    while let Some(lived) = lives.join_next().await {
        lived??;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = loads.join_next().await {
        ended??;
    }
    ensure!(done.load(Ordering::Relaxed) > pods, "hardly any load");
    // The kernel takes away in its own time; pools close what is idle.
    eventually("nothing is left", || {
        let now = (namespaces(&cluster), ports(&cluster.nodes[0]), ports(&cluster.nodes[1]));
        matches!(now, (Ok(a), Ok(b), Ok(c)) if (a, b, c) == before)
    })
    .await?;
    for (pod, files) in [&client, &web].into_iter().zip(files) {
        let now = open_files(pod)?;
        // Connections of the load may be kept for later.
        ensure!(now <= files + 16, "{} files are open, before it were {files}", now);
    }
    Ok(())
}
