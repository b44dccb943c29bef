//! Who may do what in a channel.

use serde::de::IgnoredAny;

use super::name::NameRules;
use super::namespaces::Resolved;
use super::options::Options;
use crate::config::channel::PublicationDataFormat;

/// Why a command is refused; which code that is on the wire is the session's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    PermissionDenied,
    BadRequest,
    NotAvailable,
}

/// What matters of the client that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker<'a> {
    /// Empty for anonymous.
    pub user: &'a str,
    /// `client.insecure`: everything is allowed.
    pub insecure: bool,
    /// To the channel in question.
    pub subscribed: bool,
}

/// What becomes of a subscribe command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeDecision {
    Accept,
    /// The token decides.
    VerifyToken,
    Refuse(Refusal),
}

/// `type` of a subscribe command to a stream.
const TYPE_STREAM: i32 = 0;
/// `type` of a subscribe command to a shared poll.
const TYPE_SHARED_POLL: i32 = 4;

/// Decides about a client's subscribe command of type `subscription_type`.
pub fn subscribe(
    channel: &Resolved<'_>,
    rules: &NameRules,
    asker: &Asker<'_>,
    subscription_type: i32,
    has_token: bool,
) -> SubscribeDecision {
    use SubscribeDecision::{Accept, Refuse, VerifyToken};
    let settings = &channel.options.settings;
    if !channel.is_valid_name() {
        return Refuse(Refusal::BadRequest);
    }
    if subscription_type == TYPE_SHARED_POLL {
        return Refuse(Refusal::NotAvailable);
    }
    if subscription_type != TYPE_STREAM || !channel.options.is_stream() {
        return Refuse(Refusal::PermissionDenied);
    }
    if has_token {
        return VerifyToken;
    }
    if channel.name.private {
        return Refuse(Refusal::PermissionDenied);
    }
    let limited_to = channel.limited_to();
    if limited_to.is_some_and(|users| rules.lists_user(users, asker.user)) {
        return Accept;
    }
    let proxied = settings.subscribe_proxy_enabled || settings.subscribe_stream_proxy_enabled;
    if proxied && limited_to.is_none() {
        return Refuse(Refusal::NotAvailable);
    }
    let allowed = limited_to.is_none() && may_subscribe(&channel.options, asker);
    if allowed || asker.insecure { Accept } else { Refuse(Refusal::PermissionDenied) }
}

/// Whether a channel that a client names in its connect command becomes a server-side
/// subscription. If not, the wish is passed over in silence.
pub fn grants_connect_wish(channel: &Resolved<'_>, rules: &NameRules, asker: &Asker<'_>) -> bool {
    let settings = &channel.options.settings;
    if channel.name.private
        || settings.subscribe_proxy_enabled
        || settings.subscribe_stream_proxy_enabled
        || !channel.options.is_stream()
        || !channel.is_valid_name()
    {
        return false;
    }
    let allowed = match channel.limited_to() {
        Some(users) => rules.lists_user(users, asker.user),
        None => may_subscribe(&channel.options, asker),
    };
    allowed || asker.insecure
}

fn may_subscribe(options: &Options, asker: &Asker<'_>) -> bool {
    let settings = &options.settings;
    settings.allow_subscribe_for_client
        && (!asker.user.is_empty() || settings.allow_subscribe_for_anonymous)
}

/// Decides about a client's publish command.
///
/// # Errors
/// Why not.
pub fn publish(options: &Options, asker: &Asker<'_>, data: &[u8]) -> Result<(), Refusal> {
    let settings = &options.settings;
    check_data(options.publication_data_format(), data)?;
    if settings.publish_proxy_enabled || settings.subscribe_stream_proxy_enabled {
        return Err(Refusal::NotAvailable);
    }
    let rights = Rights {
        client: settings.allow_publish_for_client,
        subscriber: settings.allow_publish_for_subscriber,
        anonymous: settings.allow_publish_for_anonymous,
    };
    permit(rights.include(asker))
}

/// Whether data may be published, by clients and by the server API.
///
/// # Errors
/// [`Refusal::BadRequest`]
pub fn check_data(format: PublicationDataFormat, data: &[u8]) -> Result<(), Refusal> {
    // What is skipped is not checked to be UTF-8, so this comes first.
    let is_json = || {
        std::str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
    };
    let fine = match format {
        PublicationDataFormat::Unset => !data.is_empty(),
        PublicationDataFormat::Json => is_json(),
        PublicationDataFormat::JsonObject => {
            data.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') && is_json()
        }
        PublicationDataFormat::Binary => true,
    };
    if fine { Ok(()) } else { Err(Refusal::BadRequest) }
}

/// Decides about a client's presence or presence stats command.
///
/// # Errors
/// Why not.
pub fn presence(options: &Options, asker: &Asker<'_>) -> Result<(), Refusal> {
    if !options.settings.presence {
        return Err(Refusal::NotAvailable);
    }
    permit(may_see_presence(options, asker))
}

/// Decides about a client's history command.
///
/// # Errors
/// Why not.
pub fn history(options: &Options, asker: &Asker<'_>) -> Result<(), Refusal> {
    if !options.history_enabled() {
        return Err(Refusal::NotAvailable);
    }
    permit(may_read_history(options, asker))
}

/// Whether the client may know who is in the channel.
pub fn may_see_presence(options: &Options, asker: &Asker<'_>) -> bool {
    let settings = &options.settings;
    let rights = Rights {
        client: settings.allow_presence_for_client,
        subscriber: settings.allow_presence_for_subscriber,
        anonymous: settings.allow_presence_for_anonymous,
    };
    rights.include(asker)
}

/// Whether the client may know what was published.
pub fn may_read_history(options: &Options, asker: &Asker<'_>) -> bool {
    let settings = &options.settings;
    let rights = Rights {
        client: settings.allow_history_for_client,
        subscriber: settings.allow_history_for_subscriber,
        anonymous: settings.allow_history_for_anonymous,
    };
    rights.include(asker)
}

/// The three options that every operation but subscribing has.
struct Rights {
    client: bool,
    subscriber: bool,
    anonymous: bool,
}

impl Rights {
    fn include(&self, asker: &Asker<'_>) -> bool {
        let known = !asker.user.is_empty() || self.anonymous;
        let has_part = self.client || self.subscriber && asker.subscribed;
        known && has_part || asker.insecure
    }
}

fn permit(allowed: bool) -> Result<(), Refusal> {
    if allowed { Ok(()) } else { Err(Refusal::PermissionDenied) }
}

#[cfg(test)]
mod tests;
