//! What is on a page, and whether it is a sound document.

use page::{Chart, Run, charts, html, read};
use roxmltree::{Document, Error, Node, ParsingOptions};

use crate::made;

/// A page as a tree.
pub(crate) fn document(page: &str) -> Result<Document<'_>, Error> {
    Document::parse_with_options(
        page,
        ParsingOptions { allow_dtd: true, nodes_limit: u32::MAX, ..ParsingOptions::default() },
    )
}

fn runs() -> (Run, Run) {
    (read(made::ratings().1).unwrap(), read(made::clicks().1).unwrap())
}

/// All text of an element.
fn text(node: Node<'_, '_>) -> String {
    node.descendants()
        .filter(Node::is_text)
        .filter_map(|node| node.text())
        .collect::<Vec<_>>()
        .join(" ")
        .replace('\u{a0}', " ")
}

/// The text of the elements of a name, in order.
fn texts(document: &Document<'_>, name: &str) -> Vec<String> {
    document.descendants().filter(|node| node.has_tag_name(name)).map(text).collect()
}

/// The cells of the table with an accessible name, row by row.
pub(crate) fn cells(document: &Document<'_>, of: &str) -> Vec<Vec<String>> {
    let region =
        document.descendants().find(|node| node.attribute("aria-label") == Some(of) && node.has_tag_name("div"));
    let rows =
        region.unwrap_or_else(|| panic!("no table of {of}")).descendants().filter(|node| node.has_tag_name("tr"));
    rows.map(|row| row.children().filter(Node::is_element).map(text).collect()).collect()
}

#[test]
fn a_page_of_ratings_has_the_numbers_of_its_run() {
    let page = html(&[runs().0]);
    let document = document(&page).unwrap();
    let tiles = texts(&document, "dl").join(" ");
    assert!(
        tiles.contains("Held-out RMSE 0.7293 11 % better than user and movie effects (0.8227); after epoch 2"),
        "{tiles}"
    );
    assert!(tiles.contains("Training RMSE 0.6684") && tiles.contains("Ratings a second 4.95 M"), "{tiles}");
    assert!(tiles.contains("Time 7.87 s 4 steps, 2 whole epochs"), "{tiles}");
    let titles = texts(&document, "h3");
    assert_eq!(
        titles,
        [
            "RMSE over time",
            "RMSE over steps",
            "Held-out RMSE by epoch",
            "Error by rating",
            "Time of a step",
            "Time by worker",
            "Bytes per step",
            "Lives of the workers"
        ]
    );
    assert_eq!(
        cells(&document, "RMSE over time")[1..],
        [
            ["1", "0.5", "0.99", "0.99", "0.99", ""],
            ["2", "1", "0.95", "0.95", "0.95", "0.9"],
            ["3", "1.5", "0.8", "0.8", "0.8", ""],
            ["4", "2", "0.7", "0.7", "0.7", "0.7293"]
        ]
    );
    // Four steps of 0.1 ms to read and 0.2 ms to decode, and 1, 200, 3, 50, 6, 40 and 9 ms one after the other.
    assert_eq!(
        cells(&document, "Time by worker")[1],
        ["0", "4", "0.004", "0.8", "0.012", "0.2", "0.024", "0.16", "0.036", "0.0004", "0.0008"]
    );
    assert_eq!(cells(&document, "Time of a step")[2][..2], ["2", "0.309"]);
    assert_eq!(
        cells(&document, "Bytes per step")[1..3],
        [["1", "published", "2 kB", "2 kB", "2 kB"], ["2", "published", "2 kB", "2 kB", "2 kB"]]
    );
    assert_eq!(
        cells(&document, "Lives of the workers")[1..],
        [
            ["0", "0", "begun with the run", "1", "4", "0", "2"],
            ["1", "0", "begun with the run", "1", "2", "0", "1"],
            ["1", "1", "hand-over", "3", "4", "1", "2"],
            ["1", "2", "relaunch after a death", "", "", "", ""]
        ]
    );
    assert_eq!(cells(&document, "Error by rating")[1], ["0.5", "10", "1.25", "1.5"]);
    let facts = cells(&document, "What ran");
    for fact in
        [["manifest", "made.json"], ["learning rate", "4.0"], ["kept model", "after epoch 2"], ["tool", "train 0.1.0"]]
    {
        assert!(facts.iter().any(|row| row[..] == fact), "{fact:?} is not among {facts:?}");
    }
    assert!(!page.contains("WORSE"));
}

