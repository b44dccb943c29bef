//! The protocol of Redis: commands out, values in. Pure; strings of an answer share its buffer.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest line that is not the content of a string: numbers, lengths and errors.
const MAX_LINE: usize = 64 * 1_024;
/// Bytes of the longest string: `proto-max-bulk-len` of Redis.
const MAX_STRING: usize = 512 * 1_024 * 1_024;
/// Room for the arguments of most commands, so that it need not grow with each.
const USUAL_BYTES: usize = 512;
/// Lists in lists; scripts and `INFO` need four.
const MAX_DEPTH: u32 = 32;

/// One command: its name and its arguments.
#[derive(Clone, Debug, Default)]
pub struct Command {
    args: u32,
    body: BytesMut,
}

/// What Redis answers. Types of RESP3 come as the type of RESP2 that holds the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Nil,
    Integer(i64),
    /// Any kind of string, also the numbers of RESP3 that are not integers.
    Text(Bytes),
    /// Why the command was refused, beginning with a word in capitals.
    Error(Bytes),
    /// Lists, sets, and maps as key, value, key, value.
    List(Vec<Value>),
    /// What was not asked for, such as a message of RESP3.
    Push(Vec<Value>),
}

/// Takes values out of a stream of bytes, each as soon as it is complete.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the value at the front that were looked at already.
    scanned: usize,
    /// Values that the one at the front still lacks, itself included; 0 before its first byte.
    missing: u64,
}

/// Bytes that are not of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not in the protocol of Redis: {0}")]
pub struct Malformed(&'static str);

impl Command {
    pub fn new(name: &str) -> Self {
        Self { args: 0, body: BytesMut::with_capacity(USUAL_BYTES) }.arg(name)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        let arg = arg.as_ref();
        self.body.reserve(arg.len() + 16);
        self.body.put_u8(b'$');
        put_number(&mut self.body, arg.len() as u64);
        self.body.put_slice(b"\r\n");
        self.body.put_slice(arg);
        self.body.put_slice(b"\r\n");
        self.args += 1;
        self
    }

    /// Adds a number.
    pub fn number(self, number: u64) -> Self {
        let mut digits = BytesMut::with_capacity(20);
        put_number(&mut digits, number);
        self.arg(digits)
    }

    /// Adds arguments.
    pub fn args<A: AsRef<[u8]>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// How many bytes [`Command::encode`] adds, about.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether it has not even a name.
    pub fn is_empty(&self) -> bool {
        self.args == 0
    }

    /// Appends it as it goes over the wire.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.body.len() + 16);
        out.put_u8(b'*');
        put_number(out, u64::from(self.args));
        out.put_slice(b"\r\n");
        out.put_slice(&self.body);
    }
}

impl Value {
    /// The string that it is.
    pub fn text(&self) -> Option<&Bytes> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The string that it is, if it is UTF-8.
    pub fn str(&self) -> Option<&str> {
        std::str::from_utf8(self.text()?).ok()
    }

    /// The number that it is or, as scripts like to answer, spells.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Text(_) => self.str()?.parse().ok(),
            _ => None,
        }
    }

    /// The values of a list.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Self::List(values) | Self::Push(values) => Some(values),
            _ => None,
        }
    }
}

impl Decoder {
    /// Takes the next value off the front of `buffer`; `None` if it is not complete yet.
    ///
    /// # Errors
    /// What comes is not the protocol; the connection is of no use any more.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Value>, Malformed> {
        if self.missing == 0 {
            self.missing = 1;
        }
        while self.missing > 0 {
            let Some(step) = Step::of(buffer, self.scanned)? else { return Ok(None) };
            self.scanned = step.end;
            self.missing = self.missing - 1 + step.parts;
        }
        let mut bytes = buffer.split_to(self.scanned).freeze();
        self.scanned = 0;
        take(&mut bytes, 0).map(Some)
    }
}

