//! Waiting for something that another process does.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How long a test waits for what should happen at once.
pub const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// Asks until the answer is there.
///
/// # Errors
///
/// The last answer's error once [`DEADLINE`] has passed.
pub async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what}: not within {DEADLINE:?}")));
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Asks until a condition holds.
///
/// # Errors
///
/// When it does not hold once [`DEADLINE`] has passed.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        if Instant::now() > deadline {
            bail!("{what}: not within {DEADLINE:?}");
        }
        sleep(POLL).await;
    }
    Ok(())
}
