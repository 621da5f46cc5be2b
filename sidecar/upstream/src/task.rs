//! Tasks of the background runtime that end with their owner.

use std::future::Future;

use tokio::task::JoinHandle;

/// A task that ends when its owner lets go of it.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
