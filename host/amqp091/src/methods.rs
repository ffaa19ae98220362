//! All methods, as one table (section 1.4 of the reference, with RabbitMQ's extensions).
//!
//! A method's bytes are its arguments back to back, in the order of the table:
//! ```text
//! u16 class, u16 method, then each argument:
//!   octet u8   short u16   long u32   longlong u64   shortstr, longstr, table: see `wire`
//!   bit: consecutive bits share a byte, the first in its lowest place
//! ```
//! An argument marked `@` is reserved: zero or empty when sent, ignored when received.

use crate::wire::{self, Malformed, Reader};
use alloc::vec::Vec;
use leveret_model::Table;

/// Who may send a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client alone.
    Client,
    /// The server alone.
    Server,
    /// Either.
    Both,
}

impl Sender {
    /// Whether a client may send it.
    #[must_use]
    pub fn is_client(self) -> bool {
        self != Self::Server
    }
}

/// What the table says of a method, its arguments aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodInfo {
    /// The class.
    pub class: u16,
    /// The number within the class.
    pub id: u16,
    /// `queue.declare`.
    pub name: &'static str,
    /// Who may send it.
    pub sender: Sender,
    /// Whether a content header and body frames follow.
    pub has_content: bool,
}

/// Why a method was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// No such class, or no such method in it.
    Unknown,
    /// The arguments make no sense, are cut short, or go on too long.
    Malformed,
    /// A short string that is not UTF-8, in a method of a client other than basic.publish.
    NotUtf8,
}

impl From<Malformed> for DecodeError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

macro_rules! argument_type {
    (octet, $a:lifetime) => {
        u8
    };
    (short, $a:lifetime) => {
        u16
    };
    (long, $a:lifetime) => {
        u32
    };
    (longlong, $a:lifetime) => {
        u64
    };
    (shortstr, $a:lifetime) => {
        &$a[u8]
    };
    (longstr, $a:lifetime) => {
        &$a[u8]
    };
    (bit, $a:lifetime) => {
        bool
    };
    (table, $a:lifetime) => {
        Table
    };
}

macro_rules! is_content {
    (content) => {
        true
    };
}

macro_rules! methods {
    ($(
        $(#[$doc:meta])*
        $name:ident = ($class:literal, $id:literal, $text:literal, $sender:ident $(, $content:ident)?) {
            $( $(@ $reserved:ident)* $field:ident : $kind:ident ),* ; $(@ $trailing:ident)*
        }
    )*) => {
        /// A method with its arguments. The fields are named as in the specification, except
        /// `type_name` for an exchange's `type`.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "the fields are the specification's")]
        pub enum Method<'a> {
            $( $(#[$doc])* $name { $( $field: argument_type!($kind, 'a) ),* }, )*
        }

        /// All methods.
        pub const METHODS: &[MethodInfo] = &[
            $( MethodInfo {
                class: $class, id: $id, name: $text, sender: Sender::$sender,
                has_content: false $(|| is_content!($content))?,
            }, )*
        ];

        impl<'a> Method<'a> {
            /// What the table says of it.
            #[must_use]
            pub fn info(&self) -> MethodInfo {
                match self {
                    $( Self::$name { .. } => MethodInfo {
                        class: $class, id: $id, name: $text, sender: Sender::$sender,
                        has_content: false $(|| is_content!($content))?,
                    }, )*
                }
            }

            /// Class and method number.
            #[must_use]
            pub fn ids(&self) -> (u16, u16) {
                match self { $( Self::$name { .. } => ($class, $id), )* }
            }

            /// Decodes the arguments, which follow the two numbers in a method frame.
            ///
            /// # Errors
            /// If there is no such method, or its arguments are anything but whole; a short string of a client that
            /// is not UTF-8, but for those of basic.publish, as in RabbitMQ.
            pub fn decode(class: u16, method: u16, arguments: &'a [u8]) -> Result<Self, DecodeError> {
                let mut reader = ArgumentReader::new(arguments);
                let method = match (class, method) {
                    $( ($class, $id) => {
                        reader.is_text = is_text(Sender::$sender, ($class, $id));
                        $( $( reader.$reserved()?; )* let $field = reader.$kind()?; )*
                        $( reader.$trailing()?; )*
                        Self::$name { $( $field ),* }
                    } )*
                    _ => return Err(DecodeError::Unknown),
                };
                if reader.reader.is_empty() { Ok(method) } else { Err(DecodeError::Malformed) }
            }

            /// Appends class, method number and arguments: the payload of a method frame.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$name { $( $field ),* } => {
                        let writer = &mut ArgumentWriter::new(out, $class, $id);
                        $( $( writer.$reserved(&Default::default()); )* writer.$kind($field); )*
                        $( writer.$trailing(&Default::default()); )*
                        writer.finish();
                    } )*
                }
            }
        }

        #[cfg(test)]
        mod samples {
            use super::*;
            /// One of each method, with arguments that differ from their defaults.
            pub(super) fn all() -> Vec<Method<'static>> {
                alloc::vec![ $( Method::$name { $( $field: Sample::sample(stringify!($field)) ),* } ),* ]
            }
        }
    };
}

