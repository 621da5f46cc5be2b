//! What the tests of this crate share.

use std::future::Future;

/// Runs a test on a `LocalRuntime`, as a worker does.
pub(crate) fn local<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(test)
}
