//! Numbers as people read them, and where the ticks of an axis are.

/// A whole number in groups of three digits.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and its unit, which stay on one line.
fn unit(number: &str, unit: &str) -> String {
    format!("{number}\u{a0}{unit}")
}

/// A number of things: `1 step`, `2 steps`.
pub(crate) fn some(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A loss or another figure: four decimals, or four significant digits where these would not show it.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-4..1e7).contains(&size) => format!("{value:.3e}"),
        size if size >= 1000.0 => {
            let whole = count(size.round() as u64);
            if value < 0.0 { format!("−{whole}") } else { whole }
        }
        size if size < 0.01 => significant(value, 3),
        _ => minus(format!("{value:.4}")),
    }
}

/// So many significant digits, without zeros behind the last.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = value.abs().log10().floor();
    if !(-5.0..9.0).contains(&exponent) {
        return format!("{value:.*e}", digits.saturating_sub(1));
    }
    let decimals = (digits as f64 - 1.0 - exponent).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    minus(text.to_owned())
}

/// With a minus sign as wide as a plus sign.
fn minus(text: String) -> String {
    text.strip_prefix('-').map_or_else(|| text.clone(), |rest| format!("−{rest}"))
}

/// A large number: `18.4 M`.
pub(crate) fn large(value: f64) -> String {
    match value {
        _ if value >= 1e6 => unit(&significant(value / 1e6, 3), "M"),
        _ if value >= 1e3 => count(value.round() as u64),
        _ => significant(value, 3),
    }
}

/// A share as per cent.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.1 { unit("less than 0.1", "%") } else { unit(&tenths(percent), "%") }
}

/// One decimal below ten, none from there on.
fn tenths(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// A duration: `0.42 s`, `3 min 20 s`, `1 h 05 min`.
pub(crate) fn seconds(value: f64) -> String {
    let whole = value.round();
    match value {
        _ if whole >= 3600.0 => {
            format!("{}\u{a0}h {:02}\u{a0}min", count((whole / 3600.0) as u64), whole as u64 % 3600 / 60)
        }
        _ if whole >= 100.0 => format!("{}\u{a0}min {:02}\u{a0}s", whole as u64 / 60, whole as u64 % 60),
        _ if value >= 0.1 || value == 0.0 => unit(&significant(value, 3), "s"),
        _ => unit(&significant(value * 1e3, 3), "ms"),
    }
}

/// An amount of bytes: `1.3 MB`, in thousands.
pub(crate) fn bytes(value: f64) -> String {
    let (name, divisor) = byte_unit(value);
    unit(&significant(value / divisor, 3), name)
}

/// US dollars.
pub(crate) fn dollars(value: f64) -> String {
    format!("${value:.4}")
}

fn byte_unit(value: f64) -> (&'static str, f64) {
    match value {
        _ if value >= 1e12 => ("TB", 1e12),
        _ if value >= 1e9 => ("GB", 1e9),
        _ if value >= 1e6 => ("MB", 1e6),
        _ if value >= 1e3 => ("kB", 1e3),
        _ => ("B", 1.0),
    }
}

/// What an axis counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scale {
    /// Numbers.
    Plain,
    /// Numbers whose logarithm is shown.
    Log,
    /// Whole numbers.
    Whole,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Rows with a name each, the first at the top.
    Names(Vec<String>),
}

