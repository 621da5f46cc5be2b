//! North-south: the edge's certificates and protocols.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weft_netns::Host;
use weft_testkit::{DEADLINE, Reply, send_on, until};

use crate::member::{Member, Profile, caller};
use crate::world::{World, connect};

const HTTPS_PORT: u16 = 9443;
const ONE: &str = "one.weft.test";
const TWO: &str = "two.weft.test";

pub(crate) type Certificate = CertificateDer<'static>;

/// Uploads a new certificate for a name.
pub(crate) async fn upload(world: &World, id: &str, name: &str) -> Result<Certificate> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()])?;
    let ssl = json!({
        "snis": [name],
        "cert": made.cert.pem(),
        "key": made.signing_key.serialize_pem(),
    });
    world.put(&format!("/apisix/admin/ssls/{id}"), &ssl).await?;
    Ok(made.cert.der().clone())
}

pub(crate) struct Visitor<'a> {
    pub(crate) from: &'a Host,
    pub(crate) edge: &'a Member,
    pub(crate) port: u16,
}

impl Visitor<'_> {
    /// A connection to a name whose certificate is the one given.
    pub(crate) async fn open(
        &self,
        name: &str,
        trusted: &Certificate,
        alpn: &[&str],
    ) -> Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = connect(self.from, (self.edge.host.ipv4(), self.port).into()).await?;
        let server = ServerName::try_from(name.to_owned())?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(server, stream);
        let stream = timeout(DEADLINE, connecting).await?.context("the TLS handshake")?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        ensure!(shown == Some(trusted), "another certificate is shown");
        Ok(stream)
    }

    async fn http1(&self, name: &str, trusted: &Certificate) -> Result<Reply> {
        let stream = self.open(name, trusted, &["http/1.1"]).await?;
        let request = Request::get("/").header("host", name).body(Full::default())?;
        timeout(DEADLINE, send_on(stream, request)).await?
    }

    async fn http2(&self, name: &str, trusted: &Certificate) -> Result<Http2> {
        let stream = self.open(name, trusted, &["h2", "http/1.1"]).await?;
        let chosen = stream.get_ref().1.alpn_protocol();
        ensure!(chosen == Some(b"h2"), "ALPN chose {chosen:?}");
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Ends with `sender`.
        tokio::spawn(driver);
        Ok(Http2 { sender, name: name.to_owned() })
    }
}

struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    name: String,
}

impl Http2 {
    async fn post(&mut self, body: &str) -> Result<()> {
        let uri = format!("https://{}/", self.name);
        let request = Request::post(uri).body(Full::new(Bytes::from(body.to_owned())))?;
        let response = timeout(DEADLINE, self.sender.send_request(request)).await??;
        ensure!(response.status() == 200 && response.version() == Version::HTTP_2, "{response:?}");
        let echoed = response.into_body().collect().await?.to_bytes();
        ensure!(echoed == body.as_bytes(), "{echoed:?}");
        Ok(())
    }
}

#[tokio::test]
async fn the_edge_serves_names_with_their_certificates_and_http2() -> Result<()> {
    let world = World::start().await?;
    let server = Member::start(&world, Profile::workload("shop", &["http:8080"])).await?;
    let application = server.application(8080)?;
    let edge = Member::start(&world, Profile::edge()).await?;
    let outsider = world.network.host("outsider")?;
    let visitor = Visitor { from: &outsider, edge: &edge, port: HTTPS_PORT };
    let hosts = json!({ "hosts": ["shop", ONE, TWO] });
    world.publish("shop", 8080, &hosts, &json!({})).await?;
    let one = upload(&world, "one", ONE).await?;
    let two = upload(&world, "two", TWO).await?;
    for (name, certificate) in [(ONE, &one), (TWO, &two)] {
        until(name, || async {
            let reply = visitor.http1(name, certificate).await?;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
            Ok(())
        })
        .await?;
    }
    let seen = caller(&application)?;
    ensure!(seen.contains(&edge.identity()), "the service saw {seen:?}");
    ensure!(
        visitor.open("three.weft.test", &one, &[]).await.is_err(),
        "a name without certificate"
    );
    let mut kept = visitor.http2(ONE, &one).await?;
    kept.post("before").await?;

    let newer = upload(&world, "one", ONE).await?;
    until("the new certificate", || visitor.http1(ONE, &newer)).await?;
    kept.post("after").await.context("the connection with the old certificate")?;
    visitor.http2(ONE, &newer).await?.post("new").await?;
    visitor.http2(TWO, &two).await?.post("other").await
}
