//! When a goal is met, missed, or can't be judged.

use super::*;

const LESS: Goal = peers("work", "http1", Metric::Cpu, &[Haproxy, Nginx], AtMost(0.95));
const MORE: Goal = peers("work", "grpc-stream", Metric::MessagesPerCpu, &[Envoy], AtLeast(2.0));
const OWN: Goal = own("work", "idle", Metric::Resident, AtMost(10.0));

fn results(goal: &Goal, values: &[(ProxyKind, f64)]) -> Results {
    let mut results = Results::default();
    for (proxy, value) in values {
        let sample = Sample::default().with(goal.metric, *value);
        results.samples.entry((goal.workload, *proxy)).or_default().push(sample);
    }
    results
}

fn verdict(goal: &Goal, values: &[(ProxyKind, f64)]) -> Verdict {
    goal.judge(&results(goal, values)).verdict
}

#[test]
fn the_better_of_two_peers_counts() {
    let values = [(ProxyKind::Weft, 19.0), (Haproxy, 20.0), (Nginx, 40.0)];
    let judged = LESS.judge(&results(&LESS, &values));
    assert_eq!(judged.ratio, Some(0.95));
    assert_eq!(judged.verdict, Verdict::Pass);
    assert_eq!(
        verdict(&LESS, &[(ProxyKind::Weft, 20.0), (Haproxy, 40.0), (Nginx, 20.0)]),
        Verdict::Short
    );
}

#[test]
fn a_missing_peer_is_never_a_pass() {
    assert_eq!(
        verdict(&LESS, &[(ProxyKind::Weft, 1.0), (Haproxy, 20.0)]),
        Verdict::Open(vec![Nginx])
    );
    assert_eq!(verdict(&MORE, &[(ProxyKind::Weft, 9.0)]), Verdict::Open(vec![Envoy]));
}

#[test]
fn a_peer_that_failed_in_one_round_is_never_a_pass() {
    let mut results = results(&MORE, &[(ProxyKind::Weft, 20.0), (Envoy, 10.0)]);
    results.failures.insert((MORE.workload, Envoy), "it ended".to_owned());
    assert_eq!(MORE.judge(&results).verdict, Verdict::Open(vec![Envoy]));
}

#[test]
fn a_run_without_weft_is_never_a_pass() {
    assert_eq!(verdict(&MORE, &[(Envoy, 1.0)]), Verdict::Open(vec![ProxyKind::Weft]));
    assert_eq!(verdict(&OWN, &[]), Verdict::Open(vec![ProxyKind::Weft]));
}

#[test]
fn more_is_better_where_the_limit_is_a_floor() {
    assert_eq!(verdict(&MORE, &[(ProxyKind::Weft, 20.0), (Envoy, 10.0)]), Verdict::Pass);
    assert_eq!(verdict(&MORE, &[(ProxyKind::Weft, 19.9), (Envoy, 10.0)]), Verdict::Short);
}

#[test]
fn a_number_that_nothing_came_of_is_not_measured() {
    let values = [(ProxyKind::Weft, f64::NAN), (Envoy, 10.0)];
    assert_eq!(verdict(&MORE, &values), Verdict::Open(vec![ProxyKind::Weft]));
}

#[test]
fn a_limit_for_the_number_itself_needs_no_peer() {
    assert_eq!(verdict(&OWN, &[(ProxyKind::Weft, 10.0)]), Verdict::Pass);
    assert_eq!(verdict(&OWN, &[(ProxyKind::Weft, 10.1)]), Verdict::Short);
}

#[test]
fn every_goal_has_a_workload_that_its_peers_can_do() {
    let workloads = crate::workload::all();
    for goal in GOALS {
        let workload = workloads.iter().find(|workload| workload.name() == goal.workload);
        let workload = workload.unwrap_or_else(|| panic!("{} has no workload", goal.work));
        assert!(workload.suits(ProxyKind::Weft), "{}", goal.work);
        if let Best(peers) = goal.against {
            assert!(peers.iter().all(|peer| workload.suits(*peer)), "{}", goal.work);
        }
    }
}
