//! Checks what a run on functions needs before it costs money. Every check is made and shown; one that depends on a failed one is
//! skipped. [`crate::checkup`] has the checks that are made by the function too.

use std::time::{Duration, Instant, SystemTime};

use lambda::Version;
use reporting::Console;
use schemas::exit::ErrorKind;
use schemas::message::PROTOCOL;
use schemas::report::{Check, CheckOutcome, DoctorReport};

use crate::TOOL;
use crate::checkup::{self, Answer, Beside, Finding, Post, milliseconds};
use crate::client::{self, functions};
use crate::job::{CHECKUP, Checkup};
use crate::plan::doctor::Doctor;
use crate::plan::launch::{AMQP, ExchangeAt, REDIS};
use crate::servers::FIRST_DEADLINE;

/// Beyond this AWS takes no signature.
const SKEW_MAX: Duration = Duration::from_secs(300);
/// Beyond this something is wrong with a clock.
const SKEW_WARN: Duration = Duration::from_secs(30);

/// A place that is slow to answer, or has a long manifest, may still be of use.
const STORAGE_MAX: Duration = Duration::from_secs(20);

/// A function with less time hands over so often that little is trained in between.
const TIMEOUT_LEAST: Duration = Duration::from_secs(60);

/// What was not looked at, and why.
const NO_FUNCTION: &str = "there is no function to look at";
const NO_ANSWER: &str = "the function does not answer";

/// What the function looks at, when it answers.
const INSIDE: [&str; 6] =
    ["clock", "variables", "function-manifest", "function-run", "function-exchange", "function-rabbitmq"];

/// Makes every check.
#[must_use]
pub fn run(plan: &Doctor, console: &Console) -> DoctorReport {
    let start = Instant::now();
    let mut shown = Shown { console, checks: Vec::new(), failed: None };
    let session = client::session("doctor");
    let (manifest, out, by) = (plan.manifest.clone(), plan.out.clone(), session.clone());
    let storage = [
        ("manifest", Beside::start(&plan.manifest, STORAGE_MAX, move || checkup::manifest(&manifest))),
        ("run", Beside::start(&plan.out.to_string(), STORAGE_MAX, move || place_of_the_run(&out, &by))),
    ];
    let lambda = function(plan, &mut shown);
    for (name, check) in storage {
        shown.add(name, check.end());
    }
    let post = match Post::open(&plan.processes.servers, &session) {
        Ok(post) => {
            shown.add("rabbitmq", Finding::ok(post.place.clone()));
            Some(post)
        }
        Err(error) => {
            shown.add("rabbitmq", error.into());
            None
        }
    };
    if let Some((functions, version)) = &lambda {
        inside(plan, functions, version, session, post.is_some(), &mut shown);
    } else {
        shown.skip(&["program"], NO_FUNCTION);
        shown.skip(&INSIDE, NO_FUNCTION);
    }
    if let Some(post) = post {
        post.close();
    }
    let exit_code = shown.failed.map_or(0, ErrorKind::exit_code);
    DoctorReport {
        tool: TOOL.to_owned(),
        function: plan.functions.function.clone(),
        version: lambda.map(|(_, version)| version.version),
        manifest: plan.manifest.clone(),
        output: plan.out.to_string(),
        checks: shown.checks,
        exit_code,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// The checks so far, which were seen.
struct Shown<'a> {
    console: &'a Console,
    checks: Vec<Check>,
    failed: Option<ErrorKind>,
}

impl Shown<'_> {
    fn add(&mut self, name: &str, finding: Finding) {
        let Finding { outcome, found, fix, kind } = finding;
        let label = match outcome {
            CheckOutcome::Ok => "ok  ",
            CheckOutcome::Warn => "warn",
            CheckOutcome::Fail => "FAIL",
            CheckOutcome::Skipped => "--  ",
        };
        let fix_line = fix.as_ref().map(|fix| format!("\n  fix: {fix}")).unwrap_or_default();
        self.console.note(format!("{label} {name}: {found}{fix_line}"));
        if outcome == CheckOutcome::Fail {
            self.failed.get_or_insert(kind.unwrap_or(ErrorKind::Internal));
        }
        self.checks.push(Check { name: name.to_owned(), outcome, found, fix });
    }

    fn skip(&mut self, names: &[&str], why: &str) {
        names.iter().for_each(|name| self.add(name, Finding::skipped(format!("not looked at: {why}"))));
    }
}

