//! The command `fleet`.

fn main() {}
