//! A master, a replica and the sentinels that watch them.

use std::fs;
use std::path::Path;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::outages::FAILOVER;
use super::process::RedisServer;
use crate::support::{SOON, eventually};

/// A master, a replica and three sentinels that know of each other.
pub struct Group {
    pub servers: [RedisServer; 2],
    pub sentinels: [RedisServer; 3],
}

/// How those of a group let others in.
#[derive(Default)]
pub struct Security {
    /// Of master and replica.
    pub password: &'static str,
    /// Of the sentinels.
    pub sentinel_password: &'static str,
    /// Certificate and key of everybody, who must show them.
    pub certificate: Option<[String; 2]>,
}

impl Security {
    /// A certificate and its key, as files.
    pub fn certificate_in(folder: &Path) -> [String; 2] {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).expect("a certificate");
        let paths = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        fs::write(&paths[0], cert.pem()).expect("a file");
        fs::write(&paths[1], signing_key.serialize_pem()).expect("a file");
        paths.map(|path| path.display().to_string())
    }

    /// Of a server that lets others in so.
    pub fn options(&self) -> Vec<&str> {
        let mut options = Vec::new();
        if let Some([cert, key]) = &self.certificate {
            options.extend(["--tls-cert-file", cert, "--tls-key-file", key]);
            options.extend(["--tls-ca-cert-file", cert, "--tls-replication", "yes"]);
        }
        options
    }
}

impl Group {
    pub async fn start() -> Self {
        Self::start_with(&Security::default()).await
    }

    pub async fn start_with(security: &Security) -> Self {
        let mut options = security.options();
        if !security.password.is_empty() {
            options.extend(["--requirepass", security.password, "--masterauth", security.password]);
        }
        let servers = [RedisServer::start_with(&options), RedisServer::start_with(&options)];
        let [master, replica] = &servers;
        master.ask(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        replica.ask(&["REPLICAOF", "127.0.0.1", &master.address().port().to_string()]);
        eventually("the replica follows", SOON, async || {
            replica.cli(&["INFO", "replication"]).iter().any(|l| l == "master_link_status:up")
        })
        .await;
        let mut config = String::new();
        if !security.password.is_empty() {
            config += &format!("sentinel auth-pass main {}\n", security.password);
        }
        if !security.sentinel_password.is_empty() {
            let password = security.sentinel_password;
            config += &format!("requirepass {password}\nsentinel sentinel-pass {password}\n");
        }
        let options = security.options();
        let sentinels = std::array::from_fn(|_| {
            RedisServer::sentinel_with(master, &config, security.sentinel_password, &options)
        });
        for sentinel in &sentinels {
            eventually("the sentinels know of each other and the replica", FAILOVER, async || {
                let known = sentinel.cli(&["SENTINEL", "MASTER", "main"]);
                let is = |key: &str, value: &str| known.windows(2).any(|two| two == [key, value]);
                is("num-other-sentinels", "2") && is("num-slaves", "1")
            })
            .await;
        }
        Self { servers, sentinels }
    }

    /// The number of the master: it and the second sentinel agree that it is the one. Sentinels may have
    /// replaced the first one unasked, where the machine stood still for long.
    pub async fn master(&self) -> usize {
        let mut master = None;
        eventually("somebody is the master", FAILOVER, async || {
            let told = self.sentinels[1].cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]);
            let port = told.get(1).and_then(|port| port.parse().ok());
            master = self.servers.iter().position(|server| Some(server.address().port()) == port);
            master.is_some_and(|index| self.servers[index].ask(&["ROLE"]) == "master")
        })
        .await;
        master.expect("it was just there")
    }

    /// Ends the master as a crash would.
    pub async fn kill_master(&mut self) {
        let master = self.master().await;
        self.servers[master].kill();
    }

    /// The addresses of the sentinels, with commas.
    pub fn addresses(&self) -> String {
        self.sentinels.each_ref().map(|sentinel| sentinel.address().to_string()).join(",")
    }

    pub fn settings(&self) -> String {
        settings_of(&[self])
    }
}

/// Settings of a gateway with these groups as its shards.
pub fn settings_of(groups: &[&Group]) -> String {
    let addresses: Vec<_> =
        groups.iter().map(|group| format!("\"{}\"", group.addresses())).collect();
    format!(
        "engine.type = \"redis\"\n\
         engine.redis.sentinel_address = [{}]\n\
         engine.redis.sentinel_master_name = \"main\"\n\
         engine.redis.failover_spread = \"100ms\"\n",
        addresses.join(", ")
    )
}