/// Credentials, the function and its settings; the way to it, when it can be invoked.
fn function(plan: &Doctor, shown: &mut Shown<'_>) -> Option<(lambda::Functions, Version)> {
    let settings = &plan.functions;
    let of_settings = ["function", "limits", "concurrency", "retries"];
    let found = lambda::Functions::new(settings.region.as_deref(), FIRST_DEADLINE).and_then(|functions| {
        functions.version(&settings.function).map(|v| (functions.region().to_owned(), v, functions))
    });
    let (region, version, functions) = match found {
        Ok(found) => found,
        Err(error) => {
            // No region, no credentials, or ones that are not accepted: nothing is known of the function.
            let unknown = matches!(
                error,
                lambda::Error::NoCredentials { .. }
                    | lambda::Error::Rejected { .. }
                    | lambda::Error::Unreachable { .. }
            );
            let finding = refused(plan, &error);
            if unknown {
                shown.add("credentials", finding);
                shown.skip(&of_settings, "Lambda does not answer");
            } else {
                shown.add("credentials", Finding::ok("Lambda answers"));
                shown.add("function", finding);
                shown.skip(&of_settings[1..], NO_FUNCTION);
            }
            return None;
        }
    };
    shown.add("credentials", Finding::ok(format!("Lambda answers in {region}")));
    let network = if version.in_vpc { ", in a network of the account" } else { "" };
    let Version { function, version: number, architecture, .. } = &version;
    shown.add("function", Finding::ok(format!("version {number} of `{function}`, {architecture}{network}")));
    shown.add("limits", limits(plan, &version));
    let room = functions.concurrency(function).map_err(|error| refused(plan, &error)).map(|there_are| {
        let found = format!("{there_are} at once, the run needs {}", settings.needed(plan.workers));
        functions::has_room(settings, plan.workers, there_are).map_or_else(Finding::from, |()| Finding::ok(found))
    });
    shown.add("concurrency", room.unwrap_or_else(|finding| finding));
    let retries = functions.retries(&version).map_or_else(|error| refused(plan, &error), |n| retries(&version, n));
    shown.add("retries", retries);
    Some((functions, version))
}

/// What Lambda's refusal means.
fn refused(plan: &Doctor, error: &lambda::Error) -> Finding {
    let mut finding = Finding::from(functions::service(&plan.functions.function, error));
    // Lambda says so of a clock that is minutes off, too.
    if matches!(error, lambda::Error::Rejected { code } if code.contains("Signature")) {
        finding.fix = finding.fix.map(|fix| format!("{fix}; and see that this machine's clock is right"));
    }
    finding
}

fn limits(plan: &Doctor, version: &Version) -> Finding {
    if let Err(error) = functions::fits(&plan.functions, plan.processes.time_limit, version) {
        return error.into();
    }
    let found = format!("{} MB, {}", version.memory_mb, humantime::format_duration(version.timeout));
    if version.timeout >= TIMEOUT_LEAST {
        return Finding::ok(found);
    }
    let fix = format!(
        "aws lambda update-function-configuration --function-name {} --timeout 900, then publish a version",
        version.function
    );
    Finding::warn(format!("{found}: so short a life is mostly spent on handing over"), fix)
}

fn retries(version: &Version, attempts: u32) -> Finding {
    if attempts == 0 {
        return Finding::ok("Lambda does not repeat what has failed");
    }
    let Version { function, version, .. } = version;
    let found = format!(
        "Lambda repeats a failed invocation up to {attempts} times, beside the successor that the run launches"
    );
    let fix = format!(
        "aws lambda put-function-event-invoke-config --function-name {function} --qualifier {version} --maximum-retry-attempts 0"
    );
    Finding::warn(found, fix)
}

