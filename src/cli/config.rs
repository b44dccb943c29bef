//! `checkconfig`, `genconfig`, `defaultconfig`: configuration files.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use serde_json::{Value, json};

use super::{CheckConfigArgs, CliError, DefaultConfigArgs, GenConfigArgs};
use crate::config::secrets::random_text;
use crate::config::{Config, Disk, Format, NoticeKind, REFERENCE, Sources, load};

/// Letters of generated keys, and of passwords that somebody types.
const KEY_LENGTH: usize = 64;
const PASSWORD_LENGTH: usize = 16;

/// Reads the configuration as the server would, and says what it thinks of it.
pub fn checkconfig(args: CheckConfigArgs, out: &mut impl Write) -> Result<(), CliError> {
    let loaded = load(&Sources::of_process(args.config, Default::default()), &Disk)?;
    for notice in &loaded.notices {
        writeln!(out, "warning: {}", notice.text)?;
    }
    let unknown = |kind| matches!(kind, NoticeKind::UnknownKey | NoticeKind::UnknownVariable);
    let unknown = loaded.notices.iter().filter(|notice| unknown(notice.kind)).count();
    if args.strict && unknown > 0 {
        return Err(CliError::Strict(unknown));
    }
    crate::server::check(&loaded.config)?;
    let file = loaded.file.as_deref().unwrap_or("no file, defaults only");
    Ok(writeln!(out, "configuration is fine ({file})")?)
}

/// Writes a small configuration with fresh secrets.
pub fn genconfig(args: GenConfigArgs, out: &mut impl Write) -> Result<(), CliError> {
    let format = format_of(&args.config)?;
    let small = json!({
        "client": {
            "allowed_origins": [],
            "token": { "hmac_secret_key": random_text(KEY_LENGTH)? },
        },
        "admin": {
            "enabled": false,
            "password": random_text(PASSWORD_LENGTH)?,
            "secret": random_text(KEY_LENGTH)?,
        },
        "http_api": { "key": random_text(KEY_LENGTH)? },
    });
    write_new(&args.config, &render(&small, format)?)?;
    Ok(writeln!(out, "wrote {} with fresh secrets", args.config)?)
}

/// Writes a configuration with every default, or with the settings of another in their place.
pub fn defaultconfig(args: DefaultConfigArgs, out: &mut impl Write) -> Result<(), CliError> {
    let format = format_of(&args.config)?;
    let text = match args.base {
        None if format == Format::Toml => REFERENCE.to_owned(),
        None => render(&Config::default().to_json(), format)?,
        Some(base) => {
            let sources = Sources { file: Some(base), ..Sources::default() };
            render(&load(&sources, &Disk)?.config.to_json(), format)?
        }
    };
    if args.dry_run {
        return Ok(write!(out, "{text}")?);
    }
    write_new(&args.config, &text)?;
    Ok(writeln!(out, "wrote {}", args.config)?)
}

fn format_of(path: &str) -> Result<Format, CliError> {
    Format::of_name(path).map_err(|error| CliError::ConfigFile(error.to_string()))
}

/// Writes a file that was not there, readable by its owner alone: it holds secrets.
fn write_new(path: &str, text: &str) -> Result<(), CliError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|source| {
        match source.kind() {
            io::ErrorKind::AlreadyExists => CliError::Exists { path: path.to_owned() },
            _ => CliError::Write { path: path.to_owned(), source },
        }
    })
}

fn render(config: &Value, format: Format) -> Result<String, CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError::ConfigFile(error.to_string());
    match format {
        Format::Toml => toml::to_string(config).map_err(|error| failed(&error)),
        Format::Json => {
            let json = serde_json::to_string_pretty(config).map_err(|error| failed(&error))?;
            Ok(json + "\n")
        }
        Format::Yaml => {
            let mut text = String::new();
            render_yaml(config, 0, &mut text);
            Ok(text)
        }
    }
}

