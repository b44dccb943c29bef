//! Reading the repository's own files, for the tests that check how it is written.

use std::path::{Path, PathBuf};
use std::{fs, iter};

/// Folders that hold nothing written by hand, or nothing of ours.
const SKIPPED: &[&str] = &[
    ".git",
    ".venv",
    ".bobolink",
    ".pytest_cache",
    "__pycache__",
    "dist",
    "node_modules",
    "target",
];

/// A text file of the repository.
pub struct Source {
    /// Path from the repository's root, with `/`.
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// 1-based line of a byte position.
    pub fn line_at(&self, position: usize) -> usize {
        self.text.as_bytes()[..position].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Every file and folder below `folder`, a path from the repository's root ("" is the root).
pub fn paths(folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for path in children(&folder) {
            let from_root = path.strip_prefix(root).expect("children lie below the root");
            found.push(from_root.to_string_lossy().replace('\\', "/"));
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The text files below `folder` whose name ends in one of `endings`; any name if none is given.
pub fn files(folder: &str, endings: &[&str]) -> Vec<Source> {
    paths(folder)
        .into_iter()
        .filter(|path| endings.is_empty() || endings.iter().any(|ending| path.ends_with(ending)))
        .filter_map(|path| {
            let text =
                fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).ok()?;
            Some(Source { path, text })
        })
        .collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !SKIPPED.iter().any(|skipped| path.ends_with(skipped)))
        .collect()
}

/// The Rust text with everything that is not code, comments and the insides of literals, replaced
/// by spaces. Every byte keeps its place, so positions and lines agree with the original.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped_end(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole characters are replaced")
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none starts there.
fn skipped_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after_word = at > 0 && is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment_len(rest);
    }
    match rest[0] {
        b'"' => at + quoted_len(rest, b'"'),
        b'\'' => at + char_len(rest),
        b'r' | b'b' | b'c' if !after_word => at + prefixed_len(rest),
        _ => at,
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Length of a character literal, 0 for a lifetime.
fn char_len(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return quoted_len(rest, b'\'');
    }
    // A character takes at most four bytes; a lifetime has no closing quote right behind it.
    let width = (2..=5).find(|at| rest.get(*at) == Some(&b'\''));
    match width {
        Some(at) if at == 2 || !rest[1].is_ascii() => at + 1,
        _ => 0,
    }
}

/// Length of a literal such as `b"x"`, `b'x'`, `r#"x"#` or `br"x"`; 0 if it is just a word.
fn prefixed_len(rest: &[u8]) -> usize {
    let letters = rest.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
    let prefix = &rest[..letters];
    let hashes = rest[letters..].iter().take_while(|byte| **byte == b'#').count();
    let opening = rest.get(letters + hashes);
    match (prefix, hashes, opening) {
        (b"b" | b"c", 0, Some(b'"')) => letters + quoted_len(&rest[letters..], b'"'),
        (b"b", 0, Some(b'\'')) => letters + quoted_len(&rest[letters..], b'\''),
        (b"r" | b"br" | b"cr", _, Some(b'"')) => {
            let closing: Vec<u8> = iter::once(b'"').chain(iter::repeat_n(b'#', hashes)).collect();
            let body = letters + hashes + 1;
            let len = rest[body..].windows(closing.len()).position(|window| window == closing);
            len.map_or(rest.len(), |len| body + len + closing.len())
        }
        _ => 0,
    }
}

/// Whether a byte can be part of a Rust word.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Every place where `word` stands in `code` with no letter, digit or `_` right before it.
pub fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| *at == 0 || !is_word(code.as_bytes()[at - 1]))
}

/// Position behind the brace that closes the first `{` at or after `from`.
pub fn block_end(code: &str, from: usize) -> Option<usize> {
    let open = from + code[from..].find('{')?;
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at + 1),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[test]
fn comments_and_literals_are_blanked_in_place() {
    let text =
        "a(\"{\\\"\", '{', b'}', r#\"\"{\"#); // {\n/* { /* { */ */ b::<'a>('é'); for r in x {}";
    let code = code_only(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.matches('{').count(), 1, "{code}");
    assert!(code.contains("b::<'a>(") && code.contains("for r in x {}"), "{code}");
    assert_eq!(code.find('\n'), text.find('\n'));
}
