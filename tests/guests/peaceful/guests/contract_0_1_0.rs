//! `x-versioned`, version 1, made for version 0.1.0 of the contract, without an SDK: what a component that
//! was built before 0.2.0 looks like to the broker. It exports the plain form and delivers as
//! `versioned_v1` does.
//!
//! Everything that passes the border is laid out by hand, as the component model's canonical form says; the
//! types here are those of `wit/0.1.0`. What is given to the broker stays where it is until the next call.
#![cfg(target_family = "wasm")]

use std::alloc::{Layout, alloc, realloc};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The encoded type of the world `exchange-type-plugin` in `wit/0.1.0`.
const WORLD: &[u8] = include_bytes!("../generated/contract-0.1.0.bin");

/// What tells the linker what this component exports.
#[unsafe(link_section = "component-type:contract-0.1.0")]
pub static CONTRACT: [u8; WORLD.len()] = {
    let mut bytes = [0; WORLD.len()];
    bytes.copy_from_slice(WORLD);
    bytes
};

/// A string or a list.
#[repr(C)]
#[derive(Clone, Copy)]
struct List<T> {
    address: *const T,
    length: usize,
}

impl<T> List<T> {
    const EMPTY: Self = Self { address: std::ptr::dangling(), length: 0 };

    fn of(items: &[T]) -> Self {
        Self { address: items.as_ptr(), length: items.len() }
    }

    /// # Safety
    /// The list came as an argument of this call.
    unsafe fn items(&self) -> &[T] {
        // SAFETY: the broker wrote so many there.
        unsafe { std::slice::from_raw_parts(self.address, self.length) }
    }
}

#[repr(C)]
struct ExchangeTypeDescription {
    name: List<u8>,
    summary: List<u8>,
    pure: bool,
    independent_bindings: bool,
}

#[repr(C)]
struct Description {
    version: List<u8>,
    exchange_types: List<ExchangeTypeDescription>,
}

#[repr(C)]
struct Reads {
    routing_key: bool,
    /// A variant: none, named, all; and the names.
    headers: (u32, List<List<u8>>),
    properties: List<u8>,
    body_limit: (u32, u32),
}

/// The routing key and nothing else.
const READS: Reads =
    Reads { routing_key: true, headers: (0, List::EMPTY), properties: List::EMPTY, body_limit: (0, 0) };

#[repr(C)]
struct Opened {
    is_error: u32,
    reads: Reads,
}

#[repr(C)]
struct Binding {
    id: u64,
    routing_key: List<u8>,
    arguments: List<u64>,
}

#[repr(C)]
struct Decision {
    /// Deliver, drop, reject.
    kind: u32,
    ids: List<u64>,
}

type Bindings = BTreeMap<u64, Vec<u8>>;

thread_local! {
    static EXCHANGES: RefCell<BTreeMap<u32, Bindings>> = const { RefCell::new(BTreeMap::new()) };
}

/// Changes the bindings of an exchange.
fn with_bindings<R>(exchange: u32, f: impl FnOnce(&mut Bindings) -> R) -> R {
    EXCHANGES.with_borrow_mut(|exchanges| f(exchanges.entry(exchange).or_default()))
}

/// Leaves an answer where the broker reads it. It is never freed: a test's guest is gone soon.
fn answer<T>(answer: T) -> *const T {
    Box::leak(Box::new(answer))
}

/// Gives the broker memory for what it passes.
///
/// # Safety
/// `old` is what an earlier call gave for so many bytes with this alignment, if `old_bytes` is not 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_bytes: usize, align: usize, bytes: usize) -> *mut u8 {
    if bytes == 0 {
        return std::ptr::without_provenance_mut(align);
    }
    // SAFETY: the broker's alignments are powers of two, and this function's own promise.
    unsafe {
        if old_bytes == 0 {
            alloc(Layout::from_size_align_unchecked(bytes, align))
        } else {
            realloc(old, Layout::from_size_align_unchecked(old_bytes, align), bytes)
        }
    }
}

#[unsafe(export_name = "leveret:routing/exchange-type@0.1.0#describe")]
extern "C" fn describe() -> *const Description {
    let described = Box::leak(Box::new([ExchangeTypeDescription {
        name: List::of(b"x-versioned"),
        summary: List::of(b"Shows which version routed"),
        pure: true,
        independent_bindings: true,
    }]));
    answer(Description { version: List::of(b"1.0.0"), exchange_types: List::of(described) })
}

#[unsafe(export_name = "leveret:routing/exchange-type@0.1.0#open")]
extern "C" fn open(
    exchange: u32,
    _name: *const u8,
    _name_length: usize,
    _exchange_type: *const u8,
    _exchange_type_length: usize,
    _arguments: *const u64,
    _arguments_length: usize,
) -> *const Opened {
    with_bindings(exchange, Bindings::clear);
    answer(Opened { is_error: 0, reads: READS })
}

#[unsafe(export_name = "leveret:routing/exchange-type@0.1.0#close")]
extern "C" fn close(exchange: u32) {
    EXCHANGES.with_borrow_mut(|exchanges| drop(exchanges.remove(&exchange)));
}

#[unsafe(export_name = "leveret:routing/exchange-type@0.1.0#bind")]
extern "C" fn bind(exchange: u32, address: *const Binding, length: usize) -> *const Opened {
    // SAFETY: they came as arguments of this call, as did the keys in them.
    let bound = unsafe {
        let bindings = List { address, length };
        let key = |binding: &Binding| (binding.id, binding.routing_key.items().to_vec());
        bindings.items().iter().map(key).collect::<Vec<_>>()
    };
    with_bindings(exchange, |bindings| bindings.extend(bound));
    answer(Opened { is_error: 0, reads: READS })
}

#[unsafe(export_name = "leveret:routing/exchange-type@0.1.0#unbind")]
extern "C" fn unbind(exchange: u32, address: *const u64, length: usize) -> *const Reads {
    // SAFETY: they came as arguments of this call.
    let ids = unsafe { std::slice::from_raw_parts(address, length) };
    with_bindings(exchange, |bindings| bindings.retain(|id, _| !ids.contains(id)));
    answer(READS)
}

#[unsafe(export_name = "leveret:routing/exchange-type@0.1.0#route")]
extern "C" fn route(
    exchange: u32,
    routing_key: *const u8,
    routing_key_length: usize,
    _headers: *const u64,
    _headers_length: usize,
    _properties: *const u64,
    _properties_length: usize,
    _has_body: u32,
    _body: *const u8,
    _body_length: usize,
) -> *const Decision {
    // SAFETY: it came as arguments of this call.
    let mut key = unsafe { std::slice::from_raw_parts(routing_key, routing_key_length) }.to_vec();
    key.extend_from_slice(b".v1");
    let ids: Vec<u64> = with_bindings(exchange, |bindings| {
        bindings.iter().filter(|(_, bound)| **bound == key).map(|(id, _)| *id).collect()
    });
    answer(Decision { kind: 0, ids: List::of(ids.leak()) })
}
