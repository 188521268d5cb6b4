//! From a key's bytes to its slot. The databases' fences compute the same in SQL: the files in `vectors` bind both.

use crate::slots::Slot;
use md5::{Digest, Md5};
use std::fmt;

/// How a key becomes a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// CRC-32 (IEEE 802.3, as in zlib) of the key's bytes, modulo the number of slots.
    Crc32,
    /// The first four bytes of the MD5 of the key's bytes, as one number whose highest byte is the first, modulo the number of
    /// slots. Built into servers that have no CRC-32.
    Md5,
    /// Every key is in slot 0, the only one of a store with a single writer.
    SingleWriter,
}

impl Function {
    /// The slot of `key` in a keyspace of `slots` slots, which is at least 1 and at most [`crate::slots::MAX_SLOTS`].
    ///
    /// ```
    /// # use multiactive_core::hash::Function;
    /// assert_eq!(Function::Crc32.slot(b"MySQL", 16_384), (3_259_397_556_u32 % 16_384) as u16);
    /// ```
    pub fn slot(self, key: &[u8], slots: u32) -> Slot {
        let hash = match self {
            Self::Crc32 => crc32fast::hash(key),
            Self::Md5 => {
                let [first, second, third, fourth, ..]: [u8; 16] = Md5::digest(key).into();
                u32::from_be_bytes([first, second, third, fourth])
            }
            Self::SingleWriter => 0,
        };
        // A keyspace never has 0 slots; a division by zero must not take a router down if one is declared all the same.
        Slot::try_from(hash % slots.max(1)).unwrap_or(Slot::MAX)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crc32 => f.write_str("Crc32"),
            Self::Md5 => f.write_str("Md5"),
            Self::SingleWriter => f.write_str("SingleWriter"),
        }
    }
}
