//! Benchmarks against peers: generator, faults and oracle. Empty so far: what is measured stands in the examples of
//! the crates that are measured (`vulndb/examples/bench`, `scanner/examples/measure`, the agent's examples).
//! It must never be what a test of correctness depends on.
