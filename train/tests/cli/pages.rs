//! Pages of runs. What is on them is tested where they are made.

use schemas::report::PageReport;

use crate::sandbox::Sandbox;
use crate::shards::SMALL;

/// Two runs.
fn runs() -> Sandbox {
    let sandbox = Sandbox::with(SMALL);
    for (name, args) in [("plain", ""), ("biased", "--biases")] {
        sandbox.train(&format!("--step-batches 8 --max-epochs 3 -q -o {name} {args}")).report();
    }
    sandbox
}

#[test]
fn each_run_has_a_page_and_several_have_one_together() {
    let sandbox = runs();
    let own = sandbox.text("plain/report.html");
    assert!(own.starts_with("<!DOCTYPE html>") && own.contains("ml20m.json"), "{own}");
    let report: PageReport = sandbox.run("report plain -o own.html").only_line();
    assert_eq!(
        (report.output.as_str(), &report.runs[..], &report.charts[..]),
        ("own.html", &["plain".to_owned()][..], &[][..])
    );
    assert_eq!(sandbox.text("own.html"), own);
    assert_eq!(report.bytes_written, own.len() as u64);

    let line = "report plain biased/report.json -o pages/both.html --charts charts";
    let report: PageReport = sandbox.run(line).only_line();
    assert_eq!(report.runs, ["plain", "biased"]);
    let both = sandbox.text("pages/both.html");
    assert!(both.contains("plain") && both.contains("biased") && both.len() > own.len());
    assert!(report.charts.len() >= 8, "{report:?}");
    for chart in &report.charts {
        let bytes = sandbox.read(chart);
        let head: &[u8] = if chart.ends_with(".png") { b"\x89PNG\r\n" } else { b"<svg " };
        assert!(chart.starts_with("charts/") && bytes.starts_with(head), "{chart}");
    }
    // The same runs give the same files.
    let again: PageReport = sandbox.run(line).only_line();
    assert_eq!((again.bytes_written, again.charts), (0, report.charts));
}

#[test]
fn another_page_is_only_replaced_on_request() {
    let sandbox = runs();
    sandbox.run("report plain").only_line::<PageReport>();
    let before = sandbox.read("report.html");
    sandbox.run("report biased").failed(5, &["report.html: already exists with different content", "--replace"]);
    assert_eq!(sandbox.read("report.html"), before);
    sandbox.run("report biased --replace").only_line::<PageReport>();
    assert_eq!(sandbox.read("report.html"), sandbox.read("biased/report.html"));
}

#[test]
fn a_page_that_was_not_made_is_made_by_the_same_command() {
    let sandbox = runs();
    let page = sandbox.read("plain/report.html");
    std::fs::remove_file(sandbox.path("plain/report.html")).unwrap();
    assert!(sandbox.train("--step-batches 8 --max-epochs 3 -q -o plain").report().unchanged);
    assert_eq!(sandbox.read("plain/report.html"), page);
}

#[test]
fn what_cannot_be_shown_is_told_with_its_place() {
    let sandbox = runs();
    sandbox.run("report nothing").failed(2, &["`nothing` is not a finished run: it has no report.json", "fix:"]);
    sandbox.run("report").failed(2, &["<RUN>"]);
    let history = sandbox.text("plain/history.csv").replacen("\n1,0,", "\n1,zero,", 1);
    std::fs::write(sandbox.path("plain/history.csv"), history).unwrap();
    sandbox.run("report plain biased -o page.html").failed(3, &["plain/history.csv:3: ", "`zero`", "fix:"]);
    std::fs::remove_file(sandbox.path("plain/timings.csv")).unwrap();
    sandbox.run("report plain").failed(3, &["timings.csv"]);
    assert!(!sandbox.path("page.html").exists());
}
