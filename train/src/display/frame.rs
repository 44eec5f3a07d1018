//! A run drawn into the cells of a terminal, and in one plain line.
//!
//! ```text
//! run                                                   time so far, time left, money
//! epoch, share of all rows that is done, step
//! training loss, held-out loss
//! chart of both
//! rates, bytes a step, workers, relaunches
//! legend of the lanes
//! a lane for each worker, in as many columns as are needed
//! ```
//!
//! Where there is less room the chart becomes lower, then lanes are left out, then the chart, and in the end there is only the line.

use std::time::Duration;

use bytesize::ByteSize;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};
use reporting::{count, duration};
use schemas::live::{Lane, Phase, Point, Seen};

/// Columns below which there is only the line.
const COLUMNS_MIN: u16 = 59;
/// More columns make nothing clearer.
const COLUMNS_MAX: u16 = 120;
/// Rows of the text around chart and lanes.
const TEXT_ROWS: u16 = 5;
/// Rows of the chart with its axis.
const CHART_ROWS: (u16, u16) = (5, 10);
/// Columns of a lane, with the space before the next one.
const LANE_COLUMNS: u16 = 37;
/// Rows of lanes beyond which they are set in more columns.
const LANE_ROWS: u16 = 12;

const TRAIN: Color = Color::Cyan;
const HELD_OUT: Color = Color::Green;
const TROUBLE: Color = Color::Yellow;

/// The rows that `seen` is shown in on so many columns and rows.
#[must_use]
pub fn draw(seen: &Seen, columns: u16, rows: u16) -> Buffer {
    let columns = columns.min(COLUMNS_MAX);
    let Some(layout) = Layout::of(seen, columns, rows) else {
        let mut buffer = Buffer::empty(Rect::new(0, 0, columns, 1));
        buffer.set_stringn(0, 0, line(seen), columns.into(), Style::new());
        return buffer;
    };
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, layout.rows()));
    let mut next = 0;
    let mut put = |buffer: &mut Buffer, left: Line<'_>, right: Line<'_>| {
        let room = columns.saturating_sub(u16::try_from(right.width()).unwrap_or(u16::MAX));
        buffer.set_line(room, next, &right, columns - room);
        buffer.set_line(0, next, &left, if room == columns { columns } else { room.saturating_sub(1) });
        next += 1;
    };
    put(&mut buffer, Line::from(seen.run.clone().bold()), time_and_money(seen));
    put(&mut buffer, way(seen, columns), Line::default());
    put(&mut buffer, losses(seen, columns), Line::default());
    if layout.chart > 0 {
        chart(seen, Rect::new(0, next, columns, layout.chart), &mut buffer);
        next += layout.chart;
    }
    let mut put = |buffer: &mut Buffer, line: Line<'_>| {
        buffer.set_line(0, next, &line, columns);
        next += 1;
    };
    put(&mut buffer, rates(seen));
    if layout.lane_rows > 0 {
        put(&mut buffer, legend());
        lanes(seen, &layout, next, &mut buffer);
    }
    buffer
}

/// What goes where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// Rows of the chart.
    chart: u16,
    /// Rows of lanes.
    lane_rows: u16,
    /// Columns of lanes.
    lane_columns: u16,
}

impl Layout {
    /// Nothing when there is no room for more than a line.
    fn of(seen: &Seen, columns: u16, rows: u16) -> Option<Self> {
        let free = rows.checked_sub(TEXT_ROWS).filter(|_| columns >= COLUMNS_MIN)?;
        let n = u16::try_from(seen.lanes.len()).unwrap_or(u16::MAX);
        let widest = (columns / LANE_COLUMNS).max(1);
        let (low, high) = CHART_ROWS;
        let fits = |&lane_columns: &u16| n.div_ceil(lane_columns) <= LANE_ROWS.min(free.saturating_sub(high));
        let lane_columns = (1..=widest).find(fits).unwrap_or(widest);
        let wanted = n.div_ceil(lane_columns);
        let (chart, lane_rows) = match free.saturating_sub(wanted) {
            left if left >= low => (left.min(high), wanted),
            // Some of the lanes, below a low chart.
            _ if free >= low + 2 => (low, free - low),
            _ => (0, free.min(wanted)),
        };
        Some(Self { chart, lane_rows, lane_columns })
    }

    const fn rows(&self) -> u16 {
        let legend = if self.lane_rows > 0 { 1 } else { 0 };
        TEXT_ROWS - 1 + legend + self.chart + self.lane_rows
    }
}

