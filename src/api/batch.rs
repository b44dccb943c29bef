//! Many requests in one, and how they run beside each other.

use std::fmt;
use std::pin::Pin;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::methods::Name;
use super::{Api, ApiError, Outcome, Request};
use crate::protocol::json::nullable;
use crate::telemetry::metrics::labels::ApiMethod;

/// The most commands of one request. Each of them may be three bytes long and be answered with
/// fifty, so the size of the request alone would bound neither memory nor time well.
pub const MAX_COMMANDS: usize = 10_000;

/// How many commands of a batch, or channels of a broadcast, may wait for a backend at a time;
/// Centrifugo's number.
const MAX_SIDE_BY_SIDE: usize = 1_024;

/// Commands to carry out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BatchRequest {
    /// At most [`MAX_COMMANDS`].
    #[serde(deserialize_with = "few_commands")]
    pub commands: Vec<BatchCommand>,
    /// All at once rather than one after the other.
    #[serde(deserialize_with = "nullable")]
    pub parallel: bool,
}

/// One command of a batch.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are calls")]
pub enum BatchCommand {
    Call(Request),
    /// Names no method, or none that exists.
    Unknown,
    /// `null` stands in its place.
    Missing,
}

impl Api {
    /// Carries out the commands; the answers come in their order.
    pub async fn batch(&self, request: BatchRequest) -> Vec<Result<Outcome, ApiError>> {
        let parallel = request.parallel;
        let work = async {
            let each = request.commands.into_iter().map(|command| self.carry_out(command));
            if parallel { side_by_side(each).await } else { one_by_one(each).await }
        };
        self.timed(ApiMethod::Batch, work).await
    }

    async fn carry_out(&self, command: BatchCommand) -> Result<Outcome, ApiError> {
        let error = match command {
            BatchCommand::Call(request) => return self.call(request).await,
            BatchCommand::Unknown => ApiError::not_found("a command of the batch is of no method"),
            BatchCommand::Missing => ApiError::bad_request("a command of the batch is null"),
        };
        self.note(ApiMethod::Unknown, &error);
        Err(error)
    }
}

/// Awaits all, at most [`MAX_SIDE_BY_SIDE`] at a time, with the results in the order of the futures.
pub(super) async fn side_by_side<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut results = Vec::with_capacity(futures.size_hint().0);
    let mut waiting = FuturesUnordered::new();
    for (index, future) in futures.enumerate() {
        tokio::task::coop::consume_budget().await;
        let mut future = Box::pin(future);
        // With the memory broker every future is ready here, and none pays for a place in a queue.
        let result = match now_or_later(future.as_mut()).await {
            Poll::Ready(result) => Some(result),
            Poll::Pending => {
                waiting.push(async move { (index, future.await) });
                None
            }
        };
        results.push(result);
        if waiting.len() >= MAX_SIDE_BY_SIDE {
            put_next(&mut results, waiting.next().await);
        }
    }
    while let Some(done) = waiting.next().await {
        put_next(&mut results, Some(done));
    }
    results.into_iter().flatten().collect()
}

async fn one_by_one<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut results = Vec::with_capacity(futures.size_hint().0);
    for future in futures {
        tokio::task::coop::consume_budget().await;
        results.push(future.await);
    }
    results
}

async fn now_or_later<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

fn put_next<T>(results: &mut [Option<T>], done: Option<(usize, T)>) {
    if let Some((index, result)) = done
        && let Some(place) = results.get_mut(index)
    {
        *place = Some(result);
    }
}

