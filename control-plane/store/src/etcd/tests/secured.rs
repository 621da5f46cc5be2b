use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;

#[derive(Clone, PartialEq, Message)]
struct Two {
    #[prost(string, tag = "1")]
    first: String,
    #[prost(string, tag = "2")]
    second: String,
}

async fn administer(store: &EtcdStore, path: &'static str, first: &str, second: &str) {
    let request = Two { first: first.to_owned(), second: second.to_owned() };
    let answer = store.etcd.cluster.call(path, &request, Repeat::Freely).await;
    let _: RangeResponse = answer.expect(path);
}

/// Files of an authority, a server's and a client's certificate.
fn certificates(folder: &std::path::Path) {
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).expect("a root").pem();
    let issuer = Issuer::new(authority, key);
    std::fs::write(folder.join("ca.pem"), root).expect("written");
    for name in ["server", "client"] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "etcd.test".to_owned()]);
        let certificate = params.expect("names").signed_by(&key, &issuer).expect("signed");
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("written");
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("written");
    }
}

#[tokio::test]
async fn tls_is_mutual_and_the_server_s_name_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name);
    let text = |name: &str| file(name).to_str().expect("UTF-8").to_owned();
    let server = Server::with(&[
        "--cert-file".to_owned(),
        text("server.pem"),
        "--key-file".to_owned(),
        text("server.key"),
        "--client-cert-auth".to_owned(),
        "--trusted-ca-file".to_owned(),
        text("ca.pem"),
    ])
    .await;
    let tls = EtcdTls {
        ca: Some(file("ca.pem")),
        identity: Some((file("client.pem"), file("client.key"))),
        verify: true,
        sni: None,
    };
    let open =
        async |tls: EtcdTls| EtcdStore::open(&EtcdConfig { tls, ..config(&[&server.url]) }).await;
    for sni in [None, Some("etcd.test".to_owned())] {
        let store = open(EtcdTls { sni, ..tls.clone() }).await.expect("a store");
        store.put(route(1)).await.expect("written");
    }
    for wrong in [
        EtcdTls { sni: Some("other.test".to_owned()), ..tls.clone() },
        EtcdTls { identity: None, ..tls.clone() },
        EtcdTls { ca: Some(file("missing.pem")), ..tls.clone() },
    ] {
        assert!(open(wrong.clone()).await.is_err(), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_user_is_let_in_and_again_after_its_token_ended() {
    let mut server = Server::start().await;
    let open = store(&[&server.url]).await;
    administer(&open, "/etcdserverpb.Auth/UserAdd", "root", "secret").await;
    administer(&open, "/etcdserverpb.Auth/UserGrantRole", "root", "root").await;
    administer(&open, "/etcdserverpb.Auth/AuthEnable", "", "").await;
    let user = |password: &str| {
        let user = EtcdUser { name: "root".to_owned(), password: password.to_owned() };
        EtcdConfig { user: Some(user), ..config(&[&server.url]) }
    };
    let wrong = EtcdStore::open(&user("guess")).await.err().expect("refused");
    assert!(wrong.to_string().contains("as root"), "{wrong}");
    assert!(open.put(route(1)).await.is_err());
    let store = EtcdStore::open(&user("secret")).await.expect("a store");
    let mut watch = store.watch("/", store.history_start()).expect("watched");
    store.put(route(1)).await.expect("written");
    assert_eq!(next(&mut watch).await.key, "/apisix/routes/1");
    // A restart forgets every token.
    server.kill().await;
    server.restart().await;
    store.put(route(2)).await.expect("written");
    assert_eq!(next(&mut watch).await.key, "/apisix/routes/2");
}
