//! AdmissionReview documents (admission.k8s.io v1 and v1beta1) in, the same out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use weft_inject::{Decision, Settings, inject};

/// Warnings that Kubernetes would cut are cut here, with an ellipsis.
const WARNING_LENGTH: usize = 240;
/// Longest text in a refusal; annotations can be large.
const MESSAGE_LENGTH: usize = 1024;

/// What is sent back.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// An AdmissionReview with a response.
    Review(Value),
    /// A Status: what came in has no `request.uid` to answer to.
    Malformed(Value),
}

/// Answers a review. Whatever comes in, there is an answer.
#[must_use]
pub fn answer(body: &[u8], settings: &Settings) -> Answer {
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return malformed(&format!("the body is no JSON: {error}")),
    };
    let Some(version @ ("admission.k8s.io/v1" | "admission.k8s.io/v1beta1")) =
        review["apiVersion"].as_str()
    else {
        return malformed("apiVersion is none of admission.k8s.io/v1 and v1beta1");
    };
    if review["kind"] != "AdmissionReview" {
        return malformed("kind is not AdmissionReview");
    }
    let request = &review["request"];
    let Some(uid) = request["uid"].as_str().filter(|uid| !uid.is_empty()) else {
        return malformed("request.uid is missing");
    };
    let mut response = respond(request, settings);
    response.insert("uid".to_owned(), json!(uid));
    Answer::Review(json!({
        "apiVersion": version,
        "kind": "AdmissionReview",
        "response": response,
    }))
}

fn malformed(reason: &str) -> Answer {
    Answer::Malformed(json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "reason": "BadRequest",
        "code": 400,
        "message": reason,
    }))
}

fn respond(request: &Value, settings: &Settings) -> Map<String, Value> {
    if !concerns_new_pod(request) {
        return allowed();
    }
    let pod = &request["object"];
    // The pod of a template has no namespace of its own yet; the request has.
    let told = request["namespace"].as_str().or_else(|| pod["metadata"]["namespace"].as_str());
    let namespace = told.filter(|name| !name.is_empty()).unwrap_or("default");
    let name =
        pod["metadata"]["name"].as_str().or_else(|| pod["metadata"]["generateName"].as_str());
    let name = name.unwrap_or("?");
    match inject(pod, namespace, settings) {
        Ok(decision) => {
            match &decision.skipped {
                None => tracing::info!(namespace, name, "injected"),
                Some(reason) => tracing::info!(namespace, name, %reason, "left as it is"),
            }
            decided(pod, &decision)
        }
        Err(refusal) => {
            tracing::warn!(namespace, name, %refusal, "refused");
            refused(&refusal.to_string())
        }
    }
}

/// Everything else passes: it is not the webhook's to judge.
fn concerns_new_pod(request: &Value) -> bool {
    let resource = &request["resource"];
    let is_pod =
        resource["resource"] == "pods" && resource["group"].as_str().unwrap_or_default().is_empty();
    let is_sub = request["subResource"].as_str().is_some_and(|name| !name.is_empty());
    is_pod && !is_sub && request["operation"].as_str().is_none_or(|one| one == "CREATE")
}

fn allowed() -> Map<String, Value> {
    Map::from_iter([("allowed".to_owned(), json!(true))])
}

fn decided(pod: &Value, decision: &Decision) -> Map<String, Value> {
    let mut response = allowed();
    let patch = decision.patch(pod);
    if !patch.is_empty() {
        match serde_json::to_vec(&patch) {
            Ok(patch) => {
                response.insert("patchType".to_owned(), json!("JSONPatch"));
                response.insert("patch".to_owned(), json!(STANDARD.encode(patch)));
            }
            Err(error) => return refused(&format!("the patch can't be written: {error}")),
        }
    }
    if !decision.warnings.is_empty() {
        let warnings = decision.warnings.iter().map(|text| cut(text, WARNING_LENGTH));
        response.insert("warnings".to_owned(), warnings.collect());
    }
    response
}

fn refused(reason: &str) -> Map<String, Value> {
    let message = format!("weft: {}", cut(reason, MESSAGE_LENGTH));
    let status =
        json!({ "status": "Failure", "message": message, "reason": "Invalid", "code": 422 });
    Map::from_iter([("allowed".to_owned(), json!(false)), ("status".to_owned(), status)])
}

fn cut(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
