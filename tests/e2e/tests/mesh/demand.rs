//! Services on demand: a sidecar has what its workload calls.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::until;

use crate::member::{Member, Profile};
use crate::world::{World, get_as};

/// Services of the mesh that nobody calls at first.
const OTHERS: usize = 40;

/// The names of the clusters and the virtual hosts that a sidecar has from its control plane.
async fn held(member: &Member) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let dump: Value = serde_json::from_str(&member.admin("/config_dump").await?)?;
    let (mut clusters, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for config in dump["configs"].as_array().context("no configs")? {
        for cluster in config["dynamic_active_clusters"].as_array().into_iter().flatten() {
            clusters.extend(cluster["cluster"]["name"].as_str().map(str::to_owned));
        }
        for table in config["dynamic_route_configs"].as_array().into_iter().flatten() {
            let listed = table["route_config"]["virtual_hosts"].as_array();
            for host in listed.into_iter().flatten() {
                hosts.extend(host["name"].as_str().map(str::to_owned));
            }
        }
    }
    Ok((clusters, hosts))
}

#[tokio::test]
async fn a_sidecar_has_what_its_workload_calls_and_serves_it_alone() -> Result<()> {
    let mut world = World::start().await?;
    let server = Member::start(&world, Profile::workload("called", &["http:8080"])).await?;
    let _application = server.application(8080)?;
    let client = Member::start(&world, Profile::workload("client", &[])).await?;
    for number in 0..OTHERS {
        let upstream = json!({ "type": "roundrobin", "nodes": { "192.0.2.1:80": 1 } });
        let hosts = [format!("other-{number}.weft.test")];
        let route = json!({ "uri": "/*", "hosts": hosts, "upstream": upstream });
        world.put(&format!("/apisix/admin/routes/other-{number}"), &route).await?;
    }
    let address = world.publish("called", 8080, &json!({}), &json!({})).await?;
    let (clusters, hosts) = held(&client).await?;
    ensure!(hosts.is_empty() && !clusters.iter().any(|name| name.contains('/')), "{clusters:?}");

    let call = async |host: &str| get_as(&client.host, address, host, "/").await;
    until("an answer", || async {
        let reply = call("called").await?;
        ensure!(reply.status == 200, "{}", reply.status);
        Ok(())
    })
    .await?;
    let (clusters, hosts) = held(&client).await?;
    ensure!(hosts == BTreeSet::from(["called".to_owned()]), "{hosts:?}");
    ensure!(clusters.contains("route/called"), "{clusters:?}");
    ensure!(!clusters.iter().any(|name| name.contains("other")), "{clusters:?}");

    let away = json!({ "plugins": { "redirect": { "uri": "/away", "ret_code": 302 } } });
    for (change, status) in [(&away, 302), (&json!({}), 200)] {
        world.put_route("called", 8080, change, &json!({})).await?;
        until("the change", || async {
            let reply = call("called").await?;
            ensure!(reply.status == status, "{}", reply.status);
            Ok(())
        })
        .await?;
    }

    world.kill_control_plane().await?;
    let (known, unknown) = tokio::join!(call("called"), call("other-1.weft.test"));
    ensure!(known?.status == 200 && unknown?.status == 503);
    ensure!(call("called").await?.status == 200);
    world.start_control_plane().await?;
    let redirect = json!({ "uri": "/other", "ret_code": 307 });
    let hosts = ["other-1.weft.test"];
    let route = json!({ "uri": "/*", "hosts": hosts, "plugins": { "redirect": redirect } });
    world.put("/apisix/admin/routes/other-1", &route).await?;
    until("the host that was asked for meanwhile", || async {
        let reply = call("other-1.weft.test").await?;
        ensure!(reply.status == 307, "{}", reply.status);
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_workload_may_want_everything_or_some_from_the_start() -> Result<()> {
    let world = World::start().await?;
    for host in ["one", "two"] {
        let upstream = json!({ "type": "roundrobin", "nodes": { "192.0.2.1:80": 1 } });
        let route = json!({ "uri": "/*", "hosts": [host], "upstream": upstream });
        world.put(&format!("/apisix/admin/routes/{host}"), &route).await?;
    }
    let all = Profile::workload("all", &[]).edited(|bootstrap| {
        bootstrap["node"]["metadata"]["weft.dev/discovery"] = json!("all");
    });
    let some = Profile::workload("some", &[]).edited(|bootstrap| {
        bootstrap["node"]["metadata"]["weft.dev/services"] = json!("two");
    });
    for (profile, expected) in [(all, &["allow_any", "one", "two"][..]), (some, &["two"])] {
        let member = Member::start(&world, profile).await?;
        until("the hosts", || async {
            let (clusters, hosts) = held(&member).await?;
            ensure!(hosts.iter().eq(expected), "{hosts:?}");
            ensure!(clusters.contains("route/two"), "{clusters:?}");
            ensure!(clusters.contains("route/one") == (expected.len() > 1), "{clusters:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