#[test]
fn a_page_of_clicks_says_that_the_model_is_worse() {
    let page = html(&[runs().1]);
    let document = document(&page).unwrap();
    let tiles = texts(&document, "dl").join(" ");
    assert!(tiles.contains("Held-out log loss 0.6012 5.5 % WORSE than always the share of clicks (0.5696)"), "{tiles}");
    assert!(tiles.contains("AUC 0.7809") && tiles.contains("NOT below 1: nothing was learnt"), "{tiles}");
    assert!(tiles.contains("Cost $0.0221 11 % more than the $0.0200 predicted"), "{tiles}");
    assert!(page.contains("<div class=\"warns\">"));
    let titles = texts(&document, "h3");
    let quality = [
        "Predicted and real clicks",
        "ROC curve",
        "AUC by epoch",
        "Normalised entropy by epoch",
        "Calibration by epoch",
    ];
    assert!(titles.windows(5).any(|some| some == quality), "{titles:?}");
    // Nothing travelled and no lives are known.
    assert!(!page.contains("Bytes per step") && !page.contains("Lives of the workers"));
    assert_eq!(
        cells(&document, "ROC curve")[1..],
        [["0", "0"], ["0.1026", "0.5455"], ["0.5128", "0.9091"], ["1", "1"]]
    );
    assert_eq!(cells(&document, "Cost")[1], ["Functions, GB-seconds", "1,235", "1,235", "$0.0206", "$0.0185"]);
    assert_eq!(cells(&document, "Cost")[7], ["Together", "", "", "$0.0221", "$0.0200"]);
    let cost = text(document.descendants().find(|node| node.attribute("id") == Some("cost")).unwrap());
    assert!(cost.contains("5 hand-overs, and 2 relaunched after a death"), "{cost}");
    assert!(cost.contains("took 7.87 s, 21 % more than the 6.5 s"), "{cost}");
}

/// Without held-out rows the training loss is held against the baselines, which are then of the training rows too.
#[test]
fn a_run_without_held_out_rows_says_so() {
    let (mut report, mut files) = made::ratings();
    report["holdout_rmse"] = serde_json::Value::Null;
    files.report = report.to_string().into_bytes();
    files.history = format!("{}0,0,0.5,0.99,\n1,0,1.0,0.95,\n2,1,1.5,0.8,\n3,1,2.0,0.7,\n", made::HISTORY).into_bytes();
    (files.lives, files.scores) = (None, None);
    let page = html(&[read(files).unwrap()]);
    let document = document(&page).unwrap();
    let tiles = texts(&document, "dl").join(" ");
    assert!(tiles.contains("Training RMSE, none held out 0.6684 19 % better than user and movie effects"), "{tiles}");
    assert!(page.contains("No rows are held out. The RMSE of a step&#39;s training rows goes from 0.9900 to 0.7000."));
    assert!(!page.contains("id=\"held-out-rows\"") && !page.contains("id=\"rmse-by-epoch\""));
}

#[test]
fn several_runs_are_laid_over_each_other() {
    let (ratings, clicks) = runs();
    let mut others = made::ratings().1;
    others.name = "<b>other</b> & runs".to_owned();
    others.report =
        String::from_utf8(others.report).unwrap().replace("\"momentum\":0.8", "\"momentum\":0.9").into_bytes();
    let page = html(&[ratings, read(others).unwrap(), clicks]);
    let document = document(&page).unwrap();
    let compared = cells(&document, "The runs side by side");
    assert_eq!(compared[1][..3], ["runs/movies", "0.7293", "Held-out RMSE"]);
    assert_eq!(compared[2][0], "<b>other</b> & runs");
    assert_eq!(compared[3][3], "5.5 % WORSE than always the share of clicks (0.5696)");
    let losses = cells(&document, "RMSE over time");
    assert_eq!(losses.len(), 9, "two runs of four steps");
    assert_eq!(losses[0][0], "Run");
    assert_eq!(cells(&document, "Log loss over time")[1][..2], ["runs/clicks", "1"]);
    let facts = cells(&document, "What ran");
    assert!(facts.iter().any(|row| row[..] == ["momentum  differs", "0.8", "0.9", ""]), "{facts:?}");
    assert!(!page.contains("<b>"));
}

