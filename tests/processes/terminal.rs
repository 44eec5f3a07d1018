//! What a person sees in a terminal, of a run that was begun there and of one that is watched from elsewhere.

use std::path::Path;
use std::time::Duration;

use pipeline_tests::programs;
use serde_json::Value;
use services::{Pane, Terminal};

use super::parts::{parts_of, signal};
use super::{World, start};

/// Until something is seen that comes soon.
const SOON: Duration = Duration::from_secs(30);
/// A run that goes on until it is stopped.
const ENDLESS: &str = "--learning-rate 0.0001 --max-epochs 1000000 --patience 1000000";

fn terminal(folder: &Path, env: &[(&str, String)]) -> Terminal {
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap());
    let temporary = folder.join("temporary").display().to_string();
    Terminal::start(&[&[("PATH", path), ("TMPDIR", temporary)], env].concat())
}

/// A folder with mini-batches of ratings.
fn ratings() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("temporary")).unwrap();
    for line in [
        "prep generate movielens --ratings 30000 --users 600 --movies 400 --seed 5 -o ratings.csv",
        "prep movielens ratings.csv --holdout 0.1 --name ratings -o prepared",
        "shard prepared --batch 675 -o shards --manifest ratings.json",
    ] {
        start(folder.path(), line, &[]).wait().report();
    }
    folder
}

/// Whether there is a chart: dots of the training loss, and those of held-out losses.
fn has_chart(shown: &str) -> bool {
    shown.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c))
        && shown.lines().any(|row| row.contains("│") && row.contains('•'))
}

/// The lanes: worker, and what stands behind its bar.
fn lanes(shown: &str) -> Vec<String> {
    let bar = |c: char| "█▓░▒·".contains(c);
    let below = shown.lines().skip_while(|row| !row.starts_with("last steps:")).skip(1);
    let is_lane = |row: &&str| {
        row.trim_start().starts_with(|c: char| c.is_ascii_digit()) && row.chars().filter(|c| bar(*c)).count() >= 10
    };
    below.take_while(is_lane).map(|row| row.split_whitespace().next().unwrap().to_owned()).collect()
}

/// How often the run's place is on a row of its own beginning: once for each view.
fn views(shown: &str, place: &str) -> usize {
    shown.lines().filter(|row| row.starts_with(&format!("{place}  "))).count()
}

fn whole(shown: &str) -> bool {
    has_chart(shown) && shown.contains("• held-out ") && shown.contains("steps/s") && lanes(shown).len() == 2
}

/// The shell is back, after a command that ended with `code`.
#[track_caller]
fn ended(pane: &Pane<'_>, code: i32) -> String {
    let mark = format!("code {code} end");
    let shown = pane
        .wait(&mark, SOON, |shown| shown.lines().any(|row| row.ends_with(&mark)) && shown.trim_end().ends_with('$'));
    assert!(pane.has_cursor(), "{shown}");
    pane.everything()
}

fn typed(arguments: &str) -> String {
    format!("{arguments}; echo code $? end")
}

#[test]
fn a_run_on_threads_is_shown_in_a_terminal() {
    let folder = ratings();
    let terminal = terminal(folder.path(), &[]);
    let pane = terminal.open("threads", 80, 24, folder.path());
    pane.enter(&typed(&format!("train --manifest ratings.json --workers 2 {ENDLESS} -o run")));
    let shown = pane.wait("the whole view", SOON, whole);
    println!("{shown}");
    assert_eq!(lanes(&shown), ["0", "1"], "{shown}");
    assert!(pane.has_cursor());
    assert!(pane.shown_with_colors().contains("\x1b[36m"), "{}", pane.shown_with_colors());
    assert_eq!(views(&pane.everything(), "run"), 1, "{}", pane.everything());
    // It follows the size of the terminal, down to a single line. What the terminal itself has scrolled away or broken stays above.
    for (columns, rows) in [(120, 40), (61, 16), (40, 10), (90, 4), (100, 30)] {
        pane.resize(columns, rows);
        let large = columns >= 60 && rows >= 16;
        let begins = if large { "run  " } else { "training: " };
        let fits = |shown: &str| {
            let Some(at) = shown.rfind(begins) else { return false };
            let view = shown[at..].trim_end();
            if large { whole(view) && view.ends_with("at work") } else { view.lines().count() == 1 }
        };
        println!("{columns} x {rows}\n{}", pane.wait(&format!("view of {columns} x {rows}"), SOON, fits));
    }
    // What is typed meanwhile does not stay.
    pane.key("x");
    pane.wait("nothing of what is typed", SOON, |shown| whole(shown) && !shown.lines().any(|row| row.starts_with('x')));
    pane.key("C-c");
    let said = ended(&pane, 130);
    assert!(said.contains("error: interrupted"), "{said}");
    assert!(!said.contains("^C"), "{said}");
    assert!(!folder.path().join("run/live.json").exists());
}

