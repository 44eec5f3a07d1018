//! Tables of raw rows as DataFusion sees them.
