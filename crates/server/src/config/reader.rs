//! Reads keys out of the tree. Whoever asks for a key says what it is, what it defaults to and what it means; from that one line
//! come the check, the fault's text, `config explain` and the JSON Schema.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::fault::{Fault, nearest};
use super::kind::{Kind, word_literal};
use super::secret::{self, Secret};
use super::tree::{Item, Node, Origin};
use super::units;

/// What is known of a key before any file is read. `*` in the path stands for a name that the user chooses, `[]` for a list's entry.
#[derive(Clone, Debug)]
pub(super) struct KeyFact {
    pub path: String,
    pub kind: Kind,
    pub default: Option<String>,
    pub doc: &'static str,
}

/// One line of `config explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// `session.ping`.
    pub path: String,
    /// The effective value as it would stand in the file; a secret is never shown.
    pub value: String,
    /// Where the value came from.
    pub source: Origin,
    /// What it would be if nobody said anything.
    pub default: String,
    /// What it takes: `time`, `size`, `whole number`, …
    pub unit: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// Collects what is read, and everything that is wrong with it.
#[derive(Default)]
pub(super) struct Reader {
    pub faults: RefCell<Vec<Fault>>,
    pub warnings: RefCell<Vec<String>>,
    pub rows: RefCell<Vec<Explained>>,
    pub facts: RefCell<Vec<KeyFact>>,
    /// No file is read: every key is asked for once, so that its facts are known.
    pub describing: bool,
}

impl Reader {
    /// Reads the whole tree.
    pub fn root<T>(&self, tree: Item, read: impl FnOnce(&Section<'_>) -> T) -> T {
        Section::over(self, String::new(), String::new(), tree).read(read)
    }

    pub fn warn(&self, text: String) {
        self.warnings.borrow_mut().push(text);
    }
}

/// One table of the configuration.
pub(super) struct Section<'a> {
    reader: &'a Reader,
    /// `namespace.story`, and the same with `*` for what the user named.
    path: String,
    pattern: String,
    table: BTreeMap<String, Item>,
    origin: Origin,
    asked: RefCell<Vec<&'static str>>,
}

/// A schema as configured.
pub(super) enum SchemaSource {
    File(PathBuf),
    Inline(serde_json::Value),
}

impl<'a> Section<'a> {
    fn over(reader: &'a Reader, path: String, pattern: String, item: Item) -> Self {
        let Item { node, origin } = item;
        let table = match node {
            Node::Table(table) => table,
            other => {
                let allowed = "a table of keys".to_owned();
                reader.faults.borrow_mut().push(Fault::value(&origin, &path, &other, allowed, None));
                BTreeMap::new()
            }
        };
        Section { reader, path, pattern, table, origin, asked: RefCell::default() }
    }

