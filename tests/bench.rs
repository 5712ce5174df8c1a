//! `diffa bench` as users see it: what is measured parses, has its head and makes sense; reports can be compared,
//! merged and read. No test asserts how long anything took.

#[path = "common/command.rs"]
mod command;

use std::path::Path;

use command::{run, stderr, stdout_of, text};
use diffa::synth::{SynthParts, SynthShape, write};
use serde_json::Value;

/// A selection of one small product in all its variants.
const SMALL: [&str; 8] = ["bench", "kernels", "--filter", "demo q_proj", "--rows", "3", "--seconds", "0.02"];

/// Runs it with `--json` and reads the report.
fn report_of(args: &[&str]) -> Value {
    command::json_of(&[args, &["--json"]].concat())
}

fn check_head(report: &Value, kind: &str) {
    assert_eq!(report["kind"], kind);
    let head = &report["head"];
    for key in ["adapter", "backend", "driver", "kind", "version", "commit", "build", "clock"] {
        assert!(head[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {head}");
    }
    assert!(head["features"].is_array());
    assert!(head["limits"]["max_buffer_size"].as_u64().unwrap() > 0);
    assert!(report["settings"].is_object());
}

fn positive(value: &Value, what: &str) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{what} is {value}"));
    assert!(number.is_finite() && number > 0.0, "{what} is {number}");
    number
}

fn rows(report: &Value) -> &Vec<Value> {
    let rows = report["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    rows
}

#[test]
fn kernels_are_measured_in_every_variant_and_checked() {
    let report = report_of(&SMALL);
    check_head(&report, "kernels");
    for key in ["copy", "copy_buffer", "copy_kernel", "multiply"] {
        positive(&report["peaks"][key], key);
    }
    let found = rows(&report);
    for row in found {
        let name = format!("{} {}", row["case"], row["variant"]);
        assert!(row["case"].as_str().unwrap().starts_with("demo q_proj 3 x 192 x 192"), "{name}");
        for key in [
            "seconds",
            "wall_seconds",
            "gflop_per_second",
            "gbyte_per_second",
            "share_of_multiply_peak",
            "share_of_copy_peak",
            "first_seconds",
        ] {
            positive(&row[key], &format!("{key} of {name}"));
        }
        assert!(row["spread"].as_f64().unwrap() >= 0.0, "{name}");
        assert!((row["gflop"].as_f64().unwrap() - 2.0 * 3.0 * 192.0 * 192.0 / 1e9).abs() < 1e-12, "{name}");
        let error = row["error"].as_f64().unwrap_or_else(|| panic!("{name} was not checked"));
        // Matrix units take f16 factors: 11 bits of each.
        let limit = if name.contains("matmul_coop") { 2e-3 } else { 1e-5 };
        assert!((0.0..limit).contains(&error), "{name}: error {error}");
    }
    let chosen: Vec<&Value> = found.iter().filter(|row| row["chosen"] == true).collect();
    assert_eq!(chosen.len(), 1, "the op's choice");
    let variants: Vec<&str> = found.iter().map(|row| row["variant"].as_str().unwrap()).collect();
    for kernel in ["matmul_naive", "matmul_direct", "matmul_tile"] {
        assert!(variants.iter().any(|v| v.starts_with(kernel)), "{kernel} is not among {variants:?}");
    }
    let mut once = variants.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), variants.len(), "the op's choice is measured once: {variants:?}");
}

#[test]
fn every_kind_of_kernel_can_be_checked() {
    let selections = [
        ("demo attention", "attention"),
        ("LLaDA-8B attention", "attention"),
        ("demo head", "lm_head"),
        ("rms_norm [224", "rms_norm"),
        ("layer_norm [1500", "layer_norm"),
        ("copy_rows", "copy_rows"),
    ];
    for (filter, kernel) in selections {
        let report = report_of(&["bench", "kernels", "--filter", filter, "--rows", "2", "--seconds", "0.01"]);
        for row in rows(&report) {
            assert!(row["variant"].as_str().unwrap().starts_with(kernel), "{row}");
            let error = row["error"].as_f64().unwrap_or_else(|| panic!("not checked: {row}"));
            // As above: matrix units take f16 factors.
            let limit = if row["variant"].as_str().unwrap().contains("coop") { 2e-2 } else { 1e-4 };
            assert!((0.0..limit).contains(&error), "{row}");
        }
    }
    let report = report_of(&[&SMALL[..], &["--no-check"]].concat());
    assert!(rows(&report).iter().all(|row| row["error"].is_null()));
}

