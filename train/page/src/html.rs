//! The page: one file of HTML with its style and charts in it. It loads nothing and runs no script, and says so to the browser.

mod words;

use std::fmt::Write as _;

use schemas::report::{FunctionsReport, TrainReport};

use crate::draw::{Medium, svg};
use crate::figures::{self, verdict};
use crate::look;
use crate::number::{count, dollars, figure, percent, seconds, significant};
use crate::plot::{Figure, Section, Table};
use crate::run::Run;

/// The page about one run, or about several laid over each other.
#[must_use]
pub fn html(runs: &[Run]) -> String {
    let title = match runs {
        [run] => format!("Training run {}", run.name),
        _ => format!("{} training runs", runs.len()),
    };
    let sections = figures::of(runs);
    let mut main = front(runs);
    sections.iter().for_each(|section| main.push_str(&self::section(section)));
    main.push_str(&cost(runs));
    main.push_str(&what_ran(runs));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the report</a>\n<header>{head}</header>\n{links}\
         <main id=\"main\">\n{main}</main>\n<footer><p>{foot}</p></footer>\n</body>\n</html>\n",
        title = escape(&title),
        style = style(),
        head = header(runs),
        links = links(&sections, runs),
        foot = escape(&words::made_by(runs)),
    )
}

/// Text as HTML and XML take it. Characters that they do not allow become the sign for an unknown one.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' => safe.push(letter),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

fn header(runs: &[Run]) -> String {
    match runs {
        [run] => format!(
            "<p class=\"kind\">Training run</p><h1><bdi>{}</bdi></h1><p class=\"lead\">{}</p>",
            escape(&run.name),
            escape(&words::lead(&run.report))
        ),
        _ => format!("<p class=\"kind\">Training runs</p><h1>{} runs compared</h1>", runs.len()),
    }
}

/// Links to the sections.
fn links(sections: &[Section], runs: &[Run]) -> String {
    let mut links: Vec<(&str, &str)> = sections.iter().map(|s| (s.name.as_str(), s.title.as_str())).collect();
    if runs.iter().any(|run| run.report.functions.is_some()) {
        links.push(("cost", "Cost"));
    }
    links.push(("what-ran", "What ran"));
    let links: String = links.iter().map(|(name, title)| format!("<li><a href=\"#{name}\">{title}</a></li>")).collect();
    format!("<nav aria-label=\"Sections\"><ul>{links}</ul></nav>\n")
}

/// What matters most.
fn front(runs: &[Run]) -> String {
    match runs {
        [run] => {
            let tiles = words::tiles(&run.report);
            let tiles: String = tiles
                .iter()
                .map(|tile| {
                    let class = if tile.warns { " class=\"warns\"" } else { "" };
                    let (of, value, note) = (escape(&tile.of), escape(&tile.value), escape(&tile.note));
                    format!(
                        "<div{class}><dt>{of}</dt><dd class=\"value\">{value}</dd><dd class=\"note\">{note}</dd></div>"
                    )
                })
                .collect();
            format!("<dl class=\"tiles\">{tiles}</dl>\n")
        }
        _ => compared(runs),
    }
}

/// The runs side by side.
fn compared(runs: &[Run]) -> String {
    let paid = runs.iter().any(|run| run.report.functions.is_some());
    let mut head =
        vec!["Run", "Loss", "Of", "Against the best baseline", "Steps", "Epochs", "Workers", "Rows/s", "Time"];
    head.extend(paid.then_some("Cost"));
    let mut rows = String::new();
    for (place, run) in runs.iter().enumerate() {
        let report = &run.report;
        let verdict = verdict(report);
        let cost = report.functions.as_ref().map(|functions| dollars(functions.cost.total));
        let [loss, of, words] =
            verdict.map_or([const { String::new() }; 3], |verdict| [figure(verdict.loss), verdict.of, verdict.words]);
        let mut cells = vec![
            loss,
            of,
            words,
            count(report.steps),
            count(report.epochs),
            count(report.workers.into()),
            count(report.rows_per_second as u64),
            seconds(report.seconds),
        ];
        cells.extend(paid.then(|| cost.unwrap_or_default()));
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        let (ink, name) = (place % 8, escape(&run.name));
        let _ =
            write!(rows, "<tr><th scope=\"row\"><span class=\"dot i{ink}\"></span><bdi>{name}</bdi></th>{cells}</tr>");
    }
    let head: String = head.iter().map(|text| format!("<th scope=\"col\">{text}</th>")).collect();
    scroll("The runs side by side", &format!("<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"))
}

