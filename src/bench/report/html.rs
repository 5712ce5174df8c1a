//! A report as one page that needs nothing else: head, roofline, variants side by side, table. Follows the
//! reader's choice of light or dark.

use std::fmt::Write;

use super::svg::{N_COLOURS, bars, escaped, roofline};
use super::table::{csv, peaks, time};
use super::{Report, Row};

const STYLE: &str = include_str!("page.css");

const ROOFLINE: &str = "<h2>Roofline</h2>\n<p class=\"soft\">The line is what this adapter reached in the same run: \
                        copying, then multiplying. Large dots are the engine's choice.</p>\n";

/// Titles of the table; the classed ones stand over numbers.
const TITLES: [(&str, &str); 7] = [
    ("", "case"),
    ("", "variant"),
    ("n", "time"),
    ("n", "spread"),
    ("n", "GFLOP/s"),
    ("n", "GB/s"),
    ("n", "error"),
];

/// The page.
pub fn page(report: &Report) -> String {
    let title = format!("diffa bench {} on {}", report.kind, report.head.adapter);
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page += "<meta name=\"viewport\" content=\"width=device-width\">";
    let _ = write!(
        page,
        "<title>{0}</title><style>\n{STYLE}</style></head><body>\n<h1>{0}</h1>\n<table>",
        escaped(&title)
    );
    let peaks = report.peaks.as_ref().map(|found| ("peaks", peaks(found)));
    for (name, value) in report.head.lines().into_iter().chain(peaks) {
        let _ = write!(page, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    page += "</table>\n";
    let kernels = kernels(report);
    let colour =
        |variant: &str| kernels.iter().position(|kernel| *kernel == family(variant)).unwrap_or(0) % N_COLOURS;
    let rows: Vec<&Row> = report.rows.iter().collect();
    if let Some(peaks) = &report.peaks {
        page += ROOFLINE;
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
    let titles = TITLES.iter().map(|(class, title)| format!("<th class=\"{class}\">{title}</th>"));
    let titles: String = titles.collect();
    let mut text = format!("<h2>Figures</h2>\n<div class=\"wide\"><table><tr>{titles}</tr>\n");
    for row in &report.rows {
        let number = |name: &str| row.number(name).map_or("-".into(), |value| format!("{value:.2}"));
        let mark = if row.chosen { "* " } else { "" };
        let cells = [
            escaped(&row.case),
            format!("{mark}{}", escaped(&row.variant)),
            time(row.seconds),
            row.spread.map_or("-".into(), |spread| format!("{:.0}%", 100.0 * spread)),
            number("gflop_per_second"),
            number("gbyte_per_second"),
            row.number("error").map_or("-".into(), |value| format!("{value:.1e}")),
        ];
        let cells =
            cells.iter().zip(TITLES).map(|(cell, (class, _))| format!("<td class=\"{class}\">{cell}</td>"));
        let _ = writeln!(text, "<tr>{}</tr>", cells.collect::<String>());
    }
    text + "</table></div>\n"
}
