//! Real rules in real namespaces: needs root (or a root of its own user
//! namespace), iptables and iproute2.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, setfsuid};
use weft_netns::{Host, Network, ensure_privileged};

const INIT: &str = env!("CARGO_BIN_EXE_weft-init");
const DEADLINE: Duration = Duration::from_secs(5);
const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15006;
/// A destination that no one has.
const NOWHERE: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)),
);

fn network(prefix: &str) -> Network {
    ensure_privileged().unwrap();
    Network::create(prefix).unwrap()
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

fn init(host: &Host, arguments: &[&str]) -> String {
    let output = host.command(INIT).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn rules(host: &Host) -> String {
    ["iptables-save", "ip6tables-save"]
        .map(|program| text(&host.command(program).output().unwrap()))
        .concat()
        .lines()
        .filter(|line| line.starts_with("-A") || line.starts_with(":ISTIO"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn iptables(host: &Host, arguments: &str) {
    let output = host.command("iptables").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

fn all_addresses(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, _) = listener.accept().unwrap();
    let destination = match stream.local_addr().unwrap() {
        SocketAddr::V6(address) if address.ip().to_ipv4_mapped().is_none() => {
            let raw = getsockopt(&stream, sockopt::Ip6tOriginalDst).unwrap();
            let address = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            (address, u16::from_be(raw.sin6_port)).into()
        }
        _ => {
            let raw = getsockopt(&stream, sockopt::OriginalDst).unwrap();
            let address = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
            (address, u16::from_be(raw.sin_port)).into()
        }
    };
    (stream, destination)
}

#[test]
fn applying_twice_changes_nothing_and_cleanup_leaves_nothing() {
    let network = network("wrtwice");
    let host = network.host("pod").unwrap();
    iptables(&host, "-t nat -A PREROUTING -p tcp --dport 9 -j RETURN");
    let foreign = rules(&host);
    assert_eq!(init(&host, &[]), "interception rules for IPv4 and IPv6 installed\n");
    let installed = rules(&host);
    assert!(installed.contains("-A ISTIO_OUTPUT -j ISTIO_REDIRECT"), "{installed}");
    assert_eq!(init(&host, &[]), "interception rules for IPv4 and IPv6 already in place\n");
    assert_eq!(rules(&host), installed);
    assert_eq!(init(&host, &["--cleanup"]), "interception rules removed\n");
    assert_eq!(rules(&host), foreign);
    assert_eq!(init(&host, &["--cleanup"]), "no interception rules were there\n");
}

#[test]
fn other_rules_of_ours_are_replaced_whatever_they_were() {
    let network = network("wrchange");
    let host = network.host("pod").unwrap();
    let clean = rules(&host);
    let arguments: [&[&str]; 8] = [
        &["-c", "eth1,eth2", "-k", "tap0,tap1", "--drop-invalid"],
        &["--redirect-dns", "--capture-all-dns"],
        &["-m", "TPROXY", "--drop-invalid"],
        &["-m", "TPROXY", "-b", "80,81"],
        &["-b", "80,81", "-i", "10.0.0.0/8,fd00::/8", "-o", "25", "-q", "443"],
        &["--ipv6", "off", "-u", "7,8", "-g", "9", "-x", "10.1.0.0/16"],
        &["-b", "", "-i", ""],
        &[],
    ];
    for step in arguments {
        assert!(!init(&host, step).contains("already in place"), "{step:?}");
        assert!(init(&host, step).contains("already in place"), "{step:?}");
    }
    let replaced = rules(&host);
    init(&host, &["--cleanup"]);
    assert_eq!(rules(&host), clean);
    init(&host, &[]);
    assert_eq!(rules(&host), replaced);
}

#[test]
fn outbound_connections_land_on_the_outbound_port_with_their_destination() {
    let network = network("wrout");
    let host = network.host("pod").unwrap();
    init(&host, &[]);
    let listener = host.listen(all_addresses(OUTBOUND)).unwrap();
    for address in [NOWHERE.0, NOWHERE.1] {
        let wanted = SocketAddr::new(address, 80);
        let stream = host.connect(wanted, DEADLINE).unwrap();
        let (_, destination) = accept(&listener);
        assert_eq!(destination, wanted);
        drop(stream);
    }
}

#[test]
fn inbound_connections_land_on_the_inbound_port_unless_excluded() {
    let network = network("wrin");
    let pod = network.host("pod").unwrap();
    let outside = network.host("outside").unwrap();
    init(&pod, &[]);
    let listener = pod.listen(all_addresses(INBOUND)).unwrap();
    let status = pod.listen(all_addresses(15021)).unwrap();
    for address in [IpAddr::from(pod.ipv4()), pod.ipv6().unwrap().into()] {
        let wanted = SocketAddr::new(address, 8080);
        let stream = outside.connect(wanted, DEADLINE).unwrap();
        assert_eq!(accept(&listener).1, wanted);
        drop(stream);
        let mut stream = outside.connect((address, 15021).into(), DEADLINE).unwrap();
        let (mut accepted, _) = status.accept().unwrap();
        stream.write_all(b"x").unwrap();
        accepted.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn captured_name_queries_reach_the_proxy_and_their_answers_the_application() {
    let network = network("wrdns");
    let pod = network.host("pod").unwrap();
    init(&pod, &["--redirect-dns", "--capture-all-dns"]);
    let families: [(IpAddr, IpAddr, IpAddr); 2] = [
        (NOWHERE.0, Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
        (NOWHERE.1, Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
    ];
    for (server, any, loopback) in families {
        let bind = || {
            // The rules know the proxy's answers by the owner of its socket.
            setfsuid(Uid::from_raw(1337));
            UdpSocket::bind((loopback, 15053)).unwrap()
        };
        let proxy = pod.enter(bind).unwrap();
        let application = pod.enter(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
        for socket in [&proxy, &application] {
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        application.connect((server, 53)).unwrap();
        application.send(b"query").unwrap();
        let mut buffer = [0; 16];
        let (length, from) = proxy.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"query");
        proxy.send_to(b"answer", from).unwrap();
        // A connected socket takes answers from the server it asked, and only those.
        let length = application.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"answer");
    }
}

#[test]
fn the_proxy_and_localhost_are_left_alone() {
    let network = network("wrloop");
    let pod = network.host("pod").unwrap();
    let outside = network.host("outside").unwrap();
    init(&pod, &[]);
    let server = outside.listen((outside.ipv4(), 0).into()).unwrap();
    let port = server.local_addr().unwrap().port();
    let script = format!("exec 3<>/dev/tcp/{}/{port}", outside.ipv4());
    let output = pod.command_as(1337, 1337, "bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(server.accept().unwrap().1.ip(), IpAddr::from(pod.ipv4()));
    let local = pod.listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let stream = pod.connect(local.local_addr().unwrap(), DEADLINE).unwrap();
    assert_eq!(local.accept().unwrap().1, stream.local_addr().unwrap());
}

#[test]
fn a_failure_of_one_family_undoes_the_other() {
    let network = network("wrundo");
    let host = network.host("pod").unwrap();
    iptables(&host, "-t nat -A OUTPUT -p tcp --dport 9 -j RETURN");
    init(&host, &["-c", "eth1", "-b", "80"]);
    let before = rules(&host);
    let folder = std::env::temp_dir().join(host.namespace());
    fs::create_dir_all(&folder).unwrap();
    let refusing = folder.join("ip6tables-restore");
    fs::write(&refusing, "#!/bin/sh\necho 'line 2 failed' >&2\nexit 4\n").unwrap();
    fs::set_permissions(&refusing, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = host.command(INIT).env("PATH", path).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("`ip6tables-restore"), "{}", text(&output));
    assert!(text(&output).contains("the rule is `:ISTIO_INBOUND"), "{}", text(&output));
    assert_eq!(rules(&host), before);
}

#[test]
fn without_privilege_or_programs_the_error_names_the_cure() {
    let network = network("wrneeds");
    let host = network.host("pod").unwrap();
    let output = host.command_as(1337, 1337, INIT).output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("NET_ADMIN"), "{}", text(&output));
    let output = host.command("/usr/bin/env").args(["PATH=/nonexistent", INIT]).output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("Install the package iptables"), "{}", text(&output));
    assert_eq!(rules(&host), "");
}

#[test]
fn a_dry_run_prints_what_iptables_restore_accepts() {
    let network = network("wrdry");
    let host = network.host("pod").unwrap();
    let printed = init(&host, &["--dry-run"]);
    assert_eq!(rules(&host), "");
    let (ipv4, ipv6) = printed.split_once("# IPv6\n").unwrap();
    for (program, input) in [("iptables-restore", ipv4), ("ip6tables-restore", ipv6)] {
        let mut child = host
            .command(program)
            .arg("--noflush")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
    assert!(init(&host, &[]).contains("already in place"));
}
