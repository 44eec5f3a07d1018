//! The mathematics of training: models, gradients, optimisers, order and reduction.
//!
//! Everything here is a function of its arguments: no files, no network, no clock, no environment, no threads. The caller
//! decides who computes what; the results are the same bits for every decision:
//!
//! * [`order`]: which mini-batches make which step, a pure function of the seed;
//! * [`batch`]: a mini-batch of ratings, arranged for the kernels;
//! * [`factors`]: the factor matrices, in blocks of rows that carry their momentum;
//! * [`gradient`]: gradient and loss of one mini-batch;
//! * [`nesterov`]: reduction of a step's gradients in a fixed tree, and stochastic gradient descent with exact lazy Nesterov
//!   momentum;
//! * [`dense`]: the same training in its textbook form, slow and readable, which the tests hold against the fast one.
//!
//! Sums of floating-point numbers have a fixed order everywhere, so a vectorised kernel gives the bits of the portable one.

pub mod batch;
pub mod dense;
pub mod factors;
pub mod gradient;
pub mod lanes;
pub mod nesterov;
pub mod order;
