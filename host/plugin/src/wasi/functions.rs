//! The WASI functions that do something, each with what it answers.
//!
//! They are defined by name and called with dynamic values, because one function serves
//! every version of its interface. A component that gives one of these names another type
//! gets a trap at the call: either here, where a parameter is not what it has to be, or in
//! wasmtime, where the answer is not.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, Val};

use super::output::Stream;
use super::{HasWasi, Inert, WasiTrap};

/// The longest list a guest may write at once; `check-write` promises this much.
pub(super) const WRITE_BYTES_MAX: u64 = 4_096;

/// The longest list of random bytes a guest may ask for at once.
pub(super) const RANDOM_BYTES_MAX: u64 = 65_536;

// What the number behind a handle says. A guest cannot make handles, only pass on those
// it was given.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
/// Everything that is used without being told apart: the input, what can be waited for.
const ANYTHING: u32 = 0;

/// Answers one call; nothing where the function has no result.
pub(super) type Function<T> = fn(&mut Call<'_, T>) -> wasmtime::Result<Option<Val>>;

/// One call by a guest.
pub(super) struct Call<'a, T: 'static> {
    import: &'a Arc<str>,
    store: StoreContextMut<'a, T>,
    params: &'a [Val],
    /// The number behind the first parameter, if that is a handle: the method's object.
    object: Option<u32>,
}

/// The function that `interface` calls `name`, if it is one that does something.
pub(super) fn find<T: HasWasi + 'static>(interface: &str, name: &str) -> Option<Function<T>> {
    Some(match (interface, name) {
        ("cli/environment", "get-environment" | "get-arguments")
        | ("filesystem/preopens", "get-directories") => |_| Ok(Some(Val::List(Vec::new()))),
        ("cli/environment", "initial-cwd")
        | ("cli/terminal-stdin", "get-terminal-stdin")
        | ("cli/terminal-stdout", "get-terminal-stdout")
        | ("cli/terminal-stderr", "get-terminal-stderr") => |_| Ok(Some(Val::Option(None))),
        ("cli/exit", "exit" | "exit-with-code") => exit,
        ("cli/stdin", "get-stdin") => |call| call.handle(ANYTHING),
        ("cli/stdout", "get-stdout") => |call| call.handle(STDOUT),
        ("cli/stderr", "get-stderr") => |call| call.handle(STDERR),
        ("io/error", "[method]error.to-debug-string") => |_| Ok(Some(Val::String(String::new()))),
        ("io/poll", name) => return poll_function(name),
        ("io/streams", name) => return stream_function(name),
        ("clocks/monotonic-clock", "now") => |_| Ok(Some(Val::U64(0))),
        ("clocks/monotonic-clock", "resolution") => |_| Ok(Some(Val::U64(1))),
        ("clocks/monotonic-clock", "subscribe-instant" | "subscribe-duration") => {
            |call| call.handle(ANYTHING)
        }
        ("clocks/wall-clock", "now") => |_| Ok(Some(datetime(0))),
        ("clocks/wall-clock", "resolution") => |_| Ok(Some(datetime(1))),
        ("random/random", "get-random-bytes") | ("random/insecure", "get-insecure-random-bytes") => {
            random_bytes
        }
        ("random/random", "get-random-u64") | ("random/insecure", "get-insecure-random-u64") => {
            |call| Ok(Some(call.random_u64()))
        }
        ("random/insecure-seed", "insecure-seed") => {
            |call| Ok(Some(Val::Tuple(vec![call.random_u64(), call.random_u64()])))
        }
        _ => return None,
    })
}

/// Everything is ready at once: there is nothing to wait for.
fn poll_function<T: HasWasi + 'static>(name: &str) -> Option<Function<T>> {
    Some(match name {
        "[method]pollable.ready" => |_| Ok(Some(Val::Bool(true))),
        "[method]pollable.block" => |_| Ok(None),
        "poll" => poll,
        _ => return None,
    })
}

fn stream_function<T: HasWasi + 'static>(name: &str) -> Option<Function<T>> {
    Some(match name {
        "[method]input-stream.subscribe" | "[method]output-stream.subscribe" => {
            |call| call.handle(ANYTHING)
        }
        "[method]input-stream.read"
        | "[method]input-stream.blocking-read"
        | "[method]input-stream.skip"
        | "[method]input-stream.blocking-skip"
        // A splice reads from an input first.
        | "[method]output-stream.splice"
        | "[method]output-stream.blocking-splice" => |_| Ok(Some(closed())),
        "[method]output-stream.check-write" => |_| Ok(Some(ok(Some(Val::U64(WRITE_BYTES_MAX))))),
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => write,
        "[method]output-stream.flush"
        | "[method]output-stream.blocking-flush"
        // Zeroes are no text.
        | "[method]output-stream.write-zeroes"
        | "[method]output-stream.blocking-write-zeroes-and-flush" => |_| Ok(Some(ok(None))),
        _ => return None,
    })
}

