//! Opening a connection: TCP, TLS or a socket of the machine, then who we are and which database.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::options::{Access, Place};
use super::resp::{Command, Decoder, Malformed, Value};
use crate::telemetry::metrics::labels::PubSubError;

/// Bytes made room for before each read.
const READ_BYTES: usize = 32 * 1_024;

/// A stream of bytes to a server.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection on which questions are asked one after the other.
pub(super) struct Conversation {
    pub wire: Box<dyn Wire>,
    pub decoder: Decoder,
    /// What was read and not decoded yet.
    pub input: BytesMut,
    timeout: Duration,
}

/// Why a connection is of no use, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("no answer to the TLS handshake within {0:?}: does the server speak TLS at this port?")]
    NoHandshake(Duration),
    #[error("closed by the server")]
    Closed,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("refused: {0}")]
    Refused(String),
    #[error("not what was asked for: {0}")]
    Unexpected(&'static str),
    #[error("the server is no master")]
    NotMaster,
    #[error("the server has another history than before")]
    OtherIdentity,
    #[error("the server is a node of a cluster")]
    Cluster,
    #[error("the server lacks something: {0}")]
    Lacks(&'static str),
    #[error(
        "maxmemory-policy is {0}, but with history_archive it has to be noeviction: what waits to be \
         archived must not be dropped"
    )]
    Evicts(String),
    #[error("the server takes canaries, but PUB/SUB does not deliver them")]
    Unheard,
    #[error("the server has forgotten channels that we subscribed to")]
    Forgotten,
}

impl Conversation {
    /// Connects and authenticates.
    ///
    /// # Errors
    /// When that fails or takes longer than `access` allows.
    pub async fn open(place: &Place, access: &Access) -> Result<Self, ConnectionError> {
        let limit = access.connect_timeout;
        let mut shakes_hands = false;
        let connected = timeout(limit, connect(place, access, &mut shakes_hands)).await;
        let wire = connected.map_err(|_| match shakes_hands {
            true => ConnectionError::NoHandshake(limit),
            false => ConnectionError::Timeout(limit),
        })??;
        let (decoder, input) = (Decoder::default(), BytesMut::new());
        let mut conversation = Self { wire, decoder, input, timeout: access.io_timeout };
        conversation.introduce(access).await?;
        Ok(conversation)
    }

    /// Asks all at once; the answers in order, of which none may be an error.
    pub async fn ask(&mut self, commands: &[Command]) -> Result<Vec<Value>, ConnectionError> {
        let answers = self.ask_anything(commands).await?;
        for answer in &answers {
            refused(answer)?;
        }
        Ok(answers)
    }

    /// The next value that comes, without asking. Dropped, nothing is lost.
    pub async fn next(&mut self) -> Result<Value, ConnectionError> {
        loop {
            if let Some(value) = self.decoder.next(&mut self.input)? {
                return Ok(value);
            }
            self.input.reserve(READ_BYTES);
            if self.wire.read_buf(&mut self.input).await? == 0 {
                return Err(ConnectionError::Closed);
            }
        }
    }

    async fn ask_anything(&mut self, commands: &[Command]) -> Result<Vec<Value>, ConnectionError> {
        let mut out = BytesMut::new();
        commands.iter().for_each(|command| command.encode(&mut out));
        let limit = self.timeout;
        let asking = async {
            self.wire.write_all(&out).await?;
            self.wire.flush().await?;
            let mut answers = Vec::with_capacity(commands.len());
            while answers.len() < commands.len() {
                answers.push(self.next().await?);
            }
            Ok(answers)
        };
        timeout(limit, asking).await.map_err(|_| ConnectionError::Timeout(limit))?
    }

    async fn introduce(&mut self, access: &Access) -> Result<(), ConnectionError> {
        let mut commands = Vec::new();
        let password = access.password.expose();
        let user = if access.user.is_empty() { "default" } else { &access.user };
        if access.resp3 && self.greet(user, password).await? {
            // The greeting has authenticated.
        } else if !password.is_empty() {
            let auth = Command::new("AUTH");
            // Servers and sentinels without users know only the password.
            let auth = if access.user.is_empty() { auth } else { auth.arg(user) };
            commands.push(auth.arg(password));
        }
        if !access.client_name.is_empty() {
            commands.push(Command::new("CLIENT").arg("SETNAME").arg(&access.client_name));
        }
        if access.db > 0 {
            commands.push(Command::new("SELECT").number(u64::from(access.db)));
        }
        self.ask(&commands).await?;
        Ok(())
    }

    /// Asks for RESP3; `false` from a server that does not know it.
    async fn greet(&mut self, user: &str, password: &str) -> Result<bool, ConnectionError> {
        let mut hello = Command::new("HELLO").arg("3");
        if !password.is_empty() {
            hello = hello.arg("AUTH").arg(user).arg(password);
        }
        let answers = self.ask_anything(&[hello]).await?;
        let Some(answer) = answers.first() else { return Ok(false) };
        match answer {
            Value::Error(text) if text.starts_with(b"ERR") || text.starts_with(b"NOPROTO") => {
                Ok(false)
            }
            answer => refused(answer).map(|()| true),
        }
    }
}

impl From<&ConnectionError> for PubSubError {
    fn from(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::Io(_) | ConnectionError::Closed => Self::Connection,
            ConnectionError::Timeout(_) | ConnectionError::NoHandshake(_) => Self::Timeout,
            ConnectionError::Refused(_)
            | ConnectionError::Lacks(_)
            | ConnectionError::Evicts(_) => Self::Refused,
            ConnectionError::Malformed(_) | ConnectionError::Unexpected(_) => Self::Protocol,
            ConnectionError::NotMaster
            | ConnectionError::OtherIdentity
            | ConnectionError::Cluster => Self::Master,
            ConnectionError::Unheard => Self::Unheard,
            ConnectionError::Forgotten => Self::Forgotten,
        }
    }
}

/// An answer that is an error, as one.
pub(super) fn refused(answer: &Value) -> Result<(), ConnectionError> {
    match answer {
        Value::Error(text) => {
            Err(ConnectionError::Refused(String::from_utf8_lossy(text).into_owned()))
        }
        _ => Ok(()),
    }
}

/// Notes when it begins with the handshake of TLS.
async fn connect(
    place: &Place,
    access: &Access,
    shakes_hands: &mut bool,
) -> Result<Box<dyn Wire>, ConnectionError> {
    let (host, port) = match place {
        Place::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        Place::Tcp { host, port } => (host.as_str(), *port),
    };
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &access.tls else { return Ok(Box::new(stream)) };
    *shakes_hands = true;
    Ok(Box::new(tls.begin(host, stream).await?))
}
