//! The correlator's decisions: a function from (state of one artifact, event) to (state changes, outputs).
//! It must never do I/O, read a clock, or know of Kafka: time comes in as [`Event::Tick`], order as [`Order`].
//!
//! State is a join-semilattice (DESIGN section 4): every entity merges by min, max, union or "the later offset of
//! its own topic wins", so the end state is the same however the input topics interleave and however often an input
//! comes. Outputs are a function of the state alone, so they are the same however the inputs were batched.

mod alert;
mod apply;
mod artifact;
mod cache;
mod classes;
mod coverage;
mod credit;
mod emit;
mod entity;
mod event;
mod hold;
pub mod limits;
mod merge;
mod observed;
mod output;
mod package;
mod place;
mod priority;
mod recommendation;
mod records;
mod scan;
mod seen;
mod tick;
mod totals;
mod usage;

pub use artifact::{Artifact, Finished, StateChange, StateError};
pub use entity::{EntityKey, Order, STATE_FORMAT};
pub use event::{Event, Refusal};
pub use output::Output;
