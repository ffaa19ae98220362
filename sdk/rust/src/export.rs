//! The macros that make a component of a crate.
//!
//! Each exported interface is one macro: its functions, and the section that says so. The linker joins the
//! sections, and leaves out of the component what the code does not import.

/// Makes a component of one or more exchange types.
///
/// ```text
/// leveret_sdk::export!(Prefix);
/// leveret_sdk::export!(Prefix, Suffix);
/// leveret_sdk::export!(LastValue: Events + Info, Prefix);
/// leveret_sdk::export!(version = "2.1.0", Prefix, Suffix);
/// ```
/// After a colon stand the optional traits that a type implements, of [`Marks`](crate::Marks), [`Events`](crate::Events),
/// [`Timers`](crate::Timers), [`Info`](crate::Info), [`Reconfigure`](crate::Reconfigure) and
/// [`Migrate`](crate::Migrate): the broker calls what is named here and nothing else.
///
/// The version is for people to read; it is the crate's unless given. Once in a crate, at its top
/// level; the crate needs `crate-type = ["cdylib"]`, and `"rlib"` as well if it has tests elsewhere.
/// The crate may have [`export_interceptors!`](crate::export_interceptors) beside it.
#[macro_export]
macro_rules! export {
    (
        version = $version:expr,
        $($exchange_type:ty $(: $first:ident $(+ $other:ident)*)?),+ $(,)?
    ) => {
        const _: () = {
            struct Plugin;
            impl $crate::component::Plugin for Plugin {
                const VERSION: &'static str = $version;
                const EXCHANGE_TYPES: &'static [$crate::component::Registration] = &[$(
                    $crate::component::Registration::of::<$exchange_type>()
                        $(.$first::<$exchange_type>() $(.$other::<$exchange_type>())*)?
                ),+];
            }
            $crate::__export_exchange_types!(Plugin [$($($first $($other)*)?)+]);
        };
    };
    ($($exchange_types:tt)+) => {
        $crate::export!(version = env!("CARGO_PKG_VERSION"), $($exchange_types)+);
    };
}

/// Makes a component of one or more interceptors; [`export!`](crate::export) says the rest.
///
/// ```text
/// leveret_sdk::export_interceptors!(Stamp);
/// leveret_sdk::export_interceptors!(version = "2.1.0", Stamp, Redact);
/// ```
#[macro_export]
macro_rules! export_interceptors {
    (version = $version:expr, $($interceptor:ty),+ $(,)?) => {
        const _: () = {
            struct Plugin;
            impl $crate::component::Interceptors for Plugin {
                const VERSION: &'static str = $version;
                const INTERCEPTORS: &'static [$crate::component::interceptor::Registration] =
                    &[$($crate::component::interceptor::Registration::of::<$interceptor>()),+];
            }
            $crate::__export_interceptors!(Plugin);
        };
    };
    ($($interceptors:tt)+) => {
        $crate::export_interceptors!(version = env!("CARGO_PKG_VERSION"), $($interceptors)+);
    };
}

/// All that a component of exchange types exports.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_exchange_types {
    ($plugin:ident [$($optional:ident)*]) => {
        $crate::__export_exchange_type!($plugin);
        $crate::__export_exchange_type_batch!($crate::component::route_batch);
        $crate::__export_marks!($plugin [$($optional)*]);
        $crate::__export_events!($plugin [$($optional)*]);
        $crate::__export_timers!($plugin [$($optional)*]);
        $crate::__export_info!($plugin [$($optional)*]);
        $crate::__export_reconfigure!($plugin [$($optional)*]);
        $crate::__export_migrate!($plugin [$($optional)*]);
    };
}

/// On other targets nothing calls a plugin from outside; this only keeps its registration in use.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_family = "wasm"))]
macro_rules! __export_exchange_types {
    ($plugin:ident [$($optional:ident)*]) => {
        const _: &[$crate::component::Registration] = <$plugin as $crate::component::Plugin>::EXCHANGE_TYPES;
    };
}

/// All that a component of interceptors exports.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_interceptors {
    ($plugin:ident) => {
        $crate::generated::exports::leveret::routing::interceptor::__export_leveret_routing_interceptor_0_2_0_cabi!(
            $plugin with_types_in $crate::generated::exports::leveret::routing::interceptor
        );
        $crate::__export_section!("component-type:leveret:interceptor", $crate::generated::INTERCEPTOR);
        $crate::__export_section!(
            "component-type:leveret:interceptor-batch",
            $crate::generated::INTERCEPTOR_BATCH
        );

        #[unsafe(export_name = "leveret:routing/interceptor-batch@0.2.0#intercept-batch")]
        unsafe extern "C" fn export_intercept_batch(
            attachment: u32,
            messages: *mut u8,
            length_bytes: usize,
        ) -> *const usize {
            unsafe { $crate::component::intercept_batch(attachment, messages, length_bytes) }
        }
    };
}

/// As that of exchange types.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_family = "wasm"))]
macro_rules! __export_interceptors {
    ($plugin:ident) => {
        const _: &[$crate::component::interceptor::Registration] =
            <$plugin as $crate::component::Interceptors>::INTERCEPTORS;
    };
}

/// The plain form.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_exchange_type {
    ($plugin:ident) => {
        $crate::generated::exports::leveret::routing::exchange_type::__export_leveret_routing_exchange_type_0_2_0_cabi!(
            $plugin with_types_in $crate::generated::exports::leveret::routing::exchange_type
        );
        $crate::__export_section!("component-type:leveret:exchange-type", $crate::generated::EXCHANGE_TYPE);
    };
}

