//! Answers as JSON text.

use super::{Api, ApiError, Outcome};
use crate::protocol::codes::ApiErrorCode;
use crate::telemetry::metrics::labels::ApiFailure;

/// Bytes. Most answers fit; a publish's is about 50 long.
const USUAL_ANSWER: usize = 96;

/// Only base64 can have brought such a payload in.
const NOT_JSON: ApiError =
    ApiError { code: ApiErrorCode::INTERNAL, reason: "a payload of the answer is not JSON" };

impl Api {
    /// `{"result":…}`.
    ///
    /// # Errors
    /// A payload in the outcome is not JSON.
    pub(super) fn result_json(&self, outcome: &Outcome) -> Result<Vec<u8>, ApiError> {
        let mut text = Vec::with_capacity(USUAL_ANSWER);
        text.extend_from_slice(b"{\"result\":");
        self.append(&mut text, outcome, Outcome::write_result)?;
        text.push(b'}');
        Ok(text)
    }

    /// `{"replies":[…]}`: outcomes under their method's name, errors under `error`.
    pub(super) fn replies_json(&self, replies: &[Result<Outcome, ApiError>]) -> Vec<u8> {
        if replies.is_empty() {
            return b"{}".to_vec();
        }
        let mut text = Vec::with_capacity(USUAL_ANSWER * (replies.len() + 1));
        text.extend_from_slice(b"{\"replies\":[");
        for (index, reply) in replies.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            let written = reply.as_ref().map_err(|error| *error).and_then(|outcome| {
                self.append(&mut text, outcome, |outcome, text| {
                    serde_json::to_writer(text, outcome)
                })
            });
            if let Err(error) = written {
                text.extend_from_slice(&error_json(&error));
            }
        }
        text.extend_from_slice(b"]}");
        text
    }

    /// Appends `{"id":…,"result":…}` or `{"id":…,"error":…}`, without an id if that is 0.
    pub(super) fn append_reply(
        &self,
        text: &mut Vec<u8>,
        id: u64,
        reply: &Result<Outcome, ApiError>,
    ) {
        text.push(b'{');
        if id > 0 {
            text.extend_from_slice(format!("\"id\":{id},").as_bytes());
        }
        let body = reply.as_ref().map_err(|error| *error);
        match body.and_then(|outcome| self.result_json(outcome)) {
            // Both have a brace of their own in front, which stands here already.
            Ok(result) => text.extend_from_slice(result.get(1..).unwrap_or_default()),
            Err(error) => {
                text.extend_from_slice(error_json(&error).get(1..).unwrap_or_default());
            }
        }
    }

    /// Appends an outcome in whole or not at all.
    fn append(
        &self,
        text: &mut Vec<u8>,
        outcome: &Outcome,
        write: impl FnOnce(&Outcome, &mut Vec<u8>) -> serde_json::Result<()>,
    ) -> Result<(), ApiError> {
        let begin = text.len();
        write(outcome, text).map_err(|_| {
            text.truncate(begin);
            let method = outcome.method();
            tracing::debug!(?method, reason = NOT_JSON.reason, "API answer cannot be written");
            self.count_failure(method.label(), ApiFailure::Marshal);
            NOT_JSON
        })
    }
}

/// `{"error":…}`.
pub(super) fn error_json(error: &ApiError) -> Vec<u8> {
    let mut text = Vec::with_capacity(USUAL_ANSWER);
    text.extend_from_slice(b"{\"error\":");
    text.extend_from_slice(&bare_error_json(error));
    text.push(b'}');
    text
}

/// `{"code":…,"message":…}`.
pub(super) fn bare_error_json(error: &ApiError) -> Vec<u8> {
    // A number and a text, neither of them a payload, into memory: this cannot fail.
    serde_json::to_vec(error).unwrap_or_default()
}
