//! A replica set as a program, for those who start processes: three `mongod`, or what stands in for
//! them, and a port that takes the script, one act a line:
//!
//!     replica_set --members 127.0.0.1:27017,127.0.0.1:27018,127.0.0.1:27019 --control 127.0.0.1:27000
//!     echo 'primary 2' | nc -N 127.0.0.1 27000
//!
//! It is for tests and for a cluster on one machine.

#[path = "mod.rs"]
mod replica_set;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;

use replica_set::ReplicaSet;
use replica_set::server::Program;
use replica_set::state::Act;

/// A MongoDB replica set on this machine, until SIGTERM or Ctrl-C
#[derive(Parser)]
struct Args {
    /// Where the three members listen
    #[arg(long, value_delimiter = ',', required = true)]
    members: Vec<SocketAddr>,
    /// Where the script is taken
    #[arg(long)]
    control: SocketAddr,
    /// Folder for data and logs
    #[arg(long, default_value = "replica-set")]
    folder: PathBuf,
    /// Takes the stand-in, also where mongod is installed
    #[arg(long)]
    stand_in: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Args { members, control, folder, stand_in } = Args::parse();
    let members = members.try_into().map_err(|_| "--members takes three addresses")?;
    let program = if stand_in { Program::stand_in() } else { Program::find() };
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let folder = std::path::absolute(folder)?;
    let starting = ReplicaSet::start(program?, &folder, members);
    let set = tokio::select! {
        set = starting => set?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    println!("{}", set.uri());
    let set = Arc::new(Mutex::new(set));
    let listener = TcpListener::bind(control).await?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        ended = take_scripts(listener, Arc::clone(&set)) => ended?,
    }
    set.lock().await.stop().await;
    Ok(())
}

async fn take_scripts(listener: TcpListener, set: Arc<Mutex<ReplicaSet>>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(follow(stream, Arc::clone(&set)));
    }
}

/// Does what the lines say. Each is answered: with `ok` when it is done, or with why it is not.
async fn follow(stream: TcpStream, set: Arc<Mutex<ReplicaSet>>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match line.trim() {
            "status" => status(&*set.lock().await),
            line => match line.parse::<Act>() {
                Ok(act) => match set.lock().await.act(act).await {
                    Ok(()) => "ok".to_owned(),
                    Err(error) => error.to_string(),
                },
                Err(refusal) => refusal,
            },
        };
        writer.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

fn status(set: &ReplicaSet) -> String {
    let Some(state) = set.state() else { return set.uri() };
    let primary = state.primary().map_or("none".to_owned(), |member| member.to_string());
    let (lost, refused, stuck) = (state.lost(), state.refused(), state.stuck());
    format!("primary {primary}, lost acknowledgements {lost}, refused {refused}, stuck {stuck}")
}
