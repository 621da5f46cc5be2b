//! A real client and a real server in front of this one. The server in front of which it stands is
//! another of the same kind, with names of its own.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolverConfig, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use weft_model::{NameTable, NamedHost, Slot};

use super::*;
use crate::resolv_conf::ResolvConf;

struct Running {
    address: SocketAddr,
    names: Slot<NameTable>,
    tasks: JoinSet<()>,
}

fn names(hosts: &[(&str, &[&str])]) -> Arc<NameTable> {
    let host = |addresses: &[&str]| NamedHost {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ports: vec![("http".to_owned(), 80)],
    };
    Arc::new(NameTable::new(hosts.iter().map(|(name, all)| ((*name).to_owned(), host(all)))))
}

fn serve(table: Arc<NameTable>, servers: &[SocketAddr]) -> Running {
    let search = vec!["demo.svc.cluster.local".to_owned()];
    let conf = ResolvConf { servers: servers.to_vec(), search };
    let names = Slot::filled(table);
    let mut tasks = JoinSet::new();
    let server = DnsServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.local_addr().unwrap();
    server.serve(&Arc::new(Resolver::new(names.clone(), conf)), &mut tasks);
    Running { address, names, tasks }
}

/// A client that remembers nothing.
fn client(server: SocketAddr, connection: ConnectionConfig) -> TokioResolver {
    let connection = {
        let mut connection = connection;
        connection.port = server.port();
        connection
    };
    let servers = vec![NameServerConfig::new(server.ip(), true, vec![connection])];
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = 0;
    options.attempts = 0;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    builder.build().unwrap()
}

async fn addresses(client: &TokioResolver, name: &str) -> Option<Vec<IpAddr>> {
    let found = client.lookup_ip(name).await.ok()?;
    let mut all: Vec<_> = found.iter().collect();
    all.sort();
    Some(all)
}

#[tokio::test]
async fn a_client_is_told_names_of_the_mesh_and_of_others() {
    let outside = serve(names(&[("outside.test", &["192.0.2.1", "2001:db8::1"])]), &[]);
    let mesh = serve(names(&[("web", &["240.240.0.7"])]), &[outside.address]);
    for connection in [ConnectionConfig::udp(), ConnectionConfig::tcp()] {
        let client = client(mesh.address, connection);
        let found = addresses(&client, "web.").await;
        assert_eq!(found, Some(vec!["240.240.0.7".parse().unwrap()]));
        let found = addresses(&client, "web.demo.svc.cluster.local.").await;
        assert_eq!(found, Some(vec!["240.240.0.7".parse().unwrap()]));
        let found = client.lookup("outside.test.", RecordType::AAAA).await.unwrap();
        assert_eq!(found.answers().len(), 1);
        let found = client.lookup("_http._tcp.web.", RecordType::SRV).await.unwrap();
        assert!(found.answers()[0].data.to_string().starts_with("0 1 80 web."));
        assert!(addresses(&client, "nowhere.test.").await.is_none());
    }
    mesh.names.set(names(&[("web", &["240.240.0.8"])]));
    let client = client(mesh.address, ConnectionConfig::udp());
    let found = addresses(&client, "web.").await;
    assert_eq!(found, Some(vec!["240.240.0.8".parse().unwrap()]));
}

#[tokio::test]
async fn what_is_known_outlives_the_server_that_told_it() {
    let mut outside = serve(names(&[("outside.test", &["192.0.2.1"])]), &[]);
    let mesh = serve(names(&[]), &[outside.address]);
    let client = client(mesh.address, ConnectionConfig::udp());
    let expected = Some(vec!["192.0.2.1".parse().unwrap()]);
    assert_eq!(addresses(&client, "outside.test.").await, expected);
    // As long as it holds, nobody is asked.
    outside.names.set(names(&[("outside.test", &["192.0.2.2"])]));
    assert_eq!(addresses(&client, "outside.test.").await, expected);
    pass(Duration::from_secs(31)).await;
    let newer = Some(vec!["192.0.2.2".parse().unwrap()]);
    assert_eq!(addresses(&client, "outside.test.").await, newer);
    outside.tasks.shutdown().await;
    pass(Duration::from_secs(3600)).await;
    assert_eq!(addresses(&client, "outside.test.").await, newer);
    assert_eq!(addresses(&client, "never-asked.test.").await, None);
}

/// Time passes at once.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_answer_too_large_for_a_datagram_comes_over_a_connection() {
    let many: Vec<String> = (0..200).map(|last| format!("192.0.2.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let outside = serve(names(&[("many.test", &many)]), &[]);
    let mesh = serve(names(&[]), &[outside.address]);
    let mut both = ConnectionConfig::tcp();
    both.port = mesh.address.port();
    let found = addresses(&client(mesh.address, both), "many.test.").await;
    assert_eq!(found.unwrap().len(), 200);
}

#[tokio::test]
async fn nonsense_is_refused_and_answers_are_not_answered() {
    let mesh = serve(names(&[]), &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(mesh.address).await.unwrap();
    socket.send(&[1]).await.unwrap();
    socket.send(&[0, 9, 0x80, 0, 0, 1]).await.unwrap();
    socket.send(&[0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff]).await.unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).await.unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::FormErr));
}
