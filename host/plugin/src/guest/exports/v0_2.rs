//! Version 0.2.0 of the contract.

use super::{Attaching, Called, Context, Opening};
use crate::{
    bindings::v0_2::{
        exports::leveret::routing::{
            exchange_type as wit, exchange_type_batch as wit_batch, exchange_type_events as wit_events,
            exchange_type_info as wit_info, exchange_type_marks as wit_marks,
            exchange_type_migrate as wit_migrate, exchange_type_reconfigure as wit_reconfigure,
            exchange_type_timers as wit_timers, interceptor as wit_interceptor,
            interceptor_batch as wit_interceptor_batch,
        },
        leveret::routing::types,
    },
    contract::Exported,
    guest::{
        GuestState,
        answer::{self, PlainDecision},
        description::{
            ARGUMENTS_MAX, ArgumentDescription, ArgumentKind, AttachmentPoint, Description, InnerType,
            InterceptorDescription, Opened, PROVIDED_MAX, Stage, TypeDescription,
        },
        instance::Refused,
        lift::{self, ValuesLeft},
        lower::{self, PlainMessage},
        verdict::{self, Verdicts},
    },
};
use leveret_broker::exchange::{Binding, Destination};
use leveret_model::{Name, Reads, Table, Value};
use wasmtime::component::InstancePre;

/// The most fields that a plugin shows operators for an exchange.
const INFO_FIELDS_MAX: usize = 64;
/// The most arguments of an inner type.
const INNER_ARGUMENTS_MAX: usize = 1_024;
/// The most bytes of the names and values of an inner type's arguments: what fits in a frame of 0-9-1.
const INNER_ARGUMENTS_BYTES_MAX: usize = 128 * 1024;

macro_rules! exports {
    ($($export:ident: $module:ident),+ $(,)?) => {
        /// Where the exports are, of those that the component has.
        pub(crate) struct Indices {
            $($export: Option<$module::GuestIndices>),+
        }

        /// The exports that the instance has.
        pub(crate) struct Exports {
            $($export: Option<$module::Guest>),+
        }

        impl Indices {
            pub(super) fn new(pre: &InstancePre<GuestState>, exported: &Exported) -> wasmtime::Result<Self> {
                Ok(Self {
                    $($export: if exported.$export { Some($module::GuestIndices::new(pre)?) } else { None }),+
                })
            }

            pub(super) fn load(
                &self,
                store: Context<'_>,
                instance: &wasmtime::component::Instance,
            ) -> wasmtime::Result<Exports> {
                Ok(Exports {
                    $($export: match &self.$export {
                        Some(indices) => Some(indices.load(&mut *store, instance)?),
                        None => None,
                    }),+
                })
            }
        }
    };
}

exports! {
    exchange_type: wit,
    batch: wit_batch,
    marks: wit_marks,
    events: wit_events,
    timers: wit_timers,
    info: wit_info,
    reconfigure: wit_reconfigure,
    migrate: wit_migrate,
    interceptor: wit_interceptor,
    interceptor_batch: wit_interceptor_batch,
}

impl Exports {
    pub(super) fn has_batch(&self) -> bool {
        self.batch.is_some()
    }

    pub(super) fn has_marks(&self) -> bool {
        self.marks.is_some()
    }

    pub(super) fn has_intercept_batch(&self) -> bool {
        self.interceptor_batch.is_some()
    }

    fn plain(&self) -> wasmtime::Result<&wit::Guest> {
        self.exchange_type.as_ref().ok_or_else(|| wasmtime::Error::msg("it is no exchange type"))
    }

    fn interceptor(&self) -> wasmtime::Result<&wit_interceptor::Guest> {
        self.interceptor.as_ref().ok_or_else(|| wasmtime::Error::msg("it is no interceptor"))
    }

