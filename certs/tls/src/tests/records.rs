//! The record layer against rustls' own.

use std::io::{IoSlice, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as RustlsClient;

use super::{Authority, Leaf, client, server};
use crate::provider::{default_provider, versions};
use crate::{ClientTlsSpec, ServerTls, ServerTlsSpec, TlsError, TlsStream, TlsVersion};

const SUITES: [(TlsVersion, &str); 5] = [
    (TlsVersion::V1_3, "TLS_AES_128_GCM_SHA256"),
    (TlsVersion::V1_3, "TLS_AES_256_GCM_SHA384"),
    (TlsVersion::V1_3, "TLS_CHACHA20_POLY1305_SHA256"),
    (TlsVersion::V1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (TlsVersion::V1_2, "ECDHE-ECDSA-CHACHA20-POLY1305"),
];

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn host_server(authority: &Authority) -> ServerTls {
    server(&ServerTlsSpec::new(vec![authority.issue(&Leaf::dns("host.test"))]))
}

/// A client of rustls that offers one version and one suite.
fn rustls_client(authority: &Authority, version: TlsVersion, suite: &str) -> Arc<ClientConfig> {
    let mut provider = (**default_provider()).clone();
    provider.cipher_suites.retain(|known| crate::provider::cipher_name(known.suite()) == suite);
    let mut roots = RootCertStore::empty();
    for root in authority.bundle().certificates() {
        roots.add(root.clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions(Some(version), Some(version)).unwrap())
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

type Pair = (RustlsClient<DuplexStream>, TlsStream<DuplexStream>);

async fn connect(pipe: usize, version: TlsVersion, suite: &str) -> Pair {
    let authority = Authority::new("root");
    let server = host_server(&authority);
    let config = rustls_client(&authority, version, suite);
    let (near, far) = duplex(pipe);
    let name = ServerName::try_from("host.test").unwrap();
    let (client, server) =
        tokio::join!(TlsConnector::from(config).connect(name, near), server.accept(far));
    let server = server.unwrap();
    assert_eq!(server.handshake().cipher, suite);
    assert_eq!(server.handshake().server_name.as_deref(), Some("host.test"));
    (client.unwrap(), server)
}

async fn modern(pipe: usize) -> Pair {
    connect(pipe, TlsVersion::V1_3, "TLS_AES_128_GCM_SHA256").await
}

#[tokio::test]
async fn bytes_arrive_whole_with_every_suite_through_pipes_of_any_size() {
    for (version, suite) in SUITES {
        for pipe in [100, 5_000, 300_000] {
            let (mut rustls, mut ours) = connect(pipe, version, suite).await;
            let sent = pattern(400_000);
            let echo = async {
                let mut piece = vec![0; 70_000];
                loop {
                    let count = ours.read(&mut piece).await.unwrap();
                    if count == 0 {
                        return ours.shutdown().await.unwrap();
                    }
                    ours.write_all(&piece[..count]).await.unwrap();
                    ours.flush().await.unwrap();
                }
            };
            let (mut reader, mut writer) = tokio::io::split(&mut rustls);
            let write = async {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut back = Vec::new();
            let read = async { reader.read_to_end(&mut back).await.unwrap() };
            tokio::join!(echo, write, read);
            assert!(back == sent, "{suite} through {pipe}");
        }
    }
}

#[tokio::test]
async fn reader_with_little_room_gets_a_large_record_piece_by_piece() {
    let (mut rustls, mut ours) = modern(100_000).await;
    let sent = pattern(40_000);
    rustls.write_all(&sent).await.unwrap();
    rustls.flush().await.unwrap();
    let mut back = Vec::new();
    let mut piece = [0; 999];
    while back.len() < sent.len() {
        let count = ours.read(&mut piece).await.unwrap();
        back.extend_from_slice(&piece[..count]);
    }
    assert!(back == sent);
}

#[tokio::test]
async fn keys_are_renewed_when_the_peer_asks() {
    let (mut rustls, mut ours) = modern(100_000).await;
    for round in 0..3_u8 {
        rustls.get_mut().1.refresh_traffic_keys().unwrap();
        rustls.write_all(&[round]).await.unwrap();
        rustls.flush().await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), round);
        ours.write_all(&[round + 100]).await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(rustls.read_u8().await.unwrap(), round + 100);
    }
}

#[tokio::test]
async fn worn_key_is_replaced_before_the_next_data() {
    let (mut rustls, mut ours) = modern(100_000).await;
    for round in 0..3 {
        ours.wear_key();
        ours.write_all(&[round]).await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(rustls.read_u8().await.unwrap(), round);
    }
}

#[tokio::test]
async fn slices_are_gathered_into_full_records() {
    let (mut rustls, mut ours) = modern(100_000).await;
    let sent = pattern(50_000);
    let slices: Vec<IoSlice<'_>> = sent.chunks(777).map(IoSlice::new).collect();
    let count = ours.write_vectored(&slices).await.unwrap();
    assert_eq!(count, sent.len());
    ours.flush().await.unwrap();
    let mut back = vec![0; sent.len()];
    rustls.read_exact(&mut back).await.unwrap();
    assert!(back == sent);
}

#[tokio::test]
async fn each_side_can_close_its_half_first() {
    let (mut rustls, mut ours) = modern(100_000).await;
    ours.write_all(b"last word").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut text = String::new();
    rustls.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last word");
    let error = ours.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    rustls.write_all(b"not quite").await.unwrap();
    rustls.shutdown().await.unwrap();
    text.clear();
    ours.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "not quite");
}

#[tokio::test]
async fn end_without_close_notify_is_told_apart() {
    let (mut rustls, mut ours) = modern(100_000).await;
    rustls.write_all(b"cut").await.unwrap();
    rustls.flush().await.unwrap();
    drop(rustls);
    let mut text = Vec::new();
    let error = ours.read_to_end(&mut text).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(text, b"cut");
}

/// Our client and our server, with the wire between them in our hands.
async fn with_wire() -> (TlsStream<DuplexStream>, DuplexStream) {
    let (_, ours) = split_wire().await;
    ours
}

/// A client of rustls without transport, and our server with the other end of its wire.
async fn split_wire() -> (ClientConnection, (TlsStream<DuplexStream>, DuplexStream)) {
    let authority = Authority::new("root");
    let server = host_server(&authority);
    let suite = "TLS_AES_128_GCM_SHA256";
    let config = rustls_client(&authority, TlsVersion::V1_3, suite);
    let name = ServerName::try_from("host.test").unwrap();
    let mut client = ClientConnection::new(config, name).unwrap();
    let (mut wire, far) = duplex(100_000);
    let drive = async {
        while client.is_handshaking() || client.wants_write() {
            let mut out = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut out).unwrap();
            }
            wire.write_all(&out).await.unwrap();
            if client.is_handshaking() {
                let mut piece = [0; 4096];
                let count = wire.read(&mut piece).await.unwrap();
                client.read_tls(&mut &piece[..count]).unwrap();
                client.process_new_packets().unwrap();
            }
        }
    };
    let (ours, ()) = tokio::join!(server.accept(far), drive);
    (client, (ours.unwrap(), wire))
}

