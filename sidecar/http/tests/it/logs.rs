//! What the access log says about a stream, however it ended.

use crate::client::Client;
use crate::server;
use crate::world::{Setup, local};

const FORMAT: &str = "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% \
                      %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% \
                      %ROUTE_NAME% %REQ(:AUTHORITY)%\n";

/// The lines, once there are so many.
pub(crate) async fn lines(path: &std::path::Path, count: usize) -> Vec<String> {
    loop {
        weft_telemetry::flush_logs();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count {
            return lines;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn every_way_to_end_is_logged() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let upstream = server::raw(|mut stream| async move {
            while let Some(head) = server::read_head(&mut stream).await {
                let body = server::read_body(&mut stream, &head).await;
                if head.contains("/close ") {
                    return;
                }
                if head.contains("/silent ") {
                    std::future::pending::<()>().await;
                }
                server::respond(&mut stream, "200 OK", &String::from_utf8(body).unwrap()).await;
            }
        });
        let mut setup = Setup::to(upstream.await);
        setup.log_to(&path, FORMAT);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST /ok?q HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc").await;
        client.answer().await;
        client.get("/close").await;
        client
            .send("GET /silent HTTP/1.1\r\nhost: a\r\nx-envoy-upstream-rq-timeout-ms: 20\r\n\r\n")
            .await;
        client.answer().await;
        client.send("GET /silent HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let stats = world.clusters["upstream"].stats();
        while stats.rq_active.value() == 0 {
            tokio::task::yield_now().await;
        }
        drop(client);
        let lines = lines(&path, 4).await;
        assert_eq!(lines[0], "POST /ok?q HTTP/1.1 200 - via_upstream 3 3 upstream the-route a");
        assert!(
            lines[1].starts_with(
                "GET /close HTTP/1.1 503 UC \
                 upstream_reset_before_response_started{connection_termination} 0 "
            ),
            "{}",
            lines[1]
        );
        assert!(
            lines[2].starts_with("GET /silent HTTP/1.1 504 UT response_timeout 0 24 upstream"),
            "{}",
            lines[2]
        );
        assert_eq!(
            lines[3],
            "GET /silent HTTP/1.1 0 DC downstream_remote_disconnect 0 0 upstream the-route a"
        );
    });
}
