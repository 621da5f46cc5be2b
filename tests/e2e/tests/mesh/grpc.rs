//! gRPC with tonic at both ends.

pub(crate) mod service;

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use weft_testkit::until;

use crate::member::{Member, Profile};
use crate::world::World;
use service::{Client, Line, Server};

/// The mesh: a client, a gRPC service, both behind sidecars.
struct Mesh {
    client: Client,
    server: Server,
    member: Member,
    _caller: Member,
    _world: World,
}

async fn mesh() -> Result<Mesh> {
    let world = World::start().await?;
    let member = Member::start(&world, Profile::workload("lines", &["grpc:9000"])).await?;
    let server = Server::start(&member.host, 9000)?;
    let caller = Member::start(&world, Profile::workload("caller", &[])).await?;
    let upstream = json!({ "scheme": "grpc" });
    let address = world.publish("lines", 9000, &json!({}), &upstream).await?;
    let client = Client::connect(&caller.host, address, "lines").await?;
    until("a first answer", || async {
        Ok(client.clone().upper(Request::new(Line::of("x"))).await.map(drop)?)
    })
    .await?;
    Ok(Mesh { client, server, member, _caller: caller, _world: world })
}

#[tokio::test]
async fn grpc_calls_streams_and_trailers_pass_both_sidecars() -> Result<()> {
    let mut mesh = mesh().await?;
    unary(&mut mesh).await?;
    statuses(&mut mesh).await?;
    both_ways(&mut mesh).await?;
    refused_by_the_sidecar(&mut mesh).await
}

async fn unary(mesh: &mut Mesh) -> Result<()> {
    let mut request = Request::new(Line::of("hello"));
    request.metadata_mut().insert("x-asked", "yes".parse()?);
    let answer = mesh.client.upper(request).await?;
    ensure!(answer.get_ref().text == "HELLO", "{answer:?}");
    ensure!(answer.metadata().get("x-answered").is_some_and(|value| value == "yes"), "{answer:?}");
    // mTLS: the server's sidecar proved the caller.
    let seen = mesh.server.caller();
    ensure!(seen.contains(&format!("By={}", mesh.member.identity())), "{seen}");
    ensure!(seen.contains("URI=spiffe://cluster.local/ns/demo/sa/caller"), "{seen}");
    Ok(())
}

/// A status without any message is in the header block, one after messages in the trailers.
async fn statuses(mesh: &mut Mesh) -> Result<()> {
    let Err(status) = mesh.client.upper(Request::new(Line::of("fail"))).await else {
        anyhow::bail!("the call did not fail");
    };
    ensure!(status.code() == Code::FailedPrecondition, "{status:?}");
    ensure!(status.message() == "no: ünlucky", "{status:?}");
    ensure!(status.metadata().get("x-why").is_some_and(|why| why == "asked for"), "{status:?}");
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = mesh.client.chat(ReceiverStream::new(receiver)).await?.into_inner();
    sender.send(Line::of("one")).await?;
    ensure!(answers.next().await.transpose()? == Some(Line::of("one")));
    sender.send(Line::of("fail")).await?;
    let status = answers.next().await.and_then(Result::err);
    let status = status.ok_or_else(|| anyhow::anyhow!("the stream did not fail"))?;
    ensure!(status.code() == Code::FailedPrecondition, "{status:?}");
    ensure!(status.metadata().get("x-why").is_some_and(|why| why == "asked for"), "{status:?}");
    Ok(())
}

/// Each message is sent only after the answer to the one before has come.
async fn both_ways(mesh: &mut Mesh) -> Result<()> {
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = mesh.client.chat(ReceiverStream::new(receiver)).await?.into_inner();
    let long = "x".repeat(100_000);
    for text in ["a", "b", long.as_str(), "c"] {
        sender.send(Line::of(text)).await?;
        let answer = answers.next().await.transpose()?;
        ensure!(answer.is_some_and(|line| line.text == text), "no echo of {} bytes", text.len());
    }
    drop(sender);
    ensure!(answers.next().await.is_none(), "the stream does not end");
    let trailers = answers.trailers().await?;
    ensure!(trailers.is_some_and(|trailers| trailers.contains_key("x-counted")), "no trailers");
    Ok(())
}

/// What the sidecar itself answers to gRPC is a gRPC status too.
async fn refused_by_the_sidecar(mesh: &mut Mesh) -> Result<()> {
    mesh.server.stop();
    let status = until("the service gone", || async {
        match mesh.client.clone().upper(Request::new(Line::of("x"))).await {
            Ok(answer) => anyhow::bail!("answered {answer:?}"),
            Err(status) => Ok(status),
        }
    })
    .await?;
    ensure!(status.code() == Code::Unavailable, "{status:?}");
    Ok(())
}
