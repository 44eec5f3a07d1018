//! The largest run that pages are made for.

use std::time::Instant;

use page::{html, read};

use crate::{browser, made};

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
    // The spikes of the training loss are on the page though most steps are not: the largest is above 0.6 in a bucket of 334 steps.
    assert!(page.contains("Each point of the training line is 334 steps"));
    let start = Instant::now();
    let dom = browser::open(&page, &[]);
    println!("opened in {:?}, the browser's own start included", start.elapsed());
    assert!(dom.contains("24 workers"));
}
