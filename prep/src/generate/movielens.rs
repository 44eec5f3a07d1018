//! Ratings shaped like MovieLens: popularity by Zipf's law, log-normal activity, low-rank taste, biases and noise.
//!
//! A rating is `3.55 + b_user + b_movie + <p_user, q_movie> + noise`, rounded to half stars and kept in `0.5..=5`. The spreads
//! give a mean of about 3.5 and a standard deviation of about 1.05, as the real sets have. Everything random about a user comes
//! from a stream of its own, so users can be made in any order. There is no I/O here.

use random::Stream;

use super::alias::Alias;
use super::{Pieces, Tally};

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

/// Users whose ratings are made at a time, by one thread.
const USERS_AT_A_TIME: usize = 64;

/// Everything that is drawn before the ratings.
pub(super) struct World {
    /// Ratings of each user.
    user_rows: Vec<u32>,
    movies: Vec<Movie>,
    popularity: Alias,
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
            popularity: popularity(&mut Stream::new(seed, "popularity"), movies as usize),
            users: Stream::new(seed, "users"),
        }
    }
}

impl Pieces for World {
    type Scratch = Scratch;

    const HEADER: &'static [u8] = b"userId,movieId,rating,timestamp\n";

    fn scratch(&self) -> Scratch {
        Scratch { chosen: Vec::new(), is_chosen: vec![false; self.movies.len()] }
    }

    fn write(&self, number: u64, scratch: &mut Scratch, text: &mut Vec<u8>) -> Option<Tally> {
        let from = usize::try_from(number).ok()?.checked_mul(USERS_AT_A_TIME)?;
        let users = from..self.user_rows.len().min(from + USERS_AT_A_TIME);
        let rows = self.user_rows.get(users.clone())?.iter().map(|&rows| u64::from(rows)).sum();
        users.for_each(|user| self.write_user(user, scratch, text));
        (rows > 0).then_some(Tally { rows, ..Tally::default() })
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

/// The movies, the popular ones more often. Which ones are popular is random.
fn popularity(stream: &mut Stream, n: usize) -> Alias {
    let mut by_rank: Vec<u32> = (0..n as u32).collect();
    stream.shuffle(&mut by_rank);
    let weight = |rank: usize| libm::pow(rank as f64 + POPULARITY_SHIFT, -POPULARITY_EXPONENT);
    let weights: Vec<f64> = (0..n).map(weight).collect();
    Alias::new(&by_rank, &weights)
}

/// The movies of one user after another.
pub(super) struct Scratch {
    chosen: Vec<u32>,
    is_chosen: Vec<bool>,
}

impl World {
    /// Appends the lines of user number `user`, from 0, to `text`.
    fn write_user(&self, user: usize, scratch: &mut Scratch, text: &mut Vec<u8>) {
        let mut stream = self.users.at(user as u64);
        let bias = MEAN + USER_BIAS_SD * stream.normal_pair().0;
        let mut taste = factors(&mut stream);
        for (k, factor) in taste.iter_mut().enumerate() {
            // Falling from 1.4 to 0.5: some directions of taste matter more than others.
            let weight = 1.4 - 0.9 * k as f32 / (N_FACTORS - 1) as f32;
            *factor *= 0.5 * weight / (N_FACTORS as f32).sqrt();
        }
        let first_time = TIME_RANGE.start + stream.below(TIME_RANGE.end - TIME_RANGE.start);
        self.choose_movies(&mut stream, self.user_rows[user] as usize, scratch);
        let mut user_field = Digits::default();
        user_field.set(user as u64 + 1);
        let mut spare = None;
        for &number in &scratch.chosen {
            let movie = &self.movies[number as usize];
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
    fn choose_movies(&self, stream: &mut Stream, n: usize, scratch: &mut Scratch) {
        let Scratch { chosen, is_chosen } = scratch;
        chosen.clear();
        // A user who has seen most popular movies draws many of them again; then the rest is chosen evenly from the others.
        for _ in 0..4 * n {
            if chosen.len() == n {
                break;
            }
            let slot = stream.below(self.popularity.len() as u64) as usize;
            let movie = self.popularity.draw(slot, stream.next_u64() as u32);
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
            let (mut scratch, mut text) = (world.scratch(), Vec::new());
            let blocks = (0..).map_while(|number| world.write(number, &mut scratch, &mut text));
            prop_assert_eq!(blocks.map(|tally| tally.rows).sum::<u64>(), ratings);
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
}
