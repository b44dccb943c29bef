//! The command line: one file per subcommand.

mod bench;
mod drill;
mod flags;
mod config;
mod history;
mod serve;
pub mod token;
pub mod healthcheck;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::bench::options::BenchArgs;
use crate::config::secrets::NoRandomness;
use crate::config::{Config, ConfigErrors, Disk, Sources, load};
use crate::drill::options::DrillArgs;
use crate::server::{ServerError, token_settings};
use crate::time::Clock;
use flags::Flags;
use healthcheck::{Question, Target};

/// A realtime gateway that speaks the Centrifuge protocol.
#[derive(Debug, Parser)]
#[command(name = "bobolink", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What to do; without any of these: serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(ServeArgs),
    /// Check the configuration.
    Checkconfig(CheckConfigArgs),
    /// Write a small configuration with fresh secrets.
    Genconfig(GenConfigArgs),
    /// Write a configuration with every default.
    Defaultconfig(DefaultConfigArgs),
    /// Make a connection token for trying things out.
    Gentoken(GenTokenArgs),
    /// Make a subscription token for trying things out.
    Gensubtoken(GenSubTokenArgs),
    /// Check a connection token.
    Checktoken(CheckTokenArgs),
    /// Check a subscription token.
    Checksubtoken(CheckTokenArgs),
    /// Ask a running server whether it is well.
    Healthcheck(HealthcheckArgs),
    /// Serve the history of archived channels alone, or look after it.
    History(HistoryArgs),
    /// Load a server and measure it.
    Bench(BenchArgs),
    /// Break a cluster and see what its clients notice.
    Drill(DrillArgs),
    /// Print the version.
    Version,
}

#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Configuration file, .toml, .json or .yaml [default: config.toml or config.json, if there is
    /// one]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<String>,
    /// Open everything that development needs, on this machine alone
    #[arg(long)]
    pub dev: bool,
    #[command(flatten)]
    pub flags: Flags,
}

#[derive(Args, Clone, Debug)]
pub struct CheckConfigArgs {
    /// Configuration file [default: config.toml or config.json, if there is one]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<String>,
    /// Fail on keys and variables that mean nothing
    #[arg(short, long)]
    pub strict: bool,
}

#[derive(Args, Clone, Debug)]
pub struct GenConfigArgs {
    /// File to write, .toml, .json or .yaml
    #[arg(short, long, value_name = "FILE", default_value = "config.toml")]
    pub config: String,
}

#[derive(Args, Clone, Debug)]
pub struct DefaultConfigArgs {
    /// File to write, .toml, .json or .yaml
    #[arg(short, long, value_name = "FILE", default_value = "config.toml")]
    pub config: String,
    /// Configuration file whose settings take the place of the defaults
    #[arg(short, long, value_name = "FILE")]
    pub base: Option<String>,
    /// Print the result and write nothing
    #[arg(short, long)]
    pub dry_run: bool,
}

#[derive(Args, Clone, Debug)]
pub struct GenTokenArgs {
    /// Configuration file with the key to sign with
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<String>,
    /// Whose token it is; empty for the anonymous user
    #[arg(short, long, default_value = "")]
    pub user: String,
    /// Seconds until it expires, -1 for never
    #[arg(short, long, default_value_t = 604_800, allow_negative_numbers = true)]
    pub ttl: i64,
    /// Print the token alone
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Args, Clone, Debug)]
pub struct GenSubTokenArgs {
    #[command(flatten)]
    pub token: GenTokenArgs,
    /// Channel to subscribe to
    #[arg(short = 's', long)]
    pub channel: String,
}

#[derive(Args, Clone, Debug)]
pub struct CheckTokenArgs {
    /// Configuration file with the keys to check with
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<String>,
    pub token: String,
}

#[derive(Args, Clone, Debug)]
pub struct HealthcheckArgs {
    /// Configuration file of the server
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<String>,
    /// What to ask for
    #[arg(long, value_enum, default_value_t = Question::Ready)]
    pub r#for: Question,
    /// Seconds to wait for the answer
    #[arg(long, default_value_t = 3)]
    pub timeout: u64,
    #[command(flatten)]
    pub flags: Flags,
}

#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HistoryArgs {
    #[command(subcommand)]
    pub command: Option<HistoryCommand>,
    /// Configuration file [default: config.toml or config.json, if there is one]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<String>,
}

/// What to do with the history; without any of these: serve it.
#[derive(Clone, Debug, Subcommand)]
pub enum HistoryCommand {
    /// Walk channels and prove that nothing is missing in them.
    Verify(VerifyArgs),
}

