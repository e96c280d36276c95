//! Wiring of the service.
fn main() {}
