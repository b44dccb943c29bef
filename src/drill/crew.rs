//! The writers and readers of one drill, and what they need to know.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::api::{Place, PlaceError};
use super::dial::{Dial, DialError};
use super::journal::{Crowd, Journal};
use super::reader::ReaderTask;
use super::secret::Hidden;
use super::writer::WriterTask;
use crate::auth::issue;
use crate::client::{Endpoint, EndpointError};
use crate::time::Clock;

/// How often a reader that comes and goes goes.
const LEAVES_EVERY: Duration = Duration::from_secs(4);
/// Of so many readers one comes and goes.
const ONE_LEAVES_OF: u32 = 3;
/// The longest that an address may take to be reached.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
/// Seconds that tokens live: longer than any drill.
const TOKEN_TTL: u32 = 7_200;

/// Where a cluster is, and how to get in.
#[derive(Clone, Debug)]
pub struct Entrance {
    pub endpoints: Vec<Endpoint>,
    pub places: Vec<Place>,
    pub api_key: Option<Hidden>,
    pub tokens: Tokens,
    /// What names of channels start with.
    pub prefix: String,
    /// How connections are made.
    pub dial: Dial,
}

/// The connection tokens of readers.
#[derive(Clone, Debug)]
pub enum Tokens {
    /// Signed for each reader with this key.
    Signed(Hidden),
    /// The same for all; empty for none.
    Same(Hidden),
}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    #[error("--url: {0}")]
    Endpoint(#[from] EndpointError),
    #[error("--api: {0}")]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("cannot reach {0}:{1}: {2}")]
    Unreachable(String, u16, std::io::Error),
}

/// Writers and readers at work; they end when this is dropped.
pub struct Crew {
    writers: JoinSet<()>,
    readers: JoinSet<()>,
    stop_writing: CancellationToken,
}

impl Entrance {
    /// Reads the addresses.
    ///
    /// # Errors
    /// Names the one that cannot be used.
    pub fn new(
        urls: &[String],
        apis: &[String],
        api_key: Option<Hidden>,
        tokens: Tokens,
        prefix: String,
    ) -> Result<Self, EntranceError> {
        let endpoints = urls.iter().map(|url| Endpoint::new(url)).collect::<Result<_, _>>()?;
        let places = apis.iter().map(|api| Place::new(api)).collect::<Result<_, _>>()?;
        Ok(Self { endpoints, places, api_key, tokens, prefix, dial: Dial::default() })
    }

    /// Whether an address asks for TLS.
    pub fn is_secure(&self) -> bool {
        self.endpoints.iter().any(Endpoint::is_secure) || self.places.iter().any(Place::is_secure)
    }

    /// Connects to every address once.
    ///
    /// # Errors
    /// Names the one where nobody is, or nobody to be believed.
    pub async fn reach(&self) -> Result<(), EntranceError> {
        let endpoints = self.endpoints.iter().map(|e| (e.host_and_port(), e.is_secure()));
        let places = self.places.iter().map(|place| (place.host_and_port(), place.is_secure()));
        for ((host, port), is_secure) in endpoints.chain(places) {
            let unreachable = |error| EntranceError::Unreachable(host.to_owned(), port, error);
            let connecting = timeout(REACHED_WITHIN, self.dial.connect(host, port, is_secure));
            let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
            connecting.await.map_err(late).and_then(|reached| reached).map_err(unreachable)?;
        }
        Ok(())
    }

    /// The token of a user.
    pub fn token(&self, user: &str, clock: &Clock) -> Hidden {
        match &self.tokens {
            Tokens::Same(token) => token.clone(),
            Tokens::Signed(key) => {
                let now = clock.unix_seconds();
                issue::connection_token(key.expose(), user, Some(TOKEN_TTL), now).into()
            }
        }
    }

    /// The name of a channel.
    pub fn channel(&self, number: u32) -> String {
        format!("{}{number}", self.prefix)
    }
}

impl Crew {
    /// Sets everybody to work; readers first.
    pub fn start(
        entrance: &Entrance,
        crowd: Crowd,
        rate: u32,
        journal: &Arc<Journal>,
        clock: &Clock,
    ) -> Self {
        let mut crew = Self {
            writers: JoinSet::new(),
            readers: JoinSet::new(),
            stop_writing: CancellationToken::new(),
        };
        for reader in 0..crowd.readers {
            let task = ReaderTask {
                reader,
                channel: entrance.channel(reader % crowd.channels.max(1)),
                endpoints: entrance.endpoints.clone(),
                dial: entrance.dial.clone(),
                token: entrance.token(&format!("reader-{reader}"), clock),
                leaves_every: (reader % ONE_LEAVES_OF == 0).then_some(LEAVES_EVERY),
            };
            crew.readers.spawn(task.run(Arc::clone(journal)));
        }
        for writer in 0..crowd.writers {
            let task = WriterTask {
                writer,
                channel: entrance.channel(writer % crowd.channels.max(1)),
                places: entrance.places.clone(),
                dial: entrance.dial.clone(),
                key: entrance.api_key.clone(),
                every: Duration::from_secs(1) / rate.max(1),
            };
            crew.writers.spawn(task.run(Arc::clone(journal), crew.stop_writing.clone()));
        }
        crew
    }

    /// Lets the writers finish what they are at.
    pub async fn stop_writing(&mut self) {
        self.stop_writing.cancel();
        while self.writers.join_next().await.is_some() {}
    }
}
