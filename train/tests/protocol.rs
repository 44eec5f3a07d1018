//! Supervisor and workers as pure state machines on a simulated network that delays, reorders between senders and repeats
//! messages: every run ends, every batch counts once an epoch, and the history does not depend on the network.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use random::Stream;
use schemas::exit::ErrorKind;
use schemas::message::{BatchLoss, Envelope, Message, Milestone, Next, Party, StepTimings};
use schemas::report::StopReason;
use train::model::Metric;
use train::protocol::supervisor::{self, Finished, Outcome, Rules, Supervisor};
use train::protocol::worker::{self, Worker};
use train::protocol::{Refusal, envelope};
use train_core::order::{Schedule, worker_of_slot};

const RUN: &str = "run";

fn rules(n_workers: u32, n_batches: u32, step_batches: u32) -> Rules {
    Rules {
        n_workers,
        schedule: Schedule::new(n_batches, step_batches),
        n_holdout_batches: 0,
        metric: Metric::Rmse,
        holdout_base: 0.0,
        max_epochs: 3,
        max_time: None,
        target_loss: None,
        target_holdout_loss: None,
        patience: None,
        silence_max: Duration::from_secs(60),
    }
}

/// A loss that tells from which slot and step it came.
fn loss(step: u64, slot: u32) -> BatchLoss {
    BatchLoss { slot, loss_sum: 10.0 + (step * 31 + u64::from(slot) * 7) as f64 * 0.01, rows: 10 + u64::from(slot % 2) }
}

#[derive(Debug, Default, PartialEq)]
struct Run {
    /// (step, loss bits) of the history.
    steps: Vec<(u64, u64)>,
    evaluations: Vec<(u64, u64)>,
    outcome: Option<Outcome>,
    /// How often each (step, slot) was computed.
    computed: BTreeMap<(u64, u32), u32>,
    timings: Vec<(u32, u64)>,
}

/// Drives one run; `seed` decides the order of everything the protocol leaves open.
fn simulate(rules: &Rules, seed: u64) -> Run {
    let mut chance = Stream::new(seed, "network");
    let mut supervisor = Supervisor::new(RUN, rules.clone());
    let mut workers: Vec<Worker> = (0..rules.n_workers).map(|_| Worker::new(RUN)).collect();
    // One queue a link, so that messages of one sender stay in order.
    let mut to_supervisor: Vec<VecDeque<Envelope>> = vec![VecDeque::new(); workers.len()];
    let mut to_worker: Vec<VecDeque<Envelope>> = vec![VecDeque::new(); workers.len()];
    let mut work: Vec<VecDeque<worker::Event>> = vec![VecDeque::from([worker::Event::Launched]); workers.len()];
    let mut published: BTreeMap<u64, u32> = BTreeMap::new();
    let mut run = Run::default();
    for tick in 0..200_000u64 {
        if run.outcome.is_some() && workers.iter().all(Worker::ended) {
            return run;
        }
        let w = chance.below(workers.len() as u64) as usize;
        match chance.below(3) {
            0 => {
                if let Some(message) = deliver(&mut to_supervisor[w], &mut chance) {
                    for command in
                        supervisor.handle(supervisor::Event::Received(message), Duration::from_millis(tick)).unwrap()
                    {
                        match command {
                            supervisor::Command::Broadcast(message) => {
                                let message = envelope(RUN, Party::Supervisor, 0, message);
                                to_worker.iter_mut().for_each(|queue| queue.push_back(message.clone()));
                            }
                            supervisor::Command::Step(r) => run.steps.push((r.step, r.loss.to_bits())),
                            supervisor::Command::Evaluation(r) => run.evaluations.push((r.epoch, r.loss.to_bits())),
                            supervisor::Command::Timings { worker, timings } => {
                                run.timings.push((worker, timings.step))
                            }
                            supervisor::Command::End(outcome) => {
                                assert!(run.outcome.is_none(), "a run ends once");
                                run.outcome = Some(outcome);
                            }
                        }
                    }
                }
                continue;
            }
            1 => {
                // A worker that applies takes only what the shell would: it may receive at any time.
                let Some(message) = deliver(&mut to_worker[w], &mut chance) else { continue };
                let commands = workers[w].handle(worker::Event::Received(message)).unwrap();
                carry_out(rules, w, commands, &mut work[w], &mut to_supervisor[w], &mut published, &mut run);
            }
            _ => {
                // An apply waits until all slots of its step were published.
                if let Some(worker::Event::Applied { timings }) = work[w].front()
                    && published.get(&timings.step).copied().unwrap_or(0) < rules.schedule.n_slots(timings.step)
                {
                    continue;
                }
                let Some(event) = work[w].pop_front() else { continue };
                let commands = workers[w].handle(event).unwrap();
                carry_out(rules, w, commands, &mut work[w], &mut to_supervisor[w], &mut published, &mut run);
            }
        }
    }
    panic!("seed {seed}: the run did not end; {} steps were recorded", run.steps.len());
}