#[test]
fn a_page_loads_nothing_and_every_chart_can_be_heard() {
    let (ratings, clicks) = runs();
    for page in [html(std::slice::from_ref(&ratings)), html(std::slice::from_ref(&clicks)), html(&[ratings, clicks])] {
        let document = document(&page).unwrap();
        for loads in ["http://", "https://", "src=", "<script", "@import", "<link", "javascript:"] {
            assert!(!page.contains(loads), "{loads}");
        }
        for url in page.split("url(").skip(1) {
            assert!(url.starts_with('#'), "{}", &url[..40]);
        }
        let policy = document.descendants().find(|node| node.attribute("http-equiv").is_some()).unwrap();
        assert!(policy.attribute("content").unwrap().starts_with("default-src 'none'"));
        let ids: Vec<&str> = document.descendants().filter_map(|node| node.attribute("id")).collect();
        let mut different = ids.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(ids.len(), different.len(), "an id occurs twice: {ids:?}");
        for link in document.descendants().filter_map(|node| node.attribute("href")) {
            assert!(ids.contains(&&link[1..]), "{link} leads nowhere");
        }
        let figures: Vec<Node<'_, '_>> = document.descendants().filter(|node| node.has_tag_name("figure")).collect();
        assert!(figures.len() >= 7);
        for figure in figures {
            let svgs: Vec<Node<'_, '_>> = figure.descendants().filter(|node| node.has_tag_name("svg")).collect();
            assert_eq!(svgs.len(), 2, "one for wide pages, one for narrow ones");
            for svg in svgs {
                let child =
                    |name| svg.children().find(|node: &Node<'_, '_>| node.has_tag_name(name)).map(text).unwrap();
                assert_eq!(svg.attribute("role"), Some("img"));
                assert_eq!(svg.attribute("aria-label"), Some(child("title").as_str()));
                assert!(child("desc").len() > 40 && ids.contains(&svg.attribute("aria-describedby").unwrap()));
            }
            let rows = figure.descendants().filter(|node| node.has_tag_name("tr")).count();
            assert!(rows > 1, "a chart without its numbers");
            let head = figure.descendants().filter(|node| node.has_tag_name("th")).count();
            for row in figure.descendants().filter(|node| node.has_tag_name("tr")).skip(1) {
                assert_eq!(row.children().filter(Node::is_element).count(), head);
            }
        }
    }
}

/// Charts as files: sound by themselves, and drawn with text where the machine has no fonts.
#[test]
fn charts_are_files_and_pictures() {
    let (ratings, clicks) = runs();
    let charts = charts(&[ratings, clicks]);
    let mut names: Vec<&str> = charts.iter().map(|chart| chart.name.as_str()).collect();
    assert!(names.contains(&"roc") && names.contains(&"error-by-rating") && names.contains(&"timeline-1"), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), charts.len());
    for Chart { name, title, svg, .. } in &charts {
        let document = Document::parse(svg).unwrap();
        assert_eq!(document.root_element().tag_name().namespace(), Some("http://www.w3.org/2000/svg"));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
        assert!(texts(&document, "text").iter().any(|text| text == title), "{title} is not on the chart");
        assert!(!svg.contains("var("));
    }
    let chart = charts.iter().find(|chart| chart.name == "roc").unwrap();
    let picture = resvg::tiny_skia::Pixmap::decode_png(&chart.png()).unwrap();
    assert_eq!(picture.width(), 1200);
    // The heading is at the top left; it is the only thing there, and dark on white.
    let dark = |x: u32, y: u32| picture.pixel(x, y).is_some_and(|pixel| pixel.red() < 100);
    let heading = (40..300).flat_map(|x| (36..90).map(move |y| (x, y))).filter(|(x, y)| dark(*x, *y)).count();
    assert!(heading > 200, "{heading} dark pixels where the heading is");
    assert!(picture.pixels()[..1200].iter().all(|pixel| pixel.red() == 255 && pixel.alpha() == 255));
}
