//! The configuration file: TOML, JSON or YAML, by the ending of its name.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::ConfigError;
use super::tree::{Origin, Tree, Value};

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Toml,
    Json,
    Yaml,
}

impl Format {
    /// The format that the ending of `name` stands for.
    ///
    /// # Errors
    /// An ending that stands for none.
    pub fn of_name(name: &str) -> Result<Self, ConfigError> {
        match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
            Some("toml") => Ok(Self::Toml),
            Some("json") => Ok(Self::Json),
            Some("yaml" | "yml") => Ok(Self::Yaml),
            _ => Err(broken(
                name,
                None,
                "the name of a configuration file must end in .toml, .json, .yaml or .yml",
            )),
        }
    }
}

/// Reads the text of the file `name`.
///
/// # Errors
/// An unknown ending or broken syntax. The text itself is not quoted: it may hold secrets.
pub fn parse(name: &str, text: &str) -> Result<Tree, ConfigError> {
    match Format::of_name(name)? {
        Format::Toml => parse_toml(name, text),
        Format::Json => parse_json(name, text),
        Format::Yaml => parse_yaml(name, text),
    }
}

fn broken(name: &str, line: Option<usize>, message: impl Into<String>) -> ConfigError {
    let origin = Origin::File { name: name.into(), line };
    ConfigError { key: String::new(), message: message.into(), origin }
}

fn parse_toml(name: &str, text: &str) -> Result<Tree, ConfigError> {
    let lines = Lines::of(name, text);
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| lines.line(span.start));
        broken(name, line, format!("not valid TOML: {}", error.message()))
    })?;
    Ok(lines.tree(table.span().start, toml_table(table.get_ref(), &lines)))
}

fn toml_table(table: &DeTable<'_>, lines: &Lines) -> Value {
    let entries = table.iter().map(|(key, value)| {
        let place = key.span().start;
        (key.get_ref().to_string(), lines.tree(place, toml_value(value.get_ref(), lines)))
    });
    Value::Table(entries.collect())
}

fn toml_value(value: &DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Float(f64::INFINITY),
        },
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(datetime) => Value::Text(datetime.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| lines.tree(item.span().start, toml_value(item.get_ref(), lines)))
                .collect(),
        ),
        DeValue::Table(table) => toml_table(table, lines),
    }
}

/// Where the lines of a file start.
struct Lines {
    name: Arc<str>,
    starts: Vec<usize>,
}

impl Lines {
    fn of(name: &str, text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { name: name.into(), starts: starts.collect() }
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    fn tree(&self, offset: usize, value: Value) -> Tree {
        let origin = Origin::File { name: self.name.clone(), line: Some(self.line(offset)) };
        Tree { value, origin }
    }
}

fn parse_json(name: &str, text: &str) -> Result<Tree, ConfigError> {
    let json = serde_json::from_str(text).map_err(|error| {
        broken(name, Some(error.line()), format!("not valid JSON: {}", json_reason(&error)))
    })?;
    Ok(Tree::of_json(json, &Origin::File { name: name.into(), line: None }))
}

/// The message without its place, which the origin tells.
fn json_reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or_default().to_owned()
}

fn parse_yaml(name: &str, text: &str) -> Result<Tree, ConfigError> {
    if text.trim().is_empty() {
        let origin = Origin::File { name: name.into(), line: None };
        return Ok(Tree { value: Value::Null, origin });
    }
    let yaml: Spanned<Yaml> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line() as usize);
        let reason = error.without_snippet().to_string();
        broken(name, line, format!("not valid YAML: {reason}"))
    })?;
    Ok(yaml_tree(yaml, &name.into()))
}

fn yaml_tree(yaml: Spanned<Yaml>, name: &Arc<str>) -> Tree {
    let line = Some(yaml.referenced.line() as usize).filter(|line| *line > 0);
    let value = match yaml.value {
        Yaml::Plain(value) => value,
        Yaml::List(items) => {
            Value::List(items.into_iter().map(|item| yaml_tree(item, name)).collect())
        }
        Yaml::Table(entries) => Value::Table(
            entries.into_iter().map(|(key, value)| (key, yaml_tree(value, name))).collect(),
        ),
    };
    Tree { value, origin: Origin::File { name: name.clone(), line } }
}

/// A YAML value whose parts know their place.
enum Yaml {
    Plain(Value),
    List(Vec<Spanned<Yaml>>),
    Table(Vec<(String, Spanned<Yaml>)>),
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Plain(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Plain(Value::Null))
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, inner: D) -> Result<Yaml, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::Plain(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Yaml, E> {
        Ok(Yaml::Plain(Value::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Yaml, E> {
        let plain = i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer);
        Ok(Yaml::Plain(plain))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Yaml, E> {
        Ok(Yaml::Plain(Value::Float(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Yaml, E> {
        Ok(Yaml::Plain(Value::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Yaml, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Yaml::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Yaml, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            table.push(entry);
        }
        Ok(Yaml::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(tree: &Tree) -> String {
        let line = match &tree.origin {
            Origin::File { line: Some(line), .. } => format!("@{line}"),
            _ => String::new(),
        };
        match &tree.value {
            Value::Table(entries) => {
                let mut parts: Vec<_> =
                    entries.iter().map(|(key, tree)| format!("{key}={}", shape(tree))).collect();
                parts.sort();
                format!("{{{}}}", parts.join(" "))
            }
            Value::List(items) => {
                format!("[{}]", items.iter().map(shape).collect::<Vec<_>>().join(" "))
            }
            value => format!("{value}{line}"),
        }
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let toml = "a = 1\n[b]\nc = \"x\"\nd = [true]\n";
        let yaml = "a: 1\nb:\n  c: x\n  d:\n    - true\n";
        let json = "{\"a\": 1, \"b\": {\"c\": \"x\", \"d\": [true]}}";
        let read = |name, text| shape(&parse(name, text).expect("valid"));
        assert_eq!(read("c.toml", toml), "{a=1@1 b={c=\"x\"@3 d=[true@4]}}");
        assert_eq!(read("c.yaml", yaml), "{a=1@1 b={c=\"x\"@3 d=[true@5]}}");
        assert_eq!(read("c.JSON", json), "{a=1 b={c=\"x\" d=[true]}}");
    }

    #[test]
    fn broken_syntax_names_the_line_and_does_not_quote_it() {
        let files = [
            ("c.toml", "a = 1\nkey = \"hunter2\n"),
            ("c.json", "{\"a\": 1,\n\"key\": hunter2}"),
            ("c.yaml", "a: 1\nkey: [\"hunter2\"\nb: 2\n"),
        ];
        for (name, text) in files {
            let error = parse(name, text).expect_err("broken").to_string();
            assert!(error.starts_with(&format!("{name} line ")), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_unknown_ending_is_refused_with_the_known_ones() {
        let error = parse("config.ini", "").expect_err("unknown").to_string();
        assert!(error.contains("config.ini") && error.contains(".toml"), "{error}");
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        assert!(matches!(parse("c.yaml", "\n").expect("valid").value, Value::Null));
        assert!(
            matches!(parse("c.toml", "").expect("valid").value, Value::Table(t) if t.is_empty())
        );
    }
}