/// Calls `function` for a guest, and gives back the handles that the guest lent.
///
/// # Errors
/// A [`WasiTrap`], or wasmtime's own where a handle is not one of ours. The instance is
/// lost either way.
pub(super) fn call<T: HasWasi + 'static>(
    function: Function<T>,
    import: &Arc<str>,
    mut store: StoreContextMut<'_, T>,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let mut object = None;
    for (position, param) in params.iter().enumerate() {
        let number = release(&mut store, param)?;
        if position == 0 {
            object = number;
        }
    }
    let answer = function(&mut Call { import, store, params, object })?;
    match (results, answer) {
        ([], None) => Ok(()),
        ([result], Some(answer)) => {
            *result = answer;
            Ok(())
        }
        _ => Err(WasiTrap::Malformed { import: import.clone() }.into()),
    }
}

/// Ends the host's hold on the handles in `param`: a loan that is not given back fails the
/// call. Returns the number behind the handle that `param` itself is.
fn release<T: 'static>(store: &mut StoreContextMut<'_, T>, param: &Val) -> wasmtime::Result<Option<u32>> {
    match param {
        Val::Resource(handle) => Ok(Some(handle.try_into_resource::<Inert>(store)?.rep())),
        Val::List(elements) => {
            for element in elements {
                match element {
                    Val::Resource(handle) => handle.try_into_resource::<Inert>(&mut *store)?,
                    // All elements of a list have one type.
                    _ => break,
                };
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

impl<T: HasWasi + 'static> Call<'_, T> {
    /// A handle for the guest with `number` behind it. The host keeps nothing.
    fn handle(&mut self, number: u32) -> wasmtime::Result<Option<Val>> {
        let handle = Resource::<Inert>::new_own(number).try_into_resource_any(&mut self.store)?;
        Ok(Some(Val::Resource(handle)))
    }

    fn random_u64(&mut self) -> Val {
        Val::U64(self.store.data_mut().wasi().random.next_u64())
    }

    fn malformed<R>(&self) -> wasmtime::Result<R> {
        Err(WasiTrap::Malformed { import: self.import.clone() }.into())
    }

    fn too_long<R>(&self, length_bytes: u64, length_bytes_max: u64) -> wasmtime::Result<R> {
        Err(WasiTrap::TooLong { import: self.import.clone(), length_bytes, length_bytes_max }.into())
    }
}

/// `exit(status: result)` and `exit-with-code(status-code: u8)`.
fn exit<T: HasWasi + 'static>(call: &mut Call<'_, T>) -> wasmtime::Result<Option<Val>> {
    let status = match call.params {
        [Val::Result(status)] => u8::from(status.is_err()),
        [Val::U8(status)] => *status,
        _ => return call.malformed(),
    };
    Err(WasiTrap::Exited { import: call.import.clone(), status }.into())
}

/// `poll(in: list<borrow<pollable>>) -> list<u32>`: all of them, by position. The
/// interface makes an empty list a trap.
fn poll<T: HasWasi + 'static>(call: &mut Call<'_, T>) -> wasmtime::Result<Option<Val>> {
    match call.params {
        [Val::List(pollables)] if !pollables.is_empty() => {
            let ready = (0u32..).zip(pollables).map(|(position, _)| Val::U32(position)).collect();
            Ok(Some(Val::List(ready)))
        }
        _ => call.malformed(),
    }
}

/// `write(contents: list<u8>) -> result<_, stream-error>`, and the same with a flush.
fn write<T: HasWasi + 'static>(call: &mut Call<'_, T>) -> wasmtime::Result<Option<Val>> {
    let [_, Val::List(contents)] = call.params else {
        return call.malformed();
    };
    if contents.len() as u64 > WRITE_BYTES_MAX {
        return call.too_long(contents.len() as u64, WRITE_BYTES_MAX);
    }
    let stream = match call.object {
        Some(STDOUT) => Stream::Stdout,
        Some(STDERR) => Stream::Stderr,
        _ => return call.malformed(),
    };
    let mut bytes = Vec::with_capacity(contents.len());
    for element in contents {
        let Val::U8(byte) = element else {
            return call.malformed();
        };
        bytes.push(*byte);
    }
    call.store.data_mut().wasi().output.write(stream, &bytes);
    Ok(Some(ok(None)))
}

/// `get-random-bytes(len: u64) -> list<u8>`, and its insecure twin.
fn random_bytes<T: HasWasi + 'static>(call: &mut Call<'_, T>) -> wasmtime::Result<Option<Val>> {
    let [Val::U64(length_bytes)] = *call.params else {
        return call.malformed();
    };
    if length_bytes > RANDOM_BYTES_MAX {
        return call.too_long(length_bytes, RANDOM_BYTES_MAX);
    }
    let random = &mut call.store.data_mut().wasi().random;
    Ok(Some(Val::List((0..length_bytes).map(|_| Val::U8(random.next_u8())).collect())))
}

/// The record `datetime` of `wasi:clocks/wall-clock`.
fn datetime(seconds: u64) -> Val {
    Val::Record(vec![("seconds".into(), Val::U64(seconds)), ("nanoseconds".into(), Val::U32(0))])
}

fn ok(value: Option<Val>) -> Val {
    Val::Result(Ok(value.map(Box::new)))
}

/// The `stream-error` of a stream that is at its end.
fn closed() -> Val {
    Val::Result(Err(Some(Box::new(Val::Variant("closed".into(), None)))))
}
