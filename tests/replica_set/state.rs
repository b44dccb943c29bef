//! What the members of the set are, and what they say of themselves. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, doc};

/// Members of a set.
pub const MEMBERS: usize = 3;
/// What the set is called.
pub const SET: &str = "main";
/// Codes of MongoDB's errors.
const NOT_WRITABLE_PRIMARY: i32 = 10107;
const NOT_PRIMARY_NO_SECONDARY_OK: i32 = 13435;
const INTERRUPTED_BY_STATE_CHANGE: i32 = 11602;

/// What becomes of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The member is elected; the former primary steps down. Members are 1, 2 and 3.
    Primary(usize),
    /// The primary steps down and nobody is elected.
    NoPrimary,
    /// The member is gone: its connections are reset, and so are new ones.
    Down(usize),
    /// It is there again, as a secondary.
    Up(usize),
    /// The primary is gone, and nobody is elected.
    Crash,
    /// So many writes from now on are done, and their connection is reset instead of an answer.
    LoseAcknowledgements(u64),
    /// Every answer but that to a hello is given only after this.
    Delay(Duration),
    /// The member takes what is sent and answers nothing any more.
    HalfOpen(usize),
    /// The member believes to be the primary still, of an election before the last one.
    StalePrimary(usize),
    /// The server with the data is killed and started again on what it has. No member knows of it.
    Restart,
}

/// What the members are.
#[derive(Clone, Debug)]
pub struct State {
    members: [Member; MEMBERS],
    primary: Option<usize>,
    /// Who believes to be the primary, and of which election.
    stale: Option<(usize, u32)>,
    /// Counts elections.
    term: u32,
    /// Counts all that members tell of in a hello.
    changes: i64,
    delay: Duration,
    /// Writes whose answer is still to be lost.
    to_lose: u64,
    lost: u64,
    refused: u64,
    stuck: u64,
}

/// One member.
#[derive(Clone, Copy, Debug)]
struct Member {
    life: Life,
    /// Rises whenever all its connections are reset.
    incarnation: u32,
}

/// How a member is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Up,
    Down,
    /// Connections stay and nothing comes over them.
    HalfOpen,
}

/// Whether a member carries out a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It does.
    Taken,
    /// It says this instead.
    Refused(Document),
    /// It takes the command and cannot finish it: a stale primary waits for a majority in vain.
    Waits,
}

/// What a command does, for the member that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Write,
    Read {
        /// Whether the sender is content with a secondary.
        anywhere: bool,
    },
    /// Neither: pings, sessions, what is said of the server.
    Neutral,
}

impl Effect {
    /// What a command does, by its name and arguments.
    pub fn of(command: &Document) -> Self {
        let name = command.keys().next().map(String::as_str).unwrap_or_default();
        let anywhere = command
            .get_document("$readPreference")
            .and_then(|preference| preference.get_str("mode"))
            .is_ok_and(|mode| mode != "primary");
        match name {
            "aggregate" if writes_its_result(command) => Self::Write,
            "find" | "count" | "distinct" | "aggregate" | "listCollections" | "listIndexes"
            | "explain" => Self::Read { anywhere },
            "ping" | "buildInfo" | "buildinfo" | "getMore" | "killCursors" | "endSessions"
            | "getParameter" | "serverStatus" | "connectionStatus" | "listDatabases"
            | "dbStats" | "collStats" | "hostInfo" | "getLog" => Self::Neutral,
            _ => Self::Write,
        }
    }
}

fn writes_its_result(command: &Document) -> bool {
    let stages = command.get_array("pipeline").into_iter().flatten();
    let names = stages.filter_map(|stage| stage.as_document()?.keys().next());
    names.into_iter().any(|name| name == "$out" || name == "$merge")
}

impl Default for State {
    /// All members are up, and the first one is the primary.
    fn default() -> Self {
        Self {
            members: [Member { life: Life::Up, incarnation: 0 }; MEMBERS],
            primary: Some(0),
            stale: None,
            term: 1,
            changes: 1,
            delay: Duration::ZERO,
            to_lose: 0,
            lost: 0,
            refused: 0,
            stuck: 0,
        }
    }
}

impl State {
    /// Does what the script says.
    ///
    /// # Panics
    /// At a member that is not 1, 2 or 3.
    pub fn act(&mut self, act: Act) {
        self.changes += 1;
        match act {
            Act::Primary(number) => {
                let at = index(number);
                if self.members[at].life != Life::Up {
                    self.set_life(at, Life::Up);
                }
                self.stale = self.stale.filter(|(stale, _)| *stale != at);
                if self.primary != Some(at) {
                    self.term += 1;
                    self.primary = Some(at);
                }
            }
            Act::NoPrimary => self.primary = None,
            Act::Down(number) => self.set_life(index(number), Life::Down),
            Act::Up(number) => self.set_life(index(number), Life::Up),
            Act::Crash => {
                if let Some(at) = self.primary {
                    self.set_life(at, Life::Down);
                }
            }
            Act::LoseAcknowledgements(count) => self.to_lose = count,
            Act::Delay(delay) => self.delay = delay,
            Act::HalfOpen(number) => self.set_life(index(number), Life::HalfOpen),
            Act::StalePrimary(number) => {
                let at = index(number);
                let is_primary = self.primary == Some(at);
                let election = if is_primary { self.term } else { self.term - 1 };
                self.primary = self.primary.filter(|primary| *primary != at);
                self.stale = Some((at, election));
            }
            Act::Restart => {}
        }
    }

