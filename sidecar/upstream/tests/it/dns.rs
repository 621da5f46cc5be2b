//! DNS clusters against a name server in the test.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use weft_model::{
    ClusterHandle, Discovery, DnsFamily, DnsHost, DnsSettings, EndpointAddress, NameFailure,
    NameSettings, Snapshot, SnapshotPublisher,
};
use weft_upstream::{NameServers, spawn_resolver_with};

use crate::support::{cluster, endpoint_set, local, until};

/// Addresses by name; a name that is not there can't be resolved, and leaves `refused` behind.
type Zone = Arc<Mutex<HashMap<String, Vec<Ipv4Addr>>>>;

async fn name_server(zone: Zone, ttl: u32) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let answer = answer(&buffer[..length], &zone, ttl);
            socket.send_to(&answer, client).await.unwrap();
        }
    });
    address
}

/// A DNS message with the question of the query and what the zone says (RFC 1035).
fn answer(query: &[u8], zone: &Zone, ttl: u32) -> Vec<u8> {
    let mut at = 12;
    let mut labels = Vec::new();
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..=at + length].to_vec()).unwrap());
        at += length + 1;
    }
    let kind = query[at + 2];
    let question = &query[12..at + 5];
    let mut zone = zone.lock().unwrap();
    let known = zone.get(&labels.join(".").to_lowercase()).cloned();
    let code = if known.is_some() { 0 } else { 2 };
    if known.is_none() {
        zone.insert("refused".to_owned(), Vec::new());
    }
    let addresses = known.filter(|_| kind == 1).unwrap_or_default();
    let count = u8::try_from(addresses.len()).unwrap();
    let mut message = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    message.extend_from_slice(question);
    for address in addresses {
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        message.extend_from_slice(&ttl.to_be_bytes());
        message.extend_from_slice(&[0, 4]);
        message.extend_from_slice(&address.octets());
    }
    message
}

fn settings(names: &[&str]) -> DnsSettings {
    let like =
        Arc::clone(&endpoint_set(&["0.0.0.0:0".parse().unwrap()]).priorities[0].endpoints[0]);
    let host = |name: &&str| DnsHost {
        name: (*name).to_owned(),
        port: 80,
        like: Arc::clone(&like),
        priority: 0,
    };
    DnsSettings {
        hosts: names.iter().map(host).collect(),
        refresh: Duration::from_millis(5),
        respect_ttl: false,
        family: DnsFamily::V4Only,
    }
}

fn publish(handle: &Arc<ClusterHandle>) -> SnapshotPublisher {
    let publisher = SnapshotPublisher::new();
    let mut snapshot = Snapshot::default();
    snapshot.clusters.insert_mut(Arc::clone(handle.name()), Arc::clone(handle));
    publisher.publish(snapshot);
    publisher
}

fn addresses(handle: &ClusterHandle) -> Vec<String> {
    let address = |address: &EndpointAddress| match address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Pipe(_) => String::new(),
    };
    handle.endpoints().iter().map(|endpoint| address(&endpoint.address)).collect()
}

#[test]
fn every_address_of_every_name_is_an_endpoint_and_changes_are_followed() {
    local(async {
        let zone = Zone::default();
        let ip = |last| Ipv4Addr::new(10, 0, 0, last);
        zone.lock().unwrap().insert("a.test".into(), vec![ip(2), ip(1)]);
        zone.lock().unwrap().insert("b.test".into(), vec![ip(2), ip(3)]);
        let server = name_server(Arc::clone(&zone), 60).await;
        let handle = cluster(&[], |cluster| {
            cluster.discovery = Discovery::StrictDns(settings(&["a.test.", "b.test.", "10.9.9.9"]));
        });
        let publisher = publish(&handle);
        let _resolver = spawn_resolver_with(publisher.watch(), NameServers::Fixed(vec![server]));
        let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.9.9.9:80"];
        until(|| addresses(&handle) == all).await;
        assert_eq!(handle.stats().membership_total.value(), 4);
        let kept = Arc::clone(handle.endpoints().iter().next().unwrap());
        zone.lock().unwrap().insert("b.test".into(), vec![ip(4)]);
        until(|| {
            addresses(&handle) == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.4:80", "10.9.9.9:80"]
        })
        .await;
        assert!(Arc::ptr_eq(&kept, handle.endpoints().iter().next().unwrap()));
    });
}

#[test]
fn the_last_good_addresses_stay_when_the_name_server_fails() {
    local(async {
        let zone = Zone::default();
        zone.lock().unwrap().insert("a.test".into(), vec![Ipv4Addr::new(10, 0, 0, 1)]);
        let server = name_server(Arc::clone(&zone), 60).await;
        let handle = cluster(&[], |cluster| {
            cluster.discovery = Discovery::StrictDns(settings(&["a.test."]));
        });
        let publisher = publish(&handle);
        let _resolver = spawn_resolver_with(publisher.watch(), NameServers::Fixed(vec![server]));
        until(|| addresses(&handle) == ["10.0.0.1:80"]).await;
        zone.lock().unwrap().clear();
        let refused = || zone.lock().unwrap().contains_key("refused");
        until(refused).await;
        zone.lock().unwrap().clear();
        until(refused).await;
        assert_eq!(addresses(&handle), ["10.0.0.1:80"]);
        zone.lock().unwrap().insert("a.test".into(), vec![Ipv4Addr::new(10, 0, 0, 9)]);
        until(|| addresses(&handle) == ["10.0.0.9:80"]).await;
    });
}

