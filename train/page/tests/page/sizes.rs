//! The largest run that pages are made for.

use std::time::Instant;

use page::{html, read};

use crate::{browser, made, pages};

#[test]
fn a_hundred_thousand_steps_of_24_workers_make_a_page_below_three_megabytes() {
    let files = made::long(100_000, 24);
    let bytes = files.timings.len();
    let start = Instant::now();
    let run = read(files).unwrap();
    println!("{} MB of timings read in {:?}", bytes / 1_000_000, start.elapsed());
    let start = Instant::now();
    let page = html(&[run]);
    println!("page of {} kB in {:?}", page.len() / 1000, start.elapsed());
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("Each point of the training line is 334 steps"));
    // A loss of one step in 9,973 is 0.2 higher: late in the run all others are below 0.5.
    let document = pages::document(&page).unwrap();
    let losses = pages::cells(&document, "Log loss over time");
    let spikes = losses
        .iter()
        .skip(1)
        .filter(|row| row[4].parse::<f64>().unwrap() > 0.6 && row[3].parse::<f64>().unwrap() < 0.5);
    assert_eq!(spikes.count(), 9, "of ten spikes the first is where the mean is above 0.5");
    let start = Instant::now();
    let dom = browser::open(&page, &[]);
    println!("opened in {:?}, the browser's own start included", start.elapsed());
    assert!(dom.contains("24 workers"));
}
