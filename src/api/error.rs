//! Why a call failed, and the one place that gives each reason its code.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::node;
use crate::protocol::codes::ApiErrorCode;

/// What a publisher is told whose publication may be published or not.
const OUTCOME_UNKNOWN: &str = "outcome unknown, retry with the same idempotency key";

/// A call that failed. The caller gets the code with its message, the log also the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct ApiError {
    pub code: ApiErrorCode,
    /// What exactly is wrong.
    pub reason: &'static str,
}

impl ApiError {
    /// 107: the request cannot be meant.
    pub fn bad_request(reason: &'static str) -> Self {
        Self { code: ApiErrorCode::BAD_REQUEST, reason }
    }

    /// 104: what the request names does not exist.
    pub fn not_found(reason: &'static str) -> Self {
        Self { code: ApiErrorCode::NOT_FOUND, reason }
    }

    /// 100: a fault on this side.
    pub fn internal(reason: &'static str) -> Self {
        Self { code: ApiErrorCode::INTERNAL, reason }
    }
}

impl From<node::Error> for ApiError {
    fn from(error: node::Error) -> Self {
        let (code, reason) = match error {
            node::Error::UnknownChannel => {
                (ApiErrorCode::UNKNOWN_CHANNEL, "the channel is in no configured namespace")
            }
            node::Error::BadRequest(reason) => (ApiErrorCode::BAD_REQUEST, reason),
            node::Error::NotAvailable(reason) => (ApiErrorCode::NOT_AVAILABLE, reason),
            node::Error::UnrecoverablePosition => {
                (ApiErrorCode::UNRECOVERABLE_POSITION, "the position is of another epoch")
            }
            node::Error::Internal(reason) => (ApiErrorCode::INTERNAL, reason),
            node::Error::Unavailable(reason) => (internal(reason), reason),
            node::Error::OutcomeUnknown => (internal(OUTCOME_UNKNOWN), OUTCOME_UNKNOWN),
        };
        Self { code, reason }
    }
}

/// 100, and what the caller is to know about it.
fn internal(message: &'static str) -> ApiErrorCode {
    ApiErrorCode { message, ..ApiErrorCode::INTERNAL }
}

impl Serialize for ApiError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("Error", 2)?;
        error.serialize_field("code", &self.code.code)?;
        error.serialize_field("message", self.code.message)?;
        error.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_node_has_its_code() {
        for (error, code) in [
            (node::Error::UnknownChannel, 102),
            (node::Error::BadRequest("why"), 107),
            (node::Error::NotAvailable("why"), 108),
            (node::Error::UnrecoverablePosition, 112),
            (node::Error::Internal("why"), 100),
            (node::Error::Unavailable("why"), 100),
            (node::Error::OutcomeUnknown, 100),
        ] {
            assert_eq!(ApiError::from(error.clone()).code.code, code, "{error:?}");
        }
    }

    #[test]
    fn callers_can_tell_a_fault_that_passes_from_one_of_ours() {
        let told = |error| ApiError::from(error).code.message;
        assert_eq!(told(node::Error::Unavailable("try again")), "try again");
        assert_eq!(told(node::Error::Internal("try again")), "internal server error");
    }

    #[test]
    fn callers_see_code_and_message_but_not_the_reason() {
        let json = serde_json::to_string(&ApiError::bad_request("a tag is too long"));
        assert_eq!(json.expect("json"), r#"{"code":107,"message":"bad request"}"#);
    }
}
