;; What Go's runtime asks of WASI preview 1, answered by an empty room: no arguments, no environment, no
;; files, a clock that stands still, bytes that are not random. It lives in the memory of the Go module.
;; The usual adapter does not do: it allocates in Go's heap before Go has one.
(module
  (import "env" "memory" (memory 0))
  ;; 0 is success, 8 a file that is not open.
  (func $none (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $none))
  (export "environ_sizes_get" (func $none))
  (func $nothing (param i32 i32) (result i32) (i32.const 0))
  (export "args_get" (func $nothing))
  (export "environ_get" (func $nothing))
  (func (export "clock_time_get") (param i32 i64) (param $at i32) (result i32)
    (i64.store (local.get $at) (i64.const 1000000000))
    (i32.const 0))
  (func (export "random_get") (param $at i32) (param $length i32) (result i32)
    (memory.fill (local.get $at) (i32.const 7) (local.get $length))
    (i32.const 0))
  ;; Not of WASI: what the generated code's library says to an adapter whose clock runs.
  (func (export "adapter_monotonic_clock_set_paused") (param i32))
  (func (export "sched_yield") (result i32) (i32.const 0))
  ;; A sleep is over at once.
  (func (export "poll_oneoff") (param $in i32) (param $out i32) (param $count i32) (param $done i32) (result i32)
    (i32.store (local.get $done) (local.get $count))
    (i32.const 0))
  ;; Taken and forgotten: Go, which writes one piece at a time, would complain of an error by writing.
  (func (export "fd_write") (param $file i32) (param $pieces i32) (param $count i32) (param $done i32) (result i32)
    (i32.store (local.get $done) (i32.load offset=4 (local.get $pieces)))
    (i32.const 0))
  (func (export "fd_close") (param i32) (result i32) (i32.const 8))
  (func $closed (param i32 i32) (result i32) (i32.const 8))
  (export "fd_fdstat_get" (func $closed))
  (export "fd_fdstat_set_flags" (func $closed))
  (export "fd_prestat_get" (func $closed))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "proc_exit") (param i32) unreachable))
