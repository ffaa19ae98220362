//! The one place that decides how wasmtime compiles and runs guests.
//!
//! The build script includes this file as it is, so that what it compiles ahead is taken by the
//! broker it is embedded in: the file uses wasmtime and nothing else.

use wasmtime::{Config, WasmBacktraceDetails};

/// Which compiler makes machine code of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeStrategy {
    /// Optimised code; takes a second for each two megabytes of component.
    Cranelift,
    /// Code in one pass: a fifth of the time to compile, up to twice the time a call.
    Winch,
}

/// The most stack that a guest may use, in bytes. The threads that call guests have at least
/// four times as much.
pub(crate) const GUEST_STACK_BYTES_MAX: usize = 512 * 1024;

/// Address space set aside for each linear memory, in bytes: all that a 32-bit memory can ever
/// address, so that guest code needs no bounds checks. It costs address space and no memory;
/// with the guard behind it, the 128 TiB of a process hold about 30,000 instances.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Unmapped space behind each linear memory, in bytes.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;

/// The configuration of an engine.
///
/// `target` is the triple to compile for. It is set even where it is the machine's own, because
/// wasmtime then takes the baseline of the triple rather than every feature of the CPU at hand,
/// and code compiled on one machine runs on the next.
///
/// # Errors
/// If the triple is unknown.
pub(crate) fn config(strategy: CodeStrategy, target: Option<&str>) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config.strategy(match strategy {
        CodeStrategy::Cranelift => wasmtime::Strategy::Cranelift,
        CodeStrategy::Winch => wasmtime::Strategy::Winch,
    });
    if let Some(target) = target {
        config.target(target)?;
    }
    config.wasm_component_model(true);
    // More than doubles the cost of a call when on.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.consume_fuel(false);
    config.max_wasm_stack(GUEST_STACK_BYTES_MAX);
    config.memory_reservation(MEMORY_RESERVATION_BYTES);
    config.memory_guard_size(MEMORY_GUARD_BYTES);
    // A trap says what happened; collecting where costs three times the trap itself, and the
    // names of a guest's functions help its author, who has a test kit for that.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    Ok(config)
}
