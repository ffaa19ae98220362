//! From the protocol header to open-ok, and the answers that the caller gives on the way
//! (section 2.2.4; negotiation: section 4.2.2).

use super::{ClientProperties, Event, Login, Mechanism, Phase, Session, Step};
use crate::{
    Method,
    close::{Failure, ReplyCode, reply_text},
    frame::{self, FRAME_BYTES_MIN, HEARTBEAT, METHOD, PROTOCOL_HEADER, PROTOCOL_HEADER_0_9},
    methods::DecodeError,
    wire::{Field, Fields, Reader},
};
use alloc::{format, string::String, string::ToString, vec::Vec};
use leveret_model::{Name, Refusal, Table, Value};

/// What this side can do; all of it is announced as true.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];
const LOCALES: &[u8] = b"en_US";
const TUNE: (u16, u16) = (10, 30);
const OPEN: (u16, u16) = (10, 40);

impl Session {
    /// Eight bytes. Versions 0-9-1 and 0-9 get connection.start; all others get the header of
    /// 0-9-1, and the connection ends (section 2.2.1).
    pub(super) fn on_protocol_header<'b>(&mut self, bytes: &'b [u8]) -> Step<'b> {
        let Some(header) = bytes.first_chunk::<8>() else {
            return Step::More;
        };
        if *header == PROTOCOL_HEADER || *header == PROTOCOL_HEADER_0_9 {
            let mechanisms: Vec<&str> = self.config.mechanisms.iter().map(|offered| offered.name()).collect();
            let mechanisms = mechanisms.join(" ");
            let start = Method::ConnectionStart {
                version_major: 0,
                version_minor: 9,
                server_properties: self.server_properties(),
                mechanisms: mechanisms.as_bytes(),
                locales: LOCALES,
            };
            frame::put_method(&mut self.output, 0, &start);
            self.phase = Phase::StartOk;
        } else {
            self.output.extend_from_slice(&PROTOCOL_HEADER);
            self.end(Phase::Closed);
        }
        Step::Took(header.len())
    }

    fn server_properties(&self) -> Table {
        let text = |text: &str| Value::Text(String::from(text));
        let capabilities = CAPABILITIES.iter().map(|name| (text(name), Value::Boolean(true))).collect();
        [
            ("capabilities", Value::Map(capabilities)),
            ("cluster_name", text(&self.config.cluster_name)),
            ("copyright", text("Copyright (c) the Leveret authors")),
            ("information", text("Licensed under the Apache License 2.0")),
            ("platform", text(&self.config.platform)),
            ("product", text(&self.config.product)),
            ("version", text(&self.config.version)),
        ]
        .into_iter()
        .map(|(name, value)| (Name::from_static(name), value))
        .collect()
    }

    pub(super) fn step_handshake<'b>(&mut self, bytes: &'b [u8]) -> Result<Step<'b>, Failure> {
        let Some(frame) = self.frame(bytes)? else {
            return Ok(Step::More);
        };
        let took = frame.length_bytes;
        if (frame.kind, frame.channel, frame.payload.len()) == (HEARTBEAT, 0, 0) {
            return Ok(Step::Took(took));
        }
        if frame.kind != METHOD || frame.channel != 0 {
            return Err(Failure::unexpected_frame(frame.kind, frame.payload));
        }
        let method = decode_method(frame.payload)?;
        let ids = method.ids();
        match (self.phase, method) {
            (Phase::StartOk, Method::ConnectionStartOk { client_properties, mechanism, response, .. }) => {
                Ok(self.on_start_ok(client_properties, mechanism, response, took))
            }
            (Phase::TuneOk, Method::ConnectionTuneOk { channel_max, frame_max, heartbeat }) => {
                self.on_tune_ok(channel_max, frame_max, heartbeat)?;
                Ok(Step::Took(took))
            }
            (Phase::Open, Method::ConnectionOpen { virtual_host }) => {
                let vhost = Name::new(virtual_host).unwrap_or_default();
                self.phase = Phase::Vhost;
                Ok(Step::Event(took, Event::Open { vhost }))
            }
            (Phase::TuneOk | Phase::Open, Method::ConnectionClose { .. }) => {
                frame::put_method(&mut self.output, 0, &Method::ConnectionCloseOk {});
                self.end(Phase::Closed);
                Ok(Step::Took(took))
            }
            (phase, _) => {
                let state = if phase == Phase::TuneOk { "tuning" } else { "opening" };
                let text = format!("unexpected method in connection state {state}");
                Err(Failure::new(ReplyCode::ChannelError, text, ids))
            }
        }
    }

    /// connection.start-ok. A mechanism or a response that makes no sense is a failed login.
    fn on_start_ok<'b>(
        &mut self,
        properties: Table,
        mechanism: &[u8],
        response: &'b [u8],
        took: usize,
    ) -> Step<'b> {
        self.client = ClientProperties::new(properties);
        self.mechanism = String::from_utf8_lossy(mechanism).into_owned();
        self.phase = Phase::Login;
        let offered = self.config.mechanisms.iter().find(|offered| offered.name().as_bytes() == mechanism);
        match offered.and_then(|mechanism| parse_login(*mechanism, response)) {
            Some(login) => Step::Event(took, Event::Login(login)),
            None => {
                self.login_refused();
                Step::Took(took)
            }
        }
    }

    /// The answer to [`Event::Login`] if user and password are right: goes on with
    /// connection.tune.
    pub fn authenticated(&mut self) {
        if self.phase != Phase::Login {
            return;
        }
        let tune = Method::ConnectionTune {
            channel_max: self.config.channel_max,
            frame_max: self.config.frame_bytes_max,
            heartbeat: self.config.heartbeat_seconds,
        };
        frame::put_method(&mut self.output, 0, &tune);
        self.phase = Phase::TuneOk;
    }

    /// The answer to [`Event::Login`] if they are wrong: connection.close 403 if the client can
    /// take it, else the end. The caller should wait a moment before it sends this.
    pub fn login_refused(&mut self) {
        if self.phase != Phase::Login {
            return;
        }
        if self.client.authentication_failure_close {
            let text = format!(
                "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                self.mechanism
            );
            let code = ReplyCode::AccessRefused;
            self.put_connection_close(code.number(), &reply_text(code, &text), (0, 0));
            self.end(Phase::Closing);
        } else {
            self.end(Phase::Closed);
        }
    }

    /// connection.tune-ok: 530 for more than was offered, or a frame-max below the least.
    fn on_tune_ok(&mut self, channel_max: u16, frame_max: u32, heartbeat: u16) -> Result<(), Failure> {
        let offered = u32::from(self.config.channel_max);
        let too_many = u32::from(channel_max) > offered || channel_max == 0;
        if too_many {
            let detail = if channel_max == 0 { " (no limit)" } else { "" };
            return Err(not_negotiable(
                "channel_max",
                u32::from(channel_max),
                detail,
                "higher",
                "maximum",
                offered,
            ));
        }
        if frame_max != 0 && frame_max < FRAME_BYTES_MIN {
            return Err(not_negotiable("frame_max", frame_max, "", "lower", "minimum", FRAME_BYTES_MIN));
        }
        let offered = self.config.frame_bytes_max;
        if frame_max == 0 || frame_max > offered {
            return Err(not_negotiable("frame_max", frame_max, "", "higher", "maximum", offered));
        }
        self.channel_max = channel_max;
        self.heartbeat_seconds = heartbeat;
        self.set_frame_bytes_max(frame_max);
        self.phase = Phase::Open;
        Ok(())
    }

    /// The answer to [`Event::Open`] if the virtual host is there and allowed.
    pub fn opened(&mut self) {
        if self.phase == Phase::Vhost {
            frame::put_method(&mut self.output, 0, &Method::ConnectionOpenOk {});
            self.phase = Phase::Running;
        }
    }

    /// The answer to [`Event::ChannelOpened`] if the user may have the channel.
    pub fn channel_opened(&mut self, channel: u16) {
        self.reply(channel, Method::ChannelOpenOk {});
    }

    /// The answer to [`Event::Open`] if it is not: closes the connection.
    pub fn open_refused(&mut self, refusal: &Refusal) {
        if self.phase == Phase::Vhost {
            let code = crate::close::reply_code(refusal);
            self.close_with(code, &refusal.to_string(), OPEN);
        }
    }
}