/// `41s, 1m 36s left   $0.0021 of $0.50`, or what is out of the ordinary.
fn time_and_money(seen: &Seen) -> Line<'static> {
    let mut spans = Vec::new();
    match (&seen.trouble, left(seen)) {
        (Some(trouble), _) => spans.push(format!("{}, {trouble}", duration_of(seen.seconds)).fg(TROUBLE)),
        (None, Some(left)) => {
            spans.push(format!("{}, at most {} left", duration_of(seen.seconds), duration_of(left)).into());
        }
        (None, None) => spans.push(duration_of(seen.seconds).into()),
    }
    if let Some(usd) = seen.usd {
        let budget = seen.budget.map_or(String::new(), |budget| format!(" of ${budget}"));
        spans.push(format!("   ${usd:.4}{budget}").into());
    }
    Line::from(spans)
}

fn duration_of(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// Seconds until all rows are used, at the present rate, or until the time is up.
fn left(seen: &Seen) -> Option<f64> {
    let rows = seen.total_rows.saturating_sub(seen.rows) as f64;
    let by_rows = (seen.rows_per_second > 0.0).then(|| rows / seen.rows_per_second);
    let by_time = seen.max_seconds.map(|max| (max - seen.seconds).max(0.0));
    by_rows.into_iter().chain(by_time).reduce(f64::min)
}

/// `epoch 12 of 40  ━━━━━━━━━━──────────────────────  30 %  step 1356 of 4520`
fn way(seen: &Seen, columns: u16) -> Line<'static> {
    let per_epoch = seen.steps_per_epoch.max(1);
    let epoch = (seen.steps.saturating_sub(1) / per_epoch + 1).min(seen.max_epochs);
    let total = seen.steps_per_epoch.saturating_mul(seen.max_epochs);
    let done = (seen.rows as f64 / seen.total_rows.max(1) as f64).min(1.0);
    let before = format!("epoch {epoch} of {}  ", seen.max_epochs);
    let after = format!("  {:>3.0} %  step {} of {total}", (100.0 * done).floor(), seen.steps);
    let bar = usize::from(columns).saturating_sub(before.len() + after.len()).min(60);
    let full = (bar as f64 * done) as usize;
    Line::from(vec![before.into(), "━".repeat(full).fg(TRAIN), "─".repeat(bar - full).dim(), after.into()])
}

/// `RMSE 0.7312   • held-out RMSE 0.7421, best 0.7419 after epoch 11`
fn losses(seen: &Seen, columns: u16) -> Line<'static> {
    let Some(last) = seen.train.last() else { return Line::from("no step is done yet".dim()) };
    let mut spans = vec![format!("{} {:.4}", seen.loss, last.loss).fg(TRAIN)];
    if let Some(evaluated) = seen.evaluated {
        let loss = if columns < 80 { "" } else { &format!("{} ", seen.loss) };
        spans.push(format!("   • held-out {loss}{:.4}", evaluated.loss).fg(HELD_OUT));
        match seen.best {
            Some(best) if best == evaluated => {
                spans.push(format!(" after epoch {}, the best so far", best.epoch + 1).into())
            }
            Some(best) => spans.push(format!(", best {:.4} after epoch {}", best.loss, best.epoch + 1).into()),
            None => {}
        }
    }
    Line::from(spans)
}

fn chart(seen: &Seen, area: Rect, buffer: &mut Buffer) {
    let pairs = |points: &[Point]| points.iter().map(|p| ((p.step + 1) as f64, p.loss)).collect::<Vec<_>>();
    let (train, held_out) = (pairs(&seen.train), pairs(&seen.held_out));
    let all = || train.iter().chain(&held_out);
    let (Some(&(first, _)), Some(last)) = (train.first(), all().map(|p| p.0).reduce(f64::max)) else { return };
    let low = all().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let high = all().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if high - low < 1e-4 { (low - 5e-5, high + 5e-5) } else { (low, high) };
    let last = last.max(first + 1.0);
    let label = |value: f64| Span::from(format!("{value:.4}")).dim();
    let datasets = vec![
        Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(TRAIN).data(&train),
        Dataset::default().marker(Marker::Dot).graph_type(GraphType::Scatter).style(HELD_OUT).data(&held_out),
    ];
    let axis = Style::new().dim();
    let x = Axis::default().bounds([first, last]).style(axis);
    let y = Axis::default().bounds([low, high]).style(axis);
    Chart::new(datasets)
        .legend_position(None)
        .x_axis(x.labels([format!("step {first}"), format!("step {last}")].map(|l| Span::from(l).dim())))
        .y_axis(y.labels([label(low), label((low + high) / 2.0), label(high)]))
        .render(area, buffer);
}

