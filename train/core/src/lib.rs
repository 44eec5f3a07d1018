//! The mathematics of training: models, gradients, optimisers, order and reduction.
//!
//! Everything here is a function of its arguments: no files, no network, no clock, no environment, no threads. The caller
//! decides who computes what; the results are the same bits for every decision:
//!
//! * [`order`]: which mini-batches make which step, a pure function of the seed;
//! * [`pmf`]: matrix factorisation with Nesterov momentum, for ratings;
//! * [`logistic`]: logistic regression with Adam, for click rows;
//! * [`quality`]: how good predicted probabilities are;
//! * [`wire`]: gradients and the state of a replica as bytes.
//!
//! Sums of floating-point numbers have a fixed order everywhere, so a vectorised kernel gives the bits of the portable one.

mod float;
pub mod lanes;
pub mod logistic;
pub mod order;
pub mod pmf;
pub mod quality;
pub mod wire;
