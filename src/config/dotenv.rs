//! The `.env` file of the working directory: `NAME=value` lines.

use std::collections::BTreeMap;

/// Reads the lines of a `.env` file. Lines may start with `export`; `#` starts a comment; a value in
/// double quotes may go on over lines and knows `\n`, `\"`, `\\` and `\$`, one in single quotes is
/// taken as it is.
///
/// # Errors
/// The number of the first line that is none of this, counted from 1.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut variables = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(variables);
        }
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        let (name, value, after) = assignment(rest).ok_or(line)?;
        variables.insert(name.to_owned(), value);
        rest = after;
    }
}

/// The first assignment of `text`: its name, its value, and the text after it.
fn assignment(text: &str) -> Option<(&str, String, &str)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || !name.chars().all(valid) {
        return None;
    }
    let value = value.trim_start_matches([' ', '\t']);
    let (value, after) = match value.chars().next() {
        Some('\'') => {
            let (value, after) = value.get(1..)?.split_once('\'')?;
            (value.to_owned(), rest_of_line(after)?)
        }
        Some('"') => {
            let (value, after) = double_quoted(value.get(1..)?)?;
            (value, rest_of_line(after)?)
        }
        _ => {
            let (value, after) = value.split_once('\n').unwrap_or((value, ""));
            let value = value.split_once(" #").map_or(value, |(value, _)| value);
            (value.trim().to_owned(), after)
        }
    };
    Some((name, value, after))
}

/// What follows a closing quote may only be blank or a comment.
fn rest_of_line(text: &str) -> Option<&str> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let line = line.trim();
    (line.is_empty() || line.starts_with('#')).then_some(after)
}

fn double_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\' | '$') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_keep_what_their_quotes_hold() {
        let text =
            "# secrets\nA=1\nexport B = two words # note\nC='$x # y'\nD=\"1\\n\\\"2\\\"\n3\"\nE=\n";
        let variables = parse(text).expect("valid");
        let get = |name: &str| variables.get(name).map(String::as_str);
        assert_eq!(get("A"), Some("1"));
        assert_eq!(get("B"), Some("two words"));
        assert_eq!(get("C"), Some("$x # y"));
        assert_eq!(get("D"), Some("1\n\"2\"\n3"));
        assert_eq!(get("E"), Some(""));
    }

    #[test]
    fn a_broken_line_is_named_by_its_number() {
        assert_eq!(parse("A=1\n\nnonsense\n"), Err(3));
        assert_eq!(parse("A=1\nB=\"open\n"), Err(2));
        assert_eq!(parse("A='x' y\n"), Err(1));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "([A-Z=\"'\\\\\n# é]|.){0,60}") {
            let _ = parse(&text);
        }
    }
}
