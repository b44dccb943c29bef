//! One file per command (the readers share one); each checks, then calls a verb of the node.

mod connect;
mod publish;
mod read;
mod refresh;
mod sub_refresh;
mod subscribe;
mod unsubscribe;

pub(super) use self::connect::connect;
pub(super) use self::publish::publish;
pub(super) use self::read::{history, presence, presence_stats};
pub(super) use self::refresh::refresh;
pub(super) use self::sub_refresh::sub_refresh;
pub(super) use self::subscribe::subscribe;
pub(super) use self::unsubscribe::unsubscribe;
