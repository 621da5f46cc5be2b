//! A translator that follows many changes gives what a new one gives.

use serde_json::{Value, json};
use weft_translate::{Settings, StreamPort};
use weft_xds_ads::{NodeResources, ResourceType};

use super::support::World;

/// A sequence that looks random and is always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % sides
    }

    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[usize::try_from(self.below(texts.len() as u64)).expect("few")]
    }
}

const HOSTS: [&str; 6] = ["a.demo", "b.demo", "c.example.com", "*.example.com", "*demo", ""];

fn route(dice: &mut Dice) -> Value {
    let mut route = json!({"uri": dice.one_of(&["/", "/*", "/x*"]), "priority": dice.below(3)});
    let host = dice.one_of(&HOSTS);
    if !host.is_empty() {
        route["hosts"] = json!([host]);
    }
    let labels = json!({"weft.dev/scope": dice.one_of(&["mesh", "edge", "everywhere"])});
    route["labels"] = labels;
    if dice.below(4) == 0 {
        route["labels"]["weft.dev/ports"] = json!(dice.one_of(&["80", "81,82", "none"]));
    }
    match dice.below(4) {
        0 => route["upstream_id"] = json!(dice.one_of(&["u1", "u2"])),
        1 => route["upstream"] = upstream(dice),
        _ => route["service_id"] = json!(dice.one_of(&["s1", "s2"])),
    }
    match dice.below(4) {
        0 => route["plugins"] = json!({"key-auth": {}}),
        1 => {
            let shares = json!([{"upstream_id": dice.one_of(&["u1", "u2"])}, {"weight": 2}]);
            let rules = json!([{"weighted_upstreams": shares}]);
            route["plugins"] = json!({"traffic-split": {"rules": rules}});
        }
        _ => {}
    }
    if dice.below(5) == 0 {
        route["plugin_config_id"] = json!("p1");
    }
    if dice.below(6) == 0 {
        route["status"] = json!(0);
    }
    route
}

fn upstream(dice: &mut Dice) -> Value {
    if dice.below(3) == 0 {
        return json!({"discovery_type": "mesh", "service_name": "demo/greeter:80"});
    }
    let scheme = dice.one_of(&["http", "http", "tcp"]);
    json!({"scheme": scheme, "nodes": {format!("192.0.2.{}:80", 1 + dice.below(4)): 1}})
}

fn service(dice: &mut Dice) -> Value {
    let mut service = json!({"hosts": [dice.one_of(&["s.demo", "t.demo", "a.demo"])]});
    if dice.below(3) == 0 {
        service["labels"] = json!({"weft.dev/ports": "5432"});
    }
    match dice.below(3) {
        0 => service["upstream_id"] = json!(dice.one_of(&["u1", "u2"])),
        1 => service["upstream"] = upstream(dice),
        _ => {}
    }
    service
}

/// Changes something.
fn step(world: &mut World, dice: &mut Dice) {
    let (key, value) = match dice.below(12) {
        0..5 => (format!("routes/r{}", dice.below(8)), route(dice)),
        5..7 => (format!("services/s{}", 1 + dice.below(2)), service(dice)),
        7..9 => (format!("upstreams/u{}", 1 + dice.below(2)), upstream(dice)),
        9 => {
            let upstream = json!({"nodes": {"192.0.2.9:9": 1}});
            let port = 9100 + dice.below(2);
            (
                format!("stream_routes/t{}", dice.below(3)),
                json!({"server_port": port, "upstream": upstream}),
            )
        }
        10 => {
            let plugins = json!({"ip-restriction": {"whitelist": [dice.one_of(&["::1", "::2"])]}});
            (
                dice.one_of(&["plugin_configs/p1", "global_rules/g1"]).to_owned(),
                json!({"plugins": plugins}),
            )
        }
        _ => {
            let hosts = [1, 2 + u8::try_from(dice.below(3)).expect("few")];
            world.runs("demo/greeter:80", "", &hosts, 80);
            return;
        }
    };
    if dice.below(4) == 0 {
        world.delete(&key);
    } else {
        world.put(&key, value);
    }
}

const NAMES: [&str; 9] = [
    "80/a.demo",
    "80/b.demo",
    "80/c.example.com",
    "80/demo",
    "80/s.demo",
    "81/t.demo",
    "80/elsewhere",
    "80/a.demo:80",
    "80/240.240.0.1",
];

fn same(followed: &NodeResources, new: &NodeResources, what: &str) {
    for (kind, set) in new.iter() {
        assert_eq!(followed.of(kind).resources, set.resources, "{what}: {kind}");
        for name in NAMES {
            let of = |sent: &NodeResources| sent.of(kind).named(name).map(|one| one.body.clone());
            assert_eq!(of(followed), of(new), "{what}: {kind} {name}");
        }
    }
}

#[test]
fn a_translator_that_followed_gives_what_a_new_one_gives() {
    let ports = [(9100, false), (9101, true)];
    let stream_ports = ports.map(|(port, tls)| StreamPort { port, tls }).to_vec();
    let mut world = World::with(Settings { stream_ports, ..Settings::default() });
    let mut dice = Dice(7);
    for turn in 0..600 {
        step(&mut world, &mut dice);
        if dice.below(3) == 0 {
            continue;
        }
        let followed = (world.sidecar(&[(80, "http")]), world.edge(), world.lean(&[], &["a.demo"]));
        let problems = world.problems();
        let hosts = world.translator.hosts();
        let mut fresh = world.begun_anew();
        let new = (fresh.sidecar(&[(80, "http")]), fresh.edge(), fresh.lean(&[], &["a.demo"]));
        same(&followed.0, &new.0, &format!("turn {turn}, a sidecar"));
        same(&followed.1, &new.1, &format!("turn {turn}, an edge"));
        same(&followed.2, &new.2, &format!("turn {turn}, one that asks"));
        assert_eq!(problems, fresh.problems(), "turn {turn}");
        assert_eq!(hosts, fresh.translator.hosts(), "turn {turn}");
        world.take_back(fresh);
    }
    assert!(world.edge().of(ResourceType::Listener).resources.len() > 1, "streams are served");
}