methods! {
    /// Opens negotiation.
    ConnectionStart = (10, 10, "connection.start", Server) {
        version_major: octet, version_minor: octet, server_properties: table, mechanisms: longstr, locales: longstr;
    }
    /// Selects a mechanism and a locale.
    ConnectionStartOk = (10, 11, "connection.start-ok", Client) {
        client_properties: table, mechanism: shortstr, response: longstr, locale: shortstr;
    }
    /// A challenge of the mechanism.
    ConnectionSecure = (10, 20, "connection.secure", Server) { challenge: longstr; }
    /// The answer to a challenge.
    ConnectionSecureOk = (10, 21, "connection.secure-ok", Client) { response: longstr; }
    /// Proposes limits.
    ConnectionTune = (10, 30, "connection.tune", Server) { channel_max: short, frame_max: long, heartbeat: short; }
    /// Settles limits.
    ConnectionTuneOk = (10, 31, "connection.tune-ok", Client) { channel_max: short, frame_max: long, heartbeat: short; }
    /// Opens a virtual host.
    ConnectionOpen = (10, 40, "connection.open", Client) { virtual_host: shortstr; @shortstr @bit }
    /// The virtual host is open.
    ConnectionOpenOk = (10, 41, "connection.open-ok", Server) { ; @shortstr }
    /// Closes the connection.
    ConnectionClose = (10, 50, "connection.close", Both) {
        reply_code: short, reply_text: shortstr, class_id: short, method_id: short;
    }
    /// Confirms a close.
    ConnectionCloseOk = (10, 51, "connection.close-ok", Both) { ; }
    /// The broker reads no more publishes.
    ConnectionBlocked = (10, 60, "connection.blocked", Server) { reason: shortstr; }
    /// The broker reads publishes again.
    ConnectionUnblocked = (10, 61, "connection.unblocked", Server) { ; }
    /// A new secret in place of one that expires.
    ConnectionUpdateSecret = (10, 70, "connection.update-secret", Client) { new_secret: longstr, reason: shortstr; }
    /// The new secret is taken.
    ConnectionUpdateSecretOk = (10, 71, "connection.update-secret-ok", Server) { ; }

    /// Opens a channel.
    ChannelOpen = (20, 10, "channel.open", Client) { ; @shortstr }
    /// The channel is open.
    ChannelOpenOk = (20, 11, "channel.open-ok", Server) { ; @longstr }
    /// Stops or restarts the peer's content.
    ChannelFlow = (20, 20, "channel.flow", Both) { active: bit; }
    /// Confirms a flow.
    ChannelFlowOk = (20, 21, "channel.flow-ok", Both) { active: bit; }
    /// Closes a channel.
    ChannelClose = (20, 40, "channel.close", Both) {
        reply_code: short, reply_text: shortstr, class_id: short, method_id: short;
    }
    /// Confirms a close.
    ChannelCloseOk = (20, 41, "channel.close-ok", Both) { ; }

    /// Asks for a ticket, a thing of older versions.
    AccessRequest = (30, 10, "access.request", Client) {
        realm: shortstr, exclusive: bit, passive: bit, active: bit, write: bit, read: bit;
    }
    /// A ticket.
    AccessRequestOk = (30, 11, "access.request-ok", Server) { ticket: short; }

    /// Declares an exchange.
    ExchangeDeclare = (40, 10, "exchange.declare", Client) {
        @short exchange: shortstr, type_name: shortstr, passive: bit, durable: bit, auto_delete: bit, internal: bit,
        nowait: bit, arguments: table;
    }
    /// The exchange is there.
    ExchangeDeclareOk = (40, 11, "exchange.declare-ok", Server) { ; }
    /// Deletes an exchange.
    ExchangeDelete = (40, 20, "exchange.delete", Client) { @short exchange: shortstr, if_unused: bit, nowait: bit; }
    /// The exchange is gone.
    ExchangeDeleteOk = (40, 21, "exchange.delete-ok", Server) { ; }
    /// Binds an exchange to an exchange.
    ExchangeBind = (40, 30, "exchange.bind", Client) {
        @short destination: shortstr, source: shortstr, routing_key: shortstr, nowait: bit, arguments: table;
    }
    /// The binding is there.
    ExchangeBindOk = (40, 31, "exchange.bind-ok", Server) { ; }
    /// Removes such a binding.
    ExchangeUnbind = (40, 40, "exchange.unbind", Client) {
        @short destination: shortstr, source: shortstr, routing_key: shortstr, nowait: bit, arguments: table;
    }
    /// The binding is gone.
    ExchangeUnbindOk = (40, 51, "exchange.unbind-ok", Server) { ; }

    /// Declares a queue.
    QueueDeclare = (50, 10, "queue.declare", Client) {
        @short queue: shortstr, passive: bit, durable: bit, exclusive: bit, auto_delete: bit, nowait: bit,
        arguments: table;
    }
    /// The queue is there.
    QueueDeclareOk = (50, 11, "queue.declare-ok", Server) { queue: shortstr, message_count: long, consumer_count: long; }
    /// Binds a queue to an exchange.
    QueueBind = (50, 20, "queue.bind", Client) {
        @short queue: shortstr, exchange: shortstr, routing_key: shortstr, nowait: bit, arguments: table;
    }
    /// The binding is there.
    QueueBindOk = (50, 21, "queue.bind-ok", Server) { ; }
    /// Removes the messages that nobody was given.
    QueuePurge = (50, 30, "queue.purge", Client) { @short queue: shortstr, nowait: bit; }
    /// So many were removed.
    QueuePurgeOk = (50, 31, "queue.purge-ok", Server) { message_count: long; }
    /// Deletes a queue.
    QueueDelete = (50, 40, "queue.delete", Client) { @short queue: shortstr, if_unused: bit, if_empty: bit, nowait: bit; }
    /// The queue is gone, and so many messages with it.
    QueueDeleteOk = (50, 41, "queue.delete-ok", Server) { message_count: long; }
    /// Removes the binding of a queue.
    QueueUnbind = (50, 50, "queue.unbind", Client) {
        @short queue: shortstr, exchange: shortstr, routing_key: shortstr, arguments: table;
    }
    /// The binding is gone.
    QueueUnbindOk = (50, 51, "queue.unbind-ok", Server) { ; }

    /// Limits what is outstanding.
    BasicQos = (60, 10, "basic.qos", Client) { prefetch_size: long, prefetch_count: short, global: bit; }
    /// The limit holds.
    BasicQosOk = (60, 11, "basic.qos-ok", Server) { ; }
    /// Starts a consumer.
    BasicConsume = (60, 20, "basic.consume", Client) {
        @short queue: shortstr, consumer_tag: shortstr, no_local: bit, no_ack: bit, exclusive: bit, nowait: bit,
        arguments: table;
    }
    /// The consumer is there.
    BasicConsumeOk = (60, 21, "basic.consume-ok", Server) { consumer_tag: shortstr; }
    /// Ends a consumer; from the server: the consumer ended.
    BasicCancel = (60, 30, "basic.cancel", Both) { consumer_tag: shortstr, nowait: bit; }
    /// Confirms a cancel.
    BasicCancelOk = (60, 31, "basic.cancel-ok", Both) { consumer_tag: shortstr; }
    /// Publishes a message.
    BasicPublish = (60, 40, "basic.publish", Client, content) {
        @short exchange: shortstr, routing_key: shortstr, mandatory: bit, immediate: bit;
    }
    /// A message that could not be routed.
    BasicReturn = (60, 50, "basic.return", Server, content) {
        reply_code: short, reply_text: shortstr, exchange: shortstr, routing_key: shortstr;
    }
    /// A message for a consumer.
    BasicDeliver = (60, 60, "basic.deliver", Server, content) {
        consumer_tag: shortstr, delivery_tag: longlong, redelivered: bit, exchange: shortstr, routing_key: shortstr;
    }
    /// Asks for one message.
    BasicGet = (60, 70, "basic.get", Client) { @short queue: shortstr, no_ack: bit; }
    /// One message.
    BasicGetOk = (60, 71, "basic.get-ok", Server, content) {
        delivery_tag: longlong, redelivered: bit, exchange: shortstr, routing_key: shortstr, message_count: long;
    }
    /// There is none.
    BasicGetEmpty = (60, 72, "basic.get-empty", Server) { ; @shortstr }
    /// Acknowledges deliveries; from the server: confirms publishes.
    BasicAck = (60, 80, "basic.ack", Both) { delivery_tag: longlong, multiple: bit; }
    /// Refuses a delivery.
    BasicReject = (60, 90, "basic.reject", Client) { delivery_tag: longlong, requeue: bit; }
    /// Asks for redelivery, without an answer.
    BasicRecoverAsync = (60, 100, "basic.recover-async", Client) { requeue: bit; }
    /// Asks for redelivery.
    BasicRecover = (60, 110, "basic.recover", Client) { requeue: bit; }
    /// What was outstanding is delivered again.
    BasicRecoverOk = (60, 111, "basic.recover-ok", Server) { ; }
    /// Refuses deliveries; from the server: publishes it did not take.
    BasicNack = (60, 120, "basic.nack", Both) { delivery_tag: longlong, multiple: bit, requeue: bit; }

    /// Asks for confirms.
    ConfirmSelect = (85, 10, "confirm.select", Client) { nowait: bit; }
    /// There will be confirms.
    ConfirmSelectOk = (85, 11, "confirm.select-ok", Server) { ; }

    /// Makes the channel transactional.
    TxSelect = (90, 10, "tx.select", Client) { ; }
    /// It is.
    TxSelectOk = (90, 11, "tx.select-ok", Server) { ; }
    /// Commits.
    TxCommit = (90, 20, "tx.commit", Client) { ; }
    /// Committed.
    TxCommitOk = (90, 21, "tx.commit-ok", Server) { ; }
    /// Rolls back.
    TxRollback = (90, 30, "tx.rollback", Client) { ; }
    /// Rolled back.
    TxRollbackOk = (90, 31, "tx.rollback-ok", Server) { ; }
}

