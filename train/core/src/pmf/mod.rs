//! Probabilistic matrix factorisation with Nesterov momentum.
//!
//! * [`batch`]: a mini-batch of ratings, arranged for the kernels.
//! * [`factors`]: the factor matrices, in blocks of rows that carry their momentum.
//! * [`gradient`]: gradient and loss of one mini-batch.
//! * [`nesterov`]: reduction of a step's gradients in a fixed tree, and stochastic gradient descent with exact lazy Nesterov
//!   momentum.
//! * [`predict`]: outputs of a finished model.
//! * [`textbook`]: the same training in its textbook form, slow and readable, which the tests hold against the fast one.

pub mod batch;
pub mod factors;
pub mod gradient;
pub mod nesterov;
pub mod predict;
pub mod textbook;
