//! AMQP 0-9-1 as a state machine: bytes in, requests out; no I/O and no clock.
