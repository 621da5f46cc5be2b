//! A sidecar told to end while it is busy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use weft::http::{Connection, get};
use weft_netns::Host;
use weft_testkit::{DEADLINE, eventually, until};

use crate::member::{Member, Profile};
use crate::world::{World, connect, get_as};

/// Calls on kept connections, each until the server announces its end, until none is accepted any
/// more. A request without an answer is an error.
async fn load(from: Host, to: SocketAddr, answered: Arc<AtomicUsize>) -> Result<()> {
    loop {
        let Ok(stream) = connect(&from, to).await else { return Ok(()) };
        let mut connection = Connection::open(stream).await?;
        for number in 0.. {
            let sent = timeout(DEADLINE, connection.send(get("busy", "/")?)).await?;
            let reply = sent.with_context(|| format!("request {number} of a connection"))?;
            ensure!(reply.status() == 200, "{}", reply.status());
            answered.fetch_add(1, Ordering::Relaxed);
            if reply.headers().get("connection").is_some_and(|value| value == "close") {
                break;
            }
        }
    }
}

async fn sigterm_under_load(member: &mut Member, from: &Host, to: SocketAddr) -> Result<()> {
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        clients.spawn(load(from.clone(), to, answered.clone()));
    }
    // A request that is half sent when the signal comes.
    let mut slow = connect(from, to).await?;
    slow.write_all(b"POST /slow HTTP/1.1\r\nhost: busy\r\ncontent-length: 10\r\n\r\n01234").await?;
    eventually("load", || answered.load(Ordering::Relaxed) > 200).await?;
    member.process.signal(Signal::SIGTERM)?;
    member.process.line_with("draining").await?;
    slow.write_all(b"56789").await?;
    let mut answer = Vec::new();
    timeout(DEADLINE, slow.read_to_end(&mut answer)).await.context("no end")??;
    let text = String::from_utf8_lossy(&answer);
    ensure!(text.starts_with("HTTP/1.1 200") && text.ends_with("0123456789"), "{text}");
    while let Some(client) = timeout(DEADLINE, clients.join_next()).await? {
        client??;
    }
    let status = member.process.end().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_sidecar_that_ends_answers_what_it_accepted() -> Result<()> {
    let world = World::start().await?;
    let mut server = Member::start(&world, Profile::workload("busy", &["http:8080"])).await?;
    let _application = server.application(8080)?;
    let mut client = Member::start(&world, Profile::workload("client", &[])).await?;
    let outsider = world.network.host("outsider")?;
    let address = world.publish("busy", 8080, &json!({}), &json!({})).await?;
    until("an answer", || async {
        match get_as(&client.host, address, "busy", "/").await?.status {
            200 => Ok(()),
            other => bail!("{other}"),
        }
    })
    .await?;
    let from = client.host.clone();
    sigterm_under_load(&mut client, &from, address).await.context("the caller's sidecar")?;
    let direct = (server.host.ipv4(), 8080).into();
    sigterm_under_load(&mut server, &outsider, direct).await.context("the service's sidecar")
}
