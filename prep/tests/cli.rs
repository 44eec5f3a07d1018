//! The real binary: what it prints, what it leaves behind, and with which exit code.
