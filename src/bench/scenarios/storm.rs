//! All clients dropped at once, and back with recovery.

use crate::bench::crew::{Crew, Halt};
use crate::bench::engine::Leaving;
use crate::bench::event::{Event, Peer};
use crate::bench::http::{broadcast_body, publish_body};
use crate::bench::options::StormArgs;
use crate::bench::payload::Mark;
use crate::bench::report::{Latency, Row};
use crate::bench::ticker::SECOND_NS;
use crate::bench::verify::{Faults, Sequence};
use crate::protocol::command::SubscribeRequest;
use crate::protocol::publication::Publication;
use crate::protocol::reply::SubscribeResult;

/// Channels of one broadcast.
const BROADCAST: usize = 500;
/// Connections over which what is missed is published.
const API_CONNECTIONS: usize = 4;
/// Longest wait for an answer of the server API.
const PATIENCE_NS: u64 = 30 * SECOND_NS;

/// Runs the scenario: a row per round.
///
/// # Errors
/// As [`Crew::gather`]; channels that cannot be recovered; a server API that does not answer.
pub fn run(crew: &mut Crew, args: &StormArgs) -> Result<(), Halt> {
    let count = args.connections as usize;
    let prefix = crew.shared().channel.clone();
    let own = args.own_channels;
    let channel = move |client: usize| format!("{prefix}{}", if own { client } else { 0 });
    let mut clients: Vec<_> = (0..count).map(|_| Client::default()).collect();
    let first = |client: usize| {
        let channel = channel(client);
        vec![SubscribeRequest { channel, recoverable: true, ..SubscribeRequest::default() }]
    };
    let mut made = Vec::new();
    crew.gather(count, first, |client, event| {
        if let Event::Made { message, .. } = event {
            made.push((client, message.clone()));
        }
    })?;
    for (client, message) in made {
        if let (Some(result), Some(client)) = (crew.subscribed(&message)?, clients.get_mut(client))
        {
            client.start(&result);
        }
    }
    if let Some(at) = clients.iter().position(|client| !client.is_recoverable) {
        let channel = channel(at);
        return Err(Halt::Fault(format!(
            "{channel} cannot be recovered: it needs history_size, history_ttl and force_recovery"
        )));
    }
    let channels = if own { count } else { 1 };
    let names: Vec<_> = (0..channels).map(&channel).collect();
    let api = crew.dial_api(API_CONNECTIONS)?;
    for round in 1..=args.rounds {
        crew.scatter(Leaving::Reset);
        publish_missed(crew, args, &names, &api, round)?;
        let row = come_back(crew, args, &channel, &mut clients, round)?;
        crew.rows.push(row);
    }
    Ok(())
}

/// What one client has of its channel.
#[derive(Debug, Default)]
struct Client {
    is_recoverable: bool,
    epoch: String,
    offset: u64,
    /// Publications of this round.
    sequence: Sequence,
    faults: Faults,
    recovered: bool,
}

impl Client {
    fn start(&mut self, result: &SubscribeResult) {
        self.is_recoverable = result.recoverable;
        self.epoch.clone_from(&result.epoch);
        self.offset = result.offset;
    }

    /// The subscription with which it comes back.
    fn request(&self, channel: String) -> SubscribeRequest {
        SubscribeRequest {
            channel,
            recover: true,
            recoverable: true,
            epoch: self.epoch.clone(),
            offset: self.offset,
            ..SubscribeRequest::default()
        }
    }

    fn resume(&mut self, result: &SubscribeResult, round: u32) {
        self.recovered = result.recovered;
        for Publication { data, offset, .. } in &result.publications {
            if let Some(mark) = Mark::read(data) {
                self.take(&mark, *offset, round);
            }
        }
        self.epoch.clone_from(&result.epoch);
        self.offset = self.offset.max(result.offset);
    }

    fn take(&mut self, mark: &Mark, offset: u64, round: u32) {
        if u32::from(mark.run) == round {
            self.faults.count(self.sequence.take(mark.sequence.into()));
        }
        if offset != self.offset + 1 {
            self.faults.disordered += 1;
        }
        self.offset = self.offset.max(offset);
    }
}

