//! `gentoken`, `gensubtoken`, `checktoken`, `checksubtoken`: tokens for trying things out.

use std::io::{self, Write};

use crate::auth::{
    SettingsError, TokenError, TokenSettings, TokenVerifier, issue, unverified_payload,
};
use crate::time::Clock;

/// Lifetime of a generated token unless `-t` says otherwise: a week, in seconds.
pub const DEFAULT_TTL: i64 = 604_800;

/// Why a token command failed.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    /// Nothing to sign with.
    #[error("hmac_secret_key is not set, and generated tokens are signed with it")]
    NoSecret,
    /// A lifetime that is none.
    #[error("a lifetime of {0} seconds: allowed are 0 to {max}, and -1 for none", max = u32::MAX)]
    Ttl(i64),
    /// The configured keys cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The checked token is not accepted.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The result cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Prints a connection token of `user` (empty is anonymous) that is valid for `ttl` seconds, -1 for
/// ever. `quiet` prints the token alone.
///
/// # Errors
/// See [`TokenCommandError`].
pub fn gentoken(
    settings: &TokenSettings,
    user: &str,
    ttl: i64,
    quiet: bool,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), TokenCommandError> {
    let (secret, lifetime) = (secret(settings)?, lifetime(ttl)?);
    let token = issue::connection_token(secret, user, lifetime, clock.unix_seconds());
    if !quiet {
        writeln!(out, "HMAC SHA-256 JWT for {} {}:", whose(user), until(lifetime))?;
    }
    writeln!(out, "{token}")?;
    Ok(())
}

/// Prints a token for a subscription of `user` to `channel`; the rest is as in [`gentoken`].
/// `settings` are those that subscription tokens are verified with.
///
/// # Errors
/// See [`TokenCommandError`].
pub fn gensubtoken(
    settings: &TokenSettings,
    user: &str,
    channel: &str,
    ttl: i64,
    quiet: bool,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), TokenCommandError> {
    let (secret, lifetime) = (secret(settings)?, lifetime(ttl)?);
    let token = issue::subscription_token(secret, user, channel, lifetime, clock.unix_seconds());
    if !quiet {
        let (whose, until) = (whose(user), until(lifetime));
        writeln!(out, "HMAC SHA-256 JWT for {whose} and channel {channel:?} {until}:")?;
    }
    writeln!(out, "{token}")?;
    Ok(())
}

/// Verifies a connection token and prints whose it is and what it claims.
///
/// # Errors
/// See [`TokenCommandError`]; a token that is not accepted is one.
pub async fn checktoken(
    settings: TokenSettings,
    token: &str,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), TokenCommandError> {
    let verifier = TokenVerifier::new(settings)?;
    let claims = verifier.verify_connect(token, clock.unix_seconds()).await?;
    writeln!(out, "valid token for {}", whose(&claims.user))?;
    writeln!(out, "payload: {}", unverified_payload(token)?)?;
    Ok(())
}

/// Verifies a subscription token and prints whose it is, for which channel, and what it claims.
///
/// # Errors
/// See [`TokenCommandError`]; a token that is not accepted is one.
pub async fn checksubtoken(
    settings: TokenSettings,
    token: &str,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), TokenCommandError> {
    let verifier = TokenVerifier::new(settings)?;
    let claims = verifier.verify_subscribe(token, clock.unix_seconds()).await?;
    let (whose, channel) = (whose(&claims.user), &claims.channel);
    writeln!(out, "valid subscription token for {whose} and channel {channel:?}")?;
    writeln!(out, "payload: {}", unverified_payload(token)?)?;
    Ok(())
}

fn secret(settings: &TokenSettings) -> Result<&str, TokenCommandError> {
    match settings.hmac_secret_key.as_str() {
        "" => Err(TokenCommandError::NoSecret),
        secret => Ok(secret),
    }
}