#[test]
fn what_is_left_out_is_said() {
    let report = report_of(&[&SMALL[..], &["--total", "0"]].concat());
    assert!(report["rows"].as_array().unwrap().is_empty());
    let skipped = report["skipped"].as_array().unwrap();
    assert!(skipped.len() > 3);
    assert!(skipped.iter().all(|left| left["reason"].as_str().unwrap().contains("--total")));
    let shown = stdout_of(&[&SMALL[..], &["--total", "0"]].concat());
    let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with("skipped ")).collect();
    let [line] = lines[..] else { panic!("one reason, one line: {shown}") };
    let more = format!("(as chosen) and {} more: ", skipped.len() - 1);
    assert!(line.starts_with("skipped demo q_proj 3 x 192 x 192 bf16"), "{line}");
    assert!(line.contains(&more) && line.contains("--total"), "{line}");
    let none = run(&["bench", "kernels", "--filter", "no such kernel"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("--filter"));
}

#[test]
fn reports_are_compared_merged_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| text(&dir.path().join(name));
    let (old, page) = (file("old.json"), file("page.html"));
    let mut before = report_of(&SMALL);
    // One case as if it had been a hundred times faster, one that is gone.
    let fast = before["rows"][1]["seconds"].as_f64().unwrap() / 100.0;
    before["rows"][1]["seconds"] = fast.into();
    before["rows"][1]["spread"] = 0.1.into();
    before["rows"][2]["variant"] = "matmul_gone".into();
    std::fs::write(&old, before.to_string()).unwrap();

    let now = report_of(&[&SMALL[..], &["--compare", &old, "--html", &page]].concat());
    let comparison = &now["comparison"];
    let changes = comparison["changes"].as_array().unwrap();
    assert_eq!(changes.len(), rows(&now).len() - 1);
    for change in changes {
        positive(&change["ratio"], "ratio");
        assert!(["same", "faster", "slower"].contains(&change["verdict"].as_str().unwrap()));
    }
    assert_eq!(changes[1]["variant"], before["rows"][1]["variant"]);
    assert_eq!(changes[1]["verdict"], "slower", "{}", changes[1]);
    assert!(comparison["gone"][0].as_str().unwrap().ends_with("matmul_gone"));
    assert_eq!(comparison["added"].as_array().unwrap().len(), 1);
    assert!(comparison["differences"].as_array().unwrap().is_empty(), "{comparison}");

    let html = std::fs::read_to_string(&page).unwrap();
    for part in [
        "<svg class=\"roofline\"",
        "class=\"roof\"",
        "<circle",
        "<svg class=\"bars\"",
        "<rect",
        "prefers-color-scheme: dark",
    ] {
        assert!(html.contains(part), "no {part}");
    }
    assert!(html.contains(now["head"]["driver"].as_str().unwrap()));
    for outside in ["<script", "http://", "https://", "src=", "@import", "NaN", "inf"] {
        assert!(!html.contains(outside), "{outside} in the page");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());

    let merged = stdout_of(&["bench", "merge", &old, &old]);
    let lines: Vec<&str> = merged.lines().collect();
    assert!(lines[2].starts_with("| A |") && lines[3].starts_with("| B |"), "{merged}");
    assert!(merged.contains("| demo q_proj 3 x 192 x 192 bf16 |"), "{merged}");
    let columns = |line: &str| line.matches('|').count();
    let last: Vec<_> =
        lines.iter().skip_while(|line| !line.starts_with("| case")).map(|l| columns(l)).collect();
    assert!(last.len() >= 3 && last.iter().all(|n| *n == last[0]), "{merged}");

    std::fs::write(file("other.json"), "{}").unwrap();
    for wrong in [["bench", "merge", &file("other.json")], ["bench", "merge", &file("none.json")]] {
        assert_eq!(run(&wrong).status.code(), Some(2), "{wrong:?}");
    }
    let model = run(&["bench", "model", "--compare", &old]);
    assert_eq!(model.status.code(), Some(2));
    assert!(stderr(&model).contains("bench kernels"));
}

