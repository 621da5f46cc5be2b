use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Passed, RelayCounters, RelayEnd, Side, relay};
use crate::testing::local;
use crate::timer::Timers;

#[test]
fn each_side_can_close_its_half_first() {
    local(async {
        let (mut client, mut a) = duplex(64);
        let (mut b, mut server) = duplex(64);
        let timers = Timers::new();
        let relaying = tokio::task::spawn_local(async move {
            let counters = RelayCounters::default();
            let end = relay(Side::new(&mut a), Side::new(&mut b), None, &timers, &counters).await;
            (end, counters)
        });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut seen = String::new();
        server.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "question");
        server.write_all(b"a longer answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "a longer answer");
        let (end, counters) = relaying.await.unwrap();
        assert!(matches!(end, RelayEnd::FirstClosed), "{end:?}");
        assert_eq!((counters.forward.get(), counters.backward.get()), (8, 15));
    });
}

#[test]
fn silence_ends_a_relay_after_the_idle_timeout() {
    local(async {
        tokio::time::pause();
        let (mut client, mut a) = duplex(64);
        let (mut b, _server) = duplex(64);
        let timers = Timers::new();
        let start = tokio::time::Instant::now();
        let relaying = tokio::task::spawn_local(async move {
            let idle = Some(Duration::from_secs(10));
            relay(Side::new(&mut a), Side::new(&mut b), idle, &timers, &RelayCounters::default())
                .await
        });
        tokio::time::sleep(Duration::from_secs(6)).await;
        client.write_all(b"x").await.unwrap();
        let end = relaying.await.unwrap();
        assert!(matches!(end, RelayEnd::Idle), "{end:?}");
        assert!(start.elapsed() >= Duration::from_secs(16), "{:?}", start.elapsed());
    });
}

#[test]
fn bytes_arrive_whole_through_a_slow_reader() {
    local(async {
        let (mut client, mut a) = duplex(100_000);
        let (mut b, mut server) = duplex(777);
        let timers = Timers::new();
        let relaying = tokio::task::spawn_local(async move {
            relay(Side::new(&mut a), Side::new(&mut b), None, &timers, &RelayCounters::default())
                .await
        });
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::task::spawn_local(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        let mut seen = Vec::new();
        let mut piece = [0; 1000];
        loop {
            let count = server.read(&mut piece).await.unwrap();
            if count == 0 {
                break;
            }
            seen.extend_from_slice(&piece[..count]);
            tokio::task::yield_now().await;
        }
        assert!(seen == expected);
        drop(server);
        drop(sending.await.unwrap());
        let _ = relaying.await.unwrap();
    });
}

/// The two ends of a TCP connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

thread_local! {
    static RECEIVED: Cell<usize> = const { Cell::new(0) };
    static SENT: Cell<usize> = const { Cell::new(0) };
}

fn note(_: &TcpStream, passed: Passed) {
    match passed {
        Passed::Received(count) => RECEIVED.set(RECEIVED.get() + count),
        Passed::Sent(count) => SENT.set(SENT.get() + count),
    }
}

struct Spliced {
    client: TcpStream,
    server: TcpStream,
    counters: Rc<RelayCounters>,
    relaying: JoinHandle<RelayEnd>,
}

/// A relay between sockets.
async fn spliced(idle: Option<Duration>) -> Spliced {
    let (client, mut a) = pair().await;
    let (mut b, server) = pair().await;
    let counters = Rc::new(RelayCounters::default());
    let counted = Rc::clone(&counters);
    let relaying = tokio::task::spawn_local(async move {
        let first = Side::over_socket(&mut a, |socket| Some(socket), note);
        let second = Side::over_socket(&mut b, |socket| Some(socket), note);
        relay(first, second, idle, &Timers::new(), &counted).await
    });
    Spliced { client, server, counters, relaying }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn spliced_bytes_arrive_whole_and_are_counted_both_ways() {
    local(async {
        let Spliced { mut client, mut server, counters, relaying } = spliced(None).await;
        let sent = pattern(20_000_000);
        let expected = sent.clone();
        let echo = tokio::task::spawn_local(async move {
            let (mut reader, mut writer) = server.split();
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let (mut reader, mut writer) = client.split();
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let ((), read) = tokio::join!(write, reader.read_to_end(&mut back));
        read.unwrap();
        echo.await.unwrap();
        assert!(back == expected);
        let end = relaying.await.unwrap();
        assert!(matches!(end, RelayEnd::FirstClosed), "{end:?}");
        assert_eq!((counters.forward.get(), counters.backward.get()), (20_000_000, 20_000_000));
        assert_eq!(RECEIVED.get(), SENT.get());
        assert!(RECEIVED.get() > 10_000_000, "only {} bytes were spliced", RECEIVED.get());
    });
}

#[test]
fn bytes_arrive_whole_when_splicing_and_copying_take_turns() {
    local(async {
        let Spliced { mut client, mut server, counters, relaying } = spliced(None).await;
        let sent = pattern(6_000_000);
        let expected = sent.clone();
        let sending = tokio::task::spawn_local(async move {
            for (at, large) in sent.chunks(2_000_000).enumerate() {
                let (bulk, small) = large.split_at(1_999_000);
                client.write_all(bulk).await.unwrap();
                for piece in small.chunks(10 + at) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
            client.shutdown().await.unwrap();
            client
        });
        let mut seen = Vec::new();
        server.read_to_end(&mut seen).await.unwrap();
        assert!(seen == expected);
        server.write_all(b"thanks").await.unwrap();
        drop(server);
        let mut client = sending.await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "thanks");
        assert!(matches!(relaying.await.unwrap(), RelayEnd::FirstClosed));
        assert_eq!((counters.forward.get(), counters.backward.get()), (6_000_000, 6));
    });
}

#[test]
fn reset_while_splicing_fails_the_side_it_came_from() {
    local(async {
        let Spliced { mut client, mut server, counters, relaying } = spliced(None).await;
        let sending = tokio::task::spawn_local(async move {
            let data = pattern(1_000_000);
            while client.write_all(&data).await.is_ok() {}
        });
        let mut piece = vec![0; 1_000_000];
        for _ in 0..5 {
            server.read_exact(&mut piece).await.unwrap();
        }
        // Closed with bytes unread: the peer gets a reset.
        drop(server);
        let end = relaying.await.unwrap();
        assert!(matches!(end, RelayEnd::SecondFailed(_)), "{end:?}");
        assert!(counters.forward.get() >= 5_000_000);
        sending.await.unwrap();
    });
}

#[test]
fn spliced_relay_that_nobody_reads_ends_after_the_idle_timeout() {
    local(async {
        let idle = Some(Duration::from_millis(200));
        let Spliced { mut client, server, relaying, .. } = spliced(idle).await;
        let sending = tokio::task::spawn_local(async move {
            let data = pattern(1_000_000);
            while client.write_all(&data).await.is_ok() {}
        });
        let end = relaying.await.unwrap();
        assert!(matches!(end, RelayEnd::Idle), "{end:?}");
        drop(server);
        sending.await.unwrap();
    });
}