/// `33.1 steps/s   18.4 M ratings/s   158 KB a step   2 workers   1 launched again`
fn rates(seen: &Seen) -> Line<'static> {
    let mut texts = vec![steps_per_second(seen), format!("{} {}/s", count(seen.rows_per_second as u64), seen.rows_are)];
    if seen.bytes_per_step > 0 {
        texts.push(format!("{} a step", bytes(seen.bytes_per_step)));
    }
    let n = seen.lanes.len();
    texts.push(format!("{n} worker{}", if n == 1 { "" } else { "s" }));
    let mut spans: Vec<Span<'_>> = vec![texts.join("   ").into()];
    if seen.handovers > 0 {
        spans.push(format!("   {} handed over", seen.handovers).into());
    }
    if seen.relaunches > 0 {
        spans.push(format!("   {} launched again", seen.relaunches).fg(TROUBLE));
    }
    Line::from(spans)
}

fn steps_per_second(seen: &Seen) -> String {
    let rate = seen.steps_per_second;
    if rate < 100.0 { format!("{rate:.1} steps/s") } else { format!("{} steps/s", count(rate as u64)) }
}

fn bytes(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

/// What a lane's bar is made of: the sign, its colour, and what it stands for.
const SHARES: [(&str, Color, &str); 4] = [
    ("█", Color::Cyan, "compute"),
    ("▓", Color::Blue, "exchange"),
    ("░", Color::Reset, "wait"),
    ("▒", Color::Magenta, "read"),
];

fn legend() -> Line<'static> {
    let mut spans = vec!["last steps: ".dim()];
    for (sign, color, name) in SHARES {
        spans.push(sign.fg(color));
        spans.push(format!(" {name}  ").dim());
    }
    Line::from(spans)
}

fn lanes(seen: &Seen, layout: &Layout, top: u16, buffer: &mut Buffer) {
    let room = usize::from(layout.lane_rows) * usize::from(layout.lane_columns);
    let (shown, hidden) = match seen.lanes.len() {
        n if n <= room => (n, 0),
        n => (room - 1, n - room + 1),
    };
    let lives = seen.lanes.iter().any(|lane| lane.incarnation > 0);
    let name =
        |lane: &Lane| if lives { format!("{}.{}", lane.worker, lane.incarnation) } else { lane.worker.to_string() };
    let digits = seen.lanes.iter().map(|lane| name(lane).len()).max().unwrap_or(1);
    let place = |at: usize| {
        let (column, row) = (at / usize::from(layout.lane_rows), at % usize::from(layout.lane_rows));
        (column as u16 * LANE_COLUMNS, top + row as u16)
    };
    for (at, lane) in seen.lanes[..shown].iter().enumerate() {
        let (x, y) = place(at);
        buffer.set_line(x, y, &cell(lane, &format!("{:>digits$}", name(lane))), LANE_COLUMNS - 1);
    }
    if hidden > 0 {
        let (x, y) = place(shown);
        buffer.set_line(x, y, &Line::from(format!("and {hidden} more").dim()), LANE_COLUMNS - 1);
    }
}

/// Columns of a lane's bar.
const BAR: usize = 10;

