//! Made-up runs, whose numbers are known by hand or follow a rule.

use std::fmt::Write as _;

use page::Files;
use serde_json::{Value, json};

pub(crate) const HISTORY: &str = "step,epoch,seconds,loss,holdout_loss\n";
pub(crate) const CLICK_HISTORY: &str =
    "step,epoch,seconds,loss,holdout_loss,holdout_auc,holdout_normalised_entropy,holdout_calibration\n";
pub(crate) const TIMINGS: &str = "worker,step,fetch_us,decode_us,batch_wait_us,compute_us,exchange_write_us,exchange_wait_us,\
                           exchange_read_us,apply_us,decision_us,bytes_written,bytes_read\n";

fn digest(digit: char) -> String {
    format!("xxh3-128:{}", String::from(digit).repeat(32))
}

/// What reports of all kinds have, for so many steps.
fn report(steps: u64, workers: u32, of_model: Value) -> Value {
    let mut report = json!({
        "format": "gristmill.run", "version": 1, "tool": "train 0.1.0", "output": "runs/made", "unchanged": false,
        "identity": digest('1'), "manifest": "made.json", "manifest_digest": digest('2'),
        "workers": workers, "stopped_by": "max_epochs", "steps": steps, "epochs": 2, "model_epoch": 1,
        "model_digest": digest('3'), "history_digest": digest('4'), "rows_per_second": 4_954_183.0, "seconds": 7.872,
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut report, of_model) {
        all.extend(more);
    }
    report
}

/// Four steps of a factorisation by two workers that exchange gradients, with a hand-over and scores.
pub(crate) fn ratings() -> (Value, Files) {
    let settings = json!({
        "seed": 8, "factors": 20, "biases": true, "learning_rate": 4.0, "momentum": 0.8, "l2": 0.05, "step_batches": 2,
        "reduce": "sum",
    });
    let report = report(
        4,
        2,
        json!({
            "model": "pmf", "settings": settings, "train_rmse": 0.6684, "holdout_rmse": 0.7293,
            "baselines": { "mean": 0.9739, "effects": 0.8227 },
        }),
    );
    let history = format!("{HISTORY}0,0,0.5,0.99,\n1,0,1.0,0.95,0.9\n2,1,1.5,0.8,\n3,1,2.0,0.7,0.7293\n");
    let mut timings = TIMINGS.to_owned();
    for (step, worker) in [(0, 1), (0, 0), (1, 0), (1, 1), (3, 1), (3, 0), (2, 0), (2, 1)] {
        let _ = writeln!(timings, "{worker},{step},100,200,1000,200000,3000,50000,6000,40000,9000,1000,{}", 500 + step);
    }
    let lives = "worker,incarnation,began_by,first_step,last_step\n\
                 0,0,start,0,3\n1,0,start,0,1\n1,1,handover,2,3\n1,2,relaunch,,\n";
    let scores = "stars,rows,mean_error,rmse\n0.5,10,1.25,1.5\n3,200,0.01,0.6\n5,90,-0.5,0.9\n";
    let files = Files {
        name: "runs/movies".to_owned(),
        report: report.to_string().into_bytes(),
        history: history.into_bytes(),
        timings: timings.into_bytes(),
        lives: Some(lives.as_bytes().to_vec()),
        scores: Some(scores.as_bytes().to_vec()),
    };
    (report, files)
}

/// Four steps of a logistic regression by functions, at a loss above the baseline, with costs and a prediction.
pub(crate) fn clicks() -> (Value, Files) {
    let settings = json!({
        "seed": 8, "intercept": true, "learning_rate": 0.005, "lr_decay": "sqrt-epoch", "beta1": 0.9, "beta2": 0.999,
        "l2": 6e-6, "step_batches": 4, "reduce": "mean",
    });
    let usage = json!({
        "gb_seconds": 1234.5, "requests": 31, "s3_puts": 2, "s3_gets": 400, "redis_hours": 0.02, "broker_hours": 0.02,
    });
    let cost = |compute: f64| {
        json!({
            "compute": compute, "requests": 0.0001, "s3_puts": 0.0002, "s3_gets": 0.0003, "redis": 0.0004,
            "broker": 0.0005, "total": compute + 0.0015,
        })
    };
    let predicted = json!({
        "workers": 24, "step_batches": 4, "exchange": "all_to_all", "step_seconds": 0.5, "compute_seconds": 0.2,
        "exchange_seconds": 0.2, "apply_seconds": 0.1, "steps_per_epoch": 2, "epoch_seconds": 1.0,
        "rows_per_second": 1e6, "run_seconds": 6.5, "lives": 1, "usage": usage, "cost": cost(0.0185),
    });
    let functions = json!({
        "function": "gristmill", "version": "7", "memory_mb": 2048, "architecture": "arm64", "handovers": 5,
        "relaunches": 2, "usage": usage, "cost": cost(0.0206), "prices_of": "2026-11-23", "predicted": predicted,
    });
    let report = report(
        4,
        24,
        json!({
            "model": "lr", "settings": settings, "train_log_loss": 0.5011,
            "holdout": { "log_loss": 0.6012, "auc": 0.7809, "normalised_entropy": 1.0321, "calibration": 1.0022 },
            "base_log_loss": 0.5696, "functions": functions,
        }),
    );
    let history = format!(
        "{CLICK_HISTORY}0,0,0.5,0.69,,,,\n1,0,1.0,0.65,0.62,0.7,1.05,0.9\n2,1,1.5,0.62,,,,\n\
         3,1,2.0,0.61,0.6012,0.7809,1.0321,1.0022\n"
    );
    let mut timings = TIMINGS.to_owned();
    for (step, worker) in (0..4).flat_map(|step| (0..24).map(move |worker| (step, worker))) {
        let _ = writeln!(timings, "{worker},{step},1,2,3,400000,5000,60000,7000,8000,9000,0,0");
    }
    let scores = "rows,clicks,predicted\n100,5,0.04\n100,20,0.21\n50,30,0.6\n";
    let files = Files {
        name: "runs/clicks".to_owned(),
        report: report.to_string().into_bytes(),
        history: history.into_bytes(),
        timings: timings.into_bytes(),
        lives: None,
        scores: Some(scores.as_bytes().to_vec()),
    };
    (report, files)
}

/// A long run of a click model by many workers: numbers by rule, with noise, spikes, hand-overs and deaths.
pub(crate) fn long(steps: u64, workers: u32) -> Files {
    let (mut report, _) = clicks();
    let mut state = 7_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    report["steps"] = json!(steps);
    report["workers"] = json!(workers);
    let epochs = 20;
    report["epochs"] = json!(epochs);
    report["model_epoch"] = json!(epochs - 1);
    report["holdout"]["log_loss"] = json!(0.4612);
    report["holdout"]["normalised_entropy"] = json!(0.81);
    let mut history = CLICK_HISTORY.to_owned();
    let per_epoch = steps / epochs;
    for step in 0..steps {
        let done = step as f64 / steps as f64;
        let spike = if step % 9973 == 9000 { 0.2 } else { 0.0 };
        let loss = 0.45 + 0.2 * (-done * 9.0).exp() + 0.03 * (noise() - 0.5) + spike;
        let _ = write!(history, "{step},{},{:.6},{loss},", step / per_epoch, (step + 1) as f64 * 0.043);
        if step % per_epoch == per_epoch - 1 {
            let auc = 0.78 - 0.08 * (-done * 9.0).exp();
            let _ = write!(history, "{},{auc},{},{}", 0.461 + 0.1 * (-done * 9.0).exp(), 0.81, 1.01 - 0.02 * done);
        } else {
            history.push_str(",,,");
        }
        history.push('\n');
    }
    let mut timings = TIMINGS.to_owned();
    for worker in 0..workers {
        for step in 0..steps {
            let slow = if step % 4001 == 17 { 8 } else { 1 };
            let jitter = (noise() * 3000.0) as u64;
            let _ = writeln!(
                timings,
                "{worker},{step},{},{},{},{},{},{},{},{},{},{},{}",
                4000 + jitter,
                2000,
                jitter / 10,
                15_000 + 200 * u64::from(worker) + jitter,
                1500,
                (9000 - jitter) * slow,
                2500,
                5000,
                3000,
                80_000 + jitter,
                23 * 80_000 + jitter
            );
        }
    }
    let mut lives = "worker,incarnation,began_by,first_step,last_step\n".to_owned();
    for worker in 0..workers {
        let life = steps / 4;
        for incarnation in 0..4 {
            let first = if incarnation == 0 { 0 } else { incarnation * life + u64::from(worker) * 7 };
            let last = (incarnation + 1) * life + u64::from(worker) * 7 - 1;
            let began = match (incarnation, worker % 7) {
                (0, _) => "start",
                (2, 3) => "relaunch",
                _ => "handover",
            };
            let _ = writeln!(lives, "{worker},{incarnation},{began},{first},{}", last.min(steps - 1));
        }
    }
    let mut scores = "rows,clicks,predicted\n".to_owned();
    for bin in 0..1000_u64 {
        let p = 1.0 / (1.0 + (5.0 - bin as f64 * 0.008).exp());
        let rows = 1 + (2000.0 * (-((bin as f64 - 450.0) / 160.0).powi(2)).exp()) as u64;
        let clicks = ((rows as f64 * p * (1.0 + 0.1 * (noise() - 0.5))).round() as u64).min(rows);
        let _ = writeln!(scores, "{rows},{clicks},{p}");
    }
    Files {
        name: "s3://models/criteo/runs/2026-11-23-long".to_owned(),
        report: report.to_string().into_bytes(),
        history: history.into_bytes(),
        timings: timings.into_bytes(),
        lives: Some(lives.into_bytes()),
        scores: Some(scores.into_bytes()),
    }
}
