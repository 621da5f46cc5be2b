//! Finding the programs of this workspace.

use std::path::PathBuf;

/// The path of a built program: beside the running test's target folder.
///
/// # Panics
///
/// When it is not built; the message says how to build it.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    // target/debug/deps/test-0123 → target/debug/name
    let path = test
        .ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file());
    path.unwrap_or_else(|| panic!("{name} is not built: cargo build --bin {name}"))
}