/// Decodes the payload of a method frame.
pub(super) fn decode_method(payload: &[u8]) -> Result<Method<'_>, Failure> {
    let (ids, arguments) = method_ids(payload)?;
    Method::decode(ids.0, ids.1, arguments).map_err(|error| match error {
        DecodeError::Unknown => Failure::new(ReplyCode::NotImplemented, "unimplemented method", ids),
        DecodeError::Malformed => Failure::arguments(arguments, ids),
        DecodeError::NotUtf8 => Failure::new(ReplyCode::FrameError, "Malformed UTF-8 in shortstr", (0, 0)),
    })
}

/// Class, method and arguments of a method frame's payload.
pub(super) fn method_ids(payload: &[u8]) -> Result<((u16, u16), &[u8]), Failure> {
    let mut reader = Reader::new(payload);
    match (reader.short(), reader.short()) {
        (Ok(class), Ok(method)) => Ok(((class, method), reader.rest())),
        _ => Err(Failure::frame(METHOD, payload, &"unknown_frame")),
    }
}

fn not_negotiable(field: &str, value: u32, detail: &str, side: &str, bound: &str, allowed: u32) -> Failure {
    let text =
        format!("negotiated {field} = {value}{detail} is {side} than the {bound} allowed value ({allowed})");
    Failure::new(ReplyCode::NotAllowed, text, TUNE)
}

fn parse_login(mechanism: Mechanism, response: &[u8]) -> Option<Login<'_>> {
    match mechanism {
        Mechanism::Plain => {
            let parts: Vec<&[u8]> = response.splitn(4, |octet| *octet == 0).collect();
            let [[], user, password] = *parts.as_slice() else {
                return None;
            };
            Some(Login { mechanism, user, password })
        }
        Mechanism::AmqPlain => {
            let string = |wanted: &[u8]| {
                Fields::new(response).find_map(|(name, field)| match field {
                    Field::LongStr(bytes) if name == wanted => Some(bytes),
                    _ => None,
                })
            };
            let (user, password) = (string(b"LOGIN")?, string(b"PASSWORD")?);
            Some(Login { mechanism, user, password })
        }
        Mechanism::Anonymous | Mechanism::External => Some(Login { mechanism, user: b"", password: b"" }),
    }
}
