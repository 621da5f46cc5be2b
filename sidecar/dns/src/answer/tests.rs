use hickory_proto::op::{MessageType, OpCode};

use super::*;

fn table() -> NameTable {
    let host = |addresses: &[&str], ports: &[(&str, u16)]| NamedHost {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ports: ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect(),
    };
    let many: Vec<String> = (0..100).map(|last| format!("10.1.0.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    NameTable::new([
        ("web".to_owned(), host(&["240.240.0.7"], &[("http", 80), ("http", 8080)])),
        ("six.demo.svc.cluster.local".to_owned(), host(&["10.0.0.1", "fd00::1"], &[])),
        ("*.wild.test".to_owned(), host(&["240.240.0.9"], &[])),
        ("many".to_owned(), host(&many, &[])),
    ])
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query
}

fn ask(name: &str, kind: RecordType) -> Option<Vec<String>> {
    let search = ["demo.svc.cluster.local".to_owned(), "svc.cluster.local".to_owned()];
    let answer = from_table(&table(), &search, &query(name, kind))?;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.metadata.recursion_available && answer.metadata.id == 7);
    Some(answer.answers.iter().map(|record| format!("{} {}", record.name, record.data)).collect())
}

#[test]
fn names_of_the_table_have_addresses_and_others_no_answer() {
    assert_eq!(ask("WEB.", RecordType::A).unwrap(), ["WEB. 240.240.0.7"]);
    assert_eq!(ask("a.b.wild.test.", RecordType::A).unwrap(), ["a.b.wild.test. 240.240.0.9"]);
    assert_eq!(ask("example.com.", RecordType::A), None);
    assert_eq!(ask("web.example.com.", RecordType::A), None);
}

#[test]
fn a_family_without_addresses_is_an_empty_answer_and_no_error() {
    assert_eq!(ask("web.", RecordType::AAAA).unwrap(), Vec::<String>::new());
    let six = "six.demo.svc.cluster.local.";
    assert_eq!(ask(six, RecordType::AAAA).unwrap(), [format!("{six} fd00::1")]);
    assert_eq!(ask(six, RecordType::ANY).unwrap().len(), 2);
    assert_eq!(ask(six, RecordType::MX).unwrap(), Vec::<String>::new());
}

#[test]
fn a_name_with_a_search_domain_behind_it_is_an_alias() {
    let asked = "web.demo.svc.cluster.local.";
    let expected = [format!("{asked} web."), "web. 240.240.0.7".to_owned()];
    assert_eq!(ask(asked, RecordType::A).unwrap(), expected);
    assert_eq!(ask("other.demo.svc.cluster.local.", RecordType::A), None);
}

#[test]
fn services_are_found_by_what_is_spoken() {
    let found = ask("_http._tcp.web.", RecordType::SRV).unwrap();
    assert_eq!(found, ["_http._tcp.web. 0 1 80 web.", "_http._tcp.web. 0 1 8080 web."]);
    assert_eq!(ask("_grpc._tcp.web.", RecordType::SRV).unwrap(), Vec::<String>::new());
    assert_eq!(ask("_http._udp.web.", RecordType::SRV), None);
    let found = ask("_http._tcp.web.svc.cluster.local.", RecordType::SRV).unwrap();
    assert!(found[0].ends_with("0 1 80 web."), "{found:?}");
}

#[test]
fn what_is_too_large_for_udp_is_cut_and_told() {
    let mut query = query("many.", RecordType::A);
    let answer = from_table(&table(), &[], &query).unwrap();
    assert_eq!(answer.answers.len(), 100);
    let read = |query: &Message| Message::from_vec(&fitting(query, &answer).unwrap()).unwrap();
    let cut = read(&query);
    assert!(cut.metadata.truncation && cut.answers.is_empty(), "{cut}");
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    query.set_edns(edns);
    let whole = read(&query);
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 100));
}
