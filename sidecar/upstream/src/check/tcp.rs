//! Checks by what a TCP connection says, or by its being there.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_model::TcpCheck;

use super::link::Link;
use super::standing::Finding;
use super::{HostCheck, contains_in_order};

/// As much as is looked at, bytes.
const LONGEST: usize = 64 * 1024;

pub(super) async fn ask(host: &mut HostCheck, check: &TcpCheck) -> Finding {
    if let Some(Link::Plain(stream)) = host.link.take()
        && let Some(finding) = exchange(host, check, stream).await
    {
        return finding;
    }
    let Some(stream) = Link::plain(&host.cluster, &host.target).await else {
        return Finding::Network;
    };
    exchange(host, check, stream).await.unwrap_or(Finding::Network)
}

/// `None`: the connection has ended.
async fn exchange(
    host: &mut HostCheck,
    check: &TcpCheck,
    mut stream: crate::stream::Channel,
) -> Option<Finding> {
    if check.receive.is_empty() {
        // Being connected is all that is asked: the next check has to connect again.
        return Some(Finding::Good { degraded: false });
    }
    stream.write_all(&check.send).await.ok()?;
    let mut said = BytesMut::new();
    while said.len() < LONGEST {
        if stream.read_buf(&mut said).await.ok()? == 0 {
            return None;
        }
        if contains_in_order(&said, &check.receive) {
            host.link = Some(Link::Plain(stream));
            return Some(Finding::Good { degraded: false });
        }
    }
    Some(Finding::Bad { retriable: true, excluded: false })
}
