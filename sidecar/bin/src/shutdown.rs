//! Why and how the process ends.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use weft_admin::DrainRequest;

/// What the process is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// End after draining: SIGTERM, SIGINT or `/quitquitquit`.
    End(&'static str),
    /// Drain listeners and go on: `/drain_listeners`.
    Drain(DrainRequest),
    /// Open log files anew: SIGHUP, SIGUSR1.
    Reopen,
}

/// Signals and commands of the administration interface.
pub(crate) struct Events {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
    commands: mpsc::Receiver<Event>,
}

impl Events {
    /// Listens to signals from now on.
    ///
    /// # Errors
    /// A signal handler can't be set.
    pub(crate) fn new(commands: mpsc::Receiver<Event>) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            commands,
        })
    }

    /// The next event. The order of simultaneous events does not matter: each is seen in the end.
    pub(crate) async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::End("SIGTERM"),
            _ = self.interrupt.recv() => Event::End("SIGINT"),
            _ = self.hangup.recv() => Event::Reopen,
            _ = self.user.recv() => Event::Reopen,
            Some(event) = self.commands.recv() => event,
        }
    }
}
