//! Which shard has a channel: the choice that Centrifugo makes, so that nodes of both agree.

/// The shard of `channel` among `shards`: jump consistent hash of the name's FNV-1a.
pub fn shard_of(channel: &str, shards: usize) -> usize {
    if shards <= 1 { 0 } else { jump(fnv1a(channel.as_bytes()), shards) }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm": adding a bucket moves
/// only keys that come into it.
fn jump(mut key: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0, 0_i64);
    while next < buckets as i64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let scale = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * scale) as i64;
    }
    bucket as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // From the test vectors of the algorithm's authors.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    proptest! {
        #[test]
        fn another_shard_takes_keys_only_to_itself(channel in ".{0,20}", shards in 1_usize..50) {
            let before = shard_of(&channel, shards);
            let after = shard_of(&channel, shards + 1);
            prop_assert!(before < shards);
            prop_assert!(after == before || after == shards);
        }
    }

    #[test]
    fn every_shard_gets_its_share() {
        let mut counts = [0; 4];
        (0..4_000).for_each(|n| counts[shard_of(&format!("channel:{n}"), 4)] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
