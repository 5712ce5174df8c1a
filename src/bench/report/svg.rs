//! The plots of a report as SVG text. Colours are classes, so that the page's style decides between light and
//! dark; every mark carries its figures as a title.

use super::Row;
use super::table::time;
use crate::bench::peak::Peaks;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 22.0;
const RIGHT: f64 = 16.0;

/// Colours of kernels, as classes `c0` to `c7` of the page.
pub const N_COLOURS: usize = 8;

/// Text that is safe in markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A logarithmic axis over whole decades.
struct Axis {
    first: i32,
    last: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let logs: Vec<f64> = values.filter(|v| *v > 0.0).map(f64::log10).collect();
        let (least, most) =
            logs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        let (least, most) = if logs.is_empty() { (0.0, 1.0) } else { (least, most) };
        let first = least.floor() as i32;
        Axis { first, last: (most.ceil() as i32).max(first + 1), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        self.from + (self.to - self.from) * share
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|power| 10f64.powi(power))
    }
}

/// Operations per byte against operations per second, under the measured roof. `colour` numbers the kernels.
pub fn roofline(rows: &[&Row], peaks: &Peaks, colour: impl Fn(&str) -> usize) -> String {
    let point = |row: &Row| {
        let (flop, byte) = (row.number("gflop")?, row.number("gbyte")?);
        (flop > 0.0 && byte > 0.0).then(|| (flop / byte, row.number("gflop_per_second").unwrap_or_default()))
    };
    let points: Vec<(&Row, (f64, f64))> = rows.iter().filter_map(|row| Some((*row, point(row)?))).collect();
    let ridge = peaks.multiply / peaks.copy;
    let x = Axis::over(
        points.iter().map(|(_, p)| p.0).chain([ridge, ridge * 10.0, ridge / 10.0]),
        LEFT,
        WIDTH - RIGHT,
    );
    let roof = peaks.multiply / 1e9;
    let y = Axis::over(points.iter().map(|(_, p)| p.1).chain([roof, roof / 100.0]), HEIGHT - BOTTOM, TOP);
    let mut svg = open("roofline", HEIGHT, "Roofline: operations per byte against operations per second");
    for value in x.decades() {
        let at = x.at(value);
        svg += &grid((at, TOP), (at, y.from));
        svg += &label("middle", (at, y.from + 16.0), &number(value));
    }
    for value in y.decades() {
        let at = y.at(value);
        svg += &grid((x.from, at), (x.to, at));
        svg += &label("end", (LEFT - 6.0, at + 4.0), &number(value));
    }
    svg += &label("middle", ((x.from + x.to) / 2.0, HEIGHT - 8.0), "operations per byte");
    svg += &label("start", (LEFT, TOP - 8.0), "GFLOP/s");
    // The roof bends at the ridge; its foot stays within the plot.
    let foot = 10f64.powi(x.first).max(10f64.powi(y.first) * 1e9 / peaks.copy);
    let corners = [foot, ridge, 10f64.powi(x.last)].map(|flop_per_byte| {
        format!("{:.1},{:.1}", x.at(flop_per_byte), y.at(peaks.roof(flop_per_byte) / 1e9))
    });
    let title = format!("copy {:.1} GB/s, multiply {roof:.1} GFLOP/s, as measured", peaks.copy / 1e9);
    svg += &format!(
        r#"<polyline class="roof" points="{}"><title>{title}</title></polyline>"#,
        corners.join(" ")
    );
    for (row, (intensity, rate)) in points {
        let title = format!("{} {}: {} in {}", row.case, row.variant, rates(row), time(row.seconds));
        let (class, radius) = (colour(&row.variant), if row.chosen { 6.0 } else { 3.5 });
        let (x, y) = (x.at(intensity), y.at(rate));
        svg += &format!(r#"<circle class="c{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}">"#);
        svg += &format!("<title>{}</title></circle>", escaped(&title));
    }
    svg + "</svg>"
}

/// Rows side by side, each named by `name`: rates if all of them multiply, else times.
pub fn bars(rows: &[&Row], name: impl Fn(&Row) -> &str, colour: impl Fn(&str) -> usize) -> String {
    const LINE: f64 = 20.0;
    const NAMES: f64 = 330.0;
    const ROOM: f64 = 250.0;
    let by_rate = rows.iter().all(|row| row.number("gflop_per_second").is_some_and(|rate| rate > 0.0));
    let value =
        |row: &Row| if by_rate { row.number("gflop_per_second").unwrap_or_default() } else { row.seconds };
    let most = rows.iter().map(|row| value(row)).fold(1e-12, f64::max);
    let height = LINE * rows.len() as f64 + 4.0;
    let mut svg = open("bars", height, "Variants side by side");
    for (i, row) in rows.iter().enumerate() {
        let y = LINE * i as f64 + 2.0;
        let (mark, baseline) = (if row.chosen { "* " } else { "" }, y + 13.0);
        let shown = if by_rate { rates(row) } else { time(row.seconds) };
        let (width, height) = ((ROOM * value(row) / most).max(1.0), LINE - 4.0);
        let title = format!("{} {}: {}", row.case, row.variant, time(row.seconds));
        svg += &label("end", (NAMES - 8.0, baseline), &format!("{mark}{}", name(row)));
        let class = colour(&row.variant);
        svg += &format!(
            r#"<rect class="c{class}" x="{NAMES}" y="{y}" width="{width:.1}" height="{height}" rx="2">"#
        );
        svg += &format!("<title>{}</title></rect>", escaped(&title));
        svg += &label("start", (NAMES + width + 6.0, baseline), &shown);
    }
    svg + "</svg>"
}

fn open(class: &str, height: f64, title: &str) -> String {
    format!(r#"<svg class="{class}" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">"#)
}

fn grid((x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!(r#"<line class="grid" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#)
}

fn label(anchor: &str, (x, y): (f64, f64), text: &str) -> String {
    format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#, escaped(text))
}

fn rates(row: &Row) -> String {
    match row.number("gflop_per_second") {
        Some(rate) if rate >= 1000.0 => format!("{:.2} TFLOP/s", rate / 1000.0),
        Some(rate) if rate > 0.0 => format!("{rate:.2} GFLOP/s"),
        _ => format!("{:.2} GB/s", row.number("gbyte_per_second").unwrap_or_default()),
    }
}

fn number(value: f64) -> String {
    if value >= 1.0 { format!("{value:.0}") } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_all_values() {
        let axis = Axis::over([0.5, 300.0, 0.0].into_iter(), 100.0, 500.0);
        assert_eq!((axis.first, axis.last), (-1, 3));
        assert!((axis.at(0.1) - 100.0).abs() < 1e-9 && (axis.at(1000.0) - 500.0).abs() < 1e-9);
        let one = Axis::over([10.0].into_iter(), 0.0, 1.0);
        assert!(one.last > one.first, "an axis of no width divides by zero");
    }

    #[test]
    fn markup_in_names_stays_text() {
        assert_eq!(escaped("a<b> & \"c\""), "a&lt;b&gt; &amp; &quot;c&quot;");
    }
}
