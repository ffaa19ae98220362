//! From the first protocol header to open (sections 2.2, 2.4.1, 5.3.2).

use super::{Connection, Event, Failure, Phase, Step};
use crate::{
    Condition,
    composite::{Fields, Symbols},
    frame::{self, FRAME_BYTES_MIN, Frame, PROTOCOL_HEADER_BYTES, ProtocolId},
    performatives::{Error, Open, Performative},
    sasl::{self, Sasl},
    types::MapBuilder,
};
use alloc::{boxed::Box, format};

impl Connection {
    /// Eight bytes. Everything but SASL is answered with the header of SASL, and the connection ends.
    pub(super) fn on_sasl_header<'b>(&mut self, bytes: &'b [u8]) -> Step<'b> {
        let Some(header) = bytes.first_chunk::<PROTOCOL_HEADER_BYTES>() else { return Step::More };
        if ProtocolId::of(*header) == Some(ProtocolId::Sasl) {
            self.phase = Phase::Sasl(Sasl::new(self.config.mechanisms.clone()));
        } else {
            self.output.extend_from_slice(&ProtocolId::Sasl.header());
            self.end_connection(Phase::Closed);
        }
        Step::Took(header.len())
    }

    pub(super) fn step_sasl<'b>(&mut self, bytes: &'b [u8]) -> Step<'b> {
        let Phase::Sasl(sasl) = &mut self.phase else { return Step::More };
        match sasl.next(bytes) {
            Ok((took, Some(sasl::Event::Failed))) => {
                self.end_connection(Phase::Closed);
                Step::Took(took)
            }
            Ok((took, Some(event))) => Step::Event(took, Event::Sasl(event)),
            Ok((took, None)) if sasl.has_succeeded() => {
                self.collect_sasl();
                self.phase = Phase::AmqpHeader;
                Step::Took(took)
            }
            Ok((0, None)) => Step::More,
            Ok((took, None)) => Step::Took(took),
            Err(_) => {
                self.end_connection(Phase::Closed);
                Step::Took(0)
            }
        }
    }

    /// The login, to answer [`Event::Sasl`]; `None` if it is over.
    pub fn sasl(&mut self) -> Option<&mut Sasl> {
        if let Phase::Sasl(sasl) = &mut self.phase { Some(sasl) } else { None }
    }

    /// Eight bytes, which are those of AMQP; else these are sent, and the connection ends.
    pub(super) fn on_amqp_header<'b>(&mut self, bytes: &'b [u8]) -> Step<'b> {
        let Some(header) = bytes.first_chunk::<PROTOCOL_HEADER_BYTES>() else { return Step::More };
        self.output.extend_from_slice(&ProtocolId::Amqp.header());
        if ProtocolId::of(*header) == Some(ProtocolId::Amqp) {
            self.phase = Phase::Open;
        } else {
            self.end_connection(Phase::Closed);
        }
        Step::Took(header.len())
    }

    /// Open (2.7.1). frame-size-too-small for less than every peer has to take; not-allowed for a time-out that is
    /// too short, and for any other performative.
    pub(super) fn on_open<'b>(&mut self, frame: &Frame<'b>) -> Result<Option<Event<'b>>, Failure> {
        let (performative, _) = Performative::from_body(frame.body)?;
        let Performative::Open(open) = performative else {
            let text = format!("{} before open", performative.name());
            return Err(Failure::connection(Condition::NotAllowed, text));
        };
        if open.max_frame_size < FRAME_BYTES_MIN {
            let text = format!("max-frame-size ({}) < minimum ({FRAME_BYTES_MIN})", open.max_frame_size);
            return Err(Failure::connection(Condition::FrameSizeTooSmall, text));
        }
        let idle_time_out_ms = open.idle_time_out.unwrap_or(0);
        let least = self.config.idle_time_out_ms_min;
        if idle_time_out_ms > 0 && idle_time_out_ms < least {
            let text = format!("idle-time-out ({idle_time_out_ms} ms) < minimum ({least} ms)");
            return Err(Failure::connection(Condition::NotAllowed, text));
        }
        self.frame_bytes_max = open.max_frame_size.min(self.config.frame_bytes_max);
        self.remote_channel_max = open.channel_max;
        self.remote_idle_time_out_ms = idle_time_out_ms;
        self.phase = Phase::Opening;
        Ok(Some(Event::Open(Box::new(open))))
    }

    pub(super) fn put_open(&mut self) {
        let config = &self.config;
        let mut properties = MapBuilder::new();
        for (name, value) in &config.properties {
            properties.push(*name, value.as_str());
        }
        let open = Open {
            container_id: &config.container_id,
            max_frame_size: config.frame_bytes_max,
            channel_max: config.channel_max,
            idle_time_out: Some(config.idle_time_out_ms / 2).filter(|half| *half > 0),
            offered_capabilities: Symbols::Slice(&config.capabilities),
            properties: Fields::new(properties.view()),
            ..Open::default()
        };
        if !frame::put_within(&mut self.output, 0, &open, self.frame_bytes_max) {
            frame::put_performative(&mut self.output, 0, &Open { properties: None, ..open });
        }
    }

    /// The answer to [`Event::Open`] if the client may use what it asked for.
    pub fn opened(&mut self) {
        if matches!(self.phase, Phase::Opening) {
            self.put_open();
            self.phase = Phase::Running;
        }
    }

    /// The answer to [`Event::Open`] if it may not: open, and close at once.
    pub fn open_refused(&mut self, condition: Condition, description: &str) {
        if matches!(self.phase, Phase::Opening) {
            self.close_with(&Error::new(condition, description));
        }
    }
}
