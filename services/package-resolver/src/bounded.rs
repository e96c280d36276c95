//! A map that forgets: two generations, of which the older one goes when the newer is full.
//! Never holds more than its bound; forgetting must only cost time.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module's documentation.
#[derive(Debug)]
pub struct BoundedMap<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation_max: usize,
}

impl<K: Hash + Eq, V: Clone> BoundedMap<K, V> {
    /// Holds at most `max_entries`, and at least the last half of them.
    pub fn new(max_entries: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation_max: (max_entries / 2).max(1) }
    }

    /// The value, if it is still known.
    pub fn get(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    /// Remembers a value.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Forgets a value.
    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_half_at_least() {
        let mut map = BoundedMap::new(10);
        for key in 0..1_000 {
            map.insert(key, key);
            assert!(map.young.len() + map.old.len() <= 10);
            for recent in (key - 4).max(0)..=key {
                assert_eq!(map.get(&recent), Some(recent));
            }
        }
        assert_eq!(map.get(&900), None);
        map.remove(&999);
        assert_eq!(map.get(&999), None);
    }
}
