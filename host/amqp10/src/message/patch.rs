//! Annotations that are changed in their encoded form.

use crate::{
    composite::Annotations,
    types::{MapBuilder, Symbol, Value, write},
};
use alloc::{vec, vec::Vec};

/// What becomes of one annotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnnotationChange<'c> {
    /// The annotation.
    pub name: Symbol<'c>,
    /// Its value; `None` if it goes.
    pub value: Option<Value<'c>>,
}

/// Appends a section of annotations with changes made; nothing if no annotation is left. `descriptor` says which
/// section: of delivery, of message, or the footer.
///
/// An annotation that is set keeps its place, and further ones of its name go; new ones go to the end, in the order
/// of the changes. All others stay byte for byte. No name is to be changed twice.
pub fn patch_annotations(
    out: &mut Vec<u8>,
    descriptor: u64,
    annotations: Annotations<'_>,
    changes: &[AnnotationChange<'_>],
) {
    let mut map = MapBuilder::new();
    let mut written = vec![false; changes.len()];
    for (key, pair) in annotations.map().spans() {
        let place = changes.iter().position(|change| key.as_symbol() == Some(change.name));
        let change = place.and_then(|place| Some((changes.get(place)?, written.get_mut(place)?)));
        match change {
            None => map.push_encoded(pair),
            Some((AnnotationChange { name, value: Some(value) }, written)) if !*written => {
                *written = true;
                map.push(*name, *value);
            }
            Some(_) => {}
        }
    }
    for (change, written) in changes.iter().zip(written) {
        if let (Some(value), false) = (change.value, written) {
            map.push(change.name, value);
        }
    }
    if !map.view().is_empty() {
        write::put_descriptor(out, descriptor);
        write::put(out, map.view());
    }
}