/// Publishes what the clients miss, in order, and waits until the server has taken all of it.
fn publish_missed(
    crew: &mut Crew,
    args: &StormArgs,
    names: &[String],
    api: &[Peer],
    round: u32,
) -> Result<(), Halt> {
    let requests = crew.requests();
    let mut events = Vec::new();
    let mut left = 0_usize;
    for sequence in 0..args.missed {
        let mark = Mark { run: round as u16, sequence, ..Mark::default() };
        let mut payload = Vec::with_capacity(args.size);
        mark.write(args.size, &mut payload);
        // A channel's publications all go over one connection, which keeps their order.
        for (part, names) in names.chunks(BROADCAST).enumerate() {
            let (method, body) = match names {
                [name] => ("publish", publish_body(name, &payload)),
                names => ("broadcast", broadcast_body(names, &payload)),
            };
            if let Some(peer) = api.get(part % api.len().max(1)) {
                crew.engine.request(*peer, requests.post(method, &body));
                left += 1;
            }
        }
    }
    let mut until_ns = crew.engine.now_ns() + PATIENCE_NS;
    while left > 0 {
        let now_ns = crew.engine.now_ns();
        if now_ns >= until_ns {
            return Err(Halt::Fault("the server API does not answer".to_owned()));
        }
        crew.progress.show(now_ns, || format!("publishing what is missed: {left} requests left"));
        crew.engine.poll(until_ns.min(now_ns + SECOND_NS), &mut events)?;
        for event in &events {
            match event {
                Event::Answered { outcome: Ok(_), .. } => {
                    left = left.saturating_sub(1);
                    until_ns = crew.engine.now_ns() + PATIENCE_NS;
                }
                Event::Answered { outcome: Err(why), .. } | Event::Closed { why, .. } => {
                    return Err(Halt::Fault(why.clone()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Connects all again and counts what they recovered.
fn come_back(
    crew: &mut Crew,
    args: &StormArgs,
    channel: &impl Fn(usize) -> String,
    clients: &mut [Client],
    round: u32,
) -> Result<Row, Halt> {
    let count = clients.len();
    let mut requests = Vec::with_capacity(count);
    for (number, client) in clients.iter_mut().enumerate() {
        client.sequence = Sequence::default();
        client.faults = Faults::default();
        requests.push(client.request(channel(number)));
    }
    let (mut made, mut published) = (Vec::new(), Vec::new());
    let gathered = crew.gather(
        count,
        |client| requests.get(client).cloned().into_iter().collect(),
        |number, event| match event {
            Event::Made { message, .. } => made.push((number, message.clone())),
            Event::Published(delivery) => published.push((number, *delivery)),
            _ => {}
        },
    )?;
    // Looked into when the time has been taken: that is the generator's work, not the server's.
    for (number, message) in made {
        if let (Some(result), Some(client)) = (crew.subscribed(&message)?, clients.get_mut(number))
        {
            client.resume(&result, round);
        }
    }
    for (number, delivery) in published {
        if let Some(client) = clients.get_mut(number) {
            client.take(&delivery.mark, delivery.offset, round);
        }
    }
    let (mut faults, mut recovered) = (Faults::default(), 0);
    for client in clients.iter() {
        let lacking = u64::from(args.missed).saturating_sub(client.sequence.next());
        faults += Faults { missing: lacking, ..Faults::default() };
        faults += client.faults;
        recovered += u64::from(client.recovered);
    }
    let unrecovered = count as u64 - recovered;
    if unrecovered > 0 || !faults.is_none() {
        let Faults { missing, doubled, disordered } = faults;
        crew.failures.add(format!(
            "round {round}: {unrecovered} clients not recovered, {missing} publications lost, \
             {doubled} doubled, {disordered} out of order"
        ));
    }
    let usage = gathered.usage;
    let mut row = usage.row(format!("round {round}"));
    row.metrics.set("whole_s", usage.seconds);
    row.metrics.set("connect_per_s", count as f64 / usage.seconds);
    row.metrics.count("recovered", recovered);
    row.metrics.count("lost", faults.missing);
    row.metrics.count("doubled", faults.doubled);
    row.metrics.count("disordered", faults.disordered);
    if let Some(server) = usage.server {
        row.metrics.set("cpu_us_per_client", server.cpu_s() * 1e6 / count as f64);
    }
    if let Some(redis) = usage.redis {
        row.metrics.count("redis_commands", redis.commands);
        row.metrics.count("redis_scripts", redis.scripts);
        row.metrics.set("redis_cpu_us_per_client", redis.cpu_s() * 1e6 / count as f64);
    }
    row.latency = Latency::of(&gathered.times);
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(sequence: u32, offset: u64) -> Publication {
        let mut data = Vec::new();
        Mark { run: 1, sequence, ..Mark::default() }.write(128, &mut data);
        Publication { data: data.into(), offset, ..Publication::default() }
    }

    fn resumed(publications: Vec<Publication>) -> Client {
        let mut client = Client { offset: 7, ..Client::default() };
        let result =
            SubscribeResult { recovered: true, offset: 7, publications, ..Default::default() };
        client.resume(&result, 1);
        client
    }

    #[test]
    fn a_whole_recovery_has_no_faults_and_moves_the_position() {
        let client = resumed((0..5).map(|at| publication(at, 8 + u64::from(at))).collect());
        assert!(client.faults.is_none());
        assert_eq!((client.offset, client.sequence.next()), (12, 5));
    }

    #[test]
    fn a_recovery_with_a_hole_or_a_repetition_is_seen() {
        let hole = resumed(vec![publication(0, 8), publication(2, 10)]);
        assert_eq!((hole.faults.missing, hole.faults.disordered), (1, 1));
        let twice = resumed(vec![publication(0, 8), publication(0, 8)]);
        assert_eq!((twice.faults.doubled, twice.faults.disordered), (1, 1));
    }
}
