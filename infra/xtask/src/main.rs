//! Build, set-up, test and demo commands of the repository.
fn main() {}
