//! Tokens: claims, verification, key sets, issuing.
