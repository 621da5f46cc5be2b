//! A sidecar's listeners for what its application sends.

use std::net::IpAddr;

use weft_control_model::OutboundTrafficPolicy;
use weft_xds_proto::pb::envoy::config::core::v3::TrafficDirection;
use weft_xds_proto::pb::envoy::config::listener::v3::{FilterChainMatch, Listener};

use crate::envoy::{self, flag, number, unlimited};
use crate::listeners::{
    PLAIN_HTTP, Routes, Side, chain, chain_match, http, http_inspector, tcp, tcp_on_demand,
};
use crate::node::Families;
use crate::route_tables::{BLACK_HOLE, PASSTHROUGH};
use crate::served::TcpService;
use crate::settings::VirtualAddresses;

/// Where the interception sends what an application sends.
const CAPTURE_PORT: u16 = 15001;

/// What shapes the outbound listeners.
pub(crate) struct Outbound<'a> {
    pub(crate) families: Families,
    /// Whether hosts and clusters are fetched when they are called.
    pub(crate) on_demand: bool,
    pub(crate) policy: OutboundTrafficPolicy,
    /// The ports of the mesh's HTTP services, each with a route table of its name.
    pub(crate) http_ports: &'a [u16],
    pub(crate) tcp_services: &'a [TcpService],
    pub(crate) addresses: &'a VirtualAddresses,
    pub(crate) access_log: Option<&'a str>,
}

impl Outbound<'_> {
    /// All outbound listeners.
    pub(crate) fn listeners(&self) -> Vec<Listener> {
        let mut listeners = vec![self.capture()];
        listeners.extend(self.http_ports.iter().map(|&port| self.http_port(port)));
        for service in self.tcp_services {
            let Some(&address) = self.addresses.get(&service.host) else { continue };
            let ports = service.ports.iter();
            listeners.extend(ports.map(|&port| self.tcp_service(service, address, port)));
        }
        listeners
    }

    /// Where everything arrives; what no other listener is for leaves from here.
    fn capture(&self) -> Listener {
        let (address, additional_addresses) = self.families.wildcard(CAPTURE_PORT);
        Listener {
            name: "virtualOutbound".to_owned(),
            address,
            additional_addresses,
            use_original_dst: Some(flag(true)),
            traffic_direction: TrafficDirection::Outbound.into(),
            max_connections_to_accept_per_socket_event: Some(number(1)),
            filter_chains: vec![
                // A connection to the port itself would come back for ever.
                chain(
                    "virtualOutbound-blackhole",
                    chain_match(Some(CAPTURE_PORT), "", &[]),
                    tcp(BLACK_HOLE, BLACK_HOLE, None),
                ),
                chain(
                    "virtualOutbound-catchall-tcp",
                    FilterChainMatch::default(),
                    self.to_the_outside(),
                ),
            ],
            ..Default::default()
        }
    }

    fn to_the_outside(&self) -> weft_xds_proto::pb::envoy::config::listener::v3::Filter {
        let cluster = match self.policy {
            OutboundTrafficPolicy::AllowAny => PASSTHROUGH,
            OutboundTrafficPolicy::RegistryOnly => BLACK_HOLE,
        };
        tcp(cluster, cluster, self.access_log)
    }

    /// All HTTP to one port, whatever its address.
    fn http_port(&self, port: u16) -> Listener {
        let (address, additional_addresses) = self.families.wildcard(port);
        let name = format!("0.0.0.0_{port}");
        let table = port.to_string();
        let routes = if self.on_demand { Routes::OnDemand(table) } else { Routes::Named(table) };
        let manager = http(Side::Outbound, &format!("outbound_{name}"), routes, self.access_log);
        Listener {
            address,
            additional_addresses,
            filter_chains: vec![chain(
                &name,
                chain_match(None, "raw_buffer", &PLAIN_HTTP),
                manager,
            )],
            default_filter_chain: Some(chain(
                "PassthroughFilterChain",
                FilterChainMatch::default(),
                self.to_the_outside(),
            )),
            listener_filters: vec![http_inspector()],
            name,
            ..unbound()
        }
    }

    fn tcp_service(&self, service: &TcpService, address: IpAddr, port: u16) -> Listener {
        let name = format!("{address}_{port}");
        let stat = format!("outbound|{port}||{}", service.host);
        let proxy = if self.on_demand { tcp_on_demand } else { tcp };
        Listener {
            address: Some(envoy::address(address, port)),
            filter_chains: vec![chain(
                &name,
                FilterChainMatch::default(),
                proxy(&stat, &service.target.cluster, self.access_log),
            )],
            name,
            ..unbound()
        }
    }
}

/// A listener without a socket: connections are handed to it.
fn unbound() -> Listener {
    Listener {
        bind_to_port: Some(flag(false)),
        traffic_direction: TrafficDirection::Outbound.into(),
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Some(unlimited()),
        ..Default::default()
    }
}
