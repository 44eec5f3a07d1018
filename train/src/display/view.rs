//! What is known of a run, gathered from what happens to it. There is no clock here: time comes in as an argument.

use std::collections::VecDeque;

use schemas::live::{Evaluated, Lane, Phase, Point, Seen, Shares};
use schemas::message::Losses;
use schemas::records::{EvaluationRecord, StepRecord};

use crate::model::Metric;

/// Losses that are kept, at most.
const POINTS_MAX: usize = 240;

/// Seconds over which rates are taken.
const RATE_SECONDS: f64 = 5.0;

/// What has happened since the last time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// The last step.
    pub step: Option<StepRecord>,
    /// Rows of all steps so far.
    pub rows: u64,
    /// The losses of the steps since the last time.
    pub losses: Losses,
    /// Evaluations.
    pub evaluations: Vec<EvaluationRecord>,
    /// What the workers are at; empty when nothing is said of it.
    pub lanes: Vec<Lane>,
}

/// The run, as it is shown.
#[derive(Clone, Debug)]
pub struct View {
    metric: Metric,
    seen: Seen,
    train: Curve,
    /// Seconds, steps and rows, of late.
    window: VecDeque<(f64, u64, u64)>,
}

impl View {
    /// A run of which nothing is known but what stays the same, in `seen`.
    #[must_use]
    pub fn new(metric: Metric, seen: Seen) -> Self {
        Self { metric, seen, train: Curve::default(), window: VecDeque::new() }
    }

    /// Takes what has happened until `seconds` after the start.
    pub fn hear(&mut self, news: News, seconds: f64) {
        let seen = &mut self.seen;
        if let Some(step) = news.step {
            if step.step + 1 < seen.steps {
                self.window.clear();
                (seen.steps_per_second, seen.rows_per_second) = (0.0, 0.0);
                self.train.truncate(step.step);
                seen.held_out.retain(|point| point.step <= step.step);
            }
            (seen.steps, seen.rows) = (step.step + 1, news.rows);
            self.train.add(step.step, news.losses);
        }
        for record in news.evaluations {
            let evaluated = Evaluated { epoch: record.epoch, loss: record.loss };
            seen.evaluated = Some(evaluated);
            if record.best {
                seen.best = Some(evaluated);
            }
            seen.held_out.retain(|point| point.step < record.step);
            seen.held_out.push(Point { step: record.step, loss: record.loss });
            if seen.held_out.len() > POINTS_MAX {
                let mut at = 0;
                // The last one stays.
                seen.held_out.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
            }
        }
        if !news.lanes.is_empty() {
            seen.bytes_per_step = news.lanes.iter().map(|lane| lane.bytes).sum();
            seen.lanes = news.lanes;
        }
        self.pass(seconds);
    }

    /// It is `seconds` after the start.
    fn pass(&mut self, seconds: f64) {
        let Seen { steps, rows, .. } = self.seen;
        self.seen.seconds = seconds;
        // Two whole windows of steps would say how it was, not how it is.
        while self.window.len() > 1 && self.window[1].0 <= seconds - RATE_SECONDS {
            self.window.pop_front();
        }
        self.window.push_back((seconds, steps, rows));
        let (since, steps_then, rows_then) = self.window[0];
        let span = seconds - since;
        if span > 0.0 {
            self.seen.steps_per_second = steps.saturating_sub(steps_then) as f64 / span;
            self.seen.rows_per_second = rows.saturating_sub(rows_then) as f64 / span;
        }
    }

    /// As many workers as there are `lives`, of each the last that was launched; one that was not heard of yet is starting.
    pub fn launched(&mut self, lives: impl Iterator<Item = (u32, u32)>) {
        for (worker, incarnation) in lives {
            let starting =
                Lane { worker, incarnation, phase: Phase::Starting, silence: 0, shares: Shares::default(), bytes: 0 };
            // Lanes are in the order of the workers, and none is left out.
            match self.seen.lanes.get_mut(worker as usize) {
                Some(lane) if lane.incarnation < incarnation && lane.phase != Phase::Leaving => *lane = starting,
                Some(_) => {}
                None => self.seen.lanes.push(starting),
            }
        }
    }

