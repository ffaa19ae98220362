//! The forms of messages that one queue has, by numbers.

use alloc::vec::Vec;
use leveret_model::Form;

/// How many forms of messages one queue tells apart; there is one for each protocol.
const FORMS_MAX: usize = 255;

/// The number of a message's form among those of a queue. Forms are told apart by their protocol.
#[inline]
pub(super) fn form_in(forms: &mut Vec<&'static dyn Form>, form: &'static dyn Form) -> u8 {
    // Where the pointers differ the protocols are compared.
    let is_first = forms.first().is_some_and(|first| core::ptr::eq(*first, form));
    if is_first { 0 } else { form_by_protocol(forms, form) }
}

fn form_by_protocol(forms: &mut Vec<&'static dyn Form>, form: &'static dyn Form) -> u8 {
    let known = forms.iter().position(|known| known.protocol() == form.protocol());
    let index = known.unwrap_or_else(|| {
        debug_assert!(forms.len() < FORMS_MAX);
        forms.push(form);
        forms.len() - 1
    });
    index as u8
}