/// Whether the short strings of a method have to be UTF-8: those of requests, since they name things.
const fn is_text(sender: Sender, ids: (u16, u16)) -> bool {
    !matches!(sender, Sender::Server) && !matches!(ids, (60, 40))
}

/// Reads arguments; knows which bit of the last byte comes next.
struct ArgumentReader<'a> {
    reader: Reader<'a>,
    /// Short strings have to be UTF-8.
    is_text: bool,
    /// The bits that are left of the byte that was read, and a 1 above them.
    bits: u16,
}

impl<'a> ArgumentReader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes), is_text: false, bits: 1 }
    }

    fn plain(&mut self) -> &mut Reader<'a> {
        self.bits = 1;
        &mut self.reader
    }

    fn octet(&mut self) -> Result<u8, Malformed> {
        self.plain().octet()
    }

    fn short(&mut self) -> Result<u16, Malformed> {
        self.plain().short()
    }

    fn long(&mut self) -> Result<u32, Malformed> {
        self.plain().long()
    }

    fn longlong(&mut self) -> Result<u64, Malformed> {
        self.plain().longlong()
    }

    fn shortstr(&mut self) -> Result<&'a [u8], DecodeError> {
        let bytes = self.plain().shortstr()?;
        if self.is_text && core::str::from_utf8(bytes).is_err() {
            return Err(DecodeError::NotUtf8);
        }
        Ok(bytes)
    }

    fn longstr(&mut self) -> Result<&'a [u8], Malformed> {
        self.plain().longstr()
    }

    fn table(&mut self) -> Result<Table, Malformed> {
        self.plain().table()
    }

    fn bit(&mut self) -> Result<bool, Malformed> {
        if self.bits == 1 {
            self.bits = 0x100 | u16::from(self.reader.octet()?);
        }
        let bit = self.bits & 1 != 0;
        self.bits >>= 1;
        Ok(bit)
    }
}