fn records(client: &mut ClientConnection, text: &[u8]) -> Vec<u8> {
    client.writer().write_all(text).unwrap();
    let mut out = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut out).unwrap();
    }
    out
}

#[tokio::test]
async fn record_that_was_changed_breaks_the_connection_after_the_data_before_it() {
    let (mut client, (mut ours, mut wire)) = split_wire().await;
    let mut bytes = records(&mut client, b"good");
    let mut bad = records(&mut client, b"evil");
    *bad.last_mut().unwrap() ^= 1;
    bytes.extend_from_slice(&bad);
    wire.write_all(&bytes).await.unwrap();
    let mut seen = Vec::new();
    let error = ours.read_to_end(&mut seen).await.unwrap_err();
    assert_eq!(seen, b"good");
    assert!(error.to_string().contains("decrypt"), "{error}");
    assert!(ours.read_u8().await.is_err());
    assert!(ours.write_all(b"x").await.is_err());
    // The peer is told.
    drop(ours);
    let mut answer = Vec::new();
    wire.read_to_end(&mut answer).await.unwrap();
    let mut answer = answer.as_slice();
    let refused = loop {
        client.read_tls(&mut answer).unwrap();
        if let Err(error) = client.process_new_packets() {
            break error;
        }
    };
    assert_eq!(refused, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
}

#[tokio::test]
async fn records_out_of_order_break_the_connection() {
    let (mut client, (mut ours, mut wire)) = split_wire().await;
    let first = records(&mut client, b"first");
    let second = records(&mut client, b"second");
    wire.write_all(&second).await.unwrap();
    wire.write_all(&first).await.unwrap();
    assert!(ours.read_u8().await.is_err());
}

#[tokio::test]
async fn malformed_records_break_the_connection() {
    let too_long = [&[23, 3, 3, 0x48, 0x01][..], &[0; 64]].concat();
    let no_tag = vec![23, 3, 3, 0, 3, 1, 2, 3];
    let in_the_clear = vec![21, 3, 3, 0, 2, 1, 0];
    let other_protocol = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    for bytes in [too_long, no_tag, in_the_clear, other_protocol] {
        let (mut ours, mut wire) = with_wire().await;
        wire.write_all(&bytes).await.unwrap();
        let error = ours.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{bytes:?}: {error}");
        assert!(matches!(TlsError::from(error), TlsError::Protocol(_) | TlsError::NotTls));
    }
}

#[tokio::test]
async fn data_that_comes_with_the_end_of_the_handshake_is_kept() {
    let authority = Authority::new("root");
    for tickets in [true, false] {
        let spec = ServerTlsSpec {
            session_tickets: tickets,
            ..ServerTlsSpec::new(vec![authority.issue(&Leaf::dns("host.test"))])
        };
        let config = rustls_client(&authority, TlsVersion::V1_3, "TLS_AES_128_GCM_SHA256");
        let name = ServerName::try_from("host.test").unwrap();
        let client = ClientConnection::new(config, name).unwrap();
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let writing = std::thread::spawn(move || {
            // The last message of the handshake goes out with the data.
            let mut stream = StreamOwned::new(client, near);
            stream.write_all(&pattern(30_000)).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        });
        let far = tokio::net::UnixStream::from_std(far).unwrap();
        let mut ours = server(&spec).accept(far).await.unwrap();
        let mut seen = Vec::new();
        ours.read_to_end(&mut seen).await.unwrap();
        writing.join().unwrap();
        assert!(seen == pattern(30_000));
    }
}

#[tokio::test]
async fn our_client_remembers_tickets_that_come_with_data() {
    let authority = Authority::new("root");
    let server = host_server(&authority);
    let client = client(&ClientTlsSpec::default());
    for resumed in [false, true] {
        let (near, far) = duplex(100_000);
        let connect = async {
            let mut stream = client.connect(near, Some("host.test"), None).await?;
            stream.flush().await?;
            Ok::<_, TlsError>(stream)
        };
        let connected = tokio::join!(connect, server.accept(far));
        let (mut near, mut far) = (connected.0.unwrap(), connected.1.unwrap());
        assert_eq!(far.handshake().resumed, resumed);
        far.write_all(b"hello").await.unwrap();
        far.flush().await.unwrap();
        let mut text = [0; 5];
        near.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
    }
}

#[test]
fn idle_connection_is_small() {
    assert!(size_of::<crate::stream::Session>() <= 3072, "{}", size_of::<crate::stream::Session>());
}
