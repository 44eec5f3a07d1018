//! Pages in a real browser: they open without a complaint and show what the report says. Debian's package `chromium` has it;
//! `tests/services/install` installs it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use page::{html, read};

use crate::made;

/// How long the browser may take; on a busy machine its start alone takes seconds.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs the browser on a page and gives what it prints, and what it complains about. `Browser` is a folder of its own.
fn run(folder: &Path, page: &str, flags: &[&str]) -> (String, String) {
    let file = folder.join("report.html");
    std::fs::write(&file, page).unwrap();
    let (out, err) = (folder.join("out"), folder.join("err"));
    let mut browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--enable-logging=stderr", "--v=0", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(flags)
        .arg(format!("file://{}", file.display()))
        .env("HOME", folder)
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .expect("chromium is installed by tests/services/install");
    let start = Instant::now();
    let status = loop {
        match browser.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > DEADLINE => {
                browser.kill().unwrap();
                browser.wait().unwrap();
                panic!("chromium took more than {DEADLINE:?}: {}", std::fs::read_to_string(err).unwrap_or_default());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let text = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (out, err) = (text(&out), text(&err));
    assert!(status.success(), "{status}: {err}");
    (out, err)
}

/// What the browser made of a page; it must have nothing to say about it.
pub(crate) fn open(page: &str, flags: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (dom, said) = run(folder.path(), page, &[&["--dump-dom"], flags].concat());
    let complaints: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(dom.trim_end().ends_with("</html>"), "the page is cut: {said}");
    dom
}

/// The text of a document, words apart by one space, without style.
fn text(dom: &str) -> String {
    let body = &dom[dom.find("<body").unwrap()..];
    let mut text = String::new();
    for piece in body.split('<').skip(1) {
        text.push(' ');
        text.push_str(piece.split_once('>').map_or("", |(_, text)| text));
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_browser_shows_what_the_report_says() {
    for made in [made::ratings, made::clicks] {
        let (report, files) = made();
        let text = text(&open(&html(&[read(files).unwrap()]), &[]));
        let number = |name: &str| report.pointer(name).and_then(serde_json::Value::as_f64).map(|n| format!("{n:.4}"));
        let shown = [
            ("Held-out RMSE", number("/holdout_rmse")),
            ("Training RMSE", number("/train_rmse")),
            ("Held-out log loss", number("/holdout/log_loss")),
            ("Training log loss", number("/train_log_loss")),
            ("AUC", number("/holdout/auc")),
            ("Normalised entropy", number("/holdout/normalised_entropy")),
            ("Calibration", number("/holdout/calibration")),
        ];
        let mut found = 0;
        for (name, value) in shown {
            let Some(value) = value else { continue };
            assert!(text.contains(&format!("{name} {value} ")), "{name} {value} is not in {text}");
            found += 1;
        }
        assert!(found >= 2);
        for name in ["/manifest", "/identity", "/model_digest", "/history_digest", "/tool"] {
            let value = report.pointer(name).unwrap().as_str().unwrap();
            assert!(text.contains(value), "{name} {value}");
        }
    }
}

/// A page that does something forbidden is complained about: the test above can fail.
#[test]
fn the_browser_complains_about_a_page_that_loads_something() {
    let page = html(&[read(made::ratings().1).unwrap()]);
    let folder = tempfile::tempdir().unwrap();
    let page = page.replace("<main", "<script>1</script><main");
    let (_, said) = run(folder.path(), &page, &["--dump-dom"]);
    assert!(said.lines().any(|line| line.contains("CONSOLE") && line.contains("Content Security Policy")), "{said}");
}

/// On a phone the page is as wide as the screen: nothing but tables scrolls sideways. The page is shown in a frame of that width, as the
/// browser's own window cannot be so narrow, and a script of the frame's owner measures it.
#[test]
fn a_phone_need_not_scroll_sideways() {
    let mut files = made::clicks().1;
    files.name =
        "s3://a-bucket/with/a/very/long/name/without-any-space-at-all-so-that-it-cannot-be-broken/run".to_owned();
    let long = read(files).unwrap();
    for page in
        [html(&[read(made::ratings().1).unwrap()]), html(std::slice::from_ref(&long)), html(&[long.clone(), long])]
    {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("page.html"), page).unwrap();
        let frame = "<iframe id=\"page\" src=\"page.html\" width=\"360\" height=\"700\"></iframe><script>\
                     document.getElementById('page').onload = event => {\
                     const root = event.target.contentDocument.documentElement;\
                     document.title = `${root.scrollWidth} of ${root.clientWidth}`; }</script>";
        let flags = ["--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=10000"];
        let (dom, said) = run(folder.path(), &format!("<!DOCTYPE html><title></title>{frame}"), &flags);
        assert!(dom.contains("<title>360 of 360</title>"), "{dom} {said}");
    }
}
