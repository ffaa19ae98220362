//! The types and calls of the contract, generated from `wit/`.

#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the documentation is in wit/")]

/// The plain form: `leveret:routing/exchange-type`.
pub(crate) mod plain {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        world: "leveret:routing/exchange-type-plugin",
        ownership: Borrowing { duplicate_if_necessary: false },
    });
}

/// The flat form: `leveret:routing/exchange-type-batch`.
pub(crate) mod batch {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        inline: "
            package leveret:host;
            world batch-only {
                export leveret:routing/exchange-type-batch@0.1.0;
            }
        ",
        world: "leveret:host/batch-only",
    });
}