/// One value without those in it: where it ends, and how many follow that belong to it.
struct Step {
    end: usize,
    parts: u64,
}

impl Step {
    fn of(buffer: &[u8], start: usize) -> Result<Option<Self>, Malformed> {
        let rest = buffer.get(start..).unwrap_or_default();
        let Some(line) = line_of(rest)? else { return Ok(None) };
        let after_line = start + line.len() + 2;
        let Some((kind, text)) = line.split_first() else { return Err(Malformed("an empty line")) };
        Ok(Some(match kind {
            b'$' | b'=' | b'!' => {
                let Some(length) = length_of(text)? else {
                    return Ok(Some(Self { end: after_line, parts: 0 }));
                };
                if length > MAX_STRING as u64 {
                    return Err(Malformed("a string that is too long"));
                }
                let end = after_line + length as usize + 2;
                if buffer.len() < end {
                    return Ok(None);
                }
                Self { end, parts: 0 }
            }
            b'*' | b'~' | b'>' => Self { end: after_line, parts: length_of(text)?.unwrap_or(0) },
            b'%' => Self { end: after_line, parts: length_of(text)?.unwrap_or(0) * 2 },
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Self { end: after_line, parts: 0 },
            _ => return Err(Malformed("an unknown type")),
        }))
    }
}

/// Takes a value that is known to be complete.
fn take(bytes: &mut Bytes, depth: u32) -> Result<Value, Malformed> {
    const CUT: Malformed = Malformed("a value that ends early");
    if depth > MAX_DEPTH {
        return Err(Malformed("lists nested too deep"));
    }
    let line = line_of(bytes)?.ok_or(CUT)?;
    let kind = *line.first().ok_or(CUT)?;
    let text_range = 1..line.len();
    let line_end = line.len() + 2;
    let text = bytes.slice(text_range);
    bytes.advance(line_end);
    Ok(match kind {
        b'+' | b',' | b'(' => Value::Text(text),
        b'-' => Value::Error(text),
        b':' => Value::Integer(parse(&text).ok_or(Malformed("a number that is none"))?),
        b'#' => Value::Integer(i64::from(text.first() == Some(&b't'))),
        b'_' => Value::Nil,
        b'$' | b'=' | b'!' => {
            let Some(length) = length_of(&text)? else { return Ok(Value::Nil) };
            let length = length as usize;
            if bytes.len() < length + 2 {
                return Err(CUT);
            }
            let content = bytes.split_to(length);
            bytes.advance(2);
            match kind {
                b'!' => Value::Error(content),
                // Three letters of format and a colon come first.
                b'=' if content.len() >= 4 => Value::Text(content.slice(4..)),
                _ => Value::Text(content),
            }
        }
        _ => {
            let Some(length) = length_of(&text)? else { return Ok(Value::Nil) };
            let length = if kind == b'%' { length * 2 } else { length };
            let values = (0..length).map(|_| take(bytes, depth + 1));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            if kind == b'>' { Value::Push(values) } else { Value::List(values) }
        }
    })
}

/// The bytes before the first line break; `None` if there is none yet.
fn line_of(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let looked_at = bytes.get(..MAX_LINE).unwrap_or(bytes);
    match looked_at.iter().position(|byte| *byte == b'\n') {
        Some(end) => match looked_at.get(..end).and_then(|line| line.strip_suffix(b"\r")) {
            Some(line) => Ok(Some(line)),
            None => Err(Malformed("a line break without a carriage return")),
        },
        None if bytes.len() >= MAX_LINE => Err(Malformed("a line that is too long")),
        None => Ok(None),
    }
}

/// A length; `None` for -1, which stands for nil.
fn length_of(text: &[u8]) -> Result<Option<u64>, Malformed> {
    match parse(text) {
        Some(-1) => Ok(None),
        // As many values as bytes could follow at the very most.
        Some(length) if (0..=i64::from(u32::MAX)).contains(&length) => {
            Ok(Some(length.unsigned_abs()))
        }
        _ => Err(Malformed("a length that is none")),
    }
}

