//! Dynamic forward proxies: requests go to the host that they name.

use std::time::Duration;

use weft_model::{Discovery, DnsFamily, NameSettings};

use crate::client::Client;
use crate::server;
use crate::world::{Setup, local};

fn setup() -> Setup {
    let mut setup = Setup::to("127.0.0.1:9".parse().unwrap());
    setup.cluster("upstream", &[]).discovery = Discovery::Named(NameSettings {
        family: DnsFamily::V4Only,
        refresh: Duration::from_secs(60),
        least_refresh: Duration::from_secs(5),
        unused: Duration::from_secs(300),
        most: 1,
        timeout: Duration::from_millis(50),
    });
    setup
}

#[test]
fn a_request_goes_to_its_host() {
    local(async {
        let world = setup().start().await;
        let mut client = Client::connect(world.address).await;
        for host in [server::echo_head().await, server::echo_head().await] {
            client.send(&format!("GET /there HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            assert_eq!(server::header(answer.text(), "host"), Some(&*host.to_string()));
        }
    });
}

#[test]
fn a_host_without_an_address_is_answered_here() {
    local(async {
        let world = setup().start().await;
        let mut client = Client::connect(world.address).await;
        // Nobody resolves names in this world.
        for (host, body) in [("a.test", "DNS resolution failure"), ("b.test", "DNS cache overflow")]
        {
            client.send(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.text()), (503, body));
        }
    });
}
