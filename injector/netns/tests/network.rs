//! Real namespaces: needs root (or a root of its own user namespace) and iproute2.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use weft_netns::{Host, Network, ensure_privileged};

const DEADLINE: Duration = Duration::from_secs(5);

fn network(prefix: &str) -> Network {
    ensure_privileged().unwrap();
    Network::create(prefix).unwrap()
}

fn send(from: &Host, to: &Host, address: IpAddr, text: &str) -> (SocketAddr, String) {
    let listener = to.listen(SocketAddr::new(address, 0)).unwrap();
    let mut stream = from.connect(listener.local_addr().unwrap(), DEADLINE).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    drop(stream);
    let (mut accepted, peer) = listener.accept().unwrap();
    let mut received = String::new();
    accepted.read_to_string(&mut received).unwrap();
    (peer, received)
}

#[test]
fn hosts_reach_each_other_over_both_families() {
    let network = network("wtreach");
    let one = network.host("one").unwrap();
    let two = network.host("two").unwrap();
    let (peer, text) = send(&one, &two, two.ipv4().into(), "four");
    assert_eq!((peer.ip(), text.as_str()), (one.ipv4().into(), "four"));
    if let (Some(from), Some(to)) = (one.ipv6(), two.ipv6()) {
        let (peer, text) = send(&one, &two, to.into(), "six");
        assert_eq!((peer.ip(), text.as_str()), (from.into(), "six"));
    }
    network.close().unwrap();
}

#[test]
fn the_machine_reaches_a_host_through_the_uplink() {
    let network = network("wtuplink");
    let host = network.host("one").unwrap();
    let uplink = network.uplink().unwrap();
    let listener = host.listen((host.ipv4(), 0).into()).unwrap();
    let stream =
        std::net::TcpStream::connect_timeout(&listener.local_addr().unwrap(), DEADLINE).unwrap();
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer, stream.local_addr().unwrap());
    assert_eq!(peer.ip(), uplink.ipv4());
    network.close().unwrap();
}

#[test]
fn capture_sees_what_crosses_the_bridge_once() {
    let network = network("wtcapture");
    let one = network.host("one").unwrap();
    let two = network.host("two").unwrap();
    let capture = network.capture().unwrap();
    send(&one, &two, two.ipv4().into(), "a plain secret");
    let trace = capture.stop().unwrap().between(one.ipv4().into(), two.ipv4().into());
    assert!(trace.contains(b"plain secret"));
    assert_eq!(trace.bytes(), "a plain secret".len());
    assert_eq!(trace.tls_records(), 0);
}

#[test]
fn commands_inside_see_their_own_hosts_file_and_user() {
    let network = network("wtcommand");
    let host = network.host("one").unwrap();
    host.write_hosts([("10.1.2.3".parse().unwrap(), "greeter")]).unwrap();
    let output = host
        .command_as(1337, 1337, "sh")
        .args(["-c", "cat /etc/hosts; id -u; ip -o addr show eth0"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("10.1.2.3 greeter\n"), "{text}");
    assert!(text.contains("\n1337\n"), "{text}");
    assert!(text.contains(&host.ipv4().to_string()), "{text}");
}

#[test]
fn dropping_a_network_ends_its_processes_and_leaves_nothing() {
    let network = network("wtdrop");
    let host = network.host("one").unwrap();
    host.write_hosts([]).unwrap();
    let mut child = host.command("sleep").arg("600").spawn().unwrap();
    // The command is inside once its network namespace is the host's.
    let inside = host.enter(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    let link = format!("/proc/{}/ns/net", child.id());
    while std::fs::read_link(&link).unwrap() != inside {
        std::thread::yield_now();
    }
    let namespace = host.namespace().to_owned();
    drop(network);
    assert!(!child.wait().unwrap().success());
    assert!(!Path::new("/run/netns").join(&namespace).exists());
    assert!(!Path::new("/etc/netns").join(&namespace).exists());
}

#[test]
fn namespaces_of_a_dead_run_are_removed() {
    ensure_privileged().unwrap();
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let namespace = format!("wtdead-{}.0-one", ended.id());
    let added =
        std::process::Command::new("ip").args(["netns", "add", &namespace]).status().unwrap();
    assert!(added.success());
    let network = network("wtdead");
    assert!(!Path::new("/run/netns").join(&namespace).exists());
    network.close().unwrap();
}

#[test]
fn hosts_of_two_nodes_reach_each_other_and_leave_nothing_behind() {
    let network = network("wtnodes");
    let [one, two] = ["node-a", "node-b"].map(|name| network.node(name).unwrap());
    let server = network.host_on(&one, "server").unwrap();
    let listener = server.listen((server.ipv4(), 0).into()).unwrap();
    let ports = |node: &weft_netns::Node| {
        let mut command = node.bridge().command("ip");
        let output = command.args(["-o", "link", "show", "master", "bridge"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    for name in ["first", "second"] {
        let client = network.host_on(&two, name).unwrap();
        client.connect(listener.local_addr().unwrap(), DEADLINE).unwrap();
        assert_eq!((ports(&one), ports(&two)), (2, 2));
        let namespace = client.namespace().to_owned();
        network.remove(&client).unwrap();
        assert!(!Path::new("/run/netns").join(&namespace).exists());
        // The kernel takes the interface away in its own time.
        while ports(&two) > 1 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn unfit_and_taken_names_are_refused() {
    let network = network("wtnames");
    network.host("one").unwrap();
    for (name, reason) in [("one", "already has"), ("One", "can't name"), ("", "can't name")] {
        let error = network.host(name).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
