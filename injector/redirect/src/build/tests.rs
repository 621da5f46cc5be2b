use std::fs;
use std::path::Path;

use clap::Parser;

use super::*;
use crate::options::Options;

/// Compares with a golden file; `UPDATE_GOLDEN=1` rewrites it.
fn golden(name: &str, interception: &Interception) {
    let text: String = [Family::V4, Family::V6]
        .map(|family| {
            let rules = RuleSet::for_family(interception, family);
            format!("# {family}\n{}", rules.restore_input())
        })
        .concat();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("goldens/{name}.rules"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} (UPDATE_GOLDEN=1 rewrites it)", path.display());
}

fn flags(arguments: &str) -> Interception {
    let arguments =
        ["weft-init"].into_iter().chain(arguments.split(' ').filter(|part| !part.is_empty()));
    let arguments = arguments.map(|part| part.trim_matches('\''));
    let options = Options::try_parse_from(arguments).unwrap();
    options.interception(&|_| None).unwrap()
}

#[test]
fn rules_of_each_configuration_are_the_golden_ones() {
    for (name, arguments) in [
        ("default", ""),
        ("other-ports", "-p 16001 -z 16006 -e 16008"),
        ("other-proxy", "-u 4,5 -g 6"),
        ("no-inbound", "-b ''"),
        ("inbound-list", "-b 4000,5000"),
        ("inbound-excluded", "-b * -d 22,443"),
        ("no-inbound-exclusions", "-d ''"),
        ("no-outbound", "-i ''"),
        ("outbound-ranges", "-i 10.0.0.0/8,fd00::/8,192.168.1.1"),
        ("outbound-ipv4-only", "-i 10.0.0.0/8"),
        ("outbound-loopback-range", "-i 127.1.2.3/32"),
        ("outbound-ranges-excluded", "-x 169.254.0.0/16,fe80::/10"),
        ("outbound-ports", "-i '' -q 80,443"),
        ("outbound-ports-excluded", "-o 3306,6379"),
        ("interfaces-excluded", "-c eth1,net+"),
        ("virtual-interfaces", "-k tap0,tap1"),
        ("virtual-interfaces-ranges", "-k tap0 -i 10.0.0.0/8,fd00::/8 -c eth1"),
        ("dns-all", "--redirect-dns --capture-all-dns"),
        ("invalid-dropped", "--drop-invalid"),
        ("transparent", "-m TPROXY"),
        ("transparent-list", "-m TPROXY -b 4000,5000 -t 7 -r 8"),
        ("transparent-no-inbound", "-m TPROXY -b ''"),
        (
            "everything",
            "-u 1337,1338 -b 80 -i 10.0.0.0/8 -x 10.96.0.0/12 -q 443 -o 25 -c eth1 -k tap0 --drop-invalid",
        ),
    ] {
        golden(name, &flags(arguments));
    }
}

#[test]
fn rules_for_what_only_the_environment_says_are_the_golden_ones() {
    let with = |change: fn(&mut Interception)| {
        let mut interception = Interception::default();
        change(&mut interception);
        interception
    };
    golden("groups-only", &with(|it| it.groups = GroupSelection::Only(vec![7, 8])));
    golden("groups-except", &with(|it| it.groups = GroupSelection::Except(vec![0, 9])));
    golden("loopback-range", &with(|it| it.loopback_v4 = "127.0.0.0/8".parse().unwrap()));
    golden(
        "dns-servers",
        &with(|it| {
            let servers = ["10.96.0.10", "10.96.0.11", "fd00::a"];
            it.dns = DnsCapture::Servers(servers.map(|text| text.parse().unwrap()).to_vec());
        }),
    );
}

#[test]
fn dns_of_a_family_without_name_server_is_left_alone() {
    let servers = vec!["10.96.0.10".parse().unwrap()];
    let interception =
        Interception { dns: DnsCapture::Servers(servers), ..Interception::default() };
    let chains = |family| RuleSet::for_family(&interception, family).chains(Table::Nat);
    assert!(chains(Family::V4).contains(&ISTIO_OUTPUT_DNS));
    assert!(!chains(Family::V6).contains(&ISTIO_OUTPUT_DNS));
}