#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Configuration file [default: config.toml or config.json, if there is one]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<String>,
    /// Channels to walk; all of them, if none is named
    pub channels: Vec<String>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    ConfigFile(String),
    #[error("{path} exists already and is left as it is")]
    Exists { path: String },
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: io::Error },
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error("{0} unknown keys or variables, which --strict does not allow")]
    Strict(usize),
    #[error(transparent)]
    Log(#[from] crate::telemetry::logging::Error),
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Token(#[from] token::TokenCommandError),
    #[error(transparent)]
    Bench(#[from] bench::BenchCommandError),
    #[error(transparent)]
    HistoryStore(#[from] crate::server::store::OpenError),
    #[error("cannot read the history: {0}")]
    History(#[from] crate::archive::StoreError),
}

/// Does what the command line says. Errors go to stderr.
pub fn run(cli: Cli) -> ExitCode {
    dispatch(cli.command.unwrap_or(Command::Serve(cli.serve))).unwrap_or_else(|error| {
        eprintln!("bobolink: {error}");
        ExitCode::FAILURE
    })
}

fn dispatch(command: Command) -> Result<ExitCode, CliError> {
    let out = &mut io::stdout();
    let clock = Clock::real();
    match command {
        Command::Serve(args) => serve::serve(args)?,
        Command::Checkconfig(args) => config::checkconfig(args, out)?,
        Command::Genconfig(args) => config::genconfig(args, out)?,
        Command::Defaultconfig(args) => config::defaultconfig(args, out)?,
        Command::Gentoken(args) => {
            let settings =
                token_settings(&configured(args.config, Flags::default())?.client, false);
            token::gentoken(&settings, &args.user, args.ttl, args.quiet, &clock, out)?;
        }
        Command::Gensubtoken(GenSubTokenArgs { token: args, channel }) => {
            let settings = token_settings(&configured(args.config, Flags::default())?.client, true);
            token::gensubtoken(&settings, &args.user, &channel, args.ttl, args.quiet, &clock, out)?;
        }
        Command::Checktoken(args) => {
            let settings =
                token_settings(&configured(args.config, Flags::default())?.client, false);
            runtime()?.block_on(token::checktoken(settings, &args.token, &clock, out))?;
        }
        Command::Checksubtoken(args) => {
            let settings = token_settings(&configured(args.config, Flags::default())?.client, true);
            runtime()?.block_on(token::checksubtoken(settings, &args.token, &clock, out))?;
        }
        Command::Healthcheck(args) => {
            let config = configured(args.config, args.flags)?;
            let target = Target::of(&config, args.r#for, Duration::from_secs(args.timeout));
            return Ok(runtime()?.block_on(healthcheck::run(&target)));
        }
        Command::History(args) => return history::run(args, out),
        Command::Bench(args) => return Ok(bench::run(&args, &clock, out)?),
        Command::Drill(args) => return Ok(runtime()?.block_on(drill::run(&args, &clock, out))),
        Command::Version => version(out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn configured(file: Option<String>, flags: Flags) -> Result<Config, CliError> {
    Ok(load(&Sources::of_process(file, flags.0), &Disk)?.config)
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Runtime::new().map_err(CliError::Runtime)
}

fn version(out: &mut impl io::Write) -> Result<(), CliError> {
    Ok(writeln!(out, "Bobolink v{}", env!("CARGO_PKG_VERSION"))?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split(' ')).expect("a valid command line")
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves_with_the_same_flags() {
        let root = parse("bobolink -c a.toml -a ::1 -p 9000 --client.insecure --dev");
        assert!(root.command.is_none());
        let Some(Command::Serve(args)) = parse(
            "bobolink serve -c a.toml --http_server.address ::1 --http_server.port=9000 --client.insecure=true --dev",
        )
        .command
        else {
            panic!("serve")
        };
        for args in [root.serve, args] {
            assert_eq!(args.config.as_deref(), Some("a.toml"));
            assert!(args.dev);
            let given: Vec<_> =
                args.flags.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(
                given,
                [
                    ("client.insecure", "true"),
                    ("http_server.address", "::1"),
                    ("http_server.port", "9000"),
                ]
            );
        }
    }

    #[test]
    fn a_flag_can_switch_off_what_a_file_switches_on() {
        let args = parse("bobolink --health.enabled=false").serve;
        assert_eq!(args.flags.0.get("health.enabled").map(String::as_str), Some("false"));
    }

    #[test]
    fn a_health_check_asks_whether_the_server_is_ready_unless_told_otherwise() {
        for (line, question) in [
            ("bobolink healthcheck", Question::Ready),
            ("bobolink healthcheck --for live", Question::Live),
            ("bobolink healthcheck --for=delivery -c a.toml", Question::Delivery),
        ] {
            let Some(Command::Healthcheck(args)) = parse(line).command else { panic!("{line}") };
            assert_eq!(args.r#for, question);
        }
    }

    #[test]
    fn token_commands_take_centrifugos_flags() {
        let Some(Command::Gensubtoken(args)) =
            parse("bobolink gensubtoken -c a.json -u 42 -s news -t -1 -q").command
        else {
            panic!("gensubtoken")
        };
        assert_eq!((args.token.user.as_str(), args.channel.as_str()), ("42", "news"));
        assert_eq!((args.token.ttl, args.token.quiet), (-1, true));
        let Some(Command::Checktoken(args)) = parse("bobolink checktoken -c a.json ey.J.0").command
        else {
            panic!("checktoken")
        };
        assert_eq!(args.token, "ey.J.0");
    }
}
