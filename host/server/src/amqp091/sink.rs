//! Where deliveries go.

use super::leaving;
use crate::{conversion, store::DiskStore};
use leveret_amqp091::{Session, delivery, form::FORM};
use leveret_broker::{Delivery, Sink};
use leveret_model::MessageView;

/// Encodes deliveries straight into the session's output.
pub(super) struct SessionSink<'a> {
    pub(super) session: &'a mut Session,
    pub(super) leaving: &'a mut Option<leaving::Leaving>,
    pub(super) store: &'a DiskStore,
    pub(super) output_bytes_max: usize,
}

impl Sink for SessionSink<'_> {
    fn has_room(&self) -> bool {
        self.session.output_bytes() < self.output_bytes_max && self.leaving.is_none()
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        if !conversion::is_of(delivery.message.form, FORM) {
            return self.deliver_converted(&delivery);
        }
        self.session.deliver(
            delivery.channel,
            delivery.consumer_tag,
            delivery.delivery_tag,
            delivery.redelivered,
            &delivery.message,
        );
    }
}

impl SessionSink<'_> {
    /// A message that came by another protocol.
    #[cold]
    fn deliver_converted(&mut self, delivery: &Delivery<'_>) {
        if let Some(stub) = delivery.message.far() {
            let head = leaving::Head::Deliver(delivery::Delivery {
                consumer_tag: delivery.consumer_tag,
                delivery_tag: delivery.delivery_tag,
                redelivered: delivery.redelivered,
            });
            let about = (&delivery.message, &stub);
            *self.leaving = leaving::begin(self.session, self.store, delivery.channel, &head, about);
            return;
        }
        let (properties, body) = conversion::to_amqp091(&delivery.message);
        let message = MessageView { form: FORM, properties: &properties, body: &body, ..delivery.message };
        self.session.deliver(
            delivery.channel,
            delivery.consumer_tag,
            delivery.delivery_tag,
            delivery.redelivered,
            &message,
        );
    }
}