    pub(super) fn describe(&self, store: Context<'_>) -> Called<Description, String> {
        let description = self.plain()?.call_describe(store)?;
        if description.exchange_types.len() > PROVIDED_MAX {
            return Ok(Err(format!("it describes more than {PROVIDED_MAX} exchange types")));
        }
        let types: Result<Vec<_>, String> =
            description.exchange_types.into_iter().map(type_description).collect();
        let version = answer::shown(&description.version);
        Ok(types.map(|types| Description { version, types, interceptors: Vec::new() }))
    }

    pub(super) fn open(&self, store: Context<'_>, id: u32, opening: Opening<'_>) -> Called<Opened, Refused> {
        let type_name = opening.type_name.to_text();
        let in_front_of = opening.in_front_of.map(Name::to_text);
        let encoded = lower::encoded(opening.arguments.iter());
        let arguments = lower::fields(opening.arguments.iter(), &mut encoded.iter());
        let declaration = wit::Declaration {
            name: opening.name,
            vhost: opening.vhost,
            exchange_type: &type_name,
            arguments: &arguments,
            in_front_of: in_front_of.as_deref(),
        };
        Ok(answered_opened(self.plain()?.call_open(store, id, declaration)?))
    }

    pub(super) fn close(&self, store: Context<'_>, id: u32) -> wasmtime::Result<()> {
        self.plain()?.call_close(store, id)
    }

    pub(super) fn bind(&self, store: Context<'_>, id: u32, bindings: &[&Binding]) -> Called<Reads, Refused> {
        let plain = self.plain()?;
        Ok(match with_lowered(bindings, |lowered| plain.call_bind(store, id, lowered))? {
            Ok(reads) => answer::reads(reads).map_err(Refused::nonsense),
            Err(refusal) => Err(answer::refusal(refusal)),
        })
    }

    pub(super) fn unbind(&self, store: Context<'_>, id: u32, ids: &[u64]) -> Called<Reads, String> {
        Ok(answer::reads(self.plain()?.call_unbind(store, id, ids)?))
    }

    pub(super) fn route(
        &self,
        store: Context<'_>,
        id: u32,
        message: &PlainMessage<'_>,
    ) -> wasmtime::Result<PlainDecision> {
        Ok(match self.plain()?.call_route(store, id, plain(message))? {
            wit::Decision::Deliver(ids) => PlainDecision::Deliver(ids),
            wit::Decision::Drop(reason) => PlainDecision::Drop(reason),
            wit::Decision::Reject(reason) => PlainDecision::Reject(reason),
            wit::Decision::Delegate => PlainDecision::Delegate,
            wit::Decision::Hold(milliseconds) => PlainDecision::Hold(milliseconds),
        })
    }

