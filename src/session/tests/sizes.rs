//! What an idle connection costs. A million of them is a million times these numbers, so growing one
//! is a decision: raise a bound only together with a reason.

use crate::hub::Connection;
use crate::session::subscription::{Active, Stage};
use crate::session::{Connected, Session};

fn at_most<T>(bytes: usize) {
    let is = size_of::<T>();
    let name = std::any::type_name::<T>();
    assert!(is <= bytes, "{name} has {is} bytes, at most {bytes}");
}

#[test]
fn a_session_and_its_connection_stay_small() {
    // Locks, five deadlines with their flags, and a pointer to the rest.
    at_most::<Session>(184);
    // User, id, and an outbox that owns nothing while it is empty.
    at_most::<Connection>(184);
    // Behind a pointer, as a connection that has not authenticated has none.
    at_most::<Connected>(72);
}

#[test]
fn a_subscription_of_a_session_stays_small() {
    at_most::<Active>(64);
    // As large as its commonest stage: what the others need stands behind pointers.
    at_most::<Stage>(size_of::<Active>());
}
