//! One HTML page about a scored run: numbers, bars by category, confusions, slowest items, errors, and every item
//! with its clip.
//!
//! The page needs nothing but itself: no scripts, no fonts, no network. Clips are linked with a path relative to
//! the page, or, if wanted, are part of it. It follows the reader's light or dark scheme.

mod clips;
mod confusion;
mod item;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::confusion::Confusion;
use self::item::Item;
use super::score::{Answers, Interval, Metric, Scores, Table, Unit};
pub use clips::{Clips, MissingClips};

const STYLE: &str = include_str!("style.css");
/// Slowest items that are listed.
const SLOWEST: usize = 10;

/// A scored part of the run, for example a subset of VoiceBench.
#[derive(Debug, Clone, Copy)]
pub struct Section<'a> {
    /// The answers.
    pub answers: &'a Answers,
    /// Their scores.
    pub scores: &'a Scores,
}

/// The clips that the page of these sections cannot play because their files are not found; none if all are.
pub fn missing_clips(sections: &[Section<'_>], clips: &Clips) -> Option<MissingClips> {
    let items = sections.iter().flat_map(|section| item::items(section.answers, section.scores));
    clips.missing(items.map(|item| item.clip()))
}

/// Writes the page. `title` is its headline.
pub fn page(title: &str, sections: &[Section<'_>], clips: &Clips) -> String {
    let body = html! {
        h1 { (title) }
        @if sections.len() > 1 { (overview(sections)) }
        @for (at, section) in sections.iter().enumerate() { (part(at, section, clips)) }
        footer { "diffa " (env!("CARGO_PKG_VERSION")) }
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (filter())
                main { (body) }
            }
        }
    };
    page.into_string()
}

/// Which items to show. The style sheet reads the choice, so it works without a script.
fn filter() -> Markup {
    html! {
        nav aria-label="Items shown" {
            @for (name, label) in
                [("all", "all items"), ("wrong", "wrong"), ("open", "undecided"), ("failed", "errors")]
            {
                label {
                    input type="radio" name="show" id={ "show-" (name) } checked[name == "all"];
                    " " (label)
                }
            }
        }
    }
}

/// The first metric of every section as a bar.
fn overview(sections: &[Section<'_>]) -> Markup {
    html! {
        table.bars {
            tr { th { "part" } th { "answers" } th { "errors" } th { "metric" } th {} }
            @for (at, section) in sections.iter().enumerate() {
                @let scores = section.scores;
                @let metric = scores.metrics.first();
                tr {
                    td { a href={ "#part-" (at) } { (section.answers.label()) } }
                    td.number { (scores.answers) }
                    td.number { (scores.errors) }
                    td {
                        @match metric {
                            Some(metric) => { (metric.name) " " (metric.shown()) }
                            None => "needs --judge",
                        }
                    }
                    td.wide { @if let Some((share, interval)) = metric.and_then(share_of) { (bar(share, interval)) } }
                }
            }
        }
    }
}

/// A metric as a share of its scale; points go up to 5.
fn share_of(metric: &Metric) -> Option<(f64, Option<Interval>)> {
    let scale = match metric.unit {
        Unit::Fraction => 1.0,
        Unit::Percent => 100.0,
        Unit::Points => 5.0,
    };
    let interval =
        metric.interval.map(|interval| Interval { low: interval.low / scale, high: interval.high / scale });
    Some((metric.value? / scale, interval))
}

fn part(at: usize, section: &Section<'_>, clips: &Clips) -> Markup {
    let Section { answers, scores } = section;
    let items = item::items(answers, scores);
    let mut slowest: Vec<&Item<'_>> = items.iter().filter(|item| item.seconds.is_some()).collect();
    slowest.sort_by(|a, b| b.seconds.unwrap_or(0.0).total_cmp(&a.seconds.unwrap_or(0.0)));
    slowest.truncate(SLOWEST);
    let failed: Vec<&Item<'_>> = items.iter().filter(|item| item.verdict.error.is_some()).collect();
    html! {
        section id={ "part-" (at) } {
            h2 { (answers.label()) }
            p.file { (answers.path.display()) ", " (scores.answers) " answers, " (scores.errors) " errors" }
            @if !scores.metrics.is_empty() { (metrics(&scores.metrics)) }
            @for note in &scores.notes { p.note { (note) } }
            @for table in &scores.tables { (category(table)) }
            @if let Some(confusion) = Confusion::of(&items, scores.evaluator) { (confusion.render()) }
            @if !slowest.is_empty() {
                h3 { "Slowest items" }
                table {
                    tr { th { "item" } th { "seconds" } th { "forwards" } }
                    @for item in slowest {
                        tr {
                            td { a href={ "#" (item.anchor(at)) } { (item.verdict.id) } }
                            td.number { (format!("{:.2}", item.seconds.unwrap_or(0.0))) }
                            td.number { @if let Some(nfe) = item.nfe { (nfe) } }
                        }
                    }
                }
            }
            @if !failed.is_empty() {
                h3 { "Errors" }
                table {
                    @for item in failed {
                        tr {
                            td { a href={ "#" (item.anchor(at)) } { (item.verdict.id) } }
                            td { (item.verdict.error.as_deref().unwrap_or_default()) }
                        }
                    }
                }
            }
            h3 { "Items" }
            @for item in &items { (item.render(at, clips)) }
        }
    }
}

fn metrics(metrics: &[Metric]) -> Markup {
    let drawn = metrics.iter().any(|metric| metric.draw.is_some());
    html! {
        table {
            tr { th { "metric" } th { "value" } th { "95 %" } @if drawn { th { "if all draws fail, or succeed" } } }
            @for metric in metrics {
                tr {
                    td { (metric.name) }
                    td.number { (metric.shown()) }
                    td { (metric.range().unwrap_or_default()) }
                    td {
                        @if let Some(draw) = metric.draw {
                            (metric.unit.show(draw.floor)) ", " (metric.unit.show(draw.ceiling))
                        }
                    }
                }
            }
        }
    }
}

/// Bars by category, each with its interval.
fn category(table: &Table) -> Markup {
    html! {
        h3 { "By " (table.name) }
        table.bars {
            @for row in &table.rows {
                @let (right, total) = (row.correct as f64, row.total as f64);
                tr {
                    td { (row.label) }
                    td.number { (row.correct) "/" (row.total) }
                    td.number { @if row.total > 0 { (format!("{:.1} %", 100.0 * right / total)) } }
                    td.wide { @if row.total > 0 { (bar(right / total, Interval::wilson(right, total))) } }
                }
            }
        }
    }
}

/// A share from 0 to 1 as a bar, with its interval as a whisker.
fn bar(share: f64, interval: Option<Interval>) -> Markup {
    let percent = |share: f64| 100.0 * share.clamp(0.0, 1.0);
    html! {
        div.bar {
            div.fill style={ "width:" (format!("{:.2}", percent(share))) "%" } {}
            @if let Some(interval) = interval {
                @let (low, high) = (percent(interval.low), percent(interval.high));
                div.whisker style=(format!("left:{low:.2}%;width:{:.2}%", high - low)) {}
            }
        }
    }
}