/// Writes arguments; gathers bits until another argument follows.
struct ArgumentWriter<'o> {
    out: &'o mut Vec<u8>,
    bits: u8,
    bits_count: u8,
}

impl<'o> ArgumentWriter<'o> {
    fn new(out: &'o mut Vec<u8>, class: u16, method: u16) -> Self {
        out.extend_from_slice(&class.to_be_bytes());
        out.extend_from_slice(&method.to_be_bytes());
        Self { out, bits: 0, bits_count: 0 }
    }

    fn plain(&mut self) -> &mut Vec<u8> {
        if self.bits_count > 0 {
            self.out.push(self.bits);
            (self.bits, self.bits_count) = (0, 0);
        }
        self.out
    }

    fn octet(&mut self, octet: &u8) {
        self.plain().push(*octet);
    }

    fn short(&mut self, short: &u16) {
        self.plain().extend_from_slice(&short.to_be_bytes());
    }

    fn long(&mut self, long: &u32) {
        self.plain().extend_from_slice(&long.to_be_bytes());
    }

    fn longlong(&mut self, longlong: &u64) {
        self.plain().extend_from_slice(&longlong.to_be_bytes());
    }

    fn shortstr(&mut self, bytes: &&[u8]) {
        wire::put_shortstr(self.plain(), bytes);
    }

