//! WebSocket, with tungstenite at both ends.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};
use weft_netns::Host;
use weft_testkit::{DEADLINE, until};

use crate::member::{Member, Profile};
use crate::world::{World, connect, listen};

async fn open(from: &Host, to: SocketAddr) -> Result<WebSocketStream<TcpStream>> {
    let stream = connect(from, to).await?;
    let opened = timeout(DEADLINE, client_async("ws://chat/socket", stream)).await?;
    Ok(opened?.0)
}

async fn echo(stream: TcpStream) -> Result<()> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_passes_both_sidecars_and_closes_cleanly() -> Result<()> {
    let world = World::start().await?;
    let server = Member::start(&world, Profile::workload("chat", &["http:8080"])).await?;
    let listener = listen(&server.host, 8080)?;
    let application = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let client = Member::start(&world, Profile::workload("client", &[])).await?;
    let route = json!({ "enable_websocket": true });
    let address = world.publish("chat", 8080, &route, &json!({})).await?;
    let mut socket = until("an open socket", || open(&client.host, address)).await?;
    let large = vec![7_u8; 300_000];
    for message in [Message::text("hello"), Message::binary(large), Message::text("again")] {
        socket.send(message.clone()).await?;
        let answer = timeout(DEADLINE, socket.next()).await?.context("no answer")??;
        ensure!(answer == message, "not what was sent");
    }
    socket.close(None).await?;
    let last = timeout(DEADLINE, socket.next()).await?.context("no close")??;
    ensure!(last.is_close(), "{last:?}");
    ensure!(timeout(DEADLINE, socket.next()).await?.is_none(), "the connection stays open");
    application.abort();
    Ok(())
}