/// The first message of the link, which now and then stays there to be delivered again.
fn deliver(link: &mut VecDeque<Envelope>, chance: &mut Stream) -> Option<Envelope> {
    let message = link.front()?.clone();
    if chance.below(4) > 0 {
        link.pop_front();
    }
    Some(message)
}

fn carry_out(
    rules: &Rules,
    w: usize,
    commands: Vec<worker::Command>,
    work: &mut VecDeque<worker::Event>,
    out: &mut VecDeque<Envelope>,
    published: &mut BTreeMap<u64, u32>,
    run: &mut Run,
) {
    let mine = |n: u32| (0..n).filter(move |&slot| worker_of_slot(slot, rules.n_workers) as usize == w);
    for command in commands {
        match command {
            worker::Command::Send(message) => out.push_back(envelope(RUN, Party::Worker(w as u32), 0, message)),
            worker::Command::Compute { step } => {
                let losses: Vec<_> = mine(rules.schedule.n_slots(step)).map(|slot| loss(step, slot)).collect();
                for l in &losses {
                    *run.computed.entry((step, l.slot)).or_default() += 1;
                }
                *published.entry(step).or_default() += losses.len() as u32;
                work.push_back(worker::Event::Computed { losses });
            }
            worker::Command::Apply { step } => {
                work.push_back(worker::Event::Applied { timings: StepTimings { step, ..StepTimings::default() } });
            }
            worker::Command::Evaluate { epoch } => {
                let losses = mine(rules.n_holdout_batches).map(|slot| loss(1000 - 100 * epoch, slot)).collect();
                work.push_back(worker::Event::Evaluated { losses, scores: None });
            }
            worker::Command::KeepModel | worker::Command::Finish { .. } | worker::Command::Abort => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_run_ends_with_the_same_history(
        n_workers in 1u32..9, n_batches in 1u32..20, step_batches in 1u32..9, n_holdout_batches in 0u32..5, seed: u64,
    ) {
        let rules = Rules { n_holdout_batches, holdout_base: 10.0, ..rules(n_workers, n_batches, step_batches) };
        let run = simulate(&rules, seed);
        let steps = 3 * rules.schedule.steps_per_epoch();
        let Some(Outcome::Finished(Finished { reason, steps: done, .. })) = run.outcome else { panic!("{:?}", run.outcome) };
        prop_assert_eq!((reason, done), (StopReason::MaxEpochs, steps));
        prop_assert!(run.steps.iter().map(|s| s.0).eq(0..steps));
        for step in 0..steps {
            for slot in 0..rules.schedule.n_slots(step) {
                prop_assert_eq!(run.computed.get(&(step, slot)), Some(&1));
            }
        }
        prop_assert_eq!(run.evaluations.len(), if n_holdout_batches > 0 { 3 } else { 0 });
        // Every worker accounts for every step once.
        let mut timings = run.timings.clone();
        timings.sort_unstable();
        let expected: Vec<_> = (0..n_workers).flat_map(|w| (0..steps).map(move |s| (w, s))).collect();
        prop_assert_eq!(timings, expected);
        // Other workers, another network: the same history.
        let other = simulate(&Rules { n_workers: 1 + n_workers % 4, ..rules.clone() }, seed ^ 1);
        prop_assert_eq!(run.steps, other.steps);
        prop_assert_eq!(run.evaluations, other.evaluations);
    }
}

/// Feeds a supervisor of one worker with losses, one a step, and gives what it decided.
fn decide(rules: Rules, losses: &[f64]) -> (Vec<Message>, Option<Outcome>) {
    let mut supervisor = Supervisor::new(RUN, rules);
    let (mut decisions, mut outcome) = (Vec::new(), None);
    let mut tell = |message: Message, at: u64| {
        let message = envelope(RUN, Party::Worker(0), 0, message);
        for command in supervisor.handle(supervisor::Event::Received(message), Duration::from_secs(at)).unwrap() {
            match command {
                supervisor::Command::Broadcast(message) => decisions.push(message),
                supervisor::Command::End(end) => outcome = Some(end),
                supervisor::Command::Step(_)
                | supervisor::Command::Evaluation(_)
                | supervisor::Command::Timings { .. } => {}
            }
        }
    };
    tell(Message::Joined, 0);
    for (step, &loss_sum) in (0..).zip(losses) {
        let losses = vec![BatchLoss { slot: 0, loss_sum, rows: 1 }];
        tell(Message::Computed { step, losses, timings: None }, step + 1);
    }
    tell(Message::Finished { timings: None }, 99);
    (decisions, outcome)
}

fn one_batch_an_epoch() -> Rules {
    Rules { max_epochs: 100, ..rules(1, 1, 1) }
}

#[test]
fn a_target_must_hold_for_ten_steps_in_a_row() {
    let rules = Rules { target_loss: Some(0.5), ..one_batch_an_epoch() };
    let mut losses = vec![1.0];
    losses.extend([0.2; 9]);
    losses.push(0.3);
    losses.extend([0.25; 10]);
    let (_, outcome) = decide(rules, &losses);
    let end = Outcome::Finished(Finished { reason: StopReason::TargetLoss, steps: 21, best: None });
    assert_eq!(outcome, Some(end), "0.25 is an RMSE of 0.5; the row of ten begins after 0.3");
}

#[test]
fn time_and_divergence_end_a_run() {
    let rules = Rules { max_time: Some(Duration::from_secs(4)), ..one_batch_an_epoch() };
    let (_, outcome) = decide(rules, &[1.0; 10]);
    assert_eq!(outcome, Some(Outcome::Finished(Finished { reason: StopReason::MaxTime, steps: 4, best: None })));
    for bad in [4.1, f64::NAN, f64::INFINITY] {
        let (decisions, outcome) = decide(one_batch_an_epoch(), &[1.0, 3.9, bad, 1.0]);
        assert_eq!(decisions.last(), Some(&Message::Abort));
        assert!(matches!(outcome, Some(Outcome::Diverged { step: 2, first_loss: 1.0, .. })), "{outcome:?}");
    }
}

#[test]
fn the_best_epoch_is_kept_and_patience_ends_the_run() {
    let rules = Rules { n_holdout_batches: 1, patience: Some(2), ..one_batch_an_epoch() };
    let mut supervisor = Supervisor::new(RUN, rules);
    let mut tell = |message| {
        let message = envelope(RUN, Party::Worker(0), 0, message);
        let commands = supervisor.handle(supervisor::Event::Received(message), Duration::ZERO).unwrap();
        commands.into_iter().find_map(|c| match c {
            supervisor::Command::Broadcast(Message::Proceed { keep_model, next, .. }) => Some((keep_model, next)),
            _ => None,
        })
    };
    tell(Message::Joined);
    let mut decisions = Vec::new();
    for (epoch, holdout) in (0..).zip([0.9, 0.8, 0.85, 0.81]) {
        let losses = |loss_sum| vec![BatchLoss { slot: 0, loss_sum, rows: 1 }];
        let after = tell(Message::Computed { step: epoch, losses: losses(1.0), timings: None });
        assert_eq!(after, Some((false, Next::Evaluate(epoch))));
        decisions.extend(tell(Message::Evaluated { epoch, losses: losses(holdout), scores: None }));
    }
    let end = Next::End { reason: StopReason::Patience, save_kept: true };
    assert_eq!(decisions, [(true, Next::Step(1)), (true, Next::Step(2)), (false, Next::Step(3)), (false, end)]);
}

#[test]
fn divergence_shows_on_held_out_rows_too() {
    // Losses are mean squares: the first step's is 1, so 4 is the bound, or four times that of the mean predictor.
    for (holdout_base, loss, diverged) in [
        (0.0, 3.9, false),
        (0.0, 4.1, true),
        (0.5, 4.1, true),
        (3.0, 35.9, false),
        (3.0, 36.1, true),
        (0.0, f64::NAN, true),
    ] {
        let rules = Rules { n_holdout_batches: 1, max_epochs: 1, holdout_base, ..one_batch_an_epoch() };
        let mut supervisor = Supervisor::new(RUN, rules);
        let losses = |loss_sum| vec![BatchLoss { slot: 0, loss_sum, rows: 1 }];
        let mut commands = Vec::new();
        for message in [
            Message::Joined,
            Message::Computed { step: 0, losses: losses(1.0), timings: None },
            Message::Evaluated { epoch: 0, losses: losses(loss), scores: None },
        ] {
            let message = envelope(RUN, Party::Worker(0), 0, message);
            commands = supervisor.handle(supervisor::Event::Received(message), Duration::ZERO).unwrap();
        }
        let ended = supervisor::Command::End(Outcome::Diverged { step: 0, loss: loss.sqrt(), first_loss: 1.0 });
        assert_eq!(format!("{:?}", commands.last()) == format!("{:?}", Some(ended)), diverged, "{loss}: {commands:?}");
    }
}

#[test]
fn a_silent_worker_is_lost_by_name() {
    let mut supervisor = Supervisor::new(RUN, rules(3, 9, 3));
    let joined = |w| supervisor::Event::Received(envelope(RUN, Party::Worker(w), 0, Message::Joined));
    supervisor.handle(joined(1), Duration::from_secs(1)).unwrap();
    assert_eq!(supervisor.handle(supervisor::Event::Tick, Duration::from_secs(60)).unwrap(), []);
    let commands = supervisor.handle(supervisor::Event::Tick, Duration::from_secs(62)).unwrap();
    let lost = Outcome::Lost { workers: vec![0, 2], waiting_for: Milestone::Start };
    assert_eq!(commands, [supervisor::Command::Broadcast(Message::Abort), supervisor::Command::End(lost)]);
}

#[test]
fn a_failure_stops_everybody_and_strangers_are_refused() {
    let mut supervisor = Supervisor::new(RUN, rules(2, 9, 3));
    let mut hear = |sender, incarnation, message| {
        supervisor.handle(supervisor::Event::Received(envelope(RUN, sender, incarnation, message)), Duration::ZERO)
    };
    assert!(matches!(hear(Party::Worker(7), 0, Message::Joined), Err(Refusal::Unexpected { .. })));
    assert!(matches!(hear(Party::Supervisor, 0, Message::Joined), Err(Refusal::Unexpected { .. })));
    hear(Party::Worker(0), 2, Message::Joined).unwrap();
    assert!(matches!(hear(Party::Worker(0), 1, Message::Joined), Err(Refusal::Stale { found: 1, current: 2, .. })));
    let failed = Message::Failed { kind: ErrorKind::Data, error: "bad".to_owned(), fix: None };
    let commands = hear(Party::Worker(1), 0, failed).unwrap();
    assert_eq!(commands[0], supervisor::Command::Broadcast(Message::Abort));
    assert!(matches!(&commands[1], supervisor::Command::End(Outcome::Failed { worker: 1, kind: ErrorKind::Data, .. })));
}
