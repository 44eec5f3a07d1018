//! Recipes: flags of `train` in a TOML file. They become arguments in front of those that were typed, so a flag means the same in
//! both places, and a typed one wins. There is no second list of flags, but for those that no recipe may have.

use std::any::TypeId;
use std::ffi::OsString;
use std::ops::Range;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};
use manifests::place::Place;
use toml::de::{DeTable, DeValue};

use super::Work;
use crate::cli::Cli;
use crate::error::Error;

/// Flags that are typed only, with the reason. A recipe says how to train, whatever the data and wherever they are.
const TYPED_ONLY: [(&str, &[&str]); 3] = [
    ("is of one run", &["manifest", "out", "recipe", "resume", "replace", "dry-run"]),
    (
        "says where something is, perhaps with a password",
        &["command", "redis", "amqp", "exchange", "function", "region", "prices", "prediction"],
    ),
    ("is not about training", &["quiet", "verbose", "progress", "color", "help", "version"]),
];

/// What is to be done, with the flags of a recipe in front of those that were `typed`, from which `cli` was parsed.
///
/// # Errors
/// When the recipe cannot be read or breaks a rule, which is told with its place; and as [`Work::resolve`].
pub fn resolve(cli: &Cli, typed: impl IntoIterator<Item = OsString>) -> Result<Work, Error> {
    let Some(file) = &cli.train.recipe else { return Work::resolve(cli) };
    let recipe = Recipe::read(file)?;
    let typed: Vec<OsString> = typed.into_iter().collect();
    let arguments = recipe.entries.iter().map(|entry| OsString::from(&entry.argument));
    let (program, rest) = typed.split_at(typed.len().min(1));
    let all = program.iter().cloned().chain(arguments).chain(rest.iter().cloned());
    let matches = Cli::command().args_override_self(true).try_get_matches_from(all).map_err(Error::internal)?;
    let merged = Cli::from_arg_matches(&matches).map_err(Error::internal)?;
    let typed = Cli::command().try_get_matches_from(&typed).map_err(Error::internal)?;
    let mut work = Work::resolve(&merged).map_err(|error| recipe.placed(error, &typed))?;
    if let Work::Train(plan) = &mut work {
        plan.recipe = Some(recipe.words(&typed));
    }
    Ok(work)
}

/// The flags in a file.
struct Recipe {
    name: String,
    entries: Vec<Entry>,
}

/// A line of a recipe.
struct Entry {
    /// The flag without hyphens in front.
    flag: String,
    /// As an argument: `--flag=value`.
    argument: String,
    /// File, line and column of the value.
    place: String,
    /// How clap calls the flag.
    id: String,
}

impl Recipe {
    fn read(file: &str) -> Result<Self, Error> {
        let (folder, key) = Place::parse_file(file)?;
        let bytes = folder.get(&key)?;
        let name = folder.show(&key);
        let wrong = |offset: usize, problem: String, fix: String| Error::Unfit {
            place: position(&name, &bytes, offset),
            problem,
            fix,
        };
        let text = str::from_utf8(&bytes)
            .map_err(|e| wrong(e.valid_up_to(), "not UTF-8 text".to_owned(), "save the recipe as UTF-8".to_owned()))?;
        let table = DeTable::parse(text).map_err(|e| {
            let offset = e.span().map_or(0, |span: Range<usize>| span.start);
            let fix = "write lines such as `l2 = 0.05` or `max-time = \"480s\"`".to_owned();
            wrong(offset, format!("not TOML: {}", e.message()), fix)
        })?;
        let mut command = Cli::command();
        command.build();
        let mut lines: Vec<_> = table.get_ref().iter().collect();
        lines.sort_by_key(|(key, _)| key.span().start);
        let mut entries = Vec::new();
        for (key, value) in lines {
            let flag = key.get_ref().to_string();
            let arg = known(&command, &flag).map_err(|(problem, fix)| wrong(key.span().start, problem, fix))?;
            let at = value.span().start;
            let argument = argument(arg, &flag, value.get_ref()).map_err(|(problem, fix)| wrong(at, problem, fix))?;
            let (id, place) = (arg.get_id().to_string(), position(&name, &bytes, at));
            entries.push(Entry { flag, argument, place, id });
        }
        Ok(Self { name, entries })
    }

    /// `error`, with its place when it is about a value of the recipe that was not typed too.
    fn placed(&self, error: Error, typed: &ArgMatches) -> Error {
        let Error::Usage { problem, fix } = error else { return error };
        let about = |entry: &&Entry| problem.split(' ').next().is_some_and(|word| word == format!("--{}", entry.flag));
        match self.entries.iter().filter(|entry| !is_typed(typed, entry)).find(about) {
            Some(entry) => Error::Usage { problem: format!("{}: {problem}", entry.place), fix },
            None => Error::Usage { problem, fix },
        }
    }

