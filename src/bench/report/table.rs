//! Reports as tables: for a terminal, as CSV, and several of them as one in Markdown.

use std::collections::BTreeSet;

use serde_json::Value;

use super::compare::Comparison;
use super::{Head, Report, Row, Skipped};
use crate::bench::peak::Peaks;

/// The head as text, and the peaks if there are any.
pub fn head(head: &Head, peaks: Option<&Peaks>) -> String {
    let peaks = peaks.map(|peaks| ("peaks", self::peaks(peaks)));
    let lines = head.lines().into_iter().chain(peaks);
    lines.map(|(name, value)| format!("{name:<9} {value}")).collect::<Vec<_>>().join("\n")
}

/// The peaks in one line.
pub fn peaks(peaks: &Peaks) -> String {
    format!(
        "copy {:.1} GB/s (buffer {:.1}, kernel {:.1}), multiply {:.1} GFLOP/s f32",
        peaks.copy / 1e9,
        peaks.copy_buffer / 1e9,
        peaks.copy_kernel / 1e9,
        peaks.multiply / 1e9
    )
}

/// Seconds in the unit that reads best.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} us", s * 1e6),
    }
}

fn figure(row: &Row, name: &str, digits: usize) -> String {
    row.number(name).map_or("-".into(), |value| format!("{value:.digits$}"))
}

fn percent(row: &Row, name: &str) -> String {
    row.number(name).map_or("-".into(), |value| format!("{:.0}%", 100.0 * value))
}

/// Titles over [`kernel_line`]s.
pub fn kernel_titles() -> String {
    format!(
        "  {:<52} {:>10} {:>6} {:>10} {:>9} {:>5} {:>8} {:>5} {:>8}",
        "variant (* = the engine's choice)",
        "time",
        "spread",
        "wall",
        "GFLOP/s",
        "peak",
        "GB/s",
        "peak",
        "error"
    )
}

/// A row of `bench kernels`.
pub fn kernel_line(row: &Row) -> String {
    let wall = row.number("wall_seconds").map_or("-".into(), time);
    let error = match row.number("error") {
        Some(error) if error > 1e30 => "NaN".into(),
        Some(error) => format!("{error:.1e}"),
        None => "-".into(),
    };
    let flops = row.number("gflop").unwrap_or_default() > 0.0;
    format!(
        "{} {:<52} {:>10} {:>6} {:>10} {:>9} {:>5} {:>8} {:>5} {:>8}",
        if row.chosen { "*" } else { " " },
        row.variant,
        time(row.seconds),
        row.spread.map_or("-".into(), |spread| format!("{:.0}%", 100.0 * spread)),
        wall,
        if flops { figure(row, "gflop_per_second", 2) } else { "-".into() },
        if flops { percent(row, "share_of_multiply_peak") } else { "-".into() },
        figure(row, "gbyte_per_second", 2),
        percent(row, "share_of_copy_peak"),
        error,
    )
}

/// What was left out, a line for each reason.
pub fn skipped(skipped: &[Skipped]) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&Skipped>)> = Vec::new();
    for left in skipped {
        match reasons.iter_mut().find(|(reason, _)| *reason == left.reason) {
            Some((_, all)) => all.push(left),
            None => reasons.push((&left.reason, vec![left])),
        }
    }
    let lines = reasons.iter().map(|(reason, all)| {
        let more = if all.len() == 1 { String::new() } else { format!(" and {} more", all.len() - 1) };
        format!("skipped {} {}{more}: {reason}", all[0].case, all[0].variant)
    });
    lines.collect()
}

/// A row of `bench model`, with its kernels below.
pub fn model_lines(row: &Row) -> String {
    let mut text = format!(
        "{:<28} {:>10} (wall {}), {} GFLOP, {} GFLOP/s; {} dispatches take {} alone: gaps {}",
        row.case,
        time(row.seconds),
        row.number("wall_seconds").map_or("-".into(), time),
        figure(row, "gflop", 2),
        figure(row, "gflop_per_second", 2),
        figure(row, "dispatches", 0),
        row.number("kernels_seconds").map_or("-".into(), time),
        figure(row, "gaps", 3),
    );
    let sum = row.number("kernels_seconds").unwrap_or_default().max(1e-12);
    for (kernel, seconds) in row.figures.get("kernels").and_then(Value::as_object).into_iter().flatten() {
        let seconds = seconds.as_f64().unwrap_or_default();
        text += &format!("\n    {kernel:<24} {:>10} {:>4.0}%", time(seconds), 100.0 * seconds / sum);
    }
    text
}

