//! `random`: chance, or a fixed series where the operator set a seed.

use super::Context;
use crate::bindings::v0_2::leveret::routing::random::Host;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// The most bytes in one call.
const BYTES_MAX: u32 = 1_024;

/// The random numbers of an instance.
pub(super) struct Stream {
    seed: Option<u64>,
    /// Begun when it is first needed.
    generator: Option<StdRng>,
}

impl Stream {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { seed, generator: None }
    }

    fn generator(&mut self) -> &mut StdRng {
        let seed = self.seed;
        self.generator.get_or_insert_with(|| match seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => rand::make_rng(),
        })
    }
}

impl Host for Context {
    fn next(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random.generator().next_u64())
    }

    fn bytes(&mut self, count: u32) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = vec![0; count.min(BYTES_MAX) as usize];
        self.random.generator().fill_bytes(&mut bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_series_the_same() {
        let series = |seed| {
            let mut stream = Stream::new(seed);
            [stream.generator().next_u64(), stream.generator().next_u64()]
        };
        assert_eq!(series(Some(7)), series(Some(7)));
        assert_ne!(series(Some(7)), series(Some(8)));
        assert_ne!(series(None), series(None));
    }
}
