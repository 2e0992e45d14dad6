//! What a namespace's bodies must look like: a JSON Schema (2020-12 unless it names another draft), compiled once.
//!
//! The schema is the operator's, the body is anybody's. So regular expressions run in linear time, nothing outside the schema is
//! fetched, a reference that leads back to itself without going deeper is refused at the start, and a fault names the place and
//! the rule, never the value.

use std::collections::{BTreeMap, BTreeSet};

use fireside_core::namespace::Schema;
use jsonschema::{PatternOptions, Validator};
use serde::Serialize;
use serde_json::Value;

/// Bytes of a schema's file.
pub const SCHEMA_BYTES_MAX: usize = 256 * 1024;
/// Faults told about one body.
const FAULTS_MAX: usize = 8;
/// Bytes of a path or message in a fault.
const FAULT_TEXT_BYTES_MAX: usize = 200;
/// Bytes of one compiled regular expression, and of the states that it may build while it runs.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A compiled JSON Schema.
pub struct JsonSchema(Validator);

/// One thing that is wrong with a body.
#[derive(Serialize)]
struct Fault {
    /// JSON Pointer into the body.
    path: String,
    /// The keyword of the schema.
    keyword: String,
    message: String,
}

impl JsonSchema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// A clause on the schema that says what is wrong with it.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        refuse_endless(schema)?;
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            .should_validate_formats(true)
            .build(schema)
            .map(JsonSchema)
            .map_err(|e| match e.schema_path().as_str() {
                "" => format!("is no JSON Schema that can be used: {e}"),
                path => format!("is no JSON Schema that can be used: {e} at {path}"),
            })
    }
}

impl Schema for JsonSchema {
    fn check(&self, body: &[u8]) -> Result<(), String> {
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(_) => {
                return Err(told(&[Fault {
                    path: String::new(),
                    keyword: "json".to_owned(),
                    message: "the body is not one JSON value".to_owned(),
                }]));
            }
        };
        if self.0.is_valid(&value) {
            return Ok(());
        }
        let faults: Vec<Fault> = self
            .0
            .iter_errors(&value)
            .take(FAULTS_MAX)
            .map(|e| Fault {
                path: bounded(e.instance_path().as_str()),
                keyword: bounded(e.kind().keyword()),
                message: bounded(&e.masked_with("the value").to_string()),
            })
            .collect();
        Err(told(&faults))
    }
}

fn told(faults: &[Fault]) -> String {
    serde_json::to_string(faults).unwrap_or_else(|_| "[]".to_owned())
}

fn bounded(text: &str) -> String {
    match text
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= FAULT_TEXT_BYTES_MAX)
        .last()
    {
        Some(end) if end < text.len() => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

/// Refuses a schema in which a reference leads back to where it stands before the check has gone deeper into the body: to check
/// one value against it would never end.
fn refuse_endless(root: &Value) -> Result<(), String> {
    let mut places = Places::default();
    places.collect(root);
    let mut done = BTreeSet::new();
    for start in std::iter::once("#").chain(places.references.iter().copied()) {
        places.walk(root, start, &mut Vec::new(), &mut done)?;
    }
    Ok(())
}

/// Where references lead within one schema.
#[derive(Default)]
struct Places<'a> {
    /// Every `$ref` and `$dynamicRef`, as written.
    references: BTreeSet<&'a str>,
    /// Subschemas by their anchor or id, as a reference names them.
    named: BTreeMap<String, &'a Value>,
}

