//! Three members of a replica set on loopback, with one server behind all of them.
//!
//! Members answer hello themselves, by the [`State`] that the script has made, and forward the rest.
//! So drivers see elections, refusals, resets and lost answers at moments that a test chooses; what they
//! write is in one place, so that nothing is ever rolled back.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::state::{Act, Effect, Life, MEMBERS, SET, State, Verdict};
use super::wire::Message;

/// The running members; they are gone when this is dropped.
pub struct Front {
    set: Arc<Set>,
    /// Ends the thread.
    _stop: oneshot::Sender<()>,
}

struct Set {
    state: watch::Sender<State>,
    hosts: [SocketAddr; MEMBERS],
    server: SocketAddr,
    /// What the server answers to a hello, for its limits.
    limits: Document,
    /// Once somebody wants to know: the collections that were written to, one call after another.
    written: Mutex<Option<Vec<Vec<String>>>>,
}

/// One connection to a member.
struct Connection {
    set: Arc<Set>,
    at: usize,
    incarnation: u32,
    /// To the server, from the first command on that is forwarded.
    server: Option<TcpStream>,
}

/// What comes of a command.
enum Outcome {
    Answer(Vec<u8>),
    Nothing,
    Reset,
}

impl Front {
    /// Listens on the addresses before the server at `server`. The members have a thread of their own,
    /// so that tests may block theirs.
    ///
    /// # Errors
    /// An address is taken, or the server does not answer.
    pub async fn start(server: SocketAddr, hosts: [SocketAddr; MEMBERS]) -> io::Result<Self> {
        let limits = ask(server, doc! { "hello": 1, "$db": "admin" }).await?;
        let mut listeners = Vec::new();
        for host in hosts {
            let listener = std::net::TcpListener::bind(host)?;
            listener.set_nonblocking(true)?;
            listeners.push(listener);
        }
        let (state, _) = watch::channel(State::default());
        let set = Arc::new(Set { state, hosts, server, limits, written: Mutex::default() });
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let members = Arc::clone(&set);
        thread::spawn(move || {
            runtime.block_on(async move {
                for (at, listener) in listeners.into_iter().enumerate() {
                    let listener = TcpListener::from_std(listener).expect("a listener");
                    tokio::spawn(accept(Arc::clone(&members), at, listener));
                }
                let _ = stopped.await;
            });
        });
        Ok(Self { set, _stop: stop })
    }

    /// Where drivers find the set.
    pub fn uri(&self) -> String {
        let hosts: Vec<_> = self.set.hosts.iter().map(ToString::to_string).collect();
        format!("mongodb://{}/?replicaSet={SET}", hosts.join(","))
    }

    /// Goes on in the script.
    pub fn act(&self, act: Act) {
        self.set.state.send_modify(|state| state.act(act));
    }

    /// The collections that writes to several have named since this was called before, one call after
    /// another; the first time it begins to note them.
    #[allow(dead_code, reason = "tests ask, the program does not")]
    pub fn written(&self) -> Vec<Vec<String>> {
        let mut written = self.set.written.lock().expect("nobody panics with it");
        written.replace(Vec::new()).unwrap_or_default()
    }

    /// What the members are now.
    pub fn state(&self) -> State {
        self.set.state.borrow().clone()
    }
}

/// Asks a server one thing.
///
/// # Errors
/// It is not there, or says that it does not work.
pub async fn ask(server: SocketAddr, command: Document) -> io::Result<Document> {
    ask_on(&mut TcpStream::connect(server).await?, command).await
}

/// The same over a connection that stands.
///
/// # Errors
/// As [`ask`].
pub async fn ask_on(stream: &mut TcpStream, command: Document) -> io::Result<Document> {
    let question = Message::ask(&command)?;
    stream.write_all(question.bytes()).await?;
    let answer = Message::read(stream).await?.command()?;
    match answer.get_f64("ok").or(answer.get_i32("ok").map(f64::from)) {
        Ok(ok) if ok > 0.0 => Ok(answer),
        _ => Err(io::Error::other(answer.to_string())),
    }
}

async fn accept(set: Arc<Set>, at: usize, listener: TcpListener) {
    while let Ok((client, _)) = listener.accept().await {
        let incarnation = set.state.borrow().incarnation(at);
        let connection = Connection { set: Arc::clone(&set), at, incarnation, server: None };
        tokio::spawn(connection.run(client));
    }
}