#[test]
fn csv_has_a_head_and_a_cell_for_every_title() {
    let csv = stdout_of(&[&SMALL[..], &["--csv", "--no-check"]].concat());
    let (head, body): (Vec<&str>, Vec<&str>) = csv.lines().partition(|line| line.starts_with('#'));
    assert!(head.iter().any(|line| line.starts_with("# adapter: ")), "{csv}");
    assert!(body[0].starts_with("case,variant,chosen,seconds,spread,"));
    assert!(body.len() > 3);
    let n = body[0].split(',').count();
    assert!(body.iter().all(|line| line.split(',').count() == n), "{csv}");
}

#[test]
fn models_are_measured_whole_and_kernel_by_kernel() {
    let report = report_of(&["bench", "model", "--rows", "40", "--seconds", "0.05"]);
    check_head(&report, "model");
    let cases: Vec<&str> = rows(&report).iter().map(|row| row["case"].as_str().unwrap()).collect();
    assert_eq!(
        cases,
        [
            "log-mel",
            "encoder, 200 rows",
            "forward, 40 rows",
            "block of 16 in 40 rows",
            "block of 32 in 40 rows"
        ]
    );
    for row in rows(&report) {
        for key in
            ["seconds", "wall_seconds", "gflop", "gflop_per_second", "dispatches", "kernels_seconds", "gaps"]
        {
            positive(&row[key], &format!("{key} of {}", row["case"]));
        }
        let kernels = row["kernels"].as_object().unwrap();
        let sum: f64 = kernels.values().map(|seconds| seconds.as_f64().unwrap()).sum();
        assert!((sum - row["kernels_seconds"].as_f64().unwrap()).abs() <= 1e-9 + 1e-6 * sum, "{row}");
    }
    let few = run(&["bench", "model", "--rows", "16", "--seconds", "0.05"]);
    assert_eq!(few.status.code(), Some(2));
    assert!(stderr(&few).contains("--rows"));
}

#[test]
fn loads_are_set_against_reading() {
    let dir = tempfile::tempdir().unwrap();
    let parts = SynthParts { llada: true, whisper: true, adapter: false };
    write(SynthShape::Tiny, dir.path(), 1, parts, &mut |_, _| {}).unwrap();
    for cold in [&[][..], &["--cold"]] {
        let report = report_of(&[&["bench", "load", "--model", &text(dir.path())], cold].concat());
        check_head(&report, "load");
        assert_eq!(rows(&report).len(), 2);
        for row in rows(&report) {
            for key in [
                "seconds",
                "gbyte",
                "gbyte_per_second",
                "read_seconds",
                "read_gbyte_per_second",
                "share_of_reading",
            ] {
                positive(&row[key], key);
            }
            if Path::new("/proc/self/status").exists() {
                positive(&row["peak_resident_bytes"], "peak");
            }
        }
        // Where the model lies is nobody's business.
        assert!(!report.to_string().contains(&text(dir.path().parent().unwrap())), "{report}");
    }
    let demo = run(&["bench", "load"]);
    assert_eq!(demo.status.code(), Some(2));
}

#[test]
fn decodes_come_in_the_same_report() {
    let report = report_of(&["bench", "decode", "--settings", "2/4/4", "--rows", "8", "--seconds", "1"]);
    check_head(&report, "decode");
    assert_eq!(rows(&report)[0]["variant"], "exact");
    assert_eq!(rows(&report)[0]["work_ratio"], 1.0);
    for row in rows(&report) {
        for key in ["seconds", "nfe", "rows", "gflop", "tokens", "work_ratio", "time_ratio"] {
            positive(&row[key], key);
        }
        assert!(row.get("spread").is_none_or(Value::is_null), "one round has no spread: {row}");
    }

    let lengths = ["--settings", "2/4/4", "--rows", "8", "--seconds", "1"];
    let report = report_of(
        &[&["bench", "decode", "--rounds", "3", "--filter", "dual cache, quota"], &lengths[..]].concat(),
    );
    let names: Vec<&str> = rows(&report).iter().filter_map(|row| row["variant"].as_str()).collect();
    assert_eq!(names, ["exact", "dual cache, quota"]);
    assert!(rows(&report).iter().all(|row| row["spread"].is_number()), "{report}");
    let unknown = run(&["bench", "decode", "--filter", "beam search"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("dual cache, factor 1"), "{}", stderr(&unknown));
}
