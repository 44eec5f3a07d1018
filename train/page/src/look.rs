//! Colours and forms: what a mark looks like, as classes of CSS, on light and dark ground.

use std::fmt::Write as _;

use crate::measure::FAMILY;

/// A colour by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// One of several things that are told apart; from the eighth on they begin again.
    Series(usize),
    /// Text.
    Text,
    /// Text that stands back.
    Muted,
    /// Lines behind the marks.
    Grid,
}

/// Colours for things that are told apart, on light and on dark ground: those of Okabe and Ito, each made darker or lighter until it
/// has a contrast of 3 against its ground.
const SERIES: [(&str, &str); 8] = [
    ("#0072b2", "#58a9e6"),
    ("#c8510b", "#ff8f54"),
    ("#00805f", "#2fbf97"),
    ("#a8508a", "#e08fc0"),
    ("#9a6a00", "#e3a93f"),
    ("#2487bf", "#8fd3f7"),
    ("#5f6b76", "#a3aeb8"),
    ("#7a1f3d", "#f0e442"),
];
/// The ground and the other roles, by the names that they have in CSS.
const ROLES: [(&str, &str, &str); 5] = [
    ("ground", "#ffffff", "#15191d"),
    ("text", "#1b2228", "#e8ecef"),
    ("muted", "#566069", "#a3aeb8"),
    ("grid", "#e3e7ea", "#2c343b"),
    ("raised", "#f5f7f8", "#1d2328"),
];

impl Ink {
    /// Its number in a [`Look`]'s code.
    const fn code(self) -> u8 {
        match self {
            Self::Series(n) => (n % SERIES.len()) as u8,
            Self::Text => 8,
            Self::Muted => 9,
            Self::Grid => 10,
        }
    }
}

/// What is drawn of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line of full width.
    Line,
    /// A line that stands back.
    Thin,
    /// A line that stands back behind another of its colour.
    Faint,
    /// A hair line.
    Hair,
    /// An area through which others are seen.
    Band,
    /// An area.
    Solid,
    /// An area with lines that rise.
    Rising,
    /// An area with lines that fall.
    Falling,
    /// An area with dots.
    Dotted,
}

impl Form {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Line, "line"),
        (Self::Thin, "thin"),
        (Self::Faint, "thin faint"),
        (Self::Hair, "hair"),
        (Self::Band, "band"),
        (Self::Solid, "solid"),
        (Self::Rising, "solid"),
        (Self::Falling, "solid"),
        (Self::Dotted, "solid"),
    ];

    /// The pattern that lies over the area.
    pub(crate) const fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Rising => Some("rising"),
            Self::Falling => Some("falling"),
            Self::Dotted => Some("dotted"),
            _ => None,
        }
    }
}

/// The look of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Its colour.
    pub(crate) ink: Ink,
    /// What is drawn.
    pub(crate) form: Form,
    /// How a line is broken: 0 not at all, up to 3.
    pub(crate) dash: u8,
}

impl Look {
    /// Without breaks.
    pub(crate) const fn new(ink: Ink, form: Form) -> Self {
        Self { ink, form, dash: 0 }
    }

    /// With breaks.
    pub(crate) const fn dashed(self, dash: u8) -> Self {
        Self { dash: dash % 4, ..self }
    }

    /// The colour by which the drawing library knows it: ink, form and dash in place of red, green and blue.
    pub(crate) fn code(self) -> (u8, u8, u8) {
        let form = Form::ALL.iter().position(|(form, _)| *form == self.form).unwrap_or_default();
        (self.ink.code(), form as u8, self.dash)
    }

    /// The form and the CSS classes of a code.
    pub(crate) fn classes((ink, form, dash): (u8, u8, u8)) -> (Form, String) {
        let (form, class) = Form::ALL[usize::from(form) % Form::ALL.len()];
        let mut classes = format!("i{ink} {class}");
        if dash > 0 {
            let _ = write!(classes, " d{dash}");
        }
        (form, classes)
    }
}

/// The patterns that lie over areas, for an SVG whose ids begin with `id`.
pub(crate) fn patterns(id: &str) -> String {
    let pattern = |name: &str, path: &str| {
        format!(
            "<pattern id=\"{id}-{name}\" width=\"60\" height=\"60\" patternUnits=\"userSpaceOnUse\">\
             <path class=\"hatch\" d=\"{path}\"/></pattern>"
        )
    };
    let rising = pattern("rising", "M-10 70L70-10M-10 10L10-10M50 70L70 50");
    let falling = pattern("falling", "M-10-10L70 70M50-10L70 10M-10 50L10 70");
    let dotted = pattern("dotted", "M30 30h.1");
    format!("<defs>{rising}{falling}{dotted}</defs>")
}