/// Tables in blocks, everything else as JSON, which YAML contains.
fn render_yaml(value: &Value, depth: usize, text: &mut String) {
    let Value::Object(entries) = value else { return };
    for (key, value) in entries {
        let indent = "  ".repeat(depth);
        // Writing to a string cannot fail.
        let _ = match value {
            Value::Object(inner) if !inner.is_empty() => writeln!(text, "{indent}{key}:"),
            plain => writeln!(text, "{indent}{key}: {plain}"),
        };
        render_yaml(value, depth + 1, text);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Loaded;

    fn read(path: &str) -> Loaded {
        let sources = Sources { file: Some(path.into()), ..Sources::default() };
        load(&sources, &Disk).expect("what was written can be read")
    }

    fn unknown_keys(loaded: &Loaded) -> usize {
        loaded.notices.iter().filter(|notice| notice.kind == NoticeKind::UnknownKey).count()
    }

    #[test]
    fn generated_configurations_have_secrets_of_their_own_and_are_private() {
        let folder = tempfile::tempdir().expect("folder");
        let mut seen = Vec::new();
        for name in ["a.toml", "a.json", "a.yaml", "a.yml"] {
            let path = folder.path().join(name).display().to_string();
            let args = GenConfigArgs { config: path.clone() };
            genconfig(args.clone(), &mut Vec::new()).expect("written");
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
            let loaded = read(&path);
            assert_eq!(unknown_keys(&loaded), 0, "{:?}", loaded.notices);
            let config = loaded.config;
            assert_eq!(config.admin.password.expose().len(), PASSWORD_LENGTH);
            for key in
                [config.client.token.hmac_secret_key, config.http_api.key, config.admin.secret]
            {
                assert_eq!(key.expose().len(), KEY_LENGTH);
                assert!(!seen.contains(&key), "{name} repeats a secret");
                seen.push(key);
            }

            let before = fs::read(&path).expect("there");
            let again = genconfig(args, &mut Vec::new());
            assert!(matches!(again, Err(CliError::Exists { .. })), "{again:?}");
            assert_eq!(fs::read(&path).expect("there"), before);
        }
    }

    #[test]
    fn default_configurations_say_the_same_in_every_format() {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["a.toml", "a.json", "a.yaml"] {
            let config = folder.path().join(name).display().to_string();
            let args = DefaultConfigArgs { config: config.clone(), base: None, dry_run: false };
            defaultconfig(args, &mut Vec::new()).expect("written");
            let loaded = read(&config);
            assert_eq!(unknown_keys(&loaded), 0, "{:?}", loaded.notices);
            assert_eq!(loaded.config, Config::default(), "{name}");
        }
    }

    #[test]
    fn a_base_survives_the_way_through_every_format() {
        let folder = tempfile::tempdir().expect("folder");
        let base = folder.path().join("base.toml").display().to_string();
        let text = "[client]\nping_interval = \"1m1s\"\nallowed_origins = [\"a\"]\n[http_server]\ninternal_port = 9\n[[channel.namespaces]]\nname = \"chat\"\n";
        fs::write(&base, text).expect("written");
        let expected = read(&base).config;
        assert_ne!(expected, Config::default());
        for name in ["a.toml", "a.json", "a.yaml"] {
            let config = folder.path().join(name).display().to_string();
            let base = Some(base.clone());
            let args = DefaultConfigArgs { config: config.clone(), base, dry_run: false };
            defaultconfig(args, &mut Vec::new()).expect("written");
            assert_eq!(read(&config).config, expected, "{name}");
        }
    }

    #[test]
    fn a_dry_run_prints_and_writes_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let config = folder.path().join("a.toml").display().to_string();
        let args = DefaultConfigArgs { config: config.clone(), base: None, dry_run: true };
        let mut out = Vec::new();
        defaultconfig(args, &mut out).expect("printed");
        assert_eq!(out, REFERENCE.as_bytes());
        assert!(!fs::exists(&config).expect("known"));
    }

    #[test]
    fn strictness_turns_unknown_keys_into_a_failure() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.toml").display().to_string();
        fs::write(&path, "nonsense = 1\n").expect("written");
        let check = |strict| {
            let mut out = Vec::new();
            let done =
                checkconfig(CheckConfigArgs { config: Some(path.clone()), strict }, &mut out);
            (done, String::from_utf8_lossy(&out).into_owned())
        };
        let (done, out) = check(false);
        assert!(done.is_ok() && out.contains("unknown key nonsense"), "{done:?} {out}");
        assert!(matches!(check(true).0, Err(CliError::Strict(_))));
    }

    #[test]
    fn what_would_not_start_is_not_fine() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.toml").display().to_string();
        for (text, culprit) in [
            ("client.token.jwks_public_endpoint = 'ftp://a'\n", "jwks_public_endpoint"),
            ("health.enabled = true\nwebsocket.handler_prefix = '/health/live'\n", "/health/live"),
        ] {
            fs::write(&path, text).expect("written");
            let args = CheckConfigArgs { config: Some(path.clone()), strict: false };
            let error = checkconfig(args, &mut Vec::new()).expect_err(text).to_string();
            assert!(error.contains(culprit), "{error}");
        }
    }

    #[test]
    fn an_ending_that_is_no_format_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.ini").display().to_string();
        let done = genconfig(GenConfigArgs { config: path.clone() }, &mut Vec::new());
        assert!(done.is_err_and(|error| error.to_string().contains(".toml")));
        assert!(!fs::exists(&path).expect("known"));
    }
}
