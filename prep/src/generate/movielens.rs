//! Ratings shaped like MovieLens: popularity by Zipf's law, log-normal activity, low-rank taste, biases and noise.
//!
//! A rating is `3.55 + b_user + b_movie + <p_user, q_movie> + noise`, rounded to half stars and kept in `0.5..=5`. The spreads
//! give a mean of about 3.5 and a standard deviation of about 1.05, as the real sets have. Everything random about a user comes
//! from a stream of its own, so users can be made in any order. There is no I/O here.

use random::Stream;

/// Factors of taste.
const N_FACTORS: usize = 10;
/// Standard deviations of user bias, movie bias and noise, in stars.
const USER_BIAS_SD: f64 = 0.42;
const MOVIE_BIAS_SD: f64 = 0.40;
const NOISE_SD: f64 = 0.72;
/// Mean of all ratings before rounding, in stars, and of the movies' biases.
const MEAN: f64 = 3.55;
const MOVIE_BIAS_MEAN: f64 = 0.1;
/// The weight of the movie with rank `r` in popularity is `(r + POPULARITY_SHIFT)^-POPULARITY_EXPONENT`.
const POPULARITY_SHIFT: f64 = 60.0;
const POPULARITY_EXPONENT: f64 = 1.35;
/// Standard deviation of the logarithm of a user's activity.
const ACTIVITY_SD: f64 = 1.25;
/// Ratings that every user has when there are enough, as in the real sets.
const USER_ROWS_MIN: u64 = 20;
/// The largest share of the movies that one user rates, when there are enough users.
const USER_SHARE_MAX: f64 = 0.35;
/// When the first and the last rating of the real 20M set were made.
const TIME_RANGE: std::ops::Range<u64> = 789_652_009..1_427_784_002;
const DAY_SECONDS: u64 = 86_400;

/// The first line.
pub(super) const HEADER: &[u8] = b"userId,movieId,rating,timestamp\n";

/// Everything that is drawn before the ratings.
pub(super) struct World {
    /// Ratings of each user.
    pub user_rows: Vec<u32>,
    movies: Vec<Movie>,
    popularity: Popularity,
    users: Stream,
}

struct Movie {
    id: u32,
    bias: f32,
    factors: [f32; N_FACTORS],
}

impl World {
    /// The world of `seed` with exactly `ratings` ratings.
    pub(super) fn new(seed: u64, ratings: u64, users: u32, movies: u32) -> Self {
        Self {
            user_rows: activity(&Stream::new(seed, "activity"), ratings, users, movies),
            movies: draw_movies(&Stream::new(seed, "movies"), movies),
            popularity: Popularity::new(&mut Stream::new(seed, "popularity"), movies as usize),
            users: Stream::new(seed, "users"),
        }
    }
}

/// `N_FACTORS` normal numbers.
fn factors(stream: &mut Stream) -> [f32; N_FACTORS] {
    let mut factors = [0.0; N_FACTORS];
    for pair in factors.chunks_mut(2) {
        let (a, b) = stream.normal_pair();
        pair.copy_from_slice(&[a as f32, b as f32][..pair.len()]);
    }
    factors
}

fn draw_movies(stream: &Stream, movies: u32) -> Vec<Movie> {
    // Ids become sparser as the catalogue grows, as in the real sets: 26,744 movies have ids up to 131,262.
    let mut last = 0;
    let movie = |number: u32| {
        let mut stream = stream.at(number.into());
        let gap_max = if number < movies / 3 { 2 } else { 12 };
        last += 1 + stream.below(gap_max) as u32;
        let bias = (MOVIE_BIAS_MEAN + MOVIE_BIAS_SD * stream.normal_pair().0) as f32;
        Movie { id: last, bias, factors: factors(&mut stream) }
    };
    (0..movies).map(movie).collect()
}