/// Variables of the colours on light ground.
pub(crate) fn light() -> String {
    variables(|(light, _)| light)
}

/// Variables of the colours on dark ground.
pub(crate) fn dark() -> String {
    variables(|(_, dark)| dark)
}

fn variables(ground: impl Fn((&'static str, &'static str)) -> &'static str) -> String {
    let roles = ROLES.map(|(name, light, dark)| format!("--{name}:{};", ground((light, dark))));
    let series = (0..).zip(SERIES).map(|(n, colours)| format!("--s{n}:{};", ground(colours)));
    roles.into_iter().chain(series).collect()
}

/// The rules for the inside of charts. A unit is a tenth of a pixel.
pub(crate) fn rules() -> String {
    let mut rules = String::new();
    for n in 0..SERIES.len() {
        let _ = write!(rules, ".i{n}{{color:var(--s{n})}}");
    }
    rules.push_str(
        ".i8{color:var(--text)}.i9{color:var(--muted)}.i10{color:var(--grid)}\
         .chart text{font-size:125px;fill:currentColor;stroke:none}\
         .chart .halo{paint-order:stroke;stroke:var(--ground);stroke-width:40px;stroke-linejoin:round}\
         .line,.thin,.hair{fill:none;stroke:currentColor;stroke-width:20px;stroke-linejoin:round;stroke-linecap:round}\
         .thin{stroke-width:12px}.faint{stroke-opacity:.6}.hair{stroke-width:10px}\
         .d1{stroke-dasharray:70 50}.d2{stroke-dasharray:1 40}.d3{stroke-dasharray:120 45 1 45}\
         .band{fill:currentColor;fill-opacity:.22}\
         .solid{fill:currentColor;stroke:var(--ground);stroke-width:7px}\
         .hatch{fill:none;stroke:var(--ground);stroke-width:13px;stroke-linecap:round}",
    );
    rules
}

/// The whole style of a chart in a file of its own: on light ground, and without variables, which not every program knows.
pub(crate) fn of_a_file() -> String {
    let mut style = rules();
    let light = |(light, _): (&'static str, &'static str)| light;
    for (n, colours) in SERIES.into_iter().enumerate() {
        style = style.replace(&format!("var(--s{n})"), light(colours));
    }
    for (name, light, _) in ROLES {
        style = style.replace(&format!("var(--{name})"), light);
    }
    format!(".chart text{{font-family:'{FAMILY}',system-ui,sans-serif}}.chart .title{{font-size:170px}}{style}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance and contrast as WCAG 2 defines them.
    fn contrast(a: &str, b: &str) -> f64 {
        let luminance = |colour: &str| {
            let part = |at: usize| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            let linear = |c: f64| if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
            0.2126 * linear(part(1)) + 0.7152 * linear(part(3)) + 0.0722 * linear(part(5))
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn colours_are_seen_on_either_ground() {
        assert!((contrast("#ffffff", "#000000") - 21.0).abs() < 1e-9);
        let [(_, light, dark), text, muted, _, raised] = ROLES;
        for colours in SERIES {
            assert!(contrast(colours.0, light) >= 3.0 && contrast(colours.1, dark) >= 3.0, "{colours:?}");
        }
        for (name, on_light, on_dark) in [text, muted] {
            for (light, dark) in [(light, dark), (raised.1, raised.2)] {
                assert!(contrast(on_light, light) >= 4.5 && contrast(on_dark, dark) >= 4.5, "{name}");
            }
        }
    }

    #[test]
    fn codes_stand_for_looks() {
        let look = Look::new(Ink::Series(9), Form::Thin).dashed(5);
        assert_eq!(look.code(), (1, 1, 1));
        assert_eq!(Look::classes(look.code()), (Form::Thin, "i1 thin d1".to_owned()));
        let text = Look::new(Ink::Text, Form::Falling);
        assert_eq!(Look::classes(text.code()), (Form::Falling, "i8 solid".to_owned()));
    }

    #[test]
    fn a_file_has_no_variables() {
        assert!(rules().contains("var(--s7)") && light().contains("--s7:") && dark().contains("--s7:"));
        assert!(!of_a_file().contains("var("), "{}", of_a_file());
    }
}
