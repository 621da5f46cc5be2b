//! Side-by-side load runs against other proxies.

fn main() {}
