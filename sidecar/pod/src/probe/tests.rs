use hyper::service::service_fn;
use hyper::{Response, body::Incoming};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

fn probe(json: &str) -> Probe {
    serde_json::from_str(json).unwrap()
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn prober() -> Prober {
    Prober::new(Ipv4Addr::LOCALHOST.into())
}

async fn application(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let header = request.headers().get("x-probe").is_some_and(|value| value == "1");
    let status = if request.uri() == "/ok?a=1" && header { 200 } else { 503 };
    Ok(Response::builder().status(status).body(Full::from("body")).unwrap())
}

#[tokio::test]
async fn pages_are_fetched_from_the_unintercepted_source() {
    let (listener, port) = listener().await;
    let server = tokio::spawn(async move {
        let mut sources = Vec::new();
        for _ in 0..2 {
            let (stream, peer) = listener.accept().await.unwrap();
            sources.push(peer.ip());
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(application));
            let _ = served.await;
        }
        sources
    });
    let good = format!(
        r#"{{"httpGet":{{"port":{port},"path":"ok?a=1","httpHeaders":[{{"name":"X-Probe","value":"1"}}]}},"timeoutSeconds":5}}"#
    );
    let (status, body) = prober().probe(&probe(&good), &HeaderMap::new()).await.unwrap();
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"body"[..]));
    let bad = format!(r#"{{"httpGet":{{"port":{port}}},"timeoutSeconds":5}}"#);
    let (status, _) = prober().probe(&probe(&bad), &HeaderMap::new()).await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.await.unwrap(), [SOURCE_V4, SOURCE_V4]);
}

#[tokio::test]
async fn any_certificate_will_do() {
    let (listener, port) = listener().await;
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["other".to_owned()]).unwrap().self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![own.der().clone()],
        PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    )
    .unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(application));
        let _ = served.await;
    });
    let get = format!(r#"{{"httpGet":{{"port":{port},"scheme":"HTTPS"}},"timeoutSeconds":5}}"#);
    let (status, _) = prober().probe(&probe(&get), &HeaderMap::new()).await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    server.await.unwrap();
}

#[tokio::test]
async fn connections_are_tried() {
    let (listener, port) = listener().await;
    let check = probe(&format!(r#"{{"tcpSocket":{{"port":{port}}},"timeoutSeconds":5}}"#));
    assert!(prober().probe(&check, &HeaderMap::new()).await.is_ok());
    drop(listener);
    assert!(prober().probe(&check, &HeaderMap::new()).await.is_err());
}

async fn health(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let body = request.into_body().collect().await?.to_bytes();
    let status = if body[..] == *b"\0\0\0\0\x05\x0a\x03web" { 1 } else { 2 };
    let answer = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
    Ok(Response::builder().header("grpc-status", "0").body(Full::new(answer)).unwrap())
}

#[tokio::test]
async fn grpc_health_is_asked() {
    let (listener, port) = listener().await;
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let (stream, _) = listener.accept().await.unwrap();
            let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(health));
            let _ = served.await;
        }
    });
    let check = |service: &str| {
        probe(&format!(r#"{{"grpc":{{"port":{port},"service":"{service}"}},"timeoutSeconds":5}}"#))
    };
    let answer = prober().probe(&check("web"), &HeaderMap::new()).await;
    assert!(answer.is_ok(), "{answer:?}");
    let answer = prober().probe(&check("other"), &HeaderMap::new()).await;
    assert!(matches!(answer, Err(ProbeError::NotServing(_))), "{answer:?}");
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_probe_has_its_time() {
    let (_listener, port) = listener().await;
    let slow = probe(&format!(r#"{{"httpGet":{{"port":{port}}}}}"#));
    let answer = prober().probe(&slow, &HeaderMap::new()).await;
    assert!(matches!(answer, Err(ProbeError::Timeout(TIMEOUT))), "{answer:?}");
}
