//! North-south: the edge serves the service with an uploaded certificate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::api::connect;
use super::super::mesh::{Mesh, PUBLIC_NAME};
use super::super::process::wait_for;
use crate::http::Connection;
use crate::workload::Greeting;

const HTTPS_PORT: u16 = 9443;
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);
const ONE_CALL: Duration = Duration::from_secs(5);

pub(super) async fn serves(mesh: &Mesh<'_>) -> Result<String> {
    let made = rcgen::generate_simple_self_signed([PUBLIC_NAME.to_owned()])?;
    let ssl = json!({
        "snis": [PUBLIC_NAME],
        "cert": made.cert.pem(),
        "key": made.signing_key.serialize_pem(),
    });
    mesh.api().put("/apisix/admin/ssls/greeter", &ssl).await?;
    let connector = trusting(made.cert.der())?;
    let greeting = wait_for(FOLLOWED_WITHIN, "an answer over TLS", || async {
        timeout(ONE_CALL, call(mesh, &connector)).await.context("no answer")?
    })
    .await?;
    let wanted = mesh.edge.identity();
    ensure!(
        greeting.caller.as_deref() == Some(&wanted),
        "the service saw {:?} instead of {wanted}",
        greeting.caller
    );
    Ok(format!(
        "https://{PUBLIC_NAME}:{HTTPS_PORT}/ with the uploaded certificate, by SNI; {wanted}"
    ))
}

async fn call(mesh: &Mesh<'_>, connector: &TlsConnector) -> Result<Greeting> {
    let address = (mesh.edge.host().ipv4(), HTTPS_PORT).into();
    let stream = connect(&mesh.outsider, address).await?;
    let name = ServerName::try_from(PUBLIC_NAME)?;
    let stream = connector.connect(name, stream).await.context("the TLS handshake")?;
    let request = crate::http::get(PUBLIC_NAME, "/")?;
    let answer = Connection::open(stream).await?.send(request).await?;
    let body = String::from_utf8_lossy(answer.body());
    ensure!(answer.status().is_success(), "{} {}", answer.status(), body.trim());
    serde_json::from_str(&body).with_context(|| format!("not a greeting: {body}"))
}

fn trusting(root: &CertificateDer<'_>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone().into_owned())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
