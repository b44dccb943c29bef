//! What a source says, before it is known what it should be: a tree of values with their origin.

use std::fmt;
use std::sync::Arc;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    pub value: Value,
    pub origin: Origin,
}

/// A value as its source typed it.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Present without a value; the same as absent.
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// Text of a variable or a flag, which have no types of their own.
    Loose(String),
    List(Vec<Tree>),
    /// In the order of the source.
    Table(Vec<(String, Tree)>),
}

/// Where a value was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Default,
    File {
        name: Arc<str>,
        /// Counted from 1; formats without positions leave it out.
        line: Option<usize>,
    },
    Variable(Arc<str>),
    Flag(Arc<str>),
}

impl Tree {
    /// Text of a variable or a flag.
    pub fn loose(text: &str, origin: Origin) -> Self {
        Self { value: Value::Loose(text.to_owned()), origin }
    }

    /// The tree of a JSON value, all of it from one origin.
    pub fn of_json(json: serde_json::Value, origin: &Origin) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(value),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Value::Integer(integer),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text),
            Json::Array(items) => {
                Value::List(items.into_iter().map(|item| Self::of_json(item, origin)).collect())
            }
            Json::Object(entries) => Value::Table(
                entries.into_iter().map(|(key, json)| (key, Self::of_json(json, origin))).collect(),
            ),
        };
        Self { value, origin: origin.clone() }
    }

    /// What is given under `key`, if this is a table.
    pub fn get(&self, key: &str) -> Option<&Tree> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, tree)| tree),
            _ => None,
        }
    }

    /// Takes out what is given under `key`, if this is a table.
    pub fn remove(&mut self, key: &str) -> Option<Tree> {
        let Value::Table(entries) = &mut self.value else { return None };
        let place = entries.iter().position(|(k, _)| k == key)?;
        Some(entries.remove(place).1)
    }

    /// The text, if this is text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Loose(text) => Some(text),
            _ => None,
        }
    }
}

/// The value as it may be quoted in an error.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(text) | Self::Loose(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Table(_) => f.write_str("a table"),
        }
    }
}

/// Only the kind: the value may be a secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Bool(_) => "Bool",
            Self::Integer(_) => "Integer",
            Self::Float(_) => "Float",
            Self::Text(_) => "Text",
            Self::Loose(_) => "Loose",
            Self::List(_) => "List",
            Self::Table(_) => "Table",
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line: Some(line) } => write!(f, "{name} line {line}"),
            Self::File { name, line: None } => f.write_str(name),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}
