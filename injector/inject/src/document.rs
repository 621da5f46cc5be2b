//! Files with Kubernetes' objects: the pods and the templates of pods in them.

use serde_json::{Value, json};

use crate::options::Refusal;
use crate::settings::Settings;
use crate::{Decision, inject};

/// A file that can't be injected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is no YAML.
    #[error("{0}")]
    Syntax(String),
    /// A pod in it asks for what can't be done.
    #[error("{object}: {refusal}")]
    Refused {
        /// Kind and name.
        object: String,
        /// Why.
        refusal: Refusal,
    },
}

/// An injected file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// The documents as YAML, parted by `---`.
    pub yaml: String,
    /// What became of each pod or template: kind and name, and why it was skipped if it was.
    pub outcomes: Vec<(String, Option<String>)>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// Adds the sidecar to the pods and templates of pods in a file of YAML or JSON documents, in
/// `namespace` unless an object names its own. Other objects stay what they are.
///
/// # Errors
/// [`DocumentError`] with the object and the reason.
pub fn inject_documents(
    text: &str,
    namespace: &str,
    settings: &Settings,
) -> Result<Injected, DocumentError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| DocumentError::Syntax(error.to_string()))?;
    let mut injector = Injector { namespace, settings, outcomes: Vec::new(), warnings: Vec::new() };
    let mut yaml = Vec::new();
    for mut document in documents.into_iter().filter(|document| !document.is_null()) {
        injector.object(&mut document)?;
        let text = serde_saphyr::to_string(&document)
            .map_err(|error| DocumentError::Syntax(error.to_string()))?;
        yaml.push(text);
    }
    let Injector { outcomes, warnings, .. } = injector;
    Ok(Injected { yaml: yaml.join("---\n"), outcomes, warnings })
}

struct Injector<'a> {
    namespace: &'a str,
    settings: &'a Settings,
    outcomes: Vec<(String, Option<String>)>,
    warnings: Vec<String>,
}

impl Injector<'_> {
    fn object(&mut self, object: &mut Value) -> Result<(), DocumentError> {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "List" => {
                let items = object.get_mut("items").and_then(Value::as_array_mut);
                items.into_iter().flatten().try_for_each(|item| self.object(item))
            }
            "Pod" => {
                let pod = object.clone();
                *object = self.pod(&kind, &pod, &pod)?;
                Ok(())
            }
            "CronJob" => {
                let owner = object.clone();
                match object.pointer_mut("/spec/jobTemplate/spec/template") {
                    Some(template) => self.template("Job", &owner, template),
                    None => Ok(()),
                }
            }
            "Deployment"
            | "StatefulSet"
            | "DaemonSet"
            | "ReplicaSet"
            | "Job"
            | "ReplicationController" => {
                let owner = object.clone();
                match object.pointer_mut("/spec/template") {
                    Some(template) => self.template(&kind, &owner, template),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// A template is a pod that does not know yet whose it is.
    fn template(
        &mut self,
        kind: &str,
        owner: &Value,
        template: &mut Value,
    ) -> Result<(), DocumentError> {
        let mut pod = template.clone();
        if let Some(fields) = pod.as_object_mut() {
            let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
            if metadata.is_null() {
                *metadata = json!({});
            }
        }
        if pod["metadata"].is_object() {
            pod["metadata"]["ownerReferences"] = json!([{
                "apiVersion": owner["apiVersion"],
                "kind": kind,
                "name": owner["metadata"]["name"],
                "controller": true,
            }]);
        }
        let mut injected = self.pod(kind, owner, &pod)?;
        if let Some(metadata) = injected.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("ownerReferences");
        }
        *template = injected;
        Ok(())
    }

    fn pod(&mut self, kind: &str, owner: &Value, pod: &Value) -> Result<Value, DocumentError> {
        let name = owner["metadata"]["name"].as_str().unwrap_or("?");
        let object = format!("{kind} {name}");
        let own = owner["metadata"]["namespace"].as_str();
        let namespace = own.unwrap_or(self.namespace);
        let Decision { pod, skipped, warnings } = inject(pod, namespace, self.settings)
            .map_err(|refusal| DocumentError::Refused { object: object.clone(), refusal })?;
        self.warnings.extend(warnings.iter().map(|warning| format!("{object}: {warning}")));
        self.outcomes.push((object, skipped.map(|reason| reason.to_string())));
        Ok(pod)
    }
}
