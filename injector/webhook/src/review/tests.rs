use proptest::prelude::*;

use super::*;

fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "object": pod,
            "dryRun": false,
        },
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-", "annotations": {"proxy.istio.io/config": "concurrency: 1"}},
        "spec": {
            "containers": [{
                "name": "app", "image": "web:1", "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": 80}},
            }],
            "volumes": [{"name": "x", "emptyDir": {}}],
        },
    })
}

fn answer_to(review: &Value) -> Answer {
    answer(review.to_string().as_bytes(), &Settings::default())
}

/// The response, checked for the form that Kubernetes asks for.
fn response(answer: Answer, uid: &str) -> Value {
    let Answer::Review(review) = answer else { panic!("no review: {answer:?}") };
    assert_eq!(review["kind"], "AdmissionReview");
    let response = review["response"].clone();
    assert_eq!(response["uid"], uid);
    let allowed = response["allowed"].as_bool().unwrap();
    assert_eq!(response.get("patch").is_some(), response.get("patchType").is_some());
    if !allowed {
        assert!(response.get("patch").is_none());
        assert!(!response["status"]["message"].as_str().unwrap().is_empty());
    }
    response
}

fn patched(pod: &Value, response: &Value) -> Value {
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

#[test]
fn a_pod_is_patched_in_both_versions() {
    for version in ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"] {
        let mut review = review(&pod());
        review["apiVersion"] = json!(version);
        let Answer::Review(whole) = answer_to(&review) else { panic!("no review") };
        assert_eq!(whole["apiVersion"], version);
        let response = response(Answer::Review(whole), UID);
        let pod = patched(&pod(), &response);
        assert_eq!(pod["spec"]["initContainers"][1]["name"], "weft-proxy");
    }
}

#[test]
fn a_refusal_names_the_annotation() {
    let mut pod = pod();
    pod["metadata"]["annotations"]["weft.dev/proxyCPU"] = json!("much");
    let response = response(answer_to(&review(&pod)), UID);
    assert_eq!(response["allowed"], false);
    assert!(response["status"]["message"].as_str().unwrap().contains("weft.dev/proxyCPU"));
}

#[test]
fn what_is_not_the_webhooks_passes_whatever_it_is() {
    let mut broken = review(&json!({"spec": 7}));
    broken["request"]["namespace"] = json!("kube-system");
    let mut other = review(&json!({"spec": 7}));
    other["request"]["resource"] =
        json!({"group": "apps", "version": "v1", "resource": "deployments"});
    let mut update = review(&json!({"spec": 7}));
    update["request"]["operation"] = json!("UPDATE");
    let mut eviction = review(&json!({"spec": 7}));
    eviction["request"]["subResource"] = json!("eviction");
    for review in [broken, other, update, eviction] {
        let response = response(answer_to(&review), UID);
        assert_eq!(response["allowed"], true);
        assert!(response.get("patch").is_none());
    }
}

#[test]
fn what_cannot_be_answered_to_is_told_so() {
    for body in ["", "{", "[]", "null", "{\"kind\":\"AdmissionReview\"}", "\u{0}"] {
        let Answer::Malformed(status) = answer(body.as_bytes(), &Settings::default()) else {
            panic!("{body}")
        };
        assert_eq!((&status["kind"], &status["code"]), (&json!("Status"), &json!(400)));
    }
}

/// A value of any shape.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("name|image|port|containers|\\PC{0,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// All places of a document.
fn places(value: &Value, path: &str, all: &mut Vec<String>) {
    all.push(path.to_owned());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{path}/{key}"), all);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                places(value, &format!("{path}/{at}"), all);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_pod_with_anything_anywhere_gets_a_well_formed_answer(
        place in any::<prop::sample::Index>(),
        value in anything(),
        cut in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let mut review = review(&pod());
        let mut all = Vec::new();
        places(&review, "", &mut all);
        *review.pointer_mut(&all[place.index(all.len())]).unwrap() = value;
        let mut body = review.to_string().into_bytes();
        if truncate {
            body.truncate(cut.index(body.len() + 1));
        }
        let uid = review["request"]["uid"].as_str().unwrap_or_default().to_owned();
        match answer(&body, &Settings::default()) {
            Answer::Malformed(status) => prop_assert_eq!(&status["code"], &json!(400)),
            whole => {
                let response = response(whole, &uid);
                if response.get("patch").is_some() {
                    patched(&review["request"]["object"], &response);
                }
            }
        }
    }
}
