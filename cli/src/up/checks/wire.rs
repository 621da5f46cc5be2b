//! The call itself, and what of it can be read on the way.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::timeout;
use weft_netns::Trace;

use super::super::api::connect;
use super::super::mesh::{APPLICATION_PORT, Mesh, SERVICE};
use crate::http::Connection;

const PLAIN_CALL: Duration = Duration::from_secs(5);

pub(super) async fn plain_call(mesh: &Mesh<'_>) -> Result<String> {
    let sample = mesh.call(20, &[]).await?;
    sample.all_succeeded()?;
    Ok(format!("{} answers with 200", sample.len()))
}

/// Captures a call with a secret in a header, from inside and from outside the mesh.
pub(super) async fn encrypted(mesh: &Mesh<'_>) -> Result<String> {
    let secret = format!("{:032x}", fastrand::u128(..));
    let capture = mesh.network.capture()?;
    let header = format!("x-secret: {secret}");
    let called = mesh.call(40, &["--header", &header]).await;
    let trace = capture.stop()?;
    called?.all_succeeded()?;
    let trace = between(mesh, &trace);
    ensure!(trace.tls_records() > 0, "no TLS records among {} bytes", trace.bytes());
    for plain in [secret.as_bytes(), b"HTTP/1.1", b"\"service\""] {
        let text = String::from_utf8_lossy(plain);
        ensure!(!trace.contains(plain), "`{text}` can be read on the wire");
    }
    // The same capture can read what is not encrypted.
    let capture = mesh.network.capture()?;
    let answer = call_from_outside(mesh, &secret).await;
    let control = capture.stop()?;
    answer.context("the call from outside the mesh, for comparison")?;
    ensure!(control.contains(secret.as_bytes()), "the capture can't read plaintext either");
    Ok(format!(
        "{} bytes captured, {} TLS records, nothing readable; the same from outside the mesh: readable",
        trace.bytes(),
        trace.tls_records()
    ))
}

pub(super) async fn identity(mesh: &Mesh<'_>) -> Result<String> {
    let sample = mesh.call(40, &[]).await?;
    sample.all_succeeded()?;
    let wanted = mesh.client.identity();
    for greeting in sample.outcomes.iter().filter_map(|outcome| outcome.greeting.as_ref()) {
        if greeting.caller.as_deref() != Some(&wanted) {
            bail!("{} {} saw {:?} instead of {wanted}", SERVICE, greeting.version, greeting.caller);
        }
    }
    Ok(wanted)
}

/// A plaintext request to every address of a workload, from the host that is
/// not in the mesh; an error unless all are answered with 200.
pub(super) async fn call_from_outside(mesh: &Mesh<'_>, secret: &str) -> Result<()> {
    for address in mesh.first.host().addresses() {
        let status = call_address_from_outside(mesh, address, secret).await?;
        ensure!(status == 200, "{address} answers plaintext with {status}");
    }
    Ok(())
}

/// A plaintext request to one address of a workload, from the host that is not in the mesh.
pub(super) async fn call_address_from_outside(
    mesh: &Mesh<'_>,
    address: IpAddr,
    secret: &str,
) -> Result<u16> {
    let address = SocketAddr::new(address, APPLICATION_PORT);
    let exchange = async {
        let stream = connect(&mesh.outsider, address).await?;
        let mut request = crate::http::get(&address.to_string(), "/")?;
        request.headers_mut().insert("x-secret", secret.parse()?);
        let answer = Connection::open(stream).await?.send(request).await?;
        Ok(answer.status().as_u16())
    };
    timeout(PLAIN_CALL, exchange).await.with_context(|| format!("no answer from {address}"))?
}

/// What went between the client and the service's workloads, in either IP version.
fn between(mesh: &Mesh<'_>, trace: &Trace) -> Trace {
    let mut all = Trace::default();
    for client in mesh.client.host().addresses() {
        for server in [&mesh.first, &mesh.second] {
            for server in server.host().addresses() {
                all.segments.extend(trace.between(client, server).segments);
            }
        }
    }
    all
}