/// `12.1 ██████▓▓░░ computing 12s  158.0 kB`
fn cell(lane: &Lane, name: &str) -> Line<'static> {
    let mut spans = vec![format!("{name} ").into()];
    let shares = lane.shares;
    let percent = [shares.compute, shares.exchange, shares.wait, shares.read];
    let (mut sum, mut filled) = (0, 0);
    for ((sign, color, _), share) in SHARES.into_iter().zip(percent) {
        sum += usize::from(share);
        let end = (sum * BAR + 50) / 100;
        spans.push(sign.repeat(end - filled).fg(color));
        filled = end;
    }
    spans.push("·".repeat(BAR - filled).dim());
    let (word, color) = match lane.phase {
        Phase::Starting => ("starting", Some(TROUBLE)),
        Phase::Stepping => ("at work", None),
        Phase::Computing => ("computing", None),
        Phase::Evaluating => ("evaluating", None),
        Phase::Ending => ("ending", None),
        Phase::Waiting => ("waiting", None),
        Phase::CatchingUp => ("catching up", Some(TROUBLE)),
        Phase::Storing => ("storing", None),
        Phase::Leaving => ("leaving", Some(TROUBLE)),
    };
    // How long a worker was not heard of matters once it is more than a step takes as a rule.
    let silence = if lane.silence >= 3 {
        format!(" {}", duration(Duration::from_secs(lane.silence.into())))
    } else {
        String::new()
    };
    let moved = if lane.bytes > 0 { bytes(lane.bytes) } else { String::new() };
    let rest = usize::from(LANE_COLUMNS).saturating_sub(name.chars().count() + BAR + 3);
    let room = rest.saturating_sub(moved.chars().count());
    let mut said = Span::from(format!(" {:room$.room$}", format!("{word}{silence}")));
    said.style = color.map_or(Style::new(), Style::from);
    spans.push(said);
    spans.push(moved.dim());
    Line::from(spans)
}

