//! Changes to a message on its way: what an interceptor asks for, and what dead-lettering does.
//!
//! *Not here:* how a change is written in a protocol's encoding ([`Form::patch`](crate::Form::patch)),
//! and who may ask for one.
//!
//! *In:* [`Change`]s in order. *Out:* what they come to: for each header and property its last
//! change, the routing key, the body.
//!
//! *Invariants:* the outcome is that of making the changes one after the other. A header that is
//! set keeps its place, and further ones of its name go; a new header goes to the end. So a header
//! that was removed and is set again goes to the end too.

use crate::{Name, Property, Value};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use bytes::Bytes;
use core::fmt;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Gives a header a value, whether it was there or not.
    SetHeader {
        /// The header.
        name: Name,
        /// Its value from now on.
        value: Value,
    },
    /// The same, with the value as one form encodes it: that form puts it there so.
    SetHeaderExactly {
        /// The header.
        name: Name,
        /// Its value from now on.
        value: Value,
        /// The same value, encoded.
        exact: Exact,
    },
    /// Takes away a header, all of its name.
    RemoveHeader {
        /// The header.
        name: Name,
    },
    /// Gives a property a value, whether it was there or not.
    SetProperty {
        /// The property.
        property: Property,
        /// Its value from now on: an integer for delivery mode and priority, a point in time for
        /// the timestamp, a string for all others.
        value: Value,
    },
    /// Takes away a property.
    RemoveProperty {
        /// The property.
        property: Property,
    },
    /// Another routing key.
    SetRoutingKey(Name),
    /// Another body.
    SetBody(Bytes),
}

/// A value as a form encodes it: with what [`Value`] does not tell apart, as the width of an integer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact {
    /// The form's ([`Form::protocol`](crate::Form::protocol)).
    pub protocol: &'static str,
    /// The value.
    pub bytes: Bytes,
}

/// What becomes of one header.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderChange {
    /// The header.
    pub name: Name,
    /// Its value; `None` if it goes.
    pub value: Option<Value>,
    /// The same value as one form encodes it, where that is known.
    pub exact: Option<Exact>,
    /// It was removed before it was set: so it goes to the end even if the message has it.
    pub to_end: bool,
}

/// Changes to a message, brought to what they come to. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch(Option<Arc<Net>>);

#[derive(Debug, Default, PartialEq)]
struct Net {
    /// In the order in which new headers are appended.
    headers: Vec<HeaderChange>,
    /// The places of `headers` by name.
    by_name: Vec<u32>,
    properties: Vec<(Property, Option<Value>)>,
    routing_key: Option<Name>,
    body: Option<Bytes>,
}

impl Patch {
    /// Changes nothing.
    pub const EMPTY: Self = Self(None);

    /// Whether there is no change at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether properties and headers stay as they are.
    #[must_use]
    pub fn keeps_properties(&self) -> bool {
        self.headers().is_empty() && self.properties().is_empty()
    }

    /// Whether there is a change, and it is of nothing but the routing key.
    #[must_use]
    pub fn is_only_routing_key(&self) -> bool {
        self.keeps_properties() && self.body().is_none() && self.routing_key().is_some()
    }

    /// What becomes of headers; new ones are appended in this order.
    #[must_use]
    pub fn headers(&self) -> &[HeaderChange] {
        self.0.as_deref().map_or(&[], |net| &net.headers)
    }

    /// Where in [`Self::headers`] a header is, if it is changed.
    #[must_use]
    pub fn header_place(&self, name: &[u8]) -> Option<usize> {
        let net = self.0.as_deref()?;
        let name_at = |place: &u32| net.headers.get(*place as usize).map_or(&[][..], |change| &change.name);
        let found = net.by_name.binary_search_by(|place| name_at(place).cmp(name)).ok()?;
        net.by_name.get(found).map(|place| *place as usize)
    }

    /// What becomes of properties, each at most once; `None` for one that goes.
    #[must_use]
    pub fn properties(&self) -> &[(Property, Option<Value>)] {
        self.0.as_deref().map_or(&[], |net| &net.properties)
    }