/// All rows as comma-separated values; the head as lines that begin with `#`.
pub fn csv(report: &Report) -> String {
    let mut text: String =
        report.head.lines().iter().map(|(name, value)| format!("# {name}: {value}\n")).collect();
    if let Some(peaks) = &report.peaks {
        text += &format!("# peaks: {}\n", self::peaks(peaks));
    }
    // Nested figures have no cell to go to.
    let names: BTreeSet<&String> = report
        .rows
        .iter()
        .flat_map(|row| row.figures.iter().filter(|(_, value)| !value.is_object()).map(|(name, _)| name))
        .collect();
    let titles = ["case", "variant", "chosen", "seconds", "spread"].into_iter();
    text += &titles.chain(names.iter().map(|name| name.as_str())).collect::<Vec<_>>().join(",");
    for row in &report.rows {
        let spread = row.spread.map_or(String::new(), |spread| spread.to_string());
        let mut cells = vec![
            quoted(&row.case),
            quoted(&row.variant),
            row.chosen.to_string(),
            row.seconds.to_string(),
            spread,
        ];
        cells.extend(names.iter().map(|name| match row.figures.get(*name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => quoted(text),
            Some(value) => value.to_string(),
        }));
        text += &format!("\n{}", cells.join(","));
    }
    text
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

/// A comparison as text.
pub fn comparison(found: &Comparison) -> String {
    let mut text = String::from("compared with before (new / old, below 1 is faster)");
    for difference in &found.differences {
        text += &format!("\n! {difference}");
    }
    for change in &found.changes {
        text += &format!(
            "\n{:>6.2}x {:<6} (noise {:>3.0}%)  {} {}",
            change.ratio,
            change.verdict,
            100.0 * change.noise,
            change.case,
            change.variant
        );
    }
    for (what, names) in [("only before", &found.gone), ("only now", &found.added)] {
        for name in names {
            text += &format!("\n{what}: {name}");
        }
    }
    text
}

/// Reports of several machines as Markdown: the machines, then one table with a column for each. Of a case's
/// variants each machine's own choice counts, or its fastest where none is marked.
pub fn merged(reports: &[Report]) -> String {
    let mut text = String::from(
        "| | adapter | driver | features | peaks | diffa |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for (i, report) in reports.iter().enumerate() {
        let peaks = report.peaks.map_or("-".into(), |peaks| {
            format!("{:.1} GB/s, {:.1} GFLOP/s", peaks.copy / 1e9, peaks.multiply / 1e9)
        });
        let head = &report.head;
        text += &format!(
            "| {} | {} ({}, {}) | {} | {} | {peaks} | {} {}, {} |\n",
            letter(i),
            head.adapter,
            head.backend,
            head.kind,
            head.driver,
            head.features.join(" "),
            head.version,
            head.commit,
            head.build
        );
    }
    let mut cases: Vec<&str> = Vec::new();
    for row in reports.iter().flat_map(|report| &report.rows) {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    let columns: Vec<String> = (0..reports.len()).map(|i| format!("{} |", letter(i))).collect();
    text += &format!("\n| case | {}\n| --- |{}\n", columns.join(" "), " --- |".repeat(reports.len()));
    for case in cases {
        let cells: Vec<String> = reports.iter().map(|report| cell(report, case)).collect();
        text += &format!("| {} | {} |\n", case.replace('|', "\\|"), cells.join(" | "));
    }
    text.trim_end().to_string()
}

fn letter(i: usize) -> char {
    char::from(b'A' + (i % 26) as u8)
}

fn cell(report: &Report, case: &str) -> String {
    let rows = || report.rows.iter().filter(|row| row.case == case);
    let fastest = || rows().min_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let Some(row) = rows().find(|row| row.chosen).or_else(fastest) else { return "-".into() };
    let rate = match (row.number("gflop_per_second"), row.number("gbyte_per_second")) {
        (Some(rate), _) if rate > 0.01 => format!(", {rate:.1} GFLOP/s"),
        (_, Some(rate)) => format!(", {rate:.1} GB/s"),
        _ => String::new(),
    };
    let variant = if row.variant.is_empty() { String::new() } else { format!(" ({})", row.variant) };
    format!("{}{rate}{variant}", time(row.seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_are_quoted() {
        assert_eq!(quoted("a b"), "a b");
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
    }

    #[test]
    fn times_have_three_digits_or_so() {
        assert_eq!(time(2.345), "2.35 s");
        assert_eq!(time(0.0123), "12.30 ms");
        assert_eq!(time(4.5e-6), "4.5 us");
    }
}
