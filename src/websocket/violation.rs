//! How a peer can break WebSocket, and what the close frame says of it.

/// What a peer did that it must not. The connection cannot go on: where the next frame begins, or
/// what was meant, is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a reserved bit of a frame is set")]
    ReservedBit,
    #[error("a frame has a reserved opcode")]
    ReservedOpCode,
    #[error("a length is not in its shortest form, or above 63 bits")]
    Length,
    #[error("a control frame has more than 125 bytes")]
    LongControl,
    #[error("a control frame is fragmented")]
    FragmentedControl,
    #[error("a frame of a client is not masked")]
    Unmasked,
    #[error("a frame of a server is masked")]
    Masked,
    #[error("a continuation has nothing to continue")]
    NothingToContinue,
    #[error("a message begins inside another one")]
    MessageInMessage,
    #[error("the body of a close frame has one byte")]
    ShortClose,
    #[error("a close frame has a code that no peer may send")]
    CloseCode,
    #[error("text is not valid UTF-8")]
    NotUtf8,
    #[error("compressed data is corrupt")]
    NotDeflate,
    #[error("message too big")]
    TooBig,
    #[error("message too big after decompression")]
    TooBigInflated,
}

impl Violation {
    /// The code of the close frame (RFC 6455, 7.4.1): 1002 for frames that must not be, 1007 for
    /// data that is not what its type says, 1009 for what is above a limit.
    pub fn close_code(self) -> u16 {
        match self {
            Self::ReservedBit
            | Self::ReservedOpCode
            | Self::Length
            | Self::LongControl
            | Self::FragmentedControl
            | Self::Unmasked
            | Self::Masked
            | Self::NothingToContinue
            | Self::MessageInMessage
            | Self::ShortClose
            | Self::CloseCode => 1002,
            Self::NotUtf8 | Self::NotDeflate => 1007,
            Self::TooBig | Self::TooBigInflated => 1009,
        }
    }

    /// The reason of the close frame. Centrifugo gives one only to a message that became too big by
    /// decompression; [`Display`](std::fmt::Display) has a sentence for each.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooBigInflated => "message too big after decompression",
            _ => "",
        }
    }
}
