//! Arguments of an exchange that change while it is in use.
//!
//! *Redeclaring.* A client that declares an exchange again may name the arguments that it was declared with,
//! or those that it has now: an operator's change locks no client out that does as it always did.

use crate::{
    equivalence,
    exchange::{ALTERNATE_EXCHANGE, ArgumentsChange, Exchange, ExchangeSpec, Settings},
    keep::is_kept,
    names,
    port::Router,
    receipt::Receipt,
    vhost::Vhost,
};
use alloc::{format, string::String, sync::Arc};
use leveret_model::{Name, Refusal, Table};

/// How often a change is made anew because another one came between.
const TRIES_MAX: usize = 4;

impl Vhost {
    /// Changes arguments of an exchange that is in use. When this returns, publishes that begin afterwards
    /// are decided with the new ones, as with a new binding. Gives them.
    ///
    /// The exchange keeps its types: an argument that puts a type in front of others, or one that gives
    /// another inner type, cannot be changed.
    ///
    /// # Errors
    /// There is no such exchange, or it is the default one or a predeclared one; a type's refusal; the store's, if
    /// it is durable. All is as it was then.
    pub fn configure_exchange(
        &self,
        router: &mut dyn Router,
        name: &[u8],
        change: &ArgumentsChange,
    ) -> Result<Arc<Settings>, Refusal> {
        self.configure_exchange_kept(router, name, change).map(|(settings, _)| settings)
    }

    /// The same, with the receipt.
    ///
    /// # Errors
    /// The same.
    pub fn configure_exchange_kept(
        &self,
        router: &mut dyn Router,
        name: &[u8],
        change: &ArgumentsChange,
    ) -> Result<(Arc<Settings>, Receipt), Refusal> {
        if name.is_empty() || names::is_reserved(name) {
            return Err(self.protected(Name::new(name).unwrap_or_default()));
        }
        for _ in 0..TRIES_MAX {
            let exchange = self.exchange(name).ok_or_else(|| self.no_exchange(name))?;
            let before = exchange.settings();
            let next = before.after(change);
            if next.arguments == before.arguments {
                let receipt = self.written_before(&self.changes.lock(), is_kept(&exchange));
                return Ok((before, receipt));
            }
            self.check_alternate(&exchange.spec.name, &next.arguments)?;
            let next = Arc::new(next);
            router.reconfigure(&exchange, &next)?;
            let _order = self.order.lock();
            if exchange.is_deleted() {
                return Err(self.no_exchange(name));
            }
            if exchange.settings().number == before.number {
                router.reconfigure(&exchange, &next)?;
                let receipt = self.put_settings(&exchange, &next)?;
                return Ok((next, receipt));
            }
        }
        let text = String::from("its arguments are changed by others all the time; try again");
        Err(Refusal::InvalidArgument { text })
    }

    fn put_settings(&self, exchange: &Exchange, next: &Settings) -> Result<Receipt, Refusal> {
        let mut changes = self.changes.lock();
        let name = &exchange.spec.name;
        if exchange.is_deleted() {
            return Err(self.no_exchange(name));
        }
        self.admit(is_kept(exchange), format_args!("what changes of exchange '{name}'"))?;
        exchange.set_settings(next.clone());
        Ok(self.write(&mut changes, |writing| writing.exchange(exchange)))
    }

    pub(crate) fn check_redeclared(&self, spec: &ExchangeSpec, current: &Exchange) -> Result<(), Refusal> {
        let as_declared = equivalence::check_exchange(spec, &current.spec, self.name());
        let settings = current.settings();
        if settings.number == 0 || as_declared.is_ok() {
            return as_declared;
        }
        let arguments = settings.arguments.clone();
        equivalence::check_exchange(spec, &ExchangeSpec { arguments, ..current.spec.clone() }, self.name())
    }

    pub(crate) fn check_alternate(&self, exchange: &Name, arguments: &Table) -> Result<(), Refusal> {
        match arguments.get(ALTERNATE_EXCHANGE) {
            Some(value) if value.as_string().is_none() => {
                let (type_name, vhost) = (equivalence::type_of(value), self.name());
                let text = format!(
                    "invalid type '{type_name}' for arg 'alternate-exchange' in exchange '{exchange}' in vhost '{vhost}'"
                );
                Err(Refusal::InvalidArgument { text })
            }
            Some(_) | None => Ok(()),
        }
    }
}
