//! Requests at a constant rate, whether or not answers come.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::http1::{exchange, request};
use super::{Outcome, Part, Window, collect};

/// Requests are sent in groups, one each such time: finer than the latencies that are looked for,
/// and coarse enough that the clock costs little of the core that the backend shares.
const TICK: Duration = Duration::from_micros(250);
/// Requests that may wait on one connection before the run is given up.
const BACKLOG: usize = 4096;

/// Sends `rate` requests a second over `connections`, in turn. A latency counts from the moment
/// when the request was due, so that a proxy that stops for a while pays for all that waited.
pub(crate) async fn http1(
    address: SocketAddr,
    connections: usize,
    rate: f64,
    window: Window,
) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    let mut queues = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (queue, due) = mpsc::channel(BACKLOG);
        queues.push(queue);
        tasks.spawn(client(address, due, window));
    }
    let (ticker, mut ticks) = mpsc::channel(BACKLOG);
    let clock = std::thread::spawn(move || tick(&ticker, window));
    let mut schedule = Schedule { start: Instant::now(), rate, sent: 0 };
    while let Some(now) = ticks.recv().await {
        for index in schedule.due(now) {
            let queue = &queues[index as usize % queues.len()];
            queue.try_send(now).context("the proxy does not keep up with the rate")?;
        }
    }
    ensure!(clock.join().is_ok(), "the clock failed");
    drop(queues);
    collect(tasks, window).await
}

/// Tells the time again and again until the window ends.
fn tick(ticker: &mpsc::Sender<Instant>, window: Window) {
    let mut next = Instant::now();
    while next < window.until {
        next += TICK;
        while let Some(left) = next.checked_duration_since(Instant::now()).filter(|l| !l.is_zero())
        {
            std::thread::park_timeout(left);
        }
        // Ticks that the load was too slow for are told late, not left out.
        if ticker.blocking_send(next).is_err() {
            return;
        }
    }
}

/// Which requests are due.
struct Schedule {
    start: Instant,
    /// Requests a second.
    rate: f64,
    sent: u64,
}

impl Schedule {
    /// The numbers of the requests that became due until `now`.
    fn due(&mut self, now: Instant) -> std::ops::Range<u64> {
        let until = (now.saturating_duration_since(self.start).as_secs_f64() * self.rate) as u64;
        let due = self.sent..until.max(self.sent);
        self.sent = due.end;
        due
    }
}

async fn client(
    address: SocketAddr,
    mut due: mpsc::Receiver<Instant>,
    window: Window,
) -> Result<Part> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = request(address, "/hello");
    let mut buffer = vec![0; 8 << 10];
    let mut part = Part::default();
    while let Some(start) = due.recv().await {
        exchange(&mut stream, &request, &mut buffer).await?;
        part.record(start, window);
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_due_once_and_at_its_time() {
        let start = Instant::now();
        let mut schedule = Schedule { start, rate: 4000.0, sent: 0 };
        assert_eq!(schedule.due(start), 0..0);
        assert_eq!(schedule.due(start + Duration::from_millis(1)), 0..4);
        assert_eq!(schedule.due(start + Duration::from_millis(1)), 4..4);
        assert_eq!(schedule.due(start + Duration::from_secs(1)), 4..4000);
    }
}
