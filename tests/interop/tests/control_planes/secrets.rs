//! Secrets that the control plane serves by a stream of their own.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weft_testkit::{free_port, until};

use crate::suite::Suite;
use crate::world::{listener, local, routes};

/// The name in every certificate.
const HOST: &str = "interop.test";

/// A certificate for [`HOST`], and the secret `own` that holds it.
fn secret() -> Result<(CertificateDer<'static>, Value)> {
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()])?;
    let secret = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "own",
        "tls_certificate": {
            "certificate_chain": { "inline_string": made.cert.pem() },
            "private_key": { "inline_string": made.signing_key.serialize_pem() },
        },
    });
    Ok((made.cert.der().clone(), secret))
}

/// A listener that shows the secret `own`.
fn secured(port: u16, api: &str) -> Value {
    let mut secured = listener("secured", port);
    secured["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": { "tls_certificate_sds_secret_configs": [{
                "name": "own",
                "sds_config": {
                    "api_config_source": {
                        "api_type": api,
                        "transport_api_version": "V3",
                        "grpc_services": [{ "envoy_grpc": { "cluster_name": "secrets" } }],
                    },
                    "resource_api_version": "V3",
                },
            }] },
        },
    });
    secured
}

async fn handshake(port: u16, trusted: &CertificateDer<'static>) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(local(port)).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(HOST)?, stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    ensure!(shown == Some(trusted), "another certificate is shown");
    Ok(())
}

impl Suite {
    pub(crate) async fn takes_secrets_by_their_own_stream(mut self, api: &str) -> Result<()> {
        let port = free_port();
        let mut resources = self.world.resources();
        resources.extend([secured(port, api), routes("secured", &["cluster-0".to_owned()])]);
        // Twice with a certificate, and once more after the connections were cut.
        for round in 0..3 {
            if round == 2 {
                self.server.cut()?;
            }
            let (trusted, secret) = secret()?;
            let all: Vec<_> = resources.iter().cloned().chain([secret]).collect();
            self.server.serve(&format!("secret {round}"), &all)?;
            until("the new certificate", || handshake(port, &trusted))
                .await
                .with_context(|| format!("round {round}"))?;
        }
        let refused = self.server.events("nack");
        ensure!(refused.is_empty(), "{refused:?}");
        Ok(())
    }
}
