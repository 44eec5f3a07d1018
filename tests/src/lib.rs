//! Tests of the whole: nothing lives here, the tests are in `tests/`.
