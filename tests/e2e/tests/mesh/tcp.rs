//! Connections of a protocol in which the server speaks first.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use weft_netns::Host;
use weft_testkit::{DEADLINE, until};

use crate::member::{Member, Profile};
use crate::world::{World, connect, listen};

/// A server that greets with its name and sends lines back; ended when dropped.
pub(crate) struct Greeter(JoinHandle<()>);

impl Greeter {
    pub(crate) fn start(host: &Host, port: u16) -> Result<Self> {
        let listener = listen(host, port)?;
        Ok(Self(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(greet(stream));
            }
        })))
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn greet(mut stream: TcpStream) -> std::io::Result<()> {
    let from = stream.peer_addr()?;
    stream.write_all(format!("220 hello {}\n", from.ip()).as_bytes()).await?;
    let (read, mut write) = stream.split();
    tokio::io::copy(&mut BufReader::new(read), &mut write).await?;
    write.shutdown().await
}

/// A client's connection, greeted.
pub(crate) struct Conversation {
    stream: BufReader<TcpStream>,
    pub(crate) greeting: String,
}

impl Conversation {
    pub(crate) async fn open(from: &Host, to: SocketAddr) -> Result<Self> {
        let mut stream = BufReader::new(connect(from, to).await?);
        let mut greeting = String::new();
        timeout(DEADLINE, stream.read_line(&mut greeting)).await.context("no greeting")??;
        ensure!(greeting.starts_with("220 "), "greeted with {greeting:?}");
        Ok(Self { stream, greeting })
    }

    /// Sends a line and waits for it to come back.
    pub(crate) async fn say(&mut self, text: &str) -> Result<()> {
        self.stream.write_all(format!("{text}\n").as_bytes()).await?;
        let mut line = String::new();
        timeout(DEADLINE, self.stream.read_line(&mut line)).await.context("no echo")??;
        ensure!(line.trim_end_matches('\n') == text, "{line:?} instead of {text:?}");
        Ok(())
    }

    /// Ends the client's half and waits for the server's end.
    async fn finish(mut self) -> Result<()> {
        self.stream.shutdown().await?;
        let mut rest = String::new();
        timeout(DEADLINE, self.stream.read_line(&mut rest)).await.context("no end")??;
        ensure!(rest.is_empty(), "{rest:?} after the end");
        Ok(())
    }
}

/// Publishes the workloads of `app` as a service of TCP connections.
pub(crate) async fn publish(world: &World, app: &str, port: u16) -> Result<SocketAddr> {
    let service = json!({
        "hosts": [app],
        "labels": { "weft.dev/ports": port.to_string() },
        "upstream": {
            "type": "roundrobin",
            "scheme": "tcp",
            "discovery_type": "mesh",
            "service_name": format!("demo/{app}:{port}"),
        },
    });
    world.put(&format!("/apisix/admin/services/{app}"), &service).await?;
    Ok(SocketAddr::new(world.virtual_address(app).await?, port))
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_over_mtls() -> Result<()> {
    let world = World::start().await?;
    let server = Member::start(&world, Profile::workload("mail", &["tcp:2525"])).await?;
    let _greeter = Greeter::start(&server.host, 2525)?;
    let client = Member::start(&world, Profile::workload("client", &[])).await?;
    let address = publish(&world, "mail", 2525).await?;
    until("a first greeting", || Conversation::open(&client.host, address)).await?;
    let capture = world.network.capture()?;
    let mut conversation = Conversation::open(&client.host, address).await?;
    // The sidecar hands over on loopback: the greeting names its address.
    ensure!(conversation.greeting.contains("127.0.0.6"), "{}", conversation.greeting);
    conversation.say("first").await?;
    conversation.say(&"long ".repeat(20_000)).await?;
    conversation.finish().await?;
    let trace = capture.stop()?.between(client.host.ipv4().into(), server.host.ipv4().into());
    ensure!(trace.tls_records() > 0, "no TLS between the sidecars");
    ensure!(!trace.contains(b"220 hello"), "the greeting crossed the network in plaintext");
    Ok(())
}
