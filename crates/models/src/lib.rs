//! Networks and margins.