/// Whether the run can be written, and whether there is one already.
fn place_of_the_run(out: &manifests::place::Place, session: &str) -> Result<Finding, crate::Error> {
    let writable = checkup::writable(out, "client", session)?;
    if out.size("report.json")?.is_some() {
        let fix = "it is kept as it is if it is the same run; else give another -o, or --replace";
        return Ok(Finding::warn(format!("{out} can be written, and has a finished run"), fix));
    }
    if out.size(crate::job::KEY)?.is_some() {
        let fix = format!("go on with it by `train --resume {out} --launch lambda`; a new run takes its place");
        return Ok(Finding::warn(format!("{out} can be written, and has an unfinished run"), fix));
    }
    Ok(writable)
}

/// Has the function look at its surroundings.
fn inside(
    plan: &Doctor,
    functions: &lambda::Functions,
    version: &Version,
    session: String,
    client_listens: bool,
    shown: &mut Shown<'_>,
) {
    let exchange = match &plan.processes.servers.exchange {
        ExchangeAt::Storage(place) => Some(place.clone()),
        _ => None,
    };
    let by_redis = exchange.is_none();
    let checkup = Checkup {
        format: (CHECKUP.0.to_owned(), CHECKUP.1),
        manifest: plan.manifest.clone(),
        run: plan.out.to_string(),
        exchange,
        session,
        client_listens,
    };
    let sent = milliseconds(SystemTime::now());
    let asked = ask(plan, functions, version, &checkup);
    let received = milliseconds(SystemTime::now());
    let needed: &[&str] = if by_redis { &[AMQP, REDIS] } else { &[AMQP] };
    let answer = match asked {
        Ok(answer) => answer,
        Err(finding) => {
            shown.add("program", finding);
            let set = &version.variables;
            shown.skip(&INSIDE[..1], NO_ANSWER);
            shown.add("variables", variables(&version.function, needed, set));
            shown.skip(&INSIDE[2..], NO_ANSWER);
            return;
        }
    };
    shown.add("program", program(&answer.tool, answer.protocol, &version.function));
    shown.add("clock", clock(sent, answer.clock_ms, received));
    // What is encrypted with a key of its own, the function alone may see.
    let set: Vec<String> = version.variables.iter().chain(&answer.variables).cloned().collect();
    shown.add("variables", variables(&version.function, needed, &set));
    shown.add("function-manifest", answer.manifest);
    shown.add("function-run", answer.run);
    shown.add("function-exchange", answer.exchange);
    shown.add("function-rabbitmq", answer.rabbitmq);
}

/// What the function answers.
fn ask(plan: &Doctor, functions: &lambda::Functions, version: &Version, checkup: &Checkup) -> Result<Answer, Finding> {
    let payload = serde_json::to_vec(checkup).map_err(|error| Finding::from(crate::Error::internal(error)))?;
    let called = functions.call(version, &payload).map_err(|error| refused(plan, &error))?;
    let named = format!("version {} of `{}`", version.version, version.function);
    let fix = format!(
        "deploy the function of {TOOL}: cargo lambda build and cargo lambda deploy, then aws lambda publish-version --function-name {}; \
         its log says more: aws logs tail /aws/lambda/{}",
        version.function, version.function
    );
    if let Some(failed) = called.failed {
        let words: serde_json::Value = serde_json::from_slice(&called.payload).unwrap_or_default();
        let words = words["errorMessage"].as_str().unwrap_or(&failed).chars().take(300).collect::<String>();
        return Err(Finding::fail(
            ErrorKind::Config,
            format!("{named} fails when it is asked to look around: {words}"),
            fix,
        ));
    }
    serde_json::from_slice(&called.payload).map_err(|_| {
        Finding::fail(
            ErrorKind::Config,
            format!("{named} does not understand what it is asked, so it is of another version"),
            fix,
        )
    })
}

fn program(tool: &str, protocol: u32, function: &str) -> Finding {
    let fix = format!("deploy the function of {TOOL}, then aws lambda publish-version --function-name {function}");
    if protocol != PROTOCOL {
        let found = format!("the function is {tool} with protocol {protocol}, this is {TOOL} with protocol {PROTOCOL}");
        return Finding::fail(ErrorKind::Config, found, fix);
    }
    if tool != TOOL {
        return Finding::warn(format!("the function is {tool}, this is {TOOL}"), fix);
    }
    Finding::ok(format!("{tool}, protocol {protocol}"))
}

