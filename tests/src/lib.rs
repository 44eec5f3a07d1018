//! Tests of the whole: nothing lives here, the tests are in `pipeline.rs` and `tidy.rs` beside this folder.
