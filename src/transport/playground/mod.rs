//! The page a newcomer meets under `serve --dev`: plain ES modules that speak the JSON protocol
//! in the open, with every frame shown. The scripts stand beside this file; `playground.js` is
//! where to begin reading, `client.js` is the protocol.

pub mod assets;