    /// What becomes of one property, if it is changed; the inner `None` if it goes.
    #[must_use]
    pub fn property(&self, property: Property) -> Option<Option<&Value>> {
        let mut changes = self.properties().iter();
        changes.find(|(changed, _)| *changed == property).map(|(_, value)| value.as_ref())
    }

    /// The new routing key, if there is one.
    #[must_use]
    pub fn routing_key(&self) -> Option<&Name> {
        self.0.as_deref()?.routing_key.as_ref()
    }

    /// The new body, if there is one.
    #[must_use]
    pub fn body(&self) -> Option<&Bytes> {
        self.0.as_deref()?.body.as_ref()
    }
}

impl FromIterator<Change> for Patch {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        let mut net = Net::default();
        let mut headers = Headers::default();
        let mut any = false;
        for change in changes {
            any = true;
            match change {
                Change::SetHeader { name, value } => headers.set(name, value, None),
                Change::SetHeaderExactly { name, value, exact } => headers.set(name, value, Some(exact)),
                Change::RemoveHeader { name } => headers.remove(name),
                Change::SetProperty { property, value } => net.set_property(property, Some(value)),
                Change::RemoveProperty { property } => net.set_property(property, None),
                Change::SetRoutingKey(key) => net.routing_key = Some(key),
                Change::SetBody(body) => net.body = Some(body),
            }
        }
        if !any {
            return Self::EMPTY;
        }
        headers.finish(&mut net);
        Self(Some(Arc::new(net)))
    }
}

impl Net {
    fn set_property(&mut self, property: Property, value: Option<Value>) {
        match self.properties.iter_mut().find(|(changed, _)| *changed == property) {
            Some((_, current)) => *current = value,
            None => self.properties.push((property, value)),
        }
    }
}

/// Headers while changes are collected. A change that a later one overtook leaves a gap, so that
/// none has to be moved.
#[derive(Default)]
struct Headers {
    changes: Vec<Option<HeaderChange>>,
    places: BTreeMap<Name, usize>,
}

impl Headers {
    fn set(&mut self, name: Name, value: Value, exact: Option<Exact>) {
        let place = self.places.get(&name).copied();
        let mut to_end = false;
        if let Some(place) = place.and_then(|place| self.changes.get_mut(place)) {
            match place {
                Some(HeaderChange { value: current @ Some(_), exact: encoded, .. }) => {
                    (*current, *encoded) = (Some(value), exact);
                    return;
                }
                removed => {
                    *removed = None;
                    to_end = true;
                }
            }
        }
        self.push(HeaderChange { name, value: Some(value), exact, to_end });
    }

    fn remove(&mut self, name: Name) {
        match self.places.get(&name).and_then(|place| self.changes.get_mut(*place)) {
            Some(Some(change)) => (change.value, change.exact) = (None, None),
            _ => self.push(HeaderChange { name, value: None, exact: None, to_end: false }),
        }
    }

    fn push(&mut self, change: HeaderChange) {
        self.places.insert(change.name.clone(), self.changes.len());
        self.changes.push(Some(change));
    }

    fn finish(self, net: &mut Net) {
        net.headers = self.changes.into_iter().flatten().collect();
        net.by_name = (0..net.headers.len() as u32).collect();
        let Net { headers, by_name, .. } = net;
        by_name.sort_unstable_by(|a, b| {
            let name = |place: &u32| headers.get(*place as usize).map(|change| &change.name);
            name(a).cmp(&name(b))
        });
    }
}

/// Why a message cannot be changed as a [`Patch`] wants it: whoever made the patch is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchError {
    /// A property has no values of that class.
    PropertyClass {
        /// The property.
        property: Property,
        /// The class of the value, as [`Value::class`] names it.
        class: &'static str,
    },
    /// The class fits the property, the value does not.
    PropertyValue {
        /// The property.
        property: Property,
        /// Why it does not.
        why: &'static str,
    },
    /// The protocol has no encoding for a header's value.
    Header {
        /// The header.
        name: Name,
        /// Why not.
        why: &'static str,
    },
    /// Properties and headers together would be too large for the protocol.
    TooLarge {
        /// How many bytes they would have.
        bytes: usize,
        /// The most they may have.
        bytes_max: usize,
    },
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PropertyClass { property, class } => {
                write!(f, "the property {property:?} takes no value of the class {class}")
            }
            Self::PropertyValue { property, why } => write!(f, "the property {property:?}: {why}"),
            Self::Header { name, why } => write!(f, "the header '{name}': {why}"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "properties and headers of {bytes} bytes; the most is {bytes_max}")
            }
        }
    }
}