    /// What changes apart from the steps: what it costs, how often parts were launched again, what is out of the ordinary.
    pub const fn besides(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// The run at `seconds` after the start.
    pub fn at(&mut self, seconds: f64) -> &Seen {
        self.pass(seconds);
        self.seen.train = self.train.points(self.metric);
        &self.seen
    }
}

/// Training losses: means over stretches of steps. When there are too many stretches, each two become one.
#[derive(Clone, Debug, Default)]
struct Curve {
    stretches: Vec<Stretch>,
    /// Pieces of news that a stretch is made of.
    pieces: u32,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    last: u64,
    losses: Losses,
    pieces: u32,
}

impl Curve {
    fn add(&mut self, last: u64, losses: Losses) {
        if losses.rows == 0 || !losses.loss_sum.is_finite() {
            return;
        }
        let whole = self.pieces.max(1);
        match self.stretches.last_mut().filter(|stretch| stretch.pieces < whole) {
            Some(stretch) => stretch.extend(Stretch { last, losses, pieces: 1 }),
            None => self.stretches.push(Stretch { last, losses, pieces: 1 }),
        }
        if self.stretches.len() > POINTS_MAX {
            let pairs = self.stretches.chunks(2).map(|pair| {
                let mut one = pair[0];
                pair[1..].iter().for_each(|&next| one.extend(next));
                one
            });
            self.stretches = pairs.collect();
            self.pieces = 2 * whole;
        }
    }

    fn truncate(&mut self, last: u64) {
        self.stretches.retain(|stretch| stretch.last <= last);
    }

