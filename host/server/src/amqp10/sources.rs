//! Links on which clients receive: what their sources say (section 3.5.3), and what becomes of it here.

use super::{
    Connection, dynamic,
    links::{Beside, Node, Outgoing, Refused, To, read_address, tag_of},
    management,
    offered::{OUTCOMES, Offered},
    resuming::{Claimed, Told},
    settle::ByDefault,
    terms::granted_source,
    wanted::{self, Wanted},
};
use crate::acting::Acting;
use leveret_amqp10::{
    Condition, Value,
    composite::Symbols,
    connection::Attached,
    form::address::Address,
    messaging::{COPY, MOVE, Released, Source},
    performatives::{Attach, SenderSettleMode},
};
use leveret_broker::{ConsumeSpec, REPLY_TO, port::Router};
use leveret_model::{Name, Table};

/// The argument of a consumer by which listings tell its filters.
const FILTER: &str = "filter";

impl Connection {
    /// A link on which the client receives.
    pub(super) fn attach_outgoing(
        &mut self,
        channel: u16,
        attach: &Attach<'_>,
        claimed: &mut Option<Claimed>,
        router: &mut dyn Router,
    ) -> Result<(), Refused> {
        let source =
            attach.source.ok_or_else(|| Refused::new(Condition::InvalidField, "the link has no source"))?;
        if source.address == Some(management::ADDRESS) {
            return self.attach_to_management(channel, attach);
        }
        if source.dynamic && source.address.is_some() {
            return Err(Refused::new(Condition::NotImplemented, "a dynamic source has no address (3.5.3)"));
        }
        let offered = Offered::of_receiver(&source)?;
        let wanted = Wanted::of(&source)?;
        let source = Source { filter: wanted.in_force(), ..source };
        if !source.dynamic {
            let queue = queue_of(&source)?;
            if let Some(open) = &mut self.open {
                Acting { vhost: &open.vhost, rights: Some(&mut open.rights) }.demand_read(&queue)?;
            }
            let is_durable =
                self.is_durable(&To::Node(Node { exchange: Name::EMPTY, routing_key: queue.clone() }.into()));
            self.check_copies(&source, &queue, router)?;
            self.consume(channel, attach, queue, (&wanted, offered))?;
            let source = granted_source(source, claimed.as_ref().map(Claimed::terms), is_durable);
            let told = self.resume_sent(channel, attach, claimed.take(), router);
            self.tell_source(channel, attach, source, &told);
        } else if dynamic::is_for_replies(source.capabilities) {
            if copies(&source) {
                return Err(Refused::new(Condition::NotImplemented, "replies are not copied"));
            }
            self.consume(channel, attach, Self::replies(), (&wanted, offered))?;
            if let Some(made) = self.replies_to(channel) {
                self.tell_source(channel, attach, made.source(source), &Told::default());
            }
        } else {
            // Before anything is made.
            arguments_of(attach)?;
            let made = self.make_node((channel, attach.handle), source.dynamic_node_properties)?;
            self.check_copies(&source, &made.queue, router)?;
            self.consume(channel, attach, made.queue.clone(), (&wanted, offered))?;
            self.tell_source(channel, attach, made.source(source), &Told::default());
        }
        Ok(())
    }

    /// Who wants copies (section 3.5.7) is given what is in the queue, past no interceptor.
    fn check_copies(
        &self,
        source: &Source<'_>,
        queue: &Name,
        router: &mut dyn Router,
    ) -> Result<(), Refused> {
        let Some(open) = self.open.as_ref().filter(|_| copies(source)) else {
            return Ok(());
        };
        let queue = open.vhost.queue(queue);
        if queue.is_some_and(|queue| open.client.is_intercepted(&queue, router)) {
            let text = "messages of a queue with interceptors on deliver are not copied";
            return Err(Refused::new(Condition::NotImplemented, text));
        }
        Ok(())
    }

