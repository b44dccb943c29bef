//! Every count of the verdict can be made to rise, and nothing rises without a cause.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    may_tell: true,
    may_drop: true,
    may_fail: true,
    may_refuse: true,
    whole_within: Duration::from_secs(60),
};

/// One writer, one reader and one channel, told in milliseconds.
#[derive(Clone, Default)]
struct Tale {
    records: Vec<Record>,
}

impl Tale {
    /// A reader that is subscribed.
    fn begun() -> Self {
        Self::default().joins(0, Start::Fresh)
    }

    fn then(mut self, at_ms: u64, event: Event) -> Self {
        self.records.push(Record { at: Duration::from_millis(at_ms), event });
        self
    }

    fn joins(self, at: u64, start: Start) -> Self {
        self.then(at, Event::Asked { reader: 0 }).then(at + 1, Event::Joined { reader: 0, start })
    }

    fn sends(self, at: u64, number: Number, outcome: Outcome) -> Self {
        let answered = Event::Answered { writer: 0, number, outcome };
        self.then(at, Event::Sent { writer: 0, number }).then(at + 1, answered)
    }

    fn acknowledges(self, at: u64, number: Number) -> Self {
        self.sends(at, number, Outcome::Acknowledged)
    }

    fn gets(self, at: u64, number: Number) -> Self {
        self.then(at, Event::Got { reader: 0, writer: 0, number })
    }

    /// Published and received.
    fn flows(self, at: u64, number: Number) -> Self {
        self.acknowledges(at, number).gets(at + 2, number)
    }

    fn verdict(&self) -> Verdict {
        self.judged(false)
    }

    fn judged(&self, unseen_promotions: bool) -> Verdict {
        let seen = Seen { records: &self.records, channels: 1, readers: 1, unseen_promotions };
        judge(&seen)
    }
}

#[test]
fn what_flows_is_delivered_and_nothing_else() {
    let verdict = Tale::begun().flows(10, 1).flows(20, 2).verdict();
    assert_eq!((verdict.acknowledged, verdict.delivered), (2, 2));
    assert!(verdict.breaches(&LIMITS).is_empty(), "{verdict:?}");
}

#[test]
fn a_hole_is_a_loss() {
    let verdict = Tale::begun().flows(10, 1).acknowledges(20, 2).flows(30, 3).verdict();
    assert_eq!((verdict.lost, verdict.told), (1, 0));
    assert_eq!(verdict.breaches(&LIMITS), ["1 acknowledged publications lost without a word"]);
}

#[test]
fn a_missing_end_is_a_loss() {
    assert_eq!(Tale::begun().flows(10, 1).acknowledges(20, 2).verdict().lost, 1);
}

#[test]
fn what_was_not_acknowledged_may_come_or_not() {
    for outcome in [Outcome::Refused, Outcome::Unknown] {
        let absent = Tale::begun().flows(10, 1).sends(20, 2, outcome).flows(30, 3);
        let come = Tale::begun().flows(10, 1).sends(20, 2, outcome).gets(22, 2).flows(30, 3);
        for tale in [absent, come] {
            let verdict = tale.verdict();
            assert!(verdict.breaches(&LIMITS).is_empty(), "{verdict:?}");
            assert_eq!(verdict.refused + verdict.unknown, 1);
            let strict = Limits { may_refuse: false, ..LIMITS };
            assert_eq!(verdict.breaches(&strict).len(), 1);
        }
    }
}

#[test]
fn what_was_published_before_the_reader_came_is_not_expected() {
    let verdict = Tale::default().acknowledges(1, 1).joins(10, Start::Fresh).flows(20, 2).verdict();
    assert_eq!((verdict.lost, verdict.told, verdict.delivered), (0, 0, 1));
}

#[test]
fn a_reader_that_is_told_has_lost_nothing_unknowingly() {
    let told = Tale::begun().flows(10, 1).acknowledges(20, 2).joins(30, Start::Told).flows(40, 3);
    let verdict = told.verdict();
    assert_eq!((verdict.lost, verdict.told, verdict.not_recovered), (0, 1, 1));
    assert!(verdict.breaches(&LIMITS).is_empty());
    let strict = Limits { may_tell: false, ..LIMITS };
    assert_eq!(verdict.breaches(&strict).len(), 2);
}

#[test]
fn being_told_excuses_nothing_that_is_published_afterwards() {
    let verdict = Tale::begun().flows(10, 1).joins(30, Start::Told).acknowledges(40, 2).verdict();
    assert_eq!((verdict.lost, verdict.told), (1, 0));
}

#[test]
fn recovered_with_something_missing_is_false() {
    let lied = Tale::begun().flows(10, 1).acknowledges(20, 2).joins(30, Start::Recovered);
    let verdict = lied.flows(40, 3).verdict();
    assert_eq!((verdict.lost, verdict.false_recovered, verdict.recovered), (1, 1, 1));
    assert_eq!(verdict.breaches(&LIMITS).len(), 2);
}

