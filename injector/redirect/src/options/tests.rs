use super::*;

fn parse(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Interception, OptionsError> {
    let options = Options::try_parse_from([&["weft-init"], arguments].concat()).unwrap();
    options.interception(&|name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(parse(&[], &[]).unwrap(), Interception::default());
}

#[test]
fn the_arguments_of_an_injected_pod_are_the_default() {
    let arguments = [
        "-p",
        "15001",
        "-z",
        "15006",
        "-u",
        "1337",
        "-m",
        "REDIRECT",
        "-i",
        "*",
        "-x",
        "",
        "-b",
        "*",
        "-d",
        "15090,15021,15020",
    ];
    assert_eq!(parse(&arguments, &[]).unwrap(), Interception::default());
}

#[test]
fn a_flag_wins_over_its_variable_and_an_empty_variable_is_absent() {
    let variables = [("ENVOY_PORT", "7001"), ("INBOUND_CAPTURE_PORT", "")];
    let read = parse(&["-p", "7002"], &variables).unwrap();
    assert_eq!((read.outbound_port, read.inbound_port), (7002, 15006));
    assert_eq!(parse(&[], &variables).unwrap().outbound_port, 7001);
}

#[test]
fn an_empty_list_switches_a_direction_off() {
    let read = parse(&["-b", "", "-i", ""], &[]).unwrap();
    assert_eq!(read.inbound, PortSelection::None);
    assert_eq!(read.outbound, RangeSelection::Only(Vec::new()));
}

#[test]
fn groups_follow_users_unless_given() {
    let read = parse(&["-u", "7,8"], &[]).unwrap();
    assert_eq!((read.proxy_uids, read.proxy_gids), (vec![7, 8], vec![7, 8]));
    let read = parse(&["-u", "7", "-g", "9"], &[]).unwrap();
    assert_eq!((read.proxy_uids, read.proxy_gids), (vec![7], vec![9]));
}

#[test]
fn ranges_are_cut_to_their_prefix_and_addresses_are_ranges() {
    let read = parse(&["-i", "10.1.2.3/8, 192.0.2.1,fd00::1/16"], &[]).unwrap();
    let ranges = ["10.0.0.0/8", "192.0.2.1/32", "fd00::/16"].map(|text| text.parse().unwrap());
    assert_eq!(read.outbound, RangeSelection::Only(ranges.to_vec()));
}

#[test]
fn owner_groups_come_from_the_environment() {
    let only = parse(&[], &[("ISTIO_OUTBOUND_OWNER_GROUPS", "202,203")]).unwrap();
    assert_eq!(only.groups, GroupSelection::Only(vec![202, 203]));
    let except = parse(&[], &[("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "0")]).unwrap();
    assert_eq!(except.groups, GroupSelection::Except(vec![0]));
    let both = [("ISTIO_OUTBOUND_OWNER_GROUPS", "1"), ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "2")];
    assert!(matches!(parse(&[], &both), Err(OptionsError::BothGroupLists)));
}

#[test]
fn a_refused_value_names_flag_variable_and_cure() {
    for (arguments, expected) in [
        (["-b", "80,x"], "--istio-inbound-ports (ISTIO_INBOUND_PORTS): `x` is not a port"),
        (["-p", "0"], "--envoy-port (ENVOY_PORT): `0` is not a port"),
        (["-i", "10.0.0.0/33"], "`10.0.0.0/33` is not a range"),
        (["-c", "a-name-that-is-too-long"], "1 to 15 characters"),
        (["-m", "BOTH"], "is no interception mode: use REDIRECT or TPROXY"),
        (["-t", "0"], "--inbound-tproxy-mark (INBOUND_TPROXY_MARK): `0` has to be more than zero"),
        (["-u", "envoy"], "is not a numeric id"),
    ] {
        let error = parse(&arguments, &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn transparent_interception_has_a_mark_and_a_table() {
    let usual = parse(&["-m", "TPROXY"], &[]).unwrap();
    assert_eq!(usual.mode, Mode::Transparent(PolicyRoutes { mark: 1337, table: 133 }));
    let given = [("ISTIO_INBOUND_INTERCEPTION_MODE", "TPROXY"), ("INBOUND_TPROXY_MARK", "7")];
    let given = parse(&["-r", "8"], &given).unwrap();
    assert_eq!(given.mode, Mode::Transparent(PolicyRoutes { mark: 7, table: 8 }));
    assert_eq!(parse(&["-m", "REDIRECT"], &[]).unwrap().mode, Mode::Redirect);
}

#[test]
fn ipv6_is_automatic_unless_said_otherwise() {
    let ipv6 = |arguments: &[&str]| {
        let options = Options::try_parse_from([&["weft-init"], arguments].concat()).unwrap();
        options.ipv6(&|_| None)
    };
    assert_eq!(ipv6(&[]).unwrap(), Ipv6::Auto);
    assert_eq!(ipv6(&["--dual-stack"]).unwrap(), Ipv6::On);
    assert_eq!(ipv6(&["--ipv6", "off"]).unwrap(), Ipv6::Off);
    assert!(ipv6(&["--ipv6", "maybe"]).is_err());
}
