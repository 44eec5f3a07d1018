//! What was found as text for people: plain, aligned, at most 100 columns wide.

use schemas::dataset::BaselineRmse;
use schemas::report::{
    InspectReport, Inspected, InspectedClicks, InspectedLabels, InspectedNumber, InspectedRatings, InspectedValues,
};

/// The report as a table.
pub(super) fn text(report: &InspectReport) -> String {
    let kind = match &report.content {
        Inspected::Ratings(_) => "ratings",
        Inspected::Dense(_) => "dense rows",
        Inspected::Sparse(_) => "sparse rows",
    };
    let plural = if report.parts == 1 { "" } else { "s" };
    let size = format!("{} part{plural}, {} bytes", whole(report.parts), whole(report.bytes));
    let mut lines = vec![
        format!("{}: {kind} `{}`, made by {} of {}", report.dataset, report.name, report.made_by, report.source),
        format!("{size}, all as the descriptor says"),
    ];
    if !report.contradictions.is_empty() {
        lines[1] = size;
        lines.push(format!("CONTRADICTS ITS DESCRIPTOR in {} places, see the warnings", report.contradictions.len()));
    }
    lines.push(String::new());
    rows(report, &mut lines);
    match &report.content {
        Inspected::Ratings(ratings) => ratings_lines(ratings, &mut lines),
        Inspected::Dense(clicks) | Inspected::Sparse(clicks) => clicks_lines(clicks, &mut lines),
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn rows(report: &InspectReport, lines: &mut Vec<String>) {
    let rows = report.rows;
    let held_out =
        report.holdout.map_or_else(String::new, |h| format!("asked for {}, seed {}", percent(h.fraction), h.seed));
    let filter = report.filter.clone().unwrap_or_default();
    let table = [
        ("rows read", rows.read, String::new()),
        ("  for training", rows.train, String::new()),
        ("  held out", rows.holdout, held_out),
        ("  rejected", rows.rejected, String::new()),
        ("  filtered", rows.filtered, filter),
    ];
    for (name, count, note) in table {
        lines.push(format!("{name:<24}{:>16}  {note}", whole(count)));
    }
}

/// A line with a figure under those of the rows.
fn figure_line(name: &str, figure: impl AsRef<str>, note: impl AsRef<str>) -> String {
    format!("{name:<24}{:>16}  {}", figure.as_ref(), note.as_ref())
}

fn clicks_lines(clicks: &InspectedClicks, lines: &mut Vec<String>) {
    lines.push(String::new());
    match &clicks.labels {
        Some(labels) => label_lines(labels, lines),
        None => lines.push("no labels".to_owned()),
    }
    if let Some(entries) = clicks.entries {
        let note = format!("{} of {} survive scaling", whole(entries.after), whole(entries.before));
        lines.push(figure_line("values", percent(entries.surviving), note));
    }
    if let Some(buckets) = &clicks.buckets {
        let of = format!(
            "{} of {}",
            percent(buckets.used as f64 / f64::from(buckets.buckets)),
            whole(buckets.buckets.into())
        );
        lines.push(figure_line("buckets in use", whole(buckets.used), of));
        let tokens = buckets.tokens_per_bucket.map_or_else(|| "?".to_owned(), figure);
        let note = if buckets.tokens_per_bucket.is_some() {
            "different tokens seen, estimated"
        } else {
            "all buckets are in use"
        };
        lines.push(figure_line("tokens per bucket", tokens, note));
        let note = format!("{} of the rows hit a bucket more than once", percent(buckets.share_with_collisions));
        lines.push(figure_line("rows with collisions", whole(buckets.rows_with_collisions), note));
    }
    if let Some(digest) = &clicks.fitted_on {
        lines.push(String::new());
        lines.push(format!("statistics of another dataset, raw min and max too: {digest}"));
    }
    number_lines(&clicks.numeric, lines);
    if clicks.categorical.is_empty() {
        return;
    }
    let heading = format!("{:<6}{:>10}{:>14}{:>16}", "", "missing", "buckets", "most frequent");
    lines.extend([String::new(), format!("{heading}    {heading}")]);
    let cells: Vec<String> = clicks
        .categorical
        .iter()
        .map(|c| format!("{:<6}{:>10}{:>14}{:>16}", c.name, percent(c.missing), whole(c.buckets), percent(c.top_share)))
        .collect();
    let (left, right) = cells.split_at(cells.len().div_ceil(2));
    for (i, left) in left.iter().enumerate() {
        lines.push(format!("{left}    {}", right.get(i).map_or("", String::as_str)));
    }
}

fn label_lines(labels: &InspectedLabels, lines: &mut Vec<String>) {
    let held_out =
        labels.holdout_clicks.map_or_else(String::new, |share| format!("{} of the held-out rows", percent(share)));
    lines.push(figure_line("clicks", percent(labels.train_clicks), held_out));
    let held_out =
        labels.holdout_base_log_loss.map_or_else(String::new, |loss| format!("{loss:.5} on the held-out rows"));
    lines.push(figure_line("base-rate log loss", format!("{:.5}", labels.train_base_log_loss), held_out));
}

fn number_lines(columns: &[InspectedNumber], lines: &mut Vec<String>) {
    let line = |cells: [&str; 8]| {
        let [name, missing, raw_min, raw_max, min, max, mean, sd] = cells;
        format!("{name:<6}{missing:>10}{raw_min:>15}{raw_max:>15}{min:>13}{max:>13}{mean:>13}{sd:>13}")
    };
    lines.push(String::new());
    lines.push(line(["", "missing", "raw min", "raw max", "stored min", "max", "mean", "sd"]));
    for column in columns {
        let missing = column.missing.map_or_else(|| "?".to_owned(), percent);
        let raw = [column.raw_min, column.raw_max].map(|x| x.map_or_else(|| "-".to_owned(), integer));
        let stored = column.stored.map(|InspectedValues { min, max, mean, sd }| [min, max, mean, sd].map(figure));
        let stored = stored.unwrap_or_else(|| ["-"; 4].map(str::to_owned));
        let [min, max, mean, sd] = &stored;
        lines.push(line([&column.name, &missing, &raw[0], &raw[1], min, max, mean, sd]));
    }
}

fn ratings_lines(ratings: &InspectedRatings, lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push(figure_line(
        "users",
        whole(ratings.users.into()),
        format!("at most {} training rows each", whole(ratings.user_rows_max)),
    ));
    lines.push(figure_line(
        "items",
        whole(ratings.items.into()),
        format!("at most {} training rows each", whole(ratings.item_rows_max)),
    ));
    lines.push(figure_line("density", percent(ratings.density), "of all pairs have a rating"));
    lines.push(figure_line("repeated pairs", whole(ratings.repeated_pairs), ""));
    if let Some(stars) = ratings.stars {
        lines.push(figure_line(
            "mean rating",
            figure(stars.mean),
            format!("from {} to {}, sd {}", figure(stars.min), figure(stars.max), figure(stars.sd)),
        ));
    }
    lines.push(String::new());
    lines.push(format!("{:<24}{:>16}{:>16}", "RMSE in stars", "training", "held out"));
    let both = |rmse: BaselineRmse| [rmse.mean, rmse.effects];
    let (train, held_out) = (both(ratings.baselines.train), ratings.baselines.holdout.map(both));
    for (i, name) in ["  the mean", "  user and item effects"].into_iter().enumerate() {
        let held_out = held_out.map_or_else(|| "-".to_owned(), |rmse| format!("{:.5}", rmse[i]));
        lines.push(format!("{name:<24}{:>16.5}{held_out:>16}", train[i]));
    }
}

/// `1,234,567`
fn whole(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `-1,234`, or `-9.223e18` where that is shorter than a column is wide.
fn integer(x: i64) -> String {
    if x.unsigned_abs() >= 10_000_000_000 {
        return format!("{:.4e}", x as f64);
    }
    format!("{}{}", if x < 0 { "-" } else { "" }, whole(x.unsigned_abs()))
}

/// `12.34 %`; what is not all or nothing does not look as if it were.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if share > 0.0 && percent < 0.01 {
        "< 0.01 %".to_owned()
    } else if share < 1.0 && percent > 99.99 {
        "> 99.99 %".to_owned()
    } else {
        format!("{percent:.2} %")
    }
}

/// Five significant digits.
fn figure(x: f64) -> String {
    let scientific = format!("{x:.4e}");
    // The exponent of what is shown: 0.999999 is shown as 1.
    let exponent: i32 = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    match exponent {
        _ if x == 0.0 => "0".to_owned(),
        -4..=4 => format!("{x:.*}", (4 - exponent).unsigned_abs() as usize),
        5 => format!("{x:.0}"),
        _ => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let table: [(String, &str); 24] = [
            (whole(0), "0"),
            (whole(999), "999"),
            (whole(1_000), "1,000"),
            (whole(45_840_617), "45,840,617"),
            (integer(-3), "-3"),
            (integer(-12_345), "-12,345"),
            (integer(9_999_999_999), "9,999,999,999"),
            (integer(i64::MIN), "-9.2234e18"),
            (percent(0.0), "0.00 %"),
            (percent(1e-9), "< 0.01 %"),
            (percent(0.45399), "45.40 %"),
            (percent(0.999_999), "> 99.99 %"),
            (percent(1.0), "100.00 %"),
            (percent(1.25), "125.00 %"),
            (figure(0.0), "0"),
            (figure(-1.0), "-1.0000"),
            (figure(0.000_606_44), "0.00060644"),
            (figure(123.456_789), "123.46"),
            (figure(0.999_999), "1.0000"),
            (figure(-0.000_099_999_9), "-0.00010000"),
            (figure(123_456.7), "123457"),
            (figure(999_999.4), "1.0000e6"),
            (figure(1e6), "1.0000e6"),
            (figure(-1.23e-7), "-1.2300e-7"),
        ];
        for (found, expected) in table {
            assert_eq!(found, expected);
        }
    }
}
