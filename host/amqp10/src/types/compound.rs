//! Values that hold others: lists, maps, arrays, and what has a descriptor.
//!
//! All were checked when they were read ([`Reader::value`]), so their iterators have no errors: they end where the
//! elements do.

use super::{Reader, Symbol, Value, code, write::ListBuilder, write::MapBuilder};
use core::fmt;

/// A list, unread.
#[derive(Clone, Copy)]
pub struct List<'a> {
    pub(crate) count: u32,
    pub(crate) items: &'a [u8],
}

impl<'a> List<'a> {
    /// Without elements.
    pub const EMPTY: List<'static> = List { count: 0, items: &[] };

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements, in order.
    #[must_use]
    pub fn iter(&self) -> Items<'a> {
        Items { left: self.count, reader: Reader::new(self.items) }
    }
}

impl<'a> IntoIterator for List<'a> {
    type Item = Value<'a>;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> From<&'a ListBuilder> for List<'a> {
    fn from(builder: &'a ListBuilder) -> Self {
        builder.view()
    }
}

/// The elements of a list.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    left: u32,
    reader: Reader<'a>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.reader.shallow().ok()
    }
}

/// A map, unread, in the order in which its pairs came. Of a key that came twice the first counts.
#[derive(Clone, Copy)]
pub struct Map<'a> {
    /// Of keys and values together.
    pub(crate) count: u32,
    pub(crate) items: &'a [u8],
}

impl<'a> Map<'a> {
    /// Without pairs.
    pub const EMPTY: Map<'static> = Map { count: 0, items: &[] };

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize / 2
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keys and values, in order.
    #[must_use]
    pub fn iter(&self) -> Pairs<'a> {
        Pairs { items: Items { left: self.count, reader: Reader::new(self.items) } }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &Value<'_>) -> Option<Value<'a>> {
        self.iter().find(|(other, _)| other == key).map(|(_, value)| value)
    }

    /// The value of a key that is a symbol.
    #[must_use]
    pub fn symbol(&self, key: &str) -> Option<Value<'a>> {
        let is_key = |other: &Value<'_>| other.as_symbol().map(Symbol::as_str) == Some(key);
        self.iter().find(|(other, _)| is_key(other)).map(|(_, value)| value)
    }

    /// The bytes of each pair beside the pair.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (Value<'a>, &'a [u8])> {
        let mut reader = Reader::new(self.items);
        (0..self.len()).map_while(move |_| {
            let before = reader.rest();
            let key = reader.shallow().ok()?;
            reader.span().ok()?;
            Some((key, reader.since(before)))
        })
    }
}

impl<'a> IntoIterator for Map<'a> {
    type Item = (Value<'a>, Value<'a>);
    type IntoIter = Pairs<'a>;

    fn into_iter(self) -> Pairs<'a> {
        self.iter()
    }
}

/// The order counts, as it does in the specification where nothing else is said.
impl PartialEq for Map<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a> From<&'a MapBuilder> for Map<'a> {
    fn from(builder: &'a MapBuilder) -> Self {
        builder.view()
    }
}

/// The pairs of a map.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    items: Items<'a>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.items.next()?, self.items.next()?))
    }
}

/// An array, unread.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    pub(crate) count: u32,
    /// With its descriptors, if it has any; ends with `code`.
    pub(crate) constructor: &'a [u8],
    pub(crate) code: u8,
    pub(crate) items: &'a [u8],
}

impl<'a> Array<'a> {
    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements, in order.
    #[must_use]
    pub fn iter(&self) -> Elements<'a> {
        Elements { left: self.count, array: *self, reader: Reader::new(self.items) }
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = Elements<'a>;

    fn into_iter(self) -> Elements<'a> {
        self.iter()
    }
}

impl PartialEq for Array<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    left: u32,
    array: Array<'a>,
    reader: Reader<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let before = self.reader.rest();
        let value = self.reader.primitive(self.array.code).ok()?;
        described_by(self.array.constructor, self.reader.since(before)).or(Some(value))
    }
}

/// A described value of the constructor and the data, if the constructor has a descriptor.
fn described_by<'a>(constructor: &'a [u8], data: &'a [u8]) -> Option<Value<'a>> {
    let (&code::DESCRIBED, rest) = constructor.split_first()? else { return None };
    let mut reader = Reader::new(rest);
    let descriptor = reader.span().ok()?;
    Some(Value::Described(Described { descriptor, constructor: reader.rest(), data }))
}

/// A descriptor and the value that it describes, unread.
#[derive(Clone, Copy)]
pub struct Described<'a> {
    /// A value.
    pub(crate) descriptor: &'a [u8],
    /// Of what is described. In an array it is not next to its data.
    pub(crate) constructor: &'a [u8],
    /// With its size, if it has one.
    pub(crate) data: &'a [u8],
}

impl<'a> Described<'a> {
    /// What it is described as.
    #[must_use]
    pub fn descriptor(&self) -> Value<'a> {
        Reader::new(self.descriptor).shallow().unwrap_or(Value::Null)
    }

    /// The number of its descriptor, by name where the specification gives that name a number
    /// ([`crate::descriptor`]).
    #[must_use]
    pub fn descriptor_code(&self) -> Option<u64> {
        crate::descriptor::code(&self.descriptor())
    }

    /// What is described.
    #[must_use]
    pub fn value(&self) -> Value<'a> {
        self.read().unwrap_or(Value::Null)
    }

    pub(crate) fn read(&self) -> Result<Value<'a>, super::DecodeError> {
        match described_by(self.constructor, self.data) {
            Some(described) => Ok(described),
            None => Reader::new(self.data).primitive(Reader::new(self.constructor).octet()?),
        }
    }
}

impl PartialEq for Described<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.descriptor() == other.descriptor() && self.value() == other.value()
    }
}

impl fmt::Debug for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:?} {:?}", self.descriptor(), self.value())
    }
}
