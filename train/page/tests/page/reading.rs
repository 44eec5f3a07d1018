//! Files that are not as `train` writes them.

use page::{Files, read};
use proptest::prelude::*;

use crate::made;

/// The error about a run whose files were changed.
#[track_caller]
fn wrong(made: fn() -> (serde_json::Value, Files), change: impl FnOnce(&mut Files)) -> String {
    let (_, mut files) = made();
    change(&mut files);
    read(files).map(|_| ()).unwrap_err().to_string()
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    *bytes = text.replacen(from, to, 1).into_bytes();
}

#[test]
fn what_is_made_is_sound() {
    for made in [made::ratings, made::clicks] {
        read(made().1).unwrap();
    }
}

#[test]
fn a_wrong_line_is_named_with_its_rule() {
    let history = |from: &'static str, to: &'static str| wrong(made::ratings, |f| replace(&mut f.history, from, to));
    assert_eq!(history("1,0,1.0,", "1,0,soon,"), "history.csv:3: `seconds` is `soon`, must be a finite number");
    assert_eq!(history("1,0,1.0,", "1,0,-1,"), "history.csv:3: `seconds` is -1, must not be negative");
    assert_eq!(history("0.95", "NaN"), "history.csv:3: `loss` is `NaN`, must be a finite number");
    assert_eq!(history("2,1,1.5", "3,1,1.5"), "history.csv:4: `step` is 3, must be 2: there is a line for each");
    assert_eq!(history("0.8,", "0.8"), "history.csv:4: there is no `holdout_loss`, the line ends before it");
    assert_eq!(history("0.8,", "0.8,,,"), "history.csv:4: `,` is beyond the last column");
    assert_eq!(history("3,1,2.0,0.7,0.7293\n", ""), "history.csv:4: the file ends after 3 steps, report.json has 4");
    assert_eq!(
        history("step,", "steps,"),
        "history.csv:1: the header is `steps,epoch,seconds,loss,holdout_loss`, must be `step,epoch,seconds,loss,holdout_loss` or \
         `step,epoch,seconds,loss,holdout_loss,holdout_auc,holdout_normalised_entropy,holdout_calibration`"
    );

    let timings = |from: &'static str, to: &'static str| wrong(made::ratings, |f| replace(&mut f.timings, from, to));
    assert_eq!(timings("0,3,100", "0,4,100"), "timings.csv:7: `step` is 4, must be below 4, the steps of history.csv");
    assert_eq!(
        timings("200000", "18446744073709551616"),
        "timings.csv:2: `compute_us` is `18446744073709551616`, must be a whole number below 2^64"
    );
    assert_eq!(timings("1,0,", "4294967296,0,"), "timings.csv:2: `worker` is 4294967296, must be below 2^32");

    let lives =
        |from: &'static str, to: &'static str| wrong(made::ratings, |f| replace(f.lives.as_mut().unwrap(), from, to));
    assert_eq!(
        lives("handover", "hand\u{7}"),
        "lives.csv:4: `began_by` is `hand\\u{7}`, must be one of `start`, `handover`, `relaunch`, `added`, `earlier_session`"
    );
    assert_eq!(
        lives("2,3\n", "3,2\n"),
        "lives.csv:4: `first_step` and `last_step` are 3 and 2, must be in order and below 4, the steps of history.csv"
    );
    assert_eq!(
        lives("relaunch,,", "relaunch,3,"),
        "lives.csv:5: `first_step` and `last_step` must both be there or both be empty"
    );

    let scores =
        |from: &'static str, to: &'static str| wrong(made::clicks, |f| replace(f.scores.as_mut().unwrap(), from, to));
    assert_eq!(
        scores("50,30", "20,30"),
        "scores.csv:4: `clicks` is 30 of 20 `rows`, must be at most as many, and some rows"
    );
    assert_eq!(scores("0.6", "1.6"), "scores.csv:4: `predicted` is 1.6, must be a probability");
    assert_eq!(scores("0.6", "0.1"), "scores.csv:4: `predicted` is 0.1, must not be less than 0.21 in the line before");
    let stars = wrong(made::ratings, |f| replace(f.scores.as_mut().unwrap(), "1.5\n", "x\n"));
    assert_eq!(stars, "scores.csv:2: `rmse` is `x`, must be a finite number");

    let report = |from: &'static str, to: &'static str| wrong(made::ratings, |f| replace(&mut f.report, from, to));
    assert_eq!(
        report("gristmill.run", "other.run"),
        "report.json:1: the format is `other.run 1`, must be `gristmill.run 1`"
    );
    assert!(report("\"steps\"", "\"step\"").starts_with("report.json:1: missing field `steps`"));
}

proptest! {
    /// Numbers of any size are drawn.
    #[test]
    fn no_numbers_make_it_panic(
        losses in prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 8),
        seconds in prop::collection::vec(0.0..f64::MAX, 4),
        times in prop::collection::vec(any::<u64>(), 9),
        predicted in 0.0..1.0_f64, tiny in any::<bool>()
    ) {
        let (_, mut files) = made::clicks();
        let scale = if tiny { 1e-300 } else { 1.0 };
        let mut history = made::CLICK_HISTORY.to_owned();
        for step in 0..4 {
            let [loss, held_out] = [losses[step], losses[step + 4]].map(|loss| loss * scale);
            history += &format!("{step},{},{},{loss},{held_out},{held_out},{loss},{held_out}\n", step / 2, seconds[step]);
        }
        files.history = history.into_bytes();
        let times: Vec<String> = times.iter().map(u64::to_string).collect();
        files.timings = format!("{}7,3,{},{},{}\n", made::TIMINGS, times.join(","), u64::MAX, 1).into_bytes();
        files.scores = Some(format!("rows,clicks,predicted\n{},0,{predicted}\n3,1,1\n", u64::MAX).into_bytes());
        let run = read(files).map_err(|wrong| TestCaseError::fail(wrong.to_string()))?;
        let page = page::html(&[run.clone(), run]);
        prop_assert!(crate::pages::document(&page).is_ok());
        prop_assert!(!page.contains("NaN"));
    }

    /// Whatever is in the files: there is a page, or an error that names one of them.
    #[test]
    fn no_bytes_make_it_panic(
        which in 0..5_usize, at in 0..400_usize, cut in 0..40_usize, put in prop::collection::vec(any::<u8>(), 0..12),
        of_clicks in any::<bool>(), digits in any::<bool>()
    ) {
        let (_, mut files) = if of_clicks { made::clicks() } else { made::ratings() };
        let (mut none, mut no_scores) = (Vec::new(), Vec::new());
        let bytes = match which {
            0 => &mut files.report,
            1 => &mut files.history,
            2 => &mut files.timings,
            3 => files.lives.as_mut().unwrap_or(&mut none),
            _ => files.scores.as_mut().unwrap_or(&mut no_scores),
        };
        // Numbers get further than other bytes.
        let put: Vec<u8> = put.into_iter().map(|byte| if digits { b"0123456789.,-e\n"[usize::from(byte) % 15] } else { byte }).collect();
        let from = at.min(bytes.len());
        let to = (from + cut).min(bytes.len());
        bytes.splice(from..to, put);
        match read(files) {
            Ok(run) => {
                let page = page::html(&[run]);
                prop_assert!(crate::pages::document(&page).is_ok(), "{page}");
            }
            Err(wrong) => {
                let known = ["report.json", "history.csv", "timings.csv", "lives.csv", "scores.csv"];
                prop_assert!(known.contains(&wrong.file.as_str()) && wrong.line > 0, "{wrong}");
            }
        }
    }
}