#[test]
fn recovered_with_all_that_was_missing_is_true() {
    let tale = Tale::begun().flows(10, 1).acknowledges(20, 2).joins(30, Start::Recovered);
    let verdict = tale.gets(32, 2).flows(40, 3).verdict();
    assert_eq!((verdict.lost, verdict.false_recovered, verdict.recovered), (0, 0, 1));
}

#[test]
fn an_answer_says_nothing_of_what_comes_later() {
    let tale = Tale::begun().flows(10, 1).joins(30, Start::Recovered).acknowledges(40, 2);
    let verdict = tale.flows(50, 3).verdict();
    assert_eq!((verdict.lost, verdict.false_recovered), (1, 0), "lost, but not by this answer");
}

#[test]
fn a_false_answer_near_a_promotion_may_be_taken_back_and_a_later_one_not() {
    let tale = |asked: u64| {
        let promoted = Tale::begun().flows(10, 1).acknowledges(20, 2).then(25, Event::Promoted);
        let taken_back = promoted.joins(asked, Start::Recovered).joins(asked + 50, Start::Told);
        taken_back.flows(asked + 100, 3)
    };
    let grace = GRACE.as_millis() as u64;
    let near = tale(100).verdict();
    assert_eq!((near.false_recovered, near.told, near.lost), (0, 1, 0));
    assert_eq!(tale(25 + grace).verdict().false_recovered, 1);
    // Without a promotion there is no former master to be attached to.
    let mut without = tale(100);
    without.records.retain(|record| record.event != Event::Promoted);
    assert_eq!(without.verdict().false_recovered, 1);
    assert_eq!(without.judged(true).false_recovered, 0, "unless nobody looked");
}

#[test]
fn an_answer_behind_the_telling_is_not_blamed_for_what_was_before() {
    let told = Tale::begun().flows(10, 1).acknowledges(20, 2).joins(30, Start::Told);
    let verdict = told.joins(40, Start::Recovered).flows(50, 3).verdict();
    assert_eq!((verdict.false_recovered, verdict.told), (0, 1));
}

#[test]
fn coming_again_and_coming_late_are_told_apart() {
    let again = Tale::begun().flows(10, 1).gets(15, 1).flows(20, 2).verdict();
    assert_eq!((again.doubled, again.out_of_order), (1, 0));
    let late = Tale::begun().acknowledges(10, 1).flows(20, 2).gets(30, 1).verdict();
    assert_eq!((late.doubled, late.out_of_order), (0, 1));
    for verdict in [again, late] {
        assert_eq!(verdict.breaches(&LIMITS).len(), 1);
    }
}

#[test]
fn what_had_no_answer_may_overtake() {
    let tale = Tale::begun().sends(10, 1, Outcome::Unknown).flows(20, 2).gets(30, 1);
    assert_eq!(tale.verdict().out_of_order, 0);
}

#[test]
fn silence_is_counted_while_the_reader_listens() {
    let heard = Tale::begun().flows(10, 1).flows(510, 2).flows(600, 3);
    assert_eq!(heard.verdict().longest_silence_ms, 500);
    let away = Tale::begun().flows(10, 1).then(20, Event::Left { reader: 0 });
    let back = away.then(490, Event::Returning { reader: 0 }).flows(510, 2);
    assert_eq!(back.flows(520, 3).verdict().longest_silence_ms, 22);
}

#[test]
fn wholeness_is_when_the_last_was_felt() {
    let quiet = Tale::begun().flows(10, 1).then(1_000, Event::Fault).flows(1_010, 2);
    assert_eq!(quiet.verdict().whole_after_ms, Some(0));
    let refused = quiet.clone().sends(2_499, 3, Outcome::Refused).flows(3_000, 4);
    assert_eq!(refused.verdict().whole_after_ms, Some(1_500));
    let late = quiet.clone().acknowledges(2_000, 3).gets(5_000, 3);
    assert_eq!(late.verdict().whole_after_ms, Some(4_000));
    let limits = Limits { whole_within: Duration::from_secs(3), ..LIMITS };
    assert_eq!(late.verdict().breaches(&limits).len(), 1);
    assert_eq!(Tale::begun().flows(10, 1).verdict().whole_after_ms, None);
}

#[test]
fn nothing_tried_is_nothing_proved() {
    assert_eq!(Tale::begun().verdict().breaches(&LIMITS).len(), 1);
}

#[test]
fn drops_and_failures_count_where_they_are_forbidden() {
    let tale = Tale::begun().flows(10, 1).then(20, Event::Dropped { reader: 0 });
    let tale = tale.then(30, Event::Failed { reader: 0 }).joins(40, Start::Recovered);
    let verdict = tale.flows(50, 2).verdict();
    assert!(verdict.breaches(&LIMITS).is_empty());
    let strict = Limits { may_drop: false, may_fail: false, ..LIMITS };
    assert_eq!(verdict.breaches(&strict).len(), 2);
}

