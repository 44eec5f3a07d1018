//! Tables of prices: the one that comes with this program, and a user's own.

use std::path::Path;

use schemas::cost::{PRICES_FORMAT, PRICES_VERSION, Prices};

use crate::error::Error;

/// Public list prices.
const DEFAULT: &str = include_str!("../../prices/aws-us-east-1.json");
/// What stands in a table of which nobody knows better.
const START: &str = "begin with train/prices/aws-us-east-1.json, or with `prices` of the report of `train plan`";

/// The prices that are used when no others are given.
///
/// # Panics
/// Never: a test reads them.
#[must_use]
pub fn default_table() -> Prices {
    parse("the prices of this program", DEFAULT).expect("the prices that come with this program are valid")
}

/// The prices in `file`.
///
/// # Errors
/// When it cannot be read, is no table of prices, or has prices that are none.
pub fn of_file(file: &Path) -> Result<Prices, Error> {
    let place = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&place, &text),
        Err(source) => Err(Error::File { place, done: "read", source }),
    }
}

fn parse(place: &str, text: &str) -> Result<Prices, Error> {
    let unfit = |place: String, problem: String, fix: String| Error::Unfit { place, problem, fix };
    let prices: Prices = serde_json::from_str(text).map_err(|error| {
        let words = error.to_string();
        let problem = words.rsplit_once(" at line ").map_or(words.as_str(), |(problem, _)| problem);
        unfit(format!("{place}:{}:{}", error.line(), error.column()), problem.to_owned(), START.to_owned())
    })?;
    match check(&prices) {
        Ok(()) => Ok(prices),
        Err((problem, fix)) => Err(unfit(place.to_owned(), problem, fix)),
    }
}

/// What is wrong with a table, and the remedy.
fn check(prices: &Prices) -> Result<(), (String, String)> {
    if prices.format != PRICES_FORMAT {
        return Err((format!("format `{}` is not `{PRICES_FORMAT}`", prices.format), START.to_owned()));
    }
    if prices.version != PRICES_VERSION {
        let problem =
            format!("version {} of {PRICES_FORMAT} is not {PRICES_VERSION}, which this build reads", prices.version);
        return Err((problem, START.to_owned()));
    }
    let date = &prices.date;
    if date.len() != 10 || humantime::parse_rfc3339(&format!("{date}T00:00:00Z")).is_err() {
        return Err((
            format!("date `{date}` is not a day as 2026-11-23"),
            "give the day that the prices are of".to_owned(),
        ));
    }
    if prices.region.trim().is_empty() {
        return Err((
            "region is empty, it must say where the prices hold".to_owned(),
            "give a region, as us-east-1".to_owned(),
        ));
    }
    // A hundred times what it costs anywhere is a slip of the unit.
    let numbers = [
        ("lambda_x86_64_gb_second", prices.lambda_x86_64_gb_second, 0.002, "a GB for a second, about 0.0000167"),
        ("lambda_arm64_gb_second", prices.lambda_arm64_gb_second, 0.002, "a GB for a second, about 0.0000133"),
        ("lambda_million_requests", prices.lambda_million_requests, 20.0, "a million requests, about 0.2"),
        ("s3_thousand_puts", prices.s3_thousand_puts, 0.5, "a thousand requests, about 0.005"),
        ("s3_thousand_gets", prices.s3_thousand_gets, 0.05, "a thousand requests, about 0.0004"),
        ("redis_hour", prices.redis_hour, 100.0, "an hour, about 0.16, or 0 if it costs nothing more"),
        ("broker_hour", prices.broker_hour, 100.0, "an hour, about 0.29, or 0 if it costs nothing more"),
    ];
    match numbers.into_iter().find(|(_, usd, max, _)| !(0.0..=*max).contains(usd)) {
        Some((field, usd, max, unit)) => Err((
            format!("{field}: {usd} is outside 0..={max} US dollars"),
            format!("give {field} in US dollars for {unit}"),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use schemas::exit::{ErrorKind, Explain};

    use super::*;

    #[test]
    fn the_default_table_is_valid_and_dated() {
        let prices = default_table();
        assert_eq!((prices.lambda_x86_64_gb_second, prices.lambda_arm64_gb_second), (0.000_016_666_7, 0.000_013_333_4));
        assert_eq!((prices.region.as_str(), prices.date.len()), ("us-east-1", 10));
        assert_eq!(prices.sources.len(), 4);
    }

    #[test]
    fn a_file_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prices.json");
        let mine = Prices { region: "eu-central-1".to_owned(), redis_hour: 0.0, ..default_table() };
        std::fs::write(&file, serde_json::to_vec_pretty(&mine).unwrap()).unwrap();
        assert_eq!(of_file(&file).unwrap(), mine);
        let missing = of_file(&folder.path().join("none.json")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Usage);
    }

    #[test]
    fn every_refusal_names_file_field_value_rule_and_remedy() {
        for (from, to, said) in [
            ("0.158", "-0.158", "p.json: redis_hour: -0.158 is outside 0..=100 US dollars"),
            ("0.288", "288", "p.json: broker_hour: 288 is outside 0..=100 US dollars"),
            ("0.0000166667", "0.0166667", "p.json: lambda_x86_64_gb_second: 0.0166667 is outside 0..=0.002 US dollars"),
            ("0.0000133334", "1e300", "p.json: lambda_arm64_gb_second: 1"),
            (
                "\"lambda_million_requests\": 0.2",
                "\"lambda_million_requests\": 200000",
                "p.json: lambda_million_requests: 200000 is outside 0..=20 US dollars",
            ),
            ("0.005", "5", "p.json: s3_thousand_puts: 5 is outside 0..=0.5 US dollars"),
            ("0.0004,", "0.4,", "p.json: s3_thousand_gets: 0.4 is outside 0..=0.05 US dollars"),
            ("0.158", "NaN", "p.json:17:17: "),
            ("0.158", "\"NaN\"", "p.json:17:21: invalid type: string \"NaN\", expected f64"),
            ("0.158", "1e999", "p.json:17:21: number out of range"),
            ("\"redis_hour\"", "\"redis_houre\"", "p.json:17:15: unknown field `redis_houre`, expected one of"),
            ("  \"redis_hour\": 0.158,\n", "", "p.json:18:1: missing field `redis_hour`"),
            ("gristmill.prices", "gristmill.run", "p.json: format `gristmill.run` is not `gristmill.prices`"),
            (
                "\"version\": 1",
                "\"version\": 2",
                "p.json: version 2 of gristmill.prices is not 1, which this build reads",
            ),
            ("2026-11-23", "2026-13-23", "p.json: date `2026-13-23` is not a day as 2026-11-23"),
            ("2026-11-23", "today", "p.json: date `today` is not a day as 2026-11-23"),
            ("\"us-east-1\"", "\" \"", "p.json: region is empty"),
        ] {
            let text = DEFAULT.replacen(from, to, 1);
            assert_ne!(text, DEFAULT, "{from}");
            let error = parse("p.json", &text).expect_err(to);
            assert!(error.to_string().starts_with(said), "{to}: {error}");
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.fix().is_some_and(|fix| !fix.is_empty()));
        }
    }
}
