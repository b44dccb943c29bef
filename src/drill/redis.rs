//! Questions to Redis and Sentinel, each on a connection of its own. Nothing here is in a hurry.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::secret::Hidden;
use crate::redis::{Command, Decoder, Value};

/// The longest that a question may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A Redis or a Sentinel.
#[derive(Clone, Debug)]
pub struct Redis {
    pub address: SocketAddr,
    pub password: Option<Hidden>,
}

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{0} does not answer")]
    Timeout(SocketAddr),
    #[error("{0}: {1}")]
    Io(SocketAddr, std::io::Error),
    #[error("{0} answers something else: {1}")]
    Answer(SocketAddr, String),
}

impl Redis {
    /// Asks, such as `["HGET", "key", "field"]`.
    ///
    /// # Errors
    /// If there is no answer, or it is an error.
    pub async fn ask(&self, question: &[&str]) -> Result<Value, AskError> {
        let asking = timeout(PATIENCE, self.exchange(question)).await;
        match asking.map_err(|_| AskError::Timeout(self.address))?? {
            Value::Error(error) => {
                let error = String::from_utf8_lossy(&error).into_owned();
                Err(AskError::Answer(self.address, error))
            }
            value => Ok(value),
        }
    }

    /// The answer as text, where it is one or a number.
    ///
    /// # Errors
    /// As [`Redis::ask`].
    pub async fn text(&self, question: &[&str]) -> Result<String, AskError> {
        Ok(spelled(&self.ask(question).await?))
    }

    /// Whether it calls itself a master, and its replicas are so many that are connected to it.
    pub async fn is_master_of(&self, replicas: usize) -> bool {
        let Ok(info) = self.text(&["INFO", "replication"]).await else { return false };
        let online = info.lines().filter(|line| line.contains("state=online")).count();
        info.contains("role:master") && online >= replicas
    }

    /// Whether it follows a master and has all that this one has.
    pub async fn is_following(&self) -> bool {
        let info = self.text(&["INFO", "replication"]).await;
        info.is_ok_and(|info| {
            info.contains("role:slave")
                && info.contains("master_link_status:up")
                && info.contains("master_sync_in_progress:0")
        })
    }

    /// Where a sentinel says that the master is.
    ///
    /// # Errors
    /// As [`Redis::ask`].
    pub async fn master_address(&self) -> Result<SocketAddr, AskError> {
        let answer = self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]).await?;
        let parts: Vec<_> = answer.list().unwrap_or_default().iter().map(spelled).collect();
        let address = parts.join(":");
        address.parse().map_err(|_| AskError::Answer(self.address, address))
    }

    /// Whether a sentinel knows of so many others and so many replicas.
    pub async fn knows(&self, sentinels: usize, replicas: usize) -> bool {
        let Ok(answer) = self.ask(&["SENTINEL", "MASTER", "main"]).await else { return false };
        let words: Vec<_> = answer.list().unwrap_or_default().iter().map(spelled).collect();
        let is = |key: &str, value: usize| {
            words.windows(2).any(|two| two[0] == key && two[1] == value.to_string())
        };
        let is_well = words.windows(2).any(|two| two == ["flags", "master"]);
        is("num-other-sentinels", sentinels) && is("num-slaves", replicas) && is_well
    }

    async fn exchange(&self, question: &[&str]) -> Result<Value, AskError> {
        let failed = |error| AskError::Io(self.address, error);
        let mut stream = TcpStream::connect(self.address).await.map_err(failed)?;
        let mut out = BytesMut::new();
        if let Some(password) = &self.password {
            Command::new("AUTH").arg(password.expose()).encode(&mut out);
        }
        Command::default().args(question).encode(&mut out);
        while out.has_remaining() {
            stream.write_buf(&mut out).await.map_err(failed)?;
        }
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
        let mut answers = usize::from(self.password.is_some()) + 1;
        loop {
            let decoded = decoder.next(&mut input);
            match decoded.map_err(|error| AskError::Answer(self.address, error.to_string()))? {
                Some(refusal @ Value::Error(_)) => return Ok(refusal),
                Some(_) if answers > 1 => answers -= 1,
                Some(value) => return Ok(value),
                None => {
                    if stream.read_buf(&mut input).await.map_err(failed)? == 0 {
                        return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
                    }
                }
            }
        }
    }
}

fn spelled(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        other => other.str().unwrap_or_default().to_owned(),
    }
}