impl Connection {
    async fn run(mut self, mut client: TcpStream) {
        let _ = client.set_nodelay(true);
        let mut state = self.set.state.subscribe();
        let (at, incarnation) = (self.at, self.incarnation);
        let is_cut =
            |state: &State| state.incarnation(at) != incarnation || state.life(at) != Life::Up;
        let served = tokio::select! {
            served = self.serve(&mut client) => served,
            _ = state.wait_for(is_cut) => Ok(()),
        };
        // A member that is half open says nothing, and does not close either.
        let is_over =
            |state: &State| state.incarnation(at) != incarnation || state.life(at) == Life::Down;
        if served.is_ok() && state.wait_for(is_over).await.is_err() {
            return;
        }
        // A reset, as of a process that is gone, and not an orderly end.
        let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
    }

    /// Serves until the connection ends or is to be reset.
    async fn serve(&mut self, client: &mut TcpStream) -> io::Result<()> {
        loop {
            let message = Message::read(client).await?;
            match self.outcome(&message).await? {
                Outcome::Answer(bytes) => client.write_all(&bytes).await?,
                Outcome::Nothing => {}
                Outcome::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
    }

    async fn outcome(&mut self, message: &Message) -> io::Result<Outcome> {
        let command = message.command()?;
        let name = command.keys().next().map(String::as_str).unwrap_or_default();
        if matches!(name, "hello" | "isMaster" | "ismaster") {
            return Ok(Outcome::Answer(message.answer(&self.hello(&command).await)?));
        }
        let effect = Effect::of(&command);
        let (verdict, delay, reign) = self.judge(effect);
        sleep(delay).await;
        match verdict {
            Verdict::Taken => {}
            Verdict::Refused(refusal) => return Ok(Outcome::Answer(message.answer(&refusal)?)),
            Verdict::Waits => {
                let mut state = self.set.state.subscribe();
                let _ = state.wait_for(|state| !state.is_stale(self.at)).await;
                return Ok(Outcome::Reset);
            }
        }
        if name == "bulkWrite" {
            self.note(message.spaces()?);
        }
        let is_answered = message.is_answered()?;
        let Some(answer) = self.forward(message, is_answered).await? else {
            return Ok(Outcome::Nothing);
        };
        if effect == Effect::Write {
            if self.loses_acknowledgement() {
                return Ok(Outcome::Reset);
            }
            let state = self.set.state.borrow();
            if state.reign(self.at) != reign {
                return Ok(Outcome::Answer(message.answer(&state.interruption(self.at))?));
            }
        }
        Ok(Outcome::Answer(answer.bytes().to_vec()))
    }

    fn note(&self, spaces: Vec<String>) {
        if let Some(written) = &mut *self.set.written.lock().expect("nobody panics with it") {
            written.push(spaces);
        }
    }

    fn judge(&self, effect: Effect) -> (Verdict, Duration, Option<u32>) {
        let mut judged = (Verdict::Taken, Duration::ZERO, None);
        self.set.state.send_if_modified(|state| {
            judged = (state.verdict(self.at, effect), state.delay(), state.reign(self.at));
            false
        });
        judged
    }

    fn loses_acknowledgement(&self) -> bool {
        let mut loses = false;
        self.set.state.send_if_modified(|state| {
            loses = state.loses_acknowledgement();
            false
        });
        loses
    }

    /// Answers a hello; one that says what it knows and how long it would wait is answered when there is
    /// something new, or at the end of that time.
    async fn hello(&self, command: &Document) -> Document {
        let known = command.get_document("topologyVersion").and_then(|it| it.get_i64("counter"));
        let patience = command.get_i64("maxAwaitTimeMS");
        let patience = patience.or(command.get_i32("maxAwaitTimeMS").map(i64::from));
        if let (Ok(known), Ok(patience)) = (known, patience) {
            let mut state = self.set.state.subscribe();
            let news = state.wait_for(|state| state.changes() != known);
            let patience = Duration::from_millis(patience.unsigned_abs());
            let _ = tokio::time::timeout(patience, news).await;
        }
        self.set.state.borrow().hello(self.at, &self.set.hosts, &self.set.limits)
    }

    /// Has the server do it.
    async fn forward(
        &mut self,
        message: &Message,
        is_answered: bool,
    ) -> io::Result<Option<Message>> {
        let server = match &mut self.server {
            Some(server) => server,
            none => {
                let server = TcpStream::connect(self.set.server).await?;
                server.set_nodelay(true)?;
                none.insert(server)
            }
        };
        server.write_all(message.bytes()).await?;
        if is_answered { Message::read(server).await.map(Some) } else { Ok(None) }
    }
}