impl<'a> Places<'a> {
    fn collect(&mut self, value: &'a Value) {
        match value {
            Value::Object(map) => {
                self.references.extend(references_of(map));
                for key in ["$anchor", "$dynamicAnchor"] {
                    let name = map.get(key).and_then(Value::as_str);
                    self.named.extend(name.map(|name| (format!("#{name}"), value)));
                }
                self.named.extend(map.get("$id").and_then(Value::as_str).map(|id| (id.to_owned(), value)));
                map.values().for_each(|value| self.collect(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.collect(value)),
            _ => {}
        }
    }

    fn target(&self, root: &'a Value, reference: &str) -> Option<&'a Value> {
        match reference.strip_prefix('#') {
            Some("") => Some(root),
            Some(pointer) if pointer.starts_with('/') => root.pointer(pointer),
            _ => self.named.get(reference).copied(),
        }
    }

    fn walk(
        &self,
        root: &'a Value,
        reference: &'a str,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Result<(), String> {
        if path.contains(&reference) {
            return Err(format!("has a $ref that leads back to itself: {reference}"));
        }
        // What is not found here is for the compiler to complain about.
        let Some(schema) = self.target(root, reference).filter(|_| !done.contains(reference)) else {
            return Ok(());
        };
        path.push(reference);
        let mut onward = Vec::new();
        same_value_references(schema, &mut onward);
        onward.into_iter().try_for_each(|next| self.walk(root, next, path, done))?;
        path.pop();
        done.insert(reference);
        Ok(())
    }
}

fn references_of(map: &serde_json::Map<String, Value>) -> impl Iterator<Item = &str> {
    ["$ref", "$dynamicRef"].into_iter().filter_map(|key| map.get(key)?.as_str())
}

/// The references that are checked against the same value as `schema` itself.
fn same_value_references<'a>(schema: &'a Value, into: &mut Vec<&'a str>) {
    let Value::Object(map) = schema else { return };
    into.extend(references_of(map));
    for key in ["allOf", "anyOf", "oneOf"] {
        map.get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .for_each(|s| same_value_references(s, into));
    }
    for key in ["not", "if", "then", "else"] {
        map.get(key).into_iter().for_each(|s| same_value_references(s, into));
    }
    let dependent = map.get("dependentSchemas").and_then(Value::as_object);
    dependent.into_iter().flat_map(serde_json::Map::values).for_each(|s| same_value_references(s, into));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(schema: &Value, body: &str) -> Vec<Value> {
        let schema = JsonSchema::compile(schema).unwrap();
        match schema.check(body.as_bytes()) {
            Ok(()) => Vec::new(),
            Err(list) => serde_json::from_str(&list).unwrap(),
        }
    }

    fn paragraph() -> Value {
        json!({
            "type": "object",
            "required": ["type", "text"],
            "properties": {
                "type": {"enum": ["paragraph", "title"]},
                "text": {"type": "string", "maxLength": 10, "pattern": "^[a-z ]*$"},
            },
            "additionalProperties": false,
        })
    }

    #[test]
    fn a_fault_names_the_place_and_the_rule_but_not_the_value() {
        assert!(faults(&paragraph(), r#"{"type":"title","text":"a b"}"#).is_empty());
        let told = faults(&paragraph(), r#"{"type":"title","text":"SECRET"}"#);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0]["path"].as_str(), told[0]["keyword"].as_str()), (Some("/text"), Some("pattern")));
        assert!(!told[0]["message"].as_str().unwrap().contains("SECRET"), "{told:?}");
        assert_eq!(faults(&paragraph(), "{")[0]["keyword"], "json");
        assert_eq!(faults(&paragraph(), "{} {}")[0]["keyword"], "json");
    }

    #[test]
    fn c3_a_refusal_is_bounded() {
        let schema = json!({"type": "array", "items": {"type": "string"}});
        let body = serde_json::to_string(&vec![1; 10_000]).unwrap();
        assert_eq!(faults(&schema, &body).len(), FAULTS_MAX);
        let deep = format!(r#"{{"{}":1}}"#, "é".repeat(5_000));
        let told = faults(&json!({"additionalProperties": {"type": "string"}}), &deep);
        assert!(told[0].to_string().len() < 4 * FAULT_TEXT_BYTES_MAX, "{}", told[0].to_string().len());
        let told = faults(&json!({"additionalProperties": false}), &deep);
        assert!(told[0].to_string().len() < 4 * FAULT_TEXT_BYTES_MAX, "{}", told[0].to_string().len());
    }

    #[test]
    fn c3_a_pattern_that_would_backtrack_is_linear() {
        let schema = json!({"pattern": "^(a+)+$"});
        let body = format!("\"{}!\"", "a".repeat(60_000));
        // With a backtracking engine this never ends.
        assert_eq!(faults(&schema, &body).len(), 1);
    }

    #[test]
    fn c3_a_pattern_beyond_the_linear_engine_or_too_large_is_refused() {
        for pattern in ["(?=a)b", r"(a)\1", "(a{1000}){1000}"] {
            let why = JsonSchema::compile(&json!({"properties": {"x": {"pattern": pattern}}})).err();
            assert!(
                why.as_ref().is_some_and(|w| w.starts_with("is no JSON Schema that can be used")),
                "{pattern}: {why:?}"
            );
        }
    }

    #[test]
    fn c3_nothing_is_fetched() {
        for reference in
            ["http://127.0.0.1:9/x.json", "https://example.org/x", "file:///etc/passwd", "other.json"]
        {
            assert!(JsonSchema::compile(&json!({"$ref": reference})).is_err(), "{reference}");
        }
    }

    #[test]
    fn c3_a_reference_that_never_goes_deeper_is_refused() {
        let endless = [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
            json!({"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"if": {"$ref": "#/$defs/a"}}}}),
            json!({"$anchor": "me", "oneOf": [{"$ref": "#me"}]}),
            json!({"$dynamicAnchor": "me", "dependentSchemas": {"x": {"$dynamicRef": "#me"}}}),
            json!({"$id": "https://example.org/me", "else": {"$ref": "https://example.org/me"}}),
        ];
        for schema in endless {
            let why = JsonSchema::compile(&schema).err().unwrap_or_default();
            assert!(why.starts_with("has a $ref that leads back to itself"), "{schema}: {why}");
        }
        let tree =
            json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": false});
        assert!(faults(&tree, r#"{"next":{"next":{}}}"#).is_empty());
        assert_eq!(faults(&tree, r#"{"next":{"next":{"x":1}}}"#).len(), 1);
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        assert!(JsonSchema::compile(&json!({"type": "strin"})).is_err());
        assert!(JsonSchema::compile(&json!([1])).is_err());
    }
}
