//! The report as a table for people.

use std::fmt::Write as _;

use super::report::{Report, Row};

/// A column: its heading, and the cell of a row if the row has one.
type Column = (&'static str, fn(&Row) -> Option<String>);

const COLUMNS: &[Column] = &[
    ("connect/s", |row| number(row, "connect_per_s", 0)),
    ("ops/s", |row| number(row, "ops_per_s", 0)),
    ("requests/s", |row| number(row, "requests_per_s", 0)),
    ("published/s", |row| number(row, "publications_per_s", 0)),
    ("offered/s", |row| number(row, "offered_per_s", 0)),
    ("delivered/s", |row| number(row, "delivered_per_s", 0)),
    ("whole s", |row| number(row, "whole_s", 3)),
    ("p50 ms", |row| Some(format!("{:.2}", row.latency.as_ref()?.p50_us / 1_000.0))),
    ("p99 ms", |row| Some(format!("{:.2}", row.latency.as_ref()?.p99_us / 1_000.0))),
    ("p99.9 ms", |row| Some(format!("{:.2}", row.latency.as_ref()?.p999_us / 1_000.0))),
    ("max ms", |row| Some(format!("{:.2}", row.latency.as_ref()?.max_us / 1_000.0))),
    ("msgs/frame", |row| number(row, "messages_per_frame", 2)),
    ("lost", |row| number(row, "missing", 0).or_else(|| number(row, "lost", 0))),
    ("doubled", |row| number(row, "doubled", 0)),
    ("disordered", |row| number(row, "disordered", 0)),
    ("B/conn", |row| {
        let names = [
            "bytes_per_connection",
            "bytes_per_connection_after_churn",
            "bytes_per_connection_after_close",
        ];
        row.server?;
        names.iter().find_map(|name| number(row, name, 0))
    }),
    ("CPU us", |row| {
        let names = [
            "cpu_us_per_delivery",
            "cpu_us_per_publication",
            "connect_cpu_us",
            "cpu_us_per_client",
            "cpu_us_per_op",
            "idle_cpu_us_per_connection_s",
        ];
        row.server?;
        names.iter().find_map(|name| number(row, name, 2))
    }),
    ("user s", |row| Some(format!("{:.2}", row.server?.user_s))),
    ("system s", |row| Some(format!("{:.2}", row.server?.system_s))),
    ("RSS MB", |row| Some(format!("{:.1}", row.server?.rss_bytes as f64 / 1e6))),
    ("PSS MB", |row| Some(format!("{:.1}", row.server?.pss_bytes as f64 / 1e6))),
    ("threads", |row| Some(row.server?.threads.to_string())),
    ("Redis commands", |row| Some(row.redis?.commands.to_string())),
    ("Redis s", |row| Some(format!("{:.2}", row.redis?.cpu_s()))),
    ("others", |row| Some(format!("{:.0} %", row.other_cpu? * 100.0))),
    ("waited", |row| Some(format!("{:.0} %", row.generator_wait * 100.0))),
    ("generator", |row| Some(format!("{:.0} %", row.generator_cpu * 100.0))),
];

/// The rows as a table, then what went wrong.
pub fn render(report: &Report) -> String {
    let rows: Vec<_> = report.rows.iter().filter(|row| row.seconds > 0.0).collect();
    let used: Vec<_> =
        COLUMNS.iter().filter(|(_, cell)| rows.iter().any(|row| cell(row).is_some())).collect();
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(used.iter().map(|(heading, _)| (*heading).to_owned()));
    for row in &rows {
        let cells = used.iter().map(|(_, cell)| cell(row).unwrap_or_else(|| "-".to_owned()));
        let mut line = vec![row.label.clone()];
        line.extend(cells);
        line.extend(row.void.as_ref().map(|why| format!("void: {why}")));
        line.extend(row.at_least.as_ref().map(|why| format!("at least: {why}")));
        lines.push(line);
    }
    let mut text = match rows.is_empty() {
        true => String::new(),
        false => aligned(&lines, used.len() + 1),
    };
    for line in report.failures.lines() {
        let _ = writeln!(text, "failed: {line}");
    }
    text
}

fn number(row: &Row, name: &str, digits: usize) -> Option<String> {
    Some(format!("{:.digits$}", row.metrics.get(name)?))
}

/// The first column to the left, the others to the right, and what is behind them as it is.
fn aligned(lines: &[Vec<String>], columns: usize) -> String {
    let width =
        |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|it| it.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|at| width(at).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in lines {
        let mut cells = Vec::new();
        for (at, cell) in line.iter().enumerate() {
            cells.push(match widths.get(at) {
                Some(width) if at == 0 => format!("{cell:<width$}"),
                Some(width) => format!("{cell:>width$}"),
                None => cell.clone(),
            });
        }
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::procfs::Machine;
    use crate::bench::report::{FORMAT, Failures};

    #[test]
    fn columns_without_a_value_are_left_out_and_void_rows_say_so() {
        let mut row = Row { label: "50 pub/s".into(), seconds: 1.0, ..Row::default() };
        row.metrics.set("delivered_per_s", 49_999.6);
        let void = Row { void: Some("busy".into()), label: "b".into(), ..Row::default() };
        let void = Row { seconds: 1.0, ..void };
        let summary = Row { label: "summary".into(), ..Row::default() };
        let mut failures = Failures::default();
        failures.add("client 1: gone");
        let text = render(&Report {
            format: FORMAT,
            version: "0",
            scenario: "fanout",
            options: serde_json::Value::Null,
            machine: Machine::default(),
            started: String::new(),
            elapsed_s: 1.0,
            failures,
            rows: vec![row, void, summary],
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["delivered/s", "waited", "generator"]
        );
        assert!(lines[1].starts_with("50 pub/s") && lines[1].contains(" 50000 "), "{text}");
        assert!(lines[2].ends_with("void: busy"), "{text}");
        assert_eq!(lines[3..], ["failed: client 1: gone"]);
    }
}
