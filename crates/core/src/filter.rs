//! Which records a reader wants, by their tags.

use std::sync::Arc;

use crate::batch::Batch;
use crate::limits;
use crate::record::Record;

/// A node of a filter as a client writes it: nothing about it is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterNode {
    /// `and`, `or`, `not`; empty for a comparison.
    pub op: String,
    /// The tag that is compared.
    pub key: String,
    /// How: `eq`, `neq`, `in`, `nin`, `ex`, `nex`, `sw`, `ew`, `ct`, `lt`, `lte`, `gt`, `gte`.
    pub cmp: String,
    /// With what.
    pub val: String,
    /// With one of which (`in`, `nin`).
    pub vals: Vec<String>,
    /// What `and`, `or` and `not` are about.
    pub nodes: Vec<FilterNode>,
}

/// A filter that is well formed and within its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct TagFilter(Test);

#[derive(Clone, Debug, PartialEq)]
enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    /// The value of a tag; without the tag it fails.
    Tag(Box<str>, Value),
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Any,
    Is(Box<str>),
    OneOf(Box<[String]>),
    Begins(Box<str>),
    Ends(Box<str>),
    Contains(Box<str>),
    Below(f64),
    AtMost(f64),
    Above(f64),
    AtLeast(f64),
}

/// Why a filter is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterFault(pub &'static str);

impl TagFilter {
    /// Reads a filter.
    ///
    /// # Errors
    /// The first rule that it breaks: of its form, or one of the bounds `FILTER_…_MAX` in [`limits`].
    pub fn read(node: &FilterNode) -> Result<TagFilter, FilterFault> {
        let mut left = limits::FILTER_NODES_MAX;
        test(node, limits::FILTER_DEPTH_MAX, &mut left).map(TagFilter)
    }

    /// True if the reader wants it.
    pub fn wants(&self, record: &Record) -> bool {
        holds(&self.0, record)
    }

    /// The records of `batch` after offset `after` that the reader wants: `batch` itself if it is all of it, else a batch of its own, whose
    /// offsets have holes. `None`: it wants none of them.
    pub fn of(&self, batch: &Arc<Batch>, after: u64) -> Option<Arc<Batch>> {
        let wanted: Vec<&Record> = batch.after(after).iter().filter(|record| self.wants(record)).collect();
        if wanted.len() == batch.records.len() {
            return Some(batch.clone());
        }
        let records: Vec<Record> = wanted.into_iter().cloned().collect();
        let of_them =
            |records| Batch::new(batch.channel.clone(), batch.epoch, batch.proposal, batch.previous, records);
        (!records.is_empty()).then(|| of_them(records))
    }
}

fn test(node: &FilterNode, depth: usize, left: &mut usize) -> Result<Test, FilterFault> {
    if depth == 0 {
        return Err(FilterFault("a tag filter nests too deep"));
    }
    *left = left.checked_sub(1).ok_or(FilterFault("a tag filter has too many nodes"))?;
    let mut inner = || -> Result<Vec<Test>, FilterFault> {
        if node.nodes.is_empty() {
            return Err(FilterFault("and, or and not need nodes"));
        }
        node.nodes.iter().map(|inner| test(inner, depth - 1, left)).collect()
    };
    match node.op.as_str() {
        "" => comparison(node),
        "and" => Ok(Test::All(inner()?)),
        "or" => Ok(Test::Any(inner()?)),
        "not" if node.nodes.len() > 1 => Err(FilterFault("not is about one node")),
        "not" => Ok(Test::Not(Box::new(Test::All(inner()?)))),
        _ => Err(FilterFault("a node's op is and, or, not or empty")),
    }
}

