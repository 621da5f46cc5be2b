//! Decompression.

use std::collections::VecDeque;

use bytes::Bytes;

use super::field::{Field, Name, STATIC};
use super::{ENTRY_OVERHEAD, STATIC_ENTRIES, TABLE_SIZE, huffman, integer};

/// The block makes no sense: the connection has to end (RFC 9113, 4.3).
#[derive(Debug)]
pub(in super::super) struct Undecodable;

/// The receiving end's table.
#[derive(Debug)]
pub(in super::super) struct Decoder {
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
    text: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    field: Field,
    size: usize,
}

impl Decoder {
    pub(in super::super) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: TABLE_SIZE, text: Vec::new() }
    }

    /// Decompresses a block; `each` gets the fields in order with what they count.
    ///
    /// # Errors
    /// The block is broken; the table can't be used any more.
    pub(in super::super) fn decode(
        &mut self,
        mut block: &[u8],
        mut each: impl FnMut(Field, usize),
    ) -> Result<(), Undecodable> {
        let mut begun = false;
        while let Some((first, rest)) = block.split_first() {
            block = rest;
            if first & 0x80 != 0 {
                let index = integer::read(*first, &mut block, 7).ok_or(Undecodable)?;
                let (field, size) = self.entry(index)?;
                each(field.clone(), size);
            } else if first & 0xc0 == 0x40 {
                let (name, field, size) = self.literal(*first, 6, &mut block)?;
                each(field.clone(), size);
                self.insert(Entry { name, field, size });
            } else if first & 0xe0 == 0x20 {
                let size = integer::read(*first, &mut block, 5).ok_or(Undecodable)?;
                if begun || size > TABLE_SIZE {
                    return Err(Undecodable);
                }
                self.limit = size;
                self.evict(0);
                continue;
            } else {
                let sensitive = first & 0x10 != 0;
                let (_, mut field, size) = self.literal(*first, 4, &mut block)?;
                if let (Field::Header(_, value), true) = (&mut field, sensitive) {
                    value.set_sensitive(true);
                }
                each(field, size);
            }
            begun = true;
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&Field, usize), Undecodable> {
        let index = index.checked_sub(1).ok_or(Undecodable)?;
        if let Some(entry) = STATIC.get(index) {
            return Ok((&entry.field, entry.size));
        }
        let entry = self.entries.get(index - STATIC_ENTRIES).ok_or(Undecodable)?;
        Ok((&entry.field, entry.size))
    }

    fn name(&self, index: usize) -> Result<(&Name, usize), Undecodable> {
        let index = index.checked_sub(1).ok_or(Undecodable)?;
        if let Some(entry) = STATIC.get(index) {
            let length = super::field::STATIC_TEXT[index].0.len();
            return Ok((&entry.name, length));
        }
        let entry = self.entries.get(index - STATIC_ENTRIES).ok_or(Undecodable)?;
        let length = match &entry.name {
            Name::Header(name) => name.as_str().len(),
            _ => ":authority".len(),
        };
        Ok((&entry.name, length))
    }

    fn literal(
        &mut self,
        first: u8,
        bits: u32,
        block: &mut &[u8],
    ) -> Result<(Name, Field, usize), Undecodable> {
        let index = integer::read(first, block, bits).ok_or(Undecodable)?;
        let (name, name_size) = if index == 0 {
            let text = string(&mut self.text, block)?;
            (Name::parse(text), text.len())
        } else {
            let (name, size) = self.name(index)?;
            (name.clone(), size)
        };
        let value = Bytes::copy_from_slice(string(&mut self.text, block)?);
        let size = name_size + value.len() + ENTRY_OVERHEAD;
        let field = name.with(value);
        Ok((name, field, size))
    }

    fn insert(&mut self, entry: Entry) {
        self.evict(entry.size);
        if entry.size <= self.limit {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    /// Makes room for so much.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit {
            let Some(entry) = self.entries.pop_back() else { return };
            self.size -= entry.size;
        }
    }
}

/// A string literal (RFC 7541, 5.2).
fn string<'a, 'b: 'a>(
    text: &'a mut Vec<u8>,
    block: &mut &'b [u8],
) -> Result<&'a [u8], Undecodable> {
    let (first, mut rest) = block.split_first().ok_or(Undecodable)?;
    let length = integer::read(*first, &mut rest, 7).ok_or(Undecodable)?;
    let (bytes, rest) = rest.split_at_checked(length).ok_or(Undecodable)?;
    *block = rest;
    if first & 0x80 == 0 {
        return Ok(bytes);
    }
    text.clear();
    huffman::decode(bytes, text).ok_or(Undecodable)?;
    Ok(text)
}
