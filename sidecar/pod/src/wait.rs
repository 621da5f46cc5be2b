//! Waiting for the proxy beside: what a `postStart` handler runs so that applications start later.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use crate::probe::Prober;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until `/healthz/ready` at `port` of this machine says yes.
///
/// # Errors
/// It didn't for as long as `patience`.
pub async fn wait_until_ready(port: u16, patience: Duration) -> io::Result<()> {
    let prober = Prober::new(Ipv4Addr::LOCALHOST.into());
    let end = Instant::now() + patience;
    let asked = async {
        loop {
            match prober.fetch(port, "/healthz/ready").await {
                Ok((status, _)) if status.is_success() => return,
                Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::time::timeout_at(end, asked).await.map_err(|_| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the proxy at {address} is not ready after {patience:?}"),
        )
    })
}
