//! The bytes of what the broker keeps as values. Version 1, or 2 where that is said; all numbers are little-endian.
//!
//! ```text
//! name      u8 length, bytes                table   u32 fields, for each a name and a flat value (wit/CONTRACT.md)
//! exchange  u8 version, u8 flags (1 durable, 2 auto-delete, 4 internal), name of its type, table of its declaration,
//!           table of its arguments now, u8 types, for each its name, table, u8 1 and the name of the type that it is
//!           in front of, or u8 0; version 2: u64 the exchange's number
//! queue     u8 version, u8 flags (1 durable, 2 exclusive, 4 auto-delete), name, table
//! binding   u8 version, u64 its number: bindings come in the order of these, table
//! ```
//!
//! What an exchange and a binding are called is in their keys (`topology.rs`).

use leveret_broker::{
    ExchangeSpec, QueueSpec,
    exchange::TypeSpec,
    store::{KeptExchange, KeptId},
};
use leveret_model::{Name, Table, flat};
pub(super) use leveret_store::record::{Malformed, Take};

/// The version that is written where nothing later is needed.
pub(super) const VERSION: u8 = 1;
/// The version of exchanges that have a number, of holders for whom something was put aside, and of what was added to
/// messages on which consumers failed.
pub(super) const VERSION_2: u8 = 2;

/// Takes what the broker has from the front of bytes that may be anything.
pub(super) trait TakeMore: Sized {
    /// A number whose greater ones sort later as bytes too.
    fn u64_sorted(&mut self) -> Result<u64, Malformed>;
    fn name(&mut self) -> Result<Name, Malformed>;
    fn table(&mut self) -> Result<Table, Malformed>;
    /// The version at the front, if it can be read.
    fn version(&mut self) -> Result<(), Malformed>;
    /// Whether it is [`VERSION_2`] at the front, if that or [`VERSION`] is.
    fn is_version_2(&mut self) -> Result<bool, Malformed>;
    fn end(&self) -> Result<(), Malformed>;
}

impl TakeMore for Take<'_> {
    fn u64_sorted(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn name(&mut self) -> Result<Name, Malformed> {
        let length = self.u8()?.into();
        Name::new(self.bytes(length)?).map_err(|_| Malformed)
    }

    fn table(&mut self) -> Result<Table, Malformed> {
        let count = self.u32()?;
        let mut fields = Vec::new();
        for _ in 0..count {
            let name = self.name()?;
            fields.push((name, flat::take_value(&mut self.0).ok_or(Malformed)?));
        }
        Ok(fields.into_iter().collect())
    }

    fn version(&mut self) -> Result<(), Malformed> {
        if self.u8()? == VERSION { Ok(()) } else { Err(Malformed) }
    }

    fn is_version_2(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            VERSION => Ok(false),
            VERSION_2 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Appends a name. One that is longer than names are is cut.
pub(super) fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    let name = name.get(..Name::BYTES_MAX).unwrap_or(name);
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

/// Appends a table.
pub(super) fn put_table(out: &mut Vec<u8>, table: &Table) {
    out.extend_from_slice(&(table.len() as u32).to_le_bytes());
    for (name, value) in table.iter() {
        put_name(out, name);
        flat::put_value(out, value);
    }
}

/// An exchange that was read.
#[derive(Debug)]
pub(super) struct OwnedExchange {
    /// 0 where version 1 has it.
    pub(super) id: KeptId,
    pub(super) spec: ExchangeSpec,
    pub(super) arguments: Table,
    pub(super) types: Vec<TypeSpec>,
}

/// What an exchange's value is.
pub(super) fn exchange(kept: &KeptExchange<'_>) -> Vec<u8> {
    let KeptExchange { id, spec, arguments, types } = kept;
    let flags = u8::from(spec.durable) | u8::from(spec.auto_delete) << 1 | u8::from(spec.internal) << 2;
    let mut out = vec![if id.0 == 0 { VERSION } else { VERSION_2 }, flags];
    put_name(&mut out, &spec.type_name);
    put_table(&mut out, &spec.arguments);
    put_table(&mut out, arguments);
    let types = types.get(..usize::from(u8::MAX)).unwrap_or(types);
    out.push(types.len() as u8);
    for spec in types {
        put_name(&mut out, &spec.type_name);
        put_table(&mut out, &spec.arguments);
        out.push(spec.in_front_of.is_some().into());
        spec.in_front_of.iter().for_each(|name| put_name(&mut out, name));
    }
    if id.0 != 0 {
        out.extend_from_slice(&id.0.to_le_bytes());
    }
    out
}

/// Reads an exchange's value.
pub(super) fn take_exchange(name: Name, value: &[u8]) -> Result<OwnedExchange, Malformed> {
    let mut take = Take(value);
    let is_numbered = take.is_version_2()?;
    let [durable, auto_delete, internal] = bits(take.u8()?)?;
    let (type_name, declared, arguments) = (take.name()?, take.table()?, take.table()?);
    let mut types = Vec::new();
    for _ in 0..take.u8()? {
        let (type_name, arguments) = (take.name()?, take.table()?);
        let in_front_of = match take.u8()? {
            0 => None,
            1 => Some(take.name()?),
            _ => return Err(Malformed),
        };
        types.push(TypeSpec { type_name, arguments, in_front_of });
    }
    let id = KeptId(if is_numbered { take.u64()? } else { 0 });
    take.end()?;
    let spec = ExchangeSpec { name, type_name, durable, auto_delete, internal, arguments: declared };
    Ok(OwnedExchange { id, spec, arguments, types })
}

/// What a queue's value is.
pub(super) fn queue(spec: &QueueSpec) -> Vec<u8> {
    let flags = u8::from(spec.durable) | u8::from(spec.exclusive) << 1 | u8::from(spec.auto_delete) << 2;
    let mut out = vec![VERSION, flags];
    put_name(&mut out, &spec.name);
    put_table(&mut out, &spec.arguments);
    out
}

/// Reads a queue's value.
pub(super) fn take_queue(value: &[u8]) -> Result<QueueSpec, Malformed> {
    let mut take = Take(value);
    take.version()?;
    let flags = take.u8()?;
    let (name, arguments) = (take.name()?, take.table()?);
    take.end()?;
    let [durable, exclusive, auto_delete] = bits(flags)?;
    Ok(QueueSpec { name, durable, exclusive, auto_delete, arguments })
}

/// What a binding's value is.
pub(super) fn binding(number: u64, arguments: &Table) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&number.to_le_bytes());
    put_table(&mut out, arguments);
    out
}

/// Reads a binding's value: its number, its arguments.
pub(super) fn take_binding(value: &[u8]) -> Result<(u64, Table), Malformed> {
    let mut take = Take(value);
    take.version()?;
    let read = (take.u64()?, take.table()?);
    take.end()?;
    Ok(read)
}

/// The three lowest bits, if no other is set.
fn bits(flags: u8) -> Result<[bool; 3], Malformed> {
    if flags > 7 { Err(Malformed) } else { Ok([1, 2, 4].map(|bit| flags & bit != 0)) }
}

#[cfg(test)]
mod tests;
