//! Why a command did not do what it asked, and the one place that gives each reason its code.

use crate::channel;
use crate::node;
use crate::protocol::codes::{Disconnect, ErrorCode};

/// The answer to a command that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An error reply; the connection stays.
    Error(ErrorCode),
    /// The connection closes.
    Disconnect(Disconnect),
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Error(code)
    }
}

impl From<Disconnect> for Refusal {
    fn from(disconnect: Disconnect) -> Self {
        Self::Disconnect(disconnect)
    }
}

impl From<node::Error> for Refusal {
    fn from(error: node::Error) -> Self {
        Self::Error(match error {
            node::Error::UnknownChannel => ErrorCode::UNKNOWN_CHANNEL,
            node::Error::BadRequest(_) => ErrorCode::BAD_REQUEST,
            node::Error::NotAvailable(_) => ErrorCode::NOT_AVAILABLE,
            node::Error::UnrecoverablePosition => ErrorCode::UNRECOVERABLE_POSITION,
            // Clients learn that they may try again, and the words that they know for that.
            node::Error::Internal(_) | node::Error::Unavailable(_) => ErrorCode::INTERNAL,
            // Temporary, but not to be repeated blindly: clients have no idempotency keys.
            node::Error::OutcomeUnknown => {
                ErrorCode { message: "outcome unknown", ..ErrorCode::INTERNAL }
            }
        })
    }
}

impl From<channel::Refusal> for Refusal {
    fn from(refusal: channel::Refusal) -> Self {
        Self::Error(match refusal {
            channel::Refusal::UnknownChannel => ErrorCode::UNKNOWN_CHANNEL,
            channel::Refusal::PermissionDenied => ErrorCode::PERMISSION_DENIED,
            channel::Refusal::BadRequest => ErrorCode::BAD_REQUEST,
            channel::Refusal::NotAvailable => ErrorCode::NOT_AVAILABLE,
        })
    }
}
