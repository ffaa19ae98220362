//! The types of the functions that a component exports, version by version.

use super::{ContractError, Exported};
use crate::{
    bindings::{
        types_0_1,
        v0_1::exports::leveret::routing::exchange_type as v0_1,
        v0_2::{
            exports::leveret::routing::{exchange_type as v0_2, interceptor},
            leveret::routing::types,
        },
    },
    guest::GuestState,
};
use wasmtime::component::{
    ComponentNamedList, InstancePre, Lift, Lower,
    types::{ComponentInstance, ComponentItem},
};

/// Checks the functions of version 0.1.0.
pub(super) fn check_0_1(pre: &InstancePre<GuestState>, exported: &Exported) -> Result<(), ContractError> {
    let plain = Interface::of(pre, "leveret:routing/exchange-type@0.1.0")?;
    type Reads = Result<types_0_1::Reads, String>;
    plain.has::<(), (v0_1::Description,)>("describe")?;
    plain.has::<(u32, v0_1::Declaration<'_>), (Reads,)>("open")?;
    plain.has::<(u32,), ()>("close")?;
    plain.has::<(u32, &[types_0_1::Binding<'_>]), (Reads,)>("bind")?;
    plain.has::<(u32, &[u64]), (types_0_1::Reads,)>("unbind")?;
    plain.has::<(u32, types_0_1::Message<'_>), (types_0_1::Decision,)>("route")?;
    if exported.batch {
        let batch = Interface::of(pre, "leveret:routing/exchange-type-batch@0.1.0")?;
        batch.has::<(u32, &[u8]), (Vec<u64>,)>("route-batch")?;
    }
    Ok(())
}

/// Checks the functions of version 0.2.0.
pub(super) fn check_0_2(pre: &InstancePre<GuestState>, exported: &Exported) -> Result<(), ContractError> {
    if exported.exchange_type {
        check_exchange_type(pre, exported)?;
    }
    if exported.interceptor {
        let plain = Interface::of(pre, "leveret:routing/interceptor@0.2.0")?;
        plain.has::<(), (interceptor::Description,)>("describe")?;
        plain.has::<(u32, interceptor::Attachment<'_>), (Result<types::Reads, types::Refusal>,)>("open")?;
        plain.has::<(u32,), ()>("close")?;
        plain.has::<(u32, types::Message<'_>), (interceptor::Verdict,)>("intercept")?;
    }
    if exported.interceptor_batch {
        let batch = Interface::of(pre, "leveret:routing/interceptor-batch@0.2.0")?;
        batch.has::<(u32, &[u8]), (Vec<u8>,)>("intercept-batch")?;
    }
    Ok(())
}

fn check_exchange_type(pre: &InstancePre<GuestState>, exported: &Exported) -> Result<(), ContractError> {
    type Opened = Result<v0_2::Opened, types::Refusal>;
    let plain = Interface::of(pre, "leveret:routing/exchange-type@0.2.0")?;
    plain.has::<(), (v0_2::Description,)>("describe")?;
    plain.has::<(u32, v0_2::Declaration<'_>), (Opened,)>("open")?;
    plain.has::<(u32,), ()>("close")?;
    plain.has::<(u32, &[types::Binding<'_>]), (Result<types::Reads, types::Refusal>,)>("bind")?;
    plain.has::<(u32, &[u64]), (types::Reads,)>("unbind")?;
    plain.has::<(u32, types::Message<'_>), (v0_2::Decision,)>("route")?;
    if exported.batch {
        let batch = Interface::of(pre, "leveret:routing/exchange-type-batch@0.2.0")?;
        batch.has::<(u32, &[u8]), (Vec<u64>,)>("route-batch")?;
    }
    if exported.marks {
        let marks = Interface::of(pre, "leveret:routing/exchange-type-marks@0.2.0")?;
        marks.has::<(u32, &[types::Binding<'_>]), (Vec<Vec<u8>>,)>("marks")?;
    }
    if exported.events {
        let events = Interface::of(pre, "leveret:routing/exchange-type-events@0.2.0")?;
        events.has::<(u32, types::Binding<'_>), (Vec<u64>,)>("bound")?;
        events.has::<(u32, types::Binding<'_>), ()>("unbound")?;
    }
    if exported.timers {
        let timers = Interface::of(pre, "leveret:routing/exchange-type-timers@0.2.0")?;
        timers.has::<(u32, &[u8]), ()>("timer")?;
    }
    if exported.info {
        let info = Interface::of(pre, "leveret:routing/exchange-type-info@0.2.0")?;
        info.has::<(u32,), (Vec<types::FieldResult>,)>("info")?;
    }
    if exported.reconfigure {
        let reconfigure = Interface::of(pre, "leveret:routing/exchange-type-reconfigure@0.2.0")?;
        reconfigure.has::<(u32, &[types::FieldParam<'_>]), (Opened,)>("reconfigure")?;
    }
    if exported.migrate {
        let migrate = Interface::of(pre, "leveret:routing/exchange-type-migrate@0.2.0")?;
        migrate.has::<(u32, &str), (Result<(), String>,)>("migrate")?;
    }
    Ok(())
}

/// An exported interface.
struct Interface<'a> {
    pre: &'a InstancePre<GuestState>,
    instance: ComponentInstance,
}

impl<'a> Interface<'a> {
    fn of(pre: &'a InstancePre<GuestState>, name: &'static str) -> Result<Self, ContractError> {
        let component = pre.component().component_type();
        match component.get_export(pre.engine(), name).map(|export| export.ty) {
            Some(ComponentItem::ComponentInstance(instance)) => Ok(Self { pre, instance }),
            _ => Err(ContractError::WrongFunction { name, what: String::from("it is no interface") }),
        }
    }

    fn has<Parameters, Results>(&self, name: &'static str) -> Result<(), ContractError>
    where
        Parameters: ComponentNamedList + Lower,
        Results: ComponentNamedList + Lift,
    {
        let wrong = |what| ContractError::WrongFunction { name, what };
        match self.instance.get_export(self.pre.engine(), name).map(|export| export.ty) {
            // Not in wasmtime's documentation, though the code that its macro generates calls it:
            // the same check without an instance, so before any of the guest's code runs.
            Some(ComponentItem::ComponentFunc(function)) => function
                .typecheck::<Parameters, Results>(&self.pre.instance_type())
                .map_err(|error| wrong(format!("{error:#}"))),
            Some(_) => Err(wrong(String::from("it is no function"))),
            None => Err(wrong(String::from("it is missing"))),
        }
    }
}
