//! Asks WASI for what it does not get: a file for the routing key `file`, a socket for `socket`, the
//! clock for `clock`. It delivers where the answer is an error, or a clock that stands still, and
//! rejects where it got something.

leveret_guests_hostile::misbehaving!("x-reaches-outside", route(message, to) {
    let got = match message.routing_key() {
        b"file" => std::fs::File::open("/etc/passwd").is_ok(),
        b"socket" => std::net::TcpStream::connect(("127.0.0.1", 5672)).is_ok(),
        b"clock" => std::time::Instant::now().elapsed() > std::time::Duration::ZERO,
        _ => false,
    };
    if got {
        return leveret_sdk::Decision::Reject("there is something outside".into());
    }
});

leveret_sdk::export!(Guest);
