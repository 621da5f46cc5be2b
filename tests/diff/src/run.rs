//! Plays a topic against one proxy.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::case::{Case, Topic};
use crate::client;
use crate::proxy::{Kind, Proxy};
use crate::record::{Page, Record};
use crate::upstream::Upstream;

/// Starts the proxy with the topic's configuration, plays all cases and says what was seen.
///
/// # Errors
/// The proxy does not start, or a case can't be played.
pub async fn observe(kind: &Kind, topic: &Topic) -> Result<Record> {
    let upstream = Upstream::start(topic.upstream_http2).await?;
    let mut proxy = Proxy::start(kind, topic, upstream.address).await?;
    let mut record = Record::default();
    for case in &topic.cases {
        let seen = play(case, &mut proxy, &upstream).await;
        record.cases.push((case.name.clone(), seen.with_context(|| case.name.clone())?));
    }
    Ok(record)
}

/// The machine's first address that is not loopback's.
fn own_address() -> Result<Option<String>> {
    let mut addresses = nix::ifaddrs::getifaddrs()?.filter_map(|interface| {
        let ip = interface.address?.as_sockaddr_in()?.ip();
        (!ip.is_loopback()).then(|| ip.to_string())
    });
    Ok(addresses.next())
}

async fn play(case: &Case, proxy: &mut Proxy, upstream: &Upstream) -> Result<String> {
    let mut names = BTreeMap::from([
        (format!(":{}", proxy.listener.port()), ":<listener>"),
        (format!(":{}", upstream.address.port()), ":<upstream>"),
        (format!(":{}", proxy.dead.port()), ":<dead>"),
        ("x-forwarded-for: 127.0.0.1".to_owned(), "x-forwarded-for: <client>"),
        (",127.0.0.1".to_owned(), ",<client>"),
    ]);
    // Envoy gives the machine's own address for clients that come over loopback.
    if let Some(address) = own_address()? {
        names.insert(address, "<client>");
    }
    let mut page = Page::new(names);
    upstream.expect(&case.upstream);
    let mut before = Vec::new();
    for name in &case.counters {
        before.push(proxy.counter(name).await?);
    }
    client::play(case, proxy.listener, &mut page).await?;
    for line in proxy.log().await?.iter().filter(|line| !line.contains(crate::upstream::PROBE)) {
        page.line(&format!("log: {line}"));
    }
    for request in upstream.seen() {
        page.message("upstream:", &request);
    }
    for (name, before) in case.counters.iter().zip(before) {
        let grown = proxy.counter(name).await?.saturating_sub(before);
        page.line(&format!("counter {name}: +{grown}"));
    }
    Ok(page.finish())
}