#[test]
fn the_last_view_stays_above_the_report() {
    let folder = ratings();
    let terminal = terminal(folder.path(), &[("NO_COLOR", "1".to_owned())]);
    let pane = terminal.open("end", 100, 50, folder.path());
    pane.enter(&typed(
        "train --manifest ratings.json --workers 2 --max-epochs 150 --patience 1000 -o run > report.json",
    ));
    let said = ended(&pane, 0);
    println!("{said}");
    assert_eq!(views(&said, "run"), 1, "{said}");
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("no {what} in\n{said}"));
    assert!(at("last steps:") < at("all epochs are done") && at("epoch 150 of 150") < at("this model "));
    assert!(said.contains("100 %"), "{said}");
    assert!(!pane.shown_with_colors().contains("\x1b["), "NO_COLOR is set");
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["stopped_by"], "max_epochs");
    for (name, arguments) in [("never", "--progress never"), ("quiet", "--quiet")] {
        let pane = terminal.open(name, 100, 50, folder.path());
        pane.enter(&typed(&format!(
            "train --manifest ratings.json --max-epochs 60 -o {name} {arguments} > {name}.json"
        )));
        let said = ended(&pane, 0);
        assert_eq!((views(&said, name), has_chart(&said)), (0, false), "{said}");
    }
}

