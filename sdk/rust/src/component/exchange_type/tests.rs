//! The exported functions, called as the broker would.

use super::*;
use crate::{BindingIndex, Decision, generated::exports::leveret::routing::exchange_type::Guest};

/// Direct, which refuses the key "refused".
struct Picky(BindingIndex);

impl ExchangeType for Picky {
    fn describe() -> Description {
        Description::new("x-picky", "Refuses a key").pure()
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        match declaration.arguments.optional::<&str>("x-mood")? {
            Some("bad") => Err("not in the mood".into()),
            _ => Ok(Self(BindingIndex::new())),
        }
    }

    fn reads(&self) -> Reads {
        if self.0.is_empty() { Reads::nothing() } else { Reads::nothing().routing_key() }
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        if binding.routing_key == b"refused" {
            return Err("refused".into());
        }
        self.0.insert(binding.routing_key, binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.0.remove(id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        to.extend_from_slice(self.0.get(message.routing_key()));
        Decision::Deliver
    }
}

struct Component;

impl Plugin for Component {
    const VERSION: &'static str = "1.2.3";
    const EXCHANGE_TYPES: &'static [Registration] = &[Registration::of::<Picky>()];
}

fn declaration(exchange_type: &str, arguments: Vec<wit::Field>) -> exported::Declaration {
    exported::Declaration {
        name: b"e".to_vec(),
        vhost: b"/".to_vec(),
        exchange_type: exchange_type.into(),
        arguments,
        in_front_of: None,
    }
}

fn binding(id: u64, key: &str) -> wit::Binding {
    wit::Binding {
        id,
        routing_key: key.into(),
        arguments: Vec::new(),
        destination: wit::Destination::Queue(b"q".to_vec()),
    }
}

fn message(key: &str) -> wit::Message {
    wit::Message {
        routing_key: key.into(),
        headers: vec![],
        properties: vec![],
        body: None,
        publisher: None,
        exchange: vec![],
        queue: vec![],
        reason: String::new(),
    }
}

fn text(refusal: wit::Refusal) -> String {
    match refusal {
        wit::Refusal::Other(text) | wit::Refusal::Unsupported(text) => text,
        other => panic!("{other:?}"),
    }
}

fn delivered_to(exchange: u32, key: &str) -> Vec<u64> {
    match Component::route(exchange, message(key)) {
        exported::Decision::Deliver(ids) => ids,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_plain_form_opens_binds_routes_and_closes() {
    let description = Component::describe();
    assert_eq!(description.version, "1.2.3");
    assert!(description.exchange_types[0].pure && !description.exchange_types[0].independent_bindings);

    assert!(
        Component::open(4, declaration("x-picky", vec![]))
            .is_ok_and(|opened| opened.bindings && !opened.reads.routing_key)
    );
    assert!(Component::bind(4, vec![binding(8, "a"), binding(9, "b")]).is_ok_and(|reads| reads.routing_key));
    assert_eq!(delivered_to(4, "b"), [9]);
    assert!(!Component::unbind(4, vec![8, 9, 10]).routing_key);
    Component::close(4);
    assert_eq!(
        Component::bind(4, vec![]).map(drop).map_err(text),
        Err("exchange 4 is not open in this instance".into())
    );
}

#[test]
fn refusals_reach_the_client_as_text() {
    let bad = wit::Field { name: b"x-mood".to_vec(), value: wit::Value::Text("bad".into()) };
    let refusal = Component::open(1, declaration("x-picky", vec![bad])).map(drop);
    assert_eq!(refusal.map_err(text), Err("not in the mood".into()));
    let refusal = Component::open(1, declaration("x-other", vec![])).map(drop);
    assert_eq!(refusal.map_err(text), Err("this plugin has no exchange type 'x-other'".into()));
}

#[test]
fn a_list_of_bindings_is_taken_whole_or_not_at_all() {
    assert!(Component::open(2, declaration("x-picky", vec![])).is_ok());
    assert!(Component::bind(2, vec![binding(1, "a")]).is_ok());
    let refusal =
        Component::bind(2, vec![binding(2, "a"), binding(3, "b"), binding(4, "refused"), binding(5, "c")]);
    assert_eq!(refusal.map(drop).map_err(text), Err("refused".into()));
    assert_eq!(delivered_to(2, "a"), [1]);
    assert_eq!(delivered_to(2, "b"), []);
}
