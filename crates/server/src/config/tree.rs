//! The configuration as a tree that remembers where each value came from: the file, laid over by the environment, laid over by flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Everything a configuration is made from. Later ones win: file, environment, flags.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file: its path as the user knows it, and its text.
    pub file: Option<(PathBuf, String)>,
    /// The environment; only `FIRESIDE_` names with a `__` in them are looked at.
    pub env: Vec<(String, String)>,
    /// What the command line sets.
    pub flags: Vec<Flag>,
}

/// One value from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The key: `server.listen`.
    pub path: String,
    /// The value as typed.
    pub value: String,
    /// The flag as the user knows it: `--listen`.
    pub flag: &'static str,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The file.
    File {
        /// As the user knows it.
        path: Arc<Path>,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// The environment variable of this name.
    Env(Arc<str>),
    /// This flag of the command line.
    Flag(&'static str),
}

impl Origin {
    /// Later sources win.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File { .. } => 1,
            Origin::Env(_) => 2,
            Origin::Flag(_) => 3,
        }
    }

    /// What a relative path is relative to: for the file its directory, else the directory that the command runs in.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        match self {
            Origin::File { path: file, .. } => file.parent().unwrap_or(Path::new("")).join(path),
            _ => PathBuf::from(path),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Origin::Env(name) => f.write_str(name),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub node: Node,
    pub origin: Origin,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Whole(i64),
    Bool(bool),
    List(Vec<Item>),
    Table(BTreeMap<String, Item>),
    /// From the environment or a flag: what it is depends on the key.
    Raw(String),
    /// What no key takes (a float, a date), as written.
    Other(String),
}

impl Node {
    /// How it is shown in a message: short, and on one line.
    pub fn show(&self) -> String {
        let text = match self {
            Node::Text(text) | Node::Raw(text) => format!("{text:?}"),
            Node::Whole(number) => number.to_string(),
            Node::Bool(flag) => flag.to_string(),
            Node::Other(text) => text.clone(),
            Node::List(_) => "[…]".to_owned(),
            Node::Table(_) => "{…}".to_owned(),
        };
        if text.chars().count() <= 60 { text } else { text.chars().take(59).chain(['…']).collect() }
    }

    /// As JSON, for what is JSON in itself (a schema).
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Node::Text(text) | Node::Raw(text) => text.as_str().into(),
            Node::Whole(number) => (*number).into(),
            Node::Bool(flag) => (*flag).into(),
            Node::Other(text) => text.parse::<f64>().map_or_else(|_| text.as_str().into(), Into::into),
            Node::List(items) => items.iter().map(|item| item.node.to_json()).collect(),
            Node::Table(table) => {
                table.iter().map(|(key, item)| (key.clone(), item.node.to_json())).collect()
            }
        }
    }
}

/// The file is not TOML: where, and what the parser says.
#[derive(Debug)]
pub(super) struct NotToml {
    pub at: Origin,
    pub message: String,
}

/// Lays the sources over each other.
pub(super) fn merge(sources: &Sources) -> Result<Item, NotToml> {
    let mut root = match &sources.file {
        Some((path, text)) => parse_file(path, text)?,
        None => Item { node: Node::Table(BTreeMap::new()), origin: Origin::Default },
    };
    let mut env: Vec<_> =
        sources.env.iter().filter_map(|(name, value)| Some((env_path(name)?, name, value))).collect();
    // A table goes in before what is set within it.
    env.sort_by(|a, b| (a.0.len(), a.1).cmp(&(b.0.len(), b.1)));
    for (path, name, value) in env {
        overlay(&mut root, &path, value, &Origin::Env(Arc::from(name.as_str())));
    }
    for Flag { path, value, flag } in &sources.flags {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        overlay(&mut root, &path, value, &Origin::Flag(flag));
    }
    Ok(root)
}

/// `FIRESIDE_SESSION__PONG_TIMEOUT` is `session.pong_timeout`; a name without `__` is not a key.
fn env_path(name: &str) -> Option<Vec<String>> {
    let path = name.strip_prefix("FIRESIDE_")?;
    path.contains("__").then(|| path.split("__").map(str::to_ascii_lowercase).collect())
}

fn overlay(item: &mut Item, path: &[String], value: &str, origin: &Origin) {
    let Some((key, rest)) = path.split_first() else {
        *item = raw(value, origin);
        return;
    };
    if !matches!(item.node, Node::Table(_)) {
        *item = Item { node: Node::Table(BTreeMap::new()), origin: origin.clone() };
    }
    if let Node::Table(table) = &mut item.node {
        let below = table
            .entry(key.clone())
            .or_insert_with(|| Item { node: Node::Table(BTreeMap::new()), origin: origin.clone() });
        overlay(below, rest, value, origin);
    }
}

/// Lists and tables are written as in the file; everything else is taken as it stands.
fn raw(value: &str, origin: &Origin) -> Item {
    if value.starts_with(['[', '{'])
        && let Ok(parsed) = DeValue::parse(value)
    {
        return convert(&parsed, &|_| origin.clone());
    }
    Item { node: Node::Raw(value.to_owned()), origin: origin.clone() }
}

fn parse_file(path: &Path, text: &str) -> Result<Item, NotToml> {
    let path: Arc<Path> = Arc::from(path);
    let locate = |at: usize| {
        let (line, column) = position(text, at);
        Origin::File { path: path.clone(), line, column }
    };
    let table = DeTable::parse(text).map_err(|e| NotToml {
        at: locate(e.span().map_or(0, |span| span.start)),
        message: e.message().trim().replace('\n', "; "),
    })?;
    Ok(convert_table(table.get_ref(), locate(0), &locate))
}

fn convert(value: &Spanned<DeValue<'_>>, locate: &dyn Fn(usize) -> Origin) -> Item {
    let origin = locate(value.span().start);
    let node = match value.get_ref() {
        DeValue::String(text) => Node::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(&number.as_str().replace('_', ""), number.radix())
            .map_or_else(|_| Node::Other(number.as_str().to_owned()), Node::Whole),
        DeValue::Boolean(flag) => Node::Bool(*flag),
        DeValue::Float(number) => Node::Other(number.as_str().to_owned()),
        DeValue::Datetime(time) => Node::Other(time.to_string()),
        DeValue::Array(items) => Node::List(items.iter().map(|item| convert(item, locate)).collect()),
        DeValue::Table(table) => return convert_table(table, origin, locate),
    };
    Item { node, origin }
}

fn convert_table(table: &DeTable<'_>, origin: Origin, locate: &dyn Fn(usize) -> Origin) -> Item {
    let entries = table.iter().map(|(key, value)| {
        let mut item = convert(value, locate);
        // A fault is looked for at its key: the value stands beside it.
        item.origin = locate(key.span().start);
        (key.get_ref().to_string(), item)
    });
    Item { node: Node::Table(entries.collect()), origin }
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}