/// The ticks of an axis from `from` to `to`, at most `n_max` of them, and what stands at each.
pub(crate) fn ticks(scale: &Scale, from: f64, to: f64, n_max: usize) -> Vec<(f64, String)> {
    let n_max = n_max.max(2);
    match scale {
        Scale::Plain | Scale::Whole => {
            let least = if *scale == Scale::Whole { 1.0 } else { 0.0 };
            let step = round_step((to - from) / n_max as f64).max(least);
            even(from, to, step, |tick| decimal(tick, step))
        }
        Scale::Bytes => {
            let (unit, divisor) = byte_unit(to);
            let step = round_step((to - from) / divisor / n_max as f64);
            let ticks = even(from / divisor, to / divisor, step, |tick| format!("{} {unit}", decimal(tick, step)));
            ticks.into_iter().map(|(tick, text)| (tick * divisor, text)).collect()
        }
        Scale::Seconds => {
            const STEPS: [f64; 19] = [
                1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0,
                21_600.0, 43_200.0, 86_400.0, 172_800.0,
            ];
            if to < 1.0 {
                let ticks = ticks(&Scale::Plain, from * 1e3, to * 1e3, n_max);
                return ticks.into_iter().map(|(tick, text)| (tick / 1e3, format!("{text} ms"))).collect();
            }
            let least = (to - from) / n_max as f64;
            if least <= 0.5 {
                let step = round_step(least);
                return even(from, to, step, |tick| format!("{} s", decimal(tick, step)));
            }
            let step =
                STEPS.into_iter().find(|step| *step >= least).unwrap_or_else(|| round_step(least / 3600.0) * 3600.0);
            even(from, to, step, |tick| clock(tick, step))
        }
        Scale::Log => {
            let decades = (to / from).log10();
            let marks: &[f64] = match decades * 3.0 {
                n if n <= n_max as f64 => &[1.0, 2.0, 5.0],
                _ => &[1.0],
            };
            let every = (decades / n_max as f64).ceil().max(1.0) as i32;
            let (first, last) = (from.log10().floor() as i32, to.log10().ceil() as i32);
            let powers = (first..=last).filter(|power| power.rem_euclid(every) == 0);
            let ticks = powers.flat_map(|power| marks.iter().map(move |mark| mark * 10_f64.powi(power)));
            ticks.filter(|tick| (from..=to).contains(tick)).map(|tick| (tick, significant(tick, 1))).collect()
        }
        Scale::Names(names) => {
            let every = names.len().div_ceil(n_max).max(1);
            names.iter().enumerate().step_by(every).map(|(place, name)| (place as f64, name.clone())).collect()
        }
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let mark = [1.0, 2.0, 5.0].into_iter().find(|mark| mark * power >= least * (1.0 - 1e-9));
    mark.unwrap_or(10.0) * power
}

/// More ticks than any axis has room for.
const TICKS_MAX: usize = 100;

/// The multiples of `step` in a range.
fn even(from: f64, to: f64, step: f64, text: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    // A range may be a rounding error short of its last tick.
    let (first, last) = ((from / step - 1e-9).ceil() as i64, (to / step + 1e-9).floor() as i64);
    // Where numbers are so large that a range has no room for steps there is nothing to tell apart.
    (first..=last).take(TICKS_MAX).map(|n| n as f64 * step).map(|tick| (tick, text(tick))).collect()
}

/// As many decimals as steps of this size need.
fn decimal(tick: f64, step: f64) -> String {
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0) as usize;
    if decimals == 0 && tick.abs() >= 1e7 {
        return format!("{} M", decimal(tick / 1e6, step / 1e6));
    }
    if decimals == 0 && tick.abs() >= 1000.0 {
        let whole = count(tick.abs() as u64);
        return if tick < 0.0 { format!("−{whole}") } else { whole };
    }
    minus(format!("{:.decimals$}", if tick == 0.0 { 0.0 } else { tick }))
}

