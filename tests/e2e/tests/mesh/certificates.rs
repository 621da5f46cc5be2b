//! Certificates of a few seconds, renewed while traffic flows.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::until;

use crate::member::{Member, Profile};
use crate::tcp::{Conversation, Greeter};
use crate::world::{World, get_as};

fn short_lived(bootstrap: &mut Value) {
    bootstrap["bootstrap_extensions"][0]["typed_config"]["value"]["ttl"] = json!("4s");
}

/// The serial number of the workload's own certificate, as `/certs` tells it.
async fn serial(member: &Member) -> Result<String> {
    let certificates: Value = serde_json::from_str(&member.admin("/certs").await?)?;
    let entries = certificates["certificates"].as_array().context("no certificates")?;
    let chains = entries.iter().filter_map(|entry| entry["cert_chain"].get(0));
    let identity = json!({ "uri": member.identity() });
    let own = chains.into_iter().find(|leaf| {
        leaf["subject_alt_names"].as_array().is_some_and(|names| names.contains(&identity))
    });
    let own = own.with_context(|| format!("no own certificate in {certificates}"))?;
    Ok(own["serial_number"].as_str().context("no serial number")?.to_owned())
}

async fn renewed(member: &Member, known: &str) -> Result<String> {
    until("a new certificate", || async {
        let now = serial(member).await?;
        ensure!(now != known, "still {known}");
        Ok(now)
    })
    .await
}

#[tokio::test]
async fn certificates_are_renewed_without_a_failed_request_or_a_lost_connection() -> Result<()> {
    let world = World::start().await?;
    let server = Profile::workload("both", &["tcp:2525", "http:8080"]).edited(short_lived);
    let server = Member::start(&world, server).await?;
    let _greeter = Greeter::start(&server.host, 2525)?;
    let _application = server.application(8080)?;
    let client = Profile::workload("client", &[]).edited(short_lived);
    let client = Member::start(&world, client).await?;
    let http = world.publish("both", 8080, &json!({}), &json!({})).await?;
    world.put("/apisix/admin/services/mail", &json!({
        "hosts": ["mail"],
        "labels": { "weft.dev/ports": "2525" },
        "upstream": { "type": "roundrobin", "scheme": "tcp", "discovery_type": "mesh", "service_name": "demo/both:2525" },
    })).await?;
    let tcp = (world.virtual_address("mail").await?, 2525).into();
    let mut long = until("a conversation", || Conversation::open(&client.host, tcp)).await?;
    until("an answer", || async {
        ensure!(get_as(&client.host, http, "both", "/").await?.status == 200);
        Ok(())
    })
    .await?;
    let ended = AtomicBool::new(false);
    let traffic = async {
        let mut rounds = 0;
        while !ended.load(Ordering::Relaxed) {
            // Each conversation is a new handshake between the sidecars; requests share one.
            let mut short = Conversation::open(&client.host, tcp).await?;
            short.say("short").await?;
            let reply = get_as(&client.host, http, "both", "/").await?;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
            long.say("still there").await?;
            rounds += 1;
        }
        anyhow::Ok(rounds)
    };
    let renewals = async {
        for member in [&client, &server, &client, &server] {
            let known = serial(member).await?;
            renewed(member, &known).await?;
        }
        ended.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (rounds, ()) = tokio::try_join!(traffic, renewals)?;
    ensure!(rounds > 10, "only {rounds} rounds of traffic");
    Ok(())
}