fn parse(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn put_number(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    out.put_slice(digits.get(20 - length..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn decode(bytes: &[u8]) -> Result<Option<Value>, Malformed> {
        Decoder::default().next(&mut BytesMut::from(bytes))
    }

    /// As Redis would write it.
    fn encode(value: &Value, out: &mut Vec<u8>) {
        let mut list = |kind: u8, values: &[Value]| {
            out.extend(format!("{}{}\r\n", char::from(kind), values.len()).bytes());
            values.iter().for_each(|value| encode(value, out));
        };
        match value {
            Value::List(values) => list(b'*', values),
            Value::Push(values) => list(b'>', values),
            Value::Nil => out.extend(b"$-1\r\n"),
            Value::Integer(number) => out.extend(format!(":{number}\r\n").bytes()),
            Value::Text(text) => {
                out.extend(format!("${}\r\n", text.len()).bytes());
                out.extend(text);
                out.extend(b"\r\n");
            }
            Value::Error(text) => {
                out.extend(b"-");
                out.extend(text);
                out.extend(b"\r\n");
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Integer),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|b| Value::Text(b.into())),
            "[A-Z]{1,8} [a-z ]{0,20}".prop_map(|t| Value::Error(t.into())),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            proptest::collection::vec(inner, 0..6).prop_map(Value::List)
        })
    }

    #[test]
    fn a_command_is_a_list_of_strings() {
        let mut out = BytesMut::new();
        let command = Command::new("SET").arg("k\r\n").number(0).args([b"a", b"b"]);
        command.number(u64::MAX).encode(&mut out);
        let all = "*6\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$1\r\n0\r\n$1\r\na\r\n$1\r\nb\r\n";
        assert_eq!(out, format!("{all}$20\r\n18446744073709551615\r\n"));
    }

    #[test]
    fn types_of_resp3_come_as_those_of_resp2() {
        let bytes = b"%2\r\n+a\r\n#t\r\n+b\r\n~3\r\n_\r\n,1.5\r\n=5\r\ntxt:x\r\n";
        let inner = Value::List(vec![Value::Nil, text("1.5"), text("x")]);
        let whole = Value::List(vec![text("a"), Value::Integer(1), text("b"), inner]);
        assert_eq!(decode(bytes), Ok(Some(whole)));
        let error = Value::Error("ERR no".into());
        assert_eq!(decode(b"!6\r\nERR no\r\n"), Ok(Some(error)));
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        for bytes in ["?\r\n", "\r\n", ":x\r\n", "$-2\r\n", "*x\r\n", "$9999999999\r\n", "+a\n"] {
            assert!(decode(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        assert!(decode(&b"*1\r\n".repeat(1_000)).is_ok_and(|value| value.is_none()), "incomplete");
        let deep = [b"*1\r\n".repeat(1_000), b":1\r\n".to_vec()].concat();
        assert!(decode(&deep).is_err(), "deep");
        assert!(decode(&vec![b'+'; MAX_LINE + 1]).is_err(), "a long line");
    }

    proptest! {
        #[test]
        fn values_come_whole_however_the_bytes_are_cut(
            values in proptest::collection::vec(value(), 1..4),
            cuts in proptest::collection::vec(1_usize..30, 1..10),
        ) {
            let mut bytes = Vec::new();
            values.iter().for_each(|value| encode(value, &mut bytes));
            let (mut decoder, mut buffer, mut seen) = (Decoder::default(), BytesMut::new(), Vec::new());
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
                while let Some(value) = decoder.next(&mut buffer).unwrap() {
                    seen.push(value);
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, values);
        }

        #[test]
        fn no_bytes_break_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn nothing_that_looks_like_the_protocol_breaks_it(text in "([$*%>:+=!~_][-0-9a]{0,12}\r\n){0,20}") {
            let _ = decode(text.as_bytes());
        }
    }
}