/// How many ratings each user has: log-normal between a least and a most, and exactly `ratings` together.
fn activity(stream: &Stream, ratings: u64, users: u32, movies: u32) -> Vec<u32> {
    let mean = ratings.div_ceil(users.into());
    let most = ((USER_SHARE_MAX * f64::from(movies)) as u64).max(mean + mean / 2).min(movies.into());
    let least = USER_ROWS_MIN.min(ratings / u64::from(users)).min(most);
    let weights: Vec<f64> = (0..users).map(|u| libm::exp(ACTIVITY_SD * stream.at(u.into()).normal_pair().0)).collect();
    let rows = |weight: f64, scale: f64| ((least as f64 + weight * scale) as u64).min(most);
    // The largest scale that gives no more than there are: bisection, as the sum grows with the scale.
    let (mut low, mut high) = (0.0, ratings as f64 / weights.iter().copied().fold(f64::INFINITY, f64::min));
    for _ in 0..100 {
        let middle = low + (high - low) / 2.0;
        let sum: u64 = weights.iter().map(|&weight| rows(weight, middle)).sum();
        if sum <= ratings { low = middle } else { high = middle }
    }
    let mut user_rows: Vec<u32> = weights.iter().map(|&weight| rows(weight, low) as u32).collect();
    // Rounding down has left fewer over than there are users; users chosen at random get one more each.
    let mut left = ratings - user_rows.iter().map(|&n| u64::from(n)).sum::<u64>();
    let mut order: Vec<u32> = (0..users).collect();
    stream.at(u64::from(users)).shuffle(&mut order);
    while left > 0 {
        for &user in &order {
            let rows = &mut user_rows[user as usize];
            if left > 0 && u64::from(*rows) < most {
                *rows += 1;
                left -= 1;
            }
        }
    }
    user_rows
}

/// Draws movies by popularity in constant time.
///
/// Source: Walker's alias method in the form of Vose, *A linear algorithm for generating random numbers with a given
/// distribution*, IEEE TSE 1991.
struct Popularity {
    /// Probability of keeping the drawn slot, in multiples of 2^-32, and the movies it then stands for, or else.
    slots: Vec<(u32, u32, u32)>,
}

impl Popularity {
    fn new(stream: &mut Stream, n: usize) -> Self {
        let mut by_rank: Vec<u32> = (0..n as u32).collect();
        stream.shuffle(&mut by_rank);
        let weight = |rank: usize| libm::pow(rank as f64 + POPULARITY_SHIFT, -POPULARITY_EXPONENT);
        let weights: Vec<f64> = (0..n).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let mut scaled: Vec<f64> = weights.iter().map(|w| w * n as f64 / sum).collect();
        let mut slots: Vec<(u32, u32, u32)> = by_rank.iter().map(|&movie| (u32::MAX, movie, movie)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&rank| scaled[rank] < 1.0);
        while let (Some(&less), Some(&more)) = (small.last(), large.last()) {
            small.pop();
            slots[less].0 = (scaled[less] * 2f64.powi(32)) as u32;
            slots[less].2 = by_rank[more];
            scaled[more] -= 1.0 - scaled[less];
            if scaled[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        Self { slots }
    }

    #[inline]
    fn draw(&self, stream: &mut Stream) -> u32 {
        let (keep_below, movie, alias) = self.slots[stream.below(self.slots.len() as u64) as usize];
        if (stream.next_u64() as u32) < keep_below { movie } else { alias }
    }
}

/// Writes the ratings of one user after another.
pub(super) struct Writer<'a> {
    world: &'a World,
    chosen: Vec<u32>,
    is_chosen: Vec<bool>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self { world, chosen: Vec::new(), is_chosen: vec![false; world.movies.len()] }
    }

    /// Appends the lines of user number `user`, from 0, to `text`.
    pub(super) fn write_user(&mut self, user: usize, text: &mut Vec<u8>) {
        let mut stream = self.world.users.at(user as u64);
        let bias = MEAN + USER_BIAS_SD * stream.normal_pair().0;
        let mut taste = factors(&mut stream);
        for (k, factor) in taste.iter_mut().enumerate() {
            // Falling from 1.4 to 0.5: some directions of taste matter more than others.
            let weight = 1.4 - 0.9 * k as f32 / (N_FACTORS - 1) as f32;
            *factor *= 0.5 * weight / (N_FACTORS as f32).sqrt();
        }
        let first_time = TIME_RANGE.start + stream.below(TIME_RANGE.end - TIME_RANGE.start);
        self.choose_movies(&mut stream, self.world.user_rows[user] as usize);
        let mut user_field = Digits::default();
        user_field.set(user as u64 + 1);
        let mut spare = None;
        for &number in &self.chosen {
            let movie = &self.world.movies[number as usize];
            let noise = spare.take().unwrap_or_else(|| {
                let (noise, next) = stream.normal_pair();
                spare = Some(next);
                noise
            });
            let agreement: f32 = taste.iter().zip(&movie.factors).map(|(p, q)| p * q).sum();
            let stars = bias + f64::from(movie.bias) + f64::from(agreement) + NOISE_SD * noise;
            let halves = libm::round(stars * 2.0).clamp(1.0, 10.0) as u8;
            let time = first_time + stream.below(DAY_SECONDS);
            push_line(text, &user_field, movie.id, halves, time);
        }
    }

