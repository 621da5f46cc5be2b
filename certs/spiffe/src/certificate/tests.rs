use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SanType,
    SerialNumber,
};

fn certificate(names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "A, B");
    params.distinguished_name.push(DnType::CommonName, "web");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn every_kind_of_name_is_read_in_order() {
    let der = certificate(
        vec![
            uri("spiffe://td/ns/a/sa/b"),
            SanType::DnsName("web.example".try_into().unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::IpAddress("::1".parse().unwrap()),
            SanType::Rfc822Name("me@example".try_into().unwrap()),
        ],
        |params| params.serial_number = Some(SerialNumber::from(vec![1, 2, 0xab])),
    );
    let details = CertificateDetails::from_der(&der).unwrap();
    let names: Vec<String> = details.names.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "URI:spiffe://td/ns/a/sa/b",
            "DNS:web.example",
            "IP:10.0.0.1",
            "IP:::1",
            "EMAIL:me@example"
        ]
    );
    assert_eq!(details.serial, "0102ab");
    assert_eq!(details.subject, "CN=web,O=A\\, B");
    assert_eq!(details.common_names, ["web"]);
    assert_eq!(details.dns_names().collect::<Vec<_>>(), ["web.example"]);
    assert!(details.not_before < details.not_after);
    assert_eq!(svid_id(&der).unwrap().as_str(), "spiffe://td/ns/a/sa/b");
}

#[test]
fn certificate_with_no_or_two_uri_names_is_no_svid() {
    let none = certificate(vec![], |_| {});
    assert_eq!(svid_id(&none), Err(SvidError::UriCount { count: 0 }));
    let two = certificate(vec![uri("spiffe://td/a"), uri("spiffe://td/b")], |_| {});
    assert_eq!(svid_id(&two), Err(SvidError::UriCount { count: 2 }));
}

#[test]
fn uri_that_is_not_a_spiffe_id_is_no_svid() {
    let der = certificate(vec![uri("https://td/a")], |_| {});
    assert!(matches!(svid_id(&der), Err(SvidError::Id(_))));
}

#[test]
fn authority_is_no_svid() {
    let der = certificate(vec![uri("spiffe://td/a")], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    assert_eq!(svid_id(&der), Err(SvidError::IsAuthority));
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    assert!(CertificateDetails::from_der(b"nonsense").is_err());
    let mut der = certificate(vec![], |_| {});
    der.push(0);
    let error = CertificateDetails::from_der(&der).unwrap_err();
    assert!(error.to_string().contains("1 bytes follow"), "{error}");
}
