//! From a file's text to resources.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use weft_control_model::{Change, ResourceId, ResourceKey, ResourceKind, Resources};

use super::{Declared, Format};

/// The last line of a complete YAML file.
const END: &str = "#END";

/// What stands below a name at the top.
enum Section {
    /// The items, each with its line, as far as that is known.
    Items(Vec<(Option<u64>, Value)>),
    /// Weft's `mesh`.
    Fields(Map<String, Value>),
    /// A number such as `routes_conf_version`, text, nothing.
    Other,
}

pub(super) fn parse(
    text: &str,
    format: Format,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Declared, String> {
    let text = substitute(text, variable)?;
    let sections: BTreeMap<String, Section> = match format {
        Format::Json => serde_json::from_str(&text).map_err(|error| error.to_string())?,
        Format::Yaml => {
            if text.lines().rev().map(str::trim_end).find(|line| !line.is_empty()) != Some(END) {
                return Err(format!("the last line is not {END}: the file counts as half written"));
            }
            let options = serde_saphyr::options! { budget: None };
            let sections: Option<_> = serde_saphyr::from_str_with_options(&text, options)
                .map_err(|error| error.to_string())?;
            sections.unwrap_or_default()
        }
    };
    let mut declared = Declared::default();
    for (name, section) in sections {
        let kind = ResourceKind::ALL.into_iter().find(|kind| kind.directory() == name);
        match (kind, section) {
            (Some(ResourceKind::Mesh), Section::Fields(fields)) => {
                declared.add("mesh", ResourceKey::mesh(), Value::Object(fields));
            }
            (Some(kind), Section::Items(items)) if kind != ResourceKind::Mesh => {
                for (index, (line, item)) in items.into_iter().enumerate() {
                    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
                    let place = format!("{line}{name}[{index}]");
                    match identify(kind, index, item) {
                        Ok((key, value)) => declared.add(&place, key, value),
                        Err(reason) => declared.problems.push(format!("{place}: {reason}")),
                    }
                }
            }
            (Some(_), Section::Items(_) | Section::Fields(_)) => {
                let shape = if name == "mesh" { "fields" } else { "a list" };
                declared.problems.push(format!("{name}: not {shape}"));
            }
            (_, Section::Other) => {}
            (None, _) if matches!(name.as_str(), "plugins" | "stream_plugins") => {}
            (None, _) => declared.problems.push(format!("{name}: no kind of resource")),
        }
    }
    Ok(declared)
}

impl Declared {
    fn add(&mut self, place: &str, key: ResourceKey, value: Value) {
        let change =
            Change { key: key.clone(), value: Some(value.clone()), created: 1, modified: 1 };
        if let Err(error) = Resources::default().apply(&change) {
            self.problems.push(format!("{place} ({key}): {error}"));
            self.doubtful.push(key);
            return;
        }
        match self.resources.entry(key) {
            Entry::Vacant(free) => drop(free.insert(value)),
            Entry::Occupied(taken) => {
                let key = taken.key();
                let problem = format!("{place} ({key}): the id stands twice; the first holds");
                self.problems.push(problem);
            }
        }
    }
}

/// The key of an item and the value as it is stored. An item without an id
/// is called after its place, as APISIX does it.
fn identify(kind: ResourceKind, index: usize, item: Value) -> Result<(ResourceKey, Value), String> {
    let Value::Object(mut fields) = item else {
        return Err("not fields".to_owned());
    };
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let is_consumer = kind == ResourceKind::Consumer;
    let username = || fields.get("username").filter(|_| is_consumer);
    let id = fields.get("id").or_else(username);
    let id = id.map_or_else(|| format!("arr_{}", index + 1), plain);
    let key = ResourceKey::parse(&format!("{}{id}", kind.prefix()));
    let key = key.ok_or_else(|| format!("{id:?} is no id"))?;
    // A consumer is known by its name alone.
    if key.kind != ResourceKind::Consumer || fields.contains_key("id") {
        let last = stored_id(key.kind, &key.id);
        let given = fields.entry("id").or_insert_with(|| last.into());
        if plain(given) != last {
            *given = last.into();
        }
    }
    Ok((key, Value::Object(fields)))
}

/// A credential knows only its own id, not its consumer's.
fn stored_id(kind: ResourceKind, id: &ResourceId) -> &str {
    match kind {
        ResourceKind::Credential => id.as_str().rsplit('/').next().unwrap_or_default(),
        _ => id.as_str(),
    }
}

fn substitute(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        let Some((name, behind)) = after.split_once("}}") else { break };
        let (name, default) = match name.split_once(":=") {
            Some((name, default)) => (name, Some(default.trim())),
            None => (name, None),
        };
        let name = name.trim();
        let value = variable(name).or_else(|| default.map(str::to_owned));
        whole.push_str(before);
        whole += &value.ok_or_else(|| {
            let line = text.len() - rest.len() + before.len();
            let line = text[..line].lines().count().max(1);
            format!("line {line}: the environment has no {name}")
        })?;
        rest = behind;
    }
    whole.push_str(rest);
    Ok(whole)
}

impl<'de> Deserialize<'de> for Section {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Sections)
    }
}

struct Sections;

impl<'de> Visitor<'de> for Sections {
    type Value = Section;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of resources")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Section, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element::<Placed>()? {
            all.push((item.0.defined.line(), item.0.value));
        }
        let placed = |(line, value): (u64, Value)| (Some(line).filter(|line| *line > 0), value);
        Ok(Section::Items(all.into_iter().map(placed).collect()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Section, A::Error> {
        let mut all = Map::new();
        while let Some((name, value)) = fields.next_entry()? {
            all.insert(name, value);
        }
        Ok(Section::Fields(all))
    }

    fn visit_unit<E>(self) -> Result<Section, E> {
        Ok(Section::Other)
    }

    fn visit_none<E>(self) -> Result<Section, E> {
        Ok(Section::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Section, E> {
        Ok(Section::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Section, E> {
        Ok(Section::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Section, E> {
        Ok(Section::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Section, E> {
        Ok(Section::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Section, E> {
        Ok(Section::Other)
    }
}

/// A value with its place; line 0 where the reader knows none.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Placed(Spanned<Value>);
