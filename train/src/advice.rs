//! What to try when a model turns out no better than something simpler.

use schemas::report::{StopReason, TrainReport, Trained};

/// What to try, when on the held-out rows the model of `report` is no better than the best simple predictor that is known.
#[must_use]
pub fn advice(report: &TrainReport) -> Option<String> {
    let loss = report.trained.holdout_loss()?;
    let (simple, base, settings) = match &report.trained {
        Trained::Pmf { settings, baselines, .. } => {
            let (simple, base) = if baselines.effects < baselines.mean {
                ("user and movie effects", baselines.effects)
            } else {
                ("always the mean", baselines.mean)
            };
            let settings = match (settings.biases, settings.l2 > 0.0) {
                (false, false) => "`--biases --l2 0.05`",
                (false, true) => "`--biases`",
                (true, false) => "`--l2 0.05`",
                (true, true) => "another `--l2`, or a smaller `--learning-rate`",
            };
            (simple, base, settings)
        }
        Trained::Logistic { base_log_loss, .. } => {
            ("always the share of clicks", *base_log_loss, "a smaller `--learning-rate`, or a penalty with `--l2`")
        }
    };
    if loss < base {
        return None;
    }
    // The last epoch was the best one, and might not have stayed it.
    let cut_short = matches!(report.stopped_by, StopReason::MaxEpochs | StopReason::MaxTime)
        && report.model_epoch.is_some_and(|epoch| epoch + 1 >= report.epochs);
    let longer = if cut_short { "more epochs or time; else " } else { "" };
    Some(format!(
        "on the held-out rows the model ({loss:.4}) is no better than {simple} ({base:.4}): try {longer}{settings}"
    ))
}