/// A time on an axis with such steps.
fn clock(tick: f64, step: f64) -> String {
    let total = tick as u64;
    let (hours, minutes, seconds) = (total / 3600, total % 3600 / 60, total % 60);
    match (step < 60.0, hours) {
        (true, 0) if minutes == 0 => format!("{seconds} s"),
        (true, 0) => format!("{minutes}:{seconds:02}"),
        (true, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        (false, 0) => format!("{minutes} min"),
        (false, _) if step >= 3600.0 => format!("{hours} h"),
        (false, _) => format!("{hours}:{minutes:02} h"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With plain spaces.
    fn plain(text: String) -> String {
        text.replace('\u{a0}', " ")
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let figures = [0.7293, 0.5, -0.04, 0.001_234, 0.0, 1.0, 12_345.6, 1.5e-7, -2.0].map(figure);
        assert_eq!(figures, ["0.7293", "0.5000", "−0.0400", "0.00123", "0", "1.0000", "12,346", "1.500e-7", "−2.0000"]);
        let digits = [0.0, 0.1, 123.456, 1234.0, 5e-9, -0.25].map(|value| significant(value, 3));
        assert_eq!(digits, ["0", "0.1", "123", "1234", "5.00e-9", "−0.25"]);
        let times = [0.0, 0.0042, 2.1, 99.4, 100.0, 3599.6, 3_900.0].map(seconds).map(plain);
        assert_eq!(times, ["0 s", "4.2 ms", "2.1 s", "99.4 s", "1 min 40 s", "1 h 00 min", "1 h 05 min"]);
        assert_eq!([0.0, 999.0, 1300.0, 2.5e9].map(bytes).map(plain), ["0 B", "999 B", "1.3 kB", "2.5 GB"]);
        assert_eq!([18.4e6, 12_345.0, 12.0].map(large).map(plain), ["18.4 M", "12,345", "12"]);
        assert_eq!(
            [0.0, 0.0002, 0.114, 0.0994, 0.0995, 1.0].map(percent).map(plain),
            ["0.0 %", "less than 0.1 %", "11 %", "9.9 %", "10 %", "100 %"]
        );
    }

    #[track_caller]
    fn check(scale: Scale, from: f64, to: f64, n_max: usize, expected: &str) {
        let found: Vec<String> = ticks(&scale, from, to, n_max).into_iter().map(|(_, text)| text).collect();
        assert_eq!(found.join("|"), expected);
    }

    #[test]
    fn ticks_are_round() {
        check(Scale::Plain, 0.71, 0.98, 6, "0.75|0.80|0.85|0.90|0.95");
        check(Scale::Plain, -0.3, 0.3, 6, "−0.3|−0.2|−0.1|0.0|0.1|0.2|0.3");
        check(Scale::Plain, 0.0, 100_000.0, 5, "0|20,000|40,000|60,000|80,000|100,000");
        check(Scale::Whole, 0.0, 3.0, 8, "0|1|2|3");
        check(Scale::Seconds, 0.0, 2.1, 5, "0.0 s|0.5 s|1.0 s|1.5 s|2.0 s");
        check(Scale::Seconds, 0.0, 0.038, 5, "0 ms|10 ms|20 ms|30 ms");
        check(Scale::Seconds, 0.0, 100.0, 5, "0 s|30 s|1:00|1:30");
        check(Scale::Seconds, 0.0, 3700.0, 5, "0 min|15 min|30 min|45 min|1:00 h");
        check(Scale::Seconds, 0.0, 40_000.0, 5, "0 min|3 h|6 h|9 h");
        check(Scale::Bytes, 0.0, 2.4e6, 5, "0.0 MB|0.5 MB|1.0 MB|1.5 MB|2.0 MB");
        check(Scale::Log, 0.4, 60.0, 8, "0.5|1|2|5|10|20|50");
        check(Scale::Log, 1e-3, 1e9, 5, "0.001|1|1000|1000000|1e9");
        let names = Scale::Names(["a", "b", "c", "d", "e"].map(str::to_owned).to_vec());
        check(names.clone(), -0.5, 4.5, 5, "a|b|c|d|e");
        check(names, -0.5, 4.5, 3, "a|c|e");
    }

    proptest! {
        #[test]
        fn ticks_lie_on_the_axis_and_differ(
            from in -1e6..1e6_f64, size in -6.0..7.0_f64, n_max in 2..12_usize, which in 0..3_usize
        ) {
            let scale = [Scale::Plain, Scale::Seconds, Scale::Bytes][which].clone();
            let from = if which == 0 { from } else { from.abs() };
            let to = from + 10_f64.powf(size);
            let found = ticks(&scale, from, to, n_max);
            prop_assert!(found.len() <= n_max + 1, "{found:?}");
            let slack = (to - from) * 1e-6 + 1e-9 * to.abs();
            prop_assert!(found.iter().all(|(tick, _)| *tick >= from - slack && *tick <= to + slack), "{found:?}");
            for (a, b) in found.iter().zip(found.iter().skip(1)) {
                prop_assert!(a.0 < b.0);
            }
        }
    }
}
