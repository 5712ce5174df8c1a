//! A report as one page that needs nothing else: head, roofline, variants side by side, table. Follows the
//! reader's choice of light or dark.

use std::fmt::Write;

use super::svg::{N_COLOURS, bars, escaped, roofline};
use super::table::{csv, time};
use super::{Report, Row};

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(report: &Report) -> String {
    let title = format!("diffa bench {} on {}", report.kind, report.head.adapter);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>\n{STYLE}</style></head><body>\n<h1>{}</h1>\n<table>",
        escaped(&title),
        escaped(&title)
    );
    for (name, value) in report.head.lines() {
        let _ = write!(page, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    page += "</table>\n";
    let kernels = kernels(report);
    let colour =
        |variant: &str| kernels.iter().position(|kernel| *kernel == family(variant)).unwrap_or(0) % N_COLOURS;
    let rows: Vec<&Row> = report.rows.iter().collect();
    if let Some(peaks) = &report.peaks {
        page += "<h2>Roofline</h2>\n<p class=\"soft\">The line is what this adapter reached in the same run: copying, then multiplying. Large dots are the engine's choice.</p>\n";
        page += &legend(&kernels);
        page += &roofline(&rows, peaks, colour);
    }
    page += "<h2>Side by side</h2>\n";
    let (sets, alone): (Vec<_>, Vec<_>) = by_case(&rows).into_iter().partition(|(_, rows)| rows.len() > 1);
    for (case, rows) in sets {
        let _ = write!(page, "<h3>{}</h3>\n{}\n", escaped(case), bars(&rows, |row| &row.variant, colour));
    }
    if !alone.is_empty() {
        let rows: Vec<&Row> = alone.into_iter().flat_map(|(_, rows)| rows).collect();
        let _ = write!(page, "<h3>With one variant</h3>\n{}\n", bars(&rows, |row| &row.case, colour));
    }
    page += &table(report);
    if !report.skipped.is_empty() {
        page += "<h2>Left out</h2>\n<table>";
        for left in &report.skipped {
            let (case, variant, reason) =
                (escaped(&left.case), escaped(&left.variant), escaped(&left.reason));
            let _ = write!(page, "<tr><td>{case}</td><td>{variant}</td><td>{reason}</td></tr>");
        }
        page += "</table>\n";
    }
    let _ = write!(
        page,
        "<details><summary>CSV</summary><pre>{}</pre></details>\n</body></html>\n",
        escaped(&csv(report))
    );
    page
}

/// A variant's kernel, which gives it its colour.
fn family(variant: &str) -> &str {
    variant.split(' ').next().unwrap_or_default()
}

fn kernels(report: &Report) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for row in &report.rows {
        if !all.contains(&family(&row.variant)) {
            all.push(family(&row.variant));
        }
    }
    all
}

fn legend(kernels: &[&str]) -> String {
    let entry = |(i, kernel): (usize, &&str)| {
        format!("<span><b class=\"key c{}\"></b>{}</span> ", i % N_COLOURS, escaped(kernel))
    };
    format!("<p>{}</p>\n", kernels.iter().enumerate().map(entry).collect::<String>())
}

/// Rows by case, in order.
fn by_case<'a>(rows: &[&'a Row]) -> Vec<(&'a str, Vec<&'a Row>)> {
    let mut cases: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in rows {
        match cases.iter_mut().find(|(case, _)| *case == row.case) {
            Some((_, rows)) => rows.push(row),
            None => cases.push((&row.case, vec![row])),
        }
    }
    cases
}

fn table(report: &Report) -> String {
    let mut text = String::from(
        "<h2>Figures</h2>\n<div class=\"wide\"><table><tr><th>case</th><th>variant</th><th class=\"n\">time</th><th class=\"n\">spread</th><th class=\"n\">GFLOP/s</th><th class=\"n\">GB/s</th><th class=\"n\">error</th></tr>\n",
    );
    for row in &report.rows {
        let number = |name: &str| row.number(name).map_or("-".into(), |value| format!("{value:.2}"));
        let error = row.number("error").map_or("-".into(), |value| format!("{value:.1e}"));
        let spread = row.spread.map_or("-".into(), |spread| format!("{:.0}%", 100.0 * spread));
        let mark = if row.chosen { "* " } else { "" };
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{mark}{}</td><td class=\"n\">{}</td><td class=\"n\">{spread}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{error}</td></tr>",
            escaped(&row.case),
            escaped(&row.variant),
            time(row.seconds),
            number("gflop_per_second"),
            number("gbyte_per_second"),
        );
    }
    text + "</table></div>\n"
}
