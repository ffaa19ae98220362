use super::*;
use leveret_broker::port::Layer;

pub(super) fn holder(exchange: &str, layer: u8) -> Arc<StateHolder> {
    Arc::new(StateHolder { vhost: name("/"), exchange: name(exchange), layer: Layer(layer) })
}