    /// Puts `n` different movies in `chosen`, in ascending order.
    fn choose_movies(&mut self, stream: &mut Stream, n: usize) {
        let Self { world, chosen, is_chosen } = self;
        chosen.clear();
        // A user who has seen most popular movies draws many of them again; then the rest is chosen evenly from the others.
        for _ in 0..4 * n {
            if chosen.len() == n {
                break;
            }
            let movie = world.popularity.draw(stream);
            if !std::mem::replace(&mut is_chosen[movie as usize], true) {
                chosen.push(movie);
            }
        }
        if chosen.len() < n {
            let mut others: Vec<u32> = (0..is_chosen.len() as u32).filter(|&m| !is_chosen[m as usize]).collect();
            for i in 0..n - chosen.len() {
                let j = i + stream.below((others.len() - i) as u64) as usize;
                others.swap(i, j);
                chosen.push(others[i]);
            }
        }
        chosen.sort_unstable();
        chosen.iter().for_each(|&movie| is_chosen[movie as usize] = false);
    }
}

/// A number in decimal digits.
#[derive(Default)]
struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    #[inline]
    fn set(&mut self, mut n: u64) {
        self.start = self.bytes.len();
        loop {
            self.start -= 1;
            self.bytes[self.start] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

fn push_line(text: &mut Vec<u8>, user: &Digits, movie: u32, halves: u8, time: u64) {
    let mut digits = Digits::default();
    text.extend_from_slice(user.get());
    text.push(b',');
    digits.set(movie.into());
    text.extend_from_slice(digits.get());
    text.extend_from_slice(&[b',', b'0' + halves / 2, b'.', b'0' + 5 * (halves % 2), b',']);
    digits.set(time);
    text.extend_from_slice(digits.get());
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn counts_are_exact_and_pairs_unique(seed: u64, users in 1u32..40, movies in 1u32..60, share in 0.0..=1.0) {
            let pairs = u64::from(users) * u64::from(movies);
            let ratings = u64::from(users) + ((pairs - u64::from(users)) as f64 * share) as u64;
            let world = World::new(seed, ratings, users, movies);
            let mut writer = Writer::new(&world);
            let mut text = Vec::new();
            (0..users as usize).for_each(|user| writer.write_user(user, &mut text));
            let text = String::from_utf8(text).unwrap();
            let keys: Vec<(u32, u32)> = text
                .lines()
                .map(|line| {
                    let fields: Vec<&str> = line.split(',').collect();
                    (fields[0].parse().unwrap(), fields[1].parse().unwrap())
                })
                .collect();
            prop_assert_eq!(keys.len() as u64, ratings);
            prop_assert!(keys.is_sorted());
            prop_assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
            prop_assert_eq!(keys.iter().map(|k| k.0).collect::<BTreeSet<_>>().len(), users as usize);
        }
    }

    #[test]
    fn popular_movies_are_drawn_as_often_as_they_should() {
        let n = 50;
        let popularity = Popularity::new(&mut Stream::new(1, "popularity"), n);
        let mut by_rank: Vec<u32> = (0..n as u32).collect();
        Stream::new(1, "popularity").shuffle(&mut by_rank);
        let weight = |rank: usize| (rank as f64 + 60.0).powf(-1.35);
        let sum: f64 = (0..n).map(weight).sum();
        let draws = 400_000;
        let mut counts = vec![0u32; n];
        let mut stream = Stream::new(2, "draws");
        (0..draws).for_each(|_| counts[popularity.draw(&mut stream) as usize] += 1);
        let chi2: f64 = (0..n)
            .map(|rank| {
                let expected = weight(rank) / sum * f64::from(draws);
                (f64::from(counts[by_rank[rank] as usize]) - expected).powi(2) / expected
            })
            .sum();
        // 99.99th percentile of chi-square with 49 degrees of freedom.
        assert!(chi2 < 94.0, "{chi2}");
    }
}
