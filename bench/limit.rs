//! The floor under every delivery: a bare loop that sends the same bytes to the same number of
//! sockets, with no protocol, no queue and no runtime.
//!
//! `cargo run --release --example limit -- --sockets 1000 --bytes 180` prints one JSON object. A
//! second process on another CPU takes everything, woken by epoll like any client. What a server
//! needs per delivery beyond this is its own; what is here is the kernel's.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::thread::CpuSet;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// A receiver that takes nothing for so long is broken.
const STALLED: Duration = Duration::from_secs(10);
/// Sends between two looks at the clock.
const SENDS_PER_LOOK: u64 = 1_024;
/// Bytes that the receiver takes from a socket in one call.
const READ_BYTES: usize = 64 * 1024;
/// Sockets that the receiver is told of in one call.
const EVENTS: usize = 1_024;

/// Sends the same bytes to many sockets in turn and says what one send costs.
#[derive(Parser)]
struct Options {
    /// Sockets to send to, in turn.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    sockets: u32,
    /// Bytes of one message on the wire; 180 is a publication of 128 bytes in its frame.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    bytes: u32,
    /// Messages that leave together in one send.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    messages: u32,
    /// Seconds to send for.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// CPU that sends.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..1_024))]
    cpu: u32,
    /// CPU that receives.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..1_024))]
    receiver_cpu: u32,
    /// What the second process is started with.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    receive_from: Option<SocketAddr>,
}

/// What the loop used.
struct Spent {
    sends: u64,
    seconds: f64,
    user_s: f64,
    system_s: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.receive_from {
        Some(address) => receive(&options, address),
        None => measure(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> io::Result<()> {
    pin(options.cpu)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut receiver = Receiver::start(options, listener.local_addr()?)?;
    let sockets = accept(&listener, options.sockets)?;
    let spent = send(&sockets, options)?;
    // The receiver ends when its last socket does.
    drop(sockets);
    receiver.end()?;
    println!("{}", report(options, &spent));
    Ok(())
}

fn accept(listener: &TcpListener, count: u32) -> io::Result<Vec<TcpStream>> {
    (0..count)
        .map(|_| {
            let (socket, _) = listener.accept()?;
            socket.set_nodelay(true)?;
            socket.set_write_timeout(Some(STALLED))?;
            Ok(socket)
        })
        .collect()
}

fn send(sockets: &[TcpStream], options: &Options) -> io::Result<Spent> {
    let message = vec![b'x'; options.bytes as usize * options.messages as usize];
    let limit = f64::from(options.seconds);
    // The first round makes the kernel's structures for each socket, which is not to be counted.
    for mut socket in sockets {
        socket.write_all(&message)?;
    }
    let (start, (user_before, system_before)) = (now_s(), cpu_s()?);
    let mut sends = 0;
    for mut socket in sockets.iter().cycle() {
        socket.write_all(&message)?;
        sends += 1;
        if sends % SENDS_PER_LOOK == 0 && now_s() - start >= limit {
            break;
        }
    }
    let (seconds, (user, system)) = (now_s() - start, cpu_s()?);
    Ok(Spent { sends, seconds, user_s: user - user_before, system_s: system - system_before })
}

fn report(options: &Options, spent: &Spent) -> serde_json::Value {
    let each = |seconds: f64| (seconds * 1e9 / spent.sends as f64).round() / 1e3;
    serde_json::json!({
        "format": 1,
        "sockets": options.sockets,
        "bytes": options.bytes,
        "messages_per_send": options.messages,
        "seconds": spent.seconds,
        "per_s": (spent.sends as f64 / spent.seconds).round(),
        "send_us": {
            "total": each(spent.user_s + spent.system_s),
            "user": each(spent.user_s),
            "system": each(spent.system_s),
        },
    })
}

/// The second process; killed if the first gives up.
struct Receiver(Child);

impl Receiver {
    fn start(options: &Options, address: SocketAddr) -> io::Result<Self> {
        let (sockets, cpu) = (options.sockets.to_string(), options.receiver_cpu.to_string());
        Command::new(std::env::current_exe()?)
            .args(["--receive-from", &address.to_string()])
            .args(["--sockets", &sockets, "--receiver-cpu", &cpu])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map(Self)
    }

    fn end(&mut self) -> io::Result<()> {
        match self.0.wait()? {
            status if status.success() => Ok(()),
            status => Err(io::Error::other(format!("the receiver ended with {status}"))),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn receive(options: &Options, address: SocketAddr) -> io::Result<()> {
    pin(options.receiver_cpu)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut sockets: Vec<Option<OwnedFd>> = Vec::new();
    for number in 0..u64::from(options.sockets) {
        let socket = TcpStream::connect(address)?;
        socket.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(number);
        epoll::add(&poll, &socket, data, epoll::EventFlags::IN)?;
        sockets.push(Some(socket.into()));
    }
    let (mut open, mut events) = (sockets.len(), Vec::with_capacity(EVENTS));
    let mut buffer = vec![0; READ_BYTES];
    while open > 0 {
        events.clear();
        let patience = Timespec { tv_sec: STALLED.as_secs() as i64, tv_nsec: 0 };
        if epoll::wait(&poll, spare_capacity(&mut events), Some(&patience))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the sender went silent"));
        }
        for event in &events {
            let Some(place) = sockets.get_mut(event.data.u64() as usize) else { continue };
            let ended = place.as_ref().is_some_and(|socket| has_ended(socket, &mut buffer));
            if ended {
                *place = None;
                open -= 1;
            }
        }
    }
    Ok(())
}

/// Takes what a socket has and throws it away.
fn has_ended(socket: &OwnedFd, buffer: &mut [u8]) -> bool {
    match rustix::io::read(socket, buffer) {
        Ok(0) => true,
        Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
        Err(_) => true,
    }
}

fn pin(cpu: u32) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu as usize);
    rustix::thread::sched_setaffinity(None, &cpus)
        .map_err(|error| io::Error::other(format!("cannot run on CPU {cpu}: {error}")))
}

fn now_s() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Seconds of CPU that this process has used in user and in kernel mode (proc_pid_stat(5), the
/// fields 14 and 15).
fn cpu_s() -> io::Result<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    // The second field is a name in brackets, and may hold spaces.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<f64>().ok());
    match (next(), next()) {
        (Some(user), Some(system)) => Ok((user / ticks, system / ticks)),
        _ => Err(io::Error::other("/proc/self/stat does not tell the CPU time")),
    }
}
