//! What every setting can do: take a value from a source, show itself, and name its keys.
//!
//! **To add a key:** add a field to the section's struct (the field's doc is what it means, with
//! its unit), and its line to `config.toml`; tests hold the two together. A default other than the
//! type's own zero stands behind `=`. Convention for numbers: [`ByteSize`](super::units::ByteSize)
//! for bytes, `u32` for counts, [`Duration`](std::time::Duration) for spans of time.

use super::report::Report;
use super::tree::Tree;

/// A key's value, or a table of settings.
pub trait Setting: Sized {
    /// Takes what stands in `from` at the path `at`; keys that are not given keep their value.
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>);

    /// The setting as it would stand in a file, null for one that is not kept. Holds secrets in
    /// the clear.
    fn show(&self) -> serde_json::Value;

    /// Adds the keys under `at`: for a single value its own.
    fn keys(at: &str, keys: &mut Vec<Key>) {
        keys.push(Key { path: at.to_owned(), form: Form::Single });
    }
}

/// A key the configuration knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Dotted; items of a list are written `[]`.
    pub path: String,
    pub form: Form,
}

/// What may stand at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One value, or a list of plain ones.
    Single,
    /// A list of tables, whose keys follow with `[]` in their path.
    Items,
    /// Anything: keys of a feature that is not built yet are not looked into.
    Open,
}

/// `at` and then `key`.
pub fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// Declares a section: a struct with its defaults that reads itself from a table.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident: $type:ty $(= $default:expr)?, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: $crate::config::setting::section!(@default $($default)?), )*
                }
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn read(
                &mut self,
                from: $crate::config::tree::Tree,
                at: &str,
                report: &mut $crate::config::report::Report<'_>,
            ) {
                use $crate::config::tree::Value;
                for (key, tree) in report.table(from, at) {
                    let path = $crate::config::setting::join(at, &key);
                    if tree.value == Value::Null {
                        continue;
                    }
                    match key.as_str() {
                        $( key if key == $crate::config::setting::section!(@key $field) => {
                            self.$field.read(tree, &path, report);
                        } )*
                        _ => report.unknown_key(&path, &tree.origin),
                    }
                }
            }

            fn show(&self) -> serde_json::Value {
                use $crate::config::setting::section;
                let fields = [ $( (section!(@key $field), self.$field.show()), )* ];
                let shown = fields.into_iter().filter(|(_, value)| !value.is_null());
                shown.map(|(key, value)| (key.to_owned(), value)).collect()
            }

            fn keys(at: &str, keys: &mut Vec<$crate::config::setting::Key>) {
                use $crate::config::setting::{join, section};
                $( <$type>::keys(&join(at, section!(@key $field)), keys); )*
            }
        }
    };
    (@default $default:expr) => { $default };
    (@default) => { Default::default() };
    (@key $field:ident) => { stringify!($field).trim_start_matches("r#") };
}

/// Declares a setting that is one of a few words.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal $(| $other:literal)*, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )*
        }

        impl $name {
            /// The word for it in a configuration.
            pub fn word(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )*
                }
            }

            /// The choice of this word.
            pub fn of_word(word: &str) -> Option<Self> {
                match word {
                    $( $word $(| $other)* => Some(Self::$variant), )*
                    _ => None,
                }
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn read(
                &mut self,
                from: $crate::config::tree::Tree,
                at: &str,
                report: &mut $crate::config::report::Report<'_>,
            ) {
                let allowed = [$( concat!("\"", $word, "\"") ),*].join(", ");
                let value = from.text().and_then(Self::of_word);
                report.take(self, value, &from, at, format_args!("one of {allowed}"));
            }

            fn show(&self) -> serde_json::Value {
                self.word().into()
            }
        }
    };
}

pub(crate) use {choice, section};
