//! The only room with wasmtime: load, check, instantiate, call, limit, remember answers, swap.