impl core::error::Error for PatchError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &'static str) -> Name {
        Name::from_static(name)
    }

    fn set(header: &'static str, value: i64) -> Change {
        Change::SetHeader { name: name(header), value: Value::Integer(value) }
    }

    fn remove(header: &'static str) -> Change {
        Change::RemoveHeader { name: name(header) }
    }

    fn header(header: &'static str, value: Option<i64>, to_end: bool) -> HeaderChange {
        HeaderChange { name: name(header), value: value.map(Value::Integer), exact: None, to_end }
    }

    #[test]
    fn the_last_change_of_a_header_counts_and_its_first_place() {
        let patch: Patch = [set("b", 1), set("a", 2), remove("c"), set("b", 3)].into_iter().collect();
        let expected = [header("b", Some(3), false), header("a", Some(2), false), header("c", None, false)];
        assert_eq!(patch.headers(), expected);
        assert_eq!(patch.header_place(b"a"), Some(1));
        assert_eq!(patch.header_place(b"b"), Some(0));
        assert_eq!(patch.header_place(b"c"), Some(2));
        assert_eq!(patch.header_place(b"d"), None);
    }

    #[test]
    fn what_was_removed_and_is_set_again_goes_to_the_end() {
        let patch: Patch = [set("a", 1), set("b", 2), remove("a"), set("a", 3)].into_iter().collect();
        assert_eq!(patch.headers(), [header("b", Some(2), false), header("a", Some(3), true)]);
        assert_eq!(patch.header_place(b"a"), Some(1));
        let patch: Patch = [remove("a"), set("a", 1), remove("a")].into_iter().collect();
        assert_eq!(patch.headers(), [header("a", None, true)]);
    }

    #[test]
    fn an_exact_value_goes_with_the_value_that_it_is_of() {
        let exact = |value: i64| Exact { protocol: "p", bytes: value.to_le_bytes().to_vec().into() };
        let exactly = |header: &'static str, value| Change::SetHeaderExactly {
            name: name(header),
            value: Value::Integer(value),
            exact: exact(value),
        };
        let patch: Patch =
            [set("a", 1), exactly("a", 2), exactly("b", 3), set("b", 4), exactly("c", 5), remove("c")]
                .into_iter()
                .collect();
        let a = HeaderChange { exact: Some(exact(2)), ..header("a", Some(2), false) };
        assert_eq!(patch.headers(), [a, header("b", Some(4), false), header("c", None, false)]);
    }

    #[test]
    fn of_everything_else_the_last_change_counts() {
        let property = |value| Change::SetProperty { property: Property::Priority, value };
        let patch: Patch = [
            property(Value::Integer(1)),
            Change::RemoveProperty { property: Property::AppId },
            property(Value::Integer(2)),
            Change::SetRoutingKey(name("first")),
            Change::SetRoutingKey(name("second")),
            Change::SetBody(Bytes::from_static(b"body")),
        ]
        .into_iter()
        .collect();
        assert_eq!(patch.property(Property::Priority), Some(Some(&Value::Integer(2))));
        assert_eq!(patch.property(Property::AppId), Some(None));
        assert_eq!(patch.property(Property::ReplyTo), None);
        assert_eq!(patch.routing_key(), Some(&name("second")));
        assert_eq!(patch.body().map(|body| &body[..]), Some(&b"body"[..]));
    }

    #[test]
    fn says_what_it_leaves_alone() {
        let empty: Patch = [].into_iter().collect();
        assert!(empty.is_empty() && empty.keeps_properties() && !empty.is_only_routing_key());
        assert_eq!(empty, Patch::EMPTY);
        let key: Patch = [Change::SetRoutingKey(name("key"))].into_iter().collect();
        assert!(!key.is_empty() && key.keeps_properties() && key.is_only_routing_key());
        let both: Patch = [Change::SetRoutingKey(name("key")), set("a", 1)].into_iter().collect();
        assert!(!both.keeps_properties() && !both.is_only_routing_key());
    }
}