fn comparison(node: &FilterNode) -> Result<Test, FilterFault> {
    let val = || match node.val.as_str() {
        "" => Err(FilterFault("this comparison needs val")),
        val => Ok(Box::from(val)),
    };
    let number = || {
        let number = node.val.parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or(FilterFault("this comparison needs a number in val"))
    };
    let value = match node.cmp.as_str() {
        "ex" | "nex" => Value::Any,
        "eq" | "neq" => Value::Is(val()?),
        "in" | "nin" if node.vals.is_empty() => return Err(FilterFault("this comparison needs vals")),
        "in" | "nin" => Value::OneOf(node.vals.clone().into()),
        "sw" => Value::Begins(val()?),
        "ew" => Value::Ends(val()?),
        "ct" => Value::Contains(val()?),
        "lt" => Value::Below(number()?),
        "lte" => Value::AtMost(number()?),
        "gt" => Value::Above(number()?),
        "gte" => Value::AtLeast(number()?),
        _ => return Err(FilterFault("a comparison's cmp is not known")),
    };
    let is_long = |text: &str| text.len() > limits::TAG_BYTES_MAX;
    if node.key.is_empty() || is_long(&node.key) || is_long(&node.val) {
        return Err(FilterFault("a comparison names a tag and a value as long as tags may be"));
    }
    if node.vals.len() > limits::FILTER_VALUES_MAX || node.vals.iter().any(|val| is_long(val)) {
        return Err(FilterFault("a comparison has too many or too long vals"));
    }
    let test = Test::Tag(node.key.as_str().into(), value);
    Ok(if matches!(node.cmp.as_str(), "neq" | "nin" | "nex") { Test::Not(Box::new(test)) } else { test })
}

fn holds(test: &Test, record: &Record) -> bool {
    match test {
        Test::All(tests) => tests.iter().all(|test| holds(test, record)),
        Test::Any(tests) => tests.iter().any(|test| holds(test, record)),
        Test::Not(test) => !holds(test, record),
        Test::Tag(name, value) => record.tag(name).is_some_and(|tag| is(value, tag)),
    }
}