#[test]
fn a_run_on_threads_is_watched_through_its_place() {
    let folder = ratings();
    let terminal = terminal(folder.path(), &[]);
    let begun = terminal.open("begun", 100, 30, folder.path());
    begun.enter(&typed(&format!("train --manifest ratings.json --workers 2 {ENDLESS} -o run")));
    let file = folder.path().join("run/live.json");
    begun.wait("the run", SOON, |_| file.exists());
    let watching = terminal.open("watching", 80, 24, folder.path());
    watching.enter(&typed("train watch run"));
    let shown = watching.wait("the whole view", SOON, whole);
    assert_eq!(lanes(&shown), ["0", "1"], "{shown}");
    watching.key("C-c");
    let said = ended(&watching, 130);
    assert!(said.contains("error: interrupted"), "{said}");
    begun.wait("the run goes on", SOON, whole);
    // On a pipe it is a line now and then, and the end is the run's.
    let mut piped = start(folder.path(), "train watch run", &[]);
    while !piped.said()[1].contains("training: ") {
        assert!(piped.elapsed() < SOON && piped.ended().is_none(), "{:?}", piped.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    begun.key("C-c");
    ended(&begun, 130);
    piped.wait().failed(75, &["does not go on, and has no report", "look where it was begun"]);
    // One that comes to its end, and is watched until then.
    begun.enter(&typed(
        "train --manifest ratings.json --workers 2 --learning-rate 0.0001 --max-epochs 1500 --patience 1500 -o whole > report.json",
    ));
    begun.wait("the run", SOON, |_| folder.path().join("whole/live.json").exists());
    let watched = start(folder.path(), "train watch whole", &[]).wait();
    let said = ended(&begun, 0);
    assert!(watched.stderr.contains("whole is over") && watched.stderr.contains("this model "), "{watched:#?}\n{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(watched.report()["model_digest"], report["model_digest"]);
    assert!(!folder.path().join("whole/live.json").exists());
    // And one that was killed: its file stays as it is.
    begun.enter(&typed(&format!("train --manifest ratings.json --workers 2 {ENDLESS} -o killed")));
    begun.wait("the run", SOON, |_| folder.path().join("killed/live.json").exists());
    begun.enter("");
    signal(child(begun.shell()), "KILL");
    ended(&begun, 137);
    start(folder.path(), "train watch killed", &[]).wait().failed(75, &["not heard of for 3", "--resume"]);
}

/// The process that a shell waits for.
fn child(shell: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_run_of_processes_is_shown_and_watched() {
    let world = World::new();
    let terminal = terminal(world.path(), &[("GRISTMILL_AMQP", world.amqp()), ("GRISTMILL_REDIS", world.redis.url())]);
    let (settings, run) = ("--manifest ratings.json --step-batches 4", world.run("watched"));
    let begun = terminal.open("begun", 100, 30, world.path());
    begun.enter(&typed(&format!("train {settings} --launch process --workers 2 {ENDLESS} -o {run}")));
    let moved = |shown: &str| whole(shown) && shown.contains("B a step");
    println!("{}", begun.wait("the whole view", SOON, moved));
    // Several watch, in terminals and elsewhere; one is interrupted and one killed, and the run goes on.
    let panes = ["first", "second"].map(|name| terminal.open(name, 80, 24, world.path()));
    for pane in &panes {
        pane.enter(&typed(&format!("train watch {run}")));
    }
    for pane in &panes {
        println!("{}", pane.wait("the whole view", SOON, moved));
    }
    let watchers = || world.queues().into_iter().filter(|(name, _)| name.contains(".watcher.")).count();
    assert_eq!(watchers(), 2);
    panes[0].key("C-c");
    ended(&panes[0], 130);
    signal(child(panes[1].shell()), "KILL");
    ended(&panes[1], 137);
    begun.wait("an end of what was theirs", SOON, |_| watchers() == 0);
    // A worker that dies is seen to begin again, also by one who comes later.
    let worker = parts_of(&run).into_iter().find(|part| part.worker == Some(1)).unwrap();
    signal(worker.pid, "KILL");
    let again = |shown: &str| shown.contains("1 launched again") && lanes(shown) == ["0.0", "1.1"];
    begun.wait("a worker that was launched again", SOON, again);
    panes[0].enter(&typed(&format!("train watch {run}")));
    panes[0].wait("the same", SOON, again);
    begun.wait("its note above the view", SOON, |shown| {
        let view = format!("\n{run}  ");
        shown.find("worker 1 is launched again").is_some_and(|at| at < shown.find(&view).unwrap_or(0))
    });
    let late = world.start(&format!("train watch {run}"));
    begun.wait("the third", SOON, |_| watchers() == 2);
    begun.key("C-c");
    let said = ended(&begun, 130);
    assert!(said.contains("the model is saved first") && said.contains("--resume"), "{said}");
    // Those who watch end as the run does.
    let seen = ended(&panes[0], 130);
    assert!(seen.contains("error: interrupted after") && seen.contains("go on with `train --resume"), "{seen}");
    late.wait().failed(130, &["interrupted after", "go on with `train --resume"]);
    world.done(&format!("train watch {run}")).failed(75, &["does not go on"]);
    world.nobody_is_left("watched", "a run that was watched");
}

#[test]
fn watching_changes_nothing_and_ends_with_the_report() {
    let world = World::new();
    let settings = "--manifest sparse.json --step-batches 4 --max-epochs 60 --patience 1000";
    let expected = world.expected(settings);
    let running = world.train("watched", &format!("{settings} --launch process --workers 2"));
    let run = world.run("watched");
    while parts_of(&run).len() < 3 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let watchers: Vec<_> = (0..9).map(|_| world.start(&format!("train watch {run}"))).collect();
    let said = running.wait();
    assert_eq!(said.digests(), expected, "{said:#?}");
    let watched: Vec<_> = watchers.into_iter().map(|watcher| watcher.wait()).collect();
    let (served, refused): (Vec<_>, Vec<_>) = watched.into_iter().partition(|said| said.code == Some(0));
    assert_eq!((served.len(), refused.len()), (8, 1), "{served:#?} {refused:#?}");
    refused[0].failed(75, &["8 others watch the run"]);
    for watched in served {
        assert_eq!(watched.digests(), expected);
        assert!(watched.stderr.contains("is over") && watched.stderr.contains("this model "), "{watched:#?}");
    }
    world.is_whole("watched", "a run that was watched");
    // A run that is over has its report, and one that never was has none.
    assert_eq!(world.done(&format!("train watch {run}")).digests(), expected);
    world.done("train watch nowhere").failed(2, &["is no run"]);
}
