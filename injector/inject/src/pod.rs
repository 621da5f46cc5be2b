//! Putting the pod together.

use serde_json::{Value, json};

use crate::container::{self, Told};
use crate::merge::merge;
use crate::options::{PodOptions, Refusal};
use crate::settings::Settings;
use crate::{Decision, INIT_CONTAINER, PROXY_CONTAINER, init, metadata, probes, volumes};

/// The pod's fields that are looked at are what they have to be.
pub(crate) fn check_shape(pod: &Value) -> Result<(), Refusal> {
    let object = |field: &str, value: Option<&Value>, needed: bool| match value {
        None | Some(Value::Null) if !needed => Ok(()),
        Some(Value::Object(_)) => Ok(()),
        _ => Err(Refusal::of(field, "is no object")),
    };
    object("pod", Some(pod), true)?;
    object("metadata", pod.get("metadata"), false)?;
    object("metadata.annotations", pod["metadata"].get("annotations"), false)?;
    object("metadata.labels", pod["metadata"].get("labels"), false)?;
    object("spec", pod.get("spec"), true)?;
    object("spec.securityContext", pod["spec"].get("securityContext"), false)?;
    for list in ["containers", "initContainers", "volumes", "imagePullSecrets"] {
        let field = || format!("spec.{list}");
        match pod["spec"].get(list) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if items.iter().all(Value::is_object) => {}
            Some(_) => return Err(Refusal::of(field(), "is no list of objects")),
        }
    }
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            for probe in ["readinessProbe", "livenessProbe", "startupProbe", "lifecycle"] {
                object(&format!("spec.{list}.{probe}"), container.get(probe), false)?;
            }
        }
    }
    Ok(())
}

/// The injected pod.
pub(crate) fn build(
    before: &Value,
    options: &PodOptions,
    settings: &Settings,
) -> Result<Decision, Refusal> {
    let mut pod = before.clone();
    let own = take_proxy(&mut pod);
    let told = tell(&mut pod, options);
    let mut proxy = container::container(options, settings, &told);
    if let Some(own) = &own {
        merge(&mut proxy, &without_placeholder(own));
    }
    place(&mut pod, options, proxy, init::container(options, settings));
    extend(&mut pod, "volumes", &volumes::volumes(options, settings));
    let secrets = settings.image_pull_secrets.iter().map(|name| json!({ "name": name }));
    extend(&mut pod, "imagePullSecrets", &secrets.collect::<Vec<_>>());
    for name in &options.templates {
        if let Some(template) = settings.templates.get(name) {
            merge(&mut pod, template);
        }
    }
    metadata::write(&mut pod, options, settings);
    metadata::write_status(&mut pod, before, options, settings);
    check_shape(&pod).map_err(|refusal| {
        Refusal::of("templates", format!("the pod would be broken: {refusal}"))
    })?;
    Ok(Decision { pod, skipped: None, warnings: options.warnings.clone() })
}

/// The container that the pod itself has under the proxy's name: it is merged over the mesh's.
fn take_proxy(pod: &mut Value) -> Option<Value> {
    ["containers", "initContainers"].into_iter().find_map(|list| {
        let containers = pod["spec"].get_mut(list)?.as_array_mut()?;
        let at = containers.iter().position(|one| one["name"] == PROXY_CONTAINER)?;
        Some(containers.remove(at))
    })
}

/// The image `auto` stands for the mesh's.
fn without_placeholder(own: &Value) -> Value {
    let mut own = own.clone();
    if let Some(fields) = own.as_object_mut()
        && fields.get("image").is_some_and(|image| image == "auto")
    {
        fields.remove("image");
    }
    own
}

/// What the proxy has to know of the pod, whose probes it takes over.
fn tell(pod: &mut Value, options: &PodOptions) -> Told {
    let scrape = metadata::merge_metrics(pod, options).map(|own| own.to_string());
    let taken = match options.captures() && options.rewrite_probes && options.status_port != 0 {
        true => probes::rewrite(pod, options.status_port),
        false => std::collections::BTreeMap::new(),
    };
    // Probes are made of JSON; nothing in them can fail to be written.
    let probes = (!taken.is_empty()).then(|| serde_json::to_string(&taken).unwrap_or_default());
    let containers = pod["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let ports = containers.iter().filter_map(|one| one["ports"].as_array()).flatten();
    let names = containers.iter().filter_map(|one| one["name"].as_str());
    Told {
        probes,
        scrape,
        ports: Value::Array(ports.cloned().collect()).to_string(),
        containers: names.collect::<Vec<_>>().join(","),
    }
}

/// A native sidecar starts before the pod's own init containers, right after the rules; else the
/// rules come last, since nobody would serve the init containers.
fn place(pod: &mut Value, options: &PodOptions, proxy: Value, rules: Value) {
    let rules = options.captures().then_some(rules);
    if options.native {
        let first = rules.into_iter().chain([proxy]);
        list(pod, "initContainers").splice(0..0, first);
        return;
    }
    if let Some(rules) = rules {
        list(pod, "initContainers").push(rules);
    }
    let containers = list(pod, "containers");
    let at = if options.hold_application { 0 } else { containers.len() };
    containers.insert(at, proxy);
}

fn extend(pod: &mut Value, name: &str, items: &[Value]) {
    if items.is_empty() {
        return;
    }
    let part = json!({ "spec": { name: items } });
    merge(pod, &part);
}

fn list<'a>(pod: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    let field = &mut pod["spec"][name];
    if !field.is_array() {
        *field = json!([]);
    }
    match field {
        Value::Array(items) => items,
        _ => unreachable!("invariant: it was made an array above"),
    }
}

/// Sets an annotation.
pub(crate) fn annotate(pod: &mut Value, name: &str, value: Value) {
    entry(pod, "annotations").insert(name.to_owned(), value);
}

pub(crate) fn annotate_if_absent(pod: &mut Value, name: &str, value: Value) {
    entry(pod, "annotations").entry(name.to_owned()).or_insert(value);
}

pub(crate) fn label_if_absent(pod: &mut Value, name: &str, value: &str) {
    entry(pod, "labels").entry(name.to_owned()).or_insert_with(|| json!(value));
}

fn entry<'a>(pod: &'a mut Value, name: &str) -> &'a mut serde_json::Map<String, Value> {
    let metadata = &mut pod["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    let field = &mut metadata[name];
    if !field.is_object() {
        *field = json!({});
    }
    match field {
        Value::Object(map) => map,
        _ => unreachable!("invariant: it was made an object above"),
    }
}

/// Whether the container with the rules, whose name is the mesh's alone, is there.
pub(crate) fn has_rules(pod: &Value) -> bool {
    let containers = pod["spec"]["initContainers"].as_array();
    containers.into_iter().flatten().any(|one| one["name"] == INIT_CONTAINER)
}
