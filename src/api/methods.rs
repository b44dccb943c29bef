//! The table of methods, and what follows from a line of it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize};

use super::messages::{
    BroadcastRequest, BroadcastResult, ChannelRequest, ChannelsRequest, ChannelsResult,
    DisconnectRequest, Done, HistoryRequest, HistoryResult, InfoRequest, InfoResult,
    PresenceResult, PresenceStatsResult, PublishRequest, PublishResult, RefreshRequest, RpcRequest,
    RpcResult, SubscribeRequest, UnsubscribeRequest,
};
use super::{Api, ApiError};
use crate::telemetry::metrics::labels::ApiMethod;

/// Declares, from one line per method, the enums over all of them and the dispatch.
macro_rules! methods {
    ($($Method:ident = $name:literal: $command:ident($Request:ident) -> $Result:ident;)*) => {
        /// A method that can be called by itself and in a batch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method { $($Method),* }

        /// A method with what it was given.
        #[derive(Clone, Debug)]
        pub enum Request { $($Method($Request)),* }

        /// A method with what came of it. As JSON an object with the method's name as its key.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Outcome { $($Method($Result)),* }

        impl Method {
            /// Every method with its name on the wire.
            pub const TABLE: &'static [(Self, &'static str)] = &[$((Self::$Method, $name)),*];

            /// The method of this name.
            pub fn of_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$Method),)*
                    _ => None,
                }
            }

            /// What it counts under.
            pub fn label(self) -> ApiMethod {
                match self { $(Self::$Method => ApiMethod::$Method),* }
            }

            /// The request with nothing in it.
            pub fn empty(self) -> Request {
                match self { $(Self::$Method => Request::$Method($Request::default())),* }
            }
        }

        /// Reads the method's request; `null` is `None`.
        impl<'de> DeserializeSeed<'de> for Method {
            type Value = Option<Request>;

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
                Ok(match self {
                    $(Self::$Method => {
                        Option::<$Request>::deserialize(from)?.map(Request::$Method)
                    })*
                })
            }
        }

        impl Request {
            pub fn method(&self) -> Method {
                match self { $(Self::$Method(_) => Method::$Method),* }
            }
        }

        impl Outcome {
            pub fn method(&self) -> Method {
                match self { $(Self::$Method(_) => Method::$Method),* }
            }

            /// Appends the result as JSON, without the method's name.
            pub(super) fn write_result(&self, into: &mut Vec<u8>) -> serde_json::Result<()> {
                match self { $(Self::$Method(result) => serde_json::to_writer(into, result)),* }
            }
        }

        impl Api {
            /// Each method's future is as large as it has to be, rather than all as the largest.
            pub(super) async fn dispatch(&self, request: Request) -> Result<Outcome, ApiError> {
                Ok(match request {
                    $(Request::$Method(request) => {
                        Outcome::$Method(Box::pin(self.$command(request)).await?)
                    })*
                })
            }
        }
    };
}

methods! {
    Publish = "publish": publish(PublishRequest) -> PublishResult;
    Broadcast = "broadcast": broadcast(BroadcastRequest) -> BroadcastResult;
    Subscribe = "subscribe": subscribe(SubscribeRequest) -> Done;
    Unsubscribe = "unsubscribe": unsubscribe(UnsubscribeRequest) -> Done;
    Disconnect = "disconnect": disconnect(DisconnectRequest) -> Done;
    Refresh = "refresh": refresh(RefreshRequest) -> Done;
    Presence = "presence": presence(ChannelRequest) -> PresenceResult;
    PresenceStats = "presence_stats": presence_stats(ChannelRequest) -> PresenceStatsResult;
    History = "history": history(HistoryRequest) -> HistoryResult;
    HistoryRemove = "history_remove": history_remove(ChannelRequest) -> Done;
    Info = "info": info(InfoRequest) -> InfoResult;
    Rpc = "rpc": rpc(RpcRequest) -> RpcResult;
    Channels = "channels": channels(ChannelsRequest) -> ChannelsResult;
}

impl Method {
    /// Reads the method's request from the whole of `json`.
    ///
    /// # Errors
    /// If `json` is anything but one object (or `null`) with fields of the right types.
    pub fn read(self, json: &[u8]) -> serde_json::Result<Request> {
        refuse_array(json)?;
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let request = DeserializeSeed::deserialize(self, &mut deserializer)?;
        deserializer.end()?;
        Ok(request.unwrap_or_else(|| self.empty()))
    }
}

/// Serde would take an array for a struct whose fields come in order.
pub(super) fn refuse_array(json: &[u8]) -> serde_json::Result<()> {
    match json.trim_ascii_start().first() {
        Some(b'[') => Err(serde_json::Error::custom("an array stands where an object should")),
        _ => Ok(()),
    }
}

/// A key where a method's name should stand.
pub(super) struct Name(pub Option<Method>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a method")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name(Method::of_name(name)))
            }
        }

        deserializer.deserialize_identifier(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::labels::LabelSet;

    #[test]
    fn a_method_has_one_name_on_the_wire_and_in_metrics() {
        for (method, name) in Method::TABLE {
            assert_eq!(Method::of_name(name), Some(*method));
            assert_eq!(method.empty().method(), *method);
            let mut label = Vec::new();
            method.label().texts(&mut label);
            assert_eq!(label, [*name]);
        }
        assert_eq!(Method::of_name("connections"), None);
        assert_eq!(Method::of_name("batch"), None, "a batch holds no batch");
    }

    #[test]
    fn outcomes_carry_the_name_that_requests_have() {
        let outcome = Outcome::PresenceStats(PresenceStatsResult::default());
        let json = serde_json::to_string(&outcome).expect("json");
        assert_eq!(json, r#"{"presence_stats":{"num_clients":0,"num_users":0}}"#);
    }

    #[test]
    fn a_request_is_one_object_and_nothing_else() {
        for good in ["{}", " {\"pattern\":\"a*\"}\n", "null", "{\"other\":[1]}"] {
            assert!(Method::Channels.read(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["", " ", "{", "{}{}", "[]", "[\"a\"]", "7", "\"a\"", "{\"pattern\":1}"] {
            assert!(Method::Channels.read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