    /// Runs `read`, then complains about every key that it did not ask for.
    fn read<T>(self, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let result = read(&self);
        let asked = self.asked.borrow();
        for (key, item) in self.table.iter().filter(|(key, _)| !asked.contains(&key.as_str())) {
            self.reader.faults.borrow_mut().push(Fault {
                at: item.origin.clone(),
                what: format!(
                    "{} = {} is not a key of the configuration",
                    self.path_of(key),
                    item.node.show()
                ),
                allowed: Some(asked.join(", ")),
                hint: nearest(key, &asked).map(|near| format!("nearest: {near}")),
            });
        }
        result
    }

    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{}", self.path, quoted(key)) }
    }

    /// A fault of the value of `key` that its kind alone does not show.
    pub fn refuse(&self, key: &str, why: &str, allowed: &str, example: &str) {
        let value = self.table.get(key).map(|item| item.node.show());
        let path = self.path_of(key);
        self.reader.faults.borrow_mut().push(Fault {
            at: self.origin_of(key),
            what: value.map_or_else(|| format!("{path} {why}"), |value| format!("{path} = {value} {why}")),
            allowed: (!allowed.is_empty()).then(|| allowed.to_owned()),
            hint: (!example.is_empty()).then(|| format!("example: {example}")),
        });
    }

    /// A fault of the name that the user chose for this table.
    pub fn refuse_name(&self, why: &str, allowed: &str, example: &str) {
        self.reader.faults.borrow_mut().push(Fault {
            at: self.origin.clone(),
            what: format!("{} {why}", self.path),
            allowed: Some(allowed.to_owned()),
            hint: Some(format!("example: {example}")),
        });
    }

    /// The same for a value that must not be shown.
    pub fn refuse_hidden(&self, key: &str, why: &str, allowed: &str, example: &str) {
        self.reader.faults.borrow_mut().push(Fault {
            at: self.origin_of(key),
            what: format!("{} {why}", self.path_of(key)),
            allowed: Some(allowed.to_owned()),
            hint: Some(format!("example: {example}")),
        });
    }

    /// Where `key` was set, or else its table.
    pub fn origin_of(&self, key: &str) -> Origin {
        self.table.get(key).map_or_else(|| self.origin.clone(), |item| item.origin.clone())
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub fn reader(&self) -> &'a Reader {
        self.reader
    }

    /// A text that may be missing.
    pub fn text(&self, key: &'static str, example: &'static str, doc: &'static str) -> Option<String> {
        self.ask(key, Kind::Text, None, doc, example, as_text, |text| format!("{text:?}"))
    }

    /// A text with a default.
    pub fn text_or(&self, key: &'static str, default: &'static str, doc: &'static str) -> String {
        let shown = Some(format!("{default:?}"));
        self.ask(key, Kind::Text, shown, doc, default, as_text, |text| format!("{text:?}"))
            .unwrap_or_else(|| default.to_owned())
    }

    pub fn boolean(&self, key: &'static str, default: bool, doc: &'static str) -> bool {
        let read = |node: &Node| match node {
            Node::Bool(flag) => Some(*flag),
            Node::Raw(text) => text.parse().ok(),
            _ => None,
        };
        self.ask(key, Kind::Bool, Some(default.to_string()), doc, "true", read, ToString::to_string)
            .unwrap_or(default)
    }

    pub fn whole(
        &self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        doc: &'static str,
    ) -> u64 {
        let bounds = range.clone();
        let read = move |node: &Node| {
            match node {
                Node::Whole(number) => u64::try_from(*number).ok(),
                Node::Raw(text) => text.parse().ok(),
                _ => None,
            }
            .filter(|n| bounds.contains(n))
        };
        let example = default.to_string();
        self.ask(key, Kind::Whole(range), Some(default.to_string()), doc, &example, read, ToString::to_string)
            .unwrap_or(default)
    }

    /// A size in bytes.
    pub fn size(
        &self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        doc: &'static str,
    ) -> u64 {
        let bounds = range.clone();
        let read = move |node: &Node| {
            as_text(node).and_then(|t| units::parse_size(&t)).filter(|n| bounds.contains(n))
        };
        let shown = format!("{:?}", units::format_size(default));
        let example = units::format_size(default);
        self.ask(key, Kind::Size(range), Some(shown), doc, &example, read, |n| {
            format!("{:?}", units::format_size(*n))
        })
        .unwrap_or(default)
    }

    /// A time in ms.
    pub fn time_ms(
        &self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        doc: &'static str,
    ) -> u64 {
        let bounds = range.clone();
        let read = move |node: &Node| {
            as_text(node).and_then(|t| units::parse_time_ms(&t)).filter(|n| bounds.contains(n))
        };
        let shown = format!("{:?}", units::format_time(default));
        let example = units::format_time(default);
        self.ask(key, Kind::Time(range), Some(shown), doc, &example, read, |n| {
            format!("{:?}", units::format_time(*n))
        })
        .unwrap_or(default)
    }

    /// One of `words`; `true` and `false` among them are booleans in the file.
    pub fn choice(
        &self,
        key: &'static str,
        default: &'static str,
        words: &'static [&'static str],
        doc: &'static str,
    ) -> &'static str {
        let read = |node: &Node| {
            let word = match node {
                Node::Bool(flag) => flag.to_string(),
                Node::Text(text) if !matches!(text.as_str(), "true" | "false") => text.clone(),
                Node::Raw(text) => text.clone(),
                _ => return None,
            };
            words.iter().copied().find(|w| *w == word)
        };
        let shown = Some(word_literal(default));
        self.ask(key, Kind::Choice(words), shown, doc, default, read, |word| word_literal(word))
            .unwrap_or(default)
    }

    pub fn address(&self, key: &'static str, default: SocketAddr, doc: &'static str) -> SocketAddr {
        let read = |node: &Node| as_text(node).and_then(|text| text.parse::<SocketAddr>().ok());
        let shown = Some(format!("\"{default}\""));
        let example = default.to_string();
        self.ask(key, Kind::Address, shown, doc, &example, read, |address| format!("\"{address}\""))
            .unwrap_or(default)
    }

    /// A list of texts.
    pub fn texts(&self, key: &'static str, example: &'static str, doc: &'static str) -> Vec<String> {
        let read = |node: &Node| match node {
            Node::List(items) => items.iter().map(|item| as_text(&item.node)).collect::<Option<Vec<_>>>(),
            Node::Raw(text) => {
                Some(text.split(',').map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()).collect())
            }
            _ => None,
        };
        let show = |texts: &Vec<String>| format!("{texts:?}");
        self.ask(key, Kind::Texts, Some("[]".to_owned()), doc, example, read, show).unwrap_or_default()
    }

    /// The path of a file or directory, resolved from where it was set.
    pub fn path(&self, key: &'static str, example: &'static str, doc: &'static str) -> Option<PathBuf> {
        let origin = self.origin_of(key);
        let read =
            move |node: &Node| as_text(node).filter(|t| !t.is_empty()).map(|text| origin.resolve(&text));
        self.ask(key, Kind::File, None, doc, example, read, |path| {
            format!("{:?}", path.display().to_string())
        })
    }

    /// The path of a directory with a default.
    pub fn path_or(&self, key: &'static str, default: &'static str, doc: &'static str) -> PathBuf {
        let origin = self.origin_of(key);
        let read =
            move |node: &Node| as_text(node).filter(|t| !t.is_empty()).map(|text| origin.resolve(&text));
        let shown = Some(format!("{default:?}"));
        let show = |path: &PathBuf| format!("{:?}", path.display().to_string());
        self.ask(key, Kind::File, shown, doc, default, read, show).unwrap_or_else(|| PathBuf::from(default))
    }

    /// A schema: a file's name or a table.
    pub fn schema(
        &self,
        key: &'static str,
        example: &'static str,
        doc: &'static str,
    ) -> Option<SchemaSource> {
        let origin = self.origin_of(key);
        let read = move |node: &Node| match node {
            Node::Table(_) => Some(SchemaSource::Inline(node.to_json())),
            node => {
                as_text(node).filter(|t| !t.is_empty()).map(|text| SchemaSource::File(origin.resolve(&text)))
            }
        };
        let show = |source: &SchemaSource| match source {
            SchemaSource::File(path) => format!("{:?}", path.display().to_string()),
            SchemaSource::Inline(_) => "{…}".to_owned(),
        };
        self.ask(key, Kind::Schema, None, doc, example, read, show)
    }

    /// A secret, given as `key` or in the file that `file_key` names; whichever source is later wins.
    pub fn secret(&self, key: &'static str, file_key: &'static str, doc: &'static str) -> Option<Secret> {
        self.fact(key, Kind::Secret, None, doc);
        self.fact(
            file_key,
            Kind::File,
            None,
            "The file that holds it; one line end at its end is not part of it.",
        );
        let (inline, file) = (self.table.get(key), self.table.get(file_key));
        if let (Some(a), Some(b)) = (inline, file)
            && a.origin.rank() == b.origin.rank()
        {
            self.refuse_hidden(
                key,
                &format!("and {file_key} are both set"),
                "one of the two",
                &example_file(file_key),
            );
            return None;
        }
        let (used, item) = match (inline, file) {
            (Some(inline), Some(file)) if inline.origin.rank() < file.origin.rank() => (file_key, file),
            (Some(inline), _) => (key, inline),
            (None, Some(file)) => (file_key, file),
            (None, None) => {
                let unset = "(not set)".to_owned();
                self.row((self.path_of(file_key), unset.clone(), Origin::Default), unset, "secret", doc);
                return None;
            }
        };
        let Some(text) = as_text(&item.node) else {
            self.refuse_hidden(used, "is not a text", "a text in quotes", &example_file(file_key));
            return None;
        };
        let read = if used == key {
            Ok(Secret::new(text.into_bytes(), None))
        } else {
            secret::read_file(&item.origin.resolve(&text)).map(|(secret, warning)| {
                self.reader.warnings.borrow_mut().extend(warning);
                secret
            })
        };
        match read {
            Ok(secret) if secret.is_empty() => {
                self.refuse_hidden(
                    used,
                    "is empty",
                    "a secret of at least one byte",
                    &example_file(file_key),
                );
                None
            }
            Ok(secret) => {
                let row = (self.path_of(used), secret.shown(), item.origin.clone());
                self.row(row, "(not set)".to_owned(), "secret", doc);
                Some(secret)
            }
            Err(why) => {
                self.refuse(used, &why, "a file that this process can read", &example_file(file_key));
                None
            }
        }
    }

    /// A table; if it is missing, all its keys have their defaults.
    pub fn section<T>(
        &self,
        key: &'static str,
        doc: &'static str,
        read: impl FnOnce(&Section<'_>) -> T,
    ) -> T {
        self.fact(key, Kind::Table, None, doc);
        let item = self.table.get(key).cloned().unwrap_or_else(|| empty(&self.origin));
        self.below(quoted(key), key, item).read(read)
    }

    /// A table that may be missing.
    pub fn optional<T>(
        &self,
        key: &'static str,
        doc: &'static str,
        read: impl FnOnce(&Section<'_>) -> T,
    ) -> Option<T> {
        if self.reader.describing || self.has(key) {
            return Some(self.section(key, doc, read));
        }
        self.fact(key, Kind::Table, None, doc);
        let row = (self.path_of(key), "(not set)".to_owned(), Origin::Default);
        self.row(row, "(not set)".to_owned(), "table", doc);
        None
    }

    /// Tables under names that the user chooses.
    pub fn each<T>(
        &self,
        key: &'static str,
        doc: &'static str,
        read: impl Fn(&str, &Section<'_>) -> T,
    ) -> Vec<T> {
        self.fact(key, Kind::Table, None, doc);
        let item = self.table.get(key).cloned().unwrap_or_else(|| empty(&self.origin));
        let parent = self.below(quoted(key), key, item);
        let mut entries: Vec<(String, Item)> =
            parent.table.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        if self.reader.describing {
            entries.push(("*".to_owned(), empty(&Origin::Default)));
        }
        entries
            .into_iter()
            .map(|(name, item)| parent.below(quoted(&name), "*", item).read(|section| read(&name, section)))
            .collect()
    }

    /// A list of tables.
    pub fn list<T>(&self, key: &'static str, doc: &'static str, read: impl Fn(&Section<'_>) -> T) -> Vec<T> {
        self.fact(key, Kind::Table, None, doc);
        let items = match self.table.get(key) {
            None if self.reader.describing => vec![empty(&Origin::Default)],
            None => Vec::new(),
            Some(Item { node: Node::List(items), .. }) => items.clone(),
            Some(Item { node, origin }) => {
                let allowed = "a list of tables".to_owned();
                let hint = Some(format!("[[{}]]", self.path_of(key)));
                self.reader.faults.borrow_mut().push(Fault::value(
                    origin,
                    &self.path_of(key),
                    node,
                    allowed,
                    hint,
                ));
                Vec::new()
            }
        };
        let entry = |(i, item)| self.below(format!("{key}[{i}]"), &format!("{key}[]"), item).read(&read);
        items.into_iter().enumerate().map(entry).collect()
    }

    fn below(&self, name: String, pattern: &str, item: Item) -> Section<'a> {
        let join = |head: &str, tail: &str| match head {
            "" => tail.to_owned(),
            head => format!("{head}.{tail}"),
        };
        Section::over(self.reader, join(&self.path, &name), join(&self.pattern, pattern), item)
    }

    fn fact(&self, key: &'static str, kind: Kind, default: Option<String>, doc: &'static str) {
        self.asked.borrow_mut().push(key);
        if self.reader.describing {
            let path =
                if self.pattern.is_empty() { key.to_owned() } else { format!("{}.{key}", self.pattern) };
            self.reader.facts.borrow_mut().push(KeyFact { path, kind, default, doc });
        }
    }

    fn row(
        &self,
        (path, value, source): (String, String, Origin),
        default: String,
        unit: &'static str,
        doc: &'static str,
    ) {
        self.reader.rows.borrow_mut().push(Explained { path, value, source, default, unit, doc });
    }

    /// Reads one value. `None`: it is missing, or wrong and complained about.
    #[expect(
        clippy::too_many_arguments,
        reason = "the one place where everything about a key comes together"
    )]
    fn ask<T>(
        &self,
        key: &'static str,
        kind: Kind,
        default: Option<String>,
        doc: &'static str,
        example: &str,
        read: impl FnOnce(&Node) -> Option<T>,
        show: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        self.fact(key, kind.clone(), default.clone(), doc);
        let default = default.unwrap_or_else(|| "(not set)".to_owned());
        let Some(item) = self.table.get(key) else {
            let row = (self.path_of(key), default.clone(), Origin::Default);
            self.row(row, default, kind.unit(), doc);
            return None;
        };
        let value = read(&item.node);
        match &value {
            Some(value) => {
                self.row((self.path_of(key), show(value), item.origin.clone()), default, kind.unit(), doc);
            }
            None => {
                let hint = Some(format!("{key} = {}", kind.literal(example)));
                let fault = Fault::value(&item.origin, &self.path_of(key), &item.node, kind.allowed(), hint);
                self.reader.faults.borrow_mut().push(fault);
            }
        }
        value
    }
}

fn as_text(node: &Node) -> Option<String> {
    match node {
        Node::Text(text) | Node::Raw(text) => Some(text.clone()),
        _ => None,
    }
}

fn example_file(file_key: &str) -> String {
    format!("{file_key} = \"secrets/token\"")
}

fn empty(origin: &Origin) -> Item {
    Item { node: Node::Table(BTreeMap::new()), origin: origin.clone() }
}

/// A key as it must stand in the file.
fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_*".contains(&b));
    if bare { key.to_owned() } else { format!("{key:?}") }
}