    fn points(&self, metric: Metric) -> Vec<Point> {
        let mean = |Losses { loss_sum, rows }| metric.of_mean(loss_sum / rows as f64);
        self.stretches.iter().map(|s| Point { step: s.last, loss: mean(s.losses) }).collect()
    }
}

impl Stretch {
    fn extend(&mut self, next: Self) {
        self.last = next.last;
        self.losses.loss_sum += next.losses.loss_sum;
        self.losses.rows += next.losses.rows;
        self.pieces += next.pieces;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn step(step: u64) -> StepRecord {
        StepRecord { step, epoch: 0, time: Duration::ZERO, loss: 1.0, loss_sum: 10.0, rows: 10 }
    }

    /// The step `last`, as the only one since the last time, whose rows have the mean loss `mean`.
    fn news(last: u64, mean: f64) -> News {
        let losses = Losses { loss_sum: 10.0 * mean, rows: 10 };
        News { step: Some(step(last)), rows: 10 * (last + 1), losses, ..News::default() }
    }

    fn evaluation(step: u64, loss: f64, best: bool) -> EvaluationRecord {
        EvaluationRecord { epoch: step / 10, step, loss, clicks: None, best }
    }

    fn view() -> View {
        View::new(Metric::LogLoss, Seen::default())
    }

    #[test]
    fn rates_are_those_of_the_last_seconds_and_sink_when_nothing_happens() {
        let mut view = view();
        // A hundred slow seconds, then ten fast ones.
        let mut steps = 0;
        for second in 0..100 {
            view.hear(news(steps, 1.0), f64::from(second));
            steps += 1;
        }
        assert!((view.at(99.0).steps_per_second - 1.0).abs() < 1e-9);
        for second in 100..110 {
            steps += 20;
            view.hear(news(steps, 1.0), f64::from(second));
        }
        let seen = view.at(109.0);
        assert!((seen.steps_per_second - 20.0).abs() < 1e-9, "{}", seen.steps_per_second);
        assert!((seen.rows_per_second - 200.0).abs() < 1e-9, "{}", seen.rows_per_second);
        assert!(view.at(112.0).steps_per_second < 11.0);
        assert!(view.at(120.0).steps_per_second.abs() < 1e-9);
    }

    #[test]
    fn losses_are_thinned_to_means_of_neighbours() {
        let mut view = view();
        let n = 10_000;
        for at in 0..n {
            view.hear(news(at, at as f64), at as f64);
        }
        let points = &view.at(n as f64).train;
        assert!((POINTS_MAX / 2..=POINTS_MAX).contains(&points.len()), "{}", points.len());
        let mut first = 0;
        for point in points {
            let mean = (first..=point.step).sum::<u64>() as f64 / (point.step - first + 1) as f64;
            assert!((point.loss - mean).abs() < 1e-9, "steps {first} to {}: {} is not {mean}", point.step, point.loss);
            first = point.step + 1;
        }
        assert_eq!(first, n, "no step is left out");
    }

    #[test]
    fn evaluations_are_bounded_and_the_best_is_kept() {
        let mut view = view();
        for epoch in 0..1000 {
            let evaluations = vec![evaluation(10 * epoch + 9, 1.0 / (1.0 + epoch as f64), epoch == 3)];
            view.hear(News { evaluations, ..News::default() }, 0.0);
        }
        let seen = view.at(0.0);
        assert!(seen.held_out.len() <= POINTS_MAX, "{}", seen.held_out.len());
        assert!(seen.held_out.is_sorted_by_key(|point| point.step));
        assert_eq!(seen.best, Some(Evaluated { epoch: 3, loss: 0.25 }));
        assert_eq!(seen.evaluated, Some(Evaluated { epoch: 999, loss: 0.001 }));
    }

    #[test]
    fn going_back_forgets_what_came_after() {
        let mut view = view();
        for at in 0..20 {
            view.hear(news(at, 1.0), at as f64);
        }
        view.hear(News { evaluations: vec![evaluation(19, 0.5, true)], ..News::default() }, 20.0);
        view.hear(news(5, 2.0), 21.0);
        let seen = view.at(21.0);
        assert_eq!((seen.steps, seen.rows), (6, 60));
        assert!(seen.train.iter().all(|point| point.step <= 5), "{:?}", seen.train);
        assert_eq!(seen.held_out, []);
        assert!(seen.steps_per_second.abs() < 1e-9);
    }

    #[test]
    fn what_is_no_number_is_not_drawn() {
        let mut view = view();
        view.hear(news(0, f64::NAN), 0.0);
        view.hear(news(1, f64::INFINITY), 0.0);
        assert_eq!(view.at(0.0).train, []);
    }

    #[test]
    fn a_worker_that_was_launched_again_is_starting_until_it_is_heard_of() {
        let mut view = view();
        view.launched([(0, 0), (1, 0)].into_iter());
        let phases = |view: &mut View| -> Vec<_> {
            view.at(0.0).lanes.iter().map(|lane| (lane.worker, lane.incarnation, lane.phase)).collect()
        };
        assert_eq!(phases(&mut view), [(0, 0, Phase::Starting), (1, 0, Phase::Starting)]);
        let heard: Vec<Lane> = view.at(0.0).lanes.iter().map(|lane| Lane { phase: Phase::Stepping, ..*lane }).collect();
        view.hear(News { lanes: heard.clone(), ..News::default() }, 1.0);
        view.launched([(0, 0), (1, 0)].into_iter());
        assert_eq!(phases(&mut view), [(0, 0, Phase::Stepping), (1, 0, Phase::Stepping)]);
        view.launched([(0, 0), (1, 1)].into_iter());
        assert_eq!(phases(&mut view), [(0, 0, Phase::Stepping), (1, 1, Phase::Starting)]);
        // One that hands over works on while its successor begins.
        let mut leaving = heard;
        leaving[1].phase = Phase::Leaving;
        view.hear(News { lanes: leaving, ..News::default() }, 2.0);
        view.launched([(0, 0), (1, 1)].into_iter());
        assert_eq!(phases(&mut view), [(0, 0, Phase::Stepping), (1, 0, Phase::Leaving)]);
    }
}