/// The run in one line.
#[must_use]
pub fn line(seen: &Seen) -> String {
    let per_epoch = seen.steps_per_epoch.max(1);
    let mut text = format!(
        "training: {} of {} {} ({} %)",
        count(seen.rows),
        count(seen.total_rows),
        seen.rows_are,
        100 * seen.rows / seen.total_rows.max(1)
    );
    if let Some(left) = left(seen) {
        text += &format!(", {} left", duration_of(left));
    }
    text += &format!(", {}/s, {}", count(seen.rows_per_second as u64), steps_per_second(seen));
    if let Some(last) = seen.train.last() {
        text += &format!(", epoch {}, {} {:.4}", seen.steps.saturating_sub(1) / per_epoch + 1, seen.loss, last.loss);
    }
    if let Some(evaluated) = seen.evaluated {
        text += &format!(", held-out {:.4}", evaluated.loss);
    }
    if seen.relaunches > 0 {
        text += &format!(", {} launched again", seen.relaunches);
    }
    if let Some(usd) = seen.usd {
        text += &format!(", ${usd:.4}");
    }
    if let Some(trouble) = &seen.trouble {
        text += &format!(", {trouble}");
    }
    text
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use schemas::live::{Evaluated, Shares};

    use super::*;

    fn lane(worker: u32) -> Lane {
        let shares = Shares { compute: 60, exchange: 20, wait: 15, read: 5 };
        Lane { worker, incarnation: 0, phase: Phase::Stepping, silence: 0, shares, bytes: 158_000 }
    }

    fn seen(n_workers: u32) -> Seen {
        let point = |step: u64| Point { step, loss: 0.4 + 0.3 / (1.0 + step as f64 / 20.0) };
        Seen {
            run: "runs/clicks".to_owned(),
            loss: "log loss".to_owned(),
            rows_are: "rows".to_owned(),
            max_epochs: 20,
            steps_per_epoch: 100,
            total_rows: 20_000_000,
            seconds: 41.0,
            steps: 300,
            rows: 3_000_000,
            steps_per_second: 33.1,
            rows_per_second: 331_000.0,
            bytes_per_step: 158_000 * u64::from(n_workers),
            train: (0..100).map(|at| point(3 * at + 2)).collect(),
            held_out: [99, 199, 299].map(|step| Point { step, loss: point(step).loss + 0.01 }).to_vec(),
            evaluated: Some(Evaluated { epoch: 2, loss: 0.4287 }),
            best: Some(Evaluated { epoch: 1, loss: 0.4281 }),
            lanes: (0..n_workers).map(lane).collect(),
            ..Seen::default()
        }
    }

    /// What a terminal of so many columns and rows shows, without blanks at the ends.
    fn shown(seen: &Seen, columns: u16, rows: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        let drawn = draw(seen, columns, rows);
        assert!(drawn.area.height <= rows && drawn.area.width <= columns, "{:?}", drawn.area);
        terminal.draw(|frame| frame.buffer_mut().merge(&drawn)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..drawn.area.height).map(row).collect()
    }

    #[test]
    fn everything_has_its_row() {
        let mut seen = seen(2);
        seen.lanes[1] = Lane {
            worker: 1,
            incarnation: 1,
            phase: Phase::Starting,
            silence: 12,
            shares: Shares::default(),
            bytes: 0,
        };
        (seen.relaunches, seen.usd, seen.budget) = (1, Some(0.0021), Some(0.5));
        let rows = shown(&seen, 90, 40);
        let text = rows.join("\n");
        assert_eq!(rows.len(), 17, "{text}");
        assert_eq!(rows[0], format!("runs/clicks{:>79}", "41s, at most 51s left   $0.0021 of $0.5"), "{text}");
        assert!(rows[1].starts_with("epoch 3 of 20  ━━━━━━━──"), "{text}");
        assert!(rows[1].ends_with("─   15 %  step 300 of 2000"), "{text}");
        assert_eq!(rows[2], "log loss 0.4188   • held-out log loss 0.4287, best 0.4281 after epoch 2", "{text}");
        assert!(rows[3].contains("0.6727│"), "{text}");
        assert!(rows[12].contains("step 3") && rows[12].ends_with("step 300"), "{text}");
        assert!(rows[3..12].iter().any(|row| row.contains('•')), "held-out losses are dots\n{text}");
        assert!(rows[3..12].iter().any(|row| row.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c))), "{text}");
        assert_eq!(
            rows[13], "33.1 steps/s   331.0 k rows/s   316.0 kB a step   2 workers   1 launched again",
            "{text}"
        );
        assert_eq!(rows[15], "0.0 ██████▓▓░░ at work      158.0 kB", "{text}");
        assert_eq!(rows[16], "1.1 ·········· starting 12s", "{text}");
    }

    #[test]
    fn lanes_are_set_in_columns_and_what_has_no_room_is_counted() {
        for (n, columns, rows, lanes, columns_of_lanes, hidden) in [
            (4, 80, 24, 4, 1, 0),
            (24, 80, 24, 12, 2, 0),
            (24, 120, 40, 12, 2, 0),
            (24, 120, 24, 8, 3, 0),
            (24, 60, 24, 13, 1, 12),
            (100, 80, 24, 13, 2, 75),
            (1000, 120, 50, 39, 3, 884),
        ] {
            let text = shown(&seen(n), columns, rows - 1);
            let at = text.iter().position(|row| row.starts_with("last steps")).unwrap();
            let found = &text[at + 1..];
            let cells = found.iter().map(|row| row.matches("at work").count()).max().unwrap();
            assert_eq!((found.len(), cells), (lanes, columns_of_lanes), "{n} {columns} {rows}\n{}", text.join("\n"));
            let all: usize = found.iter().map(|row| row.matches("at work").count()).sum();
            assert_eq!(all + hidden, n as usize, "{}", text.join("\n"));
            assert_eq!(text.join("\n").contains(&format!("and {hidden} more")), hidden > 0, "{}", text.join("\n"));
        }
    }

    #[test]
    fn small_terminals_show_less() {
        let seen = seen(8);
        let has = |text: &[String], what: &str| text.iter().any(|row| row.contains(what));
        for rows in 1..=30 {
            let text = shown(&seen, 80, rows);
            assert!(text.len() <= usize::from(rows));
            assert_eq!(has(&text, "best 0.4281 after epoch 2"), rows >= TEXT_ROWS, "{text:#?}");
            assert_eq!(has(&text, "step 300 of 2000"), rows >= TEXT_ROWS, "{text:#?}");
            assert_eq!(has(&text, "0.6727"), rows >= TEXT_ROWS + CHART_ROWS.0 + 2, "{text:#?}");
            assert_eq!(has(&text, "at work"), rows > TEXT_ROWS, "{text:#?}");
        }
        for columns in [1, 20, 58] {
            assert_eq!(shown(&seen, columns, 24), [line(&seen)[..columns.into()].trim_end()]);
        }
        assert_eq!(shown(&seen, 59, 24).len(), 23);
    }

    #[test]
    fn a_run_of_which_nothing_is_known_yet_is_shown() {
        let text = shown(&Seen::default(), 80, 24).join("\n");
        assert!(text.contains("no step is done yet"), "{text}");
        assert_eq!(line(&Seen::default()), "training: 0 of 0  (0 %), 0/s, 0.0 steps/s");
    }

    #[test]
    fn the_line_says_the_same() {
        let seen = Seen { usd: Some(0.0021), relaunches: 2, trouble: Some("stopping".to_owned()), ..seen(2) };
        assert_eq!(
            line(&seen),
            "training: 3.0 M of 20.0 M rows (15 %), 51s left, 331.0 k/s, 33.1 steps/s, epoch 3, log loss 0.4188, \
             held-out 0.4287, 2 launched again, $0.0021, stopping"
        );
    }
}
