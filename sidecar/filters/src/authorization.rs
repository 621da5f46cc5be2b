//! What authorization services (`envoy.service.auth.v3.Authorization`) are asked about connections,
//! for the filters that ask them about requests and about connections.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use weft_filter_api::{Callouts, ConnectionFacts};
use weft_telemetry::Annotations;
use weft_xds_proto::json_to_struct;
use weft_xds_proto::pb::envoy::config::core::v3::{
    Address, Metadata, SocketAddress, address, socket_address::PortSpecifier,
};
use weft_xds_proto::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse,
    attribute_context::{Peer, TlsSession},
};

use crate::config::GrpcTarget;
use crate::grpc::unary;

const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";
/// How long a check may take when nothing is configured.
const USUAL_TIMEOUT: Duration = Duration::from_millis(200);

/// What a service is shown of the TLS session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    /// `include_peer_certificate`
    pub(crate) certificate: bool,
    /// `include_tls_session`
    pub(crate) session: bool,
}

/// Asks a service; none if it has no answer.
pub(crate) async fn check(
    callouts: &dyn Callouts,
    target: &GrpcTarget,
    attributes: AttributeContext,
) -> Option<CheckResponse> {
    let call = target.call(METHOD, target.timeout.unwrap_or(USUAL_TIMEOUT));
    let request = CheckRequest { attributes: Some(attributes) };
    match unary::<CheckResponse>(callouts, &call, &request).await {
        Ok(response) => Some(response),
        Err(error) => {
            tracing::debug!(%error, cluster = target.cluster, "no authorization");
            None
        }
    }
}

/// What is said of a connection whose client is `remote`.
pub(crate) fn attributes(
    connection: &ConnectionFacts,
    remote: SocketAddr,
    shown: Shown,
) -> AttributeContext {
    let tls = connection.tls.as_ref();
    let peer = tls.and_then(|tls| tls.peer.as_ref());
    let principal = peer.map(|peer| {
        let san = peer.uri_sans.first().or(peer.dns_sans.first());
        san.unwrap_or(&peer.subject).clone()
    });
    let certificate = peer
        .filter(|_| shown.certificate)
        .and_then(|peer| peer.chain.first())
        .map(|leaf| url_encoded_pem(leaf));
    let own = tls.and_then(|tls| tls.local_uri_sans.first()).cloned();
    let session = tls.filter(|_| shown.session);
    AttributeContext {
        source: Some(Peer {
            address: Some(address(remote)),
            principal: principal.unwrap_or_default(),
            certificate: certificate.unwrap_or_default(),
            ..Peer::default()
        }),
        destination: Some(Peer {
            address: Some(address(connection.local)),
            principal: own.unwrap_or_default(),
            ..Peer::default()
        }),
        tls_session: session.map(|_| TlsSession {
            sni: connection.server_name.as_deref().unwrap_or_default().to_owned(),
        }),
        ..AttributeContext::default()
    }
}

/// The metadata of these namespaces, each from the first of `places` that has it.
pub(crate) fn metadata(namespaces: &[String], places: &[Option<&Annotations>]) -> Metadata {
    let mut metadata = Metadata::default();
    for name in namespaces {
        let mut all = places.iter().copied().flatten();
        if let Some(fields) = all.find_map(|one| one.namespace(name)) {
            metadata.filter_metadata.insert(name.clone(), json_to_struct(fields));
        }
    }
    metadata
}

fn address(address: SocketAddr) -> Address {
    let address = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
        ..SocketAddress::default()
    };
    Address { address: Some(address::Address::SocketAddress(address)) }
}

fn url_encoded_pem(der: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in BASE64_STANDARD.encode(der).as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    percent_encoding::utf8_percent_encode(&pem, percent_encoding::NON_ALPHANUMERIC).to_string()
}