    /// What the recipe adds to what was typed, for people.
    fn words(&self, typed: &ArgMatches) -> String {
        let (typed, used): (Vec<_>, Vec<_>) = self.entries.iter().partition(|entry| is_typed(typed, entry));
        let used: Vec<&str> = used.iter().map(|entry| &entry.argument[2..]).collect();
        let typed: Vec<&str> = typed.iter().map(|entry| &*entry.flag).collect();
        let besides = if typed.is_empty() { String::new() } else { format!("; typed: {}", typed.join(", ")) };
        format!("recipe {}: {}{besides}", self.name, used.join(", "))
    }
}

fn is_typed(typed: &ArgMatches, entry: &Entry) -> bool {
    typed.value_source(&entry.id) == Some(ValueSource::CommandLine)
}

/// `name:line:column` of the byte at `offset`.
fn position(name: &str, bytes: &[u8], offset: usize) -> String {
    let before = &bytes[..offset.min(bytes.len())];
    let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
    let column = 1 + String::from_utf8_lossy(&before[line_start..]).chars().count();
    format!("{name}:{line}:{column}")
}

/// A problem and its remedy.
type Told = (String, String);

/// The flag `--flag` of `train`, if a recipe may have it.
fn known<'c>(command: &'c Command, flag: &str) -> Result<&'c Arg, Told> {
    let find = |name: &str| command.get_arguments().find(|arg| arg.get_long() == Some(name));
    let Some(arg) = find(flag) else {
        let hyphens = flag.replace('_', "-");
        let fix = match find(&hyphens) {
            Some(_) => format!("write it as on the command line: {hyphens}"),
            None => "a recipe has long flags of `train` without the two hyphens; `train --help` lists them".to_owned(),
        };
        return Err((format!("`train` has no flag --{flag}"), fix));
    };
    match TYPED_ONLY.iter().find(|(_, flags)| flags.contains(&flag)) {
        Some((why, _)) => {
            Err((format!("a recipe cannot have `{flag}`: it {why}"), format!("give --{flag} on the command line")))
        }
        None => Ok(arg),
    }
}

/// `value` for `arg`, as it would be typed.
fn argument(arg: &Arg, flag: &str, value: &DeValue<'_>) -> Result<String, Told> {
    let kind = arg.get_value_parser().type_id();
    let is = |of: &[TypeId]| of.iter().any(|of| kind == *of);
    let whole = is(&[TypeId::of::<u32>(), TypeId::of::<u64>()]);
    let (number, truth) = (whole || is(&[TypeId::of::<f64>()]), is(&[TypeId::of::<bool>()]));
    let value = match value {
        DeValue::Boolean(value) if truth => value.to_string(),
        DeValue::Integer(value) if number => i128::from_str_radix(value.as_str(), value.radix())
            .map(|value| value.to_string())
            .map_err(|e| (format!("{flag}: {e}"), "give a smaller number".to_owned()))?,
        DeValue::Float(value) if number && !whole => value.as_str().to_owned(),
        DeValue::String(value) if !number && !truth => value.to_string(),
        other => {
            let wanted = match (truth, whole, number) {
                (true, ..) => "true or false",
                (_, true, _) => "an integer",
                (_, _, true) => "a number",
                _ => "a string, in quotes",
            };
            let problem = format!("{flag} is of the type {}, not {wanted}", other.type_str());
            return Err((problem, format!("`train --help` says what --{flag} takes")));
        }
    };
    let argument = format!("--{flag}={value}");
    let alone = ["train", "--manifest=-", &argument];
    match Cli::command().try_get_matches_from(alone) {
        Ok(_) => Ok(argument),
        Err(error) => {
            let words = error.to_string();
            let words = words.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            let problem = words.split_whitespace().collect::<Vec<_>>().join(" ");
            Err((problem, format!("`train --help` says what --{flag} takes")))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{TYPED_ONLY, known};
    use crate::cli::Cli;

    /// A new flag has to be put on one side or the other.
    #[test]
    fn every_flag_is_for_recipes_or_typed_only() {
        let for_recipes = "workers launch strategy checkpoint-every worker-timeout time-limit memory-limit memory-mb \
                           worker-deadline supervisor budget-usd step-batches reduce seed learning-rate l2 factors biases \
                           momentum beta1 beta2 lr-decay no-intercept max-epochs max-time target-loss target-holdout-loss patience";
        let mut command = Cli::command();
        command.build();
        let flags: Vec<&str> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        let (mut found, mut refused): (Vec<&str>, Vec<&str>) =
            flags.iter().partition(|flag| known(&command, flag).is_ok());
        let mut expected: Vec<&str> = for_recipes.split_whitespace().collect();
        let mut typed: Vec<&str> = TYPED_ONLY.iter().flat_map(|(_, flags)| *flags).copied().collect();
        for list in [&mut found, &mut expected, &mut refused, &mut typed] {
            list.sort_unstable();
        }
        assert_eq!((found, refused), (expected, typed));
    }
}
