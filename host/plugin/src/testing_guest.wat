;; An exchange type for tests. It delivers to the bindings whose key is the message's, or to all
;; of its exchange where it was made a fanout. Keys beginning with `!` are orders:
;;   !t trap    !l loop for ever    !b name 65,537 ids    !m take all memory, then trap
;;   !f name a forged id    !d drop    !r reject    !w answer a word of no meaning
;;   !n reject with the number of decisions so far: never the same twice
;; Binding one key of six bytes is refused, binding `!t` traps. An exchange with arguments is refused.
;;
;; Memory: 0 results, 1,024 texts, 64 KiB bindings, 1 MiB answers, 4 MiB heap.
;; A binding: exchange (4 bytes), key (pointer and length), unused (4), id (8).
(module
  (memory (export "memory") 128)
  (global $top (mut i32) (i32.const 4194304))
  (global $base (mut i32) (i32.const 4194304))
  (global $bindings (mut i32) (i32.const 0))
  (global $decided (mut i32) (i32.const 0))

  (data (i32.const 1024) "$$VERSION")
  (data (i32.const 1040) "$$NAME")
  (data (i32.const 1200) "no")
  (data (i32.const 1210) "not taken")
  (data (i32.const 1220) "$$REFUSE")
  (data (i32.const 1330) "$$PURE")

  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $p i32)
    (local.set $p (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $p) (local.get 3)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $top) (i32.shl (memory.size) (i32.const 16))))
      (br_if $fits (i32.ne (i32.const -1)
        (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1)))))
      unreachable)
    (local.get $p))

  (func (export "leveret:routing/exchange-type@0.1.0#describe") (result i32)
    (i32.store (i32.const 1304) (i32.const $$LENGTH))
    (i32.store (i32.const 1300) (i32.const 1040))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 1))
    (i32.store (i32.const 8) (i32.const 1300))
    (i32.store (i32.const 12) (i32.const 1))
    ;; the element has 20 bytes: name 1300, summary 1308, pure 1316
    (i32.store (i32.const 1308) (i32.const 1024))
    (i32.store8 (i32.const 1316) (i32.load8_u (i32.const 1330)))
    (i32.store8 (i32.const 1317) (i32.const $$INDEPENDENT))
    (i32.store (i32.const 1312) (i32.const 0))
    (i32.const 0))

  ;; `reads` at a place: the routing key and nothing else
  (func $reads (param $at i32)
    (memory.fill (local.get $at) (i32.const 0) (i32.const 32))
    (i32.store8 (local.get $at) (i32.const 1)))

  ;; result<reads, string> at 32: ok
  (func $taken (result i32)
    (global.set $base (global.get $top))
    (i32.store8 (i32.const 32) (i32.const 0))
    (call $reads (i32.const 36))
    (i32.const 32))

  (func $not_taken (result i32)
    (i32.store8 (i32.const 32) (i32.const 1))
    (i32.store (i32.const 36) (i32.const 1210))
    (i32.store (i32.const 40) (i32.const 9))
    (i32.const 32))

  (func (export "leveret:routing/exchange-type@0.1.0#open")
    (param i32 i32 i32 i32 i32 i32 i32) (result i32)
    (if (local.get 6) (then (return (call $not_taken))))
    (call $taken))

  (func (export "leveret:routing/exchange-type@0.1.0#close") (param $exchange i32)
    (local $i i32) (local $e i32)
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (global.get $bindings)))
      (local.set $e (i32.add (i32.const 65536) (i32.mul (local.get $i) (i32.const 24))))
      (if (i32.eq (i32.load (local.get $e)) (local.get $exchange))
        (then (i32.store (local.get $e) (i32.const -1))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next))))

  (func $same (param $a i32) (param $al i32) (param $b i32) (param $bl i32) (result i32)
    (if (i32.ne (local.get $al) (local.get $bl)) (then (return (i32.const 0))))
    (block $end (loop $next
      (br_if $end (i32.eqz (local.get $al)))
      (if (i32.ne (i32.load8_u (local.get $a)) (i32.load8_u (local.get $b))) (then (return (i32.const 0))))
      (local.set $a (i32.add (local.get $a) (i32.const 1)))
      (local.set $b (i32.add (local.get $b) (i32.const 1)))
      (local.set $al (i32.sub (local.get $al) (i32.const 1)))
      (br $next)))
    (i32.const 1))

  ;; the letter after `!`, or 0
  (func $order (param $key i32) (param $length i32) (result i32)
    (if (i32.lt_u (local.get $length) (i32.const 2)) (then (return (i32.const 0))))
    (if (i32.ne (i32.load8_u (local.get $key)) (i32.const 0x21)) (then (return (i32.const 0))))
    (i32.load8_u offset=1 (local.get $key)))

  (func (export "leveret:routing/exchange-type@0.1.0#bind")
    (param $exchange i32) (param $list i32) (param $count i32) (result i32)
    (local $e i32) (local $before i32) (local $key i32) (local $length i32)
    (local.set $before (global.get $bindings))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $count)))
      (local.set $key (i32.load offset=8 (local.get $list)))
      (local.set $length (i32.load offset=12 (local.get $list)))
      (if (i32.eq (call $order (local.get $key) (local.get $length)) (i32.const 0x74)) (then unreachable))
      (if (call $same (local.get $key) (local.get $length) (i32.const 1220) (i32.const 6)) (then
        (global.set $bindings (local.get $before))
        (return (call $not_taken))))
      (local.set $e (i32.add (i32.const 65536) (i32.mul (global.get $bindings) (i32.const 24))))
      (i32.store (local.get $e) (local.get $exchange))
      (i32.store offset=4 (local.get $e) (local.get $key))
      (i32.store offset=8 (local.get $e) (local.get $length))
      (i64.store offset=16 (local.get $e) (i64.load (local.get $list)))
      (global.set $bindings (i32.add (global.get $bindings) (i32.const 1)))
      (local.set $list (i32.add (local.get $list) (i32.const 24)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next)))
    (call $taken))

  (func (export "leveret:routing/exchange-type@0.1.0#unbind")
    (param $exchange i32) (param $ids i32) (param $count i32) (result i32)
    (local $i i32) (local $e i32)
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $count)))
      (local.set $i (i32.const 0))
      (block $end (loop $look
        (br_if $end (i32.ge_u (local.get $i) (global.get $bindings)))
        (local.set $e (i32.add (i32.const 65536) (i32.mul (local.get $i) (i32.const 24))))
        (if (i32.and (i32.eq (i32.load (local.get $e)) (local.get $exchange))
                     (i64.eq (i64.load offset=16 (local.get $e)) (i64.load (local.get $ids))))
          (then (i32.store (local.get $e) (i32.const -1))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $look)))
      (local.set $ids (i32.add (local.get $ids) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next)))
    (global.set $top (global.get $base))
    (call $reads (i32.const 80))
    (i32.const 80))

  ;; writes the words of a decision, gives the place after them
  (func $decide (param $exchange i32) (param $key i32) (param $length i32) (param $out i32) (result i32)
    (local $i i32) (local $e i32) (local $o i32) (local $order i32)
    (global.set $decided (i32.add (global.get $decided) (i32.const 1)))
    (local.set $order (call $order (local.get $key) (local.get $length)))
    (if (i32.eq (local.get $order) (i32.const 0x74)) (then unreachable))
    (if (i32.eq (local.get $order) (i32.const 0x6c)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $order) (i32.const 0x6d)) (then
      (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
      unreachable))
    (if (i32.eq (local.get $order) (i32.const 0x62)) (then
      (i64.store (local.get $out) (i64.const 65537))
      (return (i32.add (local.get $out) (i32.const 524304)))))
    (if (i32.eq (local.get $order) (i32.const 0x66)) (then
      (i64.store (local.get $out) (i64.const 1))
      (i64.store offset=8 (local.get $out) (i64.const 0x1234567890ab))
      (return (i32.add (local.get $out) (i32.const 16)))))
    (if (i32.eq (local.get $order) (i32.const 0x64)) (then
      (i64.store (local.get $out) (i64.const 0x0100000000000000))
      (return (i32.add (local.get $out) (i32.const 8)))))
    (if (i32.eq (local.get $order) (i32.const 0x77)) (then
      (i64.store (local.get $out) (i64.const 0x7700000000000000))
      (return (i32.add (local.get $out) (i32.const 8)))))
    (if (i32.eq (local.get $order) (i32.const 0x72)) (then
      (i64.store (local.get $out) (i64.const 0x0200000000000002))
      (i64.store offset=8 (local.get $out) (i64.load16_u (i32.const 1200)))
      (return (i32.add (local.get $out) (i32.const 16)))))
    (if (i32.eq (local.get $order) (i32.const 0x6e)) (then
      (i64.store (local.get $out) (i64.const 0x0200000000000001))
      (i64.store offset=8 (local.get $out)
        (i64.extend_i32_u (i32.add (i32.const 0x30) (i32.rem_u (global.get $decided) (i32.const 64)))))
      (return (i32.add (local.get $out) (i32.const 16)))))
    (local.set $o (i32.add (local.get $out) (i32.const 8)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (global.get $bindings)))
      (local.set $e (i32.add (i32.const 65536) (i32.mul (local.get $i) (i32.const 24))))
      (if (i32.eq (i32.load (local.get $e)) (local.get $exchange)) (then
        (if (i32.or (i32.const $$FANOUT)
          (call $same (i32.load offset=4 (local.get $e)) (i32.load offset=8 (local.get $e))
            (local.get $key) (local.get $length))) (then
          (if (i32.const $$NEWEST) (then (local.set $o (i32.add (local.get $out) (i32.const 8)))))
          (i64.store (local.get $o) (i64.load offset=16 (local.get $e)))
          (local.set $o (i32.add (local.get $o) (i32.const 8)))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (i64.store (local.get $out) (i64.extend_i32_u
      (i32.sub (i32.shr_u (i32.sub (local.get $o) (local.get $out)) (i32.const 3)) (i32.const 1))))
    (local.get $o))

  (func (export "leveret:routing/exchange-type@0.1.0#route")
    (param $exchange i32) (param $key i32) (param $length i32)
    (param i32 i32 i32 i32 i32 i32 i32) (result i32)
    (drop (call $decide (local.get $exchange) (local.get $key) (local.get $length) (i32.const 1048576)))
    (global.set $top (global.get $base))
    ;; the kind of the first word is the case, its count the length
    (i32.store (i32.const 128) (i32.load8_u (i32.const 1048583)))
    (i32.store (i32.const 132) (i32.const 1048584))
    (i32.store (i32.const 136) (i32.load (i32.const 1048576)))
    (i32.const 128))

  (func (export "leveret:routing/exchange-type-batch@0.1.0#route-batch")
    (param $exchange i32) (param $at i32) (param $bytes i32) (result i32)
    (local $end i32) (local $out i32)
    (local.set $end (i32.add (local.get $at) (local.get $bytes)))
    (local.set $out (i32.const 1048576))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $out (call $decide (local.get $exchange) (i32.add (local.get $at) (i32.const 6))
        (i32.load16_u offset=4 (local.get $at)) (local.get $out)))
      (local.set $at (i32.add (i32.add (local.get $at) (i32.const 4)) (i32.load (local.get $at))))
      (br $next)))
    (global.set $top (global.get $base))
    (i32.store (i32.const 160) (i32.const 1048576))
    (i32.store (i32.const 164) (i32.shr_u (i32.sub (local.get $out) (i32.const 1048576)) (i32.const 3)))
    (i32.const 160)))
