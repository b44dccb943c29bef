//! The verdicts as a table for people, and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::kept::Kept;
use super::options::Name;
use super::verdict::{Limits, Verdict};

/// The version of the format; rises when a field changes its meaning.
pub const FORMAT: u32 = 1;

/// All that ran.
#[derive(Debug, Serialize)]
pub struct Report {
    pub format: u32,
    /// Of this program.
    pub version: &'static str,
    pub passed: bool,
    pub rounds: Vec<Round>,
}

/// One run of one drill.
#[derive(Debug, Serialize)]
pub struct Round {
    pub drill: Name,
    /// From 1.
    pub round: u32,
    pub passed: bool,
    /// Which promises were broken; empty if none was.
    pub failures: Vec<String>,
    /// What was looked at beside the log of messages, and held.
    pub checks: Vec<String>,
    /// From the start of the processes to their end, in seconds.
    pub seconds: f64,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What the archive has, in drills with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<Kept>,
}

/// What a drill looked at beside the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    held: Vec<String>,
    broken: Vec<String>,
}

impl Report {
    pub fn of(rounds: Vec<Round>) -> Self {
        let passed = !rounds.is_empty() && rounds.iter().all(|round| round.passed);
        Self { format: FORMAT, version: env!("CARGO_PKG_VERSION"), passed, rounds }
    }
}

impl Round {
    pub fn of(
        drill: Name,
        round: u32,
        verdict: Verdict,
        limits: &Limits,
        checks: Checks,
        seconds: f64,
    ) -> Self {
        let mut failures = verdict.breaches(limits);
        failures.extend(checks.broken);
        let passed = failures.is_empty();
        Self {
            drill,
            round,
            passed,
            failures,
            checks: checks.held,
            seconds,
            verdict,
            archive: None,
        }
    }

    /// The same with what the archive made of it.
    pub fn with_archive(mut self, archive: Option<Kept>) -> Self {
        self.failures.extend(archive.iter().flat_map(Kept::breaches));
        self.passed = self.failures.is_empty();
        Self { archive, ..self }
    }

    /// A drill that could not be made, which is no pass.
    pub fn not_run(drill: Name, round: u32, why: impl ToString) -> Self {
        let failures = vec![format!("not run: {}", why.to_string())];
        let (verdict, checks) = (Verdict::default(), Vec::new());
        Self { drill, round, passed: false, failures, checks, seconds: 0.0, verdict, archive: None }
    }

    /// The outcome in a word.
    pub fn word(&self) -> &'static str {
        if self.passed { "pass" } else { "FAIL" }
    }
}

impl Checks {
    /// Notes what should hold and whether it does; `found` says what was seen.
    pub fn that(&mut self, what: &str, holds: bool, found: impl ToString) {
        match holds {
            true => self.held.push(what.to_owned()),
            false => self.broken.push(format!("not so: {what} ({})", found.to_string())),
        }
    }
}

/// A column: its heading and its cell.
type Column = (&'static str, fn(&Round) -> String);

const COLUMNS: &[Column] = &[
    ("acknowledged", |round| round.verdict.acknowledged.to_string()),
    ("refused", |round| (round.verdict.refused + round.verdict.unknown).to_string()),
    ("delivered", |round| round.verdict.delivered.to_string()),
    ("told", |round| round.verdict.told.to_string()),
    ("lost", |round| round.verdict.lost.to_string()),
    ("doubled", |round| round.verdict.doubled.to_string()),
    ("disordered", |round| round.verdict.out_of_order.to_string()),
    ("recovered", |round| round.verdict.recovered.to_string()),
    ("false", |round| round.verdict.false_recovered.to_string()),
    ("dropped", |round| round.verdict.dropped.to_string()),
    ("silence s", |round| seconds(Some(round.verdict.longest_silence_ms))),
    ("whole s", |round| seconds(round.verdict.whole_after_ms)),
    ("verdict", |round| round.word().to_owned()),
];

/// The rounds as a table, then what went wrong.
pub fn render(report: &Report) -> String {
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(COLUMNS.iter().map(|(heading, _)| (*heading).to_owned()));
    for round in &report.rounds {
        let mut line = vec![round.drill.text()];
        line.extend(COLUMNS.iter().map(|(_, cell)| cell(round)));
        lines.push(line);
    }
    let mut text = aligned(&lines);
    for round in &report.rounds {
        if let Some(kept) = &round.archive {
            let _ =
                writeln!(text, "{} (round {}): {}", round.drill.text(), round.round, kept.text());
        }
        for failure in &round.failures {
            let _ = writeln!(text, "{} (round {}): {failure}", round.drill.text(), round.round);
        }
    }
    text
}

fn seconds(milliseconds: Option<u64>) -> String {
    milliseconds.map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms as f64 / 1_000.0))
}

/// The first column to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(String::len).max();
    let widths: Vec<_> = (0..columns).map(|at| width(at).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(verdict: Verdict, checks: Checks) -> Round {
        let drill = Name::RedisFailover;
        Round::of(drill, 1, verdict, &drill.limits(), checks, 1.0)
    }

    fn flowing() -> Verdict {
        Verdict { acknowledged: 10, delivered: 20, ..Verdict::default() }
    }

    #[test]
    fn one_broken_promise_fails_the_whole() {
        let good = || round(flowing(), Checks::default());
        assert!(Report::of(vec![good()]).passed);
        let lost = round(Verdict { lost: 1, ..flowing() }, Checks::default());
        assert!(!Report::of(vec![good(), lost, good()]).passed);
        let mut checks = Checks::default();
        checks.that("the sun shines", true, "it does");
        checks.that("it is warm", false, "7 degrees");
        let cold = round(flowing(), checks);
        assert!(!cold.passed);
        assert_eq!(cold.failures, ["not so: it is warm (7 degrees)"]);
        assert!(!Report::of(Vec::new()).passed, "nothing ran");
        let not_run = Round::not_run(Name::NodeKill, 1, "no program");
        assert!(!Report::of(vec![good(), not_run]).passed, "not all ran");
    }

    #[test]
    fn the_table_names_what_went_wrong() {
        let lost = round(Verdict { lost: 3, ..flowing() }, Checks::default());
        let text = render(&Report::of(vec![lost]));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("lost") && lines[1].contains("FAIL"), "{text}");
        assert_eq!(
            lines[2],
            "redis-failover (round 1): 3 acknowledged publications lost without a word"
        );
    }
}
