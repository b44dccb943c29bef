//! Tags filters: which publications of a channel a subscriber wants.
//!
//! A [`FilterNode`] is what a client sends. Compiling checks it once and gives a [`Filter`], which is
//! small, since every subscription with a filter keeps one, and cannot fail.
//!
//! To add a comparison: its name in `COMPARISONS`, a variant of `Test` and its line in each of
//! the two `match`es over names and tests.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::json::{nullable, nullable_list};

/// One node of a filter: a comparison when `op` is empty, else `and`, `or` or `not` over `nodes`.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterNode {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub op: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub key: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub cmp: String,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub val: String,
    #[prost(string, repeated, tag = "5")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable_list")]
    pub vals: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable_list")]
    pub nodes: Vec<FilterNode>,
}

/// How deep a filter may nest.
pub const MAX_DEPTH: usize = 32;
/// How many nodes a filter may have, as all of them may be asked for each publication.
pub const MAX_NODES: usize = 512;

impl FilterNode {
    /// Checks the filter and brings it into the form in which it is evaluated.
    ///
    /// # Errors
    /// If a node has an unknown operation or lacks what its operation needs, or the filter is larger
    /// than [`MAX_DEPTH`] or [`MAX_NODES`] allow.
    pub fn compile(&self) -> Result<Filter, FilterError> {
        let mut compiler = Compiler { path: Vec::new(), nodes: 0 };
        let root = compiler.node(self).map_err(|problem| compiler.error(problem))?;
        Ok(Filter { root })
    }
}

/// A checked filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    root: Node,
}

impl Filter {
    /// Whether a publication with these tags is wanted.
    pub fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        self.root.matches(tags)
    }
}

/// Which node of a filter is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// The way from the root: an index into `nodes` for each step.
    path: Vec<usize>,
    problem: Problem,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tags filter: tf")?;
        self.path.iter().try_for_each(|index| write!(f, ".nodes[{index}]"))?;
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for FilterError {}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("is more than the {MAX_NODES} nodes a filter may have")]
    TooManyNodes,
    #[error("op {} is unknown; allowed are and, or, not, or none for a comparison", Shown(.0))]
    UnknownOp(String),
    #[error("op {op} needs {needs} in nodes, not {has}")]
    NodeCount { op: &'static str, needs: &'static str, has: usize },
    #[error("cmp {} is unknown; allowed are {}", Shown(.0), COMPARISONS.join(", "))]
    UnknownCmp(String),
    #[error("cmp {cmp} {rule}")]
    Field { cmp: &'static str, rule: &'static str },
}

/// A text of the client, short enough for a log line.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 32;
        let start: String = self.0.chars().take(LONGEST).collect();
        let dots = if start.len() < self.0.len() { "..." } else { "" };
        write!(f, "{start:?}{dots}")
    }
}

const COMPARISONS: [&str; 13] =
    ["eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "gt", "gte", "lt", "lte"];

struct Compiler {
    path: Vec<usize>,
    nodes: usize,
}

impl Compiler {
    fn node(&mut self, node: &FilterNode) -> Result<Node, Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Problem::TooManyNodes);
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        match (node.op.as_str(), node.nodes.len()) {
            ("", _) => Ok(Node::Leaf { key: node.key.as_str().into(), test: leaf_test(node)? }),
            ("and", 1..) => Ok(Node::All(self.children(node)?)),
            ("or", 1..) => Ok(Node::Any(self.children(node)?)),
            ("not", 1) => Ok(Node::None(self.children(node)?)),
            ("and", has) => Err(Problem::NodeCount { op: "and", needs: "at least one", has }),
            ("or", has) => Err(Problem::NodeCount { op: "or", needs: "at least one", has }),
            ("not", has) => Err(Problem::NodeCount { op: "not", needs: "exactly one", has }),
            (op, _) => Err(Problem::UnknownOp(op.to_owned())),
        }
    }

    /// On an error the path is left standing where it happened.
    fn children(&mut self, node: &FilterNode) -> Result<Box<[Node]>, Problem> {
        let mut children = Vec::with_capacity(node.nodes.len().min(MAX_NODES));
        for (index, child) in node.nodes.iter().enumerate() {
            self.path.push(index);
            children.push(self.node(child)?);
            self.path.pop();
        }
        Ok(children.into_boxed_slice())
    }

    fn error(self, problem: Problem) -> FilterError {
        FilterError { path: self.path, problem }
    }
}