impl<'de> Deserialize<'de> for BatchCommand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CommandVisitor;

        impl<'de> Visitor<'de> for CommandVisitor {
            type Value = BatchCommand;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the name of a method as its key, or null")
            }

            fn visit_unit<E>(self) -> Result<BatchCommand, E> {
                Ok(BatchCommand::Missing)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BatchCommand, A::Error> {
                let mut command = BatchCommand::Unknown;
                while let Some(Name(method)) = map.next_key()? {
                    match (&command, method) {
                        (BatchCommand::Unknown, Some(method)) => {
                            if let Some(request) = map.next_value_seed(method)? {
                                command = BatchCommand::Call(request);
                            }
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(command)
            }
        }

        deserializer.deserialize_any(CommandVisitor)
    }
}

/// A list that ends in an error rather than beyond [`MAX_COMMANDS`].
fn few_commands<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BatchCommand>, D::Error> {
    struct ListVisitor;

    impl<'de> Visitor<'de> for ListVisitor {
        type Value = Vec<BatchCommand>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_COMMANDS} commands")
        }

        fn visit_unit<E>(self) -> Result<Vec<BatchCommand>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut commands = Vec::new();
            while let Some(command) = list.next_element()? {
                if commands.len() == MAX_COMMANDS {
                    return Err(Error::invalid_length(MAX_COMMANDS + 1, &self));
                }
                commands.push(command);
            }
            Ok(commands)
        }
    }

    deserializer.deserialize_any(ListVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Method;

    fn read(json: &str) -> serde_json::Result<BatchRequest> {
        serde_json::from_str(json)
    }

    #[test]
    fn commands_are_read_by_their_only_key() {
        let json = r#"{"parallel":true,"commands":[
            {"info":{}},null,{},{"connections":{}},{"info":null},{"x":1,"channels":{"pattern":"a"}}
        ]}"#;
        let batch = read(json).expect("batch");
        let seen: Vec<_> = batch
            .commands
            .iter()
            .map(|command| match command {
                BatchCommand::Call(request) => format!("{:?}", request.method()),
                other => format!("{other:?}"),
            })
            .collect();
        assert!(batch.parallel);
        assert_eq!(seen, ["Info", "Missing", "Unknown", "Unknown", "Unknown", "Channels"]);
        assert!(read(r#"{"commands":null}"#).expect("batch").commands.is_empty());
    }

    #[test]
    fn a_command_with_a_wrong_field_spoils_the_batch() {
        for bad in [r#"{"commands":[{"publish":{"channel":7}}]}"#, r#"{"commands":["info"]}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_list_of_commands_is_bounded() {
        let of = |count| format!(r#"{{"commands":[{}]}}"#, vec!["{}"; count].join(","));
        assert_eq!(read(&of(MAX_COMMANDS)).expect("batch").commands.len(), MAX_COMMANDS);
        let error = read(&of(MAX_COMMANDS + 1)).expect_err("too many").to_string();
        assert!(error.contains("at most 10000 commands"), "{error}");
    }

    #[test]
    fn names_of_methods_may_be_written_with_escapes() {
        let batch = read(r#"{"commands":[{"\u0069nfo":{}}]}"#).expect("batch");
        assert!(
            matches!(&batch.commands[..], [BatchCommand::Call(it)] if it.method() == Method::Info)
        );
    }

    #[tokio::test]
    async fn results_keep_their_order_whenever_they_come() {
        let (release, held) = tokio::sync::watch::channel(false);
        let count = 3 * MAX_SIDE_BY_SIDE;
        let running = std::sync::atomic::AtomicUsize::new(0);
        let each = (0..count).map(|index| {
            let mut held = held.clone();
            let (running, release) = (&running, &release);
            async move {
                use std::sync::atomic::Ordering::SeqCst;
                let now = running.fetch_add(1, SeqCst) + 1;
                assert!(now <= MAX_SIDE_BY_SIDE, "{now} at a time");
                // The last that may run lets all others go.
                if now == MAX_SIDE_BY_SIDE {
                    release.send_replace(true);
                }
                if index % 3 > 0 {
                    held.wait_for(|free| *free).await.expect("sender lives");
                }
                running.fetch_sub(1, SeqCst);
                index
            }
        });
        assert_eq!(side_by_side(each).await, (0..count).collect::<Vec<_>>());
    }
}
