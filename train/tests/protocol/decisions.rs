//! What the supervisor decides from losses and times, and whom it listens to.

use std::time::Duration;

use schemas::exit::ErrorKind;
use schemas::message::{Directive, Message, Party, Task, Work};
use schemas::records::{BatchLoss, Finished, Outcome};
use schemas::report::StopReason;
use train::model::Metric;
use train::protocol::course::Rules;
use train::protocol::supervisor::{Checkpoint, Command, Event, Members, Supervisor};
use train::protocol::{Refusal, envelope};
use train_core::order::Schedule;

const RUN: &str = "run";

fn one_batch_an_epoch() -> Rules {
    Rules {
        schedule: Schedule::new(1, 1),
        n_holdout_batches: 0,
        metric: Metric::Rmse,
        holdout_base: 0.0,
        max_epochs: 100,
        max_time: None,
        target_loss: None,
        target_holdout_loss: None,
        patience: None,
    }
}

/// A supervisor without recovery, and its last directive.
struct Post {
    supervisor: Supervisor,
    directive: Directive,
    dismissed: bool,
    outcome: Option<Outcome>,
}

impl Post {
    fn new(rules: Rules, n_workers: u32) -> Self {
        let members = Members { n_workers, silence_max: Duration::from_secs(60), recovery: None };
        let (supervisor, commands) = Supervisor::new(RUN, 0, rules, members, Checkpoint::start(None), Duration::ZERO);
        let Some(Command::Broadcast(Message::Directive(directive))) = commands.first().cloned() else {
            panic!("{commands:?}");
        };
        Self { supervisor, directive, dismissed: false, outcome: None }
    }

    fn see(&mut self, commands: &[Command]) {
        for command in commands {
            match command {
                Command::Broadcast(Message::Directive(directive)) => self.directive = directive.clone(),
                Command::Broadcast(Message::Dismiss) => self.dismissed = true,
                Command::End(outcome) => self.outcome = Some(outcome.clone()),
                _ => {}
            }
        }
    }

    fn hear(&mut self, worker: u32, message: Message, at: u64) {
        let message = envelope(RUN, Party::Worker(worker).life(0), message);
        let commands = self.supervisor.handle(Event::Received(message), Duration::from_secs(at)).unwrap();
        self.see(&commands);
    }

    /// The one worker does what the directive says.
    fn report(&mut self, loss_sum: f64, at: u64) {
        let losses = vec![BatchLoss { slot: 0, loss_sum, rows: 1 }];
        let result = match self.directive.task {
            Task::Step => Work::Computed { losses, timings: None, sizes: None },
            Task::Evaluate { .. } => Work::Evaluated { losses, scores: None },
            Task::End { .. } => Work::Finished { timings: None },
        };
        self.hear(0, Message::Report { turn: self.directive.turn, result, stored: vec![] }, at);
    }
}

/// What the supervisor of one worker makes of `losses`, one a second.
fn decide(rules: Rules, losses: &[f64]) -> Post {
    let mut post = Post::new(rules, 1);
    for (at, &loss) in (1..).zip(losses) {
        if post.outcome.is_none() {
            post.report(loss, at);
        }
    }
    post.report(0.0, 99);
    post
}

#[test]
fn a_target_must_hold_for_ten_steps_in_a_row() {
    let rules = Rules { target_loss: Some(0.5), ..one_batch_an_epoch() };
    let mut losses = vec![1.0];
    losses.extend([0.2; 9]);
    losses.push(0.3);
    losses.extend([0.25; 10]);
    let end = Outcome::Finished(Finished { reason: StopReason::TargetLoss, steps: 21, best: None });
    assert_eq!(decide(rules, &losses).outcome, Some(end), "0.25 is an RMSE of 0.5; the row of ten begins after 0.3");
}

#[test]
fn time_and_divergence_end_a_run() {
    let rules = Rules { max_time: Some(Duration::from_secs(4)), ..one_batch_an_epoch() };
    let end = Outcome::Finished(Finished { reason: StopReason::MaxTime, steps: 4, best: None });
    assert_eq!(decide(rules, &[1.0; 4]).outcome, Some(end));
    for bad in [4.1, f64::NAN, f64::INFINITY] {
        let post = decide(one_batch_an_epoch(), &[1.0, 3.9, bad, 1.0]);
        assert!(post.dismissed);
        assert!(matches!(post.outcome, Some(Outcome::Diverged { step: 2, first_loss: 1.0, .. })), "{:?}", post.outcome);
    }
}