    fn longstr(&mut self, bytes: &&[u8]) {
        wire::put_longstr(self.plain(), bytes);
    }

    fn table(&mut self, table: &Table) {
        wire::put_table(self.plain(), table);
    }

    fn bit(&mut self, bit: &bool) {
        if self.bits_count == 8 {
            self.plain();
        }
        self.bits |= u8::from(*bit) << self.bits_count;
        self.bits_count += 1;
    }

    fn finish(&mut self) {
        self.plain();
    }
}

#[cfg(test)]
trait Sample {
    fn sample(field: &'static str) -> Self;
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use leveret_model::{Name, Value};

    macro_rules! sample {
        ($($kind:ty: $field:ident => $value:expr),*) => {
            $( impl Sample for $kind { fn sample($field: &'static str) -> Self { $value } } )*
        };
    }
    sample! {
        u8: field => u8::try_from(field.len()).unwrap(),
        u16: field => 0x100 + u16::try_from(field.len()).unwrap(),
        u32: field => 0x1_0000 + u32::try_from(field.len()).unwrap(),
        u64: field => 0x1_0000_0000 + u64::try_from(field.len()).unwrap(),
        bool: field => field.len().is_multiple_of(2),
        &'static [u8]: field => field.as_bytes(),
        Table: field => [(Name::from_static(field), Value::Boolean(true))].into_iter().collect()
    }

    #[test]
    fn every_method_comes_back_as_it_was_written() {
        let all = samples::all();
        assert_eq!(all.len(), METHODS.len());
        for (method, info) in all.iter().zip(METHODS) {
            let mut bytes = Vec::new();
            method.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            let ids = (reader.short().unwrap(), reader.short().unwrap());
            assert_eq!(ids, (info.class, info.id), "{}", info.name);
            assert_eq!(ids, method.ids());
            assert_eq!(method.info(), *info);
            assert_eq!(Method::decode(ids.0, ids.1, reader.rest()).as_ref(), Ok(method), "{}", info.name);
        }
    }

    #[test]
    fn arguments_cut_short_or_going_on_are_malformed() {
        for method in samples::all() {
            let mut bytes = Vec::new();
            method.encode(&mut bytes);
            let (class, id) = method.ids();
            for end in 4..bytes.len() {
                let decoded = Method::decode(class, id, &bytes[4..end]);
                assert_eq!(decoded, Err(DecodeError::Malformed), "{} cut at {end}", method.info().name);
            }
            bytes.push(0);
            assert_eq!(Method::decode(class, id, &bytes[4..]), Err(DecodeError::Malformed));
        }
    }

    #[test]
    fn numbers_are_unique_and_what_is_not_in_the_table_is_unknown() {
        let ids: BTreeSet<_> = METHODS.iter().map(|m| (m.class, m.id)).collect();
        assert_eq!(ids.len(), METHODS.len());
        for (class, id) in [(60, 99), (99, 10), (0, 0), (85, 12)] {
            assert_eq!(Method::decode(class, id, &[]), Err(DecodeError::Unknown));
        }
        let content: Vec<_> = METHODS.iter().filter(|m| m.has_content).map(|m| m.name).collect();
        assert_eq!(content, ["basic.publish", "basic.return", "basic.deliver", "basic.get-ok"]);
    }

    #[test]
    fn layout_is_the_documented_one() {
        let mut out = Vec::new();
        Method::ExchangeDeclare {
            exchange: b"ex",
            type_name: b"topic",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: true,
            nowait: true,
            arguments: Table::new(),
        }
        .encode(&mut out);
        assert_eq!(out, b"\0\x28\0\x0a\0\0\x02ex\x05topic\x1a\0\0\0\0");
        out.clear();
        Method::BasicDeliver {
            consumer_tag: b"c",
            delivery_tag: 7,
            redelivered: true,
            exchange: b"",
            routing_key: b"q",
        }
        .encode(&mut out);
        assert_eq!(out, b"\0\x3c\0\x3c\x01c\0\0\0\0\0\0\0\x07\x01\0\x01q");
    }
}
