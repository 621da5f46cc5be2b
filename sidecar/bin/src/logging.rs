//! The program's own log, on the standard error.

use anyhow::{Context, Result};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Changes the level of the log while the program runs.
#[derive(Clone)]
pub(crate) struct Logging(reload::Handle<EnvFilter, Registry>);

/// Starts logging.
///
/// # Errors
/// `level` is neither a level nor a list of directives.
pub(crate) fn start(level: &str) -> Result<Logging> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .context("starting the log")?;
    Ok(Logging(handle))
}

impl Logging {
    /// Sets the level.
    ///
    /// # Errors
    /// A sentence saying why `level` is not one.
    pub(crate) fn set(&self, level: &str) -> Result<(), String> {
        let filter = filter(level).map_err(|error| format!("{error:#}"))?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Envoy's names for levels are taken too.
fn filter(level: &str) -> Result<EnvFilter> {
    let level = match level {
        "warning" => "warn",
        "critical" => "error",
        other => other,
    };
    EnvFilter::try_new(level).with_context(|| {
        format!("log level {level:?}: use trace, debug, info, warn, error, off or directives such as weft_http=debug")
    })
}
