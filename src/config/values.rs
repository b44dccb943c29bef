//! How plain values are read: booleans, numbers, texts, lists, and tables that nobody reads yet.
//!
//! Numbers and booleans may stand in quotes, as Centrifugo takes them from a file too.

use std::time::Duration;

use serde_json::Value as Json;

use super::channel::DeltaType;
use super::report::Report;
use super::setting::{Form, Key, Setting, join};
use super::tree::{Tree, Value};
use super::units::{ByteSize, Secret, duration_text, parse_duration, parse_size};

impl Setting for bool {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let value = match &from.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) | Value::Loose(text) => match text.to_ascii_lowercase().as_str() {
                "1" | "t" | "true" => Some(true),
                "0" | "f" | "false" => Some(false),
                _ => None,
            },
            _ => None,
        };
        report.take(self, value, &from, at, "true or false");
    }

    fn show(&self) -> Json {
        (*self).into()
    }
}

macro_rules! integer {
    ($type:ty) => {
        impl Setting for $type {
            fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
                let value = integer(&from.value).and_then(|value| value.try_into().ok());
                let allowed = format_args!("an integer from {} to {}", <$type>::MIN, <$type>::MAX);
                report.take(self, value, &from, at, allowed);
            }

            fn show(&self) -> Json {
                (*self).into()
            }
        }
    };
}

integer!(u16);
integer!(u32);
integer!(i32);
integer!(i64);

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(value) => Some(*value),
        Value::Text(text) | Value::Loose(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A port that may be left out; an empty text is how some files say "none".
impl Setting for Option<u16> {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let value = match &from.value {
            Value::Text(text) | Value::Loose(text) if text.is_empty() => Some(None),
            value => integer(value).and_then(|port| port.try_into().ok()).map(Some),
        };
        report.take(self, value, &from, at, "a port from 0 to 65535, or \"\" for none");
    }

    fn show(&self) -> Json {
        self.map_or_else(|| "".into(), Json::from)
    }
}

impl Setting for ByteSize {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let value = match &from.value {
            Value::Text(text) | Value::Loose(text) => parse_size(text),
            Value::Integer(bytes) => (*bytes).try_into().ok(),
            _ => None,
        };
        report.take(self, value, &from, at, "a number of bytes, or text such as \"64KiB\"");
    }

    fn show(&self) -> Json {
        (*self).into()
    }
}

impl Setting for Duration {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let parsed = match &from.value {
            Value::Text(text) | Value::Loose(text) => parse_duration(text),
            Value::Integer(0) => Ok(Duration::ZERO),
            _ => Err("a duration such as \"500ms\", \"25s\" or \"1h30m\"".into()),
        };
        match parsed {
            Ok(value) => report.take(self, Some(value), &from, at, ""),
            Err(allowed) => report.take(self, None, &from, at, allowed),
        }
    }

    fn show(&self) -> Json {
        duration_text(*self).into()
    }
}

impl Setting for String {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        report.take(self, from.text().map(str::to_owned), &from, at, "text in quotes");
    }

    fn show(&self) -> Json {
        self.as_str().into()
    }
}

impl Setting for Secret {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        match from.text() {
            Some(text) => report.take(self, Some(Secret::new(text)), &from, at, ""),
            // Not through `take`, which would quote the value.
            None => report.refuse(at, "expected text in quotes", from.origin),
        }
    }

    fn show(&self) -> Json {
        self.expose().into()
    }
}

impl Setting for Vec<String> {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let value = match &from.value {
            Value::Loose(text) => Some(text.split_whitespace().map(str::to_owned).collect()),
            Value::List(items) => items.iter().map(|item| item.text().map(str::to_owned)).collect(),
            _ => None,
        };
        report.take(self, value, &from, at, "a list of texts");
    }

    fn show(&self) -> Json {
        self.clone().into()
    }
}

impl Setting for Vec<DeltaType> {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let mut words = Vec::<String>::new();
        let problems = report.errors.len();
        words.read(from.clone(), at, report);
        if report.errors.len() == problems {
            let types = words.iter().map(|word| DeltaType::of_word(word)).collect();
            report.take(self, types, &from, at, "a list of \"fossil\"");
        }
    }

    fn show(&self) -> Json {
        self.iter().map(Setting::show).collect()
    }
}

/// Settings of a feature that is not built yet: taken as they are and not looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Later;

impl Setting for Later {
    fn read(&mut self, _: Tree, _: &str, _: &mut Report<'_>) {}

    fn show(&self) -> Json {
        Json::Null
    }

    fn keys(at: &str, keys: &mut Vec<Key>) {
        keys.push(Key { path: at.to_owned(), form: Form::Open });
    }
}

/// The switch of a feature that is not built yet; its other settings are not looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaterSwitch {
    pub enabled: bool,
}

impl Setting for LaterSwitch {
    fn read(&mut self, mut from: Tree, at: &str, report: &mut Report<'_>) {
        if let Some(enabled) = from.remove("enabled") {
            self.enabled.read(enabled, &join(at, "enabled"), report);
        }
    }

    fn show(&self) -> Json {
        Json::Object([("enabled".to_owned(), self.enabled.into())].into_iter().collect())
    }

    fn keys(at: &str, keys: &mut Vec<Key>) {
        bool::keys(&join(at, "enabled"), keys);
        Later::keys(at, keys);
    }
}

/// A setting that is the table of a list.
pub trait Item: Setting + Default {
    /// What an item is called in paths and in variables; empty if it has no name.
    fn name(&self) -> &str;
}

impl<T: Item> Setting for Vec<T> {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let items = match from.value {
            Value::List(items) => Some(items),
            Value::Loose(text) => serde_json::from_str::<Vec<Json>>(&text).ok().map(|items| {
                items.into_iter().map(|item| Tree::of_json(item, &from.origin)).collect()
            }),
            _ => None,
        };
        let Some(items) = items else {
            return report.refuse(
                at,
                "expected a list of tables (in a variable: as JSON)",
                from.origin,
            );
        };
        self.clear();
        for (index, tree) in items.into_iter().enumerate() {
            let name = tree.get("name").and_then(Tree::text).unwrap_or_default().to_owned();
            let mut item = T::default();
            item.read(tree, &item_path(at, index, &name), report);
            self.push(item);
        }
        report.came_from(at, &from.origin);
    }

    fn show(&self) -> Json {
        self.iter().map(Setting::show).collect()
    }

    fn keys(at: &str, keys: &mut Vec<Key>) {
        keys.push(Key { path: at.to_owned(), form: Form::Items });
        T::keys(&format!("{at}[]"), keys);
    }
}

impl Tree {
    /// Reads the name of an item into `name`; the rest are its options.
    pub fn take_name(mut self, name: &mut String, at: &str, report: &mut Report<'_>) -> Tree {
        if let Some(given) = self.remove("name") {
            name.read(given, &join(at, "name"), report);
        }
        self
    }
}

/// An item of a list: its name and its options in one table.
pub fn show_named(name: &str, options: &impl Setting) -> Json {
    let mut table = serde_json::Map::new();
    table.insert("name".into(), name.into());
    if let Json::Object(options) = options.show() {
        table.extend(options);
    }
    table.into()
}

/// `channel.namespaces[0](chat)`: the item's place, and its name where it has one.
pub fn item_path(at: &str, index: usize, name: &str) -> String {
    if name.is_empty() { format!("{at}[{index}]") } else { format!("{at}[{index}]({name})") }
}
