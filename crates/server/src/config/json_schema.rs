//! `config schema`: the JSON Schema of the file, for editors and checks before a roll-out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::keys;
use super::kind::Kind;
use super::reader::{KeyFact, Reader};
use super::tree::{Item, Node, Origin};

/// The JSON Schema (2020-12) of `fireside.toml`.
pub fn json_schema() -> Value {
    let mut root = Tree::default();
    for fact in facts() {
        root.insert(&fact.path, &fact);
    }
    let mut schema = root.to_schema();
    if let Value::Object(map) = &mut schema {
        map.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        map.insert("title".into(), "fireside.toml".into());
    }
    schema
}

/// What is known of every key.
fn facts() -> Vec<KeyFact> {
    let reader = Reader { describing: true, ..Reader::default() };
    reader.root(Item { node: Node::Table(BTreeMap::new()), origin: Origin::Default }, keys::read);
    reader.facts.into_inner()
}

#[derive(Default)]
struct Tree {
    fact: Option<KeyFact>,
    below: BTreeMap<String, Tree>,
}

impl Tree {
    fn insert(&mut self, path: &str, fact: &KeyFact) {
        let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
        let (head, is_list) = head.strip_suffix("[]").map_or((head, false), |head| (head, true));
        let mut node = self.below.entry(head.to_owned()).or_default();
        if is_list {
            node = node.below.entry("[]".to_owned()).or_default();
        }
        match rest {
            Some(rest) => node.insert(rest, fact),
            None => node.fact = Some(fact.clone()),
        }
    }

    fn to_schema(&self) -> Value {
        let mut schema = match self.fact.as_ref().map(|fact| &fact.kind) {
            None | Some(Kind::Table) => self.to_table(),
            Some(kind) => kind.to_schema(),
        };
        if let (Some(fact), Value::Object(map)) = (&self.fact, &mut schema) {
            map.insert("description".into(), fact.doc.into());
            // Defaults are written as TOML; those of keys are JSON as well.
            let default =
                fact.default.as_ref().and_then(|default| serde_json::from_str::<Value>(default).ok());
            map.extend(default.map(|default| ("default".to_owned(), default)));
        }
        schema
    }

    fn to_table(&self) -> Value {
        if let Some(entry) = self.below.get("[]") {
            return json!({"type": "array", "items": entry.to_schema()});
        }
        if let Some(entry) = self.below.get("*") {
            return json!({"type": "object", "additionalProperties": entry.to_schema()});
        }
        let properties: Map<String, Value> =
            self.below.iter().map(|(key, tree)| (key.clone(), tree.to_schema())).collect();
        json!({"type": "object", "properties": properties, "additionalProperties": false})
    }
}

impl Kind {
    fn to_schema(&self) -> Value {
        match self {
            Kind::Text | Kind::Address | Kind::File => json!({"type": "string"}),
            Kind::Secret => json!({"type": "string", "writeOnly": true}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Whole(range) => {
                json!({"type": "integer", "minimum": range.start(), "maximum": range.end()})
            }
            Kind::Size(_) => json!({"type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$"}),
            Kind::Time(_) => json!({"type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h|d)$"}),
            Kind::Choice(words) => {
                let words: Vec<Value> = words
                    .iter()
                    .map(|word| word.parse::<bool>().map_or_else(|_| (*word).into(), Value::Bool))
                    .collect();
                json!({"enum": words})
            }
            Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
            Kind::Schema => json!({"type": ["string", "object"]}),
            Kind::Table => json!({"type": "object"}),
        }
    }
}
