//! Direct reply-to (RabbitMQ's extension): requests that ask for replies to their own channel name the queue where
//! these are to be published.

use super::{Open, publish::Denied};
use leveret_amqp091::{Publish, form::FORM, properties::Properties};
use leveret_broker::REPLY_TO;
use leveret_model::{Change, Patch, Property, Refusal, Value};
use std::borrow::Cow;

/// Bit 9 of the flags: a message has the property `reply-to`.
pub(super) const REPLY_TO_FLAG: u8 = 1 << 1;

impl Open {
    /// Names the channel's queue for replies in those publishes that ask for replies to the channel. Gives the first
    /// that asks where there is nobody to get them.
    pub(super) fn address_replies(&self, channel: u16, batch: &mut [Publish<'_>]) -> Denied {
        let mut address = None;
        for (at, publish) in batch.iter_mut().enumerate() {
            if !asks_for_replies(&publish.properties) {
                continue;
            }
            if address.is_none() {
                let Some(queue) = self.client.reply_queue(channel) else {
                    let text = "fast reply consumer does not exist".into();
                    return Some((at, Refusal::InvalidArgument { text }));
                };
                let (property, value) = (Property::ReplyTo, Value::string(&queue));
                address = Some([Change::SetProperty { property, value }].into_iter().collect::<Patch>());
            }
            let Some(patch) = &address else { break };
            let mut properties = Vec::with_capacity(publish.properties.len() + 32);
            if let Err(error) = FORM.patch(&publish.properties, patch, &mut properties) {
                return Some((at, Refusal::InvalidArgument { text: error.to_string() }));
            }
            publish.properties = Cow::Owned(properties);
        }
        None
    }
}

#[inline]
fn asks_for_replies(properties: &[u8]) -> bool {
    properties.first().is_some_and(|flags| flags & REPLY_TO_FLAG != 0)
        && Properties::new(properties).string(Property::ReplyTo) == Some(REPLY_TO)
}
