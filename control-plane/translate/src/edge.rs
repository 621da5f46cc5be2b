//! An edge's listeners and the certificates that it shows.

use std::collections::BTreeSet;

use weft_control_model::{
    CertificatePair, ClientIdentity, Item, ResourceKey, ResourceKind, Resources, Ssl, SslType,
};
use weft_xds_proto::pb::envoy::config::core::v3::TrafficDirection;
use weft_xds_proto::pb::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::{
    Secret, TlsCertificate, secret,
};

use crate::cluster::client_secret;
use crate::envoy::inline;
use crate::listeners::{Routes, Side, chain, http, tls_inspector};
use crate::node::Families;
use crate::problem::{Problem, Unsupported};
use crate::route_tables::edge_name;
use crate::settings::Settings;
use crate::targets::Target;
use crate::tls;

/// The listener for HTTP.
pub(crate) fn http_listener(families: Families, settings: &Settings) -> Listener {
    let name = format!("0.0.0.0_{}", settings.edge_http_port);
    let (address, additional_addresses) = families.wildcard(settings.edge_http_port);
    Listener {
        address,
        additional_addresses,
        filter_chains: vec![chain(&name, FilterChainMatch::default(), manager(false, settings))],
        traffic_direction: TrafficDirection::Outbound.into(),
        name,
        ..Default::default()
    }
}

/// The listener for HTTPS; none while there is no certificate.
pub(crate) fn https_listener(
    families: Families,
    settings: &Settings,
    resources: &Resources,
    problems: &mut Vec<Problem>,
) -> Option<Listener> {
    let filter_chains = chains(settings, resources, problems);
    if filter_chains.is_empty() {
        return None;
    }
    let (address, additional_addresses) = families.wildcard(settings.edge_https_port);
    Some(Listener {
        name: format!("0.0.0.0_{}", settings.edge_https_port),
        address,
        additional_addresses,
        filter_chains,
        listener_filters: vec![tls_inspector()],
        traffic_direction: TrafficDirection::Outbound.into(),
        ..Default::default()
    })
}

fn manager(
    over_tls: bool,
    settings: &Settings,
) -> weft_xds_proto::pb::envoy::config::listener::v3::Filter {
    let name = edge_name(over_tls);
    http(Side::Edge, name, Routes::Named(name.to_owned()), settings.access_log.as_deref())
}

/// One chain for each certificate. Of several for one name the oldest shows it.
fn chains(
    settings: &Settings,
    resources: &Resources,
    problems: &mut Vec<Problem>,
) -> Vec<FilterChain> {
    let mut ssls: Vec<_> = resources
        .ssls
        .iter()
        .filter(|item| item.value.enabled && item.value.kind == SslType::Server)
        .collect();
    ssls.sort_by_key(|item| item.created);
    let mut taken = BTreeSet::new();
    let mut chains = Vec::new();
    for item in ssls {
        let key = ResourceKey::new(ResourceKind::Ssl, item.id.clone());
        let skips = item.value.client.iter().any(|client| !client.skip_mtls_uri_regex.is_empty());
        if skips {
            let reason = "proxies ask for a certificate before they see the path";
            let field = "client.skip_mtls_uri_regex";
            problems.push(Unsupported::new(field, reason).of(&key));
            continue;
        }
        let mut names = Vec::new();
        for name in &item.value.snis {
            if taken.insert(name.clone()) {
                names.push(name.clone());
            } else {
                let reason = format!("{name} already has an older certificate");
                let problem = Unsupported::new("snis", reason).of(&key);
                problems.push(Problem { served: true, ..problem });
            }
        }
        if !names.is_empty() {
            chains.extend(certificate_chains(item, names, settings));
        }
    }
    chains
}

/// `*` is for every name, which is a chain without names.
fn certificate_chains(
    item: &Item<Ssl>,
    names: Vec<String>,
    settings: &Settings,
) -> Vec<FilterChain> {
    let (any, named): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name == "*");
    let groups = [(!named.is_empty()).then_some(named), (!any.is_empty()).then(Vec::new)];
    let secrets = secret_names(item);
    let chain_for = |server_names: Vec<String>| {
        let matches = FilterChainMatch {
            server_names,
            transport_protocol: "tls".to_owned(),
            ..Default::default()
        };
        let mut chain = chain(&format!("ssl/{}", item.id), matches, manager(true, settings));
        chain.transport_socket = Some(tls::edge(&item.value, secrets.clone()));
        chain
    };
    groups.into_iter().flatten().map(chain_for).collect()
}

pub(crate) fn secret_names(item: &Item<Ssl>) -> Vec<String> {
    let further =
        (1..item.value.certificates.len()).map(|index| format!("ssl/{}/{index}", item.id));
    std::iter::once(format!("ssl/{}", item.id)).chain(further).collect()
}

/// The certificates with their keys: those that edges show to clients, and those that they show
/// to upstreams.
pub(crate) fn secrets<'a>(
    resources: &Resources,
    targets: impl Iterator<Item = &'a Target>,
) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for item in resources.ssls.iter().filter(|item| item.value.enabled) {
        let pairs = secret_names(item).into_iter().zip(&item.value.certificates);
        secrets.extend(pairs.map(|(name, pair)| certificate(name, pair)));
    }
    for target in targets {
        let client = target.upstream.tls.as_ref().and_then(|tls| tls.client.as_ref());
        if let (Some(ClientIdentity::Inline(pair)), Some(name)) = (client, client_secret(target)) {
            secrets.push(certificate(name, pair));
        }
    }
    secrets
}

fn certificate(name: String, pair: &CertificatePair) -> Secret {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(pair.cert.as_str())),
        private_key: Some(inline(pair.key.as_str())),
        ..Default::default()
    };
    Secret { name, r#type: Some(secret::Type::TlsCertificate(certificate)) }
}