fn section(section: &Section) -> String {
    let (name, title) = (&section.name, escape(&section.title));
    let figures: String = section.figures.iter().map(figure_element).collect();
    format!("<section id=\"{name}\"><h2>{title}</h2><div class=\"figures\">\n{figures}</div></section>\n")
}

fn figure_element(figure: &Figure) -> String {
    let (name, title, caption) = (&figure.name, escape(&figure.title), escape(&figure.caption));
    let class = if figure.room == crate::plot::Room::Full { "full" } else { "half" };
    let wide = svg(figure, Medium::Wide, &format!("{name}-wide"));
    let narrow = svg(figure, Medium::Narrow, &format!("{name}-narrow"));
    let table = scroll(&figure.title, &table(&figure.table));
    format!(
        "<figure class=\"{class}\" id=\"{name}\"><h3>{title}</h3><figcaption>{caption}</figcaption>\
         <div class=\"wide\">{wide}</div><div class=\"narrow\">{narrow}</div>\
         <details><summary>Numbers<span class=\"unseen\"> of {title}</span></summary>{table}</details></figure>\n"
    )
}

fn table(table: &Table) -> String {
    let head: String = table.head.iter().map(|text| format!("<th scope=\"col\">{}</th>", escape(text))).collect();
    let mut rows = String::new();
    for row in &table.rows {
        rows.push_str("<tr>");
        row.iter().for_each(|cell| {
            let _ = write!(rows, "<td>{}</td>", escape(cell));
        });
        rows.push_str("</tr>");
    }
    format!("<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
}

/// Something that may be wider than the page: it scrolls by itself, by keys too.
fn scroll(of: &str, inside: &str) -> String {
    format!("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">{inside}</div>", escape(of))
}

/// What functions cost, and what was predicted.
fn cost(runs: &[Run]) -> String {
    let mut tables = String::new();
    for run in runs {
        let Some(functions) = &run.report.functions else { continue };
        if runs.len() > 1 {
            let _ = write!(tables, "<h3><bdi>{}</bdi></h3>", escape(&run.name));
        }
        let _ = write!(tables, "<p>{}</p>", escape(&words::cost(functions, run.report.seconds)));
        tables.push_str(&scroll("Cost", &table(&cost_table(functions, &run.report))));
    }
    if tables.is_empty() {
        return tables;
    }
    format!("<section id=\"cost\"><h2>Cost</h2>{tables}</section>\n")
}

fn cost_table(functions: &FunctionsReport, report: &TrainReport) -> Table {
    let (used, paid) = (functions.usage, functions.cost);
    let predicted = functions.predicted.as_ref().map(|run| (run.usage, run.cost));
    let rows = [
        ("Functions, GB-seconds", used.gb_seconds, paid.compute, predicted.map(|(u, c)| (u.gb_seconds, c.compute))),
        (
            "Functions begun",
            used.requests as f64,
            paid.requests,
            predicted.map(|(u, c)| (u.requests as f64, c.requests)),
        ),
        (
            "S3 writes and lists",
            used.s3_puts as f64,
            paid.s3_puts,
            predicted.map(|(u, c)| (u.s3_puts as f64, c.s3_puts)),
        ),
        ("S3 reads", used.s3_gets as f64, paid.s3_gets, predicted.map(|(u, c)| (u.s3_gets as f64, c.s3_gets))),
        ("Redis, hours", used.redis_hours, paid.redis, predicted.map(|(u, c)| (u.redis_hours, c.redis))),
        ("RabbitMQ, hours", used.broker_hours, paid.broker, predicted.map(|(u, c)| (u.broker_hours, c.broker))),
    ];
    let mut table = Table::new(&["", "Used", "Predicted", "Cost", "Predicted cost"]);
    let amount = |value: f64| {
        if value.fract() == 0.0 || value >= 1000.0 { count(value.round() as u64) } else { significant(value, 4) }
    };
    for (name, used, paid, predicted) in rows {
        let (use_before, cost_before) =
            predicted.map_or((String::new(), String::new()), |(used, paid)| (amount(used), dollars(paid)));
        table.push([name.to_owned(), amount(used), use_before, dollars(paid), cost_before]);
    }
    let total = predicted.map_or(String::new(), |(_, cost)| dollars(cost.total));
    table.push(["Together".to_owned(), String::new(), String::new(), dollars(paid.total), total]);
    let time = functions.predicted.as_ref().map_or(String::new(), |run| seconds(run.run_seconds));
    table.push(["Time of the run".to_owned(), seconds(report.seconds), time, String::new(), String::new()]);
    table
}

/// Manifest, settings, versions and digests, a column a run.
fn what_ran(runs: &[Run]) -> String {
    let columns: Vec<Vec<(String, String)>> = runs.iter().map(|run| words::facts(&run.report)).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in columns.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut rows = String::new();
    for name in names {
        let value = |column: &Vec<(String, String)>| {
            column.iter().find(|(known, _)| known == name).map_or(String::new(), |(_, value)| value.clone())
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        let differs = values.iter().any(|value| *value != values[0]);
        let mark = if differs { " <span class=\"differs\">differs</span>" } else { "" };
        let cells: String = values.iter().map(|value| format!("<td>{}</td>", escape(value))).collect();
        let _ = write!(rows, "<tr><th scope=\"row\">{}{mark}</th>{cells}</tr>", escape(name));
    }
    let heads: String =
        runs.iter().map(|run| format!("<th scope=\"col\"><bdi>{}</bdi></th>", escape(&run.name))).collect();
    let head = if runs.len() == 1 {
        String::new()
    } else {
        format!("<thead><tr><th scope=\"col\"><span class=\"unseen\">Fact</span></th>{heads}</tr></thead>")
    };
    let table = format!("<table class=\"facts\">{head}<tbody>{rows}</tbody></table>");
    format!("<section id=\"what-ran\"><h2>What ran</h2>{}</section>\n", scroll("What ran", &table))
}

/// The style of the page. Dark is for screens only: on paper all is light.
fn style() -> String {
    format!(
        ":root{{{light}color-scheme:light}}\
         @media screen and (prefers-color-scheme:dark){{:root{{{dark}color-scheme:dark}}}}{rules}{page}",
        light = look::light(),
        dark = look::dark(),
        rules = look::rules(),
        page = include_str!("html/page.css").replace("\n", "")
    )
}

/// A difference in words: `8 % more than`.
pub(crate) fn compared_with(value: f64, with: f64) -> String {
    let share = (value - with) / with;
    match () {
        () if !share.is_finite() => "against".to_owned(),
        () if share.abs() < 0.005 => "as much as".to_owned(),
        () if share > 0.0 => format!("{} more than", percent(share)),
        () => format!("{} less than", percent(-share)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(escape("<b a=\"1\">&'</b>"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;&lt;/b&gt;");
        assert_eq!(escape("a\u{0}b\u{1b}\u{85}\u{ffff}é"), "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}é");
    }

    proptest! {
        #[test]
        fn any_text_is_text(text in ".*") {
            let document = format!("<p a=\"{0}\">{0}</p>", escape(&text));
            let parsed = roxmltree::Document::parse(&document).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let shown: String = text
                .chars()
                .map(|c| if (c.is_control() && !"\t\n".contains(c)) || "\u{fffe}\u{ffff}".contains(c) { '\u{fffd}' } else { c })
                .collect();
            prop_assert_eq!(parsed.root_element().text().unwrap_or_default(), shown);
        }
    }
}
