//! Messages of MongoDB's wire protocol: read whole, looked into, answered.

use std::io;

use mongodb::bson::Document;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of length, request, answered request and kind.
const HEADER: usize = 16;
/// The longest message that a server takes (maxMessageSizeBytes), and room for its frame.
const LONGEST: usize = 48_000_000 + 16 * 1_024;
/// The kinds of message that drivers send: one with everything since 3.6, and the first hello before it
/// is known what the server understands.
const OP_MSG: i32 = 2013;
const OP_QUERY: i32 = 2004;
const OP_REPLY: i32 = 1;
/// Another message follows in place of the answer.
const MORE_TO_COME: i32 = 1 << 1;

/// A message with its header.
pub struct Message(Vec<u8>);

impl Message {
    /// Reads one.
    ///
    /// # Errors
    /// The connection ends, or what comes is no message.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = vec![0; HEADER];
        stream.read_exact(&mut bytes).await?;
        let length = usize::try_from(number(&bytes, 0)?).unwrap_or_default();
        if !(HEADER..=LONGEST).contains(&length) {
            return Err(broken("a length that cannot be"));
        }
        bytes.resize(length, 0);
        stream.read_exact(&mut bytes[HEADER..]).await?;
        Ok(Self(bytes))
    }

    /// A message with a command, in the name of nobody.
    ///
    /// # Errors
    /// The command cannot be encoded.
    pub fn ask(command: &Document) -> io::Result<Self> {
        let mut header = vec![0; HEADER];
        header[12..].copy_from_slice(&OP_MSG.to_le_bytes());
        Self(header).answer(command).map(Self)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The command in it, without the documents of a write that stand apart from it.
    ///
    /// # Errors
    /// It is none.
    pub fn command(&self) -> io::Result<Document> {
        let at = match self.kind()? {
            OP_MSG => self.body_of_msg()?,
            OP_QUERY => self.body_of_query()?,
            kind => return Err(broken(&format!("messages of kind {kind}"))),
        };
        let body = self.0.get(at..).ok_or_else(|| broken("no body"))?;
        Document::from_reader(body).map_err(|error| broken(&error.to_string()))
    }

    /// The collections that a write to several names, each as database and collection.
    ///
    /// # Errors
    /// It is no message.
    pub fn spaces(&self) -> io::Result<Vec<String>> {
        const NAME: &[u8] = b"nsInfo\0";
        let mut at = HEADER + 4;
        while let Some(kind) = self.0.get(at) {
            // The body of kind 0 begins with its length, too.
            let length = usize::try_from(number(&self.0, at + 1)?).unwrap_or_default().max(4);
            let section = self.0.get(at + 5..at + 1 + length).ok_or_else(|| broken("too short"))?;
            if let Some(mut documents) = section.strip_prefix(NAME).filter(|_| *kind == 1) {
                let mut spaces = Vec::new();
                while !documents.is_empty() {
                    let document = Document::from_reader(&mut documents);
                    let document = document.map_err(|error| broken(&error.to_string()))?;
                    spaces.extend(document.get_str("ns").map(str::to_owned));
                }
                return Ok(spaces);
            }
            at += 1 + length;
        }
        Ok(Vec::new())
    }

    /// Whether the sender waits for an answer.
    ///
    /// # Errors
    /// It is no message.
    pub fn is_answered(&self) -> io::Result<bool> {
        Ok(self.kind()? != OP_MSG || number(&self.0, HEADER)? & MORE_TO_COME == 0)
    }

    /// An answer to it.
    ///
    /// # Errors
    /// It is no message.
    pub fn answer(&self, body: &Document) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; HEADER];
        let kind = if self.kind()? == OP_QUERY { OP_REPLY } else { OP_MSG };
        if kind == OP_REPLY {
            // Flags (able to await data), cursor, where it begins, and how many documents there are.
            bytes.extend(8_i32.to_le_bytes());
            bytes.extend(0_i64.to_le_bytes());
            bytes.extend(0_i32.to_le_bytes());
            bytes.extend(1_i32.to_le_bytes());
        } else {
            // No flags, and a section of kind 0: the body.
            bytes.extend(0_i32.to_le_bytes());
            bytes.push(0);
        }
        body.to_writer(&mut bytes).map_err(|error| broken(&error.to_string()))?;
        let length = i32::try_from(bytes.len()).map_err(|_| broken("too long an answer"))?;
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[8..12].copy_from_slice(&number(&self.0, 4)?.to_le_bytes());
        bytes[12..16].copy_from_slice(&kind.to_le_bytes());
        Ok(bytes)
    }

    fn kind(&self) -> io::Result<i32> {
        number(&self.0, 12)
    }

    /// Where the section of kind 0 begins; those of kind 1 are the documents of a write.
    fn body_of_msg(&self) -> io::Result<usize> {
        let mut at = HEADER + 4;
        while self.0.get(at) == Some(&1) {
            let length = usize::try_from(number(&self.0, at + 1)?).unwrap_or_default();
            at += 1 + length.max(4);
        }
        match self.0.get(at) {
            Some(0) => Ok(at + 1),
            _ => Err(broken("no body")),
        }
    }

    /// Behind flags, the collection's name with its end, and two numbers.
    fn body_of_query(&self) -> io::Result<usize> {
        let name = HEADER + 4;
        let end = self.0.get(name..).and_then(|rest| rest.iter().position(|byte| *byte == 0));
        Ok(name + end.ok_or_else(|| broken("a name without an end"))? + 1 + 8)
    }
}

fn number(bytes: &[u8], at: usize) -> io::Result<i32> {
    let found = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    found.map(i32::from_le_bytes).ok_or_else(|| broken("too short a message"))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
