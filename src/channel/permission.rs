//! Who may do what in a channel.

use super::namespaces::Namespaces;
use super::rules::ChannelRules;

/// Why a command is refused; which code that is on the wire is the session's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UnknownChannel,
    PermissionDenied,
    BadRequest,
    NotAvailable,
}

/// What matters of the client that wants something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor<'a> {
    /// Empty for anonymous.
    pub user: &'a str,
    /// To the channel in question.
    pub subscribed: bool,
    /// `client.insecure`: everything is allowed.
    pub insecure: bool,
}

/// Decides about a subscribe command without a token; with one, the token decides. The name was
/// checked before.
///
/// # Errors
/// Why not.
pub fn subscribe(
    namespaces: &Namespaces,
    channel: &str,
    rules: &ChannelRules,
    actor: &Actor<'_>,
) -> Result<(), Refusal> {
    if namespaces.names().parse(channel).private {
        return Err(Refusal::PermissionDenied);
    }
    let listed = is_listed(namespaces, channel, rules, actor);
    if listed == Some(true) {
        return Ok(());
    }
    if has_subscribe_proxy(rules) && listed.is_none() {
        return Err(Refusal::NotAvailable);
    }
    permit(listed.is_none() && may_subscribe(rules, actor) || actor.insecure)
}

/// Whether a channel that a client names in its connect command becomes a server-side
/// subscription. If not, the wish is passed over in silence.
pub fn wish(
    namespaces: &Namespaces,
    channel: &str,
    rules: &ChannelRules,
    actor: &Actor<'_>,
) -> bool {
    let possible = !namespaces.names().parse(channel).private
        && !has_subscribe_proxy(rules)
        && namespaces.check_name(channel).is_ok();
    let listed = is_listed(namespaces, channel, rules, actor);
    let allowed = listed.unwrap_or_else(|| may_subscribe(rules, actor));
    possible && (allowed || actor.insecure)
}

/// Whether the user is among those that the channel is limited to; none if it is not limited.
fn is_listed(
    namespaces: &Namespaces,
    channel: &str,
    rules: &ChannelRules,
    actor: &Actor<'_>,
) -> Option<bool> {
    let names = namespaces.names();
    let users = names.parse(channel).users.filter(|_| rules.options.allow_user_limited_channels);
    users.map(|users| names.lists_user(users, actor.user))
}

fn has_subscribe_proxy(rules: &ChannelRules) -> bool {
    rules.options.subscribe_proxy_enabled || rules.options.subscribe_stream_proxy_enabled
}

fn may_subscribe(rules: &ChannelRules, actor: &Actor<'_>) -> bool {
    let options = &rules.options;
    options.allow_subscribe_for_client
        && (!actor.user.is_empty() || options.allow_subscribe_for_anonymous)
}

/// Decides about a client's publish command, after [`ChannelRules::check_data`].
///
/// # Errors
/// Why not.
pub fn publish(rules: &ChannelRules, actor: &Actor<'_>) -> Result<(), Refusal> {
    let options = &rules.options;
    if options.publish_proxy_enabled || options.subscribe_stream_proxy_enabled {
        return Err(Refusal::NotAvailable);
    }
    let rights = Rights {
        client: options.allow_publish_for_client,
        subscriber: options.allow_publish_for_subscriber,
        anonymous: options.allow_publish_for_anonymous,
    };
    permit(rights.include(actor))
}

/// Decides about a client's presence or presence stats command.
///
/// # Errors
/// Why not.
pub fn presence(rules: &ChannelRules, actor: &Actor<'_>) -> Result<(), Refusal> {
    let options = &rules.options;
    if !options.presence {
        return Err(Refusal::NotAvailable);
    }
    let rights = Rights {
        client: options.allow_presence_for_client,
        subscriber: options.allow_presence_for_subscriber,
        anonymous: options.allow_presence_for_anonymous,
    };
    permit(rights.include(actor))
}

/// Decides about a client's history command.
///
/// # Errors
/// Why not.
pub fn history(rules: &ChannelRules, actor: &Actor<'_>) -> Result<(), Refusal> {
    if !rules.history_enabled() {
        return Err(Refusal::NotAvailable);
    }
    let options = &rules.options;
    let rights = Rights {
        client: options.allow_history_for_client,
        subscriber: options.allow_history_for_subscriber,
        anonymous: options.allow_history_for_anonymous,
    };
    permit(rights.include(actor))
}

/// The three options that every operation but subscribing has.
struct Rights {
    client: bool,
    subscriber: bool,
    anonymous: bool,
}

impl Rights {
    fn include(&self, actor: &Actor<'_>) -> bool {
        let known = !actor.user.is_empty() || self.anonymous;
        let has_part = self.client || self.subscriber && actor.subscribed;
        known && has_part || actor.insecure
    }
}

fn permit(allowed: bool) -> Result<(), Refusal> {
    if allowed { Ok(()) } else { Err(Refusal::PermissionDenied) }
}

#[cfg(test)]
mod tests;