#[test]
fn the_best_epoch_is_kept_and_patience_ends_the_run() {
    let rules = Rules { n_holdout_batches: 1, patience: Some(2), ..one_batch_an_epoch() };
    let mut post = Post::new(rules, 1);
    let mut decisions = Vec::new();
    for (epoch, holdout) in (0..).zip([0.9, 0.8, 0.85, 0.81]) {
        post.report(1.0, 1);
        assert_eq!((post.directive.task, post.directive.save), (Task::Evaluate { epoch }, None));
        post.report(holdout, 1);
        decisions.push((post.directive.save.is_some_and(|save| save.keep), post.directive.task));
    }
    let end = Task::End { reason: Some(StopReason::Patience), save_kept: true };
    assert_eq!(decisions, [(true, Task::Step), (true, Task::Step), (false, Task::Step), (false, end)]);
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
        let mut post = Post::new(rules, 1);
        post.report(1.0, 1);
        post.report(loss, 2);
        let found = matches!(post.outcome, Some(Outcome::Diverged { step: 0, first_loss: 1.0, .. }));
        assert_eq!(found, diverged, "{loss}: {:?}", post.outcome);
    }
}

#[test]
fn a_silent_worker_is_lost_by_name() {
    let rules = Rules { schedule: Schedule::new(9, 3), ..one_batch_an_epoch() };
    let mut post = Post::new(rules, 3);
    post.hear(1, Message::Hello, 1);
    let mut tick = |at| {
        let commands = post.supervisor.handle(Event::Tick, Duration::from_secs(at)).unwrap();
        commands.into_iter().find_map(|c| if let Command::End(outcome) = c { Some(outcome) } else { None })
    };
    assert_eq!(tick(60), None);
    assert_eq!(tick(61), Some(Outcome::Lost { workers: vec![0, 2] }));
}

#[test]
fn a_failure_stops_everybody_and_strangers_are_refused() {
    let rules = Rules { schedule: Schedule::new(9, 3), ..one_batch_an_epoch() };
    let mut post = Post::new(rules, 2);
    let mut hear = |sender: Party, incarnation, message| {
        post.supervisor.handle(Event::Received(envelope(RUN, sender.life(incarnation), message)), Duration::ZERO)
    };
    assert!(matches!(hear(Party::Worker(7), 0, Message::Hello), Err(Refusal::Unexpected { .. })));
    assert!(matches!(hear(Party::Supervisor, 0, Message::Hello), Err(Refusal::Unexpected { .. })));
    assert!(matches!(hear(Party::Worker(0), 0, Message::Dismiss), Err(Refusal::Unexpected { .. })));
    hear(Party::Worker(0), 2, Message::Hello).unwrap();
    assert!(matches!(hear(Party::Worker(0), 1, Message::Hello), Err(Refusal::Stale { found: 1, current: 2, .. })));
    let failed = Message::Failed { kind: ErrorKind::Data, error: "bad".to_owned(), fix: None };
    let commands = hear(Party::Worker(1), 0, failed).unwrap();
    assert_eq!(commands[commands.len() - 2], Command::Broadcast(Message::Dismiss));
    let Some(Command::End(Outcome::Failed { worker: 1, kind: ErrorKind::Data, .. })) = commands.last() else {
        panic!("{commands:?}");
    };
}

#[test]
fn messages_of_another_run_or_version_are_refused() {
    let mut post = Post::new(one_batch_an_epoch(), 1);
    let mut message = envelope("other", Party::Worker(0).life(0), Message::Hello);
    let mut refused =
        |message| post.supervisor.handle(Event::Received(message), Duration::ZERO).unwrap_err().to_string();
    assert_eq!(refused(message.clone()), "it belongs to run `other`");
    message.protocol = 1;
    assert_eq!(refused(message), "protocol version 1 is not 4");
}
