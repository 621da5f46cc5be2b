//! Happy eyeballs (RFC 8305): an endpoint that has several addresses is tried at one after the
//! other, in the order of alternating families, without waiting long for any of them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

/// How long one address is waited for before the next is tried as well (as Envoy).
const ATTEMPT_DELAY: Duration = Duration::from_millis(300);

/// The order of the attempts: the first address' family and the other one in turn.
pub(crate) fn order(first: SocketAddr, more: &[SocketAddr]) -> Vec<SocketAddr> {
    let (mut same, mut other): (Vec<_>, Vec<_>) =
        more.iter().copied().partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut order = vec![first];
    same.reverse();
    other.reverse();
    while !(same.is_empty() && other.is_empty()) {
        order.extend(other.pop());
        order.extend(same.pop());
    }
    order
}

/// Connects to the first address that answers; the other attempts are given up.
pub(crate) async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        attempts.extend(waiting.next().map(&connect));
        let due = sleep(ATTEMPT_DELAY);
        // Whoever has connected first counts; a failure lets the next one begin at once.
        tokio::select! {
            biased;
            ended = attempts.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = due, if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn addresses(all: &[&str]) -> Vec<SocketAddr> {
        all.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_take_turns_and_the_first_address_stays_first() {
        let more = addresses(&["10.0.0.2:1", "10.0.0.3:1", "[::1]:1", "[::2]:1", "10.0.0.4:1"]);
        let expected = addresses(&[
            "10.0.0.1:1",
            "[::1]:1",
            "10.0.0.2:1",
            "[::2]:1",
            "10.0.0.3:1",
            "10.0.0.4:1",
        ]);
        assert_eq!(order("10.0.0.1:1".parse().expect("an address"), &more), expected);
    }

    async fn answer(address: SocketAddr) -> io::Result<u16> {
        match address.port() {
            1 => Err(io::ErrorKind::ConnectionRefused.into()),
            2 => std::future::pending().await,
            port => Ok(port),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_delays_and_one_that_refuses_does_not() {
        let begun = Instant::now();
        let all = addresses(&["10.0.0.1:1", "10.0.0.1:1", "10.0.0.1:5"]);
        assert_eq!(race(all, answer).await.expect("it connects"), 5);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let all = addresses(&["10.0.0.1:2", "10.0.0.1:2", "10.0.0.1:5"]);
        assert_eq!(race(all, answer).await.expect("it connects"), 5);
        assert_eq!(begun.elapsed(), ATTEMPT_DELAY * 2);
        let refused = race(addresses(&["10.0.0.1:1", "10.0.0.2:1"]), answer).await;
        assert_eq!(refused.expect_err("nobody is there").kind(), io::ErrorKind::ConnectionRefused);
    }
}
