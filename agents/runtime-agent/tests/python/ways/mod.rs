//! Python in all the ways that it is started, packed and installed, by both ways of observing: what was loaded is told,
//! what was only installed, listed or read as data is not, and what cannot be seen is said to be so.
//! The packages come from pip's own registry, once, into the cache.

use super::support;

mod installed;
mod kit;
mod other_interpreters;
mod packed;
mod servers;
mod tools;
