//! The exchange type `x-modulus-hash`: each message to one of the bindings, by a hash of its routing key.
//!
//! It shares out messages so that those of one key stay together and in order. Of N bindings, in the order of their
//! destinations' names, the one at the hash modulo N gets the message. What hash and which order is as in
//! RabbitMQ 4.3, so that each key goes to the queue that it went to there. Binding keys and arguments mean nothing,
//! but a queue that is bound twice, by different keys, has two shares.
//!
//! *Not here:* the hash; that is [`hash`].
//!
//! *In and out:* reads the routing key; names one binding, or none where there is none.
//!
//! *Invariants:* pure. A binding that comes or goes moves other keys too. Which binding is chosen depends on the names
//! of all destinations alone, and not on when they were bound: so it is the same after a restart, and on each worker.
//!
//! A message with the headers CC and BCC goes by each of its keys, and each queue gets it once. RabbitMQ hashes the
//! list of all its keys, and takes one queue.

pub mod hash;

use leveret_sdk::{
    Binding, BindingId, Decision, Declaration, Description, Destination, ExchangeType, Message, Reads,
    Refusal, Targets,
};
use std::{cmp::Ordering, collections::BTreeMap, rc::Rc};

/// A binding, and where it leads.
#[derive(Debug)]
struct Share {
    destination: Destination,
    id: BindingId,
}

impl Share {
    /// Exchanges before queues, then by the bytes of the names.
    fn order(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }

    fn rank(&self) -> (bool, &[u8], BindingId) {
        match &self.destination {
            Destination::Exchange(name) => (false, name, self.id),
            Destination::Queue(name) => (true, name, self.id),
        }
    }
}

/// An exchange that shares out its messages.
#[derive(Debug, Default)]
pub struct ModulusHash {
    /// In their order. Behind pointers, so that little is moved where there are many.
    shares: Vec<Rc<Share>>,
    by_id: BTreeMap<BindingId, Rc<Share>>,
}

impl ExchangeType for ModulusHash {
    fn describe() -> Description {
        Description::new("x-modulus-hash", "To one binding, by a hash of the routing key").pure()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.unbind(binding.id);
        let share = Rc::new(Share { destination: binding.destination, id: binding.id });
        let place = self.shares.binary_search_by(|other| other.order(&share));
        self.shares.insert(place.unwrap_or_else(|place| place), share.clone());
        self.by_id.insert(binding.id, share);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        if let Some(share) = self.by_id.remove(&id)
            && let Ok(place) = self.shares.binary_search_by(|other| other.order(&share))
        {
            self.shares.remove(place);
        }
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        let place = (hash::of_key(message.routing_key()) as usize).checked_rem(self.shares.len());
        to.extend(place.and_then(|place| self.shares.get(place)).map(|share| share.id));
        Decision::Deliver
    }
}

leveret_sdk::export!(ModulusHash);

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_sdk::{
        Arguments,
        testkit::{Exchange, Routed},
    };

    fn open() -> Exchange<ModulusHash> {
        Exchange::open(Arguments::new()).unwrap()
    }

    fn bind(exchange: &mut Exchange<ModulusHash>, destination: Destination, key: &str) -> BindingId {
        exchange.bind_to(destination, key, Arguments::new()).unwrap()
    }

    fn queue(name: &str) -> Destination {
        Destination::Queue(name.into())
    }

    /// To which of `destinations` the keys `k0`, `k1` and so on go.
    fn taken(exchange: &mut Exchange<ModulusHash>, destinations: &[(BindingId, char)]) -> String {
        let mut taken = String::new();
        for number in 0..12 {
            let Routed::Deliver(ids) = exchange.route(format!("k{number}")) else {
                panic!("nothing is dropped or refused here");
            };
            assert_eq!(ids.len(), 1, "k{number}");
            taken.extend(destinations.iter().find(|(id, _)| *id == ids[0]).map(|(_, letter)| letter));
        }
        taken
    }

    /// What was expected was seen on RabbitMQ 4.3.6, with the same names and keys.
    #[test]
    fn each_key_goes_where_it_goes_on_rabbitmq() {
        let mut exchange = open();
        let one = bind(&mut exchange, queue("mq1"), "b");
        let two = bind(&mut exchange, queue("mq2"), "a");
        let mut all = vec![(one, '1'), (two, '2')];
        assert_eq!(taken(&mut exchange, &all), "112212122112");
        let again = bind(&mut exchange, queue("mq1"), "z");
        all.push((again, '1'));
        assert_eq!(taken(&mut exchange, &all), "211111222111");
        exchange.unbind(again);
        let ten = bind(&mut exchange, queue("mq10"), "b");
        let capital = bind(&mut exchange, queue("Mq"), "b");
        all.extend([(ten, 't'), (capital, 'M')]);
        assert_eq!(taken(&mut exchange, &all), "tt12M2M11Mt2");
        let onward = bind(&mut exchange, Destination::Exchange("mx2".into()), "q");
        all.push((onward, '2'));
        assert_eq!(taken(&mut exchange, &all), "t22MM222112M");
    }

    #[test]
    fn the_order_of_binding_does_not_matter() {
        let names = ["a", "b", "c", "d", "e"];
        let mut expected = None;
        for rotation in 0..names.len() {
            let mut exchange = open();
            let mut all = Vec::new();
            for name in names.iter().cycle().skip(rotation).take(names.len()) {
                all.push((bind(&mut exchange, queue(name), ""), name.chars().next().unwrap()));
            }
            let taken = taken(&mut exchange, &all);
            assert_eq!(*expected.get_or_insert(taken.clone()), taken);
            exchange.restart().unwrap();
            assert_eq!(self::taken(&mut exchange, &all), taken);
        }
    }

    #[test]
    fn without_bindings_a_message_goes_nowhere() {
        let mut exchange = open();
        assert_eq!(exchange.route("key"), Routed::Deliver(vec![]));
        let id = bind(&mut exchange, queue("q"), "");
        assert_eq!(exchange.route(""), Routed::Deliver(vec![id]));
        exchange.unbind(id);
        assert_eq!(exchange.route("key"), Routed::Deliver(vec![]));
    }
}
