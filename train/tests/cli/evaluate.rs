//! `train evaluate`: a finished model has the figures again that its run had.

use schemas::dataset::BaselineRmse;
use schemas::report::{EvaluateReport, Evaluated, Split, Trained};

use crate::clicks::{world, write_manifest};
use crate::runs::{self, Weights, side, stars};
use crate::sandbox::Sandbox;
use crate::shards::{MEAN, NO_HOLDOUT, SMALL, original};

#[test]
fn a_logistic_regression_has_the_figures_of_its_run_to_the_bit() {
    for (sparse, args) in [(true, ""), (false, ""), (true, "--no-intercept --l2 0.001 --lr-decay sqrt-epoch")] {
        let (sandbox, trained) = runs::clicks(sparse, args);
        let Trained::Logistic { holdout: Some(expected), base_log_loss, .. } = trained.trained else {
            panic!("{trained:?}")
        };
        for threads in [1, 2, 3] {
            let ran = sandbox.run(&format!("evaluate --model runs/clicks criteo.json --threads {threads}"));
            let report: EvaluateReport = ran.only_line();
            let Evaluated::Clicks { quality, base_log_loss: base } = report.evaluated else { panic!("{report:?}") };
            let bits = |q: schemas::report::ClickQuality| {
                [Some(q.log_loss), q.auc, q.normalised_entropy, q.calibration].map(|x| x.unwrap().to_bits())
            };
            assert_eq!(bits(quality), bits(expected));
            assert_eq!((base, report.split, report.rows), (Some(base_log_loss), Split::Holdout, 310));
            assert_eq!(
                (&report.model_digest, &report.manifest_digest),
                (&trained.model_digest, &trained.manifest_digest)
            );
            let told =
                format!("runs/clicks on 310 held-out rows of criteo.json: log loss {:.4} nats, AUC ", quality.log_loss);
            assert!(
                ran.stderr.contains(&told) && ran.stderr.contains("always the share of clicks 0.6700"),
                "{}",
                ran.stderr
            );
        }
        // On training rows the figure is that of the weights.
        let report: EvaluateReport = sandbox.run("evaluate --model runs/clicks criteo.json --rows train").only_line();
        let Evaluated::Clicks { quality, base_log_loss } = report.evaluated else { panic!("{report:?}") };
        let weights = Weights::of(&sandbox, "runs/clicks", sparse);
        let losses = world().0.into_iter().map(|row| {
            let p = weights.probability(&row);
            -if row.label == 1 { p.ln() } else { (1.0 - p).ln() }
        });
        let expected = losses.sum::<f64>() / 2000.0;
        assert!((quality.log_loss - expected).abs() < 1e-6, "{quality:?}, {expected}");
        assert_eq!((base_log_loss, report.split, report.rows), (Some(0.68), Split::Train, 2000));
    }
}

#[test]
fn a_matrix_factorisation_has_the_figures_of_its_run() {
    for args in ["", "--biases", "--biases --factors 20 --l2 0.05 --momentum 0.9"] {
        let (sandbox, trained) = if args.contains("20") {
            let sandbox = Sandbox::with(SMALL);
            let report = sandbox.train(&format!("{args} --step-batches 8 --max-epochs 9 -q -o runs/ratings")).report();
            (sandbox, report)
        } else {
            runs::ratings(args)
        };
        let expected = trained.trained.holdout_loss().unwrap();
        let mut mae = Vec::new();
        for threads in [1, 3] {
            let line = format!("evaluate --model runs/ratings ml20m.json --threads {threads}");
            let ran = sandbox.run(&line);
            let report: EvaluateReport = ran.only_line();
            let Evaluated::Ratings { quality, baselines } = report.evaluated else { panic!("{report:?}") };
            let mean = trained.trained.base_loss();
            let told = format!("; always the mean {mean:.4}, user and movie effects {:.4}\n", 0.95 * mean);
            assert!(ran.stderr.contains(&told), "{told}: {}", ran.stderr);
            assert!((quality.rmse - expected).abs() < 1e-9, "{quality:?}, {expected}");
            assert_eq!(
                (report.rows, baselines.map(|b: BaselineRmse| b.mean)),
                (430, Some(trained.trained.base_loss()))
            );
            mae.push(quality.mae.to_bits());
        }
        assert_eq!(mae[0], mae[1]);
        // On training rows the figures are those of the factors.
        let report: EvaluateReport = sandbox.run("evaluate --model runs/ratings ml20m.json --rows train").only_line();
        let Evaluated::Ratings { quality, .. } = report.evaluated else { panic!("{report:?}") };
        let (users, items) = (side(&sandbox, "runs/ratings", "user"), side(&sandbox, "runs/ratings", "item"));
        let shards = manifests::load::shards(sandbox.path("ml20m.json").to_str().unwrap()).unwrap();
        let (mut squares, mut absolute) = (0.0, 0.0);
        for object in shards.batches.iter() {
            let mut rows = manifests::ratings::RatingRows::default();
            let bytes = manifests::load::batch(&shards.place, &object, "test").unwrap();
            manifests::ratings::decode(bytes, &mut rows).unwrap();
            for ((&user, &item), &rating) in rows.users.iter().zip(&rows.items).zip(&rows.ratings) {
                let error = stars(MEAN, &users, &items, original(user), original(item)) - MEAN - f64::from(rating);
                squares += error * error;
                absolute += error.abs();
            }
        }
        assert!((quality.rmse - (squares / 4003.0).sqrt()).abs() < 1e-6, "{quality:?}");
        assert!((quality.mae - absolute / 4003.0).abs() < 1e-6, "{quality:?}");
    }
}

#[test]
fn rows_that_are_not_there_are_told() {
    let sandbox = Sandbox::with(NO_HOLDOUT);
    sandbox.train("--max-epochs 1 -q -o runs/ratings").report();
    let message = "error: `ml20m.json` has no held-out rows\n  fix: measure the others, with `--rows train`";
    sandbox.run("evaluate --model runs/ratings ml20m.json").failed(2, &[message]);
    sandbox.run("evaluate --model runs/ratings absent.json").failed(2, &["absent.json: not found"]);
    sandbox.run("evaluate --model runs/ratings").failed(2, &["<MANIFEST>"]);
    let report: EvaluateReport = sandbox.run("evaluate --model runs/ratings ml20m.json --rows train").only_line();
    assert_eq!(report.rows, 4003);
    let (sandbox, _) = runs::clicks(true, "--max-epochs 1");
    write_manifest(&sandbox.path(""), "bare", true, false);
    sandbox.run("evaluate --model runs/clicks bare.json").failed(2, &["`bare.json` has no held-out rows"]);
}