/// How far clocks are apart at least, by when this one sent and received, in milliseconds since 1970, and what the other said between.
fn clock(sent: u64, there: u64, received: u64) -> Finding {
    let received = received.max(sent);
    let behind = Duration::from_millis(sent.saturating_sub(there));
    let ahead = Duration::from_millis(there.saturating_sub(received));
    let (skew, word) = if behind > ahead { (behind, "ahead of") } else { (ahead, "behind") };
    let within = Duration::from_millis(received - sent);
    if skew.is_zero() {
        return Finding::ok(format!("this machine's and the function's agree, within {:.1} s", within.as_secs_f64()));
    }
    let found = format!("this machine's is {:.1} s or more {word} the function's", skew.as_secs_f64());
    let fix = "set this machine's clock, best by NTP: AWS takes no signature that is 5 minutes off";
    match skew {
        skew if skew > SKEW_MAX => Finding::fail(ErrorKind::Config, found, fix),
        skew if skew > SKEW_WARN => Finding::warn(found, fix),
        _ => Finding::ok(found),
    }
}

/// Whether everything `needed` is `set` in the function's environment.
fn variables(function: &str, needed: &[&str], set: &[String]) -> Finding {
    let missing: Vec<&str> = needed.iter().copied().filter(|name| !set.iter().any(|set| set == name)).collect();
    if missing.is_empty() {
        return Finding::ok(format!("{} set", needed.join(" and ")));
    }
    let missing = missing.join(" and ");
    let fix = format!(
        "set it in the function's environment beside what is there: aws lambda update-function-configuration --function-name {function} \
         --environment file://environment.json, then publish a version"
    );
    Finding::fail(ErrorKind::Config, format!("{missing} not set in the function's environment"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_apart_by_what_the_way_does_not_explain() {
        use CheckOutcome::{Fail, Ok, Warn};
        let t = 1_700_000_000_000;
        for (there, received, outcome, words) in [
            (t + 200, t + 400, Ok, "agree, within 0.4 s"),
            (t + 400, t + 400, Ok, "agree"),
            (t + 30_400, t + 400, Ok, "30.0 s or more behind"),
            (t + 30_401, t + 400, Warn, "30.0 s or more behind"),
            (t - 31_000, t + 9_000, Warn, "31.0 s or more ahead of"),
            (t - 300_000, t + 9_000, Warn, "300.0 s or more ahead of"),
            (t - 300_001, t + 9_000, Fail, "300.0 s or more ahead of"),
            (t + 3_600_000, t + 9_000, Fail, "3591.0 s or more behind"),
        ] {
            let finding = clock(t, there, received);
            assert_eq!(finding.outcome, outcome, "{finding:?}");
            assert!(finding.found.contains(words), "{finding:?}");
            assert_eq!(finding.fix.is_some(), outcome != Ok, "{finding:?}");
        }
    }

    #[test]
    fn another_protocol_is_no_good_and_another_version_is_told() {
        assert_eq!(program(TOOL, PROTOCOL, "f").outcome, CheckOutcome::Ok);
        assert_eq!(program("train 0.0.0", PROTOCOL, "f").outcome, CheckOutcome::Warn);
        let other = program(TOOL, PROTOCOL + 1, "f");
        assert_eq!((other.outcome, other.kind), (CheckOutcome::Fail, Some(ErrorKind::Config)));
    }

    #[test]
    fn what_is_not_set_is_named() {
        let set = [AMQP.to_owned()];
        assert_eq!(variables("f", &[AMQP], &set).outcome, CheckOutcome::Ok);
        let finding = variables("f", &[AMQP, REDIS], &set);
        assert_eq!(finding.outcome, CheckOutcome::Fail);
        assert!(finding.found.starts_with("GRISTMILL_REDIS not set"), "{finding:?}");
    }
}