    /// Has a link consume what it wants of a queue, without credit yet.
    fn consume(
        &mut self,
        channel: u16,
        attach: &Attach<'_>,
        queue: Name,
        (wanted, offered): (&Wanted, Offered),
    ) -> Result<(), Refused> {
        let settled = attach.snd_settle_mode == SenderSettleMode::Settled;
        let copies = attach.source.is_some_and(|source| copies(&source));
        // What is too large for its client is to be in the queue still.
        let is_checked =
            settled && attach.max_message_size.is_some_and(|most| most > 0) && queue.as_bytes() != REPLY_TO;
        let tag = tag_of(attach.handle);
        let mut arguments = arguments_of(attach)?;
        if let Some(filters) = wanted.told() {
            arguments.push(Name::from_static(FILTER), filters);
        }
        let spec = ConsumeSpec {
            queue: queue.clone(),
            tag: tag.clone(),
            no_ack: settled && !is_checked,
            exclusive: false,
            arguments,
            credit: Some(0),
            selector: wanted.selector.clone(),
            copies,
        };
        let beside = match (copies, is_checked) {
            (true, _) => Beside::Copied,
            (false, true) => Beside::Checked,
            (false, false) => Beside::Nothing,
        };
        let Some(open) = &mut self.open else { return Ok(()) };
        open.client.consume(channel, spec)?;
        self.use_node((channel, attach.handle), &queue);
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some(session) = open.sessions.get_mut(&channel) {
            let by_default = attach.source.and_then(|source| ByDefault::of(source.default_outcome?));
            let by_default = by_default.map(Box::new);
            let link =
                Outgoing { tag, queue, settled, beside, by_default, resuming: None, told_active: None };
            session.outgoing.insert(attach.handle, link);
            if !offered.is_all() {
                session.limited.insert(attach.handle, offered);
                self.has_limited = true;
            }
        }
        Ok(())
    }

    /// Attaches a link from a source.
    fn tell_source(&mut self, channel: u16, attach: &Attach<'_>, source: Source<'_>, told: &Told) {
        let answer = Attached {
            source: Some(Source {
                distribution_mode: Some(if copies(&source) { COPY } else { MOVE }),
                default_outcome: Some(source.default_outcome.unwrap_or(Released {}.into())),
                outcomes: if source.outcomes.iter().next().is_none() {
                    Symbols::Slice(&OUTCOMES)
                } else {
                    source.outcomes
                },
                ..source
            }),
            unsettled: told.unsettled(),
            incomplete_unsettled: told.is_incomplete,
            offered_capabilities: Symbols::Slice(&wanted::CAPABILITIES),
            ..Attached::as_asked(attach)
        };
        self.protocol.attached(channel, attach.handle, &answer);
    }
}

/// The queue that a source names.
fn queue_of(source: &Source<'_>) -> Result<Name, Refused> {
    let wrong = |text: String| Refused::new(Condition::InvalidField, text);
    let address = source.address.ok_or_else(|| wrong("the source has no address".to_owned()))?;
    let Address::Queue(queue) = read_address(address)? else {
        return Err(wrong(format!("'{address}' is no address of a source")));
    };
    Name::new(&queue).map_err(|_| wrong("a name has more than 255 bytes".to_owned()))
}

/// Whether who attaches wants copies (section 3.5.7).
fn copies(source: &Source<'_>) -> bool {
    source.distribution_mode == Some(COPY)
}

/// What a consumer's arguments are of a link's properties.
fn arguments_of(attach: &Attach<'_>) -> Result<Table, Refused> {
    const KNOWN: [(&str, &str); 2] =
        [("rabbitmq:priority", "x-priority"), ("rabbitmq:consumer-timeout", "x-consumer-timeout")];
    let Some(properties) = &attach.properties else { return Ok(Table::new()) };
    let mut arguments = Table::new();
    for (property, argument) in KNOWN {
        let Some(value) = properties.get(property) else { continue };
        let is_integer = matches!(
            value,
            Value::Ubyte(_)
                | Value::Ushort(_)
                | Value::Uint(_)
                | Value::Ulong(_)
                | Value::Byte(_)
                | Value::Short(_)
                | Value::Int(_)
                | Value::Long(_)
        );
        if !is_integer {
            return Err(Refused::new(Condition::InvalidField, format!("{property} is no integer")));
        }
        arguments.push(Name::from_static(argument), leveret_amqp10::form::model_value(&value));
    }
    Ok(arguments)
}