#[test]
fn a_logical_cluster_stays_with_an_address_as_long_as_it_is_an_answer() {
    local(async {
        let zone = Zone::default();
        let ip = |last| Ipv4Addr::new(10, 0, 0, last);
        zone.lock().unwrap().insert("a.test".into(), vec![ip(5), ip(6)]);
        let server = name_server(Arc::clone(&zone), 60).await;
        let handle = cluster(&[], |cluster| {
            cluster.discovery = Discovery::LogicalDns(settings(&["a.test."]));
        });
        let publisher = publish(&handle);
        let _resolver = spawn_resolver_with(publisher.watch(), NameServers::Fixed(vec![server]));
        until(|| addresses(&handle) == ["10.0.0.5:80"]).await;
        zone.lock().unwrap().insert("a.test".into(), vec![ip(1), ip(5)]);
        let seen = handle.stats().update_success.value();
        until(|| handle.stats().update_success.value() > seen + 1).await;
        assert_eq!(addresses(&handle), ["10.0.0.5:80"]);
        zone.lock().unwrap().insert("a.test".into(), vec![ip(7)]);
        until(|| addresses(&handle) == ["10.0.0.7:80"]).await;
    });
}

#[test]
fn a_cluster_that_is_removed_is_not_resolved_any_more() {
    local(async {
        let zone = Zone::default();
        zone.lock().unwrap().insert("a.test".into(), vec![Ipv4Addr::new(10, 0, 0, 1)]);
        let server = name_server(Arc::clone(&zone), 60).await;
        let handle = cluster(&[], |cluster| {
            cluster.discovery = Discovery::StrictDns(settings(&["a.test."]));
        });
        let publisher = publish(&handle);
        let _resolver = spawn_resolver_with(publisher.watch(), NameServers::Fixed(vec![server]));
        until(|| addresses(&handle) == ["10.0.0.1:80"]).await;
        publisher.publish(Snapshot::default());
        // The jobs hold the handle; this one is the last.
        until(|| Arc::strong_count(&handle) == 1).await;
    });
}

#[test]
fn addresses_survive_a_change_of_settings_while_the_name_server_fails() {
    local(async {
        let zone = Zone::default();
        zone.lock().unwrap().insert("a.test".into(), vec![Ipv4Addr::new(10, 0, 0, 1)]);
        let server = name_server(Arc::clone(&zone), 60).await;
        let discovery = |refresh| {
            let refresh = Duration::from_millis(refresh);
            Discovery::StrictDns(DnsSettings { refresh, ..settings(&["a.test."]) })
        };
        let handle = cluster(&[], |cluster| cluster.discovery = discovery(5));
        let publisher = publish(&handle);
        let _resolver = spawn_resolver_with(publisher.watch(), NameServers::Fixed(vec![server]));
        until(|| addresses(&handle) == ["10.0.0.1:80"]).await;
        zone.lock().unwrap().clear();
        let changed = cluster(&[], |cluster| cluster.discovery = discovery(6));
        handle.set_config(Arc::clone(&changed.config()));
        let mut snapshot = Snapshot::default();
        snapshot.clusters.insert_mut(Arc::clone(handle.name()), Arc::clone(&handle));
        publisher.publish(snapshot);
        for _ in 0..2 {
            zone.lock().unwrap().clear();
            until(|| zone.lock().unwrap().contains_key("refused")).await;
        }
        assert_eq!(addresses(&handle), ["10.0.0.1:80"]);
    });
}

#[test]
fn names_that_requests_bring_are_resolved_when_they_come() {
    local(async {
        let zone = Zone::default();
        zone.lock().unwrap().insert("a.test".into(), vec![Ipv4Addr::new(10, 0, 0, 1)]);
        let server = name_server(Arc::clone(&zone), 60).await;
        let settings = NameSettings {
            family: DnsFamily::V4Only,
            refresh: Duration::from_secs(60),
            least_refresh: Duration::from_secs(5),
            unused: Duration::from_secs(300),
            most: 10,
            timeout: Duration::from_secs(20),
        };
        let handle = cluster(&[], |cluster| cluster.discovery = Discovery::Named(settings.clone()));
        let publisher = publish(&handle);
        let _resolver = spawn_resolver_with(publisher.watch(), NameServers::Fixed(vec![server]));
        let found = handle.names().address("a.test.", &settings).await;
        assert_eq!(found, Ok(Ipv4Addr::new(10, 0, 0, 1).into()));
        let none = handle.names().address("b.test.", &settings).await;
        assert_eq!(none, Err(NameFailure::Unresolved));
    });
}
