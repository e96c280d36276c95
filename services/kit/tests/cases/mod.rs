//! The cases, by what they are about.

pub mod groups;
pub mod records;
pub mod transactions;
