//! Flags that are settings: the dotted key is the flag's name.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// The flags that were given, by key. Whether the values are allowed is for the configuration to
/// say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub BTreeMap<String, String>);

/// A setting that has a flag.
struct Flag {
    key: &'static str,
    short: Option<char>,
    /// Without a value the flag means true.
    switch: bool,
    help: &'static str,
}

/// Settings that have a flag.
const FLAGS: &[Flag] = &[
    text("http_server.address", "Interface to listen on").short('a'),
    text("http_server.port", "Port to listen on").short('p'),
    text("http_server.internal_address", "Interface of the internal endpoints"),
    text("http_server.internal_port", "Port of the internal endpoints"),
    text("engine.type", "Where streams and presence are kept"),
    text("log.level", "trace, debug, info, warn, error, fatal or none"),
    text("log.format", "auto, json or text"),
    text("log.file", "File to append the log to"),
    switch("prometheus.enabled", "Serve metrics"),
    switch("swagger.enabled", "Serve the description of the server API"),
    switch("health.enabled", "Serve the health endpoint"),
    switch("client.insecure", "Believe every client and allow everything"),
    switch("http_api.insecure", "Ask for no key in the server API"),
    switch("http_api.external", "Serve the server API on the main port too"),
    text("pid_file", "File to write the process id to"),
];

const fn text(key: &'static str, help: &'static str) -> Flag {
    Flag { key, short: None, switch: false, help }
}

const fn switch(key: &'static str, help: &'static str) -> Flag {
    Flag { key, short: None, switch: true, help }
}

impl Flag {
    const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.key)
            .long(self.key)
            .help(self.help)
            .action(ArgAction::Set)
            .help_heading("Settings");
        let arg = match self.short {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        if self.switch {
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("true|false")
        } else {
            arg.value_name("VALUE")
        }
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(Flag::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in FLAGS {
            if let Some(value) = matches.get_one::<String>(flag.key) {
                self.0.insert(flag.key.to_owned(), value.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_flag_is_a_setting() {
        let keys: Vec<_> = Config::all_keys().into_iter().map(|key| key.path).collect();
        for flag in FLAGS {
            assert!(keys.iter().any(|key| key == flag.key), "{}", flag.key);
        }
    }
}