fn leaf_test(node: &FilterNode) -> Result<Test, Problem> {
    let Some(cmp) = COMPARISONS.into_iter().find(|cmp| *cmp == node.cmp) else {
        return Err(Problem::UnknownCmp(node.cmp.clone()));
    };
    check_fields(node, cmp)?;
    let val = || Box::from(node.val.as_str());
    let number = |wanted| Test::Number { wanted, than: val() };
    Ok(match cmp {
        "eq" => Test::Equal(val()),
        "neq" => Test::NotEqual(val()),
        "in" => Test::In(sorted(&node.vals)),
        "nin" => Test::NotIn(sorted(&node.vals)),
        "ex" => Test::Exists,
        "nex" => Test::Missing,
        "sw" => Test::StartsWith(val()),
        "ew" => Test::EndsWith(val()),
        "ct" => Test::Contains(val()),
        "gt" => number(Wanted::Greater),
        "gte" => number(Wanted::GreaterOrEqual),
        "lt" => number(Wanted::Less),
        _ => number(Wanted::LessOrEqual),
    })
}

fn check_fields(node: &FilterNode, cmp: &'static str) -> Result<(), Problem> {
    let (has_val, has_vals) = (!node.val.is_empty(), !node.vals.is_empty());
    let broken = match cmp {
        "ex" | "nex" if has_val => Some("takes no val"),
        "ex" | "nex" if has_vals => Some("takes no vals"),
        "ex" | "nex" => None,
        _ if node.key.is_empty() => Some("needs a key"),
        "in" | "nin" if has_val => Some("takes vals instead of val"),
        "in" | "nin" if !has_vals => Some("needs vals"),
        "in" | "nin" => None,
        _ if has_vals => Some("takes val instead of vals"),
        _ if !has_val => Some("needs a val"),
        _ => None,
    };
    broken.map_or(Ok(()), |rule| Err(Problem::Field { cmp, rule }))
}

/// For binary search.
fn sorted(values: &[String]) -> Box<[Box<str>]> {
    let mut values: Vec<Box<str>> = values.iter().map(|value| value.as_str().into()).collect();
    values.sort_unstable();
    values.dedup();
    values.into_boxed_slice()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    All(Box<[Node]>),
    Any(Box<[Node]>),
    None(Box<[Node]>),
    Leaf { key: Box<str>, test: Test },
}

impl Node {
    /// Recursion goes as deep as the filter, at most [`MAX_DEPTH`].
    fn matches(&self, tags: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Self::None(nodes) => !nodes.iter().any(|node| node.matches(tags)),
            Self::Leaf { key, test } => test.holds(tags.get(&**key).map(String::as_str)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Equal(Box<str>),
    NotEqual(Box<str>),
    In(Box<[Box<str>]>),
    NotIn(Box<[Box<str>]>),
    Exists,
    Missing,
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Number { wanted: Wanted, than: Box<str> },
}

impl Test {
    fn holds(&self, tag: Option<&str>) -> bool {
        match self {
            Self::Equal(value) => tag == Some(value),
            Self::NotEqual(value) => tag != Some(value),
            Self::In(values) => contains(values, tag),
            Self::NotIn(values) => !contains(values, tag),
            Self::Exists => tag.is_some(),
            Self::Missing => tag.is_none(),
            Self::StartsWith(value) => tag.is_some_and(|tag| tag.starts_with(&**value)),
            Self::EndsWith(value) => tag.is_some_and(|tag| tag.ends_with(&**value)),
            Self::Contains(value) => tag.is_some_and(|tag| tag.contains(&**value)),
            Self::Number { wanted, than } => {
                match (tag.and_then(Decimal::parse), Decimal::parse(than)) {
                    (Some(tag), Some(than)) => wanted.holds(tag.cmp(&than)),
                    _ => false,
                }
            }
        }
    }
}

/// A missing tag counts as an empty one here, and only here.
fn contains(values: &[Box<str>], tag: Option<&str>) -> bool {
    values.binary_search_by(|value| (**value).cmp(tag.unwrap_or_default())).is_ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Wanted {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
        }
    }
}

#[cfg(test)]
mod tests;