/// The batch form, answered by this function.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_exchange_type_batch {
    ($route_batch:path) => {
        $crate::__export_section!(
            "component-type:leveret:exchange-type-batch",
            $crate::generated::EXCHANGE_TYPE_BATCH
        );

        #[unsafe(export_name = "leveret:routing/exchange-type-batch@0.2.0#route-batch")]
        unsafe extern "C" fn export_route_batch(
            exchange: u32,
            messages: *mut u8,
            length_bytes: usize,
        ) -> *const usize {
            unsafe { $route_batch(exchange, messages, length_bytes) }
        }
    };
}

/// Exports the interface of `Marks` where that is in the list, once.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_marks {
    ($plugin:ident []) => {};
    ($plugin:ident [Marks $($rest:ident)*]) => {
        $crate::generated::exports::leveret::routing::exchange_type_marks::__export_leveret_routing_exchange_type_marks_0_2_0_cabi!(
            $plugin with_types_in $crate::generated::exports::leveret::routing::exchange_type_marks
        );
        $crate::__export_section!(
            "component-type:leveret:exchange-type-marks",
            $crate::generated::EXCHANGE_TYPE_MARKS
        );
    };
    ($plugin:ident [$other:ident $($rest:ident)*]) => { $crate::__export_marks!($plugin [$($rest)*]); };
}

/// The same for `Events`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_events {
    ($plugin:ident []) => {};
    ($plugin:ident [Events $($rest:ident)*]) => {
        $crate::generated::exports::leveret::routing::exchange_type_events::__export_leveret_routing_exchange_type_events_0_2_0_cabi!(
            $plugin with_types_in $crate::generated::exports::leveret::routing::exchange_type_events
        );
        $crate::__export_section!(
            "component-type:leveret:exchange-type-events",
            $crate::generated::EXCHANGE_TYPE_EVENTS
        );
    };
    ($plugin:ident [$other:ident $($rest:ident)*]) => { $crate::__export_events!($plugin [$($rest)*]); };
}

/// The same for `Timers`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_timers {
    ($plugin:ident []) => {};
    ($plugin:ident [Timers $($rest:ident)*]) => {
        $crate::generated::exports::leveret::routing::exchange_type_timers::__export_leveret_routing_exchange_type_timers_0_2_0_cabi!(
            $plugin with_types_in $crate::generated::exports::leveret::routing::exchange_type_timers
        );
        $crate::__export_section!(
            "component-type:leveret:exchange-type-timers",
            $crate::generated::EXCHANGE_TYPE_TIMERS
        );
    };
    ($plugin:ident [$other:ident $($rest:ident)*]) => { $crate::__export_timers!($plugin [$($rest)*]); };
}

/// The same for `Info`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_info {
    ($plugin:ident []) => {};
    ($plugin:ident [Info $($rest:ident)*]) => {
        $crate::generated::exports::leveret::routing::exchange_type_info::__export_leveret_routing_exchange_type_info_0_2_0_cabi!(
            $plugin with_types_in $crate::generated::exports::leveret::routing::exchange_type_info
        );
        $crate::__export_section!(
            "component-type:leveret:exchange-type-info",
            $crate::generated::EXCHANGE_TYPE_INFO
        );
    };
    ($plugin:ident [$other:ident $($rest:ident)*]) => { $crate::__export_info!($plugin [$($rest)*]); };
}

/// The same for `Reconfigure`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_reconfigure {
    ($plugin:ident []) => {};
    ($plugin:ident [Reconfigure $($rest:ident)*]) => {
        $crate::generated::exports::leveret::routing::exchange_type_reconfigure::__export_leveret_routing_exchange_type_reconfigure_0_2_0_cabi!(
            $plugin with_types_in $crate::generated::exports::leveret::routing::exchange_type_reconfigure
        );
        $crate::__export_section!(
            "component-type:leveret:exchange-type-reconfigure",
            $crate::generated::EXCHANGE_TYPE_RECONFIGURE
        );
    };
    ($plugin:ident [$other:ident $($rest:ident)*]) => { $crate::__export_reconfigure!($plugin [$($rest)*]); };
}

/// The same for `Migrate`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_migrate {
    ($plugin:ident []) => {};
    ($plugin:ident [Migrate $($rest:ident)*]) => {
        $crate::generated::exports::leveret::routing::exchange_type_migrate::__export_leveret_routing_exchange_type_migrate_0_2_0_cabi!(
            $plugin with_types_in $crate::generated::exports::leveret::routing::exchange_type_migrate
        );
        $crate::__export_section!(
            "component-type:leveret:exchange-type-migrate",
            $crate::generated::EXCHANGE_TYPE_MIGRATE
        );
    };
    ($plugin:ident [$other:ident $($rest:ident)*]) => { $crate::__export_migrate!($plugin [$($rest)*]); };
}

/// Puts the encoded type of a world where the linker looks for it, under a name of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_section {
    ($name:literal, $world:path) => {
        const _: () = {
            #[unsafe(link_section = $name)]
            pub static WORLD: [u8; $world.len()] = {
                let mut bytes = [0; $world.len()];
                bytes.copy_from_slice($world);
                bytes
            };
        };
    };
}