fn lifetime(ttl: i64) -> Result<Option<u32>, TokenCommandError> {
    match ttl {
        -1 => Ok(None),
        ttl => u32::try_from(ttl).map(Some).map_err(|_| TokenCommandError::Ttl(ttl)),
    }
}

fn whose(user: &str) -> String {
    if user.is_empty() { "anonymous user".into() } else { format!("user {user:?}") }
}

/// Hours, minutes and seconds, as operators of Centrifugo are used to read them.
fn until(lifetime: Option<u32>) -> String {
    let Some(seconds) = lifetime else {
        return "without expiration".into();
    };
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let ttl = match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    };
    format!("with expiration TTL {ttl}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn settings() -> TokenSettings {
        TokenSettings { hmac_secret_key: "secret".into(), ..TokenSettings::default() }
    }

    fn generate(user: &str, ttl: i64, quiet: bool) -> String {
        let mut out = Vec::new();
        gentoken(&settings(), user, ttl, quiet, &Clock::manual(NOW), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    async fn check(token: &str, now: u64) -> Result<String, TokenCommandError> {
        let mut out = Vec::new();
        checktoken(settings(), token, &Clock::manual(now), &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_generated_token_is_introduced_unless_quiet() {
        let long = generate("42", DEFAULT_TTL, false);
        let quiet = generate("42", DEFAULT_TTL, true);
        let intro = "HMAC SHA-256 JWT for user \"42\" with expiration TTL 168h0m0s:\n";
        assert_eq!(long, format!("{intro}{quiet}"));
        assert_eq!(quiet.trim().split('.').count(), 3);
        let anonymous = generate("", -1, false);
        assert!(anonymous.starts_with("HMAC SHA-256 JWT for anonymous user without expiration:\n"));
    }

    #[tokio::test]
    async fn a_generated_token_passes_the_check_until_it_expires() {
        let token = generate("42", 60, true);
        let printed = check(token.trim(), NOW + 59).await.unwrap();
        assert_eq!(
            printed,
            format!(
                "valid token for user \"42\"\npayload: {{\"sub\":\"42\",\"iat\":{NOW},\"exp\":{}}}\n",
                NOW + 60
            )
        );
        let late = check(token.trim(), NOW + 60).await.unwrap_err();
        assert!(matches!(late, TokenCommandError::Token(TokenError::Expired)));
    }

    #[tokio::test]
    async fn a_generated_subscription_token_passes_its_own_check_only() {
        let (clock, mut out) = (Clock::manual(NOW), Vec::new());
        gensubtoken(&settings(), "42", "news", 60, true, &clock, &mut out).unwrap();
        let token = String::from_utf8(out).unwrap();
        let mut printed = Vec::new();
        checksubtoken(settings(), token.trim(), &clock, &mut printed).await.unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let intro = "valid subscription token for user \"42\" and channel \"news\"\npayload: {";
        assert!(printed.starts_with(intro), "{printed}");
        check(token.trim(), NOW).await.unwrap_err();
    }

    #[test]
    fn nothing_is_signed_without_a_secret() {
        let (settings, mut out) = (TokenSettings::default(), Vec::new());
        let error = gentoken(&settings, "42", 60, true, &Clock::manual(NOW), &mut out).unwrap_err();
        assert!(matches!(error, TokenCommandError::NoSecret));
        assert!(out.is_empty());
    }

    #[test]
    fn a_negative_lifetime_other_than_minus_one_is_refused() {
        let mut out = Vec::new();
        let error =
            gentoken(&settings(), "42", -2, true, &Clock::manual(NOW), &mut out).unwrap_err();
        assert!(matches!(error, TokenCommandError::Ttl(-2)));
    }

    #[test]
    fn lifetimes_are_written_in_hours_minutes_and_seconds() {
        assert_eq!(until(Some(59)), "with expiration TTL 59s");
        assert_eq!(until(Some(61)), "with expiration TTL 1m1s");
        assert_eq!(until(Some(3_600)), "with expiration TTL 1h0m0s");
    }
}
