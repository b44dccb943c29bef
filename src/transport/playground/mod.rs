//! What a newcomer meets under `serve --dev`: a page that shows every frame of the protocol, made of
//! plain ES modules on our JavaScript SDK, and the chat of `examples/chat`. The playground's scripts
//! stand beside this file; `playground.js` is where to begin reading, `connection.js` uses the SDK.

pub mod assets;
