//! Trains and compares margin-softmax losses.
fn main() {}
