//! What canaries show, told by a clock of the test.

use hyper::StatusCode;

use super::*;
use crate::telemetry::health::{Health, Limits, Phase};

/// Notes what is handed on.
#[derive(Default)]
struct Rest(Mutex<Vec<String>>);

impl Receive for Rest {
    fn message(&self, name: &str, _: &Bytes) {
        self.0.lock().push(name.to_owned());
    }

    fn is_wanted(&self, _: &str) -> bool {
        true
    }

    fn wanted(&self, _: &dyn Fn(&str) -> bool) -> Vec<CompactString> {
        Vec::new()
    }

    fn interrupted(&self, _: usize, _: bool, _: &dyn Fn(&str) -> bool) {}

    fn resumed(&self, _: usize) {}
}

fn canaries(clock: &Clock, limits: Limits) -> (Arc<Canaries>, Arc<Health>) {
    let health = Arc::new(Health::new(clock.clone(), limits));
    health.enter(Phase::Ready);
    let reporting = Reporting { health: Arc::clone(&health), ..Reporting::default() };
    (Arc::new(Canaries::new(0, 2, &Keys::new("p"), clock, &reporting)), health)
}

fn sung(singer: &Singer, number: u64, sent_us: u64) -> Bytes {
    let (singer, master) = (&singer.name, &singer.master);
    Bytes::from(Canary { singer, number, sent_us, master }.to_string())
}

#[test]
fn a_reader_takes_only_its_own_canaries_out() {
    let (canaries, _) = canaries(&Clock::manual(0), Limits::default());
    let singer = canaries.singer("", || None);
    let rest = Arc::new(Rest::default());
    let receive: Arc<dyn Receive> = Arc::clone(&rest) as _;
    let ear = Ear { canaries: Arc::clone(&canaries), reader: 1, receive };
    let canary = sung(&singer, 1, 0);
    for name in ["p.bobolink.canary.0.1", "p.client.a", "p.bobolink.canary.0.0"] {
        ear.message(name, &canary);
    }
    assert_eq!(*rest.0.lock(), ["p.client.a", "p.bobolink.canary.0.0"]);
    assert_eq!(*singer.heard.borrow(), [0, 1]);
}

#[test]
fn delivery_works_when_every_reader_has_heard_a_fresh_one() {
    let clock = Clock::manual(0);
    let (canaries, health) = canaries(&clock, Limits::default());
    let singer = canaries.singer("", || None);
    let works = || health.delivery().status == StatusCode::OK;
    clock.advance(Duration::from_secs(60));
    let now_us = 60_000_000;
    canaries.hear(0, &sung(&singer, 1, now_us));
    assert!(!works(), "the other one may be deaf");
    canaries.hear(1, &sung(&singer, 1, 1));
    assert!(!works(), "it was on its way for a minute");
    canaries.hear(1, &sung(&singer, 1, now_us + 1));
    assert!(!works(), "it is not sent yet");
    canaries.hear(1, &sung(&singer, 1, now_us));
    assert!(works());
}

#[test]
fn each_master_has_to_be_heard_and_one_that_is_gone_has_not() {
    let (canaries, health) = canaries(&Clock::manual(0), Limits::default());
    let works = || health.delivery().status == StatusCode::OK;
    let (one, two) = (canaries.singer("m1", || None), canaries.singer("m2", || None));
    (0..2).for_each(|reader| canaries.hear(reader, &sung(&one, 1, 0)));
    assert!(!works(), "of the other nothing was heard");
    drop(two);
    assert!(works());
}
#[test]
fn a_canary_of_another_node_shows_something_of_the_master_that_it_went_over_alone() {
    let is_ready_after = |masters: &[&str]| {
        let clock = Clock::manual(0);
        let (canaries, health) = canaries(&clock, Limits::default());
        let singers = ["m1", "m2"].map(|master| canaries.singer(master, || None));
        for _ in 0..100 {
            clock.advance(Duration::from_millis(100));
            for master in masters {
                let canary = Canary { singer: "other", number: 1, sent_us: 0, master };
                canaries.hear(0, &Bytes::from(canary.to_string()));
            }
            let now_us =
                u64::try_from(clock.now().saturating_duration_since(singers[1].origin).as_micros());
            let canary = sung(&singers[1], 1, now_us.expect("not for so long"));
            (0..2).for_each(|reader| canaries.hear(reader, &canary));
        }
        health.ready().status == StatusCode::OK
    };
    assert!(is_ready_after(&["m2"]), "the one that is away may be away for all");
    assert!(is_ready_after(&["m2", ""]), "nobody knows which this was");
    assert!(!is_ready_after(&["m2", "m1"]), "others do better over the same");
}