    fn set_life(&mut self, at: usize, life: Life) {
        self.members[at].life = life;
        // Who was half open has its connections until it is something else.
        if life != Life::HalfOpen {
            self.members[at].incarnation += 1;
        }
        if life != Life::Up {
            self.primary = self.primary.filter(|primary| *primary != at);
        }
        // Whoever is started, or heard again, learns who the primary is.
        self.stale = self.stale.filter(|(stale, _)| *stale != at);
    }

    pub fn life(&self, at: usize) -> Life {
        self.members[at].life
    }

    pub fn incarnation(&self, at: usize) -> u32 {
        self.members[at].incarnation
    }

    pub fn changes(&self) -> i64 {
        self.changes
    }

    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// The number of the primary: 1, 2 or 3.
    pub fn primary(&self) -> Option<usize> {
        self.primary.map(|at| at + 1)
    }

    /// Which election the member was elected in, if it is the primary.
    pub fn reign(&self, at: usize) -> Option<u32> {
        (self.primary == Some(at)).then_some(self.term)
    }

    /// How many acknowledgements of writes were lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How many commands were refused by members that are not the primary.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How many writes were taken by a member that cannot finish them.
    pub fn stuck(&self) -> u64 {
        self.stuck
    }

    /// Whether the answer to a write that was just done is to be lost.
    pub fn loses_acknowledgement(&mut self) -> bool {
        let loses = self.to_lose > 0;
        self.to_lose -= u64::from(loses);
        self.lost += u64::from(loses);
        loses
    }

    /// Whether a member wrongly believes to be the primary.
    pub fn is_stale(&self, at: usize) -> bool {
        self.stale(at).is_some()
    }

    /// The election that a member wrongly believes to be the last one.
    fn stale(&self, at: usize) -> Option<u32> {
        self.stale.filter(|(stale, _)| *stale == at).map(|(_, election)| election)
    }

    /// Whether a member carries out a command.
    pub fn verdict(&mut self, at: usize, effect: Effect) -> Verdict {
        let is_primary = self.primary == Some(at);
        let refusal = match effect {
            Effect::Write if self.is_stale(at) => {
                self.stuck += 1;
                return Verdict::Waits;
            }
            Effect::Write if !is_primary => {
                (NOT_WRITABLE_PRIMARY, "NotWritablePrimary", "not primary")
            }
            Effect::Read { anywhere: false } if !is_primary && !self.is_stale(at) => (
                NOT_PRIMARY_NO_SECONDARY_OK,
                "NotPrimaryNoSecondaryOk",
                "not primary and secondaryOk=false",
            ),
            _ => return Verdict::Taken,
        };
        self.refused += 1;
        Verdict::Refused(self.refusal(at, refusal, effect))
    }

    /// What is said to whoever waits for a write when its primary steps down. The write was done, and
    /// the sender cannot know.
    pub fn interruption(&self, at: usize) -> Document {
        let text = "operation was interrupted";
        let error = (INTERRUPTED_BY_STATE_CHANGE, "InterruptedDueToReplStateChange", text);
        self.refusal(at, error, Effect::Write)
    }

    fn refusal(&self, at: usize, error: (i32, &str, &str), effect: Effect) -> Document {
        let (code, name, text) = error;
        let mut refusal = doc! { "ok": 0.0, "errmsg": text, "code": code, "codeName": name };
        if effect == Effect::Write {
            refusal.insert("errorLabels", ["RetryableWriteError"].as_slice());
        }
        refusal.insert("topologyVersion", self.topology_version(at));
        refusal
    }

    /// What a member answers to a hello. `limits` is what the server behind the set answered.
    pub fn hello(&self, at: usize, hosts: &[SocketAddr; MEMBERS], limits: &Document) -> Document {
        let election = self.stale(at).or(self.reign(at));
        let is_primary = election.is_some();
        let names: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        let now = DateTime::now();
        let mut hello = doc! {
            "helloOk": true,
            "isWritablePrimary": is_primary,
            "ismaster": is_primary,
            "secondary": !is_primary,
            "topologyVersion": self.topology_version(at),
            "setName": SET,
            "setVersion": 1,
            "hosts": names,
            "me": hosts[at].to_string(),
            "lastWrite": { "lastWriteDate": now },
            "localTime": now,
            "logicalSessionTimeoutMinutes": 30,
            "connectionId": 1,
            "readOnly": false,
            "ok": 1.0,
        };
        let copied = ["maxBsonObjectSize", "maxMessageSizeBytes", "maxWriteBatchSize"];
        for key in copied.into_iter().chain(["minWireVersion", "maxWireVersion"]) {
            if let Some(value) = limits.get(key) {
                hello.insert(key, value.clone());
            }
        }
        if let Some(term) = election {
            hello.insert("electionId", election_id(term));
        }
        if let Some(primary) = if is_primary { Some(at) } else { self.primary } {
            hello.insert("primary", hosts[primary].to_string());
        }
        hello
    }

    /// What tells a hello from the one before: which process says it, and how much has changed in it.
    fn topology_version(&self, at: usize) -> Document {
        let mut process = [0; 12];
        process[0] = at as u8 + 1;
        process[8..].copy_from_slice(&self.members[at].incarnation.to_be_bytes());
        doc! { "processId": ObjectId::from_bytes(process), "counter": self.changes }
    }
}

/// The id of an election, as MongoDB makes it of the term: later ones are greater.
fn election_id(term: u32) -> ObjectId {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    bytes[8..].copy_from_slice(&term.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

fn index(number: usize) -> usize {
    assert!((1..=MEMBERS).contains(&number), "there are members 1, 2 and 3, and no {number}");
    number - 1
}
