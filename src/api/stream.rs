//! The older form of the API: commands one after the other in one body, answers likewise.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::StreamDeserializer;
use serde_json::de::SliceRead;
use serde_json::value::RawValue;

use super::{Api, ApiError, MAX_COMMANDS, Method, Outcome};
use crate::protocol::json::nullable;
use crate::telemetry::metrics::labels::{ApiFailure, ApiMethod};

/// Why a body of commands was not worked on; none of them was carried out.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("the body holds no command")]
    Empty,
    #[error("the body holds more than {MAX_COMMANDS} commands")]
    TooMany,
    #[error("the body is not a stream of {{\"id\", \"method\", \"params\"}} objects: {0}")]
    Malformed(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Command<'a> {
    #[serde(default, deserialize_with = "nullable")]
    id: u64,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

impl Api {
    /// Carries out every command of `body` in order. The answers, one a line, have the ids of
    /// their commands.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn answer_stream(&self, body: &[u8]) -> Result<Vec<u8>, StreamError> {
        // Read twice: a command takes many times the memory of its text.
        check(body)?;
        let mut answers = Vec::new();
        let mut commands = commands(body);
        while let Some(Ok(command)) = commands.next() {
            tokio::task::coop::consume_budget().await;
            if !answers.is_empty() {
                answers.push(b'\n');
            }
            let reply = self.answer(&command).await;
            self.append_reply(&mut answers, command.id, &reply);
        }
        Ok(answers)
    }

    async fn answer(&self, command: &Command<'_>) -> Result<Outcome, ApiError> {
        let Some(method) = Method::of_name(&command.method) else {
            let error = ApiError::not_found("no method has this name");
            self.note(ApiMethod::Unknown, &error);
            return Err(error);
        };
        let params = command.params.map_or("null", RawValue::get);
        match method.read(params.as_bytes()) {
            Ok(request) => self.call(request).await,
            Err(_) => {
                self.count_failure(method.label(), ApiFailure::Unmarshal);
                Err(ApiError::bad_request("params are not those of the method"))
            }
        }
    }
}

fn commands(body: &[u8]) -> StreamDeserializer<'_, SliceRead<'_>, Command<'_>> {
    serde_json::Deserializer::from_slice(body).into_iter()
}

fn check(body: &[u8]) -> Result<(), StreamError> {
    let mut count = 0;
    for command in commands(body) {
        command?;
        count += 1;
        if count > MAX_COMMANDS {
            return Err(StreamError::TooMany);
        }
    }
    if count == 0 { Err(StreamError::Empty) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing;

    #[tokio::test]
    async fn answers_have_the_ids_and_the_order_of_their_commands() {
        let api = testing::api();
        let body = br#"{"id":2,"method":"channels","params":{}}
            {"id":1,"method":"nothing"}{"method":"channels","params":null}
            {"id":3,"method":"publish","params":{"channel":7}}"#;
        let answers = api.answer_stream(body).await.expect("stream");
        let answers = String::from_utf8(answers).expect("text");
        assert_eq!(
            answers.lines().collect::<Vec<_>>(),
            [
                r#"{"id":2,"result":{"channels":{}}}"#,
                r#"{"id":1,"error":{"code":104,"message":"not found"}}"#,
                r#"{"result":{"channels":{}}}"#,
                r#"{"id":3,"error":{"code":107,"message":"bad request"}}"#,
            ]
        );
    }

    #[tokio::test]
    async fn a_body_is_refused_before_its_first_command_is_carried_out() {
        let api = testing::api();
        for (body, expected) in [
            ("", "no command"),
            (" \n", "no command"),
            (r#"{"id":1,"method":"info"} {"id""#, "EOF"),
            (r#"{"id":1,"params":{}}"#, "`method`"),
            (r#"{"id":-1,"method":"info"}"#, "-1"),
        ] {
            let error = api.answer_stream(body.as_bytes()).await.expect_err(body).to_string();
            assert!(error.contains(expected), "{body}: {error}");
        }
        let many = r#"{"method":"info"}"#.repeat(MAX_COMMANDS + 1);
        let error = api.answer_stream(many.as_bytes()).await.expect_err("too many");
        assert!(matches!(error, StreamError::TooMany));
    }
}