    pub(super) fn route_batch(
        &self,
        store: Context<'_>,
        id: u32,
        messages: &[u8],
    ) -> wasmtime::Result<Vec<u64>> {
        match &self.batch {
            Some(batch) => batch.call_route_batch(store, id, messages),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn marks(
        &self,
        store: Context<'_>,
        id: u32,
        bindings: &[&Binding],
    ) -> wasmtime::Result<Vec<Vec<u8>>> {
        let Some(marks) = &self.marks else { return Ok(Vec::new()) };
        with_lowered(bindings, |lowered| marks.call_marks(store, id, lowered))
    }

    pub(super) fn bound(&self, store: Context<'_>, id: u32, binding: &Binding) -> wasmtime::Result<Vec<u64>> {
        let Some(events) = &self.events else { return Ok(Vec::new()) };
        let encoded = lower::encoded(binding.arguments.iter());
        let arguments = lower::fields(binding.arguments.iter(), &mut encoded.iter());
        events.call_bound(store, id, lowered(binding, &arguments))
    }

    pub(super) fn unbound(&self, store: Context<'_>, id: u32, binding: &Binding) -> wasmtime::Result<()> {
        let Some(events) = &self.events else { return Ok(()) };
        let encoded = lower::encoded(binding.arguments.iter());
        let arguments = lower::fields(binding.arguments.iter(), &mut encoded.iter());
        events.call_unbound(store, id, lowered(binding, &arguments))
    }

    pub(super) fn timer(&self, store: Context<'_>, id: u32, name: &[u8]) -> wasmtime::Result<()> {
        match &self.timers {
            Some(timers) => timers.call_timer(store, id, name),
            None => Ok(()),
        }
    }

    pub(super) fn info(&self, store: Context<'_>, id: u32) -> Called<Vec<(Name, Value)>, String> {
        let Some(info) = &self.info else { return Ok(Ok(Vec::new())) };
        let mut fields = info.call_info(store, id)?;
        fields.truncate(INFO_FIELDS_MAX);
        let mut left = ValuesLeft::default();
        Ok(fields.into_iter().map(|field| lift::field(field, &mut left)).collect())
    }

    pub(super) fn reconfigure(
        &self,
        store: Context<'_>,
        id: u32,
        arguments: &Table,
    ) -> Called<Option<Opened>, Refused> {
        let Some(reconfigure) = &self.reconfigure else { return Ok(Ok(None)) };
        let encoded = lower::encoded(arguments.iter());
        let fields = lower::fields(arguments.iter(), &mut encoded.iter());
        Ok(answered_opened(reconfigure.call_reconfigure(store, id, &fields)?).map(Some))
    }

    pub(super) fn migrate(&self, store: Context<'_>, id: u32, from: &str) -> Called<Option<()>, String> {
        let Some(migrate) = &self.migrate else { return Ok(Ok(None)) };
        let migrated = migrate.call_migrate(store, id, from)?;
        Ok(migrated.map(Some).map_err(|text| answer::shown(&text)))
    }

    pub(super) fn describe_interceptors(
        &self,
        store: Context<'_>,
    ) -> Called<Option<(String, Vec<InterceptorDescription>)>, String> {
        if self.interceptor.is_none() {
            return Ok(Ok(None));
        }
        let description = self.interceptor()?.call_describe(store)?;
        if description.interceptors.len() > PROVIDED_MAX {
            return Ok(Err(format!("it describes more than {PROVIDED_MAX} interceptors")));
        }
        let described: Result<Vec<_>, String> =
            description.interceptors.into_iter().map(interceptor_description).collect();
        let version = answer::shown(&description.version);
        Ok(described.map(|described| Some((version, described))))
    }

    pub(super) fn attach(
        &self,
        store: Context<'_>,
        id: u32,
        attaching: Attaching<'_>,
    ) -> Called<Reads, Refused> {
        let encoded = lower::encoded(attaching.arguments.iter());
        let arguments = lower::fields(attaching.arguments.iter(), &mut encoded.iter());
        let attachment = wit_interceptor::Attachment {
            interceptor: attaching.interceptor,
            point: match attaching.point {
                AttachmentPoint::Publish => wit_interceptor::Point::Publish,
                AttachmentPoint::Deliver => wit_interceptor::Point::Deliver,
                AttachmentPoint::DeadLetter => wit_interceptor::Point::DeadLetter,
            },
            vhost: attaching.vhost,
            arguments: &arguments,
        };
        Ok(match self.interceptor()?.call_open(store, id, attachment)? {
            Ok(reads) => answer::reads(reads).map_err(Refused::nonsense),
            Err(refusal) => Err(answer::refusal(refusal)),
        })
    }

    pub(super) fn intercept(
        &self,
        store: Context<'_>,
        id: u32,
        message: &PlainMessage<'_>,
    ) -> Called<Verdicts, String> {
        Ok(verdict::plain(self.interceptor()?.call_intercept(store, id, plain(message))?))
    }

    pub(super) fn intercept_batch(
        &self,
        store: Context<'_>,
        id: u32,
        messages: &[u8],
    ) -> wasmtime::Result<Vec<u8>> {
        match &self.interceptor_batch {
            Some(batch) => batch.call_intercept_batch(store, id, messages),
            None => Ok(Vec::new()),
        }
    }
}

fn plain<'a>(message: &'a PlainMessage<'a>) -> types::Message<'a> {
    types::Message {
        routing_key: message.routing_key,
        headers: &message.headers,
        properties: &message.properties,
        body: message.body,
        publisher: message.publisher.clone(),
        exchange: message.exchange,
        queue: message.queue,
        reason: message.reason,
    }
}

fn with_lowered<R>(bindings: &[&Binding], call: impl FnOnce(&[types::Binding<'_>]) -> R) -> R {
    let encoded = lower::encoded_in_bindings(bindings);
    let mut next = encoded.iter();
    let arguments: Vec<_> =
        bindings.iter().map(|binding| lower::fields(binding.arguments.iter(), &mut next)).collect();
    let lowered: Vec<_> =
        bindings.iter().zip(&arguments).map(|(binding, arguments)| lowered(binding, arguments)).collect();
    call(&lowered)
}

fn lowered<'a>(binding: &'a Binding, arguments: &'a [types::FieldParam<'a>]) -> types::Binding<'a> {
    types::Binding {
        id: binding.id.0,
        routing_key: &binding.routing_key,
        arguments,
        destination: match &binding.destination {
            Destination::Queue(queue) => types::Destination::Queue(queue.name()),
            Destination::Exchange(exchange) => types::Destination::Exchange(&exchange.spec.name),
        },
    }
}

fn answered_opened(answer: Result<wit::Opened, types::Refusal>) -> Result<Opened, Refused> {
    match answer {
        Ok(opened) => checked_opened(opened).map_err(Refused::nonsense),
        Err(refusal) => Err(answer::refusal(refusal)),
    }
}

fn checked_opened(opened: wit::Opened) -> Result<Opened, String> {
    let inner = match opened.inner {
        None => None,
        Some(inner) => Some(InnerType {
            type_name: Name::new(inner.exchange_type.as_bytes())
                .map_err(|error| format!("the inner type: {error}"))?,
            arguments: inner_arguments(inner.arguments)?,
        }),
    };
    Ok(Opened { reads: answer::reads(opened.reads)?, inner, bindings: opened.bindings })
}

/// The host keeps them for as long as the exchange is there.
fn inner_arguments(arguments: Vec<types::FieldResult>) -> Result<Table, String> {
    if arguments.len() > INNER_ARGUMENTS_MAX {
        let count = arguments.len();
        return Err(format!("the inner type has {count} arguments; the most is {INNER_ARGUMENTS_MAX}"));
    }
    let mut left = ValuesLeft::default();
    let arguments =
        arguments.into_iter().map(|field| lift::field(field, &mut left)).collect::<Result<Table, _>>()?;
    let bytes = lower::table_bytes(&arguments);
    if bytes > INNER_ARGUMENTS_BYTES_MAX {
        return Err(format!(
            "the arguments of the inner type have {bytes} bytes; the most is {INNER_ARGUMENTS_BYTES_MAX}"
        ));
    }
    Ok(arguments)
}

fn type_description(described: wit::ExchangeTypeDescription) -> Result<TypeDescription, String> {
    Ok(TypeDescription {
        summary: answer::shown(&described.summary),
        arguments: arguments(described.arguments)?,
        binding_arguments: arguments(described.binding_arguments)?,
        pure: described.pure,
        independent_bindings: described.independent_bindings,
        single_writer: described.single_writer,
        stage: described.stage.map(stage).transpose()?,
        name: described.name,
    })
}

fn stage(stage: wit::Stage) -> Result<Stage, String> {
    Ok(Stage { argument: argument_name(stage.argument)?, order: stage.order })
}

fn interceptor_description(
    described: wit_interceptor::InterceptorDescription,
) -> Result<InterceptorDescription, String> {
    let points = [
        (wit_interceptor::Point::Publish, AttachmentPoint::Publish),
        (wit_interceptor::Point::Deliver, AttachmentPoint::Deliver),
        (wit_interceptor::Point::DeadLetter, AttachmentPoint::DeadLetter),
    ];
    let points = points.into_iter().filter(|(point, _)| described.points.contains(point)).map(|(_, p)| p);
    Ok(InterceptorDescription {
        summary: answer::shown(&described.summary),
        points: points.collect(),
        arguments: arguments(described.arguments)?,
        pure: described.pure,
        name: described.name,
    })
}

fn arguments(described: Vec<types::ArgumentDescription>) -> Result<Vec<ArgumentDescription>, String> {
    if described.len() > ARGUMENTS_MAX {
        return Err(format!("it describes more than {ARGUMENTS_MAX} arguments of one type"));
    }
    let argument = |argument: types::ArgumentDescription| {
        Ok(ArgumentDescription {
            kind: match argument.kind {
                types::ArgumentKind::Any => ArgumentKind::Any,
                types::ArgumentKind::Boolean => ArgumentKind::Boolean,
                types::ArgumentKind::Integer => ArgumentKind::Integer,
                types::ArgumentKind::Number => ArgumentKind::Number,
                types::ArgumentKind::Text => ArgumentKind::Text,
                types::ArgumentKind::Bytes => ArgumentKind::Bytes,
                types::ArgumentKind::Timestamp => ArgumentKind::Timestamp,
                types::ArgumentKind::Array => ArgumentKind::Array,
                types::ArgumentKind::Table => ArgumentKind::Table,
            },
            required: argument.required,
            summary: answer::shown(&argument.summary),
            name: argument_name(argument.name)?,
        })
    };
    described.into_iter().map(argument).collect()
}

/// The name of an argument, if one can have it.
fn argument_name(name: String) -> Result<String, String> {
    if name.is_empty() || name.len() > Name::BYTES_MAX || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(64).collect();
        return Err(format!(
            "'{}' is no name for an argument: 1 to {} bytes without control characters",
            shown.escape_debug(),
            Name::BYTES_MAX
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(arguments: usize, name: &str) -> Vec<types::ArgumentDescription> {
        let one = || types::ArgumentDescription {
            name: String::from(name),
            kind: types::ArgumentKind::Any,
            required: false,
            summary: String::from("two\nlines"),
        };
        std::iter::repeat_with(one).take(arguments).collect()
    }

    #[test]
    fn descriptions_are_bounded_and_their_names_are_names() {
        let taken = arguments(described(ARGUMENTS_MAX, "x-size")).unwrap();
        assert_eq!((taken.len(), taken[0].summary.as_str()), (ARGUMENTS_MAX, "two lines"));
        assert!(arguments(described(ARGUMENTS_MAX + 1, "x-size")).unwrap_err().contains("more than 64"));
        for name in ["", "a\nb", &"n".repeat(256)] {
            assert!(
                arguments(described(1, name)).unwrap_err().contains("is no name for an argument"),
                "{name}"
            );
        }
        let interceptor = wit_interceptor::InterceptorDescription {
            name: String::from("i"),
            summary: String::new(),
            points: vec![wit_interceptor::Point::Deliver; 1_000_000],
            arguments: Vec::new(),
            pure: false,
        };
        assert_eq!(interceptor_description(interceptor).unwrap().points, [AttachmentPoint::Deliver]);
    }

    #[test]
    fn arguments_of_inner_types_are_bounded() {
        let field = |number: usize, bytes: usize| types::FieldResult {
            name: number.to_string().into_bytes(),
            value: types::ValueResult::Text("x".repeat(bytes)),
        };
        let fields = |count, bytes| (0..count).map(|number| field(number, bytes)).collect();
        assert_eq!(inner_arguments(fields(INNER_ARGUMENTS_MAX, 1)).unwrap().len(), INNER_ARGUMENTS_MAX);
        let error = inner_arguments(fields(INNER_ARGUMENTS_MAX + 1, 1)).unwrap_err();
        assert!(error.contains("1025 arguments; the most is 1024"), "{error}");
        let error = inner_arguments(fields(2, INNER_ARGUMENTS_BYTES_MAX / 2)).unwrap_err();
        assert!(error.contains("the most is 131072"), "{error}");
    }
}
