//! Reads the entity ids of tombstones, which have a key and nothing else.
//! It must never take an id of another shape for one of its own.

use plimsoll_schemas::key::SEPARATOR;
use thiserror::Error;

/// Why a tombstone's key is not one of its topic. The producer is at fault: the record goes to the dead letters.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The entity id has another number of parts.
    #[error("entity id has {found} parts instead of {expected}")]
    Parts {
        /// Parts that the topic's entity has.
        expected: usize,
        /// Parts that were found.
        found: usize,
    },
    /// There is an entity id where the artifact itself is the entity.
    #[error("the entity id is not empty")]
    NotEmpty,
    /// A part is not UTF-8.
    #[error("part {0} of the entity id is not UTF-8")]
    NotText(usize),
    /// A part is no number.
    #[error("part {0} of the entity id is no number")]
    NotNumber(usize),
    /// A part is no component key.
    #[error("{0}")]
    Component(#[from] plimsoll_schemas::identity::IdentityError),
}

/// Splits an entity id into exactly `N` parts of text.
pub fn parts<const N: usize>(entity: &[u8]) -> Result<[String; N], KeyError> {
    let mut texts = Vec::with_capacity(N);
    for (index, part) in entity.split(|byte| *byte == SEPARATOR).enumerate() {
        let text = std::str::from_utf8(part).map_err(|_| KeyError::NotText(index))?;
        texts.push(text.to_owned());
    }
    let found = texts.len();
    texts.try_into().map_err(|_| KeyError::Parts { expected: N, found })
}
