//! How much an instance was told of bindings: what the memory of a built-in type is measured by.

use hashbrown::HashMap;

/// Bindings, and the bytes of their keys and arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) bindings: usize,
    pub(crate) bytes: usize,
}

/// What an instance was told, by exchange.
#[derive(Debug, Default)]
pub(crate) struct Tellings {
    exchanges: HashMap<u32, Told>,
    total: Told,
}

impl Tellings {
    /// All of it.
    pub(crate) fn total(&self) -> Told {
        self.total
    }

    /// It is told of bindings of an exchange.
    pub(crate) fn bind(&mut self, exchange: u32, more: Told) {
        self.exchanges.entry(exchange).or_default().add(more);
        self.total.add(more);
    }

    /// It was told that so many are gone. Which ones is not known here: each counts as the average of
    /// its exchange.
    pub(crate) fn unbind(&mut self, exchange: u32, bindings: usize) {
        let Some(told) = self.exchanges.get_mut(&exchange) else {
            return;
        };
        let bindings = bindings.min(told.bindings);
        let each = told.bytes.checked_div(told.bindings).unwrap_or_default();
        let less = Told { bindings, bytes: each * bindings };
        told.take(less);
        self.total.take(less);
    }

    /// It was told that the exchange is gone.
    pub(crate) fn close(&mut self, exchange: u32) {
        if let Some(told) = self.exchanges.remove(&exchange) {
            self.total.take(told);
        }
    }
}

impl Told {
    fn add(&mut self, more: Self) {
        self.bindings = self.bindings.saturating_add(more.bindings);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    fn take(&mut self, less: Self) {
        self.bindings = self.bindings.saturating_sub(less.bindings);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_goes() {
        let mut tellings = Tellings::default();
        tellings.bind(1, Told { bindings: 3, bytes: 30 });
        tellings.bind(2, Told { bindings: 1, bytes: 5 });
        tellings.unbind(1, 2);
        assert_eq!(tellings.total(), Told { bindings: 2, bytes: 15 });
        tellings.unbind(2, 7);
        tellings.unbind(9, 1);
        assert_eq!(tellings.total(), Told { bindings: 1, bytes: 10 });
        tellings.close(1);
        tellings.close(1);
        assert_eq!(tellings.total(), Told::default());
    }
}
