//! A broker that does what a test wants, and what a real one does only when it is pressed: it confirms in odd orders,
//! and ends things in the middle of a load.

use leveret_amqp091::{
    Method,
    client::{Incoming, next_frame},
    frame::put_method,
};
use leveret_model::{Name, Table, Value};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// The channel that clients open.
pub(crate) const CHANNEL: u16 = 1;

/// What becomes of a connection.
#[derive(PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    Drop,
    /// Nothing is read or said any more, and it stays open.
    StandStill,
}

/// Sees each method of each connection, and may put frames into what is sent back; behind the usual answer.
pub(crate) type Script = dyn FnMut(&Method<'_>, &mut Vec<u8>) -> Then;

/// Starts one with that limit of frames. `script` makes the script of each connection.
pub(crate) fn start<S>(frame_max: u32, script: impl Fn() -> S + Send + Sync + 'static) -> SocketAddr
where
    S: FnMut(&Method<'_>, &mut Vec<u8>) -> Then + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let script = Arc::clone(&script);
            std::thread::spawn(move || serve(stream.unwrap(), frame_max, &mut script()));
        }
    });
    address
}

fn serve(mut stream: TcpStream, frame_max: u32, script: &mut Script) {
    let mut header = [0; 8];
    if stream.read_exact(&mut header).is_err() {
        return;
    }
    let text = |text: &str| Value::Text(text.to_owned());
    let properties = [("product", "Scripted"), ("version", "1.2.3")];
    let server_properties: Table =
        properties.into_iter().map(|(name, value)| (Name::from_static(name), text(value))).collect();
    let mut out = Vec::new();
    let start = Method::ConnectionStart {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms: b"PLAIN",
        locales: b"en_US",
    };
    put_method(&mut out, 0, &start);
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        // Who has left does not hear it.
        if stream.write_all(&out).is_err() {
            return;
        }
        out.clear();
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
        }
        let mut used = 0;
        while let Some((consumed, incoming)) = next_frame(&buffer[used..], frame_max).expect("frames") {
            used += consumed;
            if let Incoming::Method { channel, method } = incoming {
                answer(channel, &method, frame_max, &mut out);
                match script(&method, &mut out) {
                    Then::GoOn => {}
                    Then::Drop => return,
                    Then::StandStill => loop {
                        std::thread::park();
                    },
                }
            }
        }
        buffer.drain(..used);
    }
}

/// What every broker answers.
fn answer(channel: u16, method: &Method<'_>, frame_max: u32, out: &mut Vec<u8>) {
    let answer = match method {
        Method::ConnectionStartOk { .. } => {
            Method::ConnectionTune { channel_max: 2047, frame_max, heartbeat: 60 }
        }
        Method::ConnectionOpen { .. } => Method::ConnectionOpenOk {},
        Method::ConnectionClose { .. } => Method::ConnectionCloseOk {},
        Method::ChannelOpen {} => Method::ChannelOpenOk {},
        Method::ExchangeDeclare { nowait: false, .. } => Method::ExchangeDeclareOk {},
        Method::ExchangeDelete { nowait: false, .. } => Method::ExchangeDeleteOk {},
        Method::QueueDeclare { queue, nowait: false, .. } => {
            Method::QueueDeclareOk { queue, message_count: 0, consumer_count: 0 }
        }
        Method::QueueDelete { nowait: false, .. } => Method::QueueDeleteOk { message_count: 0 },
        Method::BasicQos { .. } => Method::BasicQosOk {},
        Method::ConfirmSelect { .. } => Method::ConfirmSelectOk {},
        Method::BasicConsume { consumer_tag, .. } => Method::BasicConsumeOk { consumer_tag },
        _ => return,
    };
    put_method(out, channel, &answer);
}