/// What happens between two publications of an honest gateway.
#[derive(Clone, Copy, Debug)]
enum Step {
    Delivered,
    Refused,
    /// Published while the reader is away, and brought by the recovery.
    Recovered,
    /// Gone with a failover, and said so.
    Told,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Delivered),
        1 => Just(Step::Refused),
        1 => Just(Step::Recovered),
        1 => Just(Step::Told),
    ];
    prop::collection::vec(step, 2..60)
}

fn honest(steps: &[Step]) -> Tale {
    let mut tale = Tale::begun();
    for (number, step) in (1..).zip(steps) {
        let at = u64::from(number) * 100;
        tale = match step {
            Step::Delivered => tale.flows(at, number),
            Step::Refused => tale.sends(at, number, Outcome::Refused),
            Step::Recovered => {
                tale.acknowledges(at, number).joins(at + 10, Start::Recovered).gets(at + 20, number)
            }
            Step::Told => tale.acknowledges(at, number).joins(at + 10, Start::Told),
        };
    }
    // Behind everything else, so that there is always something that was delivered.
    let number = steps.len() as Number + 1;
    tale.flows(u64::from(number) * 100, number)
}

fn deliveries(tale: &Tale) -> Vec<usize> {
    let is_delivery = |at: &usize| match tale.records[*at].event {
        Event::Got { number, .. } => {
            let outcome = Outcome::Acknowledged;
            let acknowledged = Event::Answered { writer: 0, number, outcome };
            tale.records.iter().any(|record| record.event == acknowledged)
        }
        _ => false,
    };
    (0..tale.records.len()).filter(is_delivery).collect()
}

proptest! {
    #[test]
    fn an_honest_gateway_passes(steps in steps()) {
        let verdict = honest(&steps).verdict();
        prop_assert!(verdict.breaches(&LIMITS).is_empty(), "{:?}", verdict);
        let told = steps.iter().filter(|step| matches!(step, Step::Told)).count() as u64;
        prop_assert_eq!(verdict.told, told);
        prop_assert_eq!(verdict.delivered + verdict.told, verdict.acknowledged);
    }

    #[test]
    fn a_delivery_taken_away_is_noticed(steps in steps(), which: prop::sample::Index) {
        let mut tale = honest(&steps);
        let all = deliveries(&tale);
        let before = tale.verdict();
        tale.records.remove(all[which.index(all.len())]);
        let after = tale.verdict();
        prop_assert_eq!(after.delivered + 1, before.delivered);
        prop_assert_eq!(after.lost + after.told, before.lost + before.told + 1);
        // Only where the reader is told right behind it may it pass as told.
        prop_assert!(after.lost == 1 || after.told > before.told);
    }

    #[test]
    fn a_delivery_made_twice_is_noticed(steps in steps(), which: prop::sample::Index) {
        let mut tale = honest(&steps);
        let all = deliveries(&tale);
        let again = tale.records[all[which.index(all.len())]];
        tale.records.push(again);
        prop_assert_eq!(tale.verdict().doubled, 1);
    }

    #[test]
    fn calling_what_was_told_recovered_is_noticed(steps in steps()) {
        let mut tale = honest(&steps);
        let told = tale.verdict().told;
        for record in &mut tale.records {
            if let Event::Joined { start, .. } = &mut record.event
                && *start == Start::Told
            {
                *start = Start::Recovered;
            }
        }
        let verdict = tale.verdict();
        prop_assert_eq!(verdict.lost, told);
        prop_assert_eq!(verdict.false_recovered, told);
    }

    #[test]
    fn no_story_breaks_the_judge(events in prop::collection::vec((0_u64..9_999, any_event()), 0..80)) {
        let mut tale = Tale::default();
        for (at, event) in events {
            tale = tale.then(at, event);
        }
        let verdict = tale.verdict();
        prop_assert!(verdict.recovered >= verdict.false_recovered);
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let outcome =
        prop_oneof![Just(Outcome::Acknowledged), Just(Outcome::Refused), Just(Outcome::Unknown)];
    let start = prop_oneof![Just(Start::Fresh), Just(Start::Recovered), Just(Start::Told)];
    let number = 0_u32..9;
    prop_oneof![
        number.clone().prop_map(|number| Event::Sent { writer: 0, number }),
        (number.clone(), outcome).prop_map(|(number, outcome)| Event::Answered {
            writer: 0,
            number,
            outcome
        }),
        start.prop_map(|start| Event::Joined { reader: 0, start }),
        number.prop_map(|number| Event::Got { reader: 0, writer: 0, number }),
        Just(Event::Asked { reader: 0 }),
        Just(Event::Left { reader: 0 }),
        Just(Event::Returning { reader: 0 }),
        Just(Event::Promoted),
        Just(Event::Fault),
    ]
}
