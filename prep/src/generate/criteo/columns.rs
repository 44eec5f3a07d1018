//! The shape of each column: figures of the first 10,000 rows and of all 45.8 million rows of Kaggle's `train.txt`.

/// Shape of a column of whole numbers.
pub(super) struct Numeric {
    /// Which columns miss their values together.
    pub absence: usize,
    /// Minimum, 25th, 50th, 75th, 90th and 99th percentile, and maximum of the values present.
    pub quantiles: [i32; 7],
    /// What one standard deviation of the value's logarithm adds to the logit.
    pub effect: f64,
}

/// Shape of a column of tokens.
pub(super) struct Categorical {
    /// Which columns miss their values together.
    pub absence: usize,
    /// Shares of the three most frequent tokens among the values present.
    pub top: [f64; 3],
    /// Tokens there are.
    pub vocabulary: u32,
    /// The token with rank `r`, from 3, has a weight of `(r - 3 + shift)^-exponent`,
    pub shift: f64,
    /// or, scaled to the share that the top leaves over,
    pub exponent: f64,
    /// with this share of it spread evenly over all of them.
    pub even: f64,
}

/// How often values are missing, by the number that columns call `absence`. Columns with the same number miss them in the same
/// rows, as those of the real log do.
pub(super) const ABSENCES: [f64; 12] =
    [0.0, 0.448, 0.204, 0.198, 0.049, 0.251, 0.001, 0.773, 0.036, 0.133, 0.450, 0.818];

/// `I1` to `I13`.
pub(super) const NUMERIC: [Numeric; 13] = [
    numeric(1, [0, 0, 1, 3, 8, 44, 214], 0.12),
    numeric(0, [-2, 0, 3, 38, 192, 2_223, 18_522], 0.08),
    numeric(2, [0, 2, 7, 21, 52, 303, 65_535], 0.06),
    numeric(3, [0, 2, 4, 10, 20, 44, 280], -0.06),
    numeric(4, [0, 272, 2_491, 10_493, 32_451, 312_517, 1_618_112], -0.15),
    numeric(5, [0, 9, 40, 129, 335, 1_737, 12_167], -0.12),
    numeric(4, [0, 0, 3, 10, 30, 190, 1_658], 0.15),
    numeric(6, [0, 2, 7, 20, 35, 48, 682], -0.05),
    numeric(4, [0, 10, 41, 123, 308, 1_229, 7_335], 0.05),
    numeric(1, [0, 0, 0, 1, 1, 3, 6], 0.10),
    numeric(4, [0, 0, 1, 2, 5, 22, 79], 0.12),
    numeric(7, [0, 0, 0, 1, 2, 14, 98], 0.05),
    numeric(3, [0, 2, 5, 13, 27, 74, 770], -0.06),
];

/// `C1` to `C26`. Vocabulary, shift, exponent and even share are fitted to the numbers of different tokens in 10,000 and in
/// 45.8 million rows, by `tests/oracle/criteo_tails.py`.
pub(super) const CATEGORICAL: [Categorical; 26] = [
    categorical(0, [0.500, 0.172, 0.084], 1_460, 2.37, 1.7787, 0.0),
    categorical(0, [0.123, 0.065, 0.047], 583, 27.31, 2.3814, 0.0),
    categorical(8, [0.049, 0.034, 0.028], 12_664_033, 6.62, 1.3608, 0.5061),
    categorical(8, [0.076, 0.064, 0.035], 2_753_260, 3.52, 1.1035, 0.0439),
    categorical(0, [0.666, 0.154, 0.064], 305, 1.63, 2.0907, 0.0),
    categorical(9, [0.530, 0.224, 0.142], 24, 0.30, 3.0221, 0.0),
    categorical(0, [0.011, 0.009, 0.008], 12_517, 48.00, 1.2408, 0.0),
    categorical(0, [0.589, 0.170, 0.077], 633, 1.63, 1.8851, 0.0),
    categorical(0, [0.887, 0.1126, 0.0004], 3, 1.0, 1.0, 0.0),
    categorical(0, [0.276, 0.011, 0.010], 93_145, 18.75, 1.1875, 0.0),
    categorical(0, [0.020, 0.020, 0.013], 5_683, 39.77, 1.3967, 0.0),
    categorical(8, [0.049, 0.034, 0.028], 9_186_752, 12.42, 1.8181, 0.5595),
    categorical(0, [0.022, 0.020, 0.015], 3_194, 32.96, 1.3767, 0.0),
    categorical(0, [0.363, 0.346, 0.160], 27, 0.30, 1.6251, 0.0),
    categorical(0, [0.019, 0.015, 0.012], 14_992, 57.92, 1.6112, 0.0),
    categorical(8, [0.049, 0.034, 0.028], 6_007_436, 6.62, 1.2954, 0.3445),
    categorical(0, [0.430, 0.133, 0.127], 10, 27.31, 12.0, 0.0),
    categorical(0, [0.051, 0.029, 0.022], 5_652, 39.77, 1.8496, 0.0),
    categorical(10, [0.601, 0.037, 0.022], 2_173, 5.03, 1.2212, 0.0),
    categorical(10, [0.362, 0.322, 0.31599], 4, 1.0, 1.0, 0.0),
    categorical(8, [0.049, 0.034, 0.028], 7_751_201, 9.07, 1.4577, 0.4652),
    categorical(11, [0.526, 0.384, 0.037], 18, 10.67, 12.0, 0.0),
    categorical(0, [0.452, 0.202, 0.104], 15, 22.63, 12.0, 0.0),
    categorical(8, [0.078, 0.077, 0.071], 286_181, 2.37, 1.1607, 0.0),
    categorical(10, [0.328, 0.199, 0.113], 105, 15.54, 5.8842, 0.0),
    categorical(10, [0.082, 0.033, 0.027], 142_572, 8.84, 1.1975, 0.0),
];

const fn numeric(absence: usize, quantiles: [i32; 7], effect: f64) -> Numeric {
    Numeric { absence, quantiles, effect }
}

const fn categorical(
    absence: usize,
    top: [f64; 3],
    vocabulary: u32,
    shift: f64,
    exponent: f64,
    even: f64,
) -> Categorical {
    Categorical { absence, top, vocabulary, shift, exponent, even }
}