fn is(value: &Value, tag: &str) -> bool {
    let number = |holds: &dyn Fn(f64) -> bool| tag.parse().is_ok_and(holds);
    match value {
        Value::Any => true,
        Value::Is(text) => **text == *tag,
        Value::OneOf(texts) => texts.iter().any(|text| text == tag),
        Value::Begins(text) => tag.starts_with(&**text),
        Value::Ends(text) => tag.ends_with(&**text),
        Value::Contains(text) => tag.contains(&**text),
        Value::Below(bound) => number(&|tag| tag < *bound),
        Value::AtMost(bound) => number(&|tag| tag <= *bound),
        Value::Above(bound) => number(&|tag| tag > *bound),
        Value::AtLeast(bound) => number(&|tag| tag >= *bound),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::batch::ProposalId;
    use crate::name::ChannelName;
    use crate::position::Epoch;
    use crate::record::Kind;

    fn leaf(key: &str, cmp: &str, val: &str) -> FilterNode {
        let vals =
            if matches!(cmp, "in" | "nin") { val.split(',').map(str::to_owned).collect() } else { vec![] };
        let val = if vals.is_empty() { val } else { "" };
        FilterNode { key: key.into(), cmp: cmp.into(), val: val.into(), vals, ..FilterNode::default() }
    }

    fn node(op: &str, nodes: Vec<FilterNode>) -> FilterNode {
        FilterNode { op: op.into(), nodes, ..FilterNode::default() }
    }

    fn record(offset: u64, tags: &[(&str, &str)]) -> Record {
        Record {
            offset,
            time_ms: 1,
            kind: Kind::Plain,
            author: None,
            key: None,
            conflate: None,
            tags: tags.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect(),
            body: Bytes::from_static(b"1"),
        }
    }

    fn wants(node: &FilterNode, tags: &[(&str, &str)]) -> bool {
        TagFilter::read(node).unwrap().wants(&record(1, tags))
    }

    #[test]
    fn each_comparison_has_its_meaning_and_without_the_tag_only_the_negative_ones_hold() {
        for (cmp, val, yes, no) in [
            ("eq", "ice", "ice", "snow"),
            ("neq", "ice", "snow", "ice"),
            ("in", "ice,snow", "snow", "sun"),
            ("nin", "ice,snow", "sun", "ice"),
            ("sw", "ic", "ice", "mice"),
            ("ew", "ce", "ice", "iced"),
            ("ct", "c", "ice", "sun"),
            ("lt", "10", "9.5", "10"),
            ("lte", "10", "10", "11"),
            ("gt", "-1", "0", "many"),
            ("gte", "1e2", "100", "99"),
        ] {
            let node = leaf("a", cmp, val);
            assert!(wants(&node, &[("b", no), ("a", yes)]), "{cmp}");
            assert!(!wants(&node, &[("a", no), ("b", yes)]), "{cmp}");
            assert_eq!(wants(&node, &[]), matches!(cmp, "neq" | "nin"), "{cmp}");
        }
        assert!(wants(&leaf("a", "ex", ""), &[("a", "")]) && !wants(&leaf("a", "ex", ""), &[("b", "")]));
        assert!(wants(&leaf("a", "nex", ""), &[("b", "")]) && !wants(&leaf("a", "nex", ""), &[("a", "")]));
    }

    #[test]
    fn comparisons_are_joined_and_turned_round() {
        let (a, b) = (leaf("a", "eq", "1"), leaf("b", "eq", "2"));
        assert!(wants(&node("and", vec![a.clone(), b.clone()]), &[("a", "1"), ("b", "2")]));
        assert!(!wants(&node("and", vec![a.clone(), b.clone()]), &[("a", "1")]));
        assert!(wants(&node("or", vec![a.clone(), b]), &[("a", "1")]));
        assert!(wants(&node("not", vec![a]), &[("a", "2")]));
    }

    #[test]
    fn i8_bounded_a_filter_is_well_formed_and_small_or_refused() {
        let ok = || leaf("a", "eq", "1");
        let deep = (1..limits::FILTER_DEPTH_MAX).fold(ok(), |inner, _| node("not", vec![inner]));
        assert!(TagFilter::read(&deep).is_ok());
        let long = "x".repeat(limits::TAG_BYTES_MAX + 1);
        for bad in [
            node("not", vec![deep]),
            node("or", vec![ok(); limits::FILTER_NODES_MAX]),
            node("and", vec![]),
            node("not", vec![]),
            node("not", vec![ok(), ok()]),
            node("xor", vec![ok()]),
            node("or", vec![node("and", vec![])]),
            leaf("a", "eq", ""),
            leaf("", "eq", "1"),
            leaf("a", "like", "1"),
            leaf("a", "", "1"),
            leaf("a", "lt", "ten"),
            leaf("a", "lt", "inf"),
            leaf("a", "eq", &long),
            leaf(&long, "ex", ""),
            leaf("a", "in", &long),
            leaf("a", "in", &vec!["1"; limits::FILTER_VALUES_MAX + 1].join(",")),
            FilterNode { cmp: "in".into(), key: "a".into(), ..FilterNode::default() },
        ] {
            assert!(TagFilter::read(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_batch_is_shared_when_all_of_it_is_wanted() {
        let name = ChannelName::parse("a").unwrap();
        let records = vec![record(4, &[("a", "1")]), record(5, &[]), record(6, &[("a", "1")])];
        let batch = Batch::new(name, Epoch(1), ProposalId(1), ProposalId(0), records);
        let offsets = |filter: &FilterNode, after| {
            let wanted = TagFilter::read(filter).unwrap().of(&batch, after);
            wanted.map(|wanted| wanted.records.iter().map(|record| record.offset).collect::<Vec<_>>())
        };
        assert_eq!(offsets(&leaf("a", "eq", "1"), 3), Some(vec![4, 6]));
        assert_eq!(offsets(&leaf("a", "eq", "1"), 4), Some(vec![6]));
        assert_eq!(offsets(&leaf("a", "eq", "2"), 3), None);
        let all = TagFilter::read(&leaf("a", "neq", "2")).unwrap();
        assert!(Arc::ptr_eq(&all.of(&batch, 3).unwrap(), &batch));
        assert!(!Arc::ptr_eq(&all.of(&batch, 4).unwrap(), &batch));
    }
}
