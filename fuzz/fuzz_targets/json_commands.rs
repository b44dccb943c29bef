//! See `src/protocol/fuzzed.rs`.
#![no_main]

use bobolink::protocol::fuzzed;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzed::json_commands(input));
