//! What a Redis tells of itself: the processor time and memory it uses, and how much it was asked.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::Serialize;

use super::target::TargetError;

/// Longest wait for Redis, each time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the longest answer that is read; what is asked for takes a few thousand.
const MAX_ANSWER: u64 = 1 << 20;
/// Sections of `INFO`, one by one: older servers take only one at a time.
const SECTIONS: [&str; 3] = ["cpu", "memory", "commandstats"];

/// What Redis used in the time of a row, and holds at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RedisUse {
    pub user_s: f64,
    pub system_s: f64,
    pub rss_bytes: u64,
    /// Commands that it ran, those within scripts too.
    pub commands: u64,
    /// Scripts among them.
    pub scripts: u64,
}

/// The server at `HOST:PORT`.
///
/// # Errors
/// A host that is not found, or no port.
pub fn find(address: &str) -> Result<SocketAddr, TargetError> {
    let mut found = address
        .to_socket_addrs()
        .map_err(|error| TargetError::Lookup(address.to_owned(), error))?;
    found.next().ok_or_else(|| TargetError::Nowhere(address.to_owned()))
}

impl RedisUse {
    /// All since the server's start.
    ///
    /// # Errors
    /// A server that cannot be reached, wants a password, or is no Redis.
    pub fn read(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let questions: String =
            SECTIONS.iter().map(|section| format!("INFO {section}\r\n")).collect();
        (&stream).write_all(questions.as_bytes())?;
        let mut input = BufReader::new(&stream).take(MAX_ANSWER);
        let mut used = Self::default();
        for _ in SECTIONS {
            let mut head = String::new();
            input.read_line(&mut head)?;
            let len = head.strip_prefix('$').and_then(|len| len.trim_end().parse::<usize>().ok());
            let Some(len) = len.filter(|len| *len < MAX_ANSWER as usize) else {
                return Err(io::Error::other(format!("Redis answers {:?}", head.trim_end())));
            };
            let mut text = vec![0; len + "\r\n".len()];
            input.read_exact(&mut text)?;
            used.take(&String::from_utf8_lossy(&text));
        }
        Ok(used)
    }

    /// What was used since `before`; memory is that of now.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            user_s: (self.user_s - before.user_s).max(0.0),
            system_s: (self.system_s - before.system_s).max(0.0),
            rss_bytes: self.rss_bytes,
            // What asked for the first reading is none of the server's.
            commands: self.commands.saturating_sub(before.commands + SECTIONS.len() as u64),
            scripts: self.scripts.saturating_sub(before.scripts),
        }
    }

    /// Seconds of a processor.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    fn take(&mut self, section: &str) {
        for (name, value) in section.lines().filter_map(|line| line.trim_end().split_once(':')) {
            match name {
                "used_cpu_user" => self.user_s = value.parse().unwrap_or_default(),
                "used_cpu_sys" => self.system_s = value.parse().unwrap_or_default(),
                "used_memory_rss" => self.rss_bytes = value.parse().unwrap_or_default(),
                _ => {
                    let Some(command) = name.strip_prefix("cmdstat_") else { continue };
                    let calls = value.split(',').find_map(|part| part.strip_prefix("calls="));
                    let calls = calls.and_then(|calls| calls.parse().ok()).unwrap_or(0);
                    self.commands += calls;
                    if matches!(command, "eval" | "evalsha" | "fcall") {
                        self.scripts += calls;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const CPU: &str = "# CPU\r\nused_cpu_sys:0.25\r\nused_cpu_user:1.500\r\n";
    const MEMORY: &str = "# Memory\r\nused_memory:7\r\nused_memory_rss:4096\r\n";
    const COMMANDS: &str = "# Commandstats\r\n\
        cmdstat_evalsha:calls=10,usec=70,usec_per_call=7.00\r\n\
        cmdstat_config|get:calls=2,usec=1,usec_per_call=0.50\r\n\
        cmdstat_hset:calls=30,usec=9,usec_per_call=0.30\r\n";

    /// A server that answers the next connection with this.
    fn answering(answer: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            peer.read_exact(&mut [0; 16]).unwrap();
            peer.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    fn bulk(text: &str) -> String {
        format!("${}\r\n{text}\r\n", text.len())
    }

    #[test]
    fn time_memory_and_commands_are_read_from_its_own_words() {
        let answer = [CPU, MEMORY, COMMANDS].map(bulk).concat();
        let used = RedisUse::read(answering(answer)).unwrap();
        let expected =
            RedisUse { user_s: 1.5, system_s: 0.25, rss_bytes: 4_096, commands: 42, scripts: 10 };
        assert_eq!(used, expected);
        assert_eq!(used.cpu_s(), 1.75);
    }

    #[test]
    fn what_the_reading_itself_asked_does_not_count() {
        let before = RedisUse { user_s: 1.0, commands: 100, scripts: 7, ..RedisUse::default() };
        let after = RedisUse { user_s: 1.5, commands: 108, scripts: 9, ..before };
        let used = after.since(&before);
        assert_eq!((used.user_s, used.commands, used.scripts), (0.5, 5, 2));
    }

    #[test]
    fn a_server_that_wants_a_password_or_is_none_is_an_error() {
        let error = RedisUse::read(answering("-NOAUTH Authentication required.\r\n".to_owned()));
        assert!(error.unwrap_err().to_string().contains("NOAUTH"));
        RedisUse::read(answering("$99999999999\r\n".to_owned())).unwrap_err();
        RedisUse::read(answering(String::new())).unwrap_err();
        assert!(find("127.0.0.1").is_err() && find("127.0.0.1:6379").is_ok());
    }
}
