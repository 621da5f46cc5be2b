use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{RelayCounters, RelayEnd, relay};
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
            let end = relay(&mut a, &mut b, None, &timers, &counters).await;
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
            relay(&mut a, &mut b, idle, &timers, &RelayCounters::default()).await
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
            relay(&mut a, &mut b, None, &timers, &RelayCounters::default()).await
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
