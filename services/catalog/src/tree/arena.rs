//! Compact storage of many short byte strings: each stands once, found again by a 4-byte id.
//! Never moves or frees a stored string, and never holds more than 4 GiB.

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

const CHUNK_BITS: u32 = 20;
const CHUNK_BYTES: usize = 1 << CHUNK_BITS;
const MAX_CHUNKS: usize = 1 << (32 - CHUNK_BITS);
const LENGTH_BYTES: usize = 2;

/// Longest string that an arena takes, in bytes.
#[cfg(test)]
const MAX_STRING_BYTES: usize = u16::MAX as usize;

/// Byte strings in fixed chunks, so that growing never copies (a doubling vector would need three times the memory).
#[derive(Default)]
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
}

impl Arena {
    /// Stores `bytes`; `None` when it is too long or the arena is full.
    pub fn push(&mut self, bytes: &[u8]) -> Option<u32> {
        let length = u16::try_from(bytes.len()).ok()?;
        let need = LENGTH_BYTES + bytes.len();
        let fits = self.chunks.last().is_some_and(|chunk| chunk.len() + need <= CHUNK_BYTES);
        if !fits {
            if self.chunks.len() == MAX_CHUNKS {
                return None;
            }
            // The first chunks grow by need, so that small trees stay small.
            let capacity = if self.chunks.len() < 2 { 4096.max(need) } else { CHUNK_BYTES };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let index = self.chunks.len() - 1;
        let chunk = self.chunks.last_mut()?;
        let id = (index << CHUNK_BITS) | chunk.len();
        chunk.extend_from_slice(&length.to_le_bytes());
        chunk.extend_from_slice(bytes);
        u32::try_from(id).ok()
    }

    /// The string that `push` gave `id` for.
    pub fn get(&self, id: u32) -> &[u8] {
        let chunk = &self.chunks[(id >> CHUNK_BITS) as usize];
        let start = id as usize & (CHUNK_BYTES - 1);
        let length = u16::from_le_bytes([chunk[start], chunk[start + 1]]) as usize;
        &chunk[start + LENGTH_BYTES..start + LENGTH_BYTES + length]
    }

    /// Bytes that the arena occupies.
    pub fn allocated_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum()
    }
}

/// An arena in which equal strings have equal ids.
#[derive(Default)]
pub(crate) struct Interner {
    arena: Arena,
    table: HashTable<u32>,
    // Keyed at random: names come from artifacts that an attacker may have made.
    hasher: RandomState,
}

impl Interner {
    /// The id of `bytes`, storing it if it is new; `None` when it is too long or the arena is full.
    pub fn intern(&mut self, bytes: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(bytes);
        if let Some(id) = self.table.find(hash, |id| self.arena.get(*id) == bytes) {
            return Some(*id);
        }
        let id = self.arena.push(bytes)?;
        let (arena, hasher) = (&self.arena, &self.hasher);
        self.table.insert_unique(hash, id, |id| hasher.hash_one(arena.get(*id)));
        Some(id)
    }

    /// The id of `bytes` if it is stored.
    pub fn find(&self, bytes: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(bytes);
        self.table.find(hash, |id| self.arena.get(*id) == bytes).copied()
    }

    pub fn get(&self, id: u32) -> &[u8] {
        self.arena.get(id)
    }

    pub fn allocated_bytes(&self) -> usize {
        self.arena.allocated_bytes() + self.table.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_across_chunks() {
        let mut names = Interner::default();
        let strings: Vec<Vec<u8>> = (0..2000u32).map(|i| format!("{i}-").repeat(300).into_bytes()).collect();
        let ids: Vec<u32> = strings.iter().map(|s| names.intern(s).unwrap()).collect();
        for (string, id) in strings.iter().zip(&ids) {
            assert_eq!(names.get(*id), string);
            assert_eq!(names.find(string), Some(*id));
            assert_eq!(names.intern(string), Some(*id));
        }
        assert_eq!(names.find(b"absent"), None);
        assert_eq!(names.intern(&vec![b'x'; MAX_STRING_BYTES + 1]), None);
    }
}
