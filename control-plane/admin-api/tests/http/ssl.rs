use serde_json::{Value, json};

use crate::client::Server;

fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["a.com".to_owned()]).expect("names");
    let cert = params.self_signed(&key).expect("a certificate");
    (cert.pem(), key.serialize_pem())
}

fn ssl() -> Value {
    let (cert, key) = pair();
    json!({"cert": cert, "key": key, "sni": "a.com"})
}

fn with(mut ssl: Value, field: &str, value: Value) -> Value {
    ssl[field] = value;
    ssl
}

#[tokio::test]
async fn private_keys_are_stored_and_never_shown() {
    let server = Server::start().await;
    let (cert, key) = pair();
    let ssl = with(with(ssl(), "certs", json!([cert])), "keys", json!([key]));
    let put = server.put("/ssls/1", &ssl).await.expect(201);
    let one = server.get("/ssls/1").await.expect(200);
    let list = server.get("/ssls").await.expect(200);
    for answer in [put, one, list] {
        assert!(answer.text.contains("BEGIN CERTIFICATE"), "{answer:?}");
        assert!(!answer.text.contains("PRIVATE KEY"), "{answer:?}");
    }
    let entry = server.store.get("/apisix/ssls/1").await.expect("read").expect("stored");
    let stored: Value = serde_json::from_slice(&entry.value).expect("JSON");
    assert_eq!(stored["key"], ssl["key"]);
    let patch = json!({"sni": "b.com"}).to_string();
    let answer = server.call("PATCH", "/ssls/1", &patch).await.expect(200);
    assert!(!answer.text.contains("PRIVATE KEY"), "{answer:?}");
}

#[tokio::test]
async fn wrong_certificates_are_refused() {
    let server = Server::start().await;
    let junk = "x".repeat(200);
    let other = pair();
    let mut no_sni = ssl();
    no_sni.as_object_mut().expect("an object").remove("sni");
    for (body, error) in [
        (no_sni, "invalid configuration: then clause did not match"),
        (with(ssl(), "cert", json!(junk)), "failed to parse cert: PEM_read_bio_X509_AUX() failed"),
        (with(ssl(), "key", json!(junk)), "failed to parse key: PEM_read_bio_PrivateKey() failed"),
        (
            with(ssl(), "key", json!(other.1)),
            "failed to parse key: the key does not belong to the cert",
        ),
        (with(ssl(), "certs", json!([other.0])), "mismatched number of certs and keys"),
        (
            with(with(ssl(), "certs", json!([junk])), "keys", json!([other.1])),
            "failed to handle cert-key pair[1]: \
             failed to parse cert: PEM_read_bio_X509_AUX() failed",
        ),
        (
            with(ssl(), "client", json!({"ca": junk})),
            "failed to validate client_cert: failed to parse cert: PEM_read_bio_X509_AUX() failed",
        ),
        (
            with(ssl(), "key", json!("$secret://vault/1/a")),
            "failed to parse key: references ($secret://, $env://) are not supported, give the PEM",
        ),
    ] {
        assert_eq!(server.put("/ssls/1", &body).await.expect(400).error(), error);
    }
}

#[tokio::test]
async fn an_upstream_shows_a_client_certificate_only() {
    let server = Server::start().await;
    server.put("/ssls/1", &ssl()).await.expect(201);
    let upstream = |id| json!({"nodes": {"a:1": 1}, "tls": {"client_cert_id": id}});
    let answer = server.put("/upstreams/1", &upstream(1)).await.expect(400);
    assert_eq!(answer.error(), "failed to fetch ssl info by ssl id [1], wrong ssl type");
    let (cert, key) = pair();
    let client = json!({"type": "client", "cert": cert, "key": key});
    server.put("/ssls/2", &client).await.expect(201);
    server.put("/upstreams/1", &upstream(2)).await.expect(201);
    let inline = json!({"nodes": {"a:1": 1}, "tls": {"client_cert": cert, "client_key": key}});
    let answer = server.put("/upstreams/2", &inline).await.expect(201);
    assert!(!answer.text.contains("PRIVATE KEY"), "{answer:?}");
}
