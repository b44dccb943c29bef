//! Fresh secrets, for new configurations and for development.

use aws_lc_rs::rand;

/// What secrets are made of: safe in every file format, in URLs and in shells.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A random text of `length` letters and digits, from a cryptographic source.
///
/// # Errors
/// The system has no randomness to give.
pub fn random_text(length: usize) -> Result<String, NoRandomness> {
    // Bytes past the last whole multiple of the alphabet would favour its first letters.
    const FAIR: u8 = (256 / ALPHABET.len() * ALPHABET.len() - 1) as u8;
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        let fair = bytes.iter().filter(|byte| **byte <= FAIR);
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
        text.extend(letters.take(length - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

/// The system has no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_their_length_and_use_the_whole_alphabet() {
        let text = random_text(20_000).expect("randomness");
        assert_eq!(text.len(), 20_000);
        for letter in ALPHABET {
            let count = text.bytes().filter(|byte| byte == letter).count();
            // Expected 322 with a deviation of 18.
            assert!((200..450).contains(&count), "{} occurs {count} times", char::from(*letter));
        }
        assert_ne!(random_text(16), random_text(16));
    }
}
