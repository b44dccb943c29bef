//! Channels: names, namespaces, options and who may do what. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::config::ChannelOptions;

pub mod permission {
    use super::*;
    pub fn publish(r: &ChannelRules, a: &Actor<'_>) -> Result<(), Refusal> {
        let o = &r.options;
        let _ = (o, a);
        Ok(())
    }
    pub fn presence(_r: &ChannelRules, _a: &Actor<'_>) -> Result<(), Refusal> {
        Ok(())
    }
    pub fn history(_r: &ChannelRules, _a: &Actor<'_>) -> Result<(), Refusal> {
        Ok(())
    }
    pub fn subscribe(
        _n: &Namespaces,
        _c: &str,
        _r: &ChannelRules,
        _a: &Actor<'_>,
    ) -> Result<(), Refusal> {
        Ok(())
    }
    pub fn wish(_n: &Namespaces, _c: &str, _r: &ChannelRules, _a: &Actor<'_>) -> bool {
        false
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);
impl From<&str> for Channel {
    fn from(s: &str) -> Self {
        Self(s.into())
    }
}
impl From<String> for Channel {
    fn from(s: String) -> Self {
        Self(s.into())
    }
}
impl std::ops::Deref for Channel {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}
impl std::borrow::Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub struct Actor<'a> {
    pub user: &'a str,
    pub subscribed: bool,
    pub insecure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UnknownChannel,
    PermissionDenied,
    BadRequest,
    NotAvailable,
}

#[derive(Debug)]
pub struct ChannelRules {
    pub options: ChannelOptions,
    pub history_meta_ttl: Duration,
    pub compaction: bool,
}
impl ChannelRules {
    pub fn history_enabled(&self) -> bool {
        self.options.history_size > 0
    }
    pub fn allows_fossil_delta(&self) -> bool {
        !self.options.allowed_delta_types.is_empty()
    }
    pub fn check_data(&self, _data: &[u8]) -> Result<(), &'static str> {
        Ok(())
    }
}

pub struct Namespaces {
    all: std::collections::BTreeMap<String, Arc<ChannelRules>>,
}
impl Namespaces {
    pub fn resolve(&self, channel: &str) -> Option<Arc<ChannelRules>> {
        self.all.get(channel.split_once(':').map_or("", |x| x.0)).cloned()
    }
    pub fn check_name(&self, _channel: &str) -> Result<(), Refusal> {
        Ok(())
    }
    pub fn personal_channel(&self, _ns: &str, _user: &str) -> String {
        String::new()
    }
}
impl Namespaces {
    pub fn new(c: &crate::config::ChannelConfig) -> Result<Self, String> {
        let rules = |o: &ChannelOptions| {
            Arc::new(ChannelRules {
                options: o.clone(),
                history_meta_ttl: c.history_meta_ttl,
                compaction: c.compaction,
            })
        };
        let mut all = std::collections::BTreeMap::new();
        all.insert(String::new(), rules(&c.without_namespace));
        for n in &c.namespaces {
            all.insert(n.name.clone(), rules(&n.options));
        }
        Ok(Self { all })
    }
}
