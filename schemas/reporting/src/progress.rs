//! Progress on long work: a bar on a terminal, a plain line every few seconds elsewhere.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Hidden,
    Lines,
    Bar { color: bool },
}

/// Time between two plain lines.
pub(crate) const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Progress on one task. Clones show the same task; it may be advanced from any thread.
#[derive(Clone, Debug)]
pub struct Progress {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    task: String,
    unit: &'static str,
    total: Option<u64>,
    style: Style,
    bar: ProgressBar,
    start: Instant,
    done: AtomicU64,
    next_line_ms: AtomicU64,
}

impl Progress {
    pub(crate) fn start(style: Style, task: &str, total: Option<u64>, unit: &'static str) -> Self {
        let bar = match style {
            Style::Bar { color } => {
                let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
                let blue = if color { ".cyan" } else { "" };
                let template = match total {
                    Some(_) => {
                        format!("{{prefix}} {{bar:30{blue}}} {{percent:>3}}% {{amount}} {{rate}} {{left}}")
                    }
                    None => "{prefix} {spinner} {amount} {rate}".to_owned(),
                };
                bar.set_style(
                    ProgressStyle::with_template(&template)
                        .expect("the template is fixed")
                        .with_key("amount", move |s: &ProgressState, w: &mut dyn std::fmt::Write| {
                            let _ = write!(w, "{} {unit}", count(s.pos()));
                        })
                        .with_key("rate", move |s: &ProgressState, w: &mut dyn std::fmt::Write| {
                            let _ = write!(w, "{}/s", count(s.per_sec() as u64));
                        })
                        .with_key("left", |s: &ProgressState, w: &mut dyn std::fmt::Write| {
                            let _ = write!(w, "{} left", duration(s.eta()));
                        }),
                );
                bar.set_prefix(task.to_owned());
                bar
            }
            Style::Hidden | Style::Lines => ProgressBar::hidden(),
        };
        Self {
            inner: Arc::new(Inner {
                task: task.to_owned(),
                unit,
                total,
                style,
                bar,
                start: Instant::now(),
                done: AtomicU64::new(0),
                next_line_ms: AtomicU64::new(LINE_INTERVAL.as_millis() as u64),
            }),
        }
    }

    /// `n` more are done.
    pub fn add(&self, n: u64) {
        let inner = &*self.inner;
        let done = inner.done.fetch_add(n, Ordering::Relaxed) + n;
        match inner.style {
            Style::Hidden => {}
            Style::Bar { .. } => inner.bar.set_position(done),
            Style::Lines => {
                let now = inner.start.elapsed().as_millis() as u64;
                let due = inner.next_line_ms.load(Ordering::Relaxed);
                let next = now + LINE_INTERVAL.as_millis() as u64;
                if now >= due
                    && inner.next_line_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
                {
                    inner.line(done);
                }
            }
        }
    }

    /// The task is over: clears the bar.
    pub fn finish(&self) {
        self.inner.bar.finish_and_clear();
    }
}

impl Inner {
    fn line(&self, done: u64) {
        let elapsed = self.start.elapsed().as_secs_f64().max(1e-9);
        let rate = done as f64 / elapsed;
        let mut text = format!("{}: {} {}", self.task, count(done), self.unit);
        if let Some(total) = self.total.filter(|&total| total > 0) {
            let left = Duration::from_secs_f64((total.saturating_sub(done)) as f64 / rate.max(1e-9));
            text = format!(
                "{}: {} of {} {} ({} %), {} left",
                self.task,
                count(done),
                count(total),
                self.unit,
                100 * done / total,
                duration(left)
            );
        }
        let _ = writeln!(std::io::stderr(), "{text}, {}/s", count(rate as u64));
    }
}

/// A count for people: `12.3 M`.
#[must_use]
pub fn count(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.1} G", n as f64 / 1e9),
    }
}

/// A number of things for people: `1 bad row`, `12 bad rows`.
#[must_use]
pub fn counted(n: u64, thing: &str) -> String {
    match thing {
        _ if n == 1 => format!("1 {thing}"),
        "life" => format!("{n} lives"),
        _ if thing.ends_with("batch") => format!("{n} {thing}es"),
        _ => format!("{n} {thing}s"),
    }
}

/// A duration for people: `4m 05s`.
#[must_use]
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        _ => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (n, text) in
            [(0, "0"), (9_999, "9999"), (12_345, "12.3 k"), (20_000_263, "20.0 M"), (45_840_617_000, "45.8 G")]
        {
            assert_eq!(count(n), text);
        }
        assert_eq!([0, 1, 2].map(|n| counted(n, "row")), ["0 rows", "1 row", "2 rows"]);
        assert_eq!(
            ["mini-batch", "epoch", "life"].map(|thing| counted(2, thing)),
            ["2 mini-batches", "2 epochs", "2 lives"]
        );
        for (s, text) in [(0, "0s"), (59, "59s"), (245, "4m 05s"), (7_260, "2h 01m")] {
            assert_eq!(duration(Duration::from_secs(s)), text);
        }
    }
}
