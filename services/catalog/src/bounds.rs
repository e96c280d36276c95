//! What a reader left out because a named bound was reached: one warning for a file says all of it.
//! Never lets a bound cut in silence: whoever takes no more of something notes here what the rest is.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A bound that tests reach with little work.
pub(crate) const fn bound(real: usize, in_tests: usize) -> usize {
    if cfg!(test) { in_tests } else { real }
}

/// See the module's documentation. Holds no text of the artifact, so it stays small.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LeftOut(BTreeSet<String>);

impl LeftOut {
    /// Notes that there are more than `max` of `what`.
    pub fn beyond(&mut self, max: usize, what: &str) {
        self.0.insert(format!("more than {max} {what}"));
    }

    /// Cuts `list` to `max` entries, which are called `what`.
    pub fn keep<T>(&mut self, list: &mut Vec<T>, max: usize, what: &str) {
        if list.len() > max {
            list.truncate(max);
            self.beyond(max, what);
        }
    }

    /// The first `max` of `all`, which are called `what`.
    pub fn first<T>(&mut self, all: impl Iterator<Item = T>, max: usize, what: &str) -> Vec<T> {
        let mut kept: Vec<T> = all.take(max.saturating_add(1)).collect();
        self.keep(&mut kept, max, what);
        kept
    }

    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For people: `more than 2000 dependencies, more than 200 programs`.
    pub fn text(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
#[path = "bounds_tests.rs"]
mod tests;
